//! EtcdLeader: it is known which server's member leads etcd.

use async_trait::async_trait;
use futures::future::join_all;
use rke2flow_engine::action::{ActionInfo, Context, Failure, Place, Probe};
use rke2flow_engine::value::{FactSpec, Facts, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, info};

/// Goal: it is known which server's member leads etcd.
///
/// Each member says so itself, in its metrics on the loopback (`etcd_server_is_leader`, etcd server/etcdserver/metrics.go).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdLeader {}

#[async_trait]
impl Goal for EtcdLeader {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "host", kind: ValueType::Text }],
        changes: false,
        ..info("EtcdLeader", "it is known which server's member leads etcd", Place::Operator, 2)
    };

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        let asked =
            world.servers().map(|server| async { (server.name.as_str(), world.hosts().identity(&server.name).await) });
        let (mut leaders, mut silent) = (Vec::new(), Vec::new());
        for (name, identity) in join_all(asked).await {
            match identity {
                Ok(identity) if identity.etcd_leads => leaders.push(name),
                Ok(_) => {}
                Err(failure) => silent.push(failure.to_string()),
            }
        }
        Ok(match leaders.as_slice() {
            [leader] => Probe::Satisfied(Facts::from([("host".to_owned(), (*leader).into())])),
            [] if silent.is_empty() => Probe::pending("no server says that its member leads etcd"),
            [] => Probe::pending(format!("no server says that its member leads etcd; {}", silent.join("; "))),
            several => Probe::pending(format!("{} all say that they lead etcd", several.join(", "))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    fn leads(scene: &Scene, host: &str, leads: bool) {
        scene.change(|state| state.hosts.get_mut(host).unwrap().identity.etcd_leads = leads);
    }

    #[tokio::test(start_paused = true)]
    async fn the_leader_is_who_says_so_alone() {
        let scene = Scene::new();
        let bench = scene.on("operator", EtcdLeader {});
        assert_eq!(bench.satisfied().await["host"], "server-1");
        leads(&scene, "server-2", true);
        assert_eq!(bench.pending().await, "server-1, server-2 all say that they lead etcd");
        leads(&scene, "server-1", false);
        assert_eq!(bench.satisfied().await["host"], "server-2");
        leads(&scene, "server-2", false);
        scene.change(|state| state.hosts.get_mut("server-0").unwrap().silent = true);
        assert!(bench.pending().await.contains("cannot reach server-0"));
    }
}
