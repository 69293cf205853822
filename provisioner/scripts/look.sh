# Whose agent is there, as far as only root can see it: what its state says, and what runs. Changes nothing.
if [ -e "$state/identity.json" ]; then
    say identity yes
    say host "$(identity host)"
    say authority "$(identity authority_hash)"
fi
say networks "$(networks)"
say lock "$(cat "$state/lock" 2>/dev/null)"

# Agents of this machine, not of containers that have a network of their own.
own=$(readlink /proc/self/ns/net)
running=
for process in /proc/[0-9]*; do
    { read -r name < "$process/comm"; } 2>/dev/null || continue
    [ "$name" = cladnet-agent ] && [ "$(readlink "$process/ns/net")" = "$own" ] || continue
    case " $(tr '\0' ' ' < "$process/cmdline" 2>/dev/null) " in
    *' run '*) running="$running ${process#/proc/}" ;;
    esac
done
say running "$running"

port=$(printf '%04X' "$(setting listen_port 8055)")
if grep -qs "^ *[0-9]*: [0-9A-F]*:$port " /proc/net/udp /proc/net/udp6; then say port taken; fi
say end yes
