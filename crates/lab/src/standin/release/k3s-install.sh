#!/bin/sh
# Installs a release of the lab, to the letter of K3s' own installer (K3S install.sh) as far as the lab can: the binary is
# there already, the unit and its environment are written anew with what this call says and nothing of the time before,
# and the unit is enabled and started unless that is to be left out.
set -e

info() { echo "[INFO] " "$@"; }

fatal() {
	echo "[ERROR] " "$@" >&2
	exit 1
}

# The first word says what the node is; with flags alone it is an agent where there is a server to join.
role() {
	case ${1:-} in
	'' | -*) if [ -n "${K3S_URL:-}" ]; then echo agent; else echo server; fi ;;
	*) echo "$1" ;;
	esac
}

write_killall() {
	info "Creating killall script $bin/k3s-killall.sh"
	cat >"$bin/k3s-killall.sh" <<'END-OF-KILLALL'
@KILLALL@
END-OF-KILLALL
	chmod 755 "$bin/k3s-killall.sh"
}

write_environment() {
	info "env: Creating environment file $systemd/$name.service.env"
	(umask 077 && env | grep -E '^(K3S|CONTAINERD)_' >"$systemd/$name.service.env" || :)
}

write_unit() {
	info "systemd: Creating service file $systemd/$name.service"
	cat >"$systemd/$name.service" <<-END
		[Unit]
		Description=Lightweight Kubernetes
		Documentation=https://k3s.io
		Wants=network-online.target
		After=network-online.target

		[Install]
		WantedBy=multi-user.target

		[Service]
		Type=${INSTALL_K3S_TYPE:-notify}
		EnvironmentFile=-/etc/default/%N
		EnvironmentFile=-/etc/sysconfig/%N
		EnvironmentFile=-$systemd/$name.service.env
		KillMode=process
		Delegate=yes
		User=root
		LimitNOFILE=1048576
		LimitNPROC=infinity
		LimitCORE=infinity
		TasksMax=infinity
		TimeoutStartSec=0
		Restart=always
		RestartSec=5s
		ExecStartPre=-/sbin/modprobe br_netfilter
		ExecStartPre=-/sbin/modprobe overlay
		ExecStart=$bin/k3s $*
	END
}

[ "$(id -u)" -eq 0 ] || fatal "You need to be root to perform this install"
bin=${INSTALL_K3S_BIN_DIR:-/usr/local/bin} systemd=${INSTALL_K3S_SYSTEMD_DIR:-/etc/systemd/system}
# shellcheck disable=SC2086
set -- ${INSTALL_K3S_EXEC:-} "$@"
kind=$(role "$@")
if [ "$kind" = "${1:-}" ]; then shift; fi
if [ "$kind" = server ]; then name=k3s; else name=k3s-$kind; fi
[ "${INSTALL_K3S_SKIP_DOWNLOAD:-}" = true ] || fatal "Download failed: the lab has no way out, set INSTALL_K3S_SKIP_DOWNLOAD"
[ -x "$bin/k3s" ] || fatal "Executable k3s binary not found at $bin/k3s"
info "Skipping k3s download and verify"
write_killall
systemctl disable "$name" >/dev/null 2>&1 || :
rm -f "$systemd/$name.service" "$systemd/$name.service.env"
write_environment
write_unit "$kind" "$@"
if [ "${INSTALL_K3S_SKIP_ENABLE:-}" = true ]; then exit 0; fi
info "systemd: Enabling $name unit"
systemctl enable "$systemd/$name.service" >/dev/null
systemctl daemon-reload >/dev/null
if [ "${INSTALL_K3S_SKIP_START:-}" = true ]; then exit 0; fi
info "systemd: Starting $name"
systemctl restart "$name"
