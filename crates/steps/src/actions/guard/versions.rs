//! Checks of versions: how far nodes are apart, and whether the way to the target is one that Kubernetes supports.

use rke2flow_engine::action::Failure;
use rke2flow_engine::cluster::{Host, Role};
use rke2flow_engine::release::Release;

use super::check::{Level, Row, Seen};
use super::evidence::Evidence;

/// How many minor releases a kubelet may be older than its API server (Kubernetes version skew policy).
const KUBELET_SKEW_MAX: u64 = 3;

pub(super) const SKEW: Row = Row {
    level: Level::Refuse,
    why: "API servers more than one minor apart, and kubelets newer or much older than them, are not supported",
    source: "kubernetes.io/releases/version-skew-policy; ansible-role-rke2#299",
    unwaivable: None,
    judge: |evidence| Box::pin(skew(evidence)),
};

async fn skew(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let mut seen = Seen::default();
    let running = running(evidence, Some(&mut seen)).await?;
    let (Some(oldest), Some(newest)) = (release(&running).min(), release(&running).max()) else { return Ok(seen) };
    seen.well = format!("nodes run {oldest} to {newest}");
    apart(&mut seen, &running);
    let Some(target) = target(evidence) else { return Ok(seen) };
    match target {
        Err(why) => seen.refuse(why, "--set version=v1.33.4+rke2r1   (as the release is called)"),
        Ok(target) => {
            let ahead = running.iter().filter(|(_, release)| is_ahead(evidence, release));
            for (host, release) in ahead.filter(|(host, _)| host.role == Role::Agent) {
                if release.minors_to(&target).is_some_and(|minors| minors > KUBELET_SKEW_MAX) {
                    let what = format!("{} runs {release}: too old for servers of {target}", host.name);
                    seen.refuse(what, format!("bring {} to the version of the servers first", host.name));
                }
            }
        }
    }
    Ok(seen)
}

/// Servers more than one minor release apart, and agents newer or much older than the servers.
fn apart(seen: &mut Seen, running: &[(&Host, Release)]) {
    let servers = || running.iter().filter(|(host, _)| host.role == Role::Server).map(|(_, release)| release);
    let (Some(low), Some(high)) = (servers().min(), servers().max()) else { return };
    if low.minors_to(high).is_none_or(|minors| minors > 1) {
        let what = format!("servers run {low} and {high}: more than one minor release apart");
        seen.refuse(what, format!("--set version={high}: finish that upgrade first, minor by minor"));
    }
    for (host, release) in running.iter().filter(|(host, _)| host.role == Role::Agent) {
        if release.minors_to(low).is_none_or(|minors| minors > KUBELET_SKEW_MAX) {
            let what = format!("{} runs {release}, servers run {low}", host.name);
            seen.refuse(what, format!("bring {} to {low} first", host.name));
        }
    }
}

pub(super) const ONE_MINOR: Row = Row {
    level: Level::Refuse,
    why: "a skipped minor release was never tested: API objects and etcd are carried over one minor at a time",
    source: "kubernetes.io/releases/version-skew-policy; R2#5239",
    unwaivable: None,
    judge: |evidence| Box::pin(one_minor(evidence)),
};

async fn one_minor(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let Some(Ok(target)) = target(evidence) else { return Ok(Seen::well("no upgrade is meant")) };
    let running = running(evidence, None).await?;
    let mut seen = Seen::well(format!("{target} is one step"));
    let servers = running.iter().filter(|(host, _)| host.role == Role::Server);
    for (host, release) in servers.filter(|(_, release)| is_ahead(evidence, release)) {
        if release.minors_to(&target).is_some_and(|minors| minors > 1) {
            let what = format!("{} runs {release}: {target} skips a minor release", host.name);
            seen.refuse(what, "upgrade to a release of each minor in between first");
        }
    }
    Ok(seen)
}

pub(super) const NO_DOWNGRADE: Row = Row {
    level: Level::Refuse,
    why: "an older release cannot read what the newer one has written; going back is a restore",
    source: "R2#9318; docs.rke2.io/upgrades/roll-back",
    unwaivable: Some("the older etcd does not open the newer one's data; `rke2flow run rollback` goes back"),
    judge: |evidence| Box::pin(no_downgrade(evidence)),
};

async fn no_downgrade(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let Some(Ok(target)) = target(evidence) else { return Ok(Seen::well("no upgrade is meant")) };
    let running = running(evidence, None).await?;
    let mut seen = Seen::well(format!("nothing runs a release after {target}"));
    for (host, release) in running.iter().filter(|(_, release)| is_ahead(evidence, release)) {
        if *release > target {
            let what = format!("{} runs {release}: {target} would be a downgrade", host.name);
            seen.refuse(what, "rke2flow run rollback   (to a recovery point of that version)");
        }
    }
    Ok(seen)
}

/// What every host's kubelet runs. What cannot be told is something that is wrong, for one of the checks.
async fn running<'a>(
    evidence: &'a Evidence<'_>,
    mut seen: Option<&mut Seen>,
) -> Result<Vec<(&'a Host, Release)>, Failure> {
    let nodes = evidence.nodes().await?;
    let mut running = Vec::new();
    for asked in evidence.hosts().await {
        let node = nodes.iter().find(|node| node.metadata.name == asked.host.name.as_str());
        let told = match node.map(|node| (node.version(), node.version().parse::<Release>())) {
            Some((_, Ok(release))) => {
                running.push((asked.host, release));
                continue;
            }
            None => format!("the API has no node {}", asked.host.name),
            Some((text, Err(_))) => format!("{} runs `{text}`, which is no release", asked.host.name),
        };
        if let Some(seen) = seen.as_deref_mut() {
            seen.refuse(told, format!("`kubectl get node {}`; the node's name must be the host's", asked.host.name));
        }
    }
    Ok(running)
}

/// Whether a host that runs this has the target still ahead: in a later round of the same run it has it behind it.
fn is_ahead(evidence: &Evidence<'_>, release: &Release) -> bool {
    !evidence.question.later.contains(&release.to_string())
}

/// The version that is meant; `None`: no upgrade is.
fn target(evidence: &Evidence<'_>) -> Option<Result<Release, String>> {
    let version = &evidence.question.version;
    (!version.is_empty()).then(|| version.parse())
}

fn release<'a>(running: &'a [(&Host, Release)]) -> impl Iterator<Item = &'a Release> {
    running.iter().map(|(_, release)| release)
}
