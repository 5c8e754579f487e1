//! What runs on each host of a run that stopped halfway: as its journal proves it, and as the hosts tell it now.

use std::collections::BTreeMap;
use std::time::Duration;

use rke2flow_engine::clock::Clock;
use rke2flow_engine::plan::Plan;
use rke2flow_engine::record::{Event, Record};
use rke2flow_steps::ports::Access;
use rke2flow_steps::versions;
use serde::Serialize;

/// How long hosts are asked after a run has stopped.
const ASK_LIMIT: Duration = Duration::from_secs(30);

/// What a run has done about one host's version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "version")]
pub enum Proved {
    /// The run has seen it run this version.
    Runs(String),
    /// A change of its version was begun, and what runs is not proved.
    Begun,
    /// The run has not touched its version.
    Untouched,
}

/// What the journal proves of each host whose version the run changes, in the plan's order; empty: it changes none.
pub fn proved(plan: &Plan, records: &[Record]) -> Vec<(String, Proved)> {
    let mut seen: BTreeMap<&str, Proved> = BTreeMap::new();
    for record in records {
        match &record.event {
            Event::ApplyStarted { instance, .. } if changes_version(action_of(instance.as_str())) => {
                seen.insert(host_of(instance.as_str()), Proved::Begun);
            }
            Event::Settled { instance, facts, .. } if action_of(instance.as_str()) == "RunningVersion" => {
                if let Some(version) = facts.get("version").and_then(|version| version.as_str()) {
                    seen.insert(host_of(instance.as_str()), Proved::Runs(version.to_owned()));
                }
            }
            _ => {}
        }
    }
    let changing = plan.steps.iter().filter(|step| step.actions.iter().any(|action| changes_version(&action.name)));
    let mut hosts: Vec<String> = Vec::new();
    for target in changing.filter(|step| step.always.is_none()).flat_map(|step| &step.targets) {
        let host = target.to_string();
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    let state = |host: &String| seen.get(host.as_str()).cloned().unwrap_or(Proved::Untouched);
    hosts.iter().map(|host| (host.clone(), state(host))).collect()
}

/// The same in few lines; empty when the run has not begun to change a version.
pub fn lines(plan: &Plan, records: &[Record]) -> Vec<String> {
    let proved = proved(plan, records);
    if proved.iter().all(|(_, state)| *state == Proved::Untouched) {
        return Vec::new();
    }
    let mut lines: Vec<(Proved, Vec<String>)> = Vec::new();
    for (host, state) in proved {
        match lines.iter_mut().find(|(known, _)| *known == state) {
            Some((_, hosts)) => hosts.push(host),
            None => lines.push((state, vec![host])),
        }
    }
    let told = |state: &Proved| match state {
        Proved::Runs(version) => format!("runs {version}"),
        Proved::Begun => "its version was being changed, and what runs is not proved".to_owned(),
        Proved::Untouched => "not touched yet".to_owned(),
    };
    lines.iter().map(|(state, hosts)| format!("{}: {}", hosts.join(", "), told(state))).collect()
}

/// What the hosts tell now, when the run has begun to change versions; what the journal proves, when they do not answer.
pub async fn now(access: &Access, plan: &Plan, records: &[Record]) -> Vec<String> {
    let known = lines(plan, records);
    if known.is_empty() {
        return known;
    }
    let clock = Clock::real();
    tokio::select! {
        told = versions::running(access) => told,
        () = clock.sleep(ASK_LIMIT) => known,
    }
}

/// Whether the run has put a recovery point on a server.
pub fn has_point(records: &[Record]) -> bool {
    let is_point = |record: &Record| match &record.event {
        Event::Settled { instance, .. } => action_of(instance.as_str()) == "RecordPoint",
        _ => false,
    };
    records.iter().any(is_point)
}

fn changes_version(action: &str) -> bool {
    matches!(action, "InstallVersion" | "RestartUnit")
}

/// `RunningVersion` of `servers/RunningVersion.2@server-0`, and of the check `servers/RunningVersion?@server-0`.
fn action_of(instance: &str) -> &str {
    let action = instance.split('@').next().and_then(|step| step.split('/').nth(1)).unwrap_or_default();
    action.split(['.', '?']).next().unwrap_or_default()
}

fn host_of(instance: &str) -> &str {
    instance.split('@').nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_names_its_action_and_its_host() {
        for instance in ["s/RunningVersion@server-0", "s/RunningVersion.2@server-0", "s/RunningVersion?@server-0"] {
            assert_eq!((action_of(instance), host_of(instance)), ("RunningVersion", "server-0"));
        }
    }
}
