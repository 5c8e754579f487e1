//! What must hold for any graph: nothing starts before what it needs, and everything is applied before it settles and
//! never after.

use std::collections::HashMap;

use proptest::prelude::*;
use rke2flow_engine::plan::{LastPlan, NeedPlan, OnFailure, Plan, StepPlan};
use rke2flow_engine::record::{Event, Record, Verdict};
use rke2flow_engine::run::Outcome;
use serde_json::json;

use crate::world::{Scenario, act, doing, on, plan};

const HOSTS: [&str; 4] = ["h1", "h2", "h3", "h4"];

/// A step: a subset of hosts, a width, needs among the steps before it, what its action does.
type Drawn = (u8, usize, Vec<(prop::sample::Index, bool)>, u8, u8, Option<prop::sample::Index>);

/// The host that a step names as the one that goes last.
fn named_last(index: usize) -> &'static str {
    HOSTS[index % HOSTS.len()]
}

fn drawn_plan(drawn: &[Drawn], finish: bool) -> Plan {
    let mut steps: Vec<StepPlan> = Vec::new();
    for (index, (hosts, width, needs, takes, fails, last)) in drawn.iter().enumerate() {
        let hosts: Vec<&str> =
            HOSTS.iter().enumerate().filter(|(at, _)| hosts & (1 << at) != 0).map(|(_, host)| *host).collect();
        let id = format!("s{index}");
        let action = |part: &str| {
            act(
                "Make",
                json!({"mark": format!("{id}{part}"), "takes": takes, "fails": fails, "fact": named_last(index)}),
            )
        };
        let step = doing(on(&id, &hosts, *width), vec![action("a"), action("b")]);
        // A step before it that has one target says who goes last.
        let source =
            last.filter(|_| index > 0).map(|last| last.index(index)).filter(|&at| steps[at].targets.len() == 1);
        let last = source.map(|step| LastPlan { step, fact: "fact".to_owned() });
        let needs = needs.iter().filter(|_| index > 0).map(|(at, same_host)| match same_host {
            true => NeedPlan::SameHost(vec![at.index(index)]),
            false => NeedPlan::All(at.index(index)),
        });
        let needs = needs.chain(source.map(NeedPlan::All)).collect();
        steps.push(StepPlan { needs, last, ..step });
    }
    let mut plan = plan(steps);
    plan.on_failure = if finish { OnFailure::Finish } else { OnFailure::Hold };
    plan
}

/// Position of the first attempt and of the end of every instance.
fn extents(records: &[Record]) -> (HashMap<String, usize>, HashMap<String, usize>) {
    let (mut begun, mut ended) = (HashMap::new(), HashMap::new());
    for (at, record) in records.iter().enumerate() {
        match &record.event {
            Event::AttemptStarted { instance, .. } => {
                begun.entry(instance.to_string()).or_insert(at);
            }
            Event::Settled { instance, .. } => {
                ended.insert(instance.to_string(), at);
            }
            _ => {}
        }
    }
    (begun, ended)
}

fn check(plan: &Plan, records: &[Record]) {
    let (begun, ended) = extents(records);
    let first = |step: &StepPlan, host: &str| format!("{}/Make@{host}", step.id);
    let last = |step: &StepPlan, host: &str| format!("{}/Make.2@{host}", step.id);
    for step in &plan.steps {
        for target in &step.targets {
            let host = target.to_string();
            let start = begun[&first(step, &host)];
            for need in &step.needs {
                let (before, same_host) = match need {
                    NeedPlan::All(before) => (&plan.steps[*before], false),
                    NeedPlan::SameHost(before) => (&plan.steps[before[0]], true),
                };
                for other in before.targets.iter().filter(|other| !same_host || *other == target) {
                    assert!(ended[&last(before, &other.to_string())] < start, "{} began before {}", step.id, before.id);
                }
            }
            if step.last.as_ref().is_some_and(|last| named_last(last.step) == host) {
                let others = step.targets.iter().filter(|other| *other != target);
                others.for_each(|other| assert!(ended[&last(step, &other.to_string())] < start, "{host} was not last"));
            }
            assert!(begun[&last(step, &host)] > ended[&first(step, &host)], "a sequence ran out of order");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_graph_runs_in_order_each_apply_at_least_once_and_never_after_it_settled(
        drawn in prop::collection::vec(
            (0u8..16, 1usize..5, prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..3), 0u8..4, 0u8..3,
                prop::option::of(any::<prop::sample::Index>())),
            1..12,
        ),
        finish in any::<bool>(),
    ) {
        let plan = drawn_plan(&drawn, finish);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let scenario = Scenario::new();
        let outcome = runtime.block_on(scenario.drive(plan.clone())).unwrap();
        prop_assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
        check(&plan, &scenario.records());
        let targets: usize = plan.steps.iter().map(|step| step.targets.len()).sum();
        prop_assert_eq!(scenario.world.marks().len(), 2 * targets);
        prop_assert!(scenario.world.marks().values().all(|times| *times == 1), "applied after it had settled");
    }
}
