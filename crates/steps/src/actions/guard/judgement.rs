//! A judgement: what became of one check, with what was seen and what to do.

use std::fmt;

use serde::Serialize;

use super::check::{Check, Ill, Level, Seen};

/// What became of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The check.
    pub check: Check,
    /// How it ended.
    pub outcome: Outcome,
    /// What was seen, with the names of hosts and objects.
    pub observed: String,
    /// What a person does next; empty when nothing is wrong.
    pub fix: String,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It stands in the way.
    Fail,
    /// It would stand in the way, and a person passes over it.
    Waived,
    /// It is told, and stops nothing.
    Warn,
    /// Nothing is wrong.
    Pass,
}

impl Judgement {
    /// What a check says of what it saw: its worst finding decides.
    pub(super) fn of(check: Check, seen: Seen) -> Self {
        let Seen { well, ills } = seen;
        let outcome = match ills.iter().map(|ill| ill.level).max() {
            None => return Self { check, outcome: Outcome::Pass, observed: well, fix: String::new() },
            Some(Level::Refuse) => Outcome::Fail,
            Some(Level::Warn) => Outcome::Warn,
        };
        let mut fixes: Vec<&str> = Vec::new();
        for Ill { fix, .. } in &ills {
            if !fixes.contains(&fix.as_str()) {
                fixes.push(fix);
            }
        }
        let observed = ills.iter().map(|ill| ill.what.as_str()).collect::<Vec<_>>().join("; ");
        let fix = fixes.join("; ");
        Self { check, outcome, observed, fix }
    }

    /// The same, passed over if it stands in the way.
    pub(super) fn waived(self) -> Self {
        let outcome = if self.outcome == Outcome::Fail { Outcome::Waived } else { self.outcome };
        Self { outcome, ..self }
    }

    /// Several in the order in which people read them: what stands in the way first, and all that passes in one line.
    pub fn text(judgements: &[Judgement]) -> String {
        let mut told: Vec<&Judgement> = judgements.iter().filter(|one| one.outcome != Outcome::Pass).collect();
        told.sort_by_key(|one| one.outcome);
        let mut lines: Vec<String> = told.iter().map(|one| one.explained()).collect();
        let passed: Vec<&str> =
            judgements.iter().filter(|one| one.outcome == Outcome::Pass).map(|one| one.check.name()).collect();
        if !passed.is_empty() {
            lines.push(format!("PASS {}", passed.join(", ")));
        }
        lines.join("\n")
    }

    /// With its reason, its fix and its source, each on a line of its own.
    pub fn explained(&self) -> String {
        let (check, observed, fix) = (self.check, &self.observed, &self.fix);
        let (word, reason, source) = (self.outcome.word(), check.reason(), check.source());
        format!("{word} {check}: {observed}\n  why: {reason} ({source})\n  fix: {fix}")
    }
}

/// On one line.
impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.outcome.word(), self.check, self.observed)?;
        if self.fix.is_empty() { Ok(()) } else { write!(f, " (fix: {})", self.fix) }
    }
}

impl Outcome {
    /// As people read it.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Fail => "FAIL",
            Outcome::Waived => "WAIVED",
            Outcome::Warn => "WARN",
            Outcome::Pass => "PASS",
        }
    }
}
