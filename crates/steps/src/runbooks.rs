//! The runbooks that the binary carries, and an example of a cluster file.

/// A runbook of the binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Embedded {
    /// What it is asked for by: `upgrade`.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// Every runbook of the binary, in the order of lists.
pub const RUNBOOKS: &[Embedded] = &[
    Embedded { name: "upgrade", text: include_str!("../../../runbooks/upgrade.ron") },
    Embedded { name: "upgrade-suc", text: include_str!("../../../runbooks/upgrade-suc.ron") },
    Embedded { name: "rollback", text: include_str!("../../../runbooks/rollback.ron") },
    Embedded { name: "rebuild", text: include_str!("../../../runbooks/rebuild.ron") },
    Embedded { name: "rejoin", text: include_str!("../../../runbooks/rejoin.ron") },
    Embedded { name: "backup", text: include_str!("../../../runbooks/backup.ron") },
    Embedded { name: "health", text: include_str!("../../../runbooks/health.ron") },
];

/// A cluster file with a word on every field.
pub const CLUSTER_EXAMPLE: &str = include_str!("../../../runbooks/cluster.example.ron");

/// The runbook of this name, with or without `.ron`.
pub fn find(name: &str) -> Option<&'static Embedded> {
    let name = name.strip_suffix(".ron").unwrap_or(name);
    RUNBOOKS.iter().find(|runbook| runbook.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use rke2flow_engine::cluster::{self, Cluster};
    use rke2flow_engine::plan::{self, Plan, Request};
    use rke2flow_engine::runbook;
    use rke2flow_engine::source::SourceText;

    use super::*;
    use crate::catalogue::{AnyAction, StepsCatalogue};

    fn cluster(servers: usize, agents: usize, velero: bool) -> Cluster {
        let host = |role: &str, net: usize, number: usize| {
            format!("(name: \"{}-{number}\", address: \"10.0.{net}.{number}\", role: {role})", role.to_lowercase())
        };
        let mut hosts: Vec<String> = (0..servers).map(|number| host("Server", 0, number)).collect();
        hosts.extend((0..agents).map(|number| host("Agent", 1, number)));
        let velero = if velero { "velero: ()," } else { "" };
        let text =
            format!("(format: 1, name: \"test\", version: \"v1.33.4+rke2r1\", {velero} hosts: [{}])", hosts.join(", "));
        cluster::parse(SourceText::new("cluster.ron", text), Path::new("/")).unwrap().cluster
    }

    /// What has to be said of a runbook.
    fn asked(embedded: &Embedded, host: &str) -> Request {
        let set = if embedded.text.contains("Required(Hosts)") { vec![format!("host={host}")] } else { Vec::new() };
        Request { set, ..Request::default() }
    }

    fn planned(embedded: &Embedded, cluster: &Cluster, request: &Request) -> Plan {
        let catalogue = StepsCatalogue::offline();
        let source = SourceText::new(embedded.name, embedded.text.to_owned());
        let runbook = runbook::parse::<AnyAction>(source, &catalogue).unwrap_or_else(|found| panic!("{found}"));
        plan::build(&runbook, cluster, request, &catalogue).unwrap_or_else(|found| panic!("{found}")).plan
    }

    fn order(plan: &Plan) -> BTreeMap<String, usize> {
        plan.graph()
            .unwrap()
            .order()
            .iter()
            .enumerate()
            .map(|(at, step)| (plan.steps[*step].id.to_string(), at))
            .collect()
    }

    #[test]
    fn every_runbook_is_planned_for_one_and_for_several_servers() {
        for embedded in RUNBOOKS {
            for (servers, agents, velero) in [(3, 3, true), (1, 2, true), (3, 0, false), (1, 0, false)] {
                let plan = planned(embedded, &cluster(servers, agents, velero), &asked(embedded, "server-0"));
                assert_eq!(plan.runbook, embedded.name);
                assert!(!plan.instances().is_empty(), "{} does nothing", embedded.name);
            }
        }
    }

    #[test]
    fn every_runbook_is_planned_without_a_lost_host() {
        for embedded in RUNBOOKS {
            let request = Request { lost: vec!["server-0".to_owned()], ..asked(embedded, "server-1") };
            let plan = planned(embedded, &cluster(3, 3, true), &request);
            let text = serde_json::to_string(&plan.steps.iter().map(|step| &step.targets).collect::<Vec<_>>()).unwrap();
            assert!(!text.contains("server-0"), "{} touches a lost host", embedded.name);
        }
    }

    #[test]
    fn a_rollback_kills_every_server_before_the_reset_and_fences_before_agents_start() {
        let plan = planned(find("rollback.ron").unwrap(), &cluster(3, 3, true), &Request::default());
        let at = order(&plan);
        for (before, after) in [
            ("consent", "stop-servers"),
            ("stop-servers", "reset"),
            ("clean", "reset"),
            ("stage", "reset"),
            ("reset", "start-0"),
            ("before", "stop-servers"),
            ("stop-servers", "clean"),
            ("start-0", "verify-0"),
            ("verify-0", "fence"),
            ("fence", "agents"),
            ("verify-0", "join"),
            ("nodes", "health"),
            ("agents", "health"),
        ] {
            assert!(at[before] < at[after], "{after} comes before {before}");
        }
        assert!(plan.supersedes);
    }

    #[test]
    fn an_upgrade_has_its_recovery_point_before_the_first_server_and_leaves_agents_to_the_end() {
        for name in ["upgrade", "upgrade-suc"] {
            let plan = planned(find(name).unwrap(), &cluster(3, 3, true), &Request::default());
            comes_in_order(&order(&plan));
        }
        let plan = planned(find("upgrade-suc").unwrap(), &cluster(3, 3, true), &Request::default());
        let at = order(&plan);
        for (before, after) in [
            ("controller", "fence"),
            ("record", "plan-servers"),
            ("plan-servers", "servers"),
            ("servers", "plan-agents"),
            ("plans", "uncordon"),
            ("plans", "unfence"),
        ] {
            assert!(at[before] < at[after], "{after} comes before {before}");
        }
    }

    fn comes_in_order(at: &BTreeMap<String, usize>) {
        for (before, after) in [
            ("fence", "sentinel-before"),
            ("volumes", "snapshot"),
            ("sentinel-before", "snapshot"),
            ("snapshot", "sentinel-after"),
            ("record", "servers"),
            ("prefetch-old", "servers"),
            ("prefetch-new", "servers"),
            ("servers", "agents"),
        ] {
            assert!(at[before] < at[after], "{after} comes before {before}");
        }
    }

    #[test]
    fn a_recovery_point_is_volumes_then_etcd_between_two_sentinels() {
        for name in ["upgrade", "upgrade-suc", "backup"] {
            let order = order(&planned(find(name).unwrap(), &cluster(3, 1, true), &Request::default()));
            let steps = ["fence", "volumes", "snapshot", "copy", "sentinel-after", "record"];
            for pair in steps.windows(2) {
                assert!(order[pair[0]] < order[pair[1]], "{name}: {} comes after {}", pair[0], pair[1]);
            }
            assert!(
                order["fence"] < order["sentinel-before"] && order["sentinel-before"] < order["snapshot"],
                "{name}"
            );
        }
    }

    #[test]
    fn the_example_of_a_cluster_file_is_right() {
        let source = SourceText::new("cluster.example.ron", CLUSTER_EXAMPLE.to_owned());
        let read = cluster::parse(source, Path::new("/")).unwrap_or_else(|found| panic!("{found}"));
        assert_eq!(read.cluster.hosts.len(), 6);
    }
}
