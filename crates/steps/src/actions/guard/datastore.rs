//! What a distribution may be made of that no runbook can serve: another datastore, flags that outdo every file.

use rke2flow_engine::cluster::Host;

use crate::actions::World;
use crate::answer::Survey;
use crate::distribution::Traits;

/// Servers that keep the cluster in something else than embedded etcd, which has no members, no snapshots and no reset.
pub(super) fn embedded_etcd<'a>(
    distribution: &Traits,
    servers: impl Iterator<Item = (&'a Host, &'a Survey)>,
) -> (String, Vec<String>) {
    if !distribution.other_datastores {
        return (format!("{} has no other datastore", distribution.title), Vec::new());
    }
    let other = |(host, survey): (&Host, &Survey)| {
        let (kind, way) = match survey.datastore.as_str() {
            "sqlite" => ("SQLite", "start this server with --cluster-init, which takes its data over into etcd"),
            "external" => ("an external datastore", "back it up and restore it by its own means"),
            _ => return None,
        };
        Some(format!("{} keeps the cluster in {kind}; only embedded etcd is served: {way}", host.name))
    };
    ("every server has embedded etcd".to_owned(), servers.filter_map(other).collect())
}

/// Hosts whose unit says `--server` itself, and not the server that is restored: no file of ours counts against that.
pub(super) fn server_flag<'a>(
    world: &World,
    hosts: impl Iterator<Item = (&'a Host, &'a Survey)> + Clone,
) -> (String, Vec<String>) {
    if !world.distribution().flags_in_unit {
        return (format!("units of {} have no flags", world.distribution().title), Vec::new());
    }
    let Some(init) = world.cluster().init_server() else {
        return (String::new(), vec!["there is no server".to_owned()]);
    };
    let told = hosts.clone().find(|(host, _)| host.name == init.name).map(|(_, survey)| survey.node_ip.clone());
    let is_init = |address: &str| {
        [Some(&init.address), init.node_ip.as_ref(), told.as_ref()].into_iter().flatten().any(|known| known == address)
    };
    let elsewhere = hosts.filter(|(host, survey)| {
        let flag = survey.unit_server.as_str();
        !flag.is_empty() && host.name != init.name && !is_init(address(flag))
    });
    let told = elsewhere.map(|(host, survey)| {
        format!(
            "the unit of {} says --server {}, which outdoes every file: move it to `server:` in config.yaml, or to {}",
            host.name, survey.unit_server, init.name
        )
    });
    (format!("no unit leads elsewhere than to {}", init.name), told.collect())
}

/// `https://10.0.0.10:6443`, `https://[fd00::10]:6443` → the address alone.
fn address(url: &str) -> &str {
    let host = url.split("://").last().unwrap_or(url);
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split([':', '/']).next().unwrap_or(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::guard::{Check, Guard};
    use crate::actions::testing::Scene;
    use rke2flow_engine::value::Param;

    fn guard(check: Check) -> Guard {
        Guard {
            checks: vec![check],
            version: Param::default(),
            later: Param::default(),
            waived: Param::default(),
            lost: Param::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_without_embedded_etcd_is_refused_with_the_reason() {
        let scene = Scene::k3s();
        scene.on("operator", guard(Check::EmbeddedEtcd)).satisfied().await;
        scene.survey("server-0", |survey| survey.datastore = "sqlite".to_owned());
        scene.survey("server-1", |survey| survey.datastore = "external".to_owned());
        let refused = scene.on("operator", guard(Check::EmbeddedEtcd)).failure().await.observed;
        assert!(
            refused.contains("server-0 keeps the cluster in SQLite") && refused.contains("--cluster-init"),
            "{refused}"
        );
        assert!(refused.contains("server-1 keeps the cluster in an external datastore"), "{refused}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flag_that_leads_elsewhere_than_to_the_restored_server_is_refused() {
        let scene = Scene::k3s();
        scene.survey("server-1", |survey| survey.unit_server = "https://10.0.0.0:6443".to_owned());
        scene.on("operator", guard(Check::ServerFlag)).satisfied().await;
        scene.survey("agent-0", |survey| survey.unit_server = "https://10.0.0.1:6443".to_owned());
        let refused = scene.on("operator", guard(Check::ServerFlag)).failure().await.observed;
        assert!(refused.contains("the unit of agent-0 says --server https://10.0.0.1:6443"), "{refused}");
        assert!(!refused.contains("server-1"), "{refused}");
    }

    #[test]
    fn an_address_is_what_is_between_the_scheme_and_the_port() {
        for (url, host) in
            [("https://a.b:6443", "a.b"), ("https://[fd00::1]:6443", "fd00::1"), ("10.0.0.1", "10.0.0.1")]
        {
            assert_eq!(address(url), host);
        }
    }
}
