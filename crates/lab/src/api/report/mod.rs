//! What a kubelet tells the API: its node, its lease, its pods.

mod node;
mod pods;

use std::fs;
use std::io;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::client::{ApiError, Client};
use crate::process::{Kubelet, RunningPod};

/// Time between two looks at the node's pods.
const SYNC: Duration = Duration::from_secs(1);
/// How often the lease is renewed (a quarter of the lease's 40 s) and the node's status is looked at.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Reports a node until the process ends.
///
/// `running` is what runs on the node now: static pods, and those of `bound` whose process lives. `bound` is told which
/// other pods the node should run: whoever runs them puts them into `running`. It is told nothing until an API server has
/// answered, and keeps the last word while none does.
///
/// An error is one of files; an API server that does not answer is none.
pub async fn run(
    config: Kubelet,
    running: watch::Receiver<Vec<RunningPod>>,
    bound: watch::Sender<Vec<RunningPod>>,
) -> io::Result<()> {
    let client = Client::new(servers(&config)?, &config.authority, &config.certificate, &config.key)?;
    let mut reporter = Reporter { client, config, registered: false, renewed: None, told: None };
    loop {
        reporter.client.set_servers(servers(&reporter.config)?);
        let now: Vec<RunningPod> = running.borrow().clone();
        match reporter.turn(&now, &bound).await {
            Ok(()) => {}
            Err(error) if error.is_conflict() => tracing::debug!(%error, "somebody was first"),
            Err(error) => tracing::warn!(%error, "the node cannot be reported"),
        }
        tokio::time::sleep(SYNC).await;
    }
}

struct Reporter {
    client: Client,
    config: Kubelet,
    /// A kubelet registers its node once per process: one that is deleted meanwhile stays deleted until a restart.
    registered: bool,
    renewed: Option<Instant>,
    told: Option<Instant>,
}

impl Reporter {
    async fn turn(&mut self, running: &[RunningPod], bound: &watch::Sender<Vec<RunningPod>>) -> Result<(), ApiError> {
        if !self.registered {
            node::register(&self.client, &self.config).await?;
            self.registered = true;
        }
        if is_due(self.renewed) {
            node::renew(&self.client, &self.config).await?;
            self.renewed = Some(Instant::now());
        }
        if is_due(self.told) {
            node::report(&self.client, &self.config).await?;
            self.told = Some(Instant::now());
        }
        pods::sync(&self.client, &self.config.node, running, bound).await
    }
}

fn is_due(last: Option<Instant>) -> bool {
    last.is_none_or(|at| at.elapsed() >= HEARTBEAT)
}

/// The servers that the node knows: a file that is being replaced is read in the next turn.
fn servers(config: &Kubelet) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(&config.servers)?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}
