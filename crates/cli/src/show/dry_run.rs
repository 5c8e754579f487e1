//! A dry run for people: what would happen, step by step and host by host, and what could not be undone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use rke2flow_engine::id::Target;
use rke2flow_engine::plan::{self, Forecast, Plan};

use super::{Colour, blast};
use crate::blast::BlastRadius;
use crate::probing::{Finding, Verdict};

/// As a Graphviz graph, steps with nothing to do in grey.
pub fn dot(plan: &Plan, findings: &[Finding]) -> String {
    let acts: BTreeSet<usize> =
        findings.iter().filter(|finding| finding.verdict != Verdict::Done).map(|finding| finding.step).collect();
    let graph = plan::dot(plan);
    let Some(end) = graph.rfind('}') else { return graph };
    let done = (0..plan.steps.len()).filter(|step| !acts.contains(step));
    let greyed: String =
        done.map(|step| format!("  \"{}\" [color=gray, fontcolor=gray];\n", plan.steps[step].id)).collect();
    format!("{}{greyed}{}", &graph[..end], &graph[end..])
}

/// As text: phases in order; findings that are alike are told once, with their hosts.
pub fn text(plan: &Plan, forecast: &Forecast, findings: &[Finding], radius: &BlastRadius, colour: Colour) -> String {
    let mut out = format!("{} on {}\n", plan.runbook, plan.cluster);
    let order = plan.graph().map(|graph| graph.order().to_vec()).unwrap_or_default();
    for (index, phase) in plan.phases.iter().enumerate() {
        let steps: Vec<usize> = order.iter().copied().filter(|&step| plan.steps[step].phase == index).collect();
        if steps.is_empty() {
            continue;
        }
        let budget = phase.budget.map(|budget| format!(", budget {budget}")).unwrap_or_default();
        let round = phase.round.as_ref().map(|round| format!(", {round}")).unwrap_or_default();
        push(&mut out, format_args!("\n{} ({:?}{budget}){round}", phase.id, phase.clock));
        for step in steps {
            write_step(&mut out, plan, step, findings, colour);
        }
    }
    write_summary(&mut out, plan, forecast, findings);
    blast::lines(radius, colour).iter().for_each(|line| push(&mut out, format_args!("{line}")));
    out
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a String cannot fail");
}

fn write_step(out: &mut String, plan: &Plan, step: usize, findings: &[Finding], colour: Colour) {
    let planned = &plan.steps[step];
    let note = match (&planned.left_out, &planned.irreversible) {
        (Some(why), _) => format!(" (left out: {why})"),
        (None, Some(why)) => format!(" (cannot be undone: {why})"),
        (None, None) if planned.takes_back() => " (only when the run is aborted)".to_owned(),
        (None, None) if planned.targets.is_empty() => " (no hosts)".to_owned(),
        (None, None) => String::new(),
    };
    push(out, format_args!("  {}{note}", planned.id));
    for (action, verdict, why, targets) in alike(step, findings) {
        let words = match verdict {
            Verdict::Done => colour.good("done"),
            Verdict::WouldRun | Verdict::WouldWait | Verdict::WouldAsk => colour.warn(verdict.words()),
            Verdict::WouldRefuse | Verdict::CannotTell => colour.bad(verdict.words()),
            Verdict::KnownAfter => colour.faint(verdict.words()),
        };
        let why = match (verdict, why.as_str()) {
            (_, "") => String::new(),
            (Verdict::KnownAfter, step) if step == planned.id.as_str() => " what comes before it".to_owned(),
            (Verdict::KnownAfter, step) => format!(" {step}"),
            (_, why) => format!(": {}", why.replace('\n', WHY_INDENT)),
        };
        let names: Vec<String> = targets.iter().map(ToString::to_string).collect();
        push(out, format_args!("    {action:<18} {}: {words}{why}", names.join(" ")));
    }
}

/// Where the further lines of a reason begin.
const WHY_INDENT: &str = "\n        ";

type Alike = (String, Verdict, String, Vec<Target>);

/// Findings of a step, action by action; hosts about which the same is said are together.
fn alike(step: usize, findings: &[Finding]) -> Vec<Alike> {
    let mut groups: Vec<Alike> = Vec::new();
    let mut order: BTreeMap<String, usize> = BTreeMap::new();
    for finding in findings.iter().filter(|finding| finding.step == step) {
        let action = finding.instance.as_str().split(['/', '@']).nth(1).unwrap_or(&finding.action).to_owned();
        let next = order.len();
        order.entry(action.clone()).or_insert(next);
        let same = |group: &&mut Alike| group.0 == action && group.1 == finding.verdict && group.2 == finding.why;
        match groups.iter_mut().find(same) {
            Some(group) => group.3.push(finding.target.clone()),
            None => groups.push((action, finding.verdict, finding.why.clone(), vec![finding.target.clone()])),
        }
    }
    groups.sort_by_key(|group| order[&group.0]);
    groups
}

fn write_summary(out: &mut String, plan: &Plan, forecast: &Forecast, findings: &[Finding]) {
    let count = |verdict: Verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let all = [
        Verdict::Done,
        Verdict::WouldRun,
        Verdict::WouldWait,
        Verdict::WouldAsk,
        Verdict::KnownAfter,
        Verdict::WouldRefuse,
        Verdict::CannotTell,
    ];
    let counted: Vec<String> = all
        .into_iter()
        .filter(|verdict| count(*verdict) > 0)
        .map(|verdict| format!("{} {}", count(verdict), verdict.words()))
        .collect();
    push(out, format_args!("\n{}", counted.join(", ")));
    let acting = |finding: &&Finding| matches!(finding.verdict, Verdict::WouldRun | Verdict::KnownAfter);
    let hosts: BTreeSet<String> =
        findings.iter().filter(acting).filter_map(|finding| finding.target.host().map(ToString::to_string)).collect();
    if findings.iter().all(|finding| finding.verdict == Verdict::Done) {
        push(out, format_args!("all is done: a run would change nothing"));
        return;
    }
    let names: Vec<String> = hosts.into_iter().collect();
    let touched = if names.is_empty() { "no host".to_owned() } else { names.join(" ") };
    push(out, format_args!("would touch: {touched}"));
    let acts: BTreeSet<usize> = findings.iter().filter(acting).map(|finding| finding.step).collect();
    for step in acts {
        if let Some(why) = &plan.steps[step].irreversible {
            push(out, format_args!("will not be rolled back: {}: {why}", plan.steps[step].id));
        }
    }
    push(out, format_args!("{}", plan::forecast_line(plan, forecast)));
}
