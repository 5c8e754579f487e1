#!/bin/sh
# As RKE2's own (R2:bundle/bin/rke2-uninstall.sh): everything of RKE2 goes, its data included.
[ "$(id -u)" -eq 0 ] || exit 1
prefix=/usr/local
: "${RKE2_DATA_DIR:=/var/lib/rancher/rke2}"
set -x
"$prefix/bin/rke2-killall.sh"
systemctl disable rke2-server.service
systemctl disable rke2-agent.service
rm -f "$prefix"/lib/systemd/system/rke2-*.service "$prefix"/lib/systemd/system/rke2-*.env /etc/systemd/system/rke2-*.service
systemctl daemon-reload
rm -rf /etc/rancher/rke2 /etc/rancher/node /var/lib/kubelet "$RKE2_DATA_DIR"
rm -f "$prefix/bin/rke2" "$prefix/bin/rke2-killall.sh" "$prefix/bin/rke2-uninstall.sh"
