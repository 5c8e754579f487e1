//! `repeat`: phases that are gone through once for each value of a list, such as the releases that an upgrade passes.

use serde::Deserialize;

use super::check::Names;
use super::{PhaseClock, Problems, Runbook};
use crate::diagnostic::Diagnostic;
use crate::source::Marked;

/// How many rounds there may be: with one digit no round's name is the beginning of another's.
pub const ROUNDS_MAX: usize = 9;

/// How long the name of a repeated step or phase may be, so that a round's number fits behind it.
const NAME_MAX: usize = 61;

/// Which phases are repeated over which list. Rounds follow one another: what begins a round waits for everything of
/// the round before. One value alone makes one round, whose steps have the names that are written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// A parameter with a list.
    pub over: Marked<String>,
    /// Phases that follow one another.
    pub phases: Vec<Marked<String>>,
    /// Those of them whose steps are done for every round before the first round goes on to what needs them.
    #[serde(default)]
    pub ahead: Vec<Marked<String>>,
}

impl Repeat {
    /// Whether a phase is repeated.
    pub fn has(&self, phase: &str) -> bool {
        self.phases.iter().any(|name| name.as_str() == phase)
    }

    /// Whether a phase is done for every round at once.
    pub fn is_ahead(&self, phase: &str) -> bool {
        self.ahead.iter().any(|name| name.as_str() == phase)
    }
}

/// The name that a step or a phase has in a round, from 1.
pub(crate) fn name_in(name: &str, round: usize) -> String {
    format!("{name}-{round}")
}

/// Checks that `repeat` names a list and phases that can be repeated, and that its rounds can be told apart.
pub(super) fn check<A>(runbook: &Runbook<A>, names: &Names<'_>, problems: &mut Problems) {
    let Some(repeat) = &runbook.repeat else { return };
    check_over(repeat, runbook, problems);
    check_phases(repeat, runbook, names, problems);
    for step in runbook.steps.iter().filter(|step| repeat.has(&step.phase)) {
        if step.always.is_some() {
            let message = format!("step `{}` belongs to the run's end, and cannot be repeated", step.id);
            problems.add(step.id.mark, Diagnostic::error(message).help("move it into a phase that is not repeated"));
        }
        check_name("step", &step.id, step.id.as_str(), |name| names.steps.contains_key(name), problems);
    }
    for phase in runbook.phases.iter().filter(|phase| repeat.has(phase.id.as_str())) {
        check_name("phase", &phase.id, phase.id.as_str(), |name| names.phases.contains_key(name), problems);
        if phase.clock != PhaseClock::Before {
            let message = format!("phase `{}` is {:?}, and only what is Before can be repeated", phase.id, phase.clock);
            problems.add(phase.id.mark, Diagnostic::error(message));
        }
    }
}

fn check_over<A>(repeat: &Repeat, runbook: &Runbook<A>, problems: &mut Problems) {
    let lists = || runbook.params.iter().filter(|(_, spec)| spec.kind().item_type().is_some());
    match runbook.params.get(repeat.over.as_str()) {
        Some(spec) if spec.kind().item_type().is_some() => {}
        Some(spec) => {
            let message = format!("the parameter `{}` is a {:?} and no list", repeat.over, spec.kind());
            let help = "Versions, Namespaces and Hosts have several values";
            problems.add(repeat.over.mark, Diagnostic::error(message).help(help));
        }
        None => {
            let known = lists().map(|(name, _)| name.as_str());
            let message = format!("there is no parameter `{}`", repeat.over);
            problems.add(repeat.over.mark, Diagnostic::error(message).meant(&repeat.over, known));
        }
    }
}

fn check_phases<A>(repeat: &Repeat, runbook: &Runbook<A>, names: &Names<'_>, problems: &mut Problems) {
    let mut places = Vec::new();
    for phase in &repeat.phases {
        match names.phases.get(phase.as_str()) {
            Some(place) if places.contains(place) => {
                problems.add(phase.mark, Diagnostic::error(format!("the phase `{phase}` is named twice")));
            }
            Some(&place) => places.push(place),
            None => {
                let known = runbook.phases.iter().map(|phase| phase.id.as_str());
                problems.add(phase.mark, Diagnostic::error(format!("there is no phase `{phase}`")).meant(phase, known));
            }
        }
    }
    let (first, last) = (places.iter().min().copied(), places.iter().max().copied());
    let (Some(first), Some(last)) = (first, last) else {
        problems.add(repeat.over.mark, Diagnostic::error("`repeat` names no phase"));
        return;
    };
    if let Some(between) = (first..=last).find(|place| !places.contains(place)) {
        let between = &runbook.phases[between].id;
        let message = format!("phase `{between}` lies between phases that are repeated, and is not");
        problems.add(between.mark, Diagnostic::error(message).help("phases that are repeated follow one another"));
    }
    for phase in repeat.ahead.iter().filter(|phase| !repeat.has(phase)) {
        let known = repeat.phases.iter().map(|phase| phase.as_str());
        let message = format!("the phase `{phase}` is not repeated, so it has nothing to do ahead");
        problems.add(phase.mark, Diagnostic::error(message).meant(phase, known));
    }
}

fn check_name<T>(
    kind: &str,
    written: &Marked<T>,
    name: &str,
    is_taken: impl Fn(&str) -> bool,
    problems: &mut Problems,
) {
    if name.len() > NAME_MAX {
        let message = format!("the {kind} `{name}` is repeated, and longer than {NAME_MAX} characters");
        problems.add(written.mark, Diagnostic::error(message).help("a round's number follows the name"));
    }
    if let Some(taken) = (1..=ROUNDS_MAX).map(|round| name_in(name, round)).find(|name| is_taken(name)) {
        let message = format!("a {kind} is named `{taken}`, as a round of `{name}` would be");
        problems.add(written.mark, Diagnostic::error(message).help("give one of them another name"));
    }
}
