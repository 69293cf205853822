# Joins a network: $1 the URLs of the service, $2 the file with the token, which is gone afterwards, $3 seconds to wait
# for the interface.
services=$1 token=$2 wait=$3
trap 'rm -f "$token"' EXIT
trap 'exit 1' HUP INT TERM
take_turn
answer=$(cladnet-agent --output json join "$services" --token-file "$token" --wait "$wait" 2>&1)
say exit "$?"
say answer "$answer"
say end yes
