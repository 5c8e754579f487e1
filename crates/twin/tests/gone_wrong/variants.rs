//! Other clusters than the healthy one of three: a single server, another init server, hosts that are gone, and their
//! way back.

use std::time::Duration;

use rke2flow_engine::action::FailureClass;
use rke2flow_engine::id::HostName;
use rke2flow_steps::command::NodePart;
use rke2flow_twin::{Tamper, TwinSpec, ViolationKind};
use serde_json::Value;

use crate::rig::{Ended, NEW, OLD, Rig, paused};

fn host(name: &str) -> HostName {
    HostName::new(name).expect("a host name")
}

fn hosts(names: &[&str]) -> Vec<HostName> {
    names.iter().map(|name| host(name)).collect()
}

/// A cluster of `servers` and `agents` that was upgraded, and these hosts lose their power for good.
async fn without(servers: usize, agents: usize, lost: &[&str]) -> Rig {
    let mut rig = Rig::upgraded(TwinSpec { servers, agents, ..TwinSpec::default() }).await;
    for name in lost {
        rig.twin.power_off(&host(name));
    }
    rig.sleep(60).await;
    rig.lost = hosts(lost);
    rig
}

#[track_caller]
fn went_well(rig: &Rig, ended: &Ended) {
    assert!(ended.well(), "{ended:#?}\n{:#?}", rig.failed_attempts());
    assert_eq!(rig.kinds(), [], "{:#?}", rig.twin.judge());
}

/// The hosts that the servers remember as lost, each once.
fn marked(rig: &Rig) -> Vec<String> {
    let servers = ["server-0", "server-1", "server-2"].map(host);
    let mut marks: Vec<String> =
        servers.iter().filter(|name| rig.twin.reachable(name)).flat_map(|name| rig.twin.lost_marks(name)).collect();
    marks.sort();
    marks.dedup();
    marks
}

/// The versions of the nodes that have a Node object, as the twin tells.
fn node_version(rig: &Rig, name: &str) -> String {
    let fingerprint: Value = rig.twin.fingerprint();
    fingerprint["hosts"][name]["installed"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_single_server_goes_back_with_and_without_agents() {
    for agents in [0, 2] {
        paused(async {
            let mut rig = Rig::upgraded(TwinSpec { servers: 1, agents, ..TwinSpec::default() }).await;
            let ended = rig.run("rollback", &[]).await;
            went_well(&rig, &ended);
            let plan =
                rig.plan("rollback", rke2flow_steps::runbooks::find("rollback").expect("it is embedded").text, &[]);
            let plan = plan.expect("it has run");
            let budget = |phase: &str| {
                let phase = plan.phases.iter().find(|planned| planned.id.as_str() == phase).expect("a phase");
                phase.budget.expect("a budget").get().as_secs()
            };
            let card = [
                "stop-workers",
                "stop-masters",
                "cluster-reset",
                "start-master-0",
                "rejoin",
                "velero-restore",
                "health",
            ];
            assert_eq!(card.map(budget), [60, 60, 60, 150, 90, 180, 60]);
            assert_eq!(plan.budget.map(|budget| budget.get().as_secs()), Some(600));
        });
    }
}

#[test]
fn a_lost_joiner_or_agent_is_neither_touched_nor_waited_for() {
    for lost in [["server-1"], ["agent-2"]] {
        paused(async {
            let mut rig = without(3, 3, &lost).await;
            let ended = rig.run("rollback", &[]).await;
            went_well(&rig, &ended);
            assert_eq!(marked(&rig), lost);
        });
    }
}

#[test]
fn a_lost_host_that_answers_is_refused_before_the_outage() {
    paused(async {
        let mut rig = Rig::upgraded(TwinSpec::default()).await;
        rig.lost = hosts(&["server-2"]);
        let ended = rig.run("rollback", &[]).await;
        let failed = ended.failures();
        assert!(failed[0].0 == "lost/StillLost@operator", "{ended:#?}");
        assert_eq!(failed[0].1.class, FailureClass::Refused);
        assert!(!rig.twin.log().iter().any(|entry| entry.what.contains("KillNode")));
        assert!(rig.kinds().iter().all(|kind| *kind == ViolationKind::FenceLeftUp), "{:#?}", rig.twin.judge());
    });
}

/// A person powers the lost server on so many seconds after the rollback has begun; where the run stops.
async fn powered_on_after(seconds: u64) -> (Rig, Ended) {
    let mut rig = without(3, 1, &["server-2"]).await;
    let twin = rig.twin.clone();
    let person = async {
        twin.clock().sleep(Duration::from_secs(seconds)).await;
        twin.tamper(Tamper::PowerOn(host("server-2"))).expect("a host");
    };
    let (ended, ()) = tokio::join!(rig.run("rollback", &[]), person);
    assert!(!ended.well(), "{ended:#?}");
    (rig, ended)
}

/// Powered off again, the same run goes on and ends well.
async fn goes_on_without(rig: Rig) {
    rig.twin.power_off(&host("server-2"));
    let ended = rig.resume().await;
    went_well(&rig, &ended);
}

#[test]
fn a_lost_server_that_is_powered_on_in_the_middle_stops_the_run_before_the_reset() {
    paused(async {
        let (rig, ended) = powered_on_after(8).await;
        let failed = ended.failures();
        assert_eq!(failed[0].0, "still-lost/StillLost@operator", "{failed:#?}");
        assert!(failed[0].1.next.contains("power server-2 off"), "{failed:#?}");
        assert!(!rig.twin.log().iter().any(|entry| entry.what.contains("start ClusterReset")));
        goes_on_without(rig).await;
    });
}

#[test]
fn a_lost_server_that_is_powered_on_after_the_reset_fails_the_run_before_it_is_called_healthy() {
    paused(async {
        let (rig, ended) = powered_on_after(45).await;
        let failed = ended.failures();
        assert!(failed.iter().any(|(step, _)| step == "stay-lost/StillLost@operator"), "{failed:#?}");
        assert!(!rig.records().iter().any(|record| format!("{:?}", record.event).contains("health/Health")));
        goes_on_without(rig).await;
    });
}

#[test]
fn a_lost_server_comes_back_by_rejoin_and_is_a_voter_of_the_restored_cluster() {
    paused(async {
        let mut rig = without(3, 2, &["server-1"]).await;
        let ended = rig.run("rollback", &[]).await;
        went_well(&rig, &ended);
        // It was powered off with the newer version, as a member of a control plane that is no more.
        rig.twin.tamper(Tamper::PowerOn(host("server-1"))).expect("a host");
        rig.lost.clear();
        rig.sleep(30).await;
        let ended = rig.run("rejoin", &["host=server-1"]).await;
        went_well(&rig, &ended);
        assert_eq!((marked(&rig), node_version(&rig, "server-1")), (Vec::<String>::new(), OLD.to_owned()));
        // Now it is healthy, and there is nothing to rejoin.
        let ended = rig.run("rejoin", &["host=server-1"]).await;
        let failed = ended.failures();
        assert!(failed[0].1.what.contains("server-1 is a healthy member"), "{ended:#?}");
    });
}

#[test]
fn a_server_whose_etcd_died_leaves_the_living_cluster_and_joins_it_anew() {
    paused(async {
        let mut rig = Rig::upgraded(TwinSpec::default()).await;
        rig.twin.power_off(&host("server-2"));
        rig.sleep(60).await;
        let path = rig.twin.spec().paths().part(NodePart::Etcd);
        rig.twin.tamper(Tamper::Remove { host: host("server-2"), path }).expect("a directory");
        rig.twin.tamper(Tamper::PowerOn(host("server-2"))).expect("a host");
        rig.sleep(60).await;
        let ended = rig.run("rejoin", &["host=server-2"]).await;
        went_well(&rig, &ended);
        assert_eq!(node_version(&rig, "server-2"), NEW);
    });
}

#[test]
fn a_lost_agent_comes_back_by_rejoin() {
    paused(async {
        let mut rig = without(1, 2, &["agent-1"]).await;
        let ended = rig.run("rollback", &[]).await;
        went_well(&rig, &ended);
        rig.twin.tamper(Tamper::PowerOn(host("agent-1"))).expect("a host");
        rig.sleep(60).await;
        rig.lost.clear();
        let ended = rig.run("rejoin", &["host=agent-1"]).await;
        went_well(&rig, &ended);
        assert_eq!(node_version(&rig, "agent-1"), OLD);
    });
}
