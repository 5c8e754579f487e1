//! The controllers of a control plane: what one server's disk asks for, and, on the server that leads, what the cluster's
//! objects ask for.
//!
//! They keep no copy of the cluster: every turn looks anew, so that a restored datastore is simply what is there.

mod addons;
mod charts;
mod garbage;
mod leader;
mod lifecycle;
mod pods;
mod rollout;
mod scheduler;
mod view;

use std::io;
use std::time::Duration;

use super::client::{ApiError, Client};
use crate::process::ControlPlane;

/// Time between two turns.
const EVERY: Duration = Duration::from_secs(1);

/// Runs the controllers through the server's own API, while this server leads, until the process ends.
pub async fn run(config: ControlPlane) -> io::Result<()> {
    let tls = &config.tls;
    let client = Client::new(
        vec![format!("127.0.0.1:{}", config.port)],
        &tls.join("server-ca.crt"),
        &tls.join("client-controller.crt"),
        &tls.join("client-controller.key"),
    )?;
    let mut turns = Turns {
        addons: addons::Addons::new(&config),
        leader: leader::Leader::new(&config.node),
        lifecycle: lifecycle::Lifecycle::default(),
        version: config.version,
        client,
    };
    loop {
        // A write that came second is of no consequence: the next turn looks anew.
        match turns.turn().await {
            Err(error) if error.is_conflict() => tracing::debug!(%error, "somebody was first"),
            Err(error) => tracing::warn!(%error, "the controllers cannot do their work"),
            Ok(()) => {}
        }
        tokio::time::sleep(EVERY).await;
    }
}

struct Turns {
    client: Client,
    version: String,
    addons: addons::Addons,
    leader: leader::Leader,
    lifecycle: lifecycle::Lifecycle,
}

impl Turns {
    async fn turn(&mut self) -> Result<(), ApiError> {
        let client = &self.client;
        self.addons.apply(client).await?;
        if !self.leader.leads(client).await? {
            self.lifecycle.forget();
            return Ok(());
        }
        charts::install(client, &self.version).await?;
        let view = view::View::look(client).await?;
        self.lifecycle.watch(client, &view).await?;
        garbage::collect(client, &view).await?;
        scheduler::bind(client, &view).await?;
        rollout::deployments(client, &view).await?;
        rollout::daemon_sets(client, &view).await
    }
}
