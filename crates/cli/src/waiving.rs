//! What `--waive` may name: a single check of the guards, or a step that is no guard.

use rke2flow_engine::plan::{Plan, StepPlan};
use rke2flow_steps::actions::guard::{Check, waivable};

use crate::exit::Problem;

/// Refuses a name that waives nothing, and one that nobody may pass over: before anything is connected to.
pub fn check(waived: &[(String, String)], plan: &Plan) -> Result<(), Problem> {
    for (name, _) in waived {
        let named: Vec<&StepPlan> = plan.steps.iter().filter(|step| is_named(step, name)).collect();
        if Check::named(name).is_none() && !named.is_empty() {
            if named.iter().any(|step| is_guard(step)) {
                return Err(refused(name, "it stands for several checks: each is waived by its own name", plan));
            }
        } else if let Err(why) = waivable(name) {
            return Err(refused(name, &why, plan));
        }
    }
    Ok(())
}

fn is_named(step: &StepPlan, name: &str) -> bool {
    step.id.as_str() == name || step.actions.iter().any(|action| action.name == name)
}

fn is_guard(step: &StepPlan) -> bool {
    step.actions.iter().any(|action| action.name == "Guard")
}

fn refused(name: &str, why: &str, plan: &Plan) -> Problem {
    let checks: Vec<&str> =
        Check::ALL.iter().filter(|check| check.unwaivable().is_none()).map(|check| check.name()).collect();
    let steps: Vec<&str> =
        plan.steps.iter().filter(|step| step.safety && !is_guard(step)).map(|step| step.id.as_str()).collect();
    let mut known = format!("{why}\nchecks that can be waived: {}", checks.join(", "));
    if !steps.is_empty() {
        known.push_str(&format!("\nsteps that can be waived: {}", steps.join(", ")));
    }
    Problem::bad_input(format!("cannot waive `{name}`")).observed(known).next("rke2flow doctor")
}
