//! `params`: what a runbook can be told with `--set`, and what it takes otherwise.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::duration::Span;
use crate::source::Marked;
use crate::value::ValueType;

/// A parameter: its type and its default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename = "ParameterType")]
pub enum ParamSpec {
    /// Any text.
    Text(String),
    /// A release; the default may be `${cluster.version}`.
    Version(String),
    /// Releases one after the other, each at most one minor release further; one may be `${cluster.version}`.
    Versions(Vec<String>),
    /// A run id, the name of a snapshot file, or `latest`.
    RecoveryPoint(String),
    /// Kubernetes namespaces.
    Namespaces(Vec<String>),
    /// Hosts of the cluster file.
    Hosts(Vec<String>),
    /// A whole number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
    /// A length of time.
    Duration(Span),
    /// No default: `--set` must give it.
    Required(ParamType),
}

/// What a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename = "ParameterType")]
pub enum ParamType {
    /// Any text.
    Text,
    /// A release.
    Version,
    /// Releases one after the other, each at most one minor release further.
    Versions,
    /// A run id, the name of a snapshot file, or `latest`.
    RecoveryPoint,
    /// Kubernetes namespaces.
    Namespaces,
    /// Hosts of the cluster file.
    Hosts,
    /// A whole number.
    Number,
    /// Yes or no.
    Flag,
    /// A length of time.
    Duration,
}

impl ParamSpec {
    /// What it is.
    pub fn kind(&self) -> ParamType {
        match self {
            ParamSpec::Text(_) => ParamType::Text,
            ParamSpec::Version(_) => ParamType::Version,
            ParamSpec::Versions(_) => ParamType::Versions,
            ParamSpec::RecoveryPoint(_) => ParamType::RecoveryPoint,
            ParamSpec::Namespaces(_) => ParamType::Namespaces,
            ParamSpec::Hosts(_) => ParamType::Hosts,
            ParamSpec::Number(_) => ParamType::Number,
            ParamSpec::Flag(_) => ParamType::Flag,
            ParamSpec::Duration(_) => ParamType::Duration,
            ParamSpec::Required(kind) => *kind,
        }
    }

    /// Its default, `${cluster.…}` still in place; `None` when `--set` must give a value.
    pub fn default_value(&self) -> Option<Value> {
        match self {
            ParamSpec::Text(text) | ParamSpec::Version(text) | ParamSpec::RecoveryPoint(text) => {
                Some(Value::from(text.as_str()))
            }
            ParamSpec::Versions(list) | ParamSpec::Namespaces(list) | ParamSpec::Hosts(list) => {
                Some(Value::from(list.clone()))
            }
            ParamSpec::Number(number) => Some(Value::from(*number)),
            ParamSpec::Flag(flag) => Some(Value::from(*flag)),
            ParamSpec::Duration(span) => Some(Value::from(span.to_string())),
            ParamSpec::Required(_) => None,
        }
    }
}

impl ParamType {
    /// The type of its value in a template.
    pub fn value_type(self) -> ValueType {
        match self {
            ParamType::Text | ParamType::RecoveryPoint => ValueType::Text,
            ParamType::Version => ValueType::Version,
            ParamType::Versions | ParamType::Namespaces | ParamType::Hosts => ValueType::List,
            ParamType::Number => ValueType::Number,
            ParamType::Flag => ValueType::Flag,
            ParamType::Duration => ValueType::Duration,
        }
    }

    /// The type of one of its values; `None`: it is no list.
    pub fn item_type(self) -> Option<ValueType> {
        match self {
            ParamType::Versions => Some(ValueType::Version),
            ParamType::Namespaces | ParamType::Hosts => Some(ValueType::Text),
            _ => None,
        }
    }
}

/// A map that refuses a name given twice: the last one would silently win otherwise.
pub(super) fn unique_params<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Marked<ParamSpec>>, D::Error> {
    struct Unique;
    impl<'de> Visitor<'de> for Unique {
        type Value = BTreeMap<String, Marked<ParamSpec>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of parameters such as {\"to\": Text(\"latest\")}")
        }

        fn visit_map<M: de::MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut params = BTreeMap::new();
            while let Some(name) = map.next_key::<String>()? {
                if params.contains_key(&name) {
                    return Err(de::Error::custom(format_args!("the parameter `{name}` is given twice")));
                }
                params.insert(name, map.next_value()?);
            }
            Ok(params)
        }
    }
    deserializer.deserialize_map(Unique)
}
