# What every script begins with: known programs, answers in lines of key=value, one attempt at a time, and where an agent keeps
# what it knows.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL

say() { printf '%s=' "$1"; printf '%s' "$2" | tr '\n\r\t' '   '; printf '\n'; }
fail() { say error "$1"; say detail "$2"; exit 1; }
sum() {
    set -- $(sha256sum "$1" 2>/dev/null)
    printf '%s' "$1"
}

# An attempt whose connection was lost may still be at it, or one that reaches this machine at another address.
take_turn() {
    command -v flock >/dev/null 2>&1 || return 0
    exec 9> /run/cladnet-deploy.lock && flock -w 60 9 || fail busy "another deployment is at work here"
}

# setting NAME DEFAULT: of the agent's configuration.
setting() {
    set -- "$(sed -n "s/^[[:space:]]*$1[[:space:]]*=[[:space:]]*\"\{0,1\}\([^\"#[:space:]]*\).*/\1/p" /etc/cladnet-agent/config.toml 2>/dev/null)" "$2"
    printf '%s' "${1:-$2}"
}
state=$(setting state_dir /var/lib/cladnet-agent)
# identity NAME: of whom the state says that it is; never more than that.
identity() { sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p" "$state/identity.json" 2>/dev/null; }
# The networks that it is in.
networks() {
    for file in "$state"/networks/*.json; do
        file=${file##*/}
        [ "$file" = '*.json' ] || printf '%s\n' "${file%.json}"
    done
}
