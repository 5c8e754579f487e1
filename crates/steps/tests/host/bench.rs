//! A host in a temporary directory: its places, its stand-ins on a `PATH` of their own, and `sh` to run scripts on it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rke2flow_engine::action::Claim;
use rke2flow_engine::cluster::{Distribution, Role};
use rke2flow_engine::id::{HostName, InstanceId, RunId, StepId, Target, UnitName};
use rke2flow_steps::answer::{ClaimAnswer, ReceiptAnswer, Survey};
use rke2flow_steps::command::{Change, ClaimCommand, ENVELOPE_VERSION, Envelope, HostCommand, Look, Order};
use rke2flow_steps::distribution::Traits;
use rke2flow_steps::paths::HostPaths;
use rke2flow_steps::ports::Output;
use rke2flow_steps::render::{answer, decode_text, script};
use serde::de::DeserializeOwned;

use super::stand_ins::{INSTALLER, K3S_INSTALLER, KILLALL, RKE2, STAND_INS};

pub const VERSION: &str = "v1.33.4+rke2r1";
pub const NEWER: &str = "v1.34.1+rke2r1";

pub struct Bench {
    root: tempfile::TempDir,
    pub paths: HostPaths,
    pub role: Role,
}

impl Bench {
    /// A server of RKE2 that runs nothing yet.
    pub fn new() -> Self {
        Self::of(Distribution::Rke2)
    }

    /// A server that runs nothing yet.
    pub fn of(distribution: Distribution) -> Self {
        let root = tempfile::tempdir().unwrap();
        let below = |name: &str| root.path().join(name).to_string_lossy().into_owned();
        let name = Traits::of(distribution).name;
        let paths = HostPaths {
            // A quote and a space in every path: what is not quoted fails at once.
            data: below(&format!("da'ta dir/{name}")),
            config: below(&format!("etc $HOME/{name}")),
            bin: below("usr lo\"cal/bin"),
            systemd: below("systemd"),
            state: below("sta te/rke2flow"),
            runtime: below("runtime"),
            name: name.to_owned(),
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
        bench.executable(&format!("{}/{name}", bench.paths.bin), RKE2);
        bench.executable(&format!("{}/{name}-killall.sh", bench.paths.bin), KILLALL);
        bench.write(&bench.world("version"), VERSION);
        bench.write(&bench.world(&format!("units/{}", bench.paths.unit(Role::Server))), "inactive");
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

    /// Runs a script under strace, and gives what strace saw.
    pub fn trace(&self, text: &str) -> String {
        let file = self.world("trace");
        let mut strace = self.command_of("strace");
        strace.args(["-f", "-y", "-q", "-s", "300", "-e", super::oracle::TRACED, "-o", &file, "sh", "-s"]);
        strace.stdout(fs::File::create(format!("{}{}", self.root.path().display(), super::oracle::ANSWER)).unwrap());
        let mut child = strace.spawn().expect("strace is missing: apt-get install strace");
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.read(&file)
    }

    fn command(&self) -> Command {
        self.command_of("sh")
    }

    fn command_of(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", format!("{}:{}", self.world("tools"), std::env::var("PATH").unwrap()))
            .env("WORLD", self.root.path())
            .env("DATA", &self.paths.data)
            .env("BIN", &self.paths.bin)
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

    pub fn survey(&self) -> Survey {
        self.look(Look::Survey)
    }

    pub fn take(&self, claim: Claim) -> ClaimAnswer {
        self.ask(HostCommand::Claim(ClaimCommand::Take(claim)))
    }

    /// Sends an order; the stand-in of systemd-run ends with the script.
    pub fn place(&self, order: &Order) -> ReceiptAnswer {
        self.ask(HostCommand::Change(order.clone()))
    }

    /// Sends a change under claim 7 and expects success.
    pub fn apply(&self, change: &Change, attempt: u32) {
        let (exit, tail) = self.try_apply(change, attempt);
        assert_eq!(exit, 0, "{change:?}: {tail}");
    }

    /// Sends a change under claim 7; its exit and its output.
    pub fn try_apply(&self, change: &Change, attempt: u32) -> (i32, String) {
        assert_eq!(self.take(claim(7)), ClaimAnswer::Accepted);
        match self.place(&order(change.clone(), attempt)) {
            ReceiptAnswer::Finished { exit, tail, .. } => {
                (exit, String::from_utf8_lossy(&decode_text(&tail).unwrap()).into_owned())
            }
            other => panic!("{change:?}: {other:?}"),
        }
    }

    /// A file that whoever opens it waits at, until somebody opens its other end.
    pub fn fifo(&self, name: &str) -> String {
        let path = self.world(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    /// The same of K3s, with images: the binary tells its own version.
    pub fn release_of_k3s(&self, version: &str) {
        let directory = self.world(&format!("source/{version}"));
        let (artifact, images) = (self.paths.distribution().artifact(arch()), self.paths.distribution().images(arch()));
        let files = [(artifact, k3s(version)), (images, format!("images of {version}"))];
        let sums = files.iter().map(|(name, text)| format!("{}  {name}\n", sha256(text.as_bytes())));
        self.write(&format!("{directory}/sha256sum-{}.txt", arch()), sums.collect::<String>());
        self.write(&format!("{directory}/install.sh"), K3S_INSTALLER);
        for (name, text) in &files {
            self.write(&format!("{directory}/{name}"), text);
        }
    }

    /// A release in a directory, as a person would lay it out.
    pub fn release_source(&self, version: &str) {
        let directory = self.world(&format!("source/{version}"));
        let tarball = format!("rke2.linux-{}.tar.gz", arch());
        self.write(&format!("{directory}/install.sh"), INSTALLER);
        self.write(&format!("{directory}/{tarball}"), version);
        let sums = format!("{}  {tarball}\n", sha256(version.as_bytes()));
        self.write(&format!("{directory}/sha256sum-{}.txt", arch()), sums);
    }

    /// A containerd-shim with one container; with `deaf`, both ignore SIGTERM.
    pub fn shim(&self, deaf: bool) -> Shim {
        let binary = format!("{}/data/v1-abc/bin/containerd-shim-runc-v2", self.paths.data);
        fs::create_dir_all(Path::new(&binary).parent().unwrap()).unwrap();
        if !self.exists(&binary) {
            fs::copy("/bin/sh", &binary).unwrap();
        }
        let script = if deaf { "trap '' TERM; sleep 300 & echo; wait" } else { "sleep 300 & echo; wait" };
        let mut command = Command::new(binary);
        command.args(["-c", script]).process_group(0).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut begun = [0];
        child.stdout.take().unwrap().read_exact(&mut begun).unwrap();
        let mut list = fs::OpenOptions::new().create(true).append(true).open(self.world("shims")).unwrap();
        writeln!(list, "{}", child.id()).unwrap();
        Shim(child)
    }

    /// Puts a process into a control group, as far as `ps` tells, with this parent.
    pub fn in_group(&self, process: &Shim, parent: u32, group: &str) {
        let mut list = fs::OpenOptions::new().create(true).append(true).open(self.world("groups")).unwrap();
        writeln!(list, "{} {parent} {group}", process.0.id()).unwrap();
    }

    /// A process of some container, which ignores SIGTERM.
    pub fn container(&self, parent: u32, group: &str) -> Shim {
        let mut command = Command::new("sh");
        let mut child = command
            .args(["-c", "trap '' TERM; echo; exec sleep 300"])
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        let process = Shim(child);
        self.in_group(&process, parent, group);
        process
    }

    /// Everything below the host's places that is not a receipt, with the root's name taken out.
    pub fn state_of_the_world(&self) -> BTreeMap<String, String> {
        let root = self.root.path().to_string_lossy().into_owned();
        let mut files = BTreeMap::new();
        collect(self.root.path(), &mut |path, text| {
            let name = path.to_string_lossy().replace(&root, "");
            // What came after the original is kept under a number: how many there are depends on the cuts.
            let numbered = name.contains(&format!("-rke2flow-{}.", run()));
            let ours = ["/tools", "/log", "/source", &format!("/sta te/rke2flow/{}/", run()), "/sta te/rke2flow/units"];
            // Who asked and when, and under which attempt a reset ran, differs by nature.
            let who = name.ends_with("rke2flow/reset") || name.ends_with("rke2flow/claim");
            if !numbered && !who && !ours.iter().any(|prefix| name.starts_with(prefix)) {
                files.insert(name, text.replace(&root, ""));
            }
        });
        files
    }
}

fn collect(directory: &Path, found: &mut impl FnMut(&Path, String)) {
    let entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    if entries.is_empty() {
        found(directory, "an empty directory".to_owned());
    }
    for path in entries {
        if path.is_dir() && !path.is_symlink() {
            collect(&path, found);
        } else {
            let bytes = fs::read(&path).unwrap_or_default();
            let text = String::from_utf8(bytes).unwrap_or_else(|binary| sha256(binary.as_bytes()));
            found(&path, text);
        }
    }
}

/// A running stand-in of a shim; killed with its container when dropped.
pub struct Shim(Child);

impl Shim {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn is_gone(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // The container is a child of the shim: both are in the shim's own group.
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}

/// A binary of K3s that tells this version.
pub fn k3s(version: &str) -> String {
    let tells = "server)\n\techo \"config $K3S_CONFIG_FILE\" >>\"$WORLD/log\"";
    RKE2.replace("rke2 version $(cat \"$WORLD/version\")", &format!("k3s version {version}")).replace("server)", tells)
}

/// This machine's architecture as RKE2 names it.
pub fn arch() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
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
