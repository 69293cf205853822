# Lets the agent leave every network, and give up its identity: $1 is the only network that it may be in. Looked at once more,
# because whoever had the turn before may have joined another.
take_turn
for network in $(networks); do
    [ "$network" = "$1" ] || fail busy "the agent has joined $network meanwhile"
done
answer=$(cladnet-agent --output json leave --all 2>&1)
say exit "$?"
say answer "$answer"
say end yes
