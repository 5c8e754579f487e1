//! Programs that the lab runs: each with a deadline, and with bounds on what it may say.

use std::io::{Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// What is kept of an output.
const OUTPUT_BYTES_MAX: usize = 16 << 20;
/// How often a program is asked whether it has ended.
const TICK: Duration = Duration::from_millis(2);
/// How long an output may stay open after its program has ended: whoever it left behind may hold it for ever.
const DRAIN: Duration = Duration::from_millis(300);

/// What a program said and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.status == Some(0)
    }
}

/// Why a program did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Not started.
    #[error("cannot run `{command}`: {source}")]
    Start {
        /// What was run.
        command: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Ended, but not with 0.
    #[error("`{command}` ended with {}: {}", status.map_or("a signal".to_owned(), |status| status.to_string()), said(stdout, stderr))]
    Failed {
        /// What was run.
        command: String,
        /// Its exit status.
        status: Option<i32>,
        /// What it said.
        stdout: String,
        /// See `stdout`.
        stderr: String,
    },
    /// Not ended in time; killed.
    #[error("`{command}` had not ended after {} s and was killed; it had said: {said}", seconds.as_secs())]
    Deadline {
        /// What was run.
        command: String,
        /// How long it had.
        seconds: Duration,
        /// What it said until then.
        said: String,
    },
}

/// Runs a program to its end, whatever its status.
pub fn run(command: &mut Command, input: &[u8], deadline: Duration) -> Result<Output, CommandError> {
    let shown = show(command);
    let started = |source| CommandError::Start { command: shown.clone(), source };
    // A process group of its own: what a deadline kills are its children too.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(started)?;
    let (stdout, stderr) = (Captured::from(child.stdout.take()), Captured::from(child.stderr.take()));
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A program that does not read its input is no failure of ours.
        std::thread::spawn(move || _ = stdin.write_all(&input));
    }
    let until = Instant::now() + deadline;
    let status = loop {
        match child.try_wait().map_err(started)? {
            Some(status) => break status,
            None if Instant::now() >= until => {
                kill(&mut child);
                let said = stdout.text() + &stderr.text();
                return Err(CommandError::Deadline { command: shown, seconds: deadline, said });
            }
            None => std::thread::sleep(TICK),
        }
    };
    let until = Instant::now() + DRAIN;
    while !(stdout.ended() && stderr.ended()) && Instant::now() < until {
        std::thread::sleep(TICK);
    }
    Ok(Output { status: status.code(), stdout: stdout.text(), stderr: stderr.text() })
}

/// Runs a program that must end with 0, and returns its standard output.
pub fn must(command: &mut Command, input: &[u8], deadline: Duration) -> Result<String, CommandError> {
    let output = run(command, input, deadline)?;
    if output.success() {
        return Ok(output.stdout);
    }
    let Output { status, stdout, stderr } = output;
    Err(CommandError::Failed { command: show(command), status, stdout, stderr })
}

fn said(stdout: &str, stderr: &str) -> String {
    let said: Vec<_> = [stderr.trim(), stdout.trim()].into_iter().filter(|text| !text.is_empty()).collect();
    said.join("\n")
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy().chars().take(200).collect::<String>()).collect();
    words.join(" ")
}

fn kill(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended meanwhile: then there is nobody to kill.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

/// What a pipe has said so far.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<(Vec<u8>, bool)>>);

impl Captured {
    fn from(pipe: Option<impl Read + Send + 'static>) -> Self {
        let captured = Self::default();
        let (writer, Some(mut pipe)) = (captured.clone(), pipe) else { return captured };
        std::thread::spawn(move || {
            let mut chunk = [0; 16 << 10];
            while let Ok(length) = pipe.read(&mut chunk) {
                let mut inner = writer.0.lock().unwrap_or_else(PoisonError::into_inner);
                let room = OUTPUT_BYTES_MAX - inner.0.len();
                inner.0.extend_from_slice(&chunk[..length.min(room)]);
                if length == 0 {
                    break;
                }
            }
            writer.0.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        });
        captured
    }

    fn ended(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner).0).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children_and_its_words_are_kept() {
        let began = Instant::now();
        let error = run(&mut sh("echo begun; sleep 77 & sleep 77"), b"", Duration::from_millis(300)).unwrap_err();
        assert!(error.to_string().contains("begun"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn whoever_keeps_the_output_open_does_not_hold_us_up() {
        let output = run(&mut sh("sleep 3 & echo done; exit 7"), b"", Duration::from_secs(60)).unwrap();
        assert_eq!(output, Output { status: Some(7), stdout: "done\n".to_owned(), stderr: String::new() });
    }

    #[test]
    fn what_is_said_on_failure_is_in_the_message() {
        let error = must(&mut sh("cat; echo bad >&2; exit 3"), b"in ", Duration::from_secs(60)).unwrap_err();
        assert!(error.to_string().ends_with("ended with 3: bad\nin"), "{error}");
    }
}
