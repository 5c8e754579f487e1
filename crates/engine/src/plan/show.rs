//! A plan for people and programs, before anything was looked at: what runs where, in which order, how long.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Always, Forecast, NeedPlan, PhaseClock, Plan, StepPlan};
use crate::cluster::Topology;
use crate::duration::Span;
use crate::id::{PhaseId, Target};

/// The name and version of the JSON form.
pub const PLAN_SCHEMA: &str = "rke2flow.dev/plan/v1";

/// As JSON, with its forecast.
pub fn json(plan: &Plan, forecast: &Forecast) -> Value {
    json!({ "schema": PLAN_SCHEMA, "plan": plan, "forecast": forecast })
}

/// As text: phases in order, each with its steps in an order in which they can run.
pub fn text(plan: &Plan, forecast: &Forecast) -> String {
    let mut out = String::new();
    let topology = match plan.topology {
        Topology::Ha => "several servers",
        Topology::Single => "one server",
    };
    let hosts = plan.hosts.iter().filter(|host| !host.lost).count();
    line(&mut out, format_args!("{} on {}: {hosts} hosts, {topology}", plan.runbook, plan.cluster));
    for host in plan.hosts.iter().filter(|host| host.lost) {
        line(&mut out, format_args!("  {} is declared lost and is in no step", host.name));
    }
    line(&mut out, format_args!("{}", forecast_line(plan, forecast)));
    let order = plan.graph().map(|graph| graph.order().to_vec()).unwrap_or_default();
    for (index, phase) in plan.phases.iter().enumerate() {
        let steps: Vec<&StepPlan> = order.iter().map(|&step| &plan.steps[step]).filter(|s| s.phase == index).collect();
        if steps.is_empty() {
            continue;
        }
        let budget = phase.budget.map(|budget| format!(", budget {budget}")).unwrap_or_default();
        let of = |phases: &[(PhaseId, Span)]| phases.get(index).map(|(_, expected)| *expected).unwrap_or_default();
        let late = forecast.p90.as_ref().map(|late| of(&late.phases));
        let expected = expected(of(&forecast.phases), late);
        let round = phase.round.as_ref().map(|round| format!(", {round}")).unwrap_or_default();
        line(&mut out, format_args!("\n{} ({:?}{budget}), forecast {expected}{round}", phase.id, phase.clock));
        for step in steps {
            write_step(&mut out, plan, step);
        }
    }
    if !forecast.critical_path.is_empty() {
        line(&mut out, format_args!("\nthe longest way: {}", longest_way(forecast)));
    }
    out
}

/// The forecast in one line: `forecast 12m (p90 15m), of it outage 3m (p90 4m), budget 15m; measured in 4 runs`.
pub fn forecast_line(plan: &Plan, forecast: &Forecast) -> String {
    let late = forecast.p90.as_ref();
    let total = expected(forecast.total, late.map(|late| late.total));
    let outage = match plan.phases.iter().any(|phase| phase.clock == PhaseClock::Outage) {
        true => format!(", of it outage {}", expected(forecast.outage, late.map(|late| late.outage))),
        false => String::new(),
    };
    let budget = plan.budget.map(|budget| format!(", budget {budget}")).unwrap_or_default();
    format!("forecast {total}{outage}{budget}; {}", forecast.basis.words())
}

/// What something takes in half of the cases, and in nine of ten.
pub fn expected(p50: Span, p90: Option<Span>) -> String {
    match p90 {
        Some(p90) => format!("{} (p90 {})", readable(p50), readable(p90)),
        None => readable(p50).to_string(),
    }
}

/// Whole seconds from ten seconds on.
fn readable(span: Span) -> Span {
    let seconds = span.get().as_secs_f64();
    if seconds >= 10.0 { Span::from_secs(seconds.round() as u64) } else { span }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a String cannot fail");
}

fn write_step(out: &mut String, plan: &Plan, step: &StepPlan) {
    let places = match (&step.left_out, step.targets.as_slice()) {
        (Some(why), _) => format!("left out: {why}"),
        (None, []) => "no hosts".to_owned(),
        (None, [only]) => only.to_string(),
        (None, targets) => format!("{}, {}", hosts_of(targets), at_once(step)),
    };
    line(out, format_args!("  {:<18} {places}", step.id.as_str()));
    if step.targets.is_empty() {
        return;
    }
    for check in &step.done_when {
        line(out, format_args!("    done when {}", call(&check.name, &check.fields)));
    }
    for action in &step.actions {
        line(out, format_args!("    {}", call(&action.name, &action.fields)));
    }
    let needs: Vec<String> = step.needs.iter().map(|need| need_text(plan, need)).collect();
    if !needs.is_empty() {
        line(out, format_args!("    after {}", needs.join(", ")));
    }
    if let Some(last) = &step.last {
        line(out, format_args!("    last the host that ${{fact.{}.{}}} names", plan.steps[last.step].id, last.fact));
    }
    if let Some(why) = &step.irreversible {
        line(out, format_args!("    cannot be undone: {why}"));
    }
    if let Some(limit) = step.best_effort {
        line(out, format_args!("    best effort, at most {limit}"));
    }
    match step.always {
        None => {}
        Some(Always::OnClose) => line(out, format_args!("    also runs when the run is closed in another way")),
        Some(Always::OnAbort) => line(out, format_args!("    runs only when the run is aborted, to take that back")),
    }
}

fn need_text(plan: &Plan, need: &NeedPlan) -> String {
    let name = |step: &usize| plan.steps[*step].id.to_string();
    match need {
        NeedPlan::All(step) => name(step),
        NeedPlan::SameHost(steps) => {
            format!("the same host's {}", steps.iter().map(name).collect::<Vec<_>>().join(" or "))
        }
    }
}

/// How many hosts are named before the rest is counted.
const HOSTS_NAMED_MAX: usize = 8;

fn hosts_of(targets: &[Target]) -> String {
    let named: Vec<String> = targets.iter().take(HOSTS_NAMED_MAX).map(Target::to_string).collect();
    match targets.len().saturating_sub(HOSTS_NAMED_MAX) {
        0 => named.join(" "),
        more => format!("{} and {more} more", named.join(" ")),
    }
}

fn at_once(step: &StepPlan) -> String {
    match step.hosts_at_once {
        1 => "one after the other".to_owned(),
        all if all >= step.targets.len() => "all at once".to_owned(),
        some => format!("{some} at once"),
    }
}

fn call(name: &str, fields: &Value) -> String {
    let fields: Vec<String> =
        fields.as_object().into_iter().flatten().map(|(field, value)| format!("{field}: {value}")).collect();
    format!("{name}({})", fields.join(", "))
}

/// How many legs of the critical path are named.
const LEGS_NAMED_MAX: usize = 40;

fn longest_way(forecast: &Forecast) -> String {
    let legs = forecast.critical_path.iter().take(LEGS_NAMED_MAX);
    let mut named: Vec<String> = legs.map(|leg| format!("{}@{} {}", leg.step, leg.target, leg.takes)).collect();
    let more = forecast.critical_path.len().saturating_sub(LEGS_NAMED_MAX);
    if more > 0 {
        named.push(format!("({more} more)"));
    }
    named.join(" → ")
}

/// As a graph for Graphviz: a box per phase, a node per step; dashed edges are those of the same host.
pub fn dot(plan: &Plan) -> String {
    let mut out = String::new();
    line(&mut out, format_args!("digraph {} {{\n  rankdir=LR;\n  node [shape=box];", quoted(&plan.runbook)));
    for (index, phase) in plan.phases.iter().enumerate() {
        let budget = phase.budget.map(|budget| format!(" ({budget})")).unwrap_or_default();
        let round = phase.round.as_ref().map(|round| format!("\n{round}")).unwrap_or_default();
        let label = format!("{}{budget}{round}", phase.id);
        line(&mut out, format_args!("  subgraph cluster_{index} {{\n    label={};", quoted(&label)));
        for step in plan.steps.iter().filter(|step| step.phase == index) {
            write_node(&mut out, step);
        }
        line(&mut out, format_args!("  }}"));
    }
    for step in &plan.steps {
        for need in &step.needs {
            let style = match need {
                NeedPlan::All(_) => "",
                NeedPlan::SameHost(_) => " [style=dashed]",
            };
            for &before in need.steps() {
                let (from, to) = (quoted(plan.steps[before].id.as_str()), quoted(step.id.as_str()));
                line(&mut out, format_args!("  {from} -> {to}{style};"));
            }
        }
    }
    out.push_str("}\n");
    out
}

fn write_node(out: &mut String, step: &StepPlan) {
    let actions: Vec<&str> = step.actions.iter().map(|action| action.name.as_str()).collect();
    let places = match step.targets.as_slice() {
        [] => "left out".to_owned(),
        [only] => only.to_string(),
        targets => format!("{} hosts, {}", targets.len(), at_once(step)),
    };
    let label = format!("{}\n{}\n{places}", step.id, actions.join(", "));
    let style = if step.targets.is_empty() { ", style=dotted" } else { "" };
    line(out, format_args!("    {} [label={}{style}];", quoted(step.id.as_str()), quoted(&label)));
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
