//! How a command ends: the exit code, and the three parts that a person reads when it did not work.

use std::fmt;
use std::process::ExitCode;

/// What the exit code of the process says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It is done, over budget too.
    Done = 0,
    /// A step failed, or health or the twin found something.
    Failed = 1,
    /// Bad input or usage: nothing was started.
    BadInput = 2,
    /// Stopped and resumable; also a gate without a terminal.
    Stopped = 3,
    /// A guard, an unreachable host or a host key refused.
    Refused = 4,
    /// Another operator holds the cluster, or another engine the run.
    Held = 5,
    /// `plan --exit-code`: something would run.
    WouldRun = 6,
    /// `run --fail-over-budget`: done, but not in time.
    OverBudget = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a command did not do what was asked: what failed, what was observed, the next command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The code to end with.
    pub exit: Exit,
    /// What failed.
    pub what: String,
    /// What was observed; may have several lines.
    pub observed: String,
    /// What to do next: commands, one per line.
    pub next: String,
}

impl Problem {
    /// A problem that ends with this code.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), observed: String::new(), next: String::new() }
    }

    /// Bad input or usage.
    pub fn bad_input(what: impl Into<String>) -> Self {
        Self::new(Exit::BadInput, what)
    }

    /// Adds what was observed.
    #[must_use]
    pub fn observed(mut self, observed: impl fmt::Display) -> Self {
        self.observed = observed.to_string();
        self
    }

    /// Adds the next command.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for line in self.observed.lines() {
            write!(f, "\n  {line}")?;
        }
        for (index, line) in self.next.lines().enumerate() {
            write!(f, "\n{} {line}", if index == 0 { "next:" } else { "     " })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// What every command returns.
pub type Outcome = Result<Exit, Problem>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_in_three_parts() {
        let problem = Problem::new(Exit::Refused, "cannot reach 2 hosts")
            .observed("server-1: connection refused\nagent-0: timed out")
            .next("rke2flow doctor");
        insta::assert_snapshot!(problem, @r"
        cannot reach 2 hosts
          server-1: connection refused
          agent-0: timed out
        next: rke2flow doctor
        ");
    }
}
