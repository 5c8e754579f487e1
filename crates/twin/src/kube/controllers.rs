//! Controllers of Kubernetes and RKE2: pods are replaced, workloads roll out, static pods and charts follow the version.

use rke2flow_engine::cluster::Role;
use rke2flow_engine::id::HostName;
use serde_json::{Value, json};

use crate::host::service::STATIC_PODS;
use crate::kube::objects;
use crate::kube::store::Key;
use crate::velero;
use crate::world::World;
use crate::world::durations as take;
use crate::world::event::Event;
use crate::world::version;

/// Kinds that roll out.
const WORKLOADS: [&str; 3] = ["deployments", "daemonsets", "statefulsets"];

impl World {
    /// The controllers of a control plane that has just begun to serve.
    pub(crate) fn controllers_start(&mut self, plane: usize) {
        if self.has_upgrade_controller() {
            self.after(take::PLAN_RESYNC, Event::Plans { plane });
        }
        self.jobs_go_on(plane);
        self.velero_starts(plane);
    }

    /// A restarted kubelet reports its pods as running.
    pub(crate) fn pods_reported(&mut self, name: &HostName, plane: usize) {
        let stamp = self.stamp();
        let here = |pod: &Value| {
            let job = pod["metadata"]["ownerReferences"][0]["kind"] == "Job";
            !job && pod["spec"]["nodeName"] == name.as_str() && pod["status"]["phase"] != "Running"
        };
        let pods = self.planes[plane].store.list("", "pods", "");
        let keys: Vec<Key> = pods.into_iter().filter(|(_, pod)| here(pod)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.planes[plane].store.update(&key, &stamp, |pod| pod["status"]["phase"] = json!("Running"));
        }
    }

    /// The static pods of a server's version are there, some time after the kubelet's version (rke2#8269).
    pub(crate) fn static_pods_run(&mut self, name: &HostName, generation: u64) {
        let host = self.host(name);
        if host.service.generation != generation {
            return;
        }
        let (version, Some(plane)) = (host.service.running.clone(), host.running_plane()) else { return };
        let stamp = self.stamp();
        for pod in STATIC_PODS {
            let image = objects::static_image(pod, &version);
            let labels = json!({"component": pod, "tier": "control-plane"});
            let object = objects::pod(name.as_str(), &labels, &image, Some(("Node", name.as_str())), &stamp);
            let key = Key::pod("kube-system", &format!("{pod}-{name}"));
            // A mirror pod of another image is another pod.
            if self.planes[plane].store.get(&key).is_some_and(|old| old["spec"] != object["spec"]) {
                self.planes[plane].store.remove(&key);
            }
            self.planes[plane].store.put(key, object, &stamp);
        }
    }

    /// A server of another version writes its charts and has them installed; charts of others stay (rancher#41174).
    pub(crate) fn deploy_charts(&mut self, name: &HostName, plane: usize, version: &str) {
        let shipped = version::shipped_charts(version);
        let disk = &mut self.host_mut(name).disk;
        let left: Vec<String> = disk.charts.iter().filter(|chart| !shipped.contains(chart)).cloned().collect();
        disk.charts = shipped.iter().chain(&left).cloned().collect();
        for chart in &left {
            self.chart_job(plane, chart.trim_end_matches(".yaml"), false);
        }
        if self.planes[plane].store.charts == version {
            return;
        }
        self.planes[plane].store.charts = version.to_owned();
        self.planes[plane].store.certificates += 1;
        let certificates = self.planes[plane].store.certificates;
        self.host_mut(name).disk.tls = Some(certificates);
        let stamp = self.stamp();
        for chart in &shipped {
            let key =
                Key::new("batch", "jobs", "kube-system", &format!("helm-install-{}", chart.trim_end_matches(".yaml")));
            self.chart_job(plane, chart.trim_end_matches(".yaml"), true);
            self.planes[plane]
                .store
                .update(&key, &stamp, |job| job["status"] = json!({"active": 1, "startTime": stamp}));
        }
        self.after(take::CHART_JOB, Event::Charts { plane, version: version.to_owned() });
    }

    /// The install job of a chart: complete, or crash-looping.
    pub(crate) fn chart_job(&mut self, plane: usize, chart: &str, works: bool) {
        let stamp = self.stamp();
        let label = json!({"helmcharts.helm.cattle.io/chart": chart});
        let status = if works {
            json!({"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]})
        } else {
            json!({"active": 1, "failed": 4})
        };
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"labels": label}, "spec": {}, "status": status});
        let helm = json!({
            "apiVersion": "helm.cattle.io/v1", "kind": "HelmChart", "metadata": {},
            "spec": {"bootstrap": true}, "status": {"jobName": format!("helm-install-{chart}")},
        });
        let store = &mut self.planes[plane].store;
        store.put(Key::new("batch", "jobs", "kube-system", &format!("helm-install-{chart}")), job, &stamp);
        store.put(Key::new("helm.cattle.io", "helmcharts", "kube-system", chart), helm, &stamp);
    }

    /// Helm keeps each revision of a release as a Secret; the one before is superseded.
    pub(crate) fn release(&mut self, plane: usize, chart: &str) {
        let stamp = self.stamp();
        let labels = |status: &str| json!({"owner": "helm", "name": chart, "status": status});
        let key =
            |revision: u64| Key::new("", "secrets", "kube-system", &format!("sh.helm.release.v1.{chart}.v{revision}"));
        let store = &mut self.planes[plane].store;
        let revision = (1..).find(|revision| store.get(&key(*revision)).is_none()).unwrap_or(1);
        if revision > 1 {
            store.update(&key(revision - 1), &stamp, |secret| secret["metadata"]["labels"] = labels("superseded"));
        }
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1",
            "metadata": {"labels": labels("deployed")}, "data": {},
        });
        store.put(key(revision), secret, &stamp);
    }

    /// The jobs of the shipped charts have ended: system workloads carry the version's images.
    pub(crate) fn charts_done(&mut self, plane: usize, version: &str) {
        if !self.serves(plane) {
            return self.after(take::CHART_JOB, Event::Charts { plane, version: version.to_owned() });
        }
        for chart in version::shipped_charts(version) {
            self.chart_job(plane, chart.trim_end_matches(".yaml"), true);
            self.release(plane, chart.trim_end_matches(".yaml"));
        }
        let tag = version::tag(version);
        for (plural, _, name) in objects::system_workloads(self.spec.distribution) {
            let key = Key::new("apps", plural, "kube-system", name);
            let image = json!(format!("rancher/{name}:{tag}"));
            let stamp = self.stamp();
            let path = "/spec/template/spec/containers/0/image";
            self.planes[plane].store.update(&key, &stamp, |object| {
                if let Some(old) = object.pointer_mut(path) {
                    *old = image;
                }
            });
            self.workload_changed(plane, &key);
        }
    }

    /// A workload's spec may have changed: it rolls out after a while.
    pub(crate) fn workload_changed(&mut self, plane: usize, key: &Key) {
        if key.group != "apps" || !WORKLOADS.contains(&key.plural.as_str()) {
            return;
        }
        let behind = self.planes[plane]
            .store
            .get(key)
            .is_some_and(|object| object["metadata"]["generation"] != object["status"]["observedGeneration"]);
        if behind {
            self.after(take::POD_START, Event::Rollout { plane, key: key.clone() });
        }
    }

    /// Every pod of a workload has been replaced by one of its current template.
    pub(crate) fn rolled_out(&mut self, plane: usize, key: &Key) {
        if !self.serves(plane) {
            return self.after(take::POD_START, Event::Rollout { plane, key: key.clone() });
        }
        let Some(object) = self.planes[plane].store.get(key).cloned() else { return };
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        let daemons = key.plural == "daemonsets";
        // Where nobody takes pods they stay pending, and the old ones run on.
        let places: Vec<HostName> =
            self.places(daemons).into_iter().filter(|name| daemons || self.takes_pods(plane, name)).collect();
        if places.is_empty() {
            return self.after(take::POD_START, Event::Rollout { plane, key: key.clone() });
        }
        let replicas = if daemons { self.names.len() as u64 } else { object["spec"]["replicas"].as_u64().unwrap_or(1) };
        let labels = object["spec"]["template"]["metadata"]["labels"].clone();
        let image =
            object.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str).unwrap_or_default();
        let stamp = self.stamp();
        let status = objects::rolled_out(&kind, replicas, &labels, image)["status"].clone();
        self.planes[plane].store.update(key, &stamp, |object| {
            object["status"] = status;
            object["status"]["observedGeneration"] = object["metadata"]["generation"].clone();
        });
        for old in self.pods_of(plane, key) {
            self.planes[plane].store.remove(&old);
        }
        for replica in 0..replicas as usize {
            let suffix = if kind == "StatefulSet" { replica.to_string() } else { self.pod_suffix() };
            let node = places[replica % places.len()].clone();
            let pod = objects::pod(node.as_str(), &labels, image, Some((&kind, &key.name)), &stamp);
            self.place_pod(plane, &Key::pod(&key.namespace, &format!("{}-{suffix}", key.name)), pod);
        }
        if key.namespace == velero::NAMESPACE && key.name == "velero" {
            self.velero_restarted(plane);
        }
    }

    /// The pods of a workload.
    pub(crate) fn pods_of(&self, plane: usize, key: &Key) -> Vec<Key> {
        let owned = |pod: &Value| {
            let owner = &pod["metadata"]["ownerReferences"][0];
            let kind = owner["kind"].as_str().unwrap_or_default();
            owner["name"] == key.name.as_str() && objects::plural(kind) == key.plural
        };
        let pods = self.planes[plane].store.list("", "pods", &key.namespace);
        pods.into_iter().filter(|(_, pod)| owned(pod)).map(|(key, _)| key.clone()).collect()
    }

    /// A pod was deleted: its controller, or the kubelet for a static one, makes another.
    pub(crate) fn pod_deleted(&mut self, plane: usize, key: &Key, pod: &Value) {
        self.release_claims(plane, &key.namespace);
        let owner = pod["metadata"]["ownerReferences"][0].clone();
        let kind = owner["kind"].as_str().unwrap_or_default().to_owned();
        let name = owner["name"].as_str().unwrap_or_default().to_owned();
        let next = match kind.as_str() {
            "" => return,
            "Node" | "StatefulSet" => key.clone(),
            _ => Key::pod(&key.namespace, &format!("{name}-{}", self.pod_suffix())),
        };
        let workload = Key::new("apps", &objects::plural(&kind), &key.namespace, &name);
        self.count_pods(plane, &workload);
        let wanted = kind == "Node"
            || self.planes[plane].store.get(&workload).is_some_and(|found| found["spec"]["replicas"] != 0);
        if wanted {
            self.after(take::POD_START, Event::Pod { plane, key: next, pod: pod.clone() });
        }
    }

    /// The successor of a pod starts, on its node if that lives, otherwise elsewhere.
    pub(crate) fn pod_starts(&mut self, plane: usize, key: Key, pod: Value) {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
        let owner = pod["metadata"]["ownerReferences"][0]["kind"].as_str().unwrap_or_default().to_owned();
        let place = self.names.iter().find(|name| name.as_str() == node).cloned();
        let bound = matches!(owner.as_str(), "Node" | "DaemonSet");
        let fits =
            |name: &HostName| self.kubelet_reaches(name) == Some(plane) && (bound || self.takes_pods(plane, name));
        let alive = place.as_ref().is_some_and(fits);
        if !self.serves(plane) || (bound && !alive) {
            return self.after(take::POD_START, Event::Pod { plane, key, pod });
        }
        let elsewhere = self.places(false).into_iter().find(fits);
        let Some(place) = place.filter(|_| alive).or(elsewhere) else {
            return self.after(take::POD_START, Event::Pod { plane, key, pod });
        };
        let image = pod.pointer("/spec/containers/0/image").and_then(Value::as_str).unwrap_or_default();
        let name = pod["metadata"]["ownerReferences"][0]["name"].as_str().unwrap_or_default().to_owned();
        let stamp = self.stamp();
        let next = objects::pod(place.as_str(), &pod["metadata"]["labels"], image, Some((&owner, &name)), &stamp);
        let is_velero = key.namespace == velero::NAMESPACE && name == "velero";
        if self.planes[plane].store.get(&key).is_none() {
            self.place_pod(plane, &key, next);
        }
        self.count_pods(plane, &Key::new("apps", &objects::plural(&owner), &key.namespace, &name));
        if is_velero {
            self.velero_restarted(plane);
        }
    }

    /// Whether the scheduler may put pods of others on a node.
    fn takes_pods(&self, plane: usize, name: &HostName) -> bool {
        let node = self.planes[plane].store.get(&Key::node(name.as_str()));
        node.is_some_and(|node| node["spec"]["unschedulable"] != true)
    }

    /// A workload's controller tells how many of its pods there are.
    fn count_pods(&mut self, plane: usize, workload: &Key) {
        let there = self.pods_of(plane, workload).len() as u64;
        let stamp = self.stamp();
        let fields = match workload.plural.as_str() {
            "deployments" | "statefulsets" => ["availableReplicas", "readyReplicas"],
            "daemonsets" => ["numberAvailable", "numberReady"],
            _ => return,
        };
        self.planes[plane].store.update(workload, &stamp, |object| {
            for field in fields {
                object["status"][field] = json!(there);
            }
        });
    }

    /// Puts a pod; a StatefulSet's controller makes its claim again when that is gone.
    fn place_pod(&mut self, plane: usize, key: &Key, mut pod: Value) {
        if let Some(volumes) = self.mounts(&key.namespace, &key.name) {
            let claim = volumes[0]["persistentVolumeClaim"]["claimName"].as_str().unwrap_or_default().to_owned();
            pod["spec"]["volumes"] = volumes;
            let missing = Key::new("", "persistentvolumeclaims", &key.namespace, &claim);
            let spec = self.spec.volumes.iter().find(|spec| spec.namespace == key.namespace && spec.claim == claim);
            if let Some(spec) = spec.filter(|_| self.planes[plane].store.get(&missing).is_none()).cloned() {
                self.provision(plane, &spec);
            }
        }
        let stamp = self.stamp();
        self.planes[plane].store.put(key.clone(), pod, &stamp);
    }

    /// Where pods go: agents, or every node when there are none or it is a DaemonSet's.
    pub(crate) fn places(&self, every_node: bool) -> Vec<HostName> {
        let agents: Vec<HostName> =
            self.names.iter().filter(|name| self.host(name).role == Role::Agent).cloned().collect();
        if every_node || agents.is_empty() { self.names.clone() } else { agents }
    }
}
