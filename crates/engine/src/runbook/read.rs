//! From a file to a checked [`Runbook`], or to everything that is wrong with it.

use std::path::Path;

use super::{Runbook, STEPS_MAX, check, facts};
use crate::action::{ActionSpec, Catalogue};
use crate::diagnostic::{DIAGNOSTICS_MAX, Diagnostic, Diagnostics};
use crate::source::{self, Mark, SourceText};

/// Reads and checks a runbook file.
pub fn read<A: ActionSpec>(path: &Path, catalogue: &dyn Catalogue) -> Result<Runbook<A>, Diagnostics> {
    parse(SourceText::read(path)?, catalogue)
}

/// Reads and checks a runbook's text. Everything that can be known without a cluster file is checked; a text that is
/// no RON, or has an unknown action or field, is refused at the first such place, all else is reported together.
pub fn parse<A: ActionSpec>(source: SourceText, catalogue: &dyn Catalogue) -> Result<Runbook<A>, Diagnostics> {
    let parsed = source::parse::<Runbook<A>>(&source)?;
    let mut runbook = parsed.value;
    runbook.source = source;
    runbook.templates = parsed.templates;
    let mut problems = Problems::default();
    if runbook.steps.len() <= STEPS_MAX {
        let graph = check::structure(&runbook, catalogue, &mut problems);
        facts::check(&runbook, graph.as_ref(), catalogue, &mut problems);
    } else {
        let message = format!("{} steps are more than the {STEPS_MAX} that are possible", runbook.steps.len());
        problems.add_whole(Diagnostic::error(message));
    }
    let found = problems.locate(&runbook);
    if found.refuse() { Err(found) } else { Ok(runbook) }
}

/// What is found wrong while checking, by the mark of the piece.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    found: Vec<(Where, Diagnostic)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Where {
    Outside,
    Whole,
    At(Mark),
}

impl Problems {
    /// Notes what is wrong with a piece.
    pub fn add(&mut self, mark: Mark, diagnostic: Diagnostic) {
        self.found.push((Where::At(mark), diagnostic));
    }

    /// Notes what is wrong with the file as a whole.
    pub fn add_whole(&mut self, diagnostic: Diagnostic) {
        self.found.push((Where::Whole, diagnostic));
    }

    /// Notes what is wrong with what was typed, not with a file.
    pub fn add_outside(&mut self, diagnostic: Diagnostic) {
        self.found.push((Where::Outside, diagnostic));
    }

    /// Finds out where the pieces stand: one more reading for each, which is why only so many are located.
    pub fn locate<A: ActionSpec>(mut self, runbook: &Runbook<A>) -> Diagnostics {
        self.found.sort_by_key(|(place, _)| *place);
        self.found.dedup();
        let mut found = Diagnostics::new();
        found.count_more(self.found.len().saturating_sub(DIAGNOSTICS_MAX));
        for (place, diagnostic) in self.found.into_iter().take(DIAGNOSTICS_MAX) {
            let mark = match place {
                Where::Outside => {
                    found.push(diagnostic);
                    continue;
                }
                Where::Whole => None,
                Where::At(mark) => Some(mark),
            };
            let place = mark.and_then(|mark| source::locate::<Runbook<A>>(&runbook.source, mark));
            found.push(match place {
                Some(place) => diagnostic.at(&runbook.source, place),
                None => diagnostic.in_file(runbook.source.name()),
            });
        }
        found
    }
}
