//! HelmCharts: a Job installs each, and with it the workloads that RKE2 ships.

use jiff::{SignedDuration, Timestamp};
use rke2flow_twin::world::version::minor;
use serde_json::{Value, json};

use super::view::{condition, name};
use crate::api::client::{ApiError, Client};
use crate::api::objects::stamp;

const CHARTS: &str = "/apis/helm.cattle.io/v1/namespaces/kube-system/helmcharts";
const JOBS: &str = "/apis/batch/v1/namespaces/kube-system/jobs";
const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";
/// What a Job was made for.
const HASH: &str = "helmcharts.helm.cattle.io/configHash";
/// How long an installation takes.
const TAKES: SignedDuration = SignedDuration::from_secs(3);
/// How long until an installation that fails has failed once more, and how often it is counted.
const BACK_OFF_SECONDS: i64 = 10;
const FAILURES: i64 = 5;

/// The workloads of a chart: kind and name.
fn workloads(chart: &str) -> &'static [(&'static str, &'static str)] {
    match chart {
        "rke2-canal" => &[("DaemonSet", "rke2-canal")],
        "rke2-coredns" => {
            &[("Deployment", "rke2-coredns-rke2-coredns"), ("Deployment", "rke2-coredns-rke2-coredns-autoscaler")]
        }
        "coredns" => &[("Deployment", "coredns")],
        "local-storage" => &[("Deployment", "local-path-provisioner")],
        "traefik" => &[("Deployment", "traefik")],
        "rke2-metrics-server" => &[("Deployment", "rke2-metrics-server")],
        "rke2-snapshot-controller" => &[("Deployment", "rke2-snapshot-controller")],
        "rke2-ingress-nginx" => &[("DaemonSet", "rke2-ingress-nginx-controller")],
        _ => &[],
    }
}

/// Installs what is not installed as its HelmChart says. `running` is the version of the server that leads.
pub async fn install(client: &Client, running: &str) -> Result<(), ApiError> {
    let jobs = client.list(JOBS).await?;
    for chart in client.list(CHARTS).await? {
        let job = format!("helm-install-{}", name(&chart));
        let hash = format!("{} {}", text(&chart, "chart"), text(&chart, "version"));
        let found = jobs.iter().find(|found| name(found) == job);
        match found {
            Some(found) if found["metadata"]["annotations"][HASH] != hash => {
                client.delete(&format!("{JOBS}/{job}"), found, None).await?;
            }
            Some(found) => advance(client, &chart, found, running).await?,
            None => begin(client, &chart, &job, &hash).await?,
        }
    }
    Ok(())
}

async fn begin(client: &Client, chart: &Value, job: &str, hash: &str) -> Result<(), ApiError> {
    let labels = json!({"helmcharts.helm.cattle.io/chart": name(chart)});
    let metadata = json!({"name": job, "labels": labels, "annotations": {HASH: hash}});
    client.create(JOBS, &json!({"metadata": metadata, "spec": {"backoffLimit": 1000}})).await?;
    let status = json!({"status": {"active": 1, "startTime": stamp()}});
    client.patch(&format!("{JOBS}/{job}/status"), &status).await?;
    client.patch(&format!("{CHARTS}/{}", name(chart)), &json!({"status": {"jobName": job}})).await.map(drop)
}

async fn advance(client: &Client, chart: &Value, job: &Value, running: &str) -> Result<(), ApiError> {
    let began = job["metadata"]["creationTimestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let age = began.map_or(SignedDuration::ZERO, |began| Timestamp::now().duration_since(began));
    if condition(job, "Complete").is_some() || age < TAKES {
        return Ok(());
    }
    let path = format!("{JOBS}/{}/status", name(job));
    let version = text(chart, "version");
    // A chart of a later release does not install on an earlier one (rancher#41174).
    if minor(version) > minor(running) {
        let failed = (age.as_secs() / BACK_OFF_SECONDS).min(FAILURES);
        if job["status"]["failed"] != failed {
            client.patch(&path, &json!({"status": {"active": 1, "failed": failed}})).await?;
        }
        return Ok(());
    }
    for (kind, workload) in workloads(name(chart)) {
        apply(client, kind, workload, version).await?;
    }
    release(client, name(chart)).await?;
    let done = json!({
        "active": null, "succeeded": 1, "completionTime": stamp(),
        "conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": stamp()}],
    });
    client.patch(&path, &json!({ "status": done })).await.map(drop)
}

/// Helm keeps each revision of a release as a Secret; the one before is superseded.
async fn release(client: &Client, chart: &str) -> Result<(), ApiError> {
    let mut revision = 1;
    for secret in client.list(SECRETS).await? {
        let labels = &secret["metadata"]["labels"];
        if labels["owner"] != "helm" || labels["name"] != chart {
            continue;
        }
        revision += 1;
        if labels["status"] == "deployed" {
            let superseded = json!({"metadata": {"labels": {"status": "superseded"}}});
            client.patch(&format!("{SECRETS}/{}", name(&secret)), &superseded).await?;
        }
    }
    let labels = json!({"owner": "helm", "name": chart, "status": "deployed"});
    let metadata = json!({"name": format!("sh.helm.release.v1.{chart}.v{revision}"), "labels": labels});
    let secret = json!({"metadata": metadata, "type": "helm.sh/release.v1", "data": {}});
    client.create(SECRETS, &secret).await.map(drop)
}

async fn apply(client: &Client, kind: &str, workload: &str, version: &str) -> Result<(), ApiError> {
    let collection = format!("/apis/apps/v1/namespaces/kube-system/{}s", kind.to_lowercase());
    let path = format!("{collection}/{workload}");
    let image = format!("rancher/{workload}:v{}", version.replace('+', "-"));
    let labels = json!({"app.kubernetes.io/name": workload});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": image}]}});
    if client.get(&path).await?.is_some() {
        return client.patch(&path, &json!({"spec": {"template": template}})).await.map(drop);
    }
    let mut spec = json!({"selector": {"matchLabels": labels}, "template": template});
    if kind == "Deployment" {
        spec["replicas"] = json!(1);
    }
    let object = json!({"metadata": {"name": workload, "labels": labels}, "spec": spec});
    client.create(&collection, &object).await.map(drop)
}

fn text<'v>(chart: &'v Value, field: &str) -> &'v str {
    chart["spec"][field].as_str().unwrap_or_default()
}
