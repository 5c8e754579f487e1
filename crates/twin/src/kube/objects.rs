//! The objects that a running cluster has: nodes, leases, system pods and workloads, plans, what Velero needs.

use std::time::Duration;

use rke2flow_engine::cluster::{Distribution, Role};
use rke2flow_engine::id::HostName;
use serde_json::{Value, json};

use crate::host::Host;
use crate::host::service::STATIC_PODS;
use crate::kube::store::Key;
use crate::world::World;
use crate::world::version;
use crate::world::workload::NAMESPACE;

/// Deployments and DaemonSets of kube-system that a distribution ships, each with its plural and kind.
pub fn system_workloads(distribution: Distribution) -> Vec<(&'static str, &'static str, &'static str)> {
    let (deployments, daemons): (&[&str], &[&str]) = match distribution {
        Distribution::Rke2 => (
            &[
                "rke2-coredns-rke2-coredns",
                "rke2-coredns-rke2-coredns-autoscaler",
                "rke2-metrics-server",
                "rke2-snapshot-controller",
            ],
            &["rke2-canal", "rke2-ingress-nginx-controller"],
        ),
        // Flannel and the network policies are inside the process.
        Distribution::K3s => {
            (&["coredns", "local-path-provisioner", "metrics-server", "traefik"], &["svclb-traefik-5f1b0c7e"])
        }
    };
    let deployments = deployments.iter().map(|name| ("deployments", "Deployment", *name));
    deployments.chain(daemons.iter().map(|name| ("daemonsets", "DaemonSet", *name))).collect()
}

/// A renewed lease. The annotation carries the twin's own time, which dates in a rehearsal cannot.
pub fn lease(node: &str, renewed: &str, at: Duration) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"annotations": {"twin/renewed-ms": at.as_millis().to_string()}},
        "spec": {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": renewed},
    })
}

/// When a lease was renewed, in cluster time.
pub fn renewed_at(lease: &Value) -> Option<Duration> {
    let text = lease["metadata"]["annotations"]["twin/renewed-ms"].as_str()?;
    text.parse().ok().map(Duration::from_millis)
}

/// A node as its kubelet registers it; what others wrote on it stays.
pub fn node(host: &Host, distribution: &str, before: Option<&Value>, stamp: &str) -> Value {
    let name = host.name.as_str();
    let mut labels = json!({
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": distribution,
    });
    if host.role == Role::Server {
        for role in ["control-plane", "etcd"] {
            labels[format!("node-role.kubernetes.io/{role}")] = json!("true");
        }
    }
    let mut node = before.cloned().unwrap_or_else(
        || json!({"apiVersion": "v1", "kind": "Node", "metadata": {"labels": labels.clone()}, "spec": {}}),
    );
    if let (Some(kept), Some(own)) = (node["metadata"]["labels"].as_object_mut(), labels.as_object()) {
        kept.extend(own.clone());
    }
    node["status"] = json!({
        "addresses": [
            {"type": "InternalIP", "address": host.address},
            {"type": "Hostname", "address": name},
        ],
        "nodeInfo": {
            "kubeletVersion": host.service.running, "kubeProxyVersion": host.service.running,
            "bootID": host.boot_id(), "architecture": "amd64", "operatingSystem": "linux",
            "containerRuntimeVersion": "containerd://2.0.5-k3s2",
        },
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "KubeletReady",
            "lastHeartbeatTime": stamp, "lastTransitionTime": stamp,
        }],
        "capacity": {"cpu": "4", "memory": "16Gi", "pods": "110"},
        "allocatable": {"cpu": "4", "memory": "16Gi", "pods": "110"},
    });
    node
}

/// The secret by which the supervisor knows a node again.
pub fn node_password(hash: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"hash": hash}})
}

/// A running pod.
pub fn pod(node: &str, labels: &Value, image: &str, owner: Option<(&str, &str)>, stamp: &str) -> Value {
    let owners = owner.map(|(kind, name)| {
        json!([{"apiVersion": if kind == "Node" { "v1" } else { "apps/v1" }, "kind": kind, "name": name, "controller": true, "uid": name}])
    });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"labels": labels, "ownerReferences": owners.unwrap_or_else(|| json!([]))},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": image}]},
        "status": {
            "phase": "Running", "startTime": stamp,
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": stamp}],
            "containerStatuses": [{
                "name": "main", "ready": true, "restartCount": 0, "image": image, "state": {"running": {"startedAt": stamp}},
            }],
        },
    })
}

/// The image of a static pod in a version.
pub fn static_image(pod: &str, of: &str) -> String {
    match pod {
        "etcd" if version::minor(of) >= 34 => {
            "index.docker.io/rancher/hardened-etcd:v3.6.4-k3s3-build20250908".to_owned()
        }
        "etcd" => "index.docker.io/rancher/hardened-etcd:v3.5.21-k3s1-build20250612".to_owned(),
        "cloud-controller-manager" => format!("index.docker.io/rancher/rke2-cloud-provider:{}", version::tag(of)),
        _ => format!("index.docker.io/rancher/hardened-kubernetes:{}-build20250910", version::tag(of)),
    }
}

/// A Deployment, DaemonSet or StatefulSet that has rolled out completely.
pub fn rolled_out(kind: &str, replicas: u64, labels: &Value, image: &str) -> Value {
    let status = match kind {
        "DaemonSet" => json!({
            "desiredNumberScheduled": replicas, "currentNumberScheduled": replicas, "updatedNumberScheduled": replicas,
            "numberAvailable": replicas, "numberReady": replicas, "observedGeneration": 1,
        }),
        _ => json!({
            "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas,
            "availableReplicas": replicas, "observedGeneration": 1,
        }),
    };
    let mut spec = json!({
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": image}]}},
    });
    if kind != "DaemonSet" {
        spec["replicas"] = json!(replicas);
    }
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"labels": labels}, "spec": spec, "status": status})
}

/// The plural of a workload's kind.
pub fn plural(kind: &str) -> String {
    format!("{}s", kind.to_lowercase())
}

impl World {
    /// Everything that is there at the beginning.
    pub(crate) fn first_objects(&mut self) {
        let stamp = self.stamp();
        for namespace in ["default", "kube-system", "kube-public", "kube-node-lease", NAMESPACE] {
            self.first("", "namespaces", "", namespace, namespace_object());
        }
        for name in self.names.clone() {
            self.kubelet_registers(&name);
            self.first_pods_of(&name, &stamp);
        }
        let tag = version::tag(&self.spec.version);
        for (_, kind, name) in system_workloads(self.spec.distribution) {
            let replicas = if kind == "DaemonSet" { self.names.len() as u64 } else { 1 };
            self.workload_object(kind, "kube-system", name, replicas, &format!("rancher/{name}:{tag}"));
        }
        for chart in version::shipped_charts(&self.spec.version) {
            self.chart_job(0, chart.trim_end_matches(".yaml"), true);
            self.release(0, chart.trim_end_matches(".yaml"));
        }
        self.workload_object("Deployment", NAMESPACE, "web", 2, "shop-web:1.0");
        self.first_volumes();
        if self.has_upgrade_controller() {
            self.first_plans();
        }
        if self.spec.velero {
            self.first_velero();
        }
    }

    /// Puts an object of the first control plane.
    pub(crate) fn first(&mut self, group: &str, plural: &str, namespace: &str, name: &str, object: Value) {
        let stamp = self.stamp();
        self.planes[0].store.put(Key::new(group, plural, namespace, name), object, &stamp);
    }

    fn first_pods_of(&mut self, name: &HostName, stamp: &str) {
        if self.host(name).role == Role::Server && !self.one_process() {
            for static_pod in STATIC_PODS {
                let image = static_image(static_pod, &self.spec.version);
                let labels = json!({"component": static_pod, "tier": "control-plane"});
                let object = pod(name.as_str(), &labels, &image, Some(("Node", name.as_str())), stamp);
                self.first("", "pods", "kube-system", &format!("{static_pod}-{name}"), object);
            }
        }
    }

    /// A workload with its pods.
    pub(crate) fn workload_object(&mut self, kind: &str, namespace: &str, name: &str, replicas: u64, image: &str) {
        let stamp = self.stamp();
        let labels = json!({"app.kubernetes.io/name": name});
        self.first("apps", &plural(kind), namespace, name, rolled_out(kind, replicas, &labels, image));
        let places = self.places(kind == "DaemonSet");
        for replica in 0..replicas as usize {
            let node = places[replica % places.len()].clone();
            let suffix = if kind == "StatefulSet" { replica.to_string() } else { self.pod_suffix() };
            let mut object = pod(node.as_str(), &labels, image, Some((kind, name)), &stamp);
            if let Some(volumes) = self.mounts(namespace, &format!("{name}-{suffix}")) {
                object["spec"]["volumes"] = volumes;
            }
            self.first("", "pods", namespace, &format!("{name}-{suffix}"), object);
        }
    }

    /// Five characters that no other pod has.
    pub(crate) fn pod_suffix(&mut self) -> String {
        self.pods_made += 1;
        format!("{:05x}", self.pods_made.wrapping_mul(40_503) & 0xf_ffff)
    }
}

/// A Namespace.
pub fn namespace_object() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
}
