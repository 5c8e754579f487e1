//! `rke2flow` as an operator types it: to its end, or under way.

use std::fs::File;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a command may take. A rollback of three servers has a budget of fifteen minutes.
const DEADLINE: Duration = Duration::from_secs(15 * 60);
const TICK: Duration = Duration::from_millis(10);

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    /// Runs a command to its end.
    #[track_caller]
    pub fn of(mut command: Command) -> Self {
        let (started, shown) = (Instant::now(), format!("{command:?}"));
        let said = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
        command.stdout(said[0].try_clone().unwrap()).stderr(said[1].try_clone().unwrap());
        let mut child = command.spawn().unwrap();
        let code = await_end(&mut child, &shown);
        let [stdout, stderr] = said.map(read_again);
        Self { code, stdout, stderr, took: started.elapsed() }
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
}

/// A command that is under way, whose records are read as they come. Killed when the test ends.
pub struct Engine {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    errors: File,
}

impl Engine {
    /// Starts a command with `-o json`.
    pub fn start(mut command: Command) -> Self {
        let errors = tempfile::tempfile().unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(errors.try_clone().unwrap()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, errors }
    }

    /// Reads so many records. Whether it went on that long.
    pub fn reads(&mut self, records: usize) -> bool {
        self.lines.by_ref().take(records).map(Result::unwrap).count() == records
    }

    /// Reads records until one has both texts.
    #[track_caller]
    pub fn await_record(&mut self, kind: &str, text: &str) {
        let kind = format!("\"kind\":\"{kind}\"");
        let found = self.lines.by_ref().map(Result::unwrap).any(|line| line.contains(&kind) && line.contains(text));
        assert!(found, "the engine ended without a {kind} of {text}:\n{}", self.errors());
    }

    /// Kills it as `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ends_with(mut self, code: i32) {
        for line in self.lines.by_ref() {
            drop(line);
        }
        let ended = await_end(&mut self.child, "the engine");
        assert_eq!(ended, Some(code), "{}", self.errors());
    }

    /// Its standard error so far.
    fn errors(&self) -> String {
        read_again(self.errors.try_clone().unwrap())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Ended already, or ended by this.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn await_end(child: &mut Child, what: &str) -> Option<i32> {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() >= until {
            child.kill().unwrap();
            panic!("{what} had not ended after {} s", DEADLINE.as_secs());
        }
        std::thread::sleep(TICK);
    }
}

fn read_again(mut file: File) -> String {
    use std::io::{Read as _, Seek as _};
    let mut text = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}
