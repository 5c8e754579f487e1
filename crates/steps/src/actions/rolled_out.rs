//! RolledOut: the workloads and charts of the system are installed and run as they were last asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Context, Failure, Place, Probe};
use rke2flow_engine::duration::Span;
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, info, unless_missing};
use crate::kinds::{AnyKind, HelmChart, Job, Meta, Pod, Workload};

/// Goal: the workloads and charts of the system are installed and run as they were last asked for.
///
/// A rollout counts by its generation and its pods, an installation by its Job and by the release that it leaves: a
/// server of a new version installs its charts only once it is up, and by Jobs of their own (R2 bundle/manifests,
/// helm-controller pkg/controllers/chart).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolledOut {
    /// How long it must stay so: a chart's Job may be made only a moment after the server is up.
    #[serde(default)]
    pub steady: Param<Span>,
}

#[async_trait]
impl Goal for RolledOut {
    const INFO: ActionInfo = ActionInfo {
        changes: false,
        ..info(
            "RolledOut",
            "the workloads and charts of the system are installed and run as they were last asked for",
            Place::Operator,
            45,
        )
    };

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        let charts: Vec<HelmChart> = world.objects().list(HelmChart::ALL).await?.unwrap_or_default();
        let mut lacks = charts_lack(world, &charts).await?;
        lacks.extend(workloads_lack(world, &charts).await?);
        Ok(unless_missing(lacks))
    }

    fn steady(&self) -> Duration {
        self.steady.get().map(|span| span.get()).unwrap_or_default()
    }
}

/// Where a workload says which release it is of (helm pkg/action/validate.go).
const RELEASE_NAME: &str = "meta.helm.sh/release-name";
const RELEASE_NAMESPACE: &str = "meta.helm.sh/release-namespace";
const SYSTEM: &str = "kube-system";

/// What a workload lacks for its rollout to be done.
type Lacks = fn(&Workload) -> Option<String>;

/// Workloads of kube-system and of the charts whose rollout is not done.
async fn workloads_lack(world: &World, charts: &[HelmChart]) -> Result<Vec<String>, Failure> {
    let ours = |meta: &Meta| meta.namespace == SYSTEM || charts.iter().any(|chart| is_of(meta, chart));
    let mut lacks = Vec::new();
    let mut count = 0;
    let kinds: [(&str, Lacks); 3] = [
        ("deployments", Workload::deployment_lacks),
        ("daemonsets", Workload::daemon_set_lacks),
        ("statefulsets", Workload::stateful_set_lacks),
    ];
    for (kind, lack) in kinds {
        let path = format!("/apis/apps/v1/{kind}");
        let found: Vec<Workload> = world.objects().list(&path).await?.unwrap_or_default();
        let found: Vec<Workload> = found.into_iter().filter(|workload| ours(&workload.metadata)).collect();
        count += found.len();
        lacks.extend(found.iter().filter_map(lack));
    }
    if count == 0 {
        lacks.push("kube-system has no workloads yet".to_owned());
    }
    Ok(lacks)
}

fn is_of(meta: &Meta, chart: &HelmChart) -> bool {
    let told = |key: &str| meta.annotations.get(key).map(String::as_str);
    told(RELEASE_NAME) == Some(&chart.metadata.name) && told(RELEASE_NAMESPACE) == Some(chart.release_namespace())
}

/// Charts that are not installed, each with why, and with the end of its Job's log when that has failed.
async fn charts_lack(world: &World, charts: &[HelmChart]) -> Result<Vec<String>, Failure> {
    if charts.is_empty() {
        return Ok(Vec::new());
    }
    let jobs: Vec<Job> = world.objects().list(Job::ALL).await?.unwrap_or_default();
    let mut releases = BTreeMap::new();
    let mut lacks = Vec::new();
    for chart in charts.iter().filter(|chart| chart.metadata.deletion_timestamp.is_none()) {
        let meta = &chart.metadata;
        let named = |job: &&Job| job.metadata.namespace == meta.namespace && job.metadata.name == chart.status.job_name;
        let Some(job) = jobs.iter().find(named) else {
            lacks.push(format!("chart {}: its Job is not there yet", meta.name));
            continue;
        };
        if !job.is_complete() {
            lacks.push(job_lacks(world, chart, job).await);
            continue;
        }
        let namespace = chart.release_namespace();
        if !releases.contains_key(namespace) {
            releases.insert(namespace.to_owned(), releases_of(world, namespace).await?);
        }
        if !releases[namespace].contains(&meta.name) {
            lacks.push(format!(
                "chart {}: its Job is complete, and no release of it is deployed in {namespace}",
                meta.name
            ));
        } else if chart.has_failed() {
            lacks.push(format!("chart {}: the controller says that it has failed", meta.name));
        }
    }
    Ok(lacks)
}

/// The releases of a namespace that are deployed: Helm keeps each revision as a Secret with its status as a label.
async fn releases_of(world: &World, namespace: &str) -> Result<Vec<String>, Failure> {
    let selector = "labelSelector=owner%3Dhelm%2Cstatus%3Ddeployed";
    let path = format!("/api/v1/namespaces/{namespace}/secrets?{selector}");
    let secrets: Vec<AnyKind> = world.objects().list(&path).await?.unwrap_or_default();
    let deployed = |secret: &AnyKind| {
        let label = |key: &str| secret.metadata.labels.get(key).map(String::as_str);
        label("owner") == Some("helm") && label("status") == Some("deployed")
    };
    Ok(secrets.into_iter().filter(deployed).filter_map(|secret| secret.metadata.labels.get("name").cloned()).collect())
}

async fn job_lacks(world: &World, chart: &HelmChart, job: &Job) -> String {
    let (name, job_name) = (&chart.metadata.name, &job.metadata.name);
    if job.status.failed == 0 && !job.has_ended() {
        return format!("chart {name}: {job_name} is at work");
    }
    let log = last_words(world, job).await.unwrap_or_default();
    let log = if log.is_empty() { String::new() } else { format!(": {log}") };
    format!("chart {name}: {job_name} has failed {} times{log}", job.status.failed)
}

/// Lines of a failed Job's log, and how much of them is told.
const LOG_LINES: usize = 10;
const LOG_CHARS: usize = 600;

/// The end of the log of the Job's newest pod; `None`: there is none.
async fn last_words(world: &World, job: &Job) -> Option<String> {
    let (namespace, name) = (&job.metadata.namespace, &job.metadata.name);
    let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector=job-name%3D{name}");
    let mut pods: Vec<Pod> = world.objects().list(&path).await.ok()??;
    pods.retain(|pod| pod.metadata.labels.get("job-name") == Some(name));
    let newest = pods.into_iter().max_by_key(|pod| pod.metadata.creation_timestamp)?;
    let path = format!("/api/v1/namespaces/{namespace}/pods/{}/log?tailLines={LOG_LINES}", newest.metadata.name);
    let text = world.objects().text(&path).await.ok()?;
    let text = world.access().redactor.redact(text.trim());
    let start = text.char_indices().rev().nth(LOG_CHARS).map_or(0, |(at, _)| at);
    Some(text[start..].to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::actions::testing::Scene;

    const CANAL: &str = "/apis/helm.cattle.io/v1/namespaces/kube-system/helmcharts/rke2-canal";
    const JOB: &str = "/apis/batch/v1/namespaces/kube-system/jobs/helm-install-rke2-canal";
    const RELEASE: &str = "/api/v1/namespaces/kube-system/secrets/sh.helm.release.v1.rke2-canal.v2";

    fn rolled_out() -> RolledOut {
        RolledOut { steady: Param::default() }
    }

    fn installed() -> Scene {
        let scene = Scene::new();
        scene.put(CANAL, json!({ "status": { "jobName": "helm-install-rke2-canal" } }));
        scene.put(JOB, json!({ "status": { "conditions": [{ "type": "Complete", "status": "True" }] } }));
        let labels = json!({ "owner": "helm", "name": "rke2-canal", "status": "deployed" });
        scene.put(RELEASE, json!({ "metadata": { "labels": labels } }));
        scene
    }

    #[tokio::test(start_paused = true)]
    async fn a_complete_job_and_a_deployed_release_are_an_installed_chart() {
        installed().on("operator", rolled_out()).satisfied().await;
        let scene = installed();
        scene.edit(RELEASE, |secret| secret["metadata"]["labels"]["status"] = "pending-upgrade".into());
        let why = scene.on("operator", rolled_out()).pending().await;
        assert_eq!(why, "chart rke2-canal: its Job is complete, and no release of it is deployed in kube-system");
        scene.edit(CANAL, |chart| chart["status"]["jobName"] = "helm-install-other".into());
        assert_eq!(scene.on("operator", rolled_out()).pending().await, "chart rke2-canal: its Job is not there yet");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_job_is_told_by_name_with_the_end_of_its_log() {
        let scene = installed();
        scene.edit(JOB, |job| job["status"] = json!({ "active": 1 }));
        let why = scene.on("operator", rolled_out()).pending().await;
        assert_eq!(why, "chart rke2-canal: helm-install-rke2-canal is at work");
        scene.edit(JOB, |job| job["status"] = json!({ "active": 1, "failed": 3 }));
        let pods = "/api/v1/namespaces/kube-system/pods";
        let pod = json!({ "metadata": { "labels": { "job-name": "helm-install-rke2-canal" } } });
        scene.put(&format!("{pods}/helm-install-rke2-canal-x"), pod);
        scene.change(|state| {
            let log = json!("Error: UPGRADE FAILED: timed out\n");
            state.objects.insert(format!("{pods}/helm-install-rke2-canal-x/log"), log)
        });
        let why = scene.on("operator", rolled_out()).pending().await;
        let expected = "helm-install-rke2-canal has failed 3 times: Error: UPGRADE FAILED: timed out";
        assert_eq!(why, format!("chart rke2-canal: {expected}"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rollout_is_judged_by_generation_and_pods_in_kube_system_and_in_the_charts_namespaces() {
        let scene = installed();
        let set = "/apis/apps/v1/namespaces/kube-system/daemonsets/rke2-canal";
        scene.edit(set, |set| set["metadata"]["generation"] = 2.into());
        let why = scene.on("operator", rolled_out()).pending().await;
        assert_eq!(why, "rke2-canal: generation 1 of 2 is observed");

        let scene = installed();
        scene.edit(CANAL, |chart| chart["spec"] = json!({ "targetNamespace": "cni" }));
        scene.put(&RELEASE.replace("kube-system", "cni"), scene.object(RELEASE).unwrap());
        let annotations = json!({ "meta.helm.sh/release-name": "rke2-canal", "meta.helm.sh/release-namespace": "cni" });
        let typha = json!({
            "metadata": { "generation": 1, "annotations": annotations }, "spec": { "replicas": 2 },
            "status": { "observedGeneration": 1, "updatedReplicas": 2, "readyReplicas": 1, "availableReplicas": 1, "replicas": 2 },
        });
        scene.put("/apis/apps/v1/namespaces/cni/statefulsets/typha", typha.clone());
        scene.put("/apis/apps/v1/namespaces/shop/statefulsets/db", json!({ "metadata": { "generation": 9 } }));
        assert_eq!(scene.on("operator", rolled_out()).pending().await, "typha: 1 of 2 pods available");
    }
}
