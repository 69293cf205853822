# Takes the agent away: $1 the service manager, $2 the host that it may still be, if any. What is gone already is fine.
take_turn
if [ -e "$state/identity.json" ] && [ "$(identity host)" != "$2" ]; then
    fail busy "the agent has joined meanwhile"
fi
case $1 in
systemd)
    systemctl --quiet disable --now cladnet-agent 2>/dev/null
    rm -f /etc/systemd/system/cladnet-agent.service
    systemctl daemon-reload
    ;;
cladnet-init)
    if cladnet-init status cladnet-agent >/dev/null 2>&1; then
        cladnet-init remove cladnet-agent || fail service "the agent's service cannot be removed"
    fi
    ;;
esac
rm -rf /etc/cladnet-agent /run/cladnet-agent /var/lib/cladnet-agent /var/lib/private/cladnet-agent
rm -f /usr/local/bin/cladnet-agent /usr/local/bin/cladnet-agent.new
say left "$(command -v cladnet-agent)"
say end yes
