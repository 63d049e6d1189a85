#!/bin/sh
# Before the package is removed: dpkg says "remove" then, and rpm that 0 versions are left. An upgrade stops nothing.
set -e
case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now --quiet drainmark-frontend drainmark-backend drainmark-consumer drainmark-up
	fi
	;;
esac
