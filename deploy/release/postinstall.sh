#!/bin/sh
# After the package's files are there: the user that the units run as. Nothing is started, and nothing that runs is
# started again: docs/deploying.md says in which order.
set -e
if command -v systemd-sysusers >/dev/null; then
	systemd-sysusers drainmark.conf
elif ! getent passwd drainmark >/dev/null; then
	useradd --system --user-group --home-dir /var/lib/drainmark --shell /usr/sbin/nologin drainmark
fi
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
