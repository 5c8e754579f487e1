//! What an API server sees to by itself: the system's namespaces are there, and etcd's history has an end.

use std::convert::Infallible;
use std::time::Duration;

use rke2flow_twin::kube::store::Key;
use serde_json::json;

use super::objects::Objects;

/// Namespaces that are there before anybody asks (kube-apiserver's system namespaces controller).
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// How often a namespace is looked after.
const EVERY: Duration = Duration::from_secs(60);
/// How often, while etcd does not answer.
const AGAIN: Duration = Duration::from_secs(1);
/// kube-apiserver's `--etcd-compaction-interval`.
const COMPACTION: Duration = Duration::from_secs(300);

/// Makes namespaces that are missing, again and again.
pub async fn namespaces(objects: Objects) -> Infallible {
    loop {
        let mut made = true;
        for name in NAMESPACES {
            let namespace = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"labels": {"kubernetes.io/metadata.name": name}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
            });
            made &= objects.create(&Key::new("", "namespaces", "", name), namespace).await.is_ok();
        }
        tokio::time::sleep(if made { EVERY } else { AGAIN }).await;
    }
}

/// Forgets what is older than an interval or two: a list or a watch from before is answered with 410.
pub async fn compaction(objects: Objects) -> Infallible {
    let mut before = 0;
    loop {
        let now = objects.etcd.get("/registry/health").await.map_or(0, |read| read.revision);
        // Another server may have done it already; after a restore the revision is a lower one.
        if before > 0 && before <= now {
            match objects.etcd.compact(before).await {
                Ok(()) => tracing::debug!(before, "compacted"),
                Err(error) => tracing::debug!(before, %error, "not compacted"),
            }
        }
        before = now;
        tokio::time::sleep(COMPACTION).await;
    }
}
