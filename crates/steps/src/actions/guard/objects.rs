//! Checks of objects of the API: webhooks, disruption budgets, Longhorn's volumes.

use rke2flow_engine::action::Failure;

use super::check::{Level, Row, Seen};
use super::evidence::Evidence;
use crate::kinds::{DisruptionBudget, EndpointSlice, LonghornVolume, WebhookConfiguration};

pub(super) const WEBHOOKS: Row = Row {
    level: Level::Refuse,
    why: "a webhook with failurePolicy Fail that nobody answers refuses what nodes and charts write when they start",
    source: "R2#5693; R2#7652; kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers",
    unwaivable: None,
    judge: |evidence| Box::pin(webhooks(evidence)),
};

async fn webhooks(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let (mut seen, mut blocking) = (Seen::default(), 0);
    for (kind, path) in [
        ("validatingwebhookconfiguration", WebhookConfiguration::VALIDATING),
        ("mutatingwebhookconfiguration", WebhookConfiguration::MUTATING),
    ] {
        let found: Vec<WebhookConfiguration> = evidence.list(path).await?.unwrap_or_default();
        for configuration in &found {
            for webhook in configuration.webhooks.iter().filter(|webhook| webhook.can_block()) {
                blocking += 1;
                let Some(service) = &webhook.client_config.service else { continue };
                let slices: Vec<EndpointSlice> = evidence.list(&EndpointSlice::of(service)).await?.unwrap_or_default();
                let of_service = |slice: &&EndpointSlice| {
                    slice.metadata.labels.get(EndpointSlice::SERVICE).is_some_and(|name| *name == service.name)
                };
                if !slices.iter().filter(of_service).any(EndpointSlice::serves) {
                    let (name, at) = (&configuration.metadata.name, format!("{}/{}", service.namespace, service.name));
                    seen.refuse(
                        format!("{kind} {name}: nobody answers {} (service {at} has no ready endpoint)", webhook.name),
                        format!("mend the pods behind service {at}, or set failurePolicy Ignore in {kind} {name}"),
                    );
                }
            }
        }
    }
    seen.well = format!("{blocking} webhooks can block, and each has somebody who answers");
    Ok(seen)
}

pub(super) const BUDGETS: Row = Row {
    level: Level::Refuse,
    why: "a drain waits for evictions that the budget never allows, until its deadline, with the node cordoned",
    source: "rancher#37001; kubernetes.io/docs/tasks/administer-cluster/safely-drain-node",
    unwaivable: None,
    judge: |evidence| Box::pin(budgets(evidence)),
};

async fn budgets(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    if evidence.question.drains == Some(false) {
        return Ok(Seen::well("no node is drained"));
    }
    let found: Vec<DisruptionBudget> = evidence.list(DisruptionBudget::ALL).await?.unwrap_or_default();
    let mut seen = Seen::well(format!("{} budgets, each allows an eviction", found.len()));
    for budget in found {
        let (meta, status) = (&budget.metadata, &budget.status);
        if status.disruptions_allowed > 0 || status.expected_pods == 0 {
            continue;
        }
        let name = format!("{}/{}", meta.namespace, meta.name);
        let what = format!(
            "PodDisruptionBudget {name} allows no eviction ({} of {} pods healthy, {} must be)",
            status.current_healthy, status.expected_pods, status.desired_healthy
        );
        let fix = format!(
            "more replicas, healthy pods, or a budget that allows one: `kubectl -n {} edit pdb {}`",
            meta.namespace, meta.name
        );
        match evidence.question.drains {
            Some(true) => seen.refuse(what, fix),
            // Whether nodes will be drained is not known here.
            _ => seen.warn(format!("{what}: it would block a drain"), fix),
        }
    }
    Ok(seen)
}

pub(super) const LONGHORN: Row = Row {
    level: Level::Refuse,
    why: "a node that restarts takes its replicas along; of a degraded volume it may be the last good one",
    source: "longhorn.io/docs (node maintenance, Kubernetes upgrade)",
    unwaivable: None,
    judge: |evidence| Box::pin(longhorn(evidence)),
};

async fn longhorn(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let found: Option<Vec<LonghornVolume>> = evidence.list(LonghornVolume::ALL).await?;
    let volumes = found.unwrap_or_default();
    if volumes.is_empty() {
        return Ok(Seen::well("no volume is Longhorn's"));
    }
    let mut seen = Seen::well(format!("{} volumes healthy", volumes.len()));
    for volume in &volumes {
        if let Some(ill) = volume.ill() {
            let name = &volume.metadata.name;
            seen.refuse(
                format!("Longhorn volume {name} is {ill}"),
                format!("wait until Longhorn has rebuilt its replicas: `kubectl -n longhorn-system get volumes.longhorn.io {name}`"),
            );
        }
    }
    Ok(seen)
}
