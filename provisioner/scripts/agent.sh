# Asks the agent: its arguments are $@. Prints its exit code and its answer.
answer=$(cladnet-agent --output json "$@" 2>&1)
say exit "$?"
say answer "$answer"
say end yes
