# Starts an agent of ours that does not answer, so that it can leave: $1 the service manager.
case $1 in
systemd) systemctl start cladnet-agent ;;
cladnet-init) cladnet-init start cladnet-agent ;;
esac
tries=0
until cladnet-agent status >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 10 ] || break
    sleep 0.5
done
say end yes
