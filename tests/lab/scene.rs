//! The scene of a test: a lab, an operator's home, and the binary.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rke2flow_lab::hosts::{self, Host, Lab, Role, Spec};
use serde_json::Value;
use tempfile::TempDir;

use crate::build;
use crate::engine::{Engine, Outcome};

/// What runs when the lab is up, and what rollbacks go back to.
pub const OLD: &str = "v1.33.4+rke2r1";
/// What the cluster is upgraded to: another minor version, which has another etcd.
pub const NEW: &str = "v1.34.2+rke2r1";

/// The same of K3s.
pub const K3S_OLD: &str = "v1.33.4+k3s1";
/// The same.
pub const K3S_NEW: &str = "v1.34.2+k3s1";

/// The lab's etcd is Debian's, older than that of any release: where the real one tells its version, the check is waived.
pub const OLD_ETCD: &str = "etcd_path=the lab's etcd is Debian's";

/// A lab and an operator.
pub struct Scene {
    pub lab: Lab,
    home: TempDir,
}

impl Scene {
    /// Servers and agents that run [`OLD`]. `None` where no lab can be made.
    pub fn of(test: &str, servers: u8, agents: u8) -> Option<Self> {
        if !hosts::required_or_left_out(test) {
            return None;
        }
        build::programs();
        let lab = hosts::turn().unwrap().up(|spec| spec.hosts(servers, agents)).unwrap();
        assert_eq!(lab.spec().version, OLD);
        lab.add_release(NEW).unwrap();
        Some(Self { lab, home: tempfile::tempdir().unwrap() })
    }

    /// Three servers and one agent of K3s that run [`K3S_OLD`].
    pub fn k3s(test: &str) -> Option<Self> {
        if !hosts::required_or_left_out(test) {
            return None;
        }
        build::programs();
        let lab = hosts::turn().unwrap().up(|spec| Spec { version: K3S_OLD.to_owned(), ..spec }.hosts(3, 1)).unwrap();
        lab.add_release(K3S_NEW).unwrap();
        Some(Self { lab, home: tempfile::tempdir().unwrap() })
    }

    /// What the distribution is: `rke2`, `k3s`.
    pub fn distribution(&self) -> &'static str {
        if self.lab.spec().version == K3S_OLD { "k3s" } else { "rke2" }
    }

    /// Every host that is on, servers first: one that a test has turned off takes part in nothing.
    pub fn hosts(&self) -> Vec<Host<'_>> {
        self.lab.hosts().into_iter().filter(Host::is_on).collect()
    }

    /// The servers that are on.
    pub fn servers(&self) -> Vec<Host<'_>> {
        self.hosts().into_iter().filter(|host| host.role() == Role::Server).collect()
    }

    /// The first server that is on: through it the cluster is asked.
    pub fn first(&self) -> Host<'_> {
        self.servers().swap_remove(0)
    }

    /// A host.
    pub fn host(&self, name: &str) -> Host<'_> {
        self.lab.host(name).unwrap()
    }

    /// Changes the cluster file's text.
    pub fn change_cluster_file(&self, change: impl FnOnce(String) -> String) {
        let text = change(fs::read_to_string(self.cluster_file()).unwrap());
        fs::write(self.path("cluster.ron"), text).unwrap();
    }

    /// Runs the binary to its end.
    #[track_caller]
    pub fn rke2flow(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(self.command(arguments))
    }

    /// The same as another person, who has nothing but the cluster file.
    #[track_caller]
    pub fn rke2flow_of(&self, person: &str, arguments: &[&str]) -> Outcome {
        let mut command = self.command(arguments);
        command.env("SUDO_USER", person).env("USER", person);
        command.env("RKE2FLOW_STATE_DIR", self.path(&format!("state-of-{person}")));
        Outcome::of(command)
    }

    /// Starts the binary, which tells its records.
    pub fn start(&self, arguments: &[&str]) -> Engine {
        Engine::start(self.command(&[arguments, &["-o", "json"]].concat()))
    }

    /// Runs the binary to its end and reads the document that it prints.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let outcome = self.rke2flow(&[arguments, &["-o", "json"]].concat()).ends_with(0);
        serde_json::from_str(&outcome.stdout).unwrap()
    }

    /// The newest run.
    pub fn run(&self) -> String {
        let runs = self.json(&["runs"]);
        runs["runs"][0]["run"].as_str().unwrap().to_owned()
    }

    /// The newest run, when it is not closed.
    pub fn open_run(&self) -> Option<String> {
        let runs = self.json(&["runs"]);
        let newest = &runs["runs"][0];
        let closed = ["succeeded", "aborted", "superseded"].contains(&newest["state"].as_str()?);
        (!closed).then(|| newest["run"].as_str().unwrap().to_owned())
    }

    /// The records of a run, as they are on disk.
    pub fn records(&self, run: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path("state/runs").join(run).join("journal.ndjson")).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The operator's own, once he has changed it.
    fn cluster_file(&self) -> PathBuf {
        let own = self.path("cluster.ron");
        if own.exists() { own } else { self.lab.cluster_file() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rke2flow"));
        command.args(arguments).current_dir(self.home.path()).stdin(Stdio::null());
        command.env("RKE2FLOW_STATE_DIR", self.path("state")).env("RKE2FLOW_CLUSTER", self.cluster_file());
        command.env("NO_COLOR", "1").env("HOME", self.home.path());
        for inherited in ["TRACEPARENT", "OTEL_EXPORTER_OTLP_ENDPOINT", "SSH_AUTH_SOCK", "RUST_LOG"] {
            command.env_remove(inherited);
        }
        command
    }
}
