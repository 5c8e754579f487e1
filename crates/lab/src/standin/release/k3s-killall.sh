#!/bin/sh
# As K3s' own (K3S install.sh create_killall): every unit of K3s is stopped, every shim below the data directory is killed
# with all that descends from it. Its exit status has no meaning.
[ "$(id -u)" -eq 0 ] || exec sudo --preserve-env=K3S_DATA_DIR "$0" "$@"

descendants() {
	for pid in "$@"; do
		echo "$pid"
		# shellcheck disable=SC2046
		descendants $(ps -e -o ppid= -o pid= | awk -v parent="$pid" '$1 == parent { print $2 }')
	done
}

shims() {
	COLUMNS=2147483647 ps -e -o pid= -o args= | awk -v data="$K3S_DATA_DIR/data/" '
		(at = index($0, data)) && substr($0, at + length(data)) ~ /^[^\/]*\/bin\/containerd-shim/ { print $1 }'
}

unmount_below() {
	mounts=$(awk -v below="$1" 'index($2, below) == 1 { print $2 }' /proc/self/mounts | sort -r)
	for mount in $mounts; do
		umount -f "$mount" && rm -rf --one-file-system -- "$mount"
	done
}

K3S_DATA_DIR=${K3S_DATA_DIR:-/var/lib/rancher/k3s}

set -x
for unit in /etc/systemd/system/k3s*.service; do
	[ -s "$unit" ] && systemctl stop "$(basename "$unit")"
done

# shellcheck disable=SC2046
kill -9 $({ set +x; } 2>/dev/null; descendants $(shims)) 2>/dev/null

unmount_below /run/k3s
unmount_below /var/lib/kubelet/pods
unmount_below /var/lib/kubelet/plugins
unmount_below /run/netns/cni-

ip link delete cni0
ip link delete flannel.1

rm -rf /var/lib/cni/
iptables-save | grep -v KUBE- | grep -v CNI- | grep -iv flannel | iptables-restore
