//! Values that flow through a run: parameters, facts, and the templates `${…}` that mention them.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, DeserializeOwned, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::source::Mark;

/// What a step found out or made, by name. Answers `${fact.step.name}`.
pub type Facts = BTreeMap<String, Value>;

/// What a fact or a parameter is. Used to check templates when planning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueType {
    /// Any text.
    Text,
    /// A release, `v1.33.4+rke2r1`.
    Version,
    /// A moment, RFC 3339 in UTC.
    Time,
    /// A whole number.
    Number,
    /// Yes or no.
    Flag,
    /// A list of texts.
    List,
    /// A length of time, `90s`.
    Duration,
}

impl ValueType {
    /// A value of this type, for checking when planning that an action accepts one.
    pub fn sample(self) -> Value {
        match self {
            ValueType::Text => Value::from("text"),
            ValueType::Version => Value::from("v1.33.4+rke2r1"),
            ValueType::Time => Value::from("2026-01-01T00:00:00Z"),
            ValueType::Number => Value::from(1),
            ValueType::Flag => Value::from(true),
            ValueType::List => Value::from(vec!["text"]),
            ValueType::Duration => Value::from("1s"),
        }
    }
}

/// One fact that an action leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FactSpec {
    /// The last part of `${fact.step.name}`.
    pub name: &'static str,
    /// What it is.
    pub kind: ValueType,
}

/// A field of an action: a value, or a template that becomes one when the step starts.
///
/// A text with `${` is a template. The engine puts values in place before the action is bound, so that a running
/// action only meets [`Param::Known`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Param<T> {
    /// The value.
    Known(T),
    /// A text with `${…}` in it.
    Template(String),
}

/// A template was left in place where a value is needed: a defect of the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the value of `{0}` is not known yet")]
pub struct NotKnown(String);

impl<T> Param<T> {
    /// The value, when it is known.
    pub fn get(&self) -> Result<&T, NotKnown> {
        match self {
            Param::Known(value) => Ok(value),
            Param::Template(text) => Err(NotKnown(text.clone())),
        }
    }
}

impl<T: Default> Default for Param<T> {
    fn default() -> Self {
        Param::Known(T::default())
    }
}

impl<T: Serialize> Serialize for Param<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Param::Known(value) => value.serialize(serializer),
            Param::Template(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Param<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mark = crate::source::take()?;
        deserializer.deserialize_any(ParamVisitor(mark, PhantomData))
    }
}

struct ParamVisitor<T>(Mark, PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for ParamVisitor<T> {
    type Value = Param<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or a \"${…}\" template")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        if text.contains("${") {
            parse_template(text).map_err(E::custom)?;
            crate::source::note_template(self.0, text);
            return Ok(Param::Template(text.to_owned()));
        }
        T::deserialize(text.into_deserializer()).map(Param::Known)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(Param::Known)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(Param::Known)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(Param::Known)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Self::Value, A::Error> {
        T::deserialize(SeqAccessDeserializer::new(sequence)).map(Param::Known)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Param::Known)
    }
}

/// One `${…}` of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `${param.x}`
    Param(String),
    /// `${fact.step.x}`
    Fact {
        /// The step that leaves the fact.
        step: String,
        /// The fact.
        name: String,
    },
    /// `${host.x}`: `name`, `address`, `role`, `init` (the init server's name), `init_address`.
    Host(String),
    /// `${run.x}`: `id`.
    Run(String),
    /// `${round.x}`: `value`, `later`, `number` of the round that a repeated step stands in.
    Round(String),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Param(name) => write!(f, "${{param.{name}}}"),
            Reference::Fact { step, name } => write!(f, "${{fact.{step}.{name}}}"),
            Reference::Host(name) => write!(f, "${{host.{name}}}"),
            Reference::Run(name) => write!(f, "${{run.{name}}}"),
            Reference::Round(name) => write!(f, "${{round.{name}}}"),
        }
    }
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text that stays.
    Text(String),
    /// A reference that is replaced.
    Reference(Reference),
}

/// Cuts a text at its `${…}`. The error says which part is wrong and what is expected there.
pub fn parse_template(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if start > 0 {
            pieces.push(Piece::Text(rest[..start].to_owned()));
        }
        let after = &rest[start + 2..];
        let end = after.find('}').ok_or_else(|| format!("`{}` has no closing `}}`", &rest[start..]))?;
        pieces.push(Piece::Reference(parse_reference(&after[..end])?));
        rest = &after[end + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

/// The reference that a text is; `None`: it is none, or more than one alone.
pub fn lone_reference(text: &str) -> Option<Reference> {
    match parse_template(text).ok()?.as_slice() {
        [Piece::Reference(reference)] => Some(reference.clone()),
        _ => None,
    }
}

fn parse_reference(path: &str) -> Result<Reference, String> {
    let parts: Vec<&str> = path.split('.').collect();
    match parts.as_slice() {
        ["param", name] => Ok(Reference::Param((*name).to_owned())),
        ["fact", step, name] => Ok(Reference::Fact { step: (*step).to_owned(), name: (*name).to_owned() }),
        ["host", name] => Ok(Reference::Host((*name).to_owned())),
        ["run", name] => Ok(Reference::Run((*name).to_owned())),
        ["round", name] => Ok(Reference::Round((*name).to_owned())),
        _ => Err(format!(
            "`${{{path}}}` is not a reference: expected ${{param.NAME}}, ${{fact.STEP.NAME}}, ${{host.NAME}} or ${{run.id}}"
        )),
    }
}

/// Replaces every template inside a JSON value. A text that is one reference alone takes the value's own type;
/// inside a longer text a value is written as text.
pub fn render(value: &Value, lookup: &dyn Fn(&Reference) -> Result<Value, String>) -> Result<Value, String> {
    match value {
        Value::String(text) if text.contains("${") => render_text(text, lookup),
        Value::Array(items) => {
            items.iter().map(|item| render(item, lookup)).collect::<Result<_, _>>().map(Value::Array)
        }
        Value::Object(fields) => fields
            .iter()
            .map(|(name, field)| Ok((name.clone(), render(field, lookup)?)))
            .collect::<Result<_, String>>()
            .map(Value::Object),
        other => Ok(other.clone()),
    }
}

fn render_text(text: &str, lookup: &dyn Fn(&Reference) -> Result<Value, String>) -> Result<Value, String> {
    let pieces = parse_template(text)?;
    if let [Piece::Reference(reference)] = pieces.as_slice() {
        return lookup(reference);
    }
    let mut rendered = String::new();
    for piece in &pieces {
        match piece {
            Piece::Text(part) => rendered.push_str(part),
            Piece::Reference(reference) => match lookup(reference)? {
                Value::String(part) => rendered.push_str(&part),
                other => rendered.push_str(&other.to_string()),
            },
        }
    }
    Ok(Value::String(rendered))
}

/// Every reference inside a JSON value, in order.
pub fn references(value: &Value) -> Vec<Reference> {
    let mut found = Vec::new();
    collect_references(value, &mut found);
    found
}

fn collect_references(value: &Value, found: &mut Vec<Reference>) {
    match value {
        Value::String(text) if text.contains("${") => {
            let pieces = parse_template(text).unwrap_or_default();
            found.extend(pieces.into_iter().filter_map(|piece| match piece {
                Piece::Reference(reference) => Some(reference),
                Piece::Text(_) => None,
            }));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| collect_references(field, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Fields {
        version: Param<String>,
        ports: Param<Vec<u16>>,
    }

    fn read(text: &str) -> Fields {
        ron::from_str(text).unwrap()
    }

    #[test]
    fn a_field_is_a_value_or_a_template() {
        let fields = read(r#"(version: "v1", ports: [1, 2])"#);
        assert_eq!(fields, Fields { version: Param::Known("v1".into()), ports: Param::Known(vec![1, 2]) });
        let fields = read(r#"(version: "${param.version}", ports: "${fact.point.ports}")"#);
        assert_eq!(fields.version, Param::Template("${param.version}".into()));
        assert!(fields.ports.get().is_err());
    }

    #[test]
    fn a_lone_reference_keeps_its_type_and_a_longer_text_becomes_text() {
        let lookup = |_: &Reference| Ok(Value::from(vec!["a"]));
        assert_eq!(render(&Value::from("${param.x}"), &lookup).unwrap(), Value::from(vec!["a"]));
        assert_eq!(render(&Value::from("n=${param.x}"), &lookup).unwrap(), Value::from(r#"n=["a"]"#));
    }

    #[test]
    fn a_reference_that_is_none_is_refused_where_it_stands() {
        let error = ron::from_str::<Fields>(r#"(version: "${params.version}", ports: [])"#).unwrap_err();
        assert_eq!(error.span.start.line, 1);
        assert!(error.to_string().contains("${param.NAME}"), "{error}");
        assert!(parse_template("${param.x").is_err());
    }
}
