//! What the guard judges by: every host's word and every node, gathered once for all checks.

use rke2flow_engine::action::Failure;
use rke2flow_engine::cluster::{Host, Role};

use super::{Check, datastore};
use crate::actions::hop::Hop;
use crate::actions::{Finding, World, voter};
use crate::answer::Survey;
use crate::kinds::Node;
use crate::release::Release;

/// How many minor releases a kubelet may be older than its API server (Kubernetes version skew policy).
const KUBELET_SKEW_MAX: u64 = 3;
/// A snapshot and a restore each need as much room as etcd has.
const ETCD_ROOM: u64 = 2;

/// What was seen, failures included: one host that does not answer must not hide what the others say.
pub(super) struct Evidence<'a> {
    surveys: Vec<(&'a Host, Result<Survey, Failure>)>,
    nodes: Result<Vec<Node>, Failure>,
}

impl<'a> Evidence<'a> {
    /// Looks at every host that is not lost, and at the nodes.
    pub async fn gather(world: &'a World, lost: &[String]) -> Self {
        let alive = |host: &&Host| !lost.iter().any(|name| name == host.name.as_str());
        let surveys = world.surveys(world.cluster().hosts.iter().filter(alive)).await;
        let nodes = world.objects().list("/api/v1/nodes").await.map(Option::unwrap_or_default);
        Self { surveys, nodes }
    }

    /// Judges one check.
    pub fn judge(&self, world: &World, check: Check, hop: &Hop<'_>) -> Finding {
        let (well, missing) = match check {
            Check::HostsReachable => self.hosts_reachable(),
            Check::EtcdQuorum => self.etcd_quorum(),
            Check::VersionSkew => self.version_skew(hop),
            Check::DiskFree => self.disk_free(),
            Check::ServerToken => self.server_token(),
            Check::EmbeddedEtcd => datastore::embedded_etcd(world.distribution(), self.servers()),
            Check::ServerFlag => datastore::server_flag(world, self.hosts()),
            Check::EtcdBackupRequiresS3Config => self.etcd_backup_requires_s3_config(world),
            Check::VeleroRequiresS3Config => velero_requires_s3_config(world),
            Check::VeleroRequiresCsi => velero_requires_csi(world),
        };
        Finding::unless_missing(check.to_string(), well, missing)
    }

    fn hosts(&self) -> impl Iterator<Item = (&Host, &Survey)> + Clone {
        self.surveys.iter().filter_map(|(host, survey)| Some((*host, survey.as_ref().ok()?)))
    }

    fn servers(&self) -> impl Iterator<Item = (&Host, &Survey)> {
        self.hosts().filter(|(host, _)| host.role == Role::Server)
    }

    fn hosts_reachable(&self) -> (String, Vec<String>) {
        let silent = self.surveys.iter().filter_map(|(_, survey)| survey.as_ref().err().map(ToString::to_string));
        (format!("{} hosts answer", self.surveys.len()), silent.collect())
    }

    fn etcd_quorum(&self) -> (String, Vec<String>) {
        let servers: Vec<&Host> =
            self.surveys.iter().filter(|(host, _)| host.role == Role::Server).map(|(host, _)| *host).collect();
        let mut ill = Vec::new();
        for (host, survey) in self.servers() {
            ill.extend(voter::lacks(&host.name, survey));
            let strangers = survey
                .members
                .iter()
                .filter(|member| !servers.iter().any(|server| voter::is_member_of(&member.name, &server.name)));
            ill.extend(strangers.map(|member| format!("{}: {} is a member and no server", host.name, member.name)));
        }
        let seen = self.servers().count();
        if seen < servers.len() {
            ill.push(format!("only {seen} of {} servers answer", servers.len()));
        }
        (format!("{seen} of {seen} servers vote and are healthy"), ill)
    }

    fn version_skew(&self, hop: &Hop<'_>) -> (String, Vec<String>) {
        let version = hop.version;
        let nodes = match &self.nodes {
            Ok(nodes) => nodes,
            Err(failure) => return (String::new(), vec![failure.to_string()]),
        };
        let mut ill = Vec::new();
        let mut running = Vec::new();
        for (host, _) in &self.surveys {
            let node = nodes.iter().find(|node| node.metadata.name == host.name.as_str());
            match node.map(|node| (node.version(), node.version().parse::<Release>())) {
                None => ill.push(format!("the API has no node {}", host.name)),
                Some((text, Err(_))) => ill.push(format!("{} runs `{text}`, which is no release", host.name)),
                Some((_, Ok(release))) => running.push((*host, release)),
            }
        }
        let (Some(oldest), Some(newest)) = (oldest(&running), newest(&running)) else {
            return (String::new(), ill);
        };
        let way = format!("{oldest} to {version} is one step");
        ill.extend(apart(&running));
        if version.is_empty() {
            return (format!("nodes run {oldest} to {newest}"), ill);
        }
        match version.parse::<Release>() {
            Ok(target) => {
                running.retain(|(_, release)| !hop.is_behind(&release.to_string()));
                ill.extend(step_to(&running, &target));
            }
            Err(why) => ill.push(why),
        }
        (way, ill)
    }

    fn disk_free(&self) -> (String, Vec<String>) {
        let tight = self.servers().filter(|(_, survey)| survey.disk_free < ETCD_ROOM * survey.etcd_bytes);
        let tight = tight.map(|(host, survey)| {
            let (free, needed) = (mib(survey.disk_free), mib(ETCD_ROOM * survey.etcd_bytes));
            format!("{} has {free} MiB free, {needed} MiB are needed", host.name)
        });
        (format!("every server has room for {ETCD_ROOM} times its etcd"), tight.collect())
    }

    fn server_token(&self) -> (String, Vec<String>) {
        let mut ill: Vec<String> = Vec::new();
        let tokens: Vec<(&Host, &str)> =
            self.servers().map(|(host, survey)| (host, survey.token_sha256.as_str())).collect();
        let first = tokens.iter().find(|(_, token)| !token.is_empty());
        for (host, token) in &tokens {
            match first {
                _ if token.is_empty() => ill.push(format!("{} has no token on disk", host.name)),
                Some((other, expected)) if token != expected => {
                    ill.push(format!("{} has another token than {}", host.name, other.name));
                }
                _ => {}
            }
        }
        if tokens.is_empty() {
            ill.push("no server answers".to_owned());
        }
        (format!("{} servers have the same one", tokens.len()), ill)
    }

    /// The seed's guard, word for word, with what was seen.
    fn etcd_backup_requires_s3_config(&self, world: &World) -> (String, Vec<String>) {
        let uploading: Vec<&str> =
            self.servers().filter(|(_, survey)| survey.etcd_s3).map(|(host, _)| host.name.as_str()).collect();
        let configured =
            world.bucket().is_some() && world.cluster().s3.as_ref().is_some_and(|s3| !s3.bucket.trim().is_empty());
        let enabled = !uploading.is_empty() || world.cluster().s3.is_some();
        let mut missing = Vec::new();
        if enabled && !configured {
            let seen = if uploading.is_empty() { "the cluster file".to_owned() } else { uploading.join(", ") };
            missing.push(format!(
                "etcd_backup.enabled=true requires s3_bucket, s3_access_key, and s3_secret_key to be set. \
                 (enabled by {seen}; set `s3` in the cluster file)"
            ));
        }
        (if enabled { "s3 is set".to_owned() } else { "no upload is configured".to_owned() }, missing)
    }
}

/// The seed's guard, word for word.
fn velero_requires_s3_config(world: &World) -> (String, Vec<String>) {
    let cluster = world.cluster();
    let Some(velero) = &cluster.velero else { return ("no velero".to_owned(), Vec::new()) };
    let own = velero.bucket.as_ref().is_some_and(|bucket| !bucket.trim().is_empty());
    let shared = cluster.s3.as_ref().is_some_and(|s3| !s3.bucket.trim().is_empty());
    let message = "velero.enabled=true requires S3 credentials. Set them in velero.s3_* or \
                   cluster_configuration.etcd_backup.s3_*. (here: `s3` of the cluster file)";
    let missing = if shared || own && cluster.s3.is_some() { Vec::new() } else { vec![message.to_owned()] };
    ("s3 is set".to_owned(), missing)
}

/// The seed's guard, word for word.
fn velero_requires_csi(world: &World) -> (String, Vec<String>) {
    let message = "Velero backs up PVCs provisioned by CSI. Set cluster_configuration.hcloud_csi.preinstall=true when \
                   velero.enabled=true. (here: `velero.csi`)";
    match &world.cluster().velero {
        None => ("no velero".to_owned(), Vec::new()),
        Some(velero) if velero.csi => ("a CSI driver provisions the volumes".to_owned(), Vec::new()),
        Some(_) => (String::new(), vec![message.to_owned()]),
    }
}

fn oldest<'a>(running: &'a [(&Host, Release)]) -> Option<&'a Release> {
    running.iter().map(|(_, release)| release).min()
}

fn newest<'a>(running: &'a [(&Host, Release)]) -> Option<&'a Release> {
    running.iter().map(|(_, release)| release).max()
}

/// Servers more than one minor release apart, and agents newer or much older than the servers.
fn apart(running: &[(&Host, Release)]) -> Vec<String> {
    let servers = || running.iter().filter(|(host, _)| host.role == Role::Server).map(|(_, release)| release);
    let (Some(low), Some(high)) = (servers().min(), servers().max()) else { return Vec::new() };
    let mut ill = Vec::new();
    if low.minors_to(high).is_none_or(|minors| minors > 1) {
        ill.push(format!("servers run {low} and {high}: more than one minor release apart"));
    }
    for (host, release) in running.iter().filter(|(host, _)| host.role == Role::Agent) {
        if release.minors_to(low).is_none_or(|minors| minors > KUBELET_SKEW_MAX) {
            ill.push(format!("{} runs {release}, servers run {low}", host.name));
        }
    }
    ill
}

/// Why the way from what runs to the target is not one step forward.
fn step_to(running: &[(&Host, Release)], target: &Release) -> Vec<String> {
    let mut ill = Vec::new();
    for (host, release) in running {
        if release > target {
            ill.push(format!("{} runs {release}: {target} would be a downgrade (use rollback)", host.name));
        } else if host.role == Role::Server && release.minors_to(target).is_none_or(|minors| minors > 1) {
            ill.push(format!("{} runs {release}: {target} skips a minor release", host.name));
        } else if release.minors_to(target).is_none_or(|minors| minors > KUBELET_SKEW_MAX) {
            ill.push(format!("{} runs {release}: too old for servers of {target}", host.name));
        }
    }
    ill
}

fn mib(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}
