//! Many hosts: the run takes as long as the longest way through its plan, and the engine adds nothing to it.

use std::collections::HashMap;
use std::time::Duration;

use rke2flow_engine::cluster::Role;
use rke2flow_engine::id::HostName;
use rke2flow_engine::plan::{Forecast, HostEntry, Plan};
use rke2flow_engine::record::{Event, Record, Verdict};
use rke2flow_engine::report::{Report, SegmentKind, WaitKind};
use rke2flow_engine::run::Outcome;
use serde_json::json;

use crate::world::{Scenario, act, after, doing, on, plan, step};

const AGENTS: usize = 200;
const AT_ONCE: usize = 20;

/// Agents so many at once; each takes a time of its own in each of three actions.
fn rolling() -> Plan {
    let names: Vec<String> = (0..AGENTS).map(|agent| format!("agent-{agent}")).collect();
    let hosts: Vec<&str> = names.iter().map(String::as_str).collect();
    let actions =
        ["cordon", "restart", "uncordon"].map(|mark| act("Make", json!({"mark": mark, "takes": 5, "spread": 40})));
    let roll = after(doing(on("agents", &hosts, AT_ONCE), actions.to_vec()), &[0]);
    let mut plan = plan(vec![step("before"), roll, after(step("behind"), &[1])]);
    let entry = |name: &&str| HostEntry {
        name: HostName::new(*name).unwrap(),
        address: String::new(),
        role: Role::Agent,
        lost: false,
    };
    plan.hosts = hosts.iter().map(entry).collect();
    plan
}

/// What each instance took, from the beginning of its attempt to its end.
fn took(records: &[Record]) -> HashMap<String, Duration> {
    let mut began = HashMap::new();
    let mut took = HashMap::new();
    for record in records {
        match &record.event {
            Event::AttemptStarted { instance, .. } => {
                began.insert(instance.clone(), record.at);
            }
            Event::Settled { instance, .. } => {
                let seconds = record.at.duration_since(began[instance]);
                took.insert(instance.to_string(), Duration::try_from(seconds).unwrap());
            }
            _ => {}
        }
    }
    took
}

#[tokio::test(start_paused = true)]
async fn two_hundred_hosts_twenty_at_once_take_as_long_as_the_longest_way_through_their_plan() {
    let scenario = Scenario::new();
    assert_eq!(scenario.drive(rolling()).await.unwrap(), Outcome::Closed(Verdict::Succeeded));
    assert_eq!(scenario.world.most_together(), AT_ONCE);
    let (records, plan) = (scenario.records(), rolling());
    let took = took(&records);
    let instances = plan.instances();
    let name = |step, target, position| {
        let is = |it: &&rke2flow_engine::plan::Instance| (it.step, it.target, it.position) == (step, target, position);
        instances.iter().find(is).unwrap().id.to_string()
    };
    let longest = Forecast::with(&plan, &|slot| took[&name(slot.step, slot.target, slot.position)]).unwrap();
    let report = Report::of(&records).unwrap();
    let longest = longest.total.get().as_secs_f64();
    assert!((report.seconds - longest).abs() <= 0.05 * longest, "{} against {longest}", report.seconds);
    let is_engine = |kind: &SegmentKind| matches!(kind, SegmentKind::Wait { wait: WaitKind::Engine, .. });
    let engine = report.critical_path.iter().filter(|segment| is_engine(&segment.kind));
    let waited: f64 = engine.map(|segment| segment.seconds).sum();
    assert!(waited <= 0.01 * report.seconds, "{waited} s of {}", report.seconds);
}
