#!/bin/sh
# As RKE2's own (R2:bundle/bin/rke2-killall.sh): the units are stopped, every shim below the data directory is killed with
# all that descends from it, the manifests of the control plane are removed. Its exit status has no meaning.
if [ "$(id -u)" -ne 0 ]; then
	echo "$(basename "$0"): must be run as root" >&2
	exit 1
fi

descendants() {
	for pid in "$@"; do
		echo "$pid"
		# shellcheck disable=SC2046
		descendants $(ps -e -o ppid= -o pid= | awk -v parent="$pid" '$1 == parent { print $2 }')
	done
}

shims() {
	COLUMNS=2147483647 ps -e -o pid= -o args= | awk -v data="$RKE2_DATA_DIR/data/" '
		(at = index($0, data)) && substr($0, at + length(data)) ~ /^[^\/]*\/bin\/containerd-shim/ { print $1 }'
}

unmount_below() {
	mounts=$(awk -v below="$1" 'index($2, below) == 1 { print $2 }' /proc/self/mounts | sort -r)
	for mount in $mounts; do
		umount -- "$mount" && rm -rf --one-file-system -- "$mount"
	done
}

RKE2_DATA_DIR=${RKE2_DATA_DIR:-/var/lib/rancher/rke2}
export PATH="$PATH:$RKE2_DATA_DIR/bin"

set -x
systemctl stop rke2-server.service || true
systemctl stop rke2-agent.service || true

# shellcheck disable=SC2046
kill -9 $({ set +x; } 2>/dev/null; descendants $(shims)) 2>/dev/null

unmount_below /run/k3s
unmount_below /var/lib/kubelet/pods
unmount_below /run/netns/cni-

ip link delete cni0
ip link delete flannel.1
ip link delete vxlan.calico
ip link delete cilium_vxlan

for component in etcd kube-apiserver kube-controller-manager cloud-controller-manager kube-scheduler kube-proxy; do
	rm -f "$RKE2_DATA_DIR/agent/pod-manifests/$component.yaml"
done

iptables-save | grep -v KUBE- | grep -v CNI- | iptables-restore
set +x

echo 'If this cluster was upgraded from an older release of the Canal CNI, you may need to manually remove some flannel iptables rules:'
