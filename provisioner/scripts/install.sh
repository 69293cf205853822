# Puts the agent in its place and lets it run: $1 the uploaded program, $2 its SHA-256, $3 the service manager, $4 the
# unit, $5 the configuration, $6 the authority whose agent may be there. Safe to run again: what is right already is left alone, and the agent is restarted only if
# something of it changed, however long ago and whoever was interrupted since.
umask 022

staged=$1 sha256=$2 init=$3 unit=$4 config=$5 authority=$6
program=/usr/local/bin/cladnet-agent
settings=/etc/cladnet-agent
pending=$settings/.restart

change() { mkdir -p "$settings" && : > "$pending" || fail disk-full "cannot write $pending"; }
# put PATH TEXT: the file has this text, never half of it.
put() {
    mkdir -p "${1%/*}" && printf '%s' "$2" > "$1.new" && chmod 0644 "$1.new" || fail disk-full "cannot write $1"
    if [ "$(sum "$1.new")" = "$(sum "$1")" ]; then
        rm -f "$1.new"
    else
        change
        mv -f "$1.new" "$1" || fail disk-full "cannot write $1"
    fi
}

take_turn
# Looked at once more: the upload may have taken minutes.
case $(identity authority_hash) in
'' | "$authority") ;;
*) fail foreign "the agent has joined another control plane meanwhile" ;;
esac

if [ "$(sum "$program")" != "$sha256" ]; then
    # A copy, not a move: it gets the owner and the label that programs have here.
    mkdir -p "${program%/*}" && cp "$staged" "$program.new" || fail disk-full "cannot write $program"
    chown 0:0 "$program.new" && chmod 0755 "$program.new" || fail disk-full "cannot write $program"
    [ "$(sum "$program.new")" = "$sha256" ] || { rm -f "$program.new"; fail corrupt "what arrived is not what was sent"; }
    said=$("$program.new" --version 2>&1) || { rm -f "$program.new"; fail does-not-run "$said"; }
    change
    mv -f "$program.new" "$program" || fail disk-full "cannot write $program"
fi
[ -e "$settings/config.toml" ] || put "$settings/config.toml" "$config"

restarted=no
case $init in
systemd)
    put /etc/systemd/system/cladnet-agent.service "$unit"
    systemctl daemon-reload || fail service "systemd does not reload its units"
    systemctl --quiet enable cladnet-agent || fail service "systemd does not enable cladnet-agent"
    if [ -e "$pending" ]; then
        restarted=yes
        systemctl restart cladnet-agent
    else
        systemctl start cladnet-agent
    fi
    ;;
cladnet-init)
    if [ -e "$pending" ] || ! cladnet-init status cladnet-agent >/dev/null 2>&1; then
        restarted=yes
        cladnet-init add cladnet-agent -- "$program" run
    else
        cladnet-init start cladnet-agent
    fi
    ;;
*) fail service "no service manager $init" ;;
esac

log() {
    case $init in
    systemd) journalctl --unit cladnet-agent --lines 5 --no-pager --output cat 2>/dev/null ;;
    *) tail -n 5 /var/log/cladnet-agent.log 2>/dev/null ;;
    esac
}
tries=0
until status=$("$program" status --output json 2>/dev/null); do
    tries=$((tries + 1))
    [ "$tries" -lt 40 ] || fail not-running "$(log)"
    sleep 0.5
done
rm -f "$pending"
say restarted "$restarted"
say agent_status "$status"
say end yes
