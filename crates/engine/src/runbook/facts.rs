//! Whether every `${…}` of a runbook will have a value of the right type when its step starts.

use std::collections::HashMap;

use serde_json::Value;

use super::{Always, Placed, Problems, Runbook, Selector, Step};
use crate::action::{ActionSpec, Catalogue};
use crate::diagnostic::{Diagnostic, in_order};
use crate::id::{HostName, Target};
use crate::plan::{HOST_FIELDS, ROUND_FIELDS, RUN_FIELDS, StepGraph};
use crate::source::Mark;
use crate::value::{self, Reference, ValueType};

/// Checks every reference, and that each action accepts values of the types that its references have. Without a graph,
/// because the needs are wrong, it is not checked whether facts are known in time.
pub(super) fn check<A: ActionSpec>(
    runbook: &Runbook<A>,
    graph: Option<&StepGraph>,
    catalogue: &dyn Catalogue,
    problems: &mut Problems,
) {
    let steps = runbook.steps.iter().enumerate().map(|(index, step)| (step.id.as_str(), index)).collect();
    let mut checker = Checker { runbook, catalogue, steps, paths: Vec::new(), problems };
    for (index, step) in runbook.steps.iter().enumerate() {
        for (position, placed) in step.done_when.iter().enumerate() {
            checker.action(index, &step.done_when[..position], placed);
        }
        for (position, placed) in step.actions.iter().enumerate() {
            checker.action(index, &step.actions[..position], placed);
        }
        checker.last(index, step);
    }
    if let Some(graph) = graph {
        checker.paths(graph);
    }
}

struct Checker<'a, A> {
    runbook: &'a Runbook<A>,
    catalogue: &'a dyn Catalogue,
    steps: HashMap<&'a str, usize>,
    /// References to facts of other steps: step that leaves it, step that uses it, where.
    paths: Vec<(usize, usize, Mark, Reference)>,
    problems: &'a mut Problems,
}

impl<A: ActionSpec> Checker<'_, A> {
    /// `earlier`: what the same sequence has done before.
    fn action(&mut self, step: usize, earlier: &[Placed<A>], placed: &Placed<A>) {
        let fields = placed.spec.fields();
        let mut right = true;
        for reference in value::references(&fields) {
            let mark = self.mark_of(placed, &reference);
            if let Err(problem) = self.type_of(step, earlier, &reference) {
                self.problems.add(mark, problem);
                right = false;
            } else if let Reference::Fact { step: source, .. } = &reference
                && let Some(&source) = self.steps.get(source.as_str())
                && source != step
            {
                self.paths.push((source, step, mark, reference));
            }
        }
        if right {
            self.bind(step, earlier, placed, &fields);
        }
    }

    /// `last` is one fact of an earlier step: a host's name.
    fn last(&mut self, index: usize, step: &Step<A>) {
        let Some(last) = &step.last else { return };
        let Some(reference @ Reference::Fact { .. }) = value::lone_reference(last) else {
            let problem = Diagnostic::error(format!("`last` is `{}`, which is not one fact", last.value));
            let help = "a step before finds out which host goes last: `last: \"${fact.leader.host}\"`";
            return self.problems.add(last.mark, problem.help(help));
        };
        let Reference::Fact { step: source, .. } = &reference else { return };
        match (self.type_of(index, &[], &reference), self.steps.get(source.as_str())) {
            (Err(problem), _) => self.problems.add(last.mark, problem),
            (Ok(ValueType::Text), Some(&source)) if source != index => {
                self.paths.push((source, index, last.mark, reference));
            }
            (Ok(ValueType::Text), _) => {
                let problem = Diagnostic::error(format!("`{reference}` is not known before `{}` starts", step.id));
                self.problems.add(last.mark, problem.help("another step has to find it out before"));
            }
            (Ok(kind), _) => {
                let problem = Diagnostic::error(format!("`{reference}` is a {kind:?} and no host's name"));
                self.problems.add(last.mark, problem);
            }
        }
    }

    /// An action must accept a value of each reference's type.
    fn bind(&mut self, step: usize, earlier: &[Placed<A>], placed: &Placed<A>, fields: &Value) {
        let name = placed.spec.name();
        if self.catalogue.info(name).is_none() {
            return;
        }
        let sample = |reference: &Reference| match self.type_of(step, earlier, reference) {
            Ok(kind) => Ok(kind.sample()),
            Err(problem) => Err(problem.message),
        };
        let target = sample_target(&self.runbook.steps[step].on);
        let bound =
            value::render(fields, &sample).and_then(|fields| self.catalogue.bind(name, &fields, &target).map(drop));
        if let Err(why) = bound {
            let references = value::references(fields);
            let (mark, note) = match references.as_slice() {
                [only] => (self.mark_of(placed, only), self.note(step, earlier, only)),
                _ => (placed.mark, None),
            };
            let problem = Diagnostic::error(format!("`{name}` cannot take these values: {why}"));
            self.problems.add(mark, note.into_iter().fold(problem, Diagnostic::help));
        }
    }

    fn note(&self, step: usize, earlier: &[Placed<A>], reference: &Reference) -> Option<String> {
        let kind = self.type_of(step, earlier, reference).ok()?;
        Some(format!("`{reference}` is a {kind:?}, such as {}", kind.sample()))
    }

    fn type_of(&self, step: usize, earlier: &[Placed<A>], reference: &Reference) -> Result<ValueType, Diagnostic> {
        let here = &self.runbook.steps[step];
        match reference {
            Reference::Param(name) => match self.runbook.params.get(name) {
                Some(param) => Ok(param.kind().value_type()),
                None => Err(Diagnostic::error(format!("there is no parameter `{name}`"))
                    .meant(name, self.runbook.params.keys().map(String::as_str))),
            },
            Reference::Host(name) if !HOST_FIELDS.contains(&name.as_str()) => {
                Err(Diagnostic::error(format!("a host has no `{name}`")).meant(name, HOST_FIELDS))
            }
            Reference::Host(name) if here.on.value == Selector::Operator && !name.starts_with("init") => {
                let message = format!("`{reference}` has no value: step `{}` runs on the operator's machine", here.id);
                Err(Diagnostic::error(message).help("`${host.init}` and `${host.init_address}` are known there"))
            }
            Reference::Run(name) if !RUN_FIELDS.contains(&name.as_str()) => {
                Err(Diagnostic::error(format!("a run has no `{name}`")).meant(name, RUN_FIELDS))
            }
            Reference::Host(_) | Reference::Run(_) => Ok(ValueType::Text),
            Reference::Round(name) if !ROUND_FIELDS.contains(&name.as_str()) => {
                Err(Diagnostic::error(format!("a round has no `{name}`")).meant(name, ROUND_FIELDS))
            }
            Reference::Round(name) => self.round_type(step, reference, name),
            Reference::Fact { step: source, name } => self.fact_type(step, earlier, source, name),
        }
    }

    fn round_type(&self, step: usize, reference: &Reference, name: &str) -> Result<ValueType, Diagnostic> {
        let here = &self.runbook.steps[step];
        let Some(repeat) = self.runbook.repeat.as_ref().filter(|repeat| repeat.has(&here.phase)) else {
            let message = format!("`{reference}` has no value: step `{}` is in no phase that is repeated", here.id);
            return Err(Diagnostic::error(message).help("name its phase in `repeat: (over: …, phases: […])`"));
        };
        let item = self.runbook.params.get(repeat.over.as_str()).and_then(|param| param.kind().item_type());
        Ok(match name {
            "number" => ValueType::Number,
            "later" => ValueType::List,
            // A parameter that is no list has been reported.
            _ => item.unwrap_or(ValueType::Text),
        })
    }

    fn fact_type(&self, step: usize, earlier: &[Placed<A>], source: &str, name: &str) -> Result<ValueType, Diagnostic> {
        let Some(&index) = self.steps.get(source) else {
            let message = format!("there is no step `{source}`");
            return Err(Diagnostic::error(message).meant(source, in_order(&self.steps)));
        };
        let leaving = &self.runbook.steps[index];
        let repeated = |step: &Step<A>| self.runbook.repeat.as_ref().is_some_and(|repeat| repeat.has(&step.phase));
        if repeated(leaving) && !repeated(&self.runbook.steps[step]) {
            let message = format!("step `{source}` runs once in each round, so `{name}` may have several values");
            return Err(Diagnostic::error(message).help("its facts are known in the phases that are repeated"));
        }
        let actions = if index == step { earlier } else { leaving.actions.as_slice() };
        let left = facts_of(actions, self.catalogue);
        let Some((_, kind)) = left.iter().rev().find(|(fact, _)| *fact == name) else {
            let message = match index == step {
                true => format!("no earlier action of step `{source}` leaves a fact `{name}`"),
                false => format!("step `{source}` leaves no fact `{name}`"),
            };
            return Err(Diagnostic::error(message).meant(name, left.iter().map(|(fact, _)| *fact)));
        };
        if index != step && !leaving.done_when.is_empty() && !left_when_done(leaving, name, self.catalogue) {
            let message = format!("step `{source}` leaves no fact `{name}` when its `done_when` says that it is done");
            return Err(Diagnostic::error(message).help("add an action that leaves it to `done_when`"));
        }
        Ok(*kind)
    }

    /// A fact must come from a step that is certainly done before.
    fn paths(self, graph: &StepGraph) {
        let pairs = self.paths.iter().enumerate().flat_map(|(number, &(source, user, ..))| {
            self.certain_before(user).into_iter().map(move |last| (number, (source, last)))
        });
        let (numbers, pairs): (Vec<usize>, Vec<(usize, usize)>) = pairs.unzip();
        let mut known = vec![false; self.paths.len()];
        for (number, found) in numbers.into_iter().zip(graph.paths(&pairs)) {
            known[number] |= found;
        }
        for ((source, user, mark, reference), known) in self.paths.iter().zip(known) {
            if !known {
                let (source, user) = (&self.runbook.steps[*source].id, &self.runbook.steps[*user].id);
                let message = format!("`{reference}` is not known yet: nothing makes `{user}` wait for `{source}`");
                let help = format!("add `All(\"{source}\")` to the needs of `{user}`");
                self.problems.add(*mark, Diagnostic::error(message).help(help));
            }
        }
    }

    /// The steps before whose start all that they need is done when this one starts: itself; on an abort, the steps that
    /// it takes back, because those have begun and may not be done.
    fn certain_before(&self, user: usize) -> Vec<usize> {
        let step = &self.runbook.steps[user];
        if step.always != Some(Always::OnAbort) {
            return vec![user];
        }
        let needed = step.needs.iter().flat_map(|need| need.steps());
        let needed = needed.filter_map(|name| self.steps.get(name.as_str()).copied());
        needed.filter(|&before| self.runbook.steps[before].always.is_none()).collect()
    }

    /// Where a reference stands: the first template of the action that has it.
    fn mark_of(&self, placed: &Placed<A>, reference: &Reference) -> Mark {
        mark_of(self.runbook, placed, &reference.to_string())
    }
}

/// Where `text` stands inside an action's templates, or where the action begins.
pub(crate) fn mark_of<A>(runbook: &Runbook<A>, placed: &Placed<A>, text: &str) -> Mark {
    let from = runbook.templates.partition_point(|(mark, _)| *mark < placed.mark);
    let inside = runbook.templates[from..].iter().take_while(|(mark, _)| *mark < placed.end);
    inside.filter(|(_, template)| template.contains(text)).map(|(mark, _)| *mark).next().unwrap_or(placed.mark)
}

fn left_when_done<A: ActionSpec>(step: &Step<A>, name: &str, catalogue: &dyn Catalogue) -> bool {
    facts_of(&step.done_when, catalogue).iter().any(|(fact, _)| *fact == name)
}

fn facts_of<A: ActionSpec>(actions: &[Placed<A>], catalogue: &dyn Catalogue) -> Vec<(&'static str, ValueType)> {
    let infos = actions.iter().filter_map(|placed| catalogue.info(placed.spec.name()));
    infos.flat_map(|info| info.facts.iter().map(|fact| (fact.name, fact.kind))).collect()
}

/// A target of the kind that a selector selects, for binding without a cluster.
fn sample_target(selector: &Selector) -> Target {
    match selector {
        Selector::Operator => Target::Operator,
        Selector::Host(name) => Target::Host(name.clone()),
        _ => Target::Host(HostName::new("host").expect("`host` is a host name")),
    }
}
