//! The one record type: what is on disk, what is shown, what state is folded from, what a report is made of.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod command;
mod wire;

pub use command::Command;
pub use wire::RecordError;

use crate::action::{Applied, Failure};
use crate::cluster::Topology;
use crate::id::{InstanceId, PhaseId, RunId, UnitName};
use crate::value::Facts;

/// The version of the record format. A reader refuses a higher one.
pub const RECORD_VERSION: u32 = 1;

/// The longest line of a journal, in bytes, newline included. Longer texts live in files of their own.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// One line of `journal.ndjson`. Its keys are always written in the order of the fields, the last one as `kind` and `data`.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// [`RECORD_VERSION`].
    pub v: u32,
    /// Position in the journal, from 0, without gaps.
    pub seq: u64,
    /// Wall clock when it was made.
    pub at: Timestamp,
    /// Which boot of the operator's machine `mono_ms` counts from.
    pub boot: String,
    /// Monotonic milliseconds since that boot; wall time, not cluster time.
    pub mono_ms: u64,
    /// The run.
    pub run: RunId,
    /// The number of the claim under which it was made; 0 before there is one.
    pub claim: u64,
    /// The hash of the line before: the first 32 hex digits of its SHA-256, newline excluded; empty in the first.
    pub prev: String,
    /// What happened.
    pub event: Event,
}

/// What happened. In past tense; kinds and fields are added, never renamed or used again.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub enum Event {
    /// The first record.
    RunOpened(RunOpened),
    /// A piece of the runbook's or the cluster file's text, so that resuming needs no other file.
    SourceChunk {
        /// Which text.
        source: SourceKind,
        /// Position of this piece, from 0.
        index: u32,
        /// How many pieces there are.
        of: u32,
        /// The piece; at most 24 KiB.
        text: String,
    },
    /// A piece of the plan's JSON.
    PlanChunk {
        /// Position of this piece, from 0.
        index: u32,
        /// How many pieces there are.
        of: u32,
        /// The piece; at most 24 KiB.
        text: String,
    },
    /// The right to act was taken, or taken again.
    ClaimTaken {
        /// The claim's number.
        number: u64,
        /// Who holds it.
        holder: String,
    },
    /// An engine took up the run: the first one, or one that resumes.
    EngineStarted {
        /// Process id.
        pid: u32,
        /// The operator's machine.
        machine: String,
        /// Version of rke2flow.
        version: String,
        /// How many times faster than life.
        speed: u32,
        /// Wall milliseconds since the record before; 0 at the first start.
        gap_ms: u64,
    },
    /// A phase's first instance started.
    PhaseEntered {
        /// The phase.
        phase: PhaseId,
    },
    /// A phase's last instance ended.
    PhaseLeft {
        /// The phase.
        phase: PhaseId,
    },
    /// An attempt began.
    AttemptStarted {
        /// The instance.
        instance: InstanceId,
        /// From 1.
        attempt: u32,
    },
    /// The first look of an attempt, or of a resumed one.
    Probed {
        /// The instance.
        instance: InstanceId,
        /// The attempt.
        attempt: u32,
        /// What was seen.
        verdict: ProbeVerdict,
        /// Why, in one line.
        why: String,
    },
    /// Durable before the first change.
    ApplyStarted {
        /// The instance.
        instance: InstanceId,
        /// The attempt.
        attempt: u32,
        /// The unit that the change runs as, if it runs detached.
        unit: UnitName,
        /// SHA-256 of the action's fields with values in place.
        inputs: String,
    },
    /// The change was made; the goal is not proved yet.
    ApplyEnded {
        /// The instance.
        instance: InstanceId,
        /// The attempt.
        attempt: u32,
        /// What was done.
        applied: Applied,
    },
    /// The goal holds.
    Settled {
        /// The instance.
        instance: InstanceId,
        /// The attempt.
        attempt: u32,
        /// What later steps may use.
        facts: Facts,
    },
    /// The attempt failed.
    AttemptFailed {
        /// The instance.
        instance: InstanceId,
        /// The attempt.
        attempt: u32,
        /// Why.
        failure: Failure,
        /// Digest of the output's file in `out/`, when there is one.
        #[serde(default)]
        output: Option<String>,
    },
    /// Another attempt follows.
    RetryScheduled {
        /// The instance.
        instance: InstanceId,
        /// The attempt that follows.
        attempt: u32,
        /// Not before.
        at: Timestamp,
        /// Whether a person asked for it.
        by: Cause,
    },
    /// The instance will not run.
    Skipped {
        /// The instance.
        instance: InstanceId,
        /// Why.
        why: String,
        /// Who decided.
        by: Cause,
    },
    /// A guard that refuses is passed over.
    Waived {
        /// The guard.
        guard: String,
        /// Why.
        reason: String,
        /// Who.
        who: String,
    },
    /// A person's consent is needed.
    GateOpened {
        /// The instance.
        instance: InstanceId,
        /// What is asked.
        show: String,
    },
    /// A person decided.
    GateDecided {
        /// The instance.
        instance: InstanceId,
        /// Yes or no.
        approved: bool,
        /// Who, and how.
        who: String,
        /// Why, when it was said.
        #[serde(default)]
        reason: String,
    },
    /// A command was taken from the inbox.
    CommandReceived {
        /// The file's name.
        id: String,
        /// What was asked.
        command: Command,
    },
    /// The run has failed, and a person is asked whether it is to be rolled back.
    RollbackOffered {
        /// What is asked.
        show: String,
    },
    /// A person decided.
    RollbackDecided {
        /// Yes or no.
        approved: bool,
        /// Who, and how.
        who: String,
        /// Why, when it was said.
        #[serde(default)]
        reason: String,
    },
    /// The run that rolls this one back is about to be created. The last one counts.
    RollbackBegan {
        /// That run; its first record names this one.
        run: RunId,
    },
    /// Nothing new is started.
    Paused {
        /// Who, and why.
        why: String,
    },
    /// Work goes on.
    Continued {
        /// Who, and why.
        why: String,
    },
    /// The engine stopped with the run open.
    EngineStopped {
        /// Why.
        why: String,
    },
    /// The last record.
    RunClosed {
        /// How it ended.
        verdict: Verdict,
        /// One line about it.
        why: String,
    },
}

/// The first record's contents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunOpened {
    /// Version of rke2flow.
    pub tool: String,
    /// The runbook: name, where from, SHA-256 of its text.
    pub runbook: Source,
    /// The cluster file: name, where from, SHA-256 of its text.
    pub cluster: Source,
    /// Parameters with their values.
    pub params: BTreeMap<String, Value>,
    /// Revision of every action used.
    pub revisions: BTreeMap<String, u32>,
    /// One server or several.
    pub topology: Topology,
    /// How many times faster than life.
    pub speed: u32,
    /// `alice@laptop`.
    pub who: String,
    /// Hosts that the operator declared lost.
    #[serde(default)]
    pub lost: Vec<crate::id::HostName>,
    /// Whether `--yes` answers gates.
    #[serde(default)]
    pub yes: bool,
    /// The run that this one rolls back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<RunId>,
    /// Whether a person consented beforehand to a rollback, should the run fail.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rollback: bool,
    /// The caller's `TRACEPARENT`, when there was one: the run is a part of that trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_parent: Option<String>,
}

/// Where a text came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The name in it.
    pub name: String,
    /// A path, or `embedded`.
    pub origin: String,
    /// SHA-256 of the text, hex.
    pub digest: String,
}

/// Which text a [`Event::SourceChunk`] is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceKind {
    /// The runbook.
    Runbook,
    /// The cluster file, with paths made absolute.
    Cluster,
}

/// What a probe said, without its facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeVerdict {
    /// The goal holds.
    Satisfied,
    /// It does not.
    Pending,
    /// On its way.
    InProgress,
    /// Neither before nor after.
    Refused,
}

/// Who or what caused something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The engine, by the runbook's rules.
    Engine,
    /// A person.
    Person(String),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Every step is done.
    Succeeded,
    /// Given up on request; what it had on hosts was taken down.
    Aborted,
    /// A later run took its place, such as the rollback of an upgrade.
    Superseded {
        /// That run.
        by: RunId,
    },
}
