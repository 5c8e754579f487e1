//! What can be wrong with the steps that only an abort runs.

use super::check::Names;
use super::{Always, Problems, Runbook, Step};
use crate::diagnostic::Diagnostic;
use crate::plan::OnFailure;
use crate::state::ROLLBACK_GATE;

/// Checks that each step on abort says what it takes back, that nothing waits for one in vain, and that their phases
/// are their own, so that a phase ends when its own steps are done.
pub(super) fn check<A>(runbook: &Runbook<A>, names: &Names<'_>, problems: &mut Problems) {
    check_rollback(runbook, problems);
    let takes_back = |step: &Step<A>| step.always == Some(Always::OnAbort);
    for step in &runbook.steps {
        let needed = step.needs.iter().flat_map(|need| need.steps());
        let needed: Vec<_> = needed.filter_map(|name| Some((name, names.steps.get(name.as_str())?))).collect();
        let forward = needed.iter().any(|(_, index)| runbook.steps[**index].always.is_none());
        if takes_back(step) && !forward {
            let message = format!("step `{}` runs on an abort, and does not say what it takes back", step.id);
            let help = "name in `needs` the steps that it undoes: it runs where they have begun";
            problems.add(step.id.mark, Diagnostic::error(message).help(help));
        }
        for (name, index) in needed {
            let before = &runbook.steps[*index];
            if takes_back(before) && !takes_back(step) {
                let message = format!("step `{}` waits for `{name}`, which runs only on an abort", step.id);
                problems.add(name.mark, Diagnostic::error(message));
            }
        }
        let mixed = runbook.steps.iter().find(|other| *other.phase == *step.phase && !takes_back(other));
        if let Some(other) = mixed.filter(|_| takes_back(step)) {
            let message = format!(
                "phase `{}` has step `{}`, which runs on an abort, and `{}`, which does not",
                step.phase, step.id, other.id
            );
            problems
                .add(step.phase.mark, Diagnostic::error(message).help("give what runs on an abort a phase of its own"));
        }
    }
}

/// What `on_failure: Rollback` cannot mean.
fn check_rollback<A>(runbook: &Runbook<A>, problems: &mut Problems) {
    if runbook.on_failure != OnFailure::Rollback {
        return;
    }
    if runbook.supersedes {
        let message = "`on_failure: Rollback` in a runbook that takes the place of another run".to_owned();
        let help = "a rollback is not rolled back: it goes on, or is aborted while there is a way back";
        problems.add(runbook.name.mark, Diagnostic::error(message).help(help));
    }
    for step in runbook.steps.iter().filter(|step| step.id.as_str() == ROLLBACK_GATE) {
        let message = format!("`{ROLLBACK_GATE}` is the gate of `on_failure: Rollback`, and no step can have its name");
        problems.add(step.id.mark, Diagnostic::error(message));
    }
}
