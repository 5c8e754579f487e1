//! A host in a temporary directory: its places, its stand-ins on a `PATH` of their own, and `sh` to run scripts on it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rke2flow_engine::action::Claim;
use rke2flow_engine::cluster::Role;
use rke2flow_engine::id::{HostName, InstanceId, RunId, StepId, Target, UnitName};
use rke2flow_steps::command::{Change, ClaimCommand, ENVELOPE_VERSION, Envelope, HostCommand, Look, Order};
use rke2flow_steps::paths::HostPaths;
use rke2flow_steps::ports::Output;
use rke2flow_steps::render::{answer, script};
use serde::de::DeserializeOwned;

pub const VERSION: &str = "v1.33.4+rke2r1";
pub const NEWER: &str = "v1.34.1+rke2r1";

pub struct Bench {
    root: tempfile::TempDir,
    pub paths: HostPaths,
    pub role: Role,
}

impl Bench {
    /// A server that runs nothing yet.
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let below = |name: &str| root.path().join(name).to_string_lossy().into_owned();
        let paths = HostPaths {
            // A quote and a space in every path: what is not quoted fails at once.
            data: below("da'ta dir/rke2"),
            config: below("etc $HOME/rke2"),
            bin: below("usr lo\"cal/bin"),
            systemd: below("systemd"),
            state: below("sta te/rke2flow"),
            runtime: below("runtime"),
            name: "rke2".to_owned(),
            supervisor_port: 1,
        };
        for directory in [&paths.data, &paths.config, &paths.bin, &paths.systemd] {
            fs::create_dir_all(directory).unwrap();
        }
        let bench = Self { root, paths, role: Role::Server };
        fs::create_dir_all(bench.world("tools")).unwrap();
        fs::create_dir_all(bench.world("units")).unwrap();
        for (name, text) in STAND_INS {
            bench.tool(name, text);
        }
        bench.executable(&format!("{}/rke2", bench.paths.bin), RKE2);
        bench.executable(&format!("{}/rke2-killall.sh", bench.paths.bin), KILLALL);
        bench.write(&bench.world("version"), VERSION);
        bench.write(&bench.world("units/rke2-server"), "inactive");
        bench
    }

    /// A file beside the host: what the stand-ins remember.
    pub fn world(&self, name: &str) -> String {
        self.root.path().join(name).to_string_lossy().into_owned()
    }

    pub fn tool(&self, name: &str, text: &str) {
        self.executable(&self.world(&format!("tools/{name}")), text);
    }

    pub fn executable(&self, path: &str, text: &str) {
        self.write(path, text);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    pub fn exists(&self, path: &str) -> bool {
        Path::new(path).exists()
    }

    /// What `systemctl` was asked, and the like, in order.
    pub fn log(&self) -> Vec<String> {
        self.read(&self.world("log")).lines().map(str::to_owned).collect()
    }

    pub fn envelope(&self, command: HostCommand) -> Envelope {
        Envelope {
            v: ENVELOPE_VERSION,
            cluster: "prod".to_owned(),
            role: self.role,
            paths: self.paths.clone(),
            command,
        }
    }

    pub fn sh(&self, text: &str) -> Output {
        let mut child = self.command().arg("-s").spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A script that is refused by the shell closes its input early.
        let _ = stdin.write_all(text.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        Output { exit: output.status.code().unwrap_or(-1), stdout: output.stdout, stderr: output.stderr }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command
            .env_clear()
            .env("PATH", format!("{}:{}", self.world("tools"), std::env::var("PATH").unwrap()))
            .env("WORLD", self.root.path())
            .env("DATA", &self.paths.data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn ask<T: DeserializeOwned>(&self, command: HostCommand) -> T {
        let output = self.sh(&script(&self.envelope(command)));
        match answer(&output) {
            Ok(answer) => answer,
            Err(error) => panic!("{error}\nstderr: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    pub fn look<T: DeserializeOwned>(&self, look: Look) -> T {
        self.ask(HostCommand::Look(look))
    }

    pub fn survey(&self) -> rke2flow_steps::answer::Survey {
        self.look(Look::Survey)
    }

    pub fn take(&self, claim: Claim) -> rke2flow_steps::answer::ClaimAnswer {
        self.ask(HostCommand::Claim(ClaimCommand::Take(claim)))
    }

    pub fn root(&self) -> PathBuf {
        self.root.path().to_owned()
    }
}

pub fn run() -> RunId {
    RunId::new("261122-0312-k7q2").unwrap()
}

pub fn claim(number: u64) -> Claim {
    Claim { number, holder: "alice's \"laptop\" ü".to_owned(), run: run(), cluster: "prod".to_owned() }
}

pub fn order(change: Change, attempt: u32) -> Order {
    let step = StepId::new("reset").unwrap();
    let target = Target::Host(HostName::new("server-0").unwrap());
    let instance = InstanceId::new(&step, "Some", 1, &target);
    let unit = UnitName::new(&run(), &instance, attempt);
    Order { run: run(), instance, attempt, unit, claim: claim(7), change }
}

/// A whole etcd snapshot: sectors, then the SHA-256 of all of them.
pub fn etcd_snapshot(fill: u8) -> Vec<u8> {
    use sha2::Digest as _;
    let mut bytes = vec![fill; 4096];
    let trailer = sha2::Sha256::digest(&bytes);
    bytes.extend_from_slice(&trailer);
    bytes
}

pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

const STAND_INS: &[(&str, &str)] = &[
    ("systemctl", SYSTEMCTL),
    ("systemd-run", SYSTEMD_RUN),
    ("journalctl", "#!/bin/sh\nprintf 'asked: %s\\n' \"$*\"\n"),
    ("curl", CURL),
];

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
	echo NRestarts=2
	echo UnitFileState=enabled ;;
list-units)
	for file in "$WORLD"/units/rke2flow-*; do
		[ -e "$file" ] && echo "${file##*/}.service loaded $(cat "$file") running x"
	done ;;
start|restart) echo active >"$file" ;;
stop) [ -e "$file" ] && echo inactive >"$file" ;;
kill) pkill -KILL -s "$(cat "$file.session")"; rm -f "$file" ;;
esac
exit 0
"#;

/// Refuses a name that is taken, as systemd does; the script runs in a session of its own.
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
if [ -e "$WORLD/cut" ]; then sh "$WORLD/cut" "$2"; fi
UNIT=$unit setsid sh -c '"$@"; rm -rf "$WORLD/units/$UNIT" "$WORLD/units/$UNIT.lock"' sh "$@" >/dev/null 2>&1 </dev/null &
exit 0
"#;

const CURL: &str = r#"#!/bin/sh
for word in "$@"; do url=$word; done
case $url in
*/health) cat "$WORLD/answers/health" ;;
*/readyz) cat "$WORLD/answers/readyz" ;;
*/db/info) cat "$WORLD/answers/db_info" ;;
*) exit 7 ;;
esac
"#;

const RKE2: &str = r#"#!/bin/sh
case $1 in
--version) echo "rke2 version $(cat "$WORLD/version") (abcdef)"; echo "go version go1.24" ;;
esac
"#;

const KILLALL: &str = r#"#!/bin/sh
echo killall >>"$WORLD/log"
exit 1
"#;
