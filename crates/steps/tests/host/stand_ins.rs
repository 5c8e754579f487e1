//! Stand-ins for a host's tools: small scripts that remember what they were asked in `$WORLD/log`.

/// Installs below the prefix that it is told, from the artifacts that it is told, like R2:install.sh.
pub const INSTALLER: &str = r#"#!/bin/sh
echo "install $INSTALL_RKE2_TYPE $INSTALL_RKE2_METHOD" >>"$WORLD/log"
tarball=$(echo "$INSTALL_RKE2_ARTIFACT_PATH"/rke2.linux-*.tar.gz)
cat "$tarball" >"$WORLD/version"
touch "$INSTALL_RKE2_TAR_PREFIX/bin/rke2"
"#;

/// Finds the binary in its place, and makes the unit anew, without what somebody gave it before (K3S install.sh).
pub const K3S_INSTALLER: &str = r#"#!/bin/sh
set -e
echo "install $INSTALL_K3S_EXEC download=$INSTALL_K3S_SKIP_DOWNLOAD enable=$INSTALL_K3S_SKIP_ENABLE start=$INSTALL_K3S_SKIP_START" \
	>>"$WORLD/log"
[ "$INSTALL_K3S_SKIP_DOWNLOAD" = true ] && [ -x "$INSTALL_K3S_BIN_DIR/k3s" ]
echo '#!/bin/sh' >"$INSTALL_K3S_BIN_DIR/k3s-killall.sh"
case $INSTALL_K3S_EXEC in server) unit=k3s ;; *) unit=k3s-$INSTALL_K3S_EXEC ;; esac
echo "ExecStart=$INSTALL_K3S_BIN_DIR/k3s $INSTALL_K3S_EXEC" >"$INSTALL_K3S_SYSTEMD_DIR/$unit.service"
rm -f "$INSTALL_K3S_SYSTEMD_DIR/$unit.service.env"
"#;

pub const STAND_INS: &[(&str, &str)] = &[
    ("systemctl", SYSTEMCTL),
    ("systemd-run", SYSTEMD_RUN),
    ("journalctl", "#!/bin/sh\nprintf 'asked: %s\\n' \"$*\"\n"),
    ("curl", CURL),
    ("ps", PS),
];

/// Of all processes only those that belong to this host: of its units, and those that the test says are in a group.
const PS: &str = r#"#!/bin/sh
for file in "$WORLD"/units/*.session; do
	[ -e "$file" ] || continue
	unit=${file##*/}
	for pid in $(pgrep -s "$(cat "$file")"); do
		echo "$pid 1 $(awk '$1 == "State:" { print $2 }' "/proc/$pid/status") 0::/system.slice/${unit%.session}.service"
	done
done
[ -e "$WORLD/groups" ] || exit 0
while read -r pid parent group; do
	state=$(awk '$1 == "State:" { print $2 }' "/proc/$pid/status" 2>/dev/null) && echo "$pid $parent $state $group"
done <"$WORLD/groups"
exit 0
"#;

/// Units are files below `units/` that hold their state.
const SYSTEMCTL: &str = r#"#!/bin/sh
verb=$1; shift
case $verb in
is-active|show|list-units) ;;
*) echo "systemctl $verb $*" >>"$WORLD/log" ;;
esac
for word in "$@"; do last=${word%.service}; done
file=$WORLD/units/$last
case $verb in
is-active) if [ -e "$file" ]; then cat "$file"; else echo inactive; fi; [ "$(cat "$file" 2>/dev/null)" = active ] ;;
show)
	if [ -e "$file" ]; then echo LoadState=loaded; else echo LoadState=not-found; fi
	echo "ActiveState=$(cat "$file" 2>/dev/null || echo inactive)"
	echo 'ActiveEnterTimestamp=Sun 2026-11-22 03:12:00 UTC'
	echo 'InactiveExitTimestamp=Sun 2026-11-22 03:11:00 UTC'
	echo NRestarts=2
	echo UnitFileState=enabled
	if [ -e "$WORLD/exec_start" ]; then echo "ExecStart={ path=x ; argv[]=$(cat "$WORLD/exec_start") ; ignore_errors=no ; pid=0 }"
	else echo "ExecStart={ path=$BIN/rke2 ; argv[]=$BIN/rke2 server ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }"; fi
	echo "EnvironmentFiles=$WORLD/some proxies (ignore_errors=yes)" ;;
list-units)
	for file in "$WORLD"/units/rke2flow-*-a?; do
		[ -e "$file" ] && echo "${file##*/}.service loaded $(cat "$file") running x"
	done ;;
start|restart) echo active >"$file" ;;
stop) [ -e "$file" ] && echo inactive >"$file" ;;
kill)
	session=$(cat "$file.session" 2>/dev/null) || exit 1
	case $* in
	*--kill-who=main*) kill -KILL "$session" 2>/dev/null ;;
	*)
		pkill -KILL -s "$session"
		kill -KILL $(awk -v unit="/$last.service" 'index($3, unit) { print $1 }' "$WORLD/groups") ;;
	esac
	rm -rf "$file" "$file.lock" ;;
esac
exit 0
"#;

/// Refuses a name that is taken, as systemd does. Ends with the script, unless the world has a file `background`.
const SYSTEMD_RUN: &str = r#"#!/bin/sh
echo "systemd-run $*" >>"$WORLD/log"
while :; do
	case $1 in
	--unit=*) unit=${1#--unit=} ;;
	--*) ;;
	*) break ;;
	esac
	shift
done
mkdir "$WORLD/units/$unit.lock" 2>/dev/null || { echo "Unit $unit.service was already loaded" >&2; exit 1; }
echo active >"$WORLD/units/$unit"
if [ -e "$WORLD/cut" ]; then
	awk -v after="$(cat "$WORLD/cut")" '
		/^#: / && seen++ == after { print "kill -9 $$" }
		/^}$/ { held = $0; next }
		held { if ($0 == "main \"$@\"" && seen == after) print "kill -9 $$"; print held; held = "" }
		{ print }' "$2" >"$2.cut" && cp "$2.cut" "$2" && rm "$2.cut"
fi
export unit
if [ -e "$WORLD/background" ]; then
	setsid sh -c 'echo $$ >"$WORLD/units/$unit.session"; "$@"; rm -rf "$WORLD/units/$unit" "$WORLD/units/$unit.lock"' sh "$@" \
		>/dev/null 2>&1 </dev/null &
else
	"$@" >/dev/null 2>&1 </dev/null
	rm -rf "$WORLD/units/$unit" "$WORLD/units/$unit.lock"
fi
exit 0
"#;

const CURL: &str = r#"#!/bin/sh
while [ $# -gt 1 ]; do
	if [ "$1" = --output ]; then output=$2; fi
	shift
done
case $1 in
https://releases.test/*)
	file=$WORLD/source/$(printf %s "${1#https://releases.test/}" | sed 's/%2B/+/g')
	echo "curl $1" >>"$WORLD/log"
	if [ -e "$file" ]; then cp "$file" "$output"; printf 200; else printf 404; exit 22; fi ;;
*/health) cat "$WORLD/answers/health" ;;
*/metrics) cat "$WORLD/answers/metrics" ;;
*/readyz) cat "$WORLD/answers/readyz" ;;
*/version) cat "$WORLD/answers/version" ;;
*/db/info) cat "$WORLD/answers/db_info" ;;
*) exit 7 ;;
esac
"#;

/// The reset moves the old data away, restores, and says so at its end, as K3S pkg/cluster/managed.go does.
pub const RKE2: &str = r#"#!/bin/sh
case $1 in
--version)
	echo "rke2 version $(cat "$WORLD/version") (abcdef)"
	echo "go version go1.24" ;;
etcd-snapshot)
	for word in "$@"; do name=$word; done
	echo "$*" >>"$WORLD/log"
	mkdir -p "$DATA/server/db/snapshots"
	[ ! -e "$WORLD/save_fails" ] && cp "$WORLD/snapshot" "$DATA/server/db/snapshots/$name-server-0-1763780000" ;;
server)
	if [ "$2" = --help ]; then cat "$WORLD/usage" 2>/dev/null; exit 0; fi
	echo "$*" >>"$WORLD/log"
	if [ -e "$WORLD/reset_hangs" ]; then echo begun >"$WORLD/reset_begun"; sleep 300; fi
	for word in "$@"; do
		case $word in --cluster-reset-restore-path=*) path=${word#*=} ;; esac
	done
	mkdir -p "$DATA/server/db/etcd/member" "$DATA/server/tls"
	cp "$path" "$DATA/server/db/etcd/member/db"
	echo server-0 >"$DATA/server/db/etcd/name"
	: >"$DATA/server/db/reset-flag"
	: >"$DATA/force-restart"
	# The flag comes before etcd is started: it proves nothing.
	if [ -e "$WORLD/reset_fails" ]; then echo 'level=fatal msg="Error: no"'; exit 0; fi
	if [ -e "$WORLD/reset_says" ]; then cat "$WORLD/reset_says" >&2; exit 0; fi
	echo 'level=error msg="Shutdown request received: Managed etcd cluster membership has been reset, restart without"' >&2 ;;
esac
exit 0
"#;

pub const KILLALL: &str = r#"#!/bin/sh
echo killall >>"$WORLD/log"
rm -f "$DATA/agent/pod-manifests"/*
for group in $(cat "$WORLD/shims" 2>/dev/null); do
	grep -q '^State:.[RSD]' "/proc/$group/status" && echo "killall finds $group" >>"$WORLD/log"
	kill -KILL "-$group"
done
rm -f "$WORLD/shims"
exit 1
"#;
