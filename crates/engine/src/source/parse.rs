//! From RON to typed data, and from ron's errors to diagnostics with a place.

use ron::error::{Error, Position, SpannedError};
use ron::extensions::Extensions;
use ron::options::Options;
use serde::de::DeserializeOwned;

use super::mark::{Mark, reading};
use super::{Place, SourceText};
use crate::diagnostic::{Diagnostic, did_you_mean};

/// How deep values may be nested: far more than a runbook needs, far less than a stack holds.
const NESTING_MAX: usize = 64;

/// What was read, and the templates `${…}` met on the way.
pub(crate) struct Parsed<T> {
    pub value: T,
    pub templates: Vec<(Mark, String)>,
}

/// Reads a whole text as one value.
pub(crate) fn parse<T: DeserializeOwned>(source: &SourceText) -> Result<Parsed<T>, Diagnostic> {
    if source.text().trim().is_empty() {
        return Err(Diagnostic::error(format!("`{}` is empty", source.name())).in_file(source.name()));
    }
    let (result, templates) = reading(None, || options().from_str::<T>(source.text()));
    match result {
        Ok(value) => Ok(Parsed { value, templates }),
        Err(error) => Err(diagnose(source, &error)),
    }
}

/// Where the piece with this number stands: reads the text once more and stops there. `T` must be the type that the
/// number was given out for.
pub(crate) fn locate<T: DeserializeOwned>(source: &SourceText, mark: Mark) -> Option<Place> {
    let (result, _) = reading(Some(mark), || options().from_str::<T>(source.text()).map(drop));
    let error = result.err()?;
    Some(token_at(source, error.span.end))
}

fn options() -> Options {
    Options::default()
        .with_default_extension(Extensions::IMPLICIT_SOME | Extensions::UNWRAP_VARIANT_NEWTYPES)
        .with_recursion_limit(NESTING_MAX)
}

fn diagnose(source: &SourceText, error: &SpannedError) -> Diagnostic {
    let place = place_of(source, error);
    let (mut message, help) = explain(&error.code);
    if message.starts_with("expected ") && !message.contains("found") {
        message.push_str(&found_at(source, place));
    }
    let diagnostic = Diagnostic::error(message).at(source, place);
    match help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

fn found_at(source: &SourceText, place: Place) -> String {
    let token: String = source.line(place.line).chars().skip(place.column - 1).take(place.width).collect();
    if token.is_empty() { String::new() } else { format!(", found `{token}`") }
}

fn explain(error: &Error) -> (String, Option<String>) {
    match error {
        Error::NoSuchStructField { expected, found, outer } => {
            let inside = outer.as_ref().map(|outer| format!(" of `{outer}`")).unwrap_or_default();
            let help =
                if expected.is_empty() { Some("it has no fields".to_owned()) } else { did_you_mean(found, expected) };
            (format!("unknown field `{found}`{inside}"), help)
        }
        Error::NoSuchEnumVariant { expected, found, outer } => {
            let kind = outer.as_deref().map_or_else(|| "value".to_owned(), spoken);
            (format!("unknown {kind} `{found}`"), did_you_mean(found, expected))
        }
        Error::MissingStructField { field, outer } => {
            let inside = outer.as_ref().map(|outer| format!(" of `{outer}`")).unwrap_or_default();
            (format!("the field `{field}`{inside} is missing"), None)
        }
        Error::DuplicateStructField { field, .. } => (format!("the field `{field}` is given twice"), None),
        Error::ExpectedString => ("expected a text in quotes".to_owned(), None),
        Error::ExpectedBoolean => ("expected true or false".to_owned(), None),
        Error::ExpectedInteger => ("expected a whole number".to_owned(), None),
        Error::ExpectedArray => ("expected a list in `[` and `]`".to_owned(), None),
        Error::ExceededRecursionLimit => (format!("nested more than {NESTING_MAX} deep"), None),
        Error::Eof => ("the text ends too early".to_owned(), Some("a `)`, `]`, `}` or `\"` is missing".to_owned())),
        Error::TrailingCharacters => ("there is more text after the end".to_owned(), None),
        other => (lower_first(&other.to_string()), None),
    }
}

/// The name of a type as a person says it: `AnyAction` is an action, `ParamType` a param type.
fn spoken(type_name: &str) -> String {
    let mut words = String::new();
    for (index, c) in type_name.strip_prefix("Any").unwrap_or(type_name).chars().enumerate() {
        if index > 0 && c.is_uppercase() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    words
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// ron's span runs from before to after its last token. What is marked is that token, or the one it stopped before.
fn place_of(source: &SourceText, error: &SpannedError) -> Place {
    let (start, end) = (error.span.start, error.span.end);
    if start.line == end.line && start.col < end.col {
        let line: Vec<char> = source.line(start.line).chars().collect();
        let piece = line.get(start.col - 1..(end.col - 1).min(line.len())).unwrap_or_default();
        let blank = piece.iter().take_while(|c| c.is_whitespace()).count();
        let tail = piece.iter().rev().take_while(|c| c.is_whitespace() || **c == '"').count();
        if piece.iter().any(|c| c.is_alphanumeric()) && blank + tail < piece.len() {
            return Place { line: start.line, column: start.col + blank, width: piece.len() - blank - tail };
        }
    }
    token_at(source, end)
}

/// The word, text or sign that begins at or after a position.
fn token_at(source: &SourceText, position: Position) -> Place {
    let line: Vec<char> = source.line(position.line).chars().collect();
    let rest = line.get(position.col.saturating_sub(1)..).unwrap_or_default();
    let blank = rest.iter().take_while(|c| c.is_whitespace()).count();
    let token = &rest[blank..];
    let width = match token.first() {
        Some('"') => token[1..].iter().position(|c| *c == '"').map_or(token.len(), |end| end + 2),
        Some(first) if first.is_alphanumeric() => {
            token.iter().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.')).count()
        }
        _ => 1,
    };
    let blank = if token.is_empty() { 0 } else { blank };
    Place { line: position.line, column: position.col + blank, width }
}

/// The text of a value, as [`parse`] reads it.
pub(crate) fn to_ron<T: serde::Serialize>(value: &T) -> String {
    options()
        .to_string_pretty(value, ron::ser::PrettyConfig::new().struct_names(false))
        .expect("plain data without maps of odd keys has a RON text")
}
