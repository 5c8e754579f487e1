//! What happens before anything else: static pods that must not run any more are ended.

use std::fs;
use std::time::Duration;

use super::container::Task;
use super::layout::Layout;
use super::node::Ending;
use super::{log, manifest};

/// How often the containers are looked at: RKE2 does so every 10 s.
const POLL: Duration = Duration::from_secs(1);
/// How long that may take (R2 `pkg/executor/staticpod/cleanup.go`).
const LIMIT: Duration = Duration::from_secs(300);

/// Why pods may have to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// No reset is asked for.
    None,
    /// Membership alone.
    Membership,
    /// A snapshot is restored: the start after it ends every control-plane pod.
    Restore,
}

/// Ends the pods of etcd and the API server before a reset, and before a server joins whose etcd is gone; all of the
/// control plane on the first start after a restore (R2 `pkg/rke2/rke2_linux.go`). Pods without a manifest are left alone.
pub async fn static_pods(layout: &Layout, reset: Reset) -> Result<(), Ending> {
    let is_forced = layout.force_restart().exists();
    if is_forced {
        fs::remove_file(layout.force_restart())?;
    }
    let is_reset = reset != Reset::None || !layout.etcd_name().exists();
    if reset == Reset::Restore {
        fs::create_dir_all(layout.data())?;
        fs::write(layout.force_restart(), "")?;
    }
    let unwanted: Vec<&str> = manifest::COMPONENTS
        .into_iter()
        .filter(|component| *component != "kube-proxy")
        .filter(|component| is_forced || (is_reset && matches!(*component, "etcd" | "kube-apiserver")))
        .collect();
    end(layout, &unwanted).await
}

async fn end(layout: &Layout, components: &[&str]) -> Result<(), Ending> {
    if !layout.bin().exists() || !layout.pod_manifests().exists() {
        return Ok(());
    }
    let has_manifest = |component: &&str| layout.pod_manifests().join(format!("{component}.yaml")).exists();
    let components: Vec<String> =
        components.iter().filter(|component| has_manifest(component)).map(|name| (*name).to_owned()).collect();
    if components.is_empty() {
        return Ok(());
    }
    log::info(format!("Static pod cleanup in progress: {}", components.join(" ")));
    for component in &components {
        manifest::remove(&layout.pod_manifests(), component)?;
    }
    let all_gone = async {
        loop {
            let wanted = components.clone();
            let found = tokio::task::spawn_blocking(move || remove(&wanted)).await.map_err(std::io::Error::other)??;
            if found == 0 {
                return Ok::<(), Ending>(());
            }
            tokio::time::sleep(POLL).await;
        }
    };
    match tokio::time::timeout(LIMIT, all_gone).await {
        Ok(outcome) => outcome?,
        Err(_) => return Err(Ending::Error("failed to initialize executor: static pod cleanup timed out".to_owned())),
    }
    log::info("Static pod cleanup completed successfully");
    Ok(())
}

/// Ends the static pods of the components; says how many there were.
pub fn remove(components: &[String]) -> std::io::Result<usize> {
    let tasks = Task::all().into_iter().filter(|task| task.spec.is_static && components.contains(&task.spec.name));
    let mut found = 0;
    for task in tasks {
        log::info(format!("Removing pod {}", task.spec.pod));
        task.remove()?;
        found += 1;
    }
    Ok(found)
}
