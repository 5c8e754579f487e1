//! What a distribution may be made of that no runbook can serve: another datastore, flags that outdo every file.

use rke2flow_engine::action::Failure;

use super::check::{Level, Row, Seen};
use super::evidence::Evidence;

pub(super) const EMBEDDED: Row = Row {
    level: Level::Refuse,
    why: "another datastore has no members, no etcd snapshots and no cluster-reset",
    source: "docs.k3s.io/datastore; K3S pkg/cluster/managed.go",
    unwaivable: Some("the run could neither take nor restore a snapshot"),
    judge: |evidence| Box::pin(embedded_etcd(evidence)),
};

pub(super) const FLAG: Row = Row {
    level: Level::Refuse,
    why: "a flag of the unit outdoes every file: the node would look for its old server",
    source: "docs.k3s.io/installation/configuration; K3S install.sh",
    unwaivable: None,
    judge: |evidence| Box::pin(server_flag(evidence)),
};

async fn embedded_etcd(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let distribution = evidence.world.distribution();
    if !distribution.other_datastores {
        return Ok(Seen::well(format!("{} has no other datastore", distribution.title)));
    }
    let mut seen = Seen::well("every server has embedded etcd");
    for (host, survey) in evidence.servers().await {
        let (kind, way) = match survey.datastore.as_str() {
            "sqlite" => ("SQLite", "start this server with --cluster-init, which takes its data over into etcd"),
            "external" => ("an external datastore", "back it up and restore it by its own means"),
            _ => continue,
        };
        seen.refuse(format!("{} keeps the cluster in {kind}; only embedded etcd is served", host.name), way);
    }
    Ok(seen)
}

/// No file of ours counts against what the unit says itself.
async fn server_flag(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let world = evidence.world;
    if !world.distribution().flags_in_unit {
        return Ok(Seen::well(format!("units of {} have no flags", world.distribution().title)));
    }
    let Some(init) = world.cluster().init_server() else {
        return Err(Failure::permanent("there is no server"));
    };
    let hosts = evidence.surveys().await;
    let told = hosts.iter().find(|(host, _)| host.name == init.name).map(|(_, survey)| &survey.node_ip);
    let is_init = |address: &str| {
        [Some(&init.address), init.node_ip.as_ref(), told].into_iter().flatten().any(|known| known == address)
    };
    let mut seen = Seen::well(format!("no unit leads elsewhere than to {}", init.name));
    for (host, survey) in &hosts {
        let flag = survey.unit_server.as_str();
        if !flag.is_empty() && host.name != init.name && !is_init(address(flag)) {
            let what = format!("the unit of {} says --server {flag}, which outdoes every file", host.name);
            seen.refuse(what, format!("move it to `server:` in config.yaml, or to {}", init.name));
        }
    }
    Ok(seen)
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
            drains: Param::default(),
            token_hash: Param::default(),
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
