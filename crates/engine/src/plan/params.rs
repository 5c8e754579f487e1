//! Parameters: defaults, `--set name=value` by type, and the values that go into the plan.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::action::ActionSpec;
use crate::cluster::{Cluster, check_version};
use crate::diagnostic::Diagnostic;
use crate::duration::Span;
use crate::id::{HostName, StepId};
use crate::release::check_hops;
use crate::runbook::{ParamType, Problems, Runbook};
use crate::value::{Piece, Reference, parse_template};

/// What `${cluster.x}` can name in the default of a parameter.
pub const CLUSTER_FIELDS: [&str; 3] = ["version", "name", "init"];

/// The field that `${cluster.x}` names, when the text is such a reference alone.
pub(crate) fn cluster_field(text: &str) -> Option<&str> {
    let field = text.strip_prefix("${cluster.")?.strip_suffix('}')?;
    CLUSTER_FIELDS.contains(&field).then_some(field)
}

/// Every parameter's value: what was set, else its default.
pub(super) fn settle<A: ActionSpec>(
    runbook: &Runbook<A>,
    cluster: &Cluster,
    set: &[String],
    problems: &mut Problems,
) -> BTreeMap<String, Value> {
    let mut values = BTreeMap::new();
    for setting in set {
        let Some((name, text)) = setting.split_once('=') else {
            problems.add_outside(Diagnostic::error(format!("`{setting}` sets nothing")).help("write --set NAME=VALUE"));
            continue;
        };
        let Some(param) = runbook.params.get(name) else {
            let message = format!("runbook `{}` has no parameter `{name}`", runbook.name);
            let known = runbook.params.keys().map(String::as_str);
            problems.add_outside(Diagnostic::error(message).meant(name, known));
            continue;
        };
        match typed(param.kind(), text, cluster) {
            // The last one counts, as in helm and terraform.
            Ok(value) => drop(values.insert(name.to_owned(), value)),
            Err(problem) => {
                problems.add_outside(problem.prefixed(&format!("parameter `{name}`: ")));
                values.insert(name.to_owned(), Value::Null);
            }
        }
    }
    for (name, param) in &runbook.params {
        if values.contains_key(name) {
            continue;
        }
        match default_of(name, param, cluster) {
            Ok(value) => drop(values.insert(name.clone(), value)),
            Err(problem) => problems.add(param.mark, problem),
        }
    }
    values
}

fn default_of(name: &str, param: &crate::runbook::ParamSpec, cluster: &Cluster) -> Result<Value, Diagnostic> {
    let give = format!("give it with --set {name}=…");
    let Some(value) = param.default_value() else {
        return Err(Diagnostic::error(format!("parameter `{name}` has no value")).help(give));
    };
    let from_cluster = |text: &str| {
        let field = cluster_field(text)?;
        let found = match field {
            "version" => cluster.version.clone(),
            "init" => cluster.init_server().map(|host| host.name.to_string()),
            _ => Some(cluster.name.clone()),
        };
        let message = format!("parameter `{name}` has no value: the cluster file has no `{field}`");
        Some(found.map(Value::from).ok_or_else(|| Diagnostic::error(message).help(give.clone())))
    };
    if let Some(found) = value.as_str().and_then(from_cluster) {
        return found;
    }
    if param.kind() == ParamType::Versions {
        let items = value.as_array().into_iter().flatten();
        let items = items.map(|item| item.as_str().and_then(from_cluster).unwrap_or_else(|| Ok(item.clone())));
        let items: Vec<Value> = items.collect::<Result<_, _>>()?;
        return hops(items).map_err(|problem| problem.prefixed(&format!("parameter `{name}`: ")));
    }
    if param.kind() == ParamType::Hosts {
        for host in value.as_array().into_iter().flatten().filter_map(Value::as_str) {
            known_host(host, cluster)?;
        }
    }
    Ok(value)
}

/// Releases that a cluster can go through one after the other.
fn hops(items: Vec<Value>) -> Result<Value, Diagnostic> {
    let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
    if texts.is_empty() {
        return Err(Diagnostic::error("it names no release").help("write releases with commas between them"));
    }
    for text in &texts {
        check_version(text).map_err(Diagnostic::error)?;
    }
    let help = "name every minor release on the way, oldest first, with commas between them";
    check_hops(&texts).map_err(|why| Diagnostic::error(why).help(help))?;
    Ok(Value::from(items))
}

/// A value of this type from what was typed.
fn typed(kind: ParamType, text: &str, cluster: &Cluster) -> Result<Value, Diagnostic> {
    if text.contains("${") {
        return Err(Diagnostic::error("`${` cannot stand in a value"));
    }
    let items = || text.split(',').map(str::trim).filter(|item| !item.is_empty());
    match kind {
        ParamType::Text => Ok(Value::from(text)),
        ParamType::Version => check_version(text).map(|()| Value::from(text)).map_err(Diagnostic::error),
        ParamType::Versions => hops(items().map(Value::from).collect()),
        ParamType::RecoveryPoint if text.is_empty() || text.contains(char::is_whitespace) => {
            let help = "write a run id, the name of a snapshot file, or latest";
            Err(Diagnostic::error(format!("`{text}` is not a recovery point")).help(help))
        }
        ParamType::RecoveryPoint => Ok(Value::from(text)),
        ParamType::Namespaces => {
            for item in items() {
                StepId::new(item).map_err(|_| Diagnostic::error(format!("`{item}` is not a namespace")))?;
            }
            Ok(Value::from(items().collect::<Vec<_>>()))
        }
        ParamType::Hosts => {
            for item in items() {
                known_host(item, cluster)?;
            }
            Ok(Value::from(items().collect::<Vec<_>>()))
        }
        ParamType::Number => {
            let number = text.parse::<i64>().map(Value::from);
            number.map_err(|_| Diagnostic::error(format!("`{text}` is not a whole number")))
        }
        ParamType::Flag => match text {
            "true" => Ok(Value::from(true)),
            "false" => Ok(Value::from(false)),
            _ => Err(Diagnostic::error(format!("`{text}` is neither true nor false"))),
        },
        ParamType::Duration => Span::parse(text).map(|span| Value::from(span.to_string())).map_err(Diagnostic::error),
    }
}

/// The host of this name in the cluster file.
pub(super) fn known_host(name: &str, cluster: &Cluster) -> Result<HostName, Diagnostic> {
    match cluster.hosts.iter().find(|host| host.name.as_str() == name) {
        Some(host) => Ok(host.name.clone()),
        None => {
            let known = cluster.hosts.iter().map(|host| host.name.as_str());
            Err(Diagnostic::error(format!("the cluster file has no host `{name}`")).meant(name, known))
        }
    }
}

/// Puts in place what has an answer inside a JSON value, and leaves every other reference as it is.
pub(super) fn substitute(value: Value, answer: &dyn Fn(&Reference) -> Option<Value>) -> Value {
    match value {
        Value::String(text) if text.contains("${") => substitute_text(text, answer),
        Value::Array(items) => items.into_iter().map(|item| substitute(item, answer)).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, field)| (name, substitute(field, answer))).collect(),
        other => other,
    }
}

fn substitute_text(text: String, answer: &dyn Fn(&Reference) -> Option<Value>) -> Value {
    let pieces = parse_template(&text).unwrap_or_default();
    if let [Piece::Reference(only)] = pieces.as_slice() {
        return answer(only).unwrap_or(Value::String(text));
    }
    let mut rendered = String::new();
    for piece in &pieces {
        match piece {
            Piece::Text(part) => rendered.push_str(part),
            Piece::Reference(reference) => match answer(reference) {
                Some(Value::String(part)) => rendered.push_str(&part),
                Some(other) => rendered.push_str(&other.to_string()),
                None => rendered.push_str(&reference.to_string()),
            },
        }
    }
    Value::String(rendered)
}
