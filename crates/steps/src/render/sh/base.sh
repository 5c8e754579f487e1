set -eu
umask 077
LC_ALL=C TZ=UTC
export LC_ALL TZ

die() {
	printf '%s\n' "$*" >&2
	exit 1
}

# The world is not one that this change may start from, and trying again does not make it one.
refuse() {
	printf '%s\n' "$*" >&2
	exit 65
}

# Free text inside JSON: printable ASCII without `"` and `\`.
clean() { tr -cd ' !#-[]-~'; }

encode() { base64 -w0 2>/dev/null || base64 | tr -d '\n'; }

digest() { sha256sum | cut -c1-64; }

boot_id() { cat /proc/sys/kernel/random/boot_id; }

# To the disk: `sync FILE` is fsync in coreutils; where it is not known, everything is written.
flush() { sync "$@" 2>/dev/null || sync; }

# A directory that is there after a power cut: its name in the one above is flushed, too.
directory() {
	[ -d "${1%/*}" ] || directory "${1%/*}"
	mkdir -p "$1"
	flush "${1%/*}"
}

# Standard input becomes the file, whole or not at all, and survives a power cut. The last suffix is nobody's pattern.
durable() {
	cat >"$1.tmp" || die "cannot write $1.tmp"
	flush "$1.tmp"
	mv -f "$1.tmp" "$1"
	flush "${1%/*}"
}

# Process ids of the containerd-shims below the data directory, one per line. Their binary may have been replaced
# since, so both the running file and the command line count.
shims() {
	{
		ls -l /proc/[0-9]*/exe 2>/dev/null | awk -v below="$data/data/" '
			(at = index($0, " -> " below)) && substr($0, at) ~ /\/bin\/containerd-shim/ {
				split(substr($0, index($0, "/proc/")), word, "/"); print word[3] }'
		grep -slaF -- "$data/data/" /proc/[0-9]*/cmdline 2>/dev/null | while IFS= read -r cmdline; do
			case $({ tr '\0' '\n' <"$cmdline" | head -n 1; } 2>/dev/null) in
			"$data"/data/*/bin/containerd-shim*) cmdline=${cmdline#/proc/} && printf '%s\n' "${cmdline%%/*}" ;;
			esac
		done
	} | sort -nu
}

unit_state() { systemctl is-active "$1.service" 2>/dev/null || :; }

# Whether systemd has the unit running, or about to.
alive() {
	case $(unit_state "$1") in
	active | activating | reloading | deactivating) return 0 ;;
	*) return 1 ;;
	esac
}

installed_version() { "$bin/$name" --version 2>/dev/null | awk 'NR == 1 { print $3 }' | clean; }

# The binary reads the node's own configuration, whatever the environment says.
with_own_configuration() {
	if [ -e "$config/config.yaml" ]; then
		export "${environment}_CONFIG_FILE=$config/config.yaml"
	else
		unset "${environment}_CONFIG_FILE"
	fi
}

# Those files and directories of a directory of manifests that a release brings along, one name per line. What people
# have put beside them is theirs.
charts_in() {
	# shellcheck disable=SC2086
	(cd "$1" 2>/dev/null && ls -1d $charts 2>/dev/null) || :
}

# An etcd snapshot ends in the SHA-256 of everything before it.
trailer_fits() {
	bytes=$(stat -c %s "$1")
	[ $((bytes % 512)) -eq 32 ] || return 1
	[ "$(head -c $((bytes - 32)) "$1" | digest)" = "$(tail -c 32 "$1" | od -An -v -tx1 | tr -d ' \n')" ]
}

# The reset that rke2flow began last here: reset_run, reset_sha256, reset_unit, reset_log; empty when there is none.
read_reset() {
	reset_run='' reset_sha256='' reset_unit='' reset_log=''
	[ -e "$1" ] || return 0
	{ IFS= read -r reset_run && IFS= read -r reset_sha256 && IFS= read -r reset_unit && IFS= read -r reset_log; } <"$1" ||
		die "$1 is damaged"
}

# Its exit status proves nothing; only this text does, at whatever level (K3S pkg/cluster/managed.go): releases of 2025
# and later print it as an error. The second is what releases up to v1.20 say.
reset_proved() {
	[ -n "$reset_run" ] && grep -sqF -e 'Managed etcd cluster membership has been reset' \
		-e 'Etcd is running, restart without --cluster-reset flag now' "$reset_log"
}

# The node removes the flag when a normal start after the reset has its API up (K3S checkReset).
reset_started_since() { reset_proved && [ ! -e "$reset_flag" ] && [ -e "$etcd/member" ]; }
