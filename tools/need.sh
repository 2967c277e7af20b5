#!/bin/sh
# need.sh COMMAND PACKAGE: see that a command is there; install its Debian package if root, else say so.
set -eu
command -v "$1" >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing Debian's package $2 (for the command $1) ..."
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" >/dev/null
else
    echo "The command $1 is missing. Install it, for example with: sudo apt install $2" >&2
    exit 1
fi
