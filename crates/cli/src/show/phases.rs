//! The phases of a run against their budgets, as they are shown when an engine stops and by `status`.

use std::time::Duration;

use rke2flow_engine::report::{BudgetVerdict, Report};

use super::{Colour, minutes};

/// What took longer than it may: phases, and the outage as a whole.
pub fn over_budget(report: &Report) -> Vec<String> {
    let is_over = |verdict: BudgetVerdict| verdict == BudgetVerdict::Over;
    let phases = report.phases.iter().filter(|phase| is_over(phase.verdict)).map(|phase| phase.id.to_string());
    let recovery =
        report.recovery.as_ref().filter(|recovery| is_over(recovery.verdict)).map(|_| "the outage".to_owned());
    phases.chain(recovery).collect()
}

/// A table: phase, time, budget, verdict; the outage last.
pub fn table(report: &Report, colour: Colour) -> String {
    let recovery = report
        .recovery
        .as_ref()
        .map(|recovery| ("outage".to_owned(), recovery.seconds, recovery.budget_seconds, recovery.verdict));
    let phases =
        report.phases.iter().map(|phase| (phase.id.to_string(), phase.seconds, phase.budget_seconds, phase.verdict));
    let rows = phases.chain(recovery).map(|(name, seconds, budget, verdict)| {
        let took = if verdict == BudgetVerdict::NotBegun { "-".to_owned() } else { time(seconds) };
        vec![name, took, budget.map_or_else(|| "-".to_owned(), time), words(verdict, colour)]
    });
    super::table(&["PHASE", "TIME", "BUDGET", ""], rows)
}

fn words(verdict: BudgetVerdict, colour: Colour) -> String {
    match verdict {
        BudgetVerdict::NotBegun => colour.faint("not begun"),
        BudgetVerdict::Open => "goes on".to_owned(),
        BudgetVerdict::NoBudget => String::new(),
        BudgetVerdict::Within => colour.good("within budget"),
        BudgetVerdict::Over => colour.warn("over budget"),
    }
}

fn time(seconds: f64) -> String {
    minutes(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}
