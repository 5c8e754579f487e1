//! An upgrade through the system-upgrade-controller, which a player here takes the part of: it makes jobs and pods for
//! Plans in the lab's own API, and does on the hosts what the upgrade image does there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rke2flow_lab::hosts::Host;
use serde_json::{Value, json};

use crate::cluster;
use crate::data::{self, api};
use crate::scene::{NEW, OLD, Scene};

const NAMESPACE: &str = "system-upgrade";
const PLANS: &str = "/apis/upgrade.cattle.io/v1/namespaces/system-upgrade/plans";
/// Between two looks of the player.
const TURN: Duration = Duration::from_millis(500);
const CALL: Duration = Duration::from_secs(15);

#[test]
fn three_servers_and_three_agents_are_upgraded_through_the_controller_and_nothing_of_it_is_left() {
    let Some(scene) = Scene::of("an upgrade through the system-upgrade-controller", 3, 3) else { return };
    data::write_before(&scene);
    let before = data::digest(&scene);
    install(&scene);
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| Player { scene: &scene }.play(&ends));
        let version = format!("version={NEW}");
        let upgrade = scene.rke2flow(&["run", "upgrade-suc", "--set", &version, "--yes"]);
        let again = scene.rke2flow(&["run", "upgrade-suc", "--set", &version, "--yes"]);
        ends.store(true, Ordering::Relaxed);
        eprintln!("upgrade through the controller {OLD} -> {NEW}: {:.1} s", upgrade.took.as_secs_f64());
        upgrade.ends_with(0);
        again.ends_with(0);
    });
    cluster::runs_version(&scene, NEW);
    cluster::every_server_votes(&scene);
    cluster::nothing_is_held(&scene);
    nothing_of_plans_is_left(&scene);
    assert_eq!(data::digest(&scene), before, "what applications had written");
    for host in scene.hosts() {
        let name = host.name();
        assert_eq!(host.must("cat /var/log/upgrade.sh.log | wc -l").unwrap().trim(), "1", "upgrades of {name} by jobs");
        let ours = host.must("ls -d /var/lib/rke2flow/*/*InstallVersion* 2>/dev/null || true").unwrap();
        assert_eq!(ours, "", "{name} was upgraded by rke2flow itself");
    }
}

/// The controller as its manifest installs it; its pod runs and does nothing: the player does.
fn install(scene: &Scene) {
    let put = |path: &str, object: Value| drop(api(scene, "POST", path, &object.to_string()));
    let definition = json!({"metadata": {"name": "plans.upgrade.cattle.io"}, "spec": {"group": "upgrade.cattle.io"}});
    put("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition);
    put("/api/v1/namespaces", json!({"metadata": {"name": NAMESPACE}}));
    let account = json!({"metadata": {"name": NAMESPACE}});
    put(&format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts"), account);
    let labels = json!({"upgrade.cattle.io/controller": "system-upgrade-controller"});
    let pod = json!({
        "serviceAccountName": NAMESPACE,
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "system-upgrade-controller", "image": "rancher/system-upgrade-controller:v0.15.2"}],
    });
    let deployment = json!({
        "metadata": {"name": "system-upgrade-controller"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    });
    let deployments = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments");
    put(&deployments, deployment);
    for _ in 0..120 {
        let found = api(scene, "GET", &format!("{deployments}/system-upgrade-controller"), "");
        if serde_json::from_str::<Value>(&found).unwrap()["status"]["availableReplicas"] == 1 {
            return;
        }
        std::thread::sleep(TURN);
    }
    panic!("the controller's pod does not run");
}

fn nothing_of_plans_is_left(scene: &Scene) {
    let items = |path: &str| -> Vec<Value> {
        let found: Value = serde_json::from_str(&api(scene, "GET", path, "")).unwrap();
        found["items"].as_array().unwrap().clone()
    };
    assert_eq!(items(PLANS), Vec::<Value>::new());
    assert_eq!(items(&format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs")), Vec::<Value>::new());
    for node in items("/api/v1/nodes") {
        let labels = node["metadata"]["labels"].as_object().unwrap();
        assert!(!labels.keys().any(|label| label.contains("upgrade")), "{labels:?}");
        let left = node["metadata"]["annotations"].as_object().into_iter().flatten();
        assert!(!left.clone().any(|(name, _)| name.starts_with("rke2flow.io/")), "{left:?}");
    }
}

/// The controller, and the containers of its jobs.
struct Player<'s> {
    scene: &'s Scene,
}

impl Player<'_> {
    fn play(&self, ends: &AtomicBool) {
        while !ends.load(Ordering::Relaxed) {
            // An API server that restarts is asked again in the next turn.
            let _ = self.turn();
            std::thread::sleep(TURN);
        }
    }

    /// Every plan; the job of one node at a time.
    fn turn(&self) -> Option<()> {
        for plan in self.items(PLANS)? {
            let name = text(&plan["metadata"]["name"]);
            let version = text(&plan["spec"]["version"]);
            let (tag, hash) = (version.replace('+', "-"), format!("{:x}", version.len()).repeat(28));
            let label = format!("plan.upgrade.cattle.io/{name}");
            let wanted = plan["spec"]["nodeSelector"]["matchLabels"].as_object().cloned().unwrap_or_default();
            let nodes = self.items("/api/v1/nodes")?;
            let fits = |node: &&Value| {
                let labels = &node["metadata"]["labels"];
                wanted.iter().all(|(label, value)| labels[label] == *value) && labels[&label] != hash.as_str()
            };
            let next = nodes.iter().find(fits);
            let applying: Vec<&Value> = next.iter().map(|node| &node["metadata"]["name"]).collect();
            let status = json!({"status": {"latestVersion": tag, "latestHash": hash, "applying": applying}});
            self.ask("PATCH", &format!("{PLANS}/{name}/status"), &status)?;
            if let Some(node) = next {
                self.upgrade(&plan, &text(&node["metadata"]["name"]), &version, &label, &hash)?;
            }
        }
        Some(())
    }

    fn upgrade(&self, plan: &Value, node: &str, version: &str, label: &str, hash: &str) -> Option<()> {
        let name = text(&plan["metadata"]["name"]);
        let mut labels = plan["metadata"]["labels"].clone();
        for (label, value) in [("upgrade.cattle.io/plan", name.as_str()), ("upgrade.cattle.io/node", node)] {
            labels[label] = json!(value);
        }
        labels["upgrade.cattle.io/controller"] = json!("system-upgrade-controller");
        let job = format!("apply-{name}-on-{node}");
        let jobs = format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs");
        let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
        let meta = |name: &str| json!({"name": name, "labels": labels});
        let image = format!("rancher/rke2-upgrade:{}", version.replace('+', "-"));
        if self.ask("GET", &format!("{jobs}/{job}"), &Value::Null).is_none() {
            self.ask("POST", &jobs, &json!({"metadata": meta(&job), "spec": {}, "status": {"active": 1}}))?;
            let spec = json!({"nodeName": node, "containers": [{"name": "upgrade", "image": image}]});
            self.ask("POST", &pods, &json!({"metadata": meta(&job), "spec": spec}))?;
            return Some(());
        }
        // The node's own kubelet has started it.
        let pod = self.ask("GET", &format!("{pods}/{job}"), &Value::Null)?;
        if pod["status"]["phase"] != "Running" {
            return Some(());
        }
        self.ask("PATCH", &format!("/api/v1/nodes/{node}"), &json!({"spec": {"unschedulable": true}}))?;
        let host = self.scene.lab.host(node).unwrap();
        host.exec_within(&upgrade_sh(version), b"", CALL).ok().filter(|done| done.success())?;
        // The kubelet that would tell is gone for the moment: the job is complete when it is back.
        self.complete(&host, &jobs, &job, node, label, hash);
        self.ask("DELETE", &format!("{pods}/{job}?gracePeriodSeconds=0"), &Value::Null);
        Some(())
    }

    /// Complete as soon as an API server takes the word, which says nothing about the node.
    fn complete(&self, host: &Host<'_>, jobs: &str, job: &str, node: &str, label: &str, hash: &str) {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = json!({"type": "Complete", "status": "True", "lastTransitionTime": now});
        let status = json!({"status": {"active": null, "succeeded": 1, "conditions": [condition]}});
        let done = json!({"metadata": {"labels": {label: hash}}, "spec": {"unschedulable": null}});
        for _ in 0..120 {
            let told = self.ask("PATCH", &format!("{jobs}/{job}/status"), &status);
            if told.is_some() && self.ask("PATCH", &format!("/api/v1/nodes/{node}"), &done).is_some() {
                return;
            }
            // A job that was deleted meanwhile has nothing to tell any more.
            if self.ask("GET", jobs, &Value::Null).is_some_and(|all| !all.to_string().contains(job)) {
                return;
            }
            std::thread::sleep(TURN);
        }
        panic!("{}: the end of job {job} cannot be told", host.name());
    }

    fn items(&self, path: &str) -> Option<Vec<Value>> {
        self.ask("GET", path, &Value::Null)?["items"].as_array().cloned()
    }

    /// Asks whichever API server answers; `None` when none says yes.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Option<Value> {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let script = format!(
            "cd /var/lib/rancher/rke2/server/tls && curl -sS --fail --max-time 5 --cacert server-ca.crt \
             --cert client-admin.crt --key client-admin.key -X {method} -H 'content-type: {kind}' \
             --data-binary @- 'https://127.0.0.1:6443{path}'"
        );
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.scene.servers().iter().find_map(|server| {
            let answer = server.exec_within(&script, body.as_bytes(), CALL).ok().filter(|answer| answer.success())?;
            serde_json::from_str(&answer.stdout).ok()
        })
    }
}

/// What `upgrade` of the image does on the host (rke2-upgrade scripts/upgrade.sh): compares, replaces the binary that the
/// process was started from, and tells the process, containerd and the kubelet to end. systemd starts it again.
fn upgrade_sh(version: &str) -> String {
    format!(
        r#"set -e
tar -xzOf '/srv/lab/releases/{version}/rke2.linux-amd64.tar.gz' bin/rke2 >/tmp/opt-rke2
if cmp -s /tmp/opt-rke2 /usr/local/bin/rke2; then exit 0; fi
echo '{version}' >>/var/log/upgrade.sh.log
install -m 0755 /tmp/opt-rke2 /usr/local/bin/rke2.new
mv /usr/local/bin/rke2.new /usr/local/bin/rke2
unit=$(systemctl list-units --plain --no-legend --state=active 'rke2-*.service' | awk '{{print $1; exit}}')
pid=$(systemctl show -p MainPID --value "$unit")
children=$(pgrep -lP "$pid" | grep -Eo '^[0-9]+ (containerd|kubelet)' | awk '{{print $1}}' || true)
kill -TERM $pid $children"#
    )
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
