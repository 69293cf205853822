# Starts an agent that is installed and does not answer, so that it can tell whose it is: $1 the service manager.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL

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
echo end=yes
