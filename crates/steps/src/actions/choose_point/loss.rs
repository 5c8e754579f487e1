//! What is lost when the cluster goes back to a moment, in words for the person who is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use rke2flow_engine::action::{Context, Failure};

use crate::actions::World;
use crate::actions::census::{self, AnyKindName, KINDS, Since};
use crate::kinds::{AnyKind, Node};
use crate::point::{NodeRecord, VolumeRecord};

/// How long the API is asked for it.
const LIMIT: Duration = Duration::from_secs(20);
/// How many names of one thing are written out.
const NAMES_MAX: usize = 8;
/// The secrets in which Helm keeps its releases.
const HELM: &str = "/api/v1/secrets?labelSelector=owner%3Dhelm";
/// The persistent volumes.
const VOLUMES: &str = "/api/v1/persistentvolumes";

/// The moment to go back to, as far as it is known.
pub(super) struct Moment<'a> {
    /// When the snapshot was taken.
    pub taken_at: Timestamp,
    /// etcd's revision then; 0: not known.
    pub revision: i64,
    /// The nodes then; `None`: not known.
    pub nodes: Option<&'a BTreeMap<String, NodeRecord>>,
    /// How many objects of each kind there were.
    pub counts: &'a BTreeMap<String, u64>,
    /// The volumes then.
    pub volumes: &'a [VolumeRecord],
}

/// Everything that is lost or stays behind, in one paragraph.
pub(super) async fn told(world: &World, context: &Context, moment: &Moment<'_>) -> String {
    let age = age(context.clock.now().duration_since(moment.taken_at).as_secs());
    let mut parts = vec![format!("the snapshot is {age} old")];
    match context.clock.timeout(LIMIT, since(world, moment)).await {
        Some(Ok(found)) => parts.extend(found),
        Some(Err(failure)) => {
            parts.push(format!("what was written since cannot be told, the API does not answer ({failure})"))
        }
        None => {
            parts.push(format!("what was written since cannot be told, the API took more than {} s", LIMIT.as_secs()))
        }
    }
    if moment.nodes.is_some() {
        let volumes = moment.volumes.iter().filter(|volume| !volume.claim.is_empty());
        let claims: Vec<String> = volumes.map(|volume| format!("{}/{}", volume.namespace, volume.claim)).collect();
        if !claims.is_empty() {
            parts.push(format!("the data of volumes stays as it is, unless `data` names it: {}", few(&claims)));
        }
    }
    parts.join("; ")
}

async fn since(world: &World, moment: &Moment<'_>) -> Result<Vec<String>, Failure> {
    let mut parts = Vec::new();
    let (mut created, mut changed, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
    for (kind, path) in KINDS {
        let Some(found) = census::since(world, path, moment.taken_at, moment.revision).await? else { continue };
        if !found.created.is_empty() {
            created.push(format!("{} {kind}{}", found.created.len(), named(kind, &found.created)));
        }
        if found.changed > 0 {
            changed.push(format!("{} {kind}", found.changed));
        }
        if let Some(gone) = gone(moment.counts.get(kind), &found) {
            deleted.push(format!("{gone} {kind}"));
        }
    }
    for (verb, list) in [("created", created), ("changed", changed), ("deleted", deleted)] {
        if !list.is_empty() {
            parts.push(format!("{verb} since: {}", list.join(", ")));
        }
    }
    if parts.is_empty() {
        parts.push("nothing was created since, as far as the API tells".to_owned());
    }
    if moment.revision == 0 {
        parts.push("what was changed or deleted since cannot be told without a recovery point".to_owned());
    }
    parts.extend(nodes(world, moment).await?);
    parts.extend(helm(world, moment).await?);
    parts.extend(volumes(world, moment).await?);
    Ok(parts)
}

/// At least so many are not there any more: those that came since are not among those that were there.
fn gone(before: Option<&u64>, found: &Since) -> Option<u64> {
    let left = found.now?.checked_sub(found.created.len())? as u64;
    before?.checked_sub(left).filter(|gone| *gone > 0)
}

fn named(kind: &str, created: &[AnyKindName]) -> String {
    if !matches!(kind, "namespaces" | "volumes") {
        return String::new();
    }
    let names: Vec<String> = created.iter().map(|object| object.name.clone()).collect();
    format!(" ({})", few(&names))
}

async fn nodes(world: &World, moment: &Moment<'_>) -> Result<Vec<String>, Failure> {
    let Some(before) = moment.nodes else { return Ok(Vec::new()) };
    let nodes: Vec<Node> = world.objects().list("/api/v1/nodes").await?.unwrap_or_default();
    let now: BTreeSet<&str> = nodes.iter().map(|node| node.metadata.name.as_str()).collect();
    let added: Vec<String> = now.iter().filter(|name| !before.contains_key(**name)).map(|n| (*n).to_owned()).collect();
    let gone: Vec<String> = before.keys().filter(|name| !now.contains(name.as_str())).cloned().collect();
    let mut parts = Vec::new();
    if !added.is_empty() {
        parts.push(format!("nodes that came since: {}", few(&added)));
    }
    if !gone.is_empty() {
        parts.push(format!("nodes that come back as ghosts: {}", few(&gone)));
    }
    Ok(parts)
}

/// Each revision of a release is a secret of its own.
async fn helm(world: &World, moment: &Moment<'_>) -> Result<Option<String>, Failure> {
    let secrets: Vec<AnyKind> = world.objects().list(HELM).await?.unwrap_or_default();
    let newer = secrets.iter().map(|secret| &secret.metadata).filter(|meta| {
        meta.labels.get("owner").is_some_and(|owner| owner == "helm")
            && meta.creation_timestamp.is_some_and(|made| made > moment.taken_at)
    });
    let label = |labels: &BTreeMap<String, String>, name: &str| labels.get(name).cloned().unwrap_or_default();
    let releases: BTreeSet<String> = newer
        .map(|meta| format!("{}/{} (v{})", meta.namespace, label(&meta.labels, "name"), label(&meta.labels, "version")))
        .collect();
    let releases: Vec<String> = releases.into_iter().collect();
    Ok((!releases.is_empty()).then(|| format!("Helm releases installed or upgraded since: {}", few(&releases))))
}

/// A volume that came since is forgotten by the cluster and goes on existing where it was made.
async fn volumes(world: &World, moment: &Moment<'_>) -> Result<Option<String>, Failure> {
    if moment.nodes.is_none() {
        return Ok(None);
    }
    let known: BTreeSet<&str> = moment.volumes.iter().map(|volume| volume.name.as_str()).collect();
    let now: Vec<AnyKind> = world.objects().list(VOLUMES).await?.unwrap_or_default();
    let names = now.into_iter().map(|volume| volume.metadata.name);
    let new: Vec<String> = names.filter(|name| !known.contains(name.as_str())).collect();
    Ok((!new.is_empty()).then(|| format!("volumes that are left without an owner: {}", few(&new))))
}

fn few(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn age(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        _ if seconds < 60 => "less than a minute".to_owned(),
        (0, 0) => format!("{minutes} min"),
        (0, hours) => format!("{hours} h {minutes} min"),
        (days, hours) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_two_units_at_most() {
        for (seconds, text) in [(59, "less than a minute"), (60, "1 min"), (7_500, "2 h 5 min"), (180_000, "2 d 2 h")] {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn what_is_gone_is_counted_without_what_came() {
        let object = AnyKindName { namespace: String::new(), name: "a".to_owned() };
        let found = |now| Since { created: vec![object.clone()], changed: 0, now };
        assert_eq!(gone(Some(&5), &found(Some(4))), Some(2));
        assert_eq!(gone(Some(&5), &found(Some(6))), None);
        assert_eq!(gone(Some(&5), &found(None)), None);
        assert_eq!(gone(None, &found(Some(4))), None);
    }
}
