//! The blast radius for people.

use std::fmt::Display;

use rke2flow_engine::duration::Span;
use rke2flow_engine::id::HostName;

use super::Colour;
use crate::blast::{BlastRadius, Known};

/// How many workloads and budgets are named; the document has more.
const NAMED_MAX: usize = 10;

/// As lines; none when nothing of the cluster is touched.
pub fn lines(radius: &BlastRadius, colour: Colour) -> Vec<String> {
    if radius.is_nothing() {
        return Vec::new();
    }
    let mut lines = vec!["blast radius:".to_owned()];
    let kinds = [
        ("stopped, containers too", &radius.killed),
        ("restarted", &radius.restarted),
        ("drained", &radius.drained),
        ("cordoned", &radius.cordoned),
    ];
    lines.extend(
        kinds.iter().filter(|(_, nodes)| !nodes.is_empty()).map(|(how, nodes)| format!("  {how}: {}", names(nodes))),
    );
    let loss = match radius.api_loss.expected {
        none if none == Span::default() => "0s".to_owned(),
        some => some.to_string(),
    };
    lines.push(format!("  no API for {loss} ({})", radius.api_loss.why));
    let blocking = listed(&radius.blocking_budgets, |blocking| {
        format!("{} {}, on {}", blocking.budget, blocking.why, blocking.nodes.join(" "))
    });
    match &radius.blocking_budgets {
        Known::Known { named, .. } if named.is_empty() && radius.drained.is_empty() => {}
        _ => lines.extend(section("budgets that block a drain", blocking, colour)),
    }
    lines.extend(section("workloads of one pod there", listed(&radius.single_replicas, ToString::to_string), colour));
    lines.extend(radius.not_rolled_back.iter().map(|what| format!("  no rollback brings back: {what}")));
    lines
}

fn names(nodes: &[HostName]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// What there is, line by line; or why nobody can tell.
fn listed<T>(known: &Known<T>, show: impl Fn(&T) -> String) -> Result<Vec<String>, String> {
    match known {
        Known::CannotTell { why } => Err(why.clone()),
        Known::Known { named, more } => {
            let mut shown: Vec<String> = named.iter().take(NAMED_MAX).map(show).collect();
            let beyond = named.len() - shown.len() + more;
            if beyond > 0 {
                shown.push(format!("and {beyond} more (-o json names them)"));
            }
            Ok(shown)
        }
    }
}

fn section(title: impl Display, entries: Result<Vec<String>, String>, colour: Colour) -> Vec<String> {
    match entries {
        Ok(entries) if entries.is_empty() => vec![format!("  {title}: none")],
        Ok(entries) => {
            let first = format!("  {}:", colour.warn(&title.to_string()));
            std::iter::once(first).chain(entries.into_iter().map(|entry| format!("    {entry}"))).collect()
        }
        Err(why) => vec![format!("  {title}: {}: {why}", colour.bad("cannot tell"))],
    }
}
