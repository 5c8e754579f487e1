//! `kill -9` from outside, at moments of chance and at every kind of record: each time `resume` brings the run to its
//! end, the twin saw nothing that must not happen, and no unit was started twice.
//!
//! `RKE2FLOW_KILLS` says how many kills of chance per runbook, `RKE2FLOW_SEED` repeats those of an earlier run.

use std::collections::BTreeMap;
use std::time::Duration;

use rke2flow_twin::serve::Ask;
use serde_json::{Value, json};

use crate::scenario::{Process, Scenario};

/// Kills per runbook, unless `RKE2FLOW_KILLS` says otherwise.
const KILLS: usize = 4;

/// The most records between the start of an engine and its death; a run has about 400.
const RECORDS_MAX: u64 = 90;

/// The longest that a killer waits after the last of those records: longer than most waits of an engine, so that it
/// dies in the middle of them as well.
const PAUSE_MAX_MS: u64 = 150;

/// Numbers of chance that a seed repeats (SplitMix64).
struct Chance(u64);

impl Chance {
    fn new(salt: u64) -> Self {
        let given = std::env::var("RKE2FLOW_SEED").ok();
        let seed = given.map_or_else(|| u64::from(std::process::id()), |seed| seed.parse().unwrap());
        eprintln!("RKE2FLOW_SEED={seed}");
        Self(seed ^ salt)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// A cluster on which runs are killed, and what they had written last each time.
struct Killing {
    scenario: Scenario,
    /// The option that new runs are started with.
    consent: &'static str,
    last_kinds: BTreeMap<String, usize>,
}

impl Killing {
    fn new(shape: &[&str]) -> Self {
        let scenario = Scenario::with_twin_of(&[&["--speed", "100"], shape].concat());
        let killing = Self { scenario, consent: "--yes", last_kinds: BTreeMap::new() };
        killing.write("before");
        killing
    }

    /// The application writes something that the twin will look for.
    fn write(&self, when: &str) {
        let body = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("written-{when}-the-upgrade"), "namespace": "default"},
            "data": {"when": when},
        });
        self.scenario.ask_twin(
            Ask::Write,
            json!({"method": "POST", "path": "/api/v1/namespaces/default/configmaps", "body": body}),
        );
    }

    /// Starts the run, or goes on with the one that was killed.
    fn engine(&self, runbook: &str) -> Process {
        match self.open_run() {
            None => self.scenario.start(&["run", runbook, self.consent, "-o", "json"]),
            Some(run) => self.scenario.start(&["resume", &run, "-o", "json"]),
        }
    }

    /// The newest run, unless it is closed.
    fn open_run(&self) -> Option<String> {
        let runs: Value = serde_json::from_str(&self.scenario.rke2flow(&["runs", "-o", "json"]).stdout).unwrap();
        let open = |run: &&Value| !["succeeded", "aborted", "superseded"].contains(&run["state"].as_str().unwrap());
        runs["runs"].as_array().unwrap().iter().find(open).map(|run| run["run"].as_str().unwrap().to_owned())
    }

    /// Drives the run until a record of this kind is durable, and kills the engine there and then.
    fn kill_at(&mut self, runbook: &str, kind: &str) {
        let mut engine = self.engine(runbook);
        assert!(engine.reads_until(&format!("\"kind\":\"{kind}\"")), "no {kind} after {:?}", self.last_kinds);
        engine.kill();
        self.count_last_kind();
    }

    /// Asks something of the run that is open.
    fn says(&self, arguments: &[&str]) {
        let run = self.open_run().unwrap();
        self.scenario.rke2flow(&[&arguments[..1], &[run.as_str()], &arguments[1..]].concat()).ends_with(0);
    }

    /// What the run that was just killed had on disk last.
    fn count_last_kind(&mut self) {
        let last = match self.open_run() {
            None => "before or after the run".to_owned(),
            Some(run) => {
                let path = self.scenario.path("state/runs").join(run).join("journal.ndjson");
                let text = std::fs::read_to_string(path).unwrap();
                let kind = |line: &str| Some(serde_json::from_str::<Value>(line).ok()?["kind"].as_str()?.to_owned());
                text.lines().filter_map(kind).next_back().unwrap_or_else(|| "nothing".to_owned())
            }
        };
        *self.last_kinds.entry(last).or_default() += 1;
    }

    /// Goes on to the end, and asks the twin what it saw.
    fn end(&self) {
        if let Some(run) = self.open_run() {
            self.scenario.rke2flow(&["resume", &run]).ends_with(0).says("succeeded");
        }
        let violations = self.scenario.ask_twin(Ask::Judge, Value::Null);
        assert_eq!(violations, json!([]), "killed after {:?}", self.last_kinds);
        let mut started: BTreeMap<(String, String), usize> = BTreeMap::new();
        for entry in self.scenario.ask_twin(Ask::Log, Value::Null).as_array().unwrap() {
            if entry["what"].as_str().unwrap().starts_with("start ") {
                *started.entry((entry["host"].to_string(), entry["unit"].to_string())).or_default() += 1;
            }
        }
        assert!(started.len() > 20, "the twin does not note which units start: {started:?}");
        let twice: Vec<_> = started.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }
}

/// Kills runs of a runbook at moments of chance, on as many clusters as it takes.
fn killed_at_random(runbook: &str, prepare: impl Fn(&Killing), salt: u64) {
    let mut left = std::env::var("RKE2FLOW_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let mut chance = Chance::new(salt);
    let mut last_kinds: BTreeMap<String, usize> = BTreeMap::new();
    while left > 0 {
        let mut killing = Killing::new(&[]);
        prepare(&killing);
        while left > 0 {
            let mut engine = killing.engine(runbook);
            let records = chance.below(RECORDS_MAX) as usize;
            if !engine.reads(records) {
                assert_eq!(engine.end(), Some(0));
                break;
            }
            std::thread::sleep(Duration::from_millis(chance.below(PAUSE_MAX_MS)));
            engine.kill();
            left -= 1;
            killing.count_last_kind();
        }
        killing.end();
        for (kind, times) in killing.last_kinds {
            *last_kinds.entry(kind).or_default() += times;
        }
    }
    eprintln!("last record at the kills of {runbook}: {last_kinds:?}");
}

fn upgraded_and_written_to(killing: &Killing) {
    killing.scenario.rke2flow(&["run", "upgrade", "--yes"]).ends_with(0);
    killing.write("after");
}

#[test]
fn an_upgrade_that_is_killed_at_random_moments_ends_well_and_repeats_nothing() {
    killed_at_random("upgrade", |_| (), 1);
}

#[test]
fn a_rollback_that_is_killed_at_random_moments_ends_well_and_repeats_nothing() {
    killed_at_random("rollback", upgraded_and_written_to, 2);
}

#[test]
fn a_rollback_that_is_killed_at_every_kind_of_record_ends_well_and_repeats_nothing() {
    let fails = r#"UnitFails(host: None, change: "ClusterReset", stage: 2, times: 2)"#;
    let mut killing = Killing::new(&["--fault", fails]);
    killing.kill_at("upgrade", "Skipped");
    killing.scenario.rke2flow(&["resume"]).ends_with(0);
    killing.write("after");

    // No consent beforehand: the run stops at its gates.
    killing.consent = "--waive=disk_free=checked by hand";
    for kind in ["EngineStarted", "ClaimTaken", "AttemptStarted", "Probed", "GateOpened"] {
        killing.kill_at("rollback", kind);
    }
    killing.says(&["pause", "--reason", "look first"]);
    killing.kill_at("rollback", "Paused");
    killing.kill_at("rollback", "Continued");
    killing.says(&["approve", "consent"]);
    killing.kill_at("rollback", "CommandReceived");
    for kind in ["ApplyStarted", "ApplyEnded", "Settled", "AttemptFailed", "RetryScheduled", "EngineStopped"] {
        killing.kill_at("rollback", kind);
    }
    killing.says(&["approve", "start-0"]);
    for kind in ["GateDecided", "PhaseEntered", "PhaseLeft", "RunClosed"] {
        killing.kill_at("rollback", kind);
    }
    killing.end();
    eprintln!("last record at kills by kind: {:?}", killing.last_kinds);
}
