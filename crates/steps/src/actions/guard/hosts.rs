//! Checks of hosts: whether they answer, how they were installed, what they are, what time it is there.

use std::collections::BTreeMap;

use rke2flow_engine::action::Failure;
use rke2flow_engine::cluster::Host;

use super::check::{Level, Row, Seen};
use super::evidence::{Asked, Evidence};

/// Architectures that releases exist for (R2:install.sh, K3S install.sh; `arm` and `s390x` have no runbook here).
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];
/// etcd's peers complain from one second on (etcd server/etcdserver/api/rafthttp/probing_status.go); a host tells whole
/// seconds.
const OFFSET_WARN_MS: i64 = 2_000;
/// A node's lease lasts 40 s, and certificates that one server makes must be valid on the others at once.
const OFFSET_REFUSE_MS: i64 = 30_000;

pub(super) const REACHABLE: Row = Row {
    level: Level::Refuse,
    why: "a host that does not answer can be neither upgraded nor brought back, and may serve an old control plane",
    source: "R2#1814",
    unwaivable: Some(
        "what does not answer cannot be acted on; declare it with --lost when it is powered off for certain",
    ),
    judge: |evidence| Box::pin(reachable(evidence)),
};

async fn reachable(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let hosts = evidence.hosts().await;
    let mut seen = Seen::well(format!("{} hosts answer", hosts.len()));
    for Asked { host, survey, .. } in hosts {
        if let Err(failure) = survey {
            let lost = format!("bring {0} back, or --lost {0} when it is powered off for certain", host.name);
            seen.refuse(failure.to_string(), lost);
        }
    }
    Ok(seen)
}

pub(super) const INSTALL: Row = Row {
    level: Level::Refuse,
    why: "another binary beside the one that the unit starts changes nothing: the node would run on with the old one",
    source: "R2:install.sh; docs.rke2.io/install/methods",
    unwaivable: Some("the release would be installed where the unit does not look"),
    judge: |evidence| Box::pin(install(evidence)),
};

async fn install(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let paths = &evidence.world.access().paths;
    let expected = format!("{}/{}", paths.bin, paths.name);
    let mut seen = Seen::well(format!("every unit starts {expected}, which is no package's"));
    for (host, _, inspection) in evidence.inspections(&mut seen).await {
        let (name, binary, package) = (&host.name, &inspection.binary, &inspection.package);
        if !package.is_empty() {
            seen.refuse(
                format!("{name}: {binary} belongs to the package {package}: packages are upgraded by their manager"),
                format!("move {name} to the tarball (INSTALL_RKE2_METHOD=tar, after removing {package}), or upgrade by packages"),
            );
        } else if !binary.is_empty() && *binary != expected {
            let directory = binary.rsplit_once('/').map_or("", |(directory, _)| directory);
            seen.refuse(
                format!("{name}: the unit starts {binary}, the cluster file means {expected}"),
                format!("`paths: Some((bin: Some(\"{directory}\")))` in the cluster file"),
            );
        }
    }
    Ok(seen)
}

pub(super) const ARCHITECTURE: Row = Row {
    level: Level::Refuse,
    why: "a release is fetched for each host's own architecture, and there must be one",
    source: "R2:install.sh setup_arch",
    unwaivable: None,
    judge: |evidence| Box::pin(architecture(evidence)),
};

async fn architecture(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let mut seen = Seen::default();
    let mut counts = BTreeMap::<&str, usize>::new();
    for (host, survey) in evidence.surveys().await {
        let arch = survey.arch.as_str();
        *counts.entry(arch).or_default() += 1;
        if !ARCHITECTURES.contains(&arch) {
            let what = format!("{} is `{arch}`; releases exist for {}", host.name, ARCHITECTURES.join(" and "));
            seen.refuse(what, format!("take {} out of the cluster file", host.name));
        }
        if let Some(meant) = host.arch.as_deref().filter(|meant| *meant != arch) {
            let what = format!("{} is {arch}, the cluster file says {meant}", host.name);
            seen.refuse(what, format!("correct `arch` of {} in the cluster file", host.name));
        }
    }
    seen.well = counts.iter().map(|(arch, count)| format!("{count} {arch}")).collect::<Vec<_>>().join(", ");
    Ok(seen)
}

pub(super) const CLOCKS: Row = Row {
    level: Level::Refuse,
    why: "a server refuses certificates that are not valid yet, and leases of a clock that is wrong look dead",
    source: "etcd rafthttp probing_status.go; kubernetes.io/docs/concepts/architecture/leases",
    unwaivable: None,
    judge: |evidence| Box::pin(clocks(evidence)),
};

/// How far a host's clock is from the one here, in milliseconds: between these two, whatever its answer took.
struct Offset<'a> {
    host: &'a Host,
    least: i64,
    most: i64,
}

impl Offset<'_> {
    /// How far it is ahead of another for certain; negative: behind.
    fn ahead_of(&self, other: &Offset<'_>) -> i64 {
        if self.least > other.most { self.least - other.most } else { (self.most - other.least).min(0) }
    }
}

async fn clocks(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let offset = |asked: &Asked<'_>| {
        let epoch_ms = asked.survey.as_ref().ok()?.epoch * 1000;
        Some((epoch_ms - asked.answered_ms, epoch_ms + 999 - asked.asked_ms))
    };
    let hosts = evidence.hosts().await.iter();
    let mut offsets: Vec<Offset<'_>> =
        hosts.filter_map(|asked| offset(asked).map(|(least, most)| Offset { host: asked.host, least, most })).collect();
    offsets.sort_by_key(|offset| offset.least + offset.most);
    let mut seen = Seen::well(format!("{} clocks agree within {} s", offsets.len(), OFFSET_WARN_MS / 1000));
    // The one in the middle is the one that most agree with.
    let Some(middle) = offsets.get(offsets.len() / 2) else { return Ok(seen) };
    for offset in &offsets {
        let ahead = offset.ahead_of(middle);
        let side = if ahead > 0 { "ahead of" } else { "behind" };
        let what = format!("{}'s clock is {} s {side} {}'s", offset.host.name, ahead.abs() / 1000, middle.host.name);
        let fix = format!("set the clock of {} (`chronyc makestep`, `timedatectl`) and have it kept", offset.host.name);
        match ahead.abs() {
            OFFSET_REFUSE_MS.. => seen.refuse(what, fix),
            OFFSET_WARN_MS.. => seen.warn(what, fix),
            _ => {}
        }
    }
    Ok(seen)
}
