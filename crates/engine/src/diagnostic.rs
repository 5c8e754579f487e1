//! What is wrong with something a person wrote: where, what, and what to write instead.

use std::collections::HashMap;
use std::fmt;

use crate::source::{Place, SourceText};

/// How many problems of one file are shown; the rest are counted.
pub const DIAGNOSTICS_MAX: usize = 20;

/// One thing that is wrong, or looks wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it refuses.
    pub severity: Severity,
    /// What is wrong; lower case, no full stop.
    pub message: String,
    /// Where, when it stands in a file.
    pub location: Option<Box<Location>>,
    /// What was expected, or what to write or type instead.
    pub help: Option<String>,
}

/// Whether a problem refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Nothing is done.
    Error,
    /// Said, and gone on.
    Warning,
}

/// A place in a file that a person wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file, as it was named.
    pub file: String,
    /// Line and column; `None` when the file as a whole is meant.
    pub spot: Option<Spot>,
}

/// A marked piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// Line and column, in characters, and how many are marked.
    pub place: Place,
    /// The line, cut to [`SNIPPET_CHARS_MAX`].
    pub snippet: String,
    /// Characters of the line that are cut off before `snippet`.
    pub cut: usize,
}

/// How much of a long line is shown.
pub const SNIPPET_CHARS_MAX: usize = 140;

impl Diagnostic {
    /// Something that refuses.
    pub fn error(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), location: None, help: None }
    }

    /// Something that is said and does not refuse.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    /// Says first what it is about.
    #[must_use]
    pub fn prefixed(mut self, prefix: &str) -> Self {
        self.message.insert_str(0, prefix);
        self
    }

    /// Says what was expected, or what to do instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says `did you mean …` when one of `known` is close to `found`, and lists them when they are few.
    #[must_use]
    pub fn meant<'a>(self, found: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        match did_you_mean(found, &known) {
            Some(help) => self.help(help),
            None => self,
        }
    }

    /// Puts it at a file as a whole.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>) -> Self {
        self.location = Some(Box::new(Location { file: file.into(), spot: None }));
        self
    }

    /// Puts it at a place of a text.
    #[must_use]
    pub fn at(mut self, source: &SourceText, place: Place) -> Self {
        let line = source.line(place.line);
        let cut = place.column.saturating_sub(1).saturating_sub(SNIPPET_CHARS_MAX / 2);
        let cut = if line.chars().nth(SNIPPET_CHARS_MAX).is_some() { cut } else { 0 };
        let snippet = line.chars().skip(cut).take(SNIPPET_CHARS_MAX);
        let snippet = snippet.map(|c| if c.is_control() { ' ' } else { c }).collect();
        let spot = Some(Spot { place, snippet, cut });
        self.location = Some(Box::new(Location { file: source.name().to_owned(), spot }));
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}", self.message)?;
        let mut margin = 1;
        if let Some(location) = &self.location {
            let Location { file, spot } = location.as_ref();
            match spot {
                None => write!(f, "\n --> {file}")?,
                Some(spot) => {
                    margin = spot.place.line.to_string().len();
                    write_spot(f, file, spot, margin)?;
                }
            }
        }
        if let Some(help) = &self.help {
            write!(f, "\n{:margin$} = help: {help}", "")?;
        }
        Ok(())
    }
}

fn write_spot(f: &mut fmt::Formatter<'_>, file: &str, spot: &Spot, margin: usize) -> fmt::Result {
    let Place { line, column, width } = spot.place;
    let before = column.saturating_sub(1).saturating_sub(spot.cut);
    let width = width.min(SNIPPET_CHARS_MAX.saturating_sub(before)).max(1);
    write!(f, "\n{:margin$}--> {file}:{line}:{column}", "")?;
    write!(f, "\n{:margin$} |", "")?;
    write!(f, "\n{line:margin$} | {}", spot.snippet.trim_end())?;
    write!(f, "\n{:margin$} | {:before$}{}", "", "", "^".repeat(width))
}

/// Everything that was found wrong with one input, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics {
    found: Vec<Diagnostic>,
    more: usize,
}

impl Diagnostics {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one; beyond [`DIAGNOSTICS_MAX`] they are only counted.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.found.len() < DIAGNOSTICS_MAX {
            self.found.push(diagnostic);
        } else {
            self.more += 1;
        }
    }

    /// Counts problems that are not shown.
    pub fn count_more(&mut self, more: usize) {
        self.more += more;
    }

    /// The ones that are shown.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.found.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether one of them refuses.
    pub fn refuse(&self) -> bool {
        self.found.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { found: vec![diagnostic], more: 0 }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.found.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            diagnostic.fmt(f)?;
        }
        if self.more > 0 {
            write!(f, "\n\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// How many names a help line lists.
const NAMES_LISTED_MAX: usize = 12;

/// `did you mean …?` for the closest name; otherwise the names, when they are few enough to read.
pub fn did_you_mean(found: &str, known: &[&str]) -> Option<String> {
    if let Some(name) = closest(found, known) {
        return Some(format!("did you mean `{name}`?"));
    }
    if known.is_empty() || known.len() > NAMES_LISTED_MAX {
        return None;
    }
    let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    Some(format!("expected {}", one_of(&names)))
}

/// The names of a map in the order of their places, for a message that is the same each time.
pub(crate) fn in_order<'a, P: Ord>(names: &HashMap<&'a str, P>) -> Vec<&'a str> {
    let mut known: Vec<(&P, &str)> = names.iter().map(|(name, place)| (place, *name)).collect();
    known.sort();
    known.into_iter().map(|(_, name)| name).collect()
}

fn closest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = found.to_lowercase();
    // One slip per three letters, as compilers do: more finds names that nobody meant.
    let limit = found.chars().count().div_ceil(3);
    let distance = |name: &str| strsim::damerau_levenshtein(&lower, &name.to_lowercase());
    let best = known.iter().map(|name| (distance(name), *name)).min()?;
    (best.0 <= limit).then_some(best.1)
}

fn one_of(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marked_piece_stands_under_the_line_it_is_in() {
        let source = SourceText::new("a.ron", "(\n\tname: \"größe\", role: Servr,\n)");
        let place = Place { line: 2, column: 23, width: 5 };
        let text = Diagnostic::error("unknown role `Servr`").help("did you mean `Server`?").at(&source, place);
        insta::assert_snapshot!(text, @r#"
        error: unknown role `Servr`
         --> a.ron:2:23
          |
        2 |  name: "größe", role: Servr,
          |                       ^^^^^
          = help: did you mean `Server`?
        "#);
    }

    #[test]
    fn a_very_long_line_is_cut_around_the_marked_piece() {
        let source = SourceText::new("a.ron", format!("{}X{}", "a".repeat(5000), "b".repeat(5000)));
        let text = Diagnostic::error("x").at(&source, Place { line: 1, column: 5001, width: 1 }).to_string();
        assert!(text.len() < 500 && text.contains("aXb"), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[3].find('X'), lines[4].find('^'), "{text}");
    }

    #[test]
    fn only_near_names_are_suggested() {
        assert_eq!(did_you_mean("Tuoch", &["Touch", "Look"]).unwrap(), "did you mean `Touch`?");
        assert_eq!(did_you_mean("xyz", &["Touch", "Look"]).unwrap(), "expected `Touch` or `Look`");
        assert_eq!(did_you_mean("xyz", &[]), None);
    }
}
