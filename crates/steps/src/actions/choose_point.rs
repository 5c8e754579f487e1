//! ChoosePoint: one recovery point or snapshot is chosen, sound, and it is known what goes with it.

mod candidates;
mod loss;
mod rounds;
mod source;

use std::collections::BTreeMap;

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Context, Failure, Place, Probe};
use rke2flow_engine::id::HostName;
use rke2flow_engine::value::Facts;
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

pub(crate) use self::candidates::Candidates;
use self::loss::Moment;
use self::source::{From, Source};
use crate::actions::save_snapshot::base_name;
use crate::actions::{Goal, World, info, known, restored};
use crate::kinds::Node;
use crate::point::RecoveryPoint;
use crate::token::token_hash;

/// Goal: one recovery point or snapshot is chosen, sound, and it is known what goes with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChoosePoint {
    /// `latest`, the id of the run that made it (of several rounds: the newest point; `RUN-1` is that of the first), or
    /// the name of a snapshot file, which needs no recovery point.
    pub to: Param<String>,
    /// The server that is going to be restored; the cluster file's when empty.
    #[serde(default)]
    pub server: Param<String>,
    /// Where the snapshot is taken from: `auto`, `local` (a file of that server) or `s3`.
    #[serde(default)]
    pub from: Param<String>,
    /// The version that ran when the snapshot was taken; needed only for a file without a recovery point.
    #[serde(default)]
    pub version: Param<String>,
}

#[async_trait]
impl Goal for ChoosePoint {
    const INFO: ActionInfo = ActionInfo {
        facts: &[
            FactSpec { name: "id", kind: ValueType::Text },
            FactSpec { name: "snapshot", kind: ValueType::Text },
            FactSpec { name: "snapshot_host", kind: ValueType::Text },
            FactSpec { name: "size", kind: ValueType::Number },
            FactSpec { name: "sha256", kind: ValueType::Text },
            FactSpec { name: "s3_key", kind: ValueType::Text },
            FactSpec { name: "taken_at", kind: ValueType::Time },
            FactSpec { name: "version", kind: ValueType::Version },
            FactSpec { name: "velero_backup", kind: ValueType::Text },
            FactSpec { name: "sentinel_before", kind: ValueType::Text },
            FactSpec { name: "sentinel_after", kind: ValueType::Text },
            FactSpec { name: "loss", kind: ValueType::Text },
        ],
        changes: false,
        revision: 2,
        ..info("ChoosePoint", "one recovery point or snapshot is chosen, sound", Place::Operator, 10)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let wanted = known(&self.to)?;
        let server = restored(world, &self.server)?;
        let candidates = Candidates::gather(world).await?;
        let own = candidates.of_cluster(&context.cluster);
        let point = match wanted.as_str() {
            "latest" => match latest(&own) {
                Ok(point) => point,
                Err(found) => {
                    let expected = "a recovery point of one version (name another one by its id if it is meant)";
                    return Ok(Probe::Refused { expected: expected.to_owned(), found });
                }
            },
            name => rounds::named(&own, name),
        };
        match point {
            Some(point) => self.of_point(world, context, point, &rounds::others(&own, point), &server).await,
            None => self.of_file(world, context, &candidates, &server).await,
        }
    }
}

impl ChoosePoint {
    async fn of_point(
        &self,
        world: &World,
        context: &Context,
        point: &RecoveryPoint,
        others: &[String],
        server: &HostName,
    ) -> Result<Probe, Failure> {
        let from = From::read(known(&self.from)?)?;
        let source = match source::of_point(world, point, server, from).await? {
            Ok(source) => source,
            Err(found) => return Ok(Probe::Refused { expected: format!("a sound snapshot of {}", point.id), found }),
        };
        if let Some(found) = wrong_token(world, &source, &point.token_sha256, server).await? {
            return Ok(another_token(found));
        }
        let moment = Moment {
            taken_at: point.taken_at,
            revision: point.etcd_revision,
            nodes: Some(&point.nodes),
            counts: &point.counts,
            volumes: &point.volumes,
        };
        let mut told = vec![loss::told(world, context, &moment).await];
        if let Some(mixed) = point.mixed() {
            told.insert(0, format!("this point lies in the middle of an upgrade ({mixed})"));
        }
        told.extend(others.iter().cloned());
        let words = Words {
            id: &point.id,
            version: &point.version,
            velero_backup: &point.velero_backup,
            sentinel_before: &point.sentinel_before,
            sentinel_after: &point.sentinel_after,
            loss: told.join("; "),
        };
        Ok(Probe::Satisfied(facts(&source, words)))
    }

    /// A snapshot that no point names: what cannot be proved of it is said.
    async fn of_file(
        &self,
        world: &World,
        context: &Context,
        candidates: &Candidates,
        server: &HostName,
    ) -> Result<Probe, Failure> {
        let (wanted, version) = (known(&self.to)?, known(&self.version)?);
        let from = From::read(known(&self.from)?)?;
        let found = match wanted.as_str() {
            "latest" => None,
            name => source::of_file(world, name, server, from).await?,
        };
        let source = match found {
            Some(Ok(source)) => source,
            Some(Err(found)) => return Ok(Probe::Refused { expected: format!("the sound snapshot {wanted}"), found }),
            None => {
                let expected = format!("the recovery point or snapshot `{wanted}`, on {server} or in the bucket");
                return Ok(Probe::Refused { expected, found: candidates.told() });
            }
        };
        if version.is_empty() {
            let expected = "the version that ran when the snapshot was taken: --set version=v1.33.4+rke2r1".to_owned();
            let running = running(world).await;
            let found = format!("no recovery point names {}, and a snapshot says nothing of it{running}", source.path);
            return Ok(Probe::Refused { expected, found });
        }
        if let Some(found) = wrong_token(world, &source, "", server).await? {
            return Ok(another_token(found));
        }
        let (counts, none) = (BTreeMap::new(), Vec::new());
        let moment = Moment { taken_at: source.taken_at, revision: 0, nodes: None, counts: &counts, volumes: &none };
        let loss = format!("{}; {}", unproved(&source, version), loss::told(world, context, &moment).await);
        let id = base_name(&source.path).to_owned();
        let words = Words { id: &id, version, velero_backup: "", sentinel_before: "", sentinel_after: "", loss };
        Ok(Probe::Satisfied(facts(&source, words)))
    }
}

/// The newest point of one version; otherwise why each of them is none. `None`: there is no point at all.
fn latest<'a>(newest_first: &[&'a RecoveryPoint]) -> Result<Option<&'a RecoveryPoint>, String> {
    let mut mixed = Vec::new();
    for point in newest_first {
        match point.mixed() {
            None => return Ok(Some(point)),
            Some(why) => mixed.push(why),
        }
    }
    if mixed.is_empty() { Ok(None) } else { Err(mixed.join("; ")) }
}

/// A snapshot cannot be read with another token than it was taken with (DOC:datastore/backup_restore.md "Security").
/// RKE2's own hash decides where it is known: only the password counts.
async fn wrong_token(
    world: &World,
    source: &Source,
    token_sha256: &str,
    server: &HostName,
) -> Result<Option<String>, Failure> {
    let whole = world.hosts().survey(server).await?.token_sha256;
    if whole.is_empty() {
        return Ok(wrong_given_token(world, source, server));
    }
    let hash = world.hosts().identity(server).await?.token_hash;
    if !source.token_hash.is_empty() && !hash.is_empty() {
        let differs = source.token_hash != hash;
        return Ok(differs.then(|| format!("{server} has another one (hash {hash}, not {})", source.token_hash)));
    }
    let differs = !token_sha256.is_empty() && whole != token_sha256;
    Ok(differs.then(|| format!("{server} has another one (SHA-256 {whole})")))
}

/// A machine that is made anew has no token yet: the cluster file's is what it will have.
fn wrong_given_token(world: &World, source: &Source, server: &HostName) -> Option<String> {
    let Some(token) = &world.access().token else { return Some(format!("{server} has no token on disk")) };
    let hash = token_hash(token.expose_secret()).unwrap_or_default();
    let differs = !source.token_hash.is_empty() && source.token_hash != hash;
    differs.then(|| format!("the cluster file's `token` is another one (hash {hash}, not {})", source.token_hash))
}

fn another_token(found: String) -> Probe {
    Probe::Refused { expected: "the token that the snapshot was taken with".to_owned(), found }
}

/// What today's nodes run, as a hint; nothing when the API does not answer.
async fn running(world: &World) -> String {
    let nodes: Vec<Node> = world.objects().list("/api/v1/nodes").await.ok().flatten().unwrap_or_default();
    let versions: std::collections::BTreeSet<&str> = nodes.iter().map(Node::version).collect();
    match versions.is_empty() {
        true => String::new(),
        false => format!(" (the nodes run {} now)", versions.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

fn unproved(source: &Source, version: &str) -> String {
    let mut unproved = vec![
        "that exactly this snapshot runs afterwards (it has no sentinel)".to_owned(),
        format!("that {version} ran when it was taken"),
    ];
    if source.token_hash.is_empty() {
        unproved.push("that the server's token fits".to_owned());
    }
    format!("no recovery point belongs to {}: it cannot be proved {}", base_name(&source.path), unproved.join(", nor "))
}

struct Words<'a> {
    id: &'a str,
    version: &'a str,
    velero_backup: &'a str,
    sentinel_before: &'a str,
    sentinel_after: &'a str,
    loss: String,
}

fn facts(source: &Source, words: Words<'_>) -> Facts {
    let mut facts = Facts::from(
        [
            ("id", words.id.to_owned()),
            ("snapshot", source.path.clone()),
            ("snapshot_host", source.host.clone()),
            ("sha256", source.sha256.clone()),
            ("s3_key", source.s3_key.clone()),
            ("taken_at", source.taken_at.to_string()),
            ("version", words.version.to_owned()),
            ("velero_backup", words.velero_backup.to_owned()),
            ("sentinel_before", words.sentinel_before.to_owned()),
            ("sentinel_after", words.sentinel_after.to_owned()),
            ("loss", words.loss),
        ]
        .map(|(name, value)| (name.to_owned(), value.into())),
    );
    facts.insert("size".to_owned(), source.size.into());
    facts
}

#[cfg(test)]
mod tests;
