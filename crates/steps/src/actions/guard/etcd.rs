//! Checks of etcd: its voters, its alarms, and whether it can become the next release's.

use rke2flow_engine::action::Failure;
use rke2flow_engine::cluster::{Host, Role};
use rke2flow_engine::release::Release;

use super::check::{Level, Row, Seen};
use super::evidence::{Asked, Evidence};
use crate::actions::voter;

/// A database this full is told of: at its quota etcd raises NOSPACE and takes no writes.
const FULL_PERCENT: u64 = 80;
/// Kubernetes 1.34 is the first with etcd 3.6 (R2#9318).
const FIRST_MINOR_WITH_3_6: u64 = 34;
/// Below, a promoted learner may come back as one, and two of them keep 3.6 from starting (etcd#19557).
const LEARNERS_FIXED: semver::Version = semver::Version::new(3, 5, 20);
/// Below, members that were removed long ago may come back (etcd.io/blog/2025/zombie_members_upgrade).
const MEMBERS_FIXED: semver::Version = semver::Version::new(3, 5, 26);

pub(super) const QUORUM: Row = Row {
    level: Level::Refuse,
    why: "the next server that stops takes the quorum with it when a voter is missing already",
    source: "R2#2857; etcd.io/docs/latest/faq",
    unwaivable: Some("without every voter the first server that restarts may be the one that ends the cluster"),
    judge: |evidence| Box::pin(quorum(evidence)),
};

async fn quorum(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let hosts = evidence.hosts().await.iter();
    let servers: Vec<&Asked<'_>> = hosts.filter(|asked| asked.host.role == Role::Server).collect();
    let answered = evidence.servers().await;
    let mut seen = Seen::well(format!("{0} of {0} servers vote and are healthy", answered.len()));
    for (host, survey) in &answered {
        for lack in voter::lacks(&host.name, survey) {
            let look = format!("rke2flow run rejoin, or `journalctl -u rke2-server` on {}", host.name);
            seen.refuse(lack, look);
        }
        let of_ours = |name: &str| servers.iter().any(|server| voter::is_member_of(name, &server.host.name));
        for stranger in survey.members.iter().filter(|member| !of_ours(&member.name)) {
            let what = format!("{}: {} is a member and no server", host.name, stranger.name);
            seen.refuse(
                what,
                format!("`etcdctl member remove` {}, or add its server to the cluster file", stranger.name),
            );
        }
    }
    if answered.len() < servers.len() {
        let what = format!("only {} of {} servers answer", answered.len(), servers.len());
        seen.refuse(what, "bring every server back first");
    }
    Ok(seen)
}

pub(super) const ALARMS: Row = Row {
    level: Level::Refuse,
    why: "with an alarm etcd takes no writes: nodes cannot register, and nothing that a run writes is kept",
    source: "etcd.io/docs/latest/op-guide/maintenance (space quota); etcd server/etcdserver/api/etcdhttp/health.go",
    unwaivable: None,
    judge: |evidence| Box::pin(alarms(evidence)),
};

async fn alarms(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let mut seen = Seen::well("no alarm");
    for (host, _, inspection) in evidence.inspections(&mut seen).await {
        let (size, quota) = (inspection.etcd_db_bytes, inspection.etcd_quota_bytes);
        if inspection.etcd_reason.contains("ALARM CORRUPT") {
            let what = format!("{}: etcd says {}: its copies differ", host.name, inspection.etcd_reason);
            seen.refuse(what, "rke2flow run rollback --set to=latest   (a member is corrupt: restore, do not upgrade)");
        } else if inspection.etcd_reason.contains("ALARM") {
            let what = format!("{}: etcd says {}", host.name, inspection.etcd_reason);
            seen.refuse(
                what,
                format!("`etcdctl compact`, `defrag` and `alarm disarm`; or restart RKE2 on {}", host.name),
            );
        } else if quota > 0 && size * 100 > quota * FULL_PERCENT {
            let what = format!("{}: etcd's database fills {} % of its quota", host.name, size * 100 / quota);
            seen.warn(what, "find what writes so much (Events, old Jobs), compact and defragment, or raise the quota");
        }
    }
    Ok(seen)
}

pub(super) const PATH: Row = Row {
    level: Level::Refuse,
    why: "etcd 3.6 believes another copy of the list of members than 3.5 did, and before 3.5.26 the two may differ",
    source: "etcd#19557; etcd#20793; etcd.io/blog/2025/zombie_members_upgrade; R2#9318",
    unwaivable: None,
    judge: |evidence| Box::pin(path(evidence)),
};

async fn path(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let Ok(target) = evidence.question.version.parse::<Release>() else {
        return Ok(Seen::well("no upgrade is meant"));
    };
    if target.minor() < FIRST_MINOR_WITH_3_6 {
        return Ok(Seen::well(format!("{target} keeps etcd 3.5")));
    }
    let mut seen = Seen::default();
    let servers = evidence.world.cluster().servers().count();
    let mut versions = Vec::new();
    for (host, _, inspection) in evidence.inspections(&mut seen).await {
        if host.role == Role::Server {
            versions.push(inspection.etcd_version.as_str());
            judge_version(&mut seen, host, &inspection.etcd_version, servers);
        }
    }
    versions.dedup();
    seen.well = format!("etcd {} can become 3.6", versions.join(", "));
    Ok(seen)
}

fn judge_version(seen: &mut Seen, host: &Host, text: &str, servers: usize) {
    let newest = "upgrade to the newest patch release of the minor that runs first; it has a fixed etcd";
    match text.parse::<semver::Version>() {
        Err(_) => seen.warn(format!("{} does not tell its etcd's version", host.name), newest),
        // A single member has nobody to disagree with about learners.
        Ok(version) if version < LEARNERS_FIXED && servers > 1 => seen.refuse(
            format!(
                "{} runs etcd {version}: members may come back as learners in 3.6, which then does not start",
                host.name
            ),
            newest,
        ),
        Ok(version) if version < MEMBERS_FIXED => seen.warn(
            format!("{} runs etcd {version}: members that were once removed may come back in 3.6", host.name),
            newest,
        ),
        Ok(_) => {}
    }
}
