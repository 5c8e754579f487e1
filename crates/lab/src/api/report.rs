//! What a kubelet tells the API: its node, its lease, its pods.

use std::io;

use tokio::sync::watch;

use crate::process::{Kubelet, RunningPod};

/// Reports a node until the process ends.
///
/// `running` is what runs on the node now: static pods, and those of `bound` whose process lives. `bound` is told which
/// other pods the node should run, and may run, now: whoever runs them puts them into `running`.
pub async fn run(
    config: Kubelet,
    running: watch::Receiver<Vec<RunningPod>>,
    bound: watch::Sender<Vec<RunningPod>>,
) -> io::Result<()> {
    let _ = (running, bound);
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("{} reports nothing yet", config.node)))
}
