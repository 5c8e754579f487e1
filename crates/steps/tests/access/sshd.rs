//! A real sshd on a free port of the loopback, with keys of its own, gone with the value.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rke2flow_engine::cluster::{Cluster, Role};
use rke2flow_engine::id::HostName;
use rke2flow_steps::access::ssh::{SshSettings, SshShell};
use rke2flow_steps::command::{ENVELOPE_VERSION, Envelope, HostCommand, Look};
use rke2flow_steps::paths::HostPaths;
use rke2flow_steps::ports::{AccessError, Output, Shell};

const SSHD: &str = "/usr/sbin/sshd";
const STARTING: Duration = Duration::from_secs(10);

/// A running sshd that lets root in with [`Sshd::key`].
pub struct Sshd {
    pub dir: tempfile::TempDir,
    pub port: u16,
    child: Child,
}

impl Sshd {
    pub fn start() -> Self {
        Self::with_config("")
    }

    /// With more lines of sshd_config.
    pub fn with_config(more: &str) -> Self {
        Self::of(more, None)
    }

    /// In a mount namespace with a passwd and a sudoers of its own: the user `deploy`, whose home is `home`, and sudo
    /// with these rules. `BASE` in `more` is the sshd's directory.
    pub fn with_users(more: &str, sudoers: &str) -> Self {
        assert!(Path::new("/usr/bin/sudo").exists(), "sudo is missing: apt-get install sudo");
        Self::of(more, Some(sudoers))
    }

    fn of(more: &str, sudoers: Option<&str>) -> Self {
        assert!(Path::new(SSHD).exists(), "{SSHD} is missing: apt-get install openssh-server");
        std::fs::create_dir_all("/run/sshd").expect("sshd needs /run/sshd, and the tests need root");
        let dir = tempfile::tempdir().unwrap();
        for name in ["host", "key", "stranger"] {
            keygen(dir.path(), name, &["-t", "ed25519"]);
        }
        std::fs::copy(dir.path().join("key.pub"), dir.path().join("authorized")).unwrap();
        if let Some(sudoers) = sudoers {
            users(dir.path(), sudoers);
        }
        let (port, child) = launch(dir.path(), &more.replace("BASE", &dir.path().to_string_lossy()));
        Self { dir, port, child }
    }

    /// Ends every connection at once; the listener goes on.
    pub fn kill_connections(&self) {
        // The listener's children are the connections' processes.
        let listed = Command::new("ps").args(["-o", "pid=", "--ppid", &self.child.id().to_string()]).output().unwrap();
        for pid in String::from_utf8_lossy(&listed.stdout).split_whitespace() {
            Command::new("kill").args(["-9", pid]).stderr(Stdio::null()).status().unwrap();
        }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn key(&self) -> PathBuf {
        self.file("key")
    }

    /// `ssh-ed25519 AAAA…`
    pub fn host_key(&self) -> String {
        public(&self.file("host"))
    }

    /// What `ssh:` of a host says when everything is right.
    pub fn ssh(&self) -> serde_json::Value {
        serde_json::json!({ "port": self.port, "key": self.key(), "host_key": self.host_key() })
    }

    /// A shell for one server `s0` that is reached so.
    pub fn shell(&self, ssh: &serde_json::Value) -> SshShell {
        shell(cluster(ssh), settings())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill_connections();
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn launch(dir: &Path, more: &str) -> (u16, Child) {
    for _ in 0..5 {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = dir.display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host\nAuthorizedKeysFile {at}/authorized\n\
             PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin prohibit-password\nMaxStartups 100\nLogLevel ERROR\n{more}\n"
        );
        std::fs::write(dir.join("sshd_config"), config).unwrap();
        let mut child = server(dir)
            .args(["-D", "-f"])
            .arg(dir.join("sshd_config"))
            .arg("-E")
            .arg(dir.join("sshd.log"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        // Another test may have taken the port between looking and binding: then sshd ends, and the next one is tried.
        while began.elapsed() < STARTING && child.try_wait().unwrap().is_none() {
            if greets(port) && child.try_wait().unwrap().is_none() {
                return (port, child);
            }
            std::thread::yield_now();
        }
        child.kill().ok();
    }
    panic!("sshd does not start: {}", std::fs::read_to_string(dir.join("sshd.log")).unwrap_or_default());
}

/// The program, which sees the directory's own users when there are some.
fn server(dir: &Path) -> Command {
    let users = dir.join("users");
    if !users.exists() {
        return Command::new(SSHD);
    }
    let mut command = Command::new("unshare");
    let script =
        "cd \"$0\"; for file in passwd shadow group sudoers; do mount --bind $file /etc/$file; done; exec \"$@\"";
    command.args(["--mount", "--propagation", "private", "sh", "-ec", script]).arg(users).arg(SSHD);
    command
}

/// root, `deploy` and nobody else; only who is asked for by a rule becomes root.
fn users(dir: &Path, sudoers: &str) {
    use std::os::unix::fs::PermissionsExt;
    let (users, home) = (dir.join("users"), dir.join("home"));
    for made in [&users, &home] {
        std::fs::create_dir(made).unwrap();
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let passwd = "root:x:0:0::/root:/bin/bash\nsshd:x:105:65534::/run/sshd:/usr/sbin/nologin\n\
                  nobody:x:65534:65534::/:/usr/sbin/nologin\n";
    let deploy = format!("deploy:x:4242:4242::{}:/bin/bash\n", home.display());
    let shadow = "root:*:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\ndeploy:*:19000:0:99999:7:::\n";
    let rules = format!("Defaults env_reset\nroot ALL=(ALL:ALL) ALL\n{sudoers}");
    for (name, text, mode) in [
        ("passwd", format!("{passwd}{deploy}"), 0o644),
        ("shadow", shadow.to_owned(), 0o600),
        ("group", "root:x:0:\nnogroup:x:65534:\ndeploy:x:4242:\n".to_owned(), 0o644),
        ("sudoers", rules, 0o440),
    ] {
        std::fs::write(users.join(name), text).unwrap();
        std::fs::set_permissions(users.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn greets(port: u16) -> bool {
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut greeting = [0; 4];
    stream.set_read_timeout(Some(STARTING)).unwrap();
    stream.read_exact(&mut greeting).is_ok() && greeting == *b"SSH-"
}

pub fn keygen(dir: &Path, name: &str, kind: &[&str]) {
    let made =
        Command::new("ssh-keygen").args(["-q", "-N", "", "-C", "", "-f"]).arg(dir.join(name)).args(kind).status();
    assert!(made.expect("ssh-keygen is missing: apt-get install openssh-client").success());
}

/// The public key beside a private one, without its comment.
pub fn public(private: &Path) -> String {
    std::fs::read_to_string(private.with_extension("pub")).unwrap().trim().to_owned()
}

/// Patient enough for a busy machine, and deaf to the person's own files.
pub fn settings() -> SshSettings {
    SshSettings { agent: None, known_hosts: Vec::new(), ..SshSettings::impersonal() }
}

pub fn cluster(ssh: &serde_json::Value) -> Cluster {
    cluster_of(&[("s0", ssh)])
}

/// One server `s0` whose address in the cluster file is this.
pub fn cluster_at(address: &str, ssh: &serde_json::Value) -> Cluster {
    let mut cluster = cluster(ssh);
    address.clone_into(&mut cluster.hosts[0].address);
    cluster
}

pub fn cluster_of(hosts: &[(&str, &serde_json::Value)]) -> Cluster {
    let host = |(name, ssh): &(&str, &serde_json::Value)| serde_json::json!({ "name": name, "address": "127.0.0.1", "role": "Server", "ssh": ssh });
    let hosts: Vec<_> = hosts.iter().map(host).collect();
    serde_json::from_value(serde_json::json!({ "format": 1, "name": "c", "hosts": hosts })).unwrap()
}

pub fn shell(cluster: Cluster, settings: SshSettings) -> SshShell {
    SshShell::new(Arc::new(cluster), settings, raw)
}

/// Sends the text of a script as it is, and something that the survey's reader accepts for a survey.
fn raw(envelope: &Envelope) -> String {
    match &envelope.command {
        HostCommand::Look(Look::Script { script }) => script.clone(),
        _ => "echo '{\"boot\":\"b1\"}'".to_owned(),
    }
}

pub fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

/// Runs `script` on `s0`.
pub async fn run(shell: &SshShell, script: &str) -> Result<Output, AccessError> {
    let paths = HostPaths::of(&cluster(&serde_json::json!({})));
    let command = HostCommand::Look(Look::Script { script: script.to_owned() });
    let envelope = Envelope { v: ENVELOPE_VERSION, cluster: "c".to_owned(), role: Role::Server, paths, command };
    shell.run(&host("s0"), &envelope).await
}
