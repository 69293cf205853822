# Asks the agent: its arguments are $@. Prints its exit code and its answer.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL

say() { printf '%s=' "$1"; printf '%s' "$2" | tr '\n\r\t' '   '; printf '\n'; }

answer=$(cladnet-agent --output json "$@" 2>&1)
say exit "$?"
say answer "$answer"
say end yes
