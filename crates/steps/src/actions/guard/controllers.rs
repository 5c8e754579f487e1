//! Checks of who else acts: on hosts Rancher's agent and what upgrades the system, in the cluster what takes changes back.

use rke2flow_engine::action::Failure;

use super::check::{Level, Row, Seen};
use super::evidence::Evidence;
use crate::kinds::Workload;

/// Rancher's agent on a node.
const RANCHER_UNIT: &str = "rancher-system-agent.service";
/// The timer by which APT upgrades.
const APT_UNIT: &str = "apt-daily-upgrade.timer";

pub(super) const RANCHER: Row = Row {
    level: Level::Refuse,
    why: "Rancher carries out its own plan on the node: it puts its version back, restarts RKE2, or restores beside us",
    source: "RR:pkg/capr; ranchermanager.docs.rancher.com (rancher-system-agent)",
    unwaivable: None,
    judge: |evidence| Box::pin(rancher(evidence)),
};

async fn rancher(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let mut seen = Seen::well("no node has rancher-system-agent");
    for (host, _, inspection) in evidence.inspections(&mut seen).await {
        if inspection.units.iter().any(|unit| unit == RANCHER_UNIT) {
            let what = format!("{}: {RANCHER_UNIT} is active", host.name);
            let fix = format!(
                "upgrade through Rancher, or take the cluster out of it: `systemctl disable --now {RANCHER_UNIT}`"
            );
            seen.refuse(what, fix);
        }
    }
    Ok(seen)
}

pub(super) const OS_UPDATES: Row = Row {
    level: Level::Warn,
    why: "a host that reboots by itself while another server is down takes the quorum with it",
    source: "wiki.debian.org/UnattendedUpgrades; kured.dev",
    unwaivable: None,
    judge: |evidence| Box::pin(os_updates(evidence)),
};

async fn os_updates(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let mut seen = Seen::well("nothing upgrades the system by itself");
    for (host, _, inspection) in evidence.inspections(&mut seen).await {
        for unit in inspection.units.iter().filter(|unit| *unit != RANCHER_UNIT) {
            let apt = unit == APT_UNIT;
            if apt && !inspection.apt_upgrades {
                continue;
            }
            let reboots = if apt && inspection.apt_reboots { ", and reboots by itself" } else { "" };
            seen.warn(
                format!("{}: {unit} upgrades the system{reboots}", host.name),
                format!("`systemctl stop {unit}` on every host for as long as the run lasts"),
            );
        }
    }
    Ok(seen)
}

/// Who changes a cluster by itself: by a part of its workload's name.
struct Other {
    name: &'static str,
    does: &'static str,
    fix: &'static str,
}

const KNOWN: &[Other] = &[
    Other {
        name: "kured",
        does: "reboots nodes when their system asks for it",
        fix: "take kured's lock: `kubectl -n kube-system annotate ds kured weave.works/kured-node-lock='{\"nodeID\":\"manual\"}'`",
    },
    Other {
        name: "argocd-application-controller",
        does: "puts back what differs from Git, fences too",
        fix: "`argocd app set APP --sync-policy none` for what manages Plans, Schedules and charts",
    },
    Other {
        name: "kustomize-controller",
        does: "(Flux) puts back what differs from Git, fences too",
        fix: "`flux suspend kustomization --all`, `flux suspend helmrelease --all`",
    },
    Other {
        name: "cluster-autoscaler",
        does: "adds and removes nodes, cordoned ones first",
        fix: "scale cluster-autoscaler to 0 for as long as the run lasts",
    },
    Other {
        name: "karpenter",
        does: "adds and removes nodes, cordoned ones first",
        fix: "scale karpenter to 0 for as long as the run lasts",
    },
    Other {
        name: "cattle-cluster-agent",
        does: "lets Rancher upgrade the cluster",
        fix: "leave the cluster's version alone in Rancher until the run has ended",
    },
    Other {
        name: "descheduler",
        does: "evicts pods while nodes are cordoned",
        fix: "scale the descheduler to 0 for as long as the run lasts",
    },
];

pub(super) const OTHERS: Row = Row {
    level: Level::Warn,
    why: "what puts changes back, removes cordoned nodes or reboots them works against the run",
    source: "kured.dev/docs/operation; argo-cd.readthedocs.io (auto-sync); fluxcd.io; kubernetes/autoscaler FAQ",
    unwaivable: None,
    judge: |evidence| Box::pin(others(evidence)),
};

async fn others(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let mut seen = Seen::well("none that is known");
    for kind in ["deployments", "statefulsets", "daemonsets"] {
        let path = format!("/apis/apps/v1/{kind}");
        let workloads: Vec<Workload> = evidence.list(&path).await?.unwrap_or_default();
        let awake = workloads.iter().filter(|workload| match kind {
            "daemonsets" => workload.status.desired_number_scheduled > 0,
            _ => workload.spec.replicas != Some(0),
        });
        for workload in awake {
            let (namespace, name) = (&workload.metadata.namespace, &workload.metadata.name);
            if let Some(other) = KNOWN.iter().find(|other| name.contains(other.name)) {
                seen.warn(format!("{namespace}/{name} {}", other.does), other.fix);
            }
        }
    }
    Ok(seen)
}
