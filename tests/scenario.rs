//! A directory, a cluster when one is needed, and the binary: what every test here begins with.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use rke2flow_twin::serve::{Ask, Remote};
use serde_json::Value;
use tempfile::TempDir;

/// A place for one test. Its state directory and files are its own.
pub struct Scenario {
    directory: TempDir,
    twin: Option<Process>,
}

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A command that is under way. Killed when the test ends.
pub struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// A runbook of three steps on every server: hold, release, ask.
pub const THREE_STEPS: &str = r#"
Runbook(
  format: 1, name: "three-steps",
  phases: [(id: "work", clock: Before, budget: (ha: "10m", single: "10m"))],
  steps: [
    (id: "hold", phase: "work", on: Servers, do: [HoldUnit()]),
    (id: "release", phase: "work", on: Servers, needs: [All("hold")], do: [ReleaseHold()]),
    (id: "start", phase: "work", on: Servers, needs: [All("release")], do: [StartUnit()]),
  ],
)
"#;

/// The same with a gate in the middle.
pub const WITH_GATE: &str = r#"
Runbook(
  format: 1, name: "with-gate",
  phases: [(id: "work", clock: Before, budget: (ha: "10m", single: "10m"))],
  steps: [
    (id: "hold", phase: "work", on: Servers, do: [HoldUnit()]),
    (id: "consent", phase: "work", on: Operator, needs: [All("hold")], do: [Gate(show: "the servers are held")]),
    (id: "release", phase: "work", on: Servers, needs: [All("consent")], do: [ReleaseHold()]),
  ],
)
"#;

impl Scenario {
    /// An empty directory and no cluster.
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), twin: None }
    }

    /// A simulated cluster of one server that runs 200 times faster than life.
    pub fn with_twin() -> Self {
        Self::with_twin_of(&["--servers", "1", "--agents", "0", "--speed", "200"])
    }

    /// A simulated cluster of one server, so slow that a test can interfere with a run of three steps.
    pub fn with_slow_twin() -> Self {
        Self::with_twin_of(&["--servers", "1", "--agents", "0", "--speed", "2"])
    }

    /// A simulated cluster of this shape and speed.
    pub fn with_twin_of(shape: &[&str]) -> Self {
        let mut scenario = Self::new();
        let mut command = scenario.command(&["twin", "up", "--dir"]);
        command.arg(scenario.path("twin")).args(shape);
        let mut twin = Process::spawn(command);
        twin.wait_for("the twin is up");
        fs::copy(scenario.path("twin/cluster.ron"), scenario.path("cluster.ron")).unwrap();
        scenario.twin = Some(twin);
        scenario
    }

    /// Puts a file into the directory.
    pub fn file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        fs::write(self.path(name), text).unwrap();
        self
    }

    /// Changes the cluster file's text.
    pub fn cluster(self, change: impl FnOnce(String) -> String) -> Self {
        let text = fs::read_to_string(self.path("cluster.ron")).unwrap();
        fs::write(self.path("cluster.ron"), change(text)).unwrap();
        self
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs the binary to its end.
    pub fn rke2flow(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(self.command(arguments))
    }

    /// Runs the binary to its end with these environment variables.
    pub fn rke2flow_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Outcome {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied());
        Outcome::of(command)
    }

    /// Starts the binary.
    pub fn start(&self, arguments: &[&str]) -> Process {
        Process::spawn(self.command(arguments))
    }

    /// Starts the binary with these environment variables.
    pub fn start_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Process {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied());
        Process::spawn(command)
    }

    /// The only run of the state directory.
    pub fn only_run(&self) -> String {
        let runs: Value = serde_json::from_str(&self.rke2flow(&["runs", "-o", "json"]).stdout).unwrap();
        let runs = runs["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs[0]["run"].as_str().unwrap().to_owned()
    }

    /// The status of a run.
    pub fn status(&self, run: &str) -> Value {
        serde_json::from_str(&self.rke2flow(&["status", run, "-o", "json"]).stdout).unwrap()
    }

    /// The records of a run, as they are on disk.
    pub fn records(&self, run: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path("state/runs").join(run).join("journal.ndjson")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What the twin itself answers.
    pub fn ask_twin(&self, ask: Ask, with: Value) -> Value {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let remote = Remote::of(&self.path("twin")).unwrap();
        runtime.block_on(remote.ask(ask, with)).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rke2flow"));
        command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null());
        command.env("RKE2FLOW_STATE_DIR", self.path("state")).env("NO_COLOR", "1").env("HOME", self.directory.path());
        for inherited in ["RKE2FLOW_CLUSTER", "TRACEPARENT", "OTEL_EXPORTER_OTLP_ENDPOINT", "SSH_AUTH_SOCK", "RUST_LOG"]
        {
            command.env_remove(inherited);
        }
        command
    }
}

impl Outcome {
    fn of(mut command: Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts the exit code, and shows everything when it is another one.
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that standard error has this text.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no {text:?} in:\n{}", self.stderr);
        self
    }

    /// Asserts that standard output has this text.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "no {text:?} in:\n{}", self.stdout);
        self
    }
}

impl Process {
    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads standard output until a line has this text.
    pub fn wait_for(&mut self, text: &str) -> String {
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            if line.contains(text) {
                return line;
            }
        }
        panic!("the process ended without {text:?}");
    }

    /// Reads so many lines of standard output. Whether the process went on that long.
    pub fn reads(&mut self, lines: usize) -> bool {
        self.lines.by_ref().take(lines).map(Result::unwrap).count() == lines
    }

    /// Reads standard output until a line has this text. Whether one came.
    pub fn reads_until(&mut self, text: &str) -> bool {
        self.lines.by_ref().any(|line| line.unwrap().contains(text))
    }

    /// Kills it as `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal: `INT`, `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end and returns its exit code.
    pub fn end(mut self) -> Option<i32> {
        for line in self.lines.by_ref() {
            drop(line);
        }
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already, or ended by this.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The path as text.
pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
