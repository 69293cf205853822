# Takes the agent away: $1 the service manager. What is gone already is fine.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL

say() { printf '%s=' "$1"; printf '%s' "$2" | tr '\n\r\t' '   '; printf '\n'; }
fail() { say error "$1"; say detail "$2"; exit 1; }

if command -v flock >/dev/null 2>&1; then
    exec 9> /run/cladnet-deploy.lock && flock -w 60 9 || fail busy "another deployment is at work here"
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
