//! PortsClosed: nobody listens on these ports of the host.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Context, Failure, Place, Probe};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, host_of, info, known};

/// Goal: nobody listens on these ports of the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortsClosed {
    /// TCP ports; all that a server's control plane listens on when left out.
    #[serde(default)]
    pub ports: Param<Vec<u16>>,
}

#[async_trait]
impl Goal for PortsClosed {
    const INFO: ActionInfo = ActionInfo {
        changes: false,
        ..info("PortsClosed", "nobody listens on these ports of the host", Place::Host, 2)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let surveyed = world.distribution().server_ports();
        let ports = match known(&self.ports)? {
            ports if ports.is_empty() => &surveyed,
            ports => ports,
        };
        if let Some(port) = ports.iter().find(|port| !surveyed.contains(port)) {
            let surveyed = surveyed.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
            return Err(Failure::permanent(format!("port {port} is not looked at: only {surveyed} are")));
        }
        let survey = world.survey(context).await?;
        let open: Vec<String> =
            survey.open_ports.iter().filter(|port| ports.contains(port)).map(u16::to_string).collect();
        if open.is_empty() {
            return Ok(Probe::satisfied());
        }
        Ok(Probe::pending(format!("{} still listens on {}", host_of(context)?, open.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    #[tokio::test(start_paused = true)]
    async fn a_port_that_is_open_is_named() {
        let scene = Scene::new();
        scene.survey("server-0", |survey| survey.open_ports = vec![2379, 9345]);
        let bench = scene.on("server-0", PortsClosed { ports: Param::Known(vec![2379, 6443]) });
        assert_eq!(bench.pending().await, "server-0 still listens on 2379");
        scene.survey("server-0", |survey| survey.open_ports = vec![9345]);
        bench.satisfied().await;
    }

    #[tokio::test(start_paused = true)]
    async fn without_ports_it_is_those_of_the_distribution() {
        let scene = Scene::new();
        scene.survey("server-0", |survey| survey.open_ports = vec![9345]);
        let bench = scene.on("server-0", PortsClosed { ports: Param::default() });
        assert_eq!(bench.pending().await, "server-0 still listens on 9345");
        let scene = Scene::k3s();
        scene.survey("server-0", |survey| survey.open_ports = vec![6443]);
        let all = scene.on("server-0", PortsClosed { ports: Param::default() });
        assert_eq!(all.pending().await, "server-0 still listens on 6443");
        scene.survey("server-0", |survey| survey.open_ports.clear());
        all.satisfied().await;
        let refused = scene.on("server-0", PortsClosed { ports: Param::Known(vec![9345]) }).failure().await;
        assert!(refused.what.ends_with("only 2379, 2380, 6443 are"), "{refused}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_nobody_looks_at_is_not_said_to_be_closed() {
        let bench = Scene::new().on("server-0", PortsClosed { ports: Param::Known(vec![8080]) });
        assert!(bench.failure().await.what.contains("8080"));
    }
}
