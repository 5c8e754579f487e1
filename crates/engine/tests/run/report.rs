//! What a report says about a run.

use rke2flow_engine::duration::Span;
use rke2flow_engine::plan::{Plan, StepPlan};
use rke2flow_engine::report::{BudgetVerdict, Report, Reporter, SegmentKind, WaitKind, spans};
use rke2flow_engine::run::Gates;
use serde_json::json;

use crate::world::{Scenario, act, after, doing, new_run, on, plan, step};

/// Ten seconds of preparation, then an outage: two hosts for 30 s each, a failed attempt with 5 s of backoff.
fn outage() -> Plan {
    let prepare = doing(step("prepare"), vec![act("Make", json!({"mark": "p", "takes": 10}))]);
    let stop = StepPlan {
        phase: 1,
        ..after(doing(on("stop", &["h1", "h2"], 1), vec![act("Make", json!({"mark": "s", "takes": 30}))]), &[0])
    };
    let start = doing(step("start"), vec![act("Make", json!({"mark": "t", "takes": 2, "fails": 1}))]);
    let start = StepPlan { phase: 1, ..after(start, &[1]) };
    let mut plan = plan(vec![prepare, stop, start]);
    plan.budget = Some(Span::from_secs(60));
    plan.phases[0].budget = Some(Span::from_secs(60));
    plan.phases[1].budget = Some(Span::from_secs(65));
    plan
}

#[tokio::test(start_paused = true)]
async fn phases_and_the_time_to_recover_are_measured_against_their_budgets() {
    let scenario = Scenario::new();
    scenario.drive(outage()).await.unwrap();
    let report = Report::of(&scenario.records()).unwrap();
    assert_eq!(report.phases[0].verdict, BudgetVerdict::Within);
    assert_eq!(report.phases[0].seconds.round(), 10.0);
    // Backoff is not an attempt: it counts for the recovery, not for the phase.
    assert_eq!((report.phases[1].seconds.round(), report.phases[1].verdict), (64.0, BudgetVerdict::Within));
    let recovery = report.recovery.as_ref().unwrap();
    assert_eq!((recovery.seconds.round(), recovery.verdict), (69.0, BudgetVerdict::Over));
    assert!(report.is_over_budget());
    insta::with_settings!({ filters => vec![(r"run 261122\S+:", "run RUN:")] }, {
        insta::assert_snapshot!(report.to_text());
    });
    assert!(report.to_markdown().contains("| outage | outage | 1m 4s | 1m 5s | within budget |"));
}

#[tokio::test(start_paused = true)]
async fn the_critical_path_adds_up_to_the_wall_time() {
    let scenario = Scenario::new();
    scenario.drive(outage()).await.unwrap();
    let report = Report::of(&scenario.records()).unwrap();
    let total: f64 = report.critical_path.iter().map(|segment| segment.seconds).sum();
    assert!((total - report.seconds).abs() <= 0.02 * report.seconds, "{total} of {}", report.seconds);
    let backoff: f64 = report
        .critical_path
        .iter()
        .filter(|segment| matches!(segment.kind, SegmentKind::Wait { wait: WaitKind::Backoff, .. }))
        .map(|segment| segment.seconds)
        .sum();
    assert_eq!(backoff.round(), 5.0, "{:?}", report.critical_path);
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_is_shown_in_cluster_time_and_says_so() {
    let scenario = Scenario::new();
    let mut new = new_run(outage());
    new.opened.speed = 50;
    let clock = rke2flow_engine::clock::Clock::with_speed(50);
    let journal = rke2flow_engine::journal::MemoryJournal::open(scenario.disk.clone());
    let run = rke2flow_engine::run::Run::begin(Box::new(journal), new, &clock).unwrap();
    let world = std::sync::Arc::new(scenario.world.clone());
    rke2flow_engine::run::Engine::new(run, world, clock).gates(Gates::Yes).drive().await.unwrap();
    let report = Report::of(&scenario.records()).unwrap();
    assert!(report.to_text().contains("(rehearsal ×50)"));
    let outage = report.phases[1].seconds;
    assert!((63.0..67.0).contains(&outage), "{outage}");
}

#[tokio::test(start_paused = true)]
async fn spans_of_a_run_have_the_same_ids_whoever_makes_them() {
    let scenario = Scenario::new();
    scenario.drive(outage()).await.unwrap();
    let make = || {
        let mut reporter = Reporter::default();
        scenario.records().iter().for_each(|record| reporter.push(record).unwrap());
        let (_, replayed, timeline) = reporter.finish().unwrap();
        spans(&replayed, &timeline)
    };
    let spans = make();
    assert_eq!(spans, make());
    let ids: std::collections::HashSet<_> = spans.iter().map(|span| span.span_id).collect();
    assert_eq!(ids.len(), spans.len());
    assert!(spans.iter().skip(1).all(|span| ids.contains(&span.parent.unwrap())));
    // The run, two phases, three steps, one attempt for each of three targets and one more for the failure.
    assert_eq!(spans.len(), 1 + 2 + 3 + 5);
}
