//! The times to recover of a cluster whose history is known.

use serde_json::json;

use super::*;
use crate::history::ENTRY_VERSION;
use crate::id::HostName;

/// A rollback: its day in January, seconds of the outage and of its phases, and how the run ended.
struct Rollback {
    day: u32,
    seconds: f64,
    gate: f64,
    gap: f64,
    verdict: Verdict,
}

fn rollback(day: u32, seconds: f64) -> Rollback {
    Rollback { day, seconds, gate: 0.0, gap: 0.0, verdict: Verdict::Succeeded }
}

fn at(day: u32) -> jiff::Timestamp {
    format!("2026-01-{day:02}T03:12:00Z").parse().unwrap()
}

fn judged(seconds: f64, budget: f64) -> BudgetVerdict {
    if seconds > budget { BudgetVerdict::Over } else { BudgetVerdict::Within }
}

impl Rollback {
    fn entry(self) -> Entry {
        let started_at = at(self.day);
        let recovery = Recovery {
            started_at,
            ended_at: (self.verdict == Verdict::Succeeded).then_some(started_at),
            seconds: self.seconds,
            budget_seconds: Some(900.0),
            verdict: judged(self.seconds, 900.0),
            gap_seconds: self.gap,
            gate_seconds: self.gate,
            pause_seconds: 0.0,
        };
        let phase = |id: &str, clock, share: f64, budget: f64| {
            let seconds = self.seconds * share;
            json!({"id": id, "clock": clock, "seconds": seconds, "budget_seconds": budget, "verdict": judged(seconds, budget)})
        };
        let phases = json!([
            phase("prepare", "Before", 0.5, 300.0),
            phase("cluster-reset", "Outage", 0.25, 200.0),
            phase("rejoin", "Outage", 0.6, 500.0),
        ]);
        Entry {
            recovery: Some(recovery),
            phases: serde_json::from_value(phases).unwrap(),
            verdict: self.verdict,
            ..run("rollback", self.day)
        }
    }
}

fn run(runbook: &str, day: u32) -> Entry {
    Entry {
        v: ENTRY_VERSION,
        run: RunId::new(format!("2601{day:02}-0312-aaaa")).unwrap(),
        cluster: "production".to_owned(),
        servers: vec![Server { name: HostName::new("server-0").unwrap(), address: "10.0.0.10".to_owned() }],
        runbook: runbook.to_owned(),
        topology: Topology::Ha,
        rehearsal: None,
        opened_at: at(day),
        ended_at: at(day),
        verdict: Verdict::Succeeded,
        seconds: 1000.0,
        recovery: None,
        phases: Vec::new(),
        took: Default::default(),
    }
}

fn kept(entries: Vec<Entry>) -> Kept {
    Kept { entries, notes: Vec::new() }
}

/// Five recoveries, the newer ones faster; one that was aborted; an upgrade; two rehearsals, one of them of a rollback.
fn history() -> Kept {
    let mut rehearsal = rollback(9, 1.0).entry();
    rehearsal.rehearsal = Some(60);
    kept(vec![
        rollback(1, 1000.0).entry(),
        Rollback { gate: 100.0, ..rollback(2, 850.0) }.entry(),
        run("upgrade", 3),
        Rollback { verdict: Verdict::Aborted, ..rollback(4, 5000.0) }.entry(),
        rollback(5, 620.0).entry(),
        Rollback { gap: 42.0, ..rollback(6, 700.0) }.entry(),
        rollback(7, 655.5).entry(),
        Entry { rehearsal: Some(1), ..run("upgrade", 8) },
        rehearsal,
    ])
}

#[test]
fn outages_are_told_one_by_one_and_together() {
    insta::assert_snapshot!(Mttr::of(&history(), None, 10).to_text());
}

#[test]
fn the_same_in_markdown() {
    insta::assert_snapshot!(Mttr::of(&history(), None, 2).to_markdown());
}

#[test]
fn the_same_for_programs() {
    insta::assert_json_snapshot!(Mttr::of(&history(), Some("production"), 1));
}

#[test]
fn only_recoveries_that_succeeded_on_a_real_cluster_are_counted() {
    let mttr = Mttr::of(&history(), None, 10);
    let rollbacks = &mttr.clusters[0].runbooks[0];
    assert_eq!((rollbacks.recovered, rollbacks.median_seconds, rollbacks.p90_seconds), (5, Some(700.0), Some(1000.0)));
    assert_eq!(rollbacks.outages.len(), 6);
    assert_eq!((mttr.clusters[0].rehearsals, mttr.clusters[0].without_outage), (2, 1));
}

#[test]
fn a_trend_needs_four_recoveries() {
    let of = |days: u32| {
        let entries = (1..=days).map(|day| rollback(day, f64::from(100 * day)).entry()).collect();
        Mttr::of(&kept(entries), None, 10).clusters[0].runbooks[0].trend
    };
    assert_eq!(of(3), None);
    assert_eq!(of(5), Some(Trend { earlier_seconds: 100.0, lately_seconds: 400.0 }));
}

#[test]
fn a_cluster_that_had_no_outage_says_so() {
    assert_eq!(
        Mttr::of(&kept(vec![run("upgrade", 1)]), None, 10).to_text(),
        "production (server-0 at 10.0.0.10)\n\nno run that has ended here had an outage\n\nnot counted: 1 run without an outage, 0 rehearsals\n"
    );
    assert_eq!(Mttr::of(&history(), Some("elsewhere"), 10).clusters, []);
}
