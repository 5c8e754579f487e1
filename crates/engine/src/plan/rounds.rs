//! Rounds: repeated phases stand in the plan once for each value of a list, one round after the other.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::{NeedPlan, Round};
use crate::diagnostic::Diagnostic;
use crate::id::{PhaseId, StepId};
use crate::runbook::{Need, Phase, Problems, ROUNDS_MAX, Runbook, Step, name_in};
use crate::source::{Mark, Marked};
use crate::value::Reference;

/// Where the written steps stand in the plan.
pub(super) struct Rounds<'a, A> {
    runbook: &'a Runbook<A>,
    /// One per round; `None`: nothing is repeated.
    values: Option<Vec<Value>>,
    indices: HashMap<&'a str, usize>,
    /// For each written step its places in the plan, round by round.
    places: Vec<Vec<usize>>,
    copies: Vec<Copied>,
    phases: Vec<(usize, Option<usize>)>,
}

/// A step of the plan: the written one, and the round that it stands in, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Copied {
    pub written: usize,
    pub round: Option<usize>,
    /// Index into the plan's phases.
    pub phase: usize,
}

impl<'a, A> Rounds<'a, A> {
    /// Lays out the phases and steps of a runbook.
    pub fn of(runbook: &'a Runbook<A>, params: &BTreeMap<String, Value>, problems: &mut Problems) -> Self {
        let values = runbook.repeat.as_ref().map(|repeat| {
            let values = params.get(repeat.over.as_str()).and_then(Value::as_array).cloned().unwrap_or_default();
            if values.len() > ROUNDS_MAX {
                let message =
                    format!("`{}` makes {} rounds: at most {ROUNDS_MAX} are possible", repeat.over, values.len());
                problems.add(repeat.over.mark, Diagnostic::error(message));
            }
            values.into_iter().take(ROUNDS_MAX).collect()
        });
        let indices = runbook.steps.iter().enumerate().map(|(index, step)| (step.id.as_str(), index)).collect();
        let mut rounds = Self { runbook, values, indices, places: Vec::new(), copies: Vec::new(), phases: Vec::new() };
        rounds.phases = rounds.lay_out_phases();
        rounds.copies = rounds.lay_out_steps();
        rounds.places = vec![Vec::new(); runbook.steps.len()];
        for (place, copy) in rounds.copies.iter().enumerate() {
            rounds.places[copy.written].push(place);
        }
        rounds
    }

    /// The steps of the plan, in its order: the runbook's; with several rounds phase by phase.
    pub fn copies(&self) -> &[Copied] {
        &self.copies
    }

    /// The phases of the plan: the written one, its name and its round.
    pub fn phases(&self) -> impl Iterator<Item = (&'a Phase, PhaseId, Option<Round>)> {
        self.phases.iter().map(|&(written, round)| {
            let phase = &self.runbook.phases[written];
            let name = self.named(phase.id.as_str(), round);
            let id = PhaseId::new(name).unwrap_or_else(|_| phase.id.value.clone());
            (phase, id, round.and_then(|round| self.round(round)))
        })
    }

    /// The name of a step in its round.
    pub fn id(&self, copy: &Copied) -> StepId {
        let id = &self.runbook.steps[copy.written].id;
        StepId::new(self.named(id.as_str(), copy.round)).unwrap_or_else(|_| id.value.clone())
    }

    /// Why a repeated step is left out, when its list has no value.
    pub fn left_out(&self, copy: &Copied) -> Option<String> {
        let repeat = self.runbook.repeat.as_ref().filter(|_| copy.round.is_some())?;
        self.count().eq(&0).then(|| format!("`{}` is empty", repeat.over))
    }

    /// The value of `${round.x}`.
    pub fn value(&self, copy: &Copied, field: &str) -> Option<Value> {
        let (round, values) = (copy.round?, self.values.as_ref()?);
        let value = values.get(round)?;
        match field {
            "value" => Some(value.clone()),
            "later" => Some(values[round + 1..].iter().cloned().collect()),
            "number" => Some(Value::from(round + 1)),
            _ => None,
        }
    }

    /// A reference to a fact, with the name that its step has for this one; `None`: it stays as it is.
    pub fn renamed(&self, copy: &Copied, reference: &Reference) -> Option<Reference> {
        let Reference::Fact { step, name } = reference else { return None };
        let source = &self.copies[self.place_of(copy, step)?];
        source.round.filter(|_| self.count() > 1)?;
        Some(Reference::Fact { step: self.id(source).to_string(), name: name.clone() })
    }

    /// The place of the step that a written name means for this one.
    pub fn place_of(&self, copy: &Copied, name: &str) -> Option<usize> {
        let written = *self.indices.get(name)?;
        let places = &self.places[written];
        match copy.round {
            _ if places.len() == 1 => places.first(),
            None => places.last(),
            // Ahead of the rounds only the first one has anything to tell.
            Some(_) if self.is_ahead(copy.written) && !self.is_ahead(written) => places.first(),
            Some(round) => places.get(round),
        }
        .copied()
    }

    /// What a step needs, each with the mark of what was written; without one it is that rounds follow one another.
    pub fn needs(&self, copy: &Copied) -> Vec<(NeedPlan, Option<Mark>)> {
        let step = &self.runbook.steps[copy.written];
        let mut needs = Vec::with_capacity(step.needs.len());
        for need in &step.needs {
            match need {
                Need::All(before) => {
                    let all = self.needed(copy, before).into_iter().map(NeedPlan::All);
                    needs.extend(all.map(|need| (need, Some(before.mark))));
                }
                Need::SameHost(before) => {
                    let needed: Vec<Vec<usize>> = before.iter().map(|before| self.needed(copy, before)).collect();
                    let widest = needed.iter().map(Vec::len).max().unwrap_or_default();
                    let in_round = |round: usize| {
                        needed.iter().filter_map(|places| places.get(round).or(places.last()).copied()).collect()
                    };
                    let mark = before.first().map(|before| before.mark);
                    needs.extend((0..widest).map(|round| (NeedPlan::SameHost(in_round(round)), mark)));
                }
            }
        }
        needs.extend(self.round_before(copy).into_iter().map(|place| (NeedPlan::All(place), None)));
        needs
    }

    /// The places that a need of one step stands for: what is done ahead is done for every round.
    fn needed(&self, copy: &Copied, before: &Marked<String>) -> Vec<usize> {
        let Some(&written) = self.indices.get(before.as_str()) else { return Vec::new() };
        if self.is_ahead(written) && !(copy.round.is_some() && self.is_ahead(copy.written)) {
            return self.places[written].clone();
        }
        self.place_of(copy, before).into_iter().collect()
    }

    /// The steps that end the round before, for one that begins a round.
    fn round_before(&self, copy: &Copied) -> Vec<usize> {
        let Some(before) = copy.round.and_then(|round| round.checked_sub(1)) else { return Vec::new() };
        let in_turn = |step: &Step<A>| self.has(step) && !self.ahead(step);
        let here = &self.runbook.steps[copy.written];
        let waits_already = here.needs.iter().flat_map(Need::steps).any(|name| self.written(name).is_some_and(in_turn));
        if !in_turn(here) || waits_already {
            return Vec::new();
        }
        let in_turns = || self.runbook.steps.iter().filter(|step| in_turn(step));
        let needed_whole = in_turns().flat_map(|step| &step.needs).filter_map(|need| match need {
            Need::All(name) => Some(name.as_str()),
            Need::SameHost(_) => None,
        });
        let needed_whole: std::collections::HashSet<&str> = needed_whole.collect();
        let ends = in_turns().filter(|step| !needed_whole.contains(step.id.as_str()));
        let places = ends.filter_map(|step| self.places[*self.indices.get(step.id.as_str())?].get(before).copied());
        places.collect()
    }

    fn written(&self, name: &str) -> Option<&'a Step<A>> {
        self.indices.get(name).map(|&index| &self.runbook.steps[index])
    }

    fn has(&self, step: &Step<A>) -> bool {
        self.runbook.repeat.as_ref().is_some_and(|repeat| repeat.has(&step.phase))
    }

    fn ahead(&self, step: &Step<A>) -> bool {
        self.runbook.repeat.as_ref().is_some_and(|repeat| repeat.is_ahead(&step.phase))
    }

    fn is_ahead(&self, written: usize) -> bool {
        self.ahead(&self.runbook.steps[written])
    }

    /// How many rounds there are.
    fn count(&self) -> usize {
        self.values.as_ref().map_or(0, Vec::len)
    }

    fn round(&self, round: usize) -> Option<Round> {
        let value = self.values.as_ref().filter(|values| values.len() > 1)?.get(round)?;
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some(Round { number: round + 1, of: self.count(), value })
    }

    fn named(&self, name: &str, round: Option<usize>) -> String {
        match round {
            Some(round) if self.count() > 1 => name_in(name, round + 1),
            _ => name.to_owned(),
        }
    }

    /// The phases before, the first round with everything that is ahead, the other rounds, the phases after.
    fn lay_out_phases(&self) -> Vec<(usize, Option<usize>)> {
        let all = || self.runbook.phases.iter().enumerate();
        let Some(repeat) = &self.runbook.repeat else { return all().map(|(index, _)| (index, None)).collect() };
        let is_in = |phase: &Phase| repeat.has(phase.id.as_str());
        let first = all().position(|(_, phase)| is_in(phase)).unwrap_or_default();
        let rounds = self.count().max(1);
        let mut phases: Vec<_> = all().take(first).map(|(index, _)| (index, None)).collect();
        for round in 0..rounds {
            for (index, phase) in all().filter(|(_, phase)| is_in(phase)) {
                match (repeat.is_ahead(phase.id.as_str()), round) {
                    (true, 0) => phases.extend((0..rounds).map(|round| (index, Some(round)))),
                    (true, _) => {}
                    (false, round) => phases.push((index, Some(round))),
                }
            }
        }
        phases.extend(all().skip(first).filter(|(_, phase)| !is_in(phase)).map(|(index, _)| (index, None)));
        phases
    }

    fn lay_out_steps(&self) -> Vec<Copied> {
        let written: HashMap<&str, usize> =
            self.runbook.phases.iter().enumerate().map(|(index, phase)| (phase.id.as_str(), index)).collect();
        let places: HashMap<(usize, Option<usize>), usize> =
            self.phases.iter().enumerate().map(|(place, phase)| (*phase, place)).collect();
        let mut copies = Vec::with_capacity(self.runbook.steps.len());
        for (index, step) in self.runbook.steps.iter().enumerate() {
            let own = written.get(step.phase.as_str()).copied().unwrap_or_default();
            let rounds: Vec<Option<usize>> =
                if self.has(step) { (0..self.count().max(1)).map(Some).collect() } else { vec![None] };
            copies.extend(rounds.into_iter().map(|round| {
                let phase = places.get(&(own, round)).copied().unwrap_or_default();
                Copied { written: index, round, phase }
            }));
        }
        if self.count() > 1 {
            copies.sort_by_key(|copy| copy.phase);
        }
        copies
    }
}
