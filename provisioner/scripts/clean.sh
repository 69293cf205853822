# Takes the directory for uploads away: $1.
case $1 in
*/.cladnet-deploy) rm -rf -- "$1" ;;
esac
say end yes
