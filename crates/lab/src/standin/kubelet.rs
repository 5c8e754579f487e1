//! The kubelet: runs what the manifests and the API ask for, adopts what runs already, and reports it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::container::{Spec, Task};
use super::layout::Layout;
use super::{log, manifest, runtime, workload};
use crate::process::{Kubelet, RunningPod};

/// How often the manifests are read: RKE2's kubelet does so every 5 s.
const FILE_CHECK: Duration = Duration::from_secs(1);
/// How long a container that ended is left alone before it is started again.
const BACK_OFF: Duration = Duration::from_secs(2);
/// How long a container may take to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// Runs the kubelet until its process is ended; `config` is a file with a [`Kubelet`].
pub async fn run(config: &Path) -> io::Result<()> {
    let config: Kubelet = serde_json::from_slice(&fs::read(config)?)?;
    let (running, seen) = watch::channel(Vec::new());
    let (bound, mut wanted) = watch::channel(Vec::new());
    tokio::spawn({
        let config = config.clone();
        async move {
            loop {
                let Err(error) = crate::api::report::run(config.clone(), seen.clone(), bound.clone()).await else {
                    break;
                };
                log::error(format!("Unable to register node with API server: {error}"));
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    });
    let mut pods = Pods::new(&config);
    // What the API wants is not known before it was asked: until then, what runs is left running.
    let mut asked = false;
    loop {
        asked = asked || wanted.has_changed().unwrap_or(false);
        let from_api = if asked { Some(wanted.borrow_and_update().clone()) } else { None };
        pods = tokio::task::spawn_blocking(move || {
            pods.sync(from_api.as_deref());
            pods
        })
        .await
        .map_err(io::Error::other)?;
        running.send_replace(pods.running());
        tokio::time::sleep(FILE_CHECK).await;
    }
}

/// The pods of one node.
struct Pods {
    config: Kubelet,
    bin: PathBuf,
    manifests: PathBuf,
    started: BTreeMap<(String, String), Instant>,
}

impl Pods {
    fn new(config: &Kubelet) -> Self {
        let layout = Layout::new(&config.data);
        let bin = runtime::directory(&layout, &config.version).join("bin");
        Self { config: config.clone(), bin, manifests: layout.pod_manifests(), started: BTreeMap::new() }
    }

    fn sync(&mut self, from_api: Option<&[RunningPod]>) {
        let mut wanted = manifest::wanted(&self.manifests, &self.config.node);
        if let Some(pods) = from_api {
            wanted.extend(pods.iter().map(spec_of_bound));
            wanted.push(workload::spec(&self.config));
        }
        reap();
        let tasks = Task::all();
        for task in &tasks {
            let is_wanted = wanted.iter().any(|spec| same_pod(spec, &task.spec));
            let is_ours = task.spec.is_static || from_api.is_some();
            let outcome = match (task.has_shim(), is_wanted, is_ours) {
                // Without its shim containerd ends what is left of a container.
                (false, _, _) => task.remove(),
                (true, false, true) => {
                    log::info(format!("Killing unwanted pod {}", task.spec.pod));
                    task.stop(GRACE)
                }
                (true, _, _) => Ok(()),
            };
            if let Err(error) = outcome {
                log::warn(format!("Failed to remove pod {}: {error}", task.spec.pod));
            }
        }
        let tasks = Task::all();
        for spec in wanted.iter().filter(|spec| !tasks.iter().any(|task| same_pod(spec, &task.spec))) {
            self.start(spec);
        }
    }

    fn start(&mut self, spec: &Spec) {
        let key = (spec.pod.clone(), spec.uid.clone());
        if self.started.get(&key).is_some_and(|at| at.elapsed() < BACK_OFF) {
            return;
        }
        log::info(format!("Starting container {} of pod {}", spec.name, spec.pod));
        self.started.insert(key, Instant::now());
        if let Err(error) = Task::start(&self.bin, spec) {
            log::error(format!("Failed to start pod {}: {error}", spec.pod));
        }
    }

    /// What runs, and every static pod of the manifests: one that crashed is there, and not ready.
    fn running(&self) -> Vec<RunningPod> {
        let tasks = Task::all();
        let wanted = manifest::wanted(&self.manifests, &self.config.node);
        let absent = wanted.into_iter().filter(|spec| !tasks.iter().any(|task| same_pod(spec, &task.spec)));
        let absent: Vec<RunningPod> = absent.map(|spec| reported(spec, false)).collect();
        let living = tasks.into_iter().filter(|task| !workload::is_writer(&task.spec));
        living
            .map(|task| (task.is_running(), task.spec))
            .map(|(ready, spec)| reported(spec, ready))
            .chain(absent)
            .collect()
    }
}

/// Shims that this kubelet started and that have ended; those of an earlier one are init's.
fn reap() {
    while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
}

fn same_pod(one: &Spec, other: &Spec) -> bool {
    (&one.namespace, &one.pod, &one.uid) == (&other.namespace, &other.pod, &other.uid)
}

fn reported(spec: Spec, ready: bool) -> RunningPod {
    RunningPod { ready, namespace: spec.namespace, name: spec.pod, image: spec.image, is_static: spec.is_static }
}

fn spec_of_bound(pod: &RunningPod) -> Spec {
    Spec {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        name: "main".to_owned(),
        image: pod.image.clone(),
        uid: pod.image.replace(['/', ':'], "-"),
        is_static: false,
        command: vec!["pause".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_pod_that_does_not_run_is_told_as_not_ready() {
        let dir = tempfile::tempdir().unwrap();
        let config = Kubelet {
            node: "server-0".to_owned(),
            address: "10.0.0.10".to_owned(),
            version: "v1.33.4+rke2r1".to_owned(),
            server: true,
            data: dir.path().to_owned(),
            servers: PathBuf::new(),
            authority: PathBuf::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
        };
        let pods = Pods::new(&config);
        manifest::write(&pods.manifests, "etcd", "etcd:crashed", vec!["etcd".to_owned()], BTreeMap::new()).unwrap();
        let told = pods.running();
        let etcd = told.iter().find(|pod| pod.image == "etcd:crashed").unwrap();
        assert_eq!((etcd.name.as_str(), etcd.is_static, etcd.ready), ("etcd-server-0", true, false));
    }
}
