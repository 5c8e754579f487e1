//! Hosts that are declared lost, and hosts that an earlier run has gone on without.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rke2flow_engine::id::HostName;
use rke2flow_engine::plan::Plan;
use rke2flow_steps::access::ssh::HostReport;
use rke2flow_steps::answer::LostMark;
use rke2flow_steps::catalogue;
use rke2flow_steps::ports::AccessError;

use crate::exit::{Exit, Problem};
use crate::world::Checked;

/// What every host that answers remembers of lost ones.
pub fn marks(checked: &[Checked]) -> Vec<LostMark> {
    let mut marks: Vec<LostMark> = checked
        .iter()
        .filter_map(|(_, answer)| answer.as_ref().ok())
        .flat_map(|report| report.survey.lost.clone())
        .collect();
    // The newest word of each host is told.
    marks.sort_by(|one, other| (&one.host, other.since).cmp(&(&other.host, one.since)));
    marks.dedup_by(|one, other| one.host == other.host);
    marks
}

/// Refuses when a host that is declared lost answers: it runs the old control plane, or workloads of it.
pub fn must_be_gone(of_lost: &[Checked]) -> Result<(), Problem> {
    let is_there = |answer: &Result<HostReport, AccessError>| !matches!(answer, Err(AccessError::Unreachable { .. }));
    let back: Vec<&str> =
        of_lost.iter().filter(|(_, answer)| is_there(answer)).map(|(host, _)| host.as_str()).collect();
    if back.is_empty() {
        return Ok(());
    }
    let names = back.join(", ");
    Err(Problem::new(Exit::Refused, format!("{names} is declared lost and answers, nothing was changed"))
        .observed("what runs there would be a second control plane, or workloads of one")
        .next(format!(
            "leave `--lost {}` away, and it takes part\npower it off or cut it off, when it must not   (then the same again)",
            back.join(",")
        )))
}

/// Refuses hosts that the cluster has gone on without, until a run cleans them. A plan that only looks may look.
pub fn must_be_clean(alive: &[HostName], marks: &[LostMark], plan: &Plan) -> Result<(), Problem> {
    let cleaned = cleaned_by(plan);
    let stale: Vec<&LostMark> = marks
        .iter()
        .filter(|mark| !cleaned.contains(mark.host.as_str()) && alive.iter().any(|host| host.as_str() == mark.host))
        .collect();
    if stale.is_empty() || !changes(plan) {
        return Ok(());
    }
    let told = stale.iter().map(|mark| {
        let since = Timestamp::from_second(mark.since).map_or_else(|_| "unknown".to_owned(), |at| at.to_string());
        format!(
            "{}: run {} went on without it at {since}; what it has on disk is of the time before",
            mark.host, mark.run
        )
    });
    let names: Vec<&str> = stale.iter().map(|mark| mark.host.as_str()).collect();
    let what = format!("{} was lost and has not been cleaned since, nothing was changed", names.join(", "));
    Err(Problem::new(Exit::Refused, what).observed(told.collect::<Vec<_>>().join("\n")).next(format!(
        "rke2flow run rejoin --set host={}\nrke2flow … --lost {0}   (when it is to stay away: power it off first)",
        names.join(",")
    )))
}

/// The hosts that a plan makes the others forget as lost.
fn cleaned_by(plan: &Plan) -> BTreeSet<&str> {
    let actions = plan.steps.iter().flat_map(|step| &step.actions).filter(|action| action.name == "ForgetLost");
    actions.filter_map(|action| action.fields["hosts"].as_array()).flatten().filter_map(|host| host.as_str()).collect()
}

fn changes(plan: &Plan) -> bool {
    let mut actions = plan.steps.iter().filter(|step| !step.targets.is_empty()).flat_map(|step| &step.actions);
    actions.any(|action| catalogue::info(&action.name).is_none_or(|info| info.changes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(host: &str, run: &str, since: i64) -> LostMark {
        LostMark { host: host.to_owned(), run: run.to_owned(), since }
    }

    #[test]
    fn the_newest_word_of_a_host_is_told() {
        let report = |lost: Vec<LostMark>| {
            let survey = rke2flow_steps::answer::Survey { lost, ..Default::default() };
            let report =
                HostReport { host_key: String::new(), origin: String::new(), took: std::time::Duration::ZERO, survey };
            (HostName::new("server-1").unwrap(), Ok(report))
        };
        let checked = [report(vec![mark("server-0", "old", 1)]), report(vec![mark("server-0", "new", 2)])];
        assert_eq!(marks(&checked), [mark("server-0", "new", 2)]);
    }
}
