//! The recovery points that can be chosen: what every server and the bucket keep, merged by id.

use std::collections::BTreeMap;

use futures::future::join_all;
use rke2flow_engine::action::Failure;

use crate::actions::World;
use crate::actions::bucket_keys::Folder;
use crate::point::RecoveryPoint;

/// The largest recovery point that is read from the bucket, in bytes.
const POINT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How many keys of recovery points are listed, and how many of the newest are read.
const KEYS_MAX: usize = 10_000;
const POINTS_MAX: usize = 50;

/// What was found, and who could not be asked.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// Points by id. Of two records of one id the one that names more snapshots.
    pub points: BTreeMap<String, RecoveryPoint>,
    /// Who gave no answer, and why.
    pub silent: Vec<String>,
}

impl Candidates {
    /// Asks every server and the bucket; fails only when nobody answers.
    pub async fn gather(world: &World) -> Result<Self, Failure> {
        let mut found = Self::default();
        let ask = |host| async move { (host, world.hosts().points(host).await) };
        let servers = join_all(world.servers().map(|server| ask(&server.name))).await;
        let (mut answers, mut first) = (0, None);
        for (server, points) in servers {
            match points {
                Ok(points) => {
                    answers += 1;
                    points.into_iter().for_each(|point| found.add(point));
                }
                Err(failure) => {
                    found.silent.push(format!("{server}: {failure}"));
                    first.get_or_insert(failure);
                }
            }
        }
        if let Some(folder) = Folder::of(world) {
            match found.add_bucket(&folder).await {
                Ok(()) => answers += 1,
                Err(failure) => {
                    found.silent.push(format!("the bucket: {failure}"));
                    first.get_or_insert(failure);
                }
            }
        }
        match first {
            Some(failure) if answers == 0 => Err(failure),
            _ => Ok(found),
        }
    }

    fn add(&mut self, point: RecoveryPoint) {
        let known = self.points.get(&point.id);
        if known.is_none_or(|known| known.snapshots.len() < point.snapshots.len()) {
            self.points.insert(point.id.clone(), point);
        }
    }

    /// The newest ones that no server has told of: ids begin with their time, so keys are in its order.
    async fn add_bucket(&mut self, folder: &Folder<'_>) -> Result<(), Failure> {
        let prefix = folder.points();
        let keys = folder.bucket().list(&prefix, KEYS_MAX).await?;
        let id_of =
            |key: &str| key.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".json")).map(str::to_owned);
        let unknown = keys
            .iter()
            .rev()
            .take(POINTS_MAX)
            .filter(|object| id_of(&object.key).is_some_and(|id| !self.points.contains_key(&id)));
        let unknown: Vec<&str> = unknown.map(|object| object.key.as_str()).collect();
        for key in unknown {
            let Some(bytes) = folder.bucket().get(key, POINT_BYTES_MAX).await? else { continue };
            match serde_json::from_slice(&bytes) {
                Ok(point) => self.add(point),
                Err(error) => tracing::warn!(key, %error, "a recovery point cannot be read and is left out"),
            }
        }
        Ok(())
    }

    /// Those of this cluster, newest first.
    pub fn of_cluster<'a>(&'a self, cluster: &str) -> Vec<&'a RecoveryPoint> {
        let mut own: Vec<&RecoveryPoint> = self.points.values().filter(|point| point.cluster == cluster).collect();
        own.sort_by_key(|point| std::cmp::Reverse(point.taken_at));
        own
    }

    /// What there is instead of what was asked for, in words.
    pub fn told(&self) -> String {
        let known: Vec<&str> = self.points.keys().map(String::as_str).collect();
        let mut told = match known.is_empty() {
            true => "no recovery point at all (`rke2flow run backup` makes one)".to_owned(),
            false => format!("{} (of this and other clusters)", known.join(", ")),
        };
        if !self.silent.is_empty() {
            told = format!("{told}; not asked: {}", self.silent.join("; "));
        }
        told
    }
}
