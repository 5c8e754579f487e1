//! Other clusters than the healthy one of three: a single server, another init server, hosts that are gone, and their
//! way back; new machines.

use std::sync::Arc;
use std::time::Duration;

use rke2flow_engine::action::{Failure, FailureClass};
use rke2flow_engine::cluster::Cluster;
use rke2flow_engine::id::HostName;
use rke2flow_engine::report::Report;
use rke2flow_steps::command::NodePart;
use rke2flow_twin::kube::store::Key;
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

#[test]
fn another_server_is_restored_when_the_cluster_file_or_the_command_names_it() {
    paused(async {
        let mut rig = Rig::upgraded(TwinSpec::default()).await;
        let init = Some(host("server-1"));
        rig.cluster = Arc::new(Cluster { init, ..(*rig.cluster).clone() });
        let ended = rig.run("rollback", &[]).await;
        went_well(&rig, &ended);
        assert_eq!(reset_on(&rig), ["server-1"]);
    });
}

#[test]
fn without_the_first_server_the_next_one_is_restored() {
    paused(async {
        let mut rig = without(3, 2, &["server-0"]).await;
        let ended = rig.run("rollback", &[]).await;
        went_well(&rig, &ended);
        assert_eq!((reset_on(&rig), marked(&rig)), (vec!["server-1".to_owned()], vec!["server-0".to_owned()]));
    });
}

#[test]
fn one_server_that_is_left_of_three_is_restored_and_both_others_rejoin() {
    paused(async {
        let mut rig = without(3, 1, &["server-0", "server-2"]).await;
        let ended = rig.run("rollback", &[]).await;
        went_well(&rig, &ended);
        assert_eq!(reset_on(&rig), ["server-1"]);
        // One after the other: both at once would be the majority of the control plane that is no more.
        for (name, still_lost) in [("server-0", vec!["server-2"]), ("server-2", vec![])] {
            rig.twin.tamper(Tamper::PowerOn(host(name))).expect("a host");
            rig.lost = hosts(&still_lost);
            rig.sleep(30).await;
            let ended = rig.run("rejoin", &[&format!("host={name}")]).await;
            went_well(&rig, &ended);
            assert_eq!(marked(&rig), still_lost);
        }
    });
}

/// The servers on which a cluster-reset was begun.
fn reset_on(rig: &Rig) -> Vec<String> {
    let begun = rig.twin.log().into_iter().filter(|entry| entry.what == "change ClusterReset");
    begun.filter_map(|entry| entry.host.map(|host| host.to_string())).collect()
}

/// An upgraded cluster whose servers, and these agents, are new machines now.
async fn made_anew(spec: TwinSpec, agents: &[&str]) -> Rig {
    let mut rig = Rig::upgraded(spec).await;
    rig.token = Some(rig.twin.spec().token.clone());
    let servers = rig.cluster.servers().map(|server| server.name.clone());
    for name in servers.chain(hosts(agents)).collect::<Vec<_>>() {
        rig.twin.tamper(Tamper::Replace(name)).expect("a host");
    }
    rig.sleep(60).await;
    rig
}

/// What a refused rebuild says; nothing may have been ordered.
async fn refusal(rig: &mut Rig, set: &[&str]) -> Failure {
    let ordered = |rig: &Rig| rig.twin.log().iter().filter(|entry| entry.what.starts_with("change ")).count();
    let before = ordered(rig);
    let ended = rig.run("rebuild", set).await;
    let failed = ended.failures();
    assert_eq!(failed.len(), 1, "{ended:#?}");
    assert_ne!(failed[0].1.class, FailureClass::Transient, "{ended:#?}");
    assert_eq!(ordered(rig), before, "something was changed");
    failed[0].1.clone()
}

#[test]
fn new_machines_become_the_cluster_of_the_recovery_point() {
    for (servers, agents) in [(3, 2), (1, 0)] {
        paused(async {
            let spec = TwinSpec { servers, agents, ..TwinSpec::default() };
            let new: &[&str] = if agents > 0 { &["agent-1"] } else { &[] };
            let mut rig = made_anew(spec, new).await;
            assert!(rig.twin.object(&marker()).is_none(), "nobody serves");
            let ended = rig.run("rebuild", &[]).await;
            went_well(&rig, &ended);
            assert!(rig.twin.object(&marker()).is_some(), "the data is back");
            for (name, _) in rig.twin.spec().hosts() {
                assert_eq!(node_version(&rig, name.as_str()), OLD);
                assert!(rig.twin.survey(&name).unit_enabled, "{name} would not come back from a reboot");
                let ours = rig.twin.files(&name).into_iter().filter(|path| path.contains("rke2flow_token"));
                assert_eq!(ours.collect::<Vec<_>>(), Vec::<String>::new(), "on {name}");
            }
        });
    }
}

/// What the applications wrote before anything happened.
fn marker() -> Key {
    Key::new("", "configmaps", "shop", "marker-1")
}

#[test]
fn a_rebuild_without_token_or_points_or_bucket_is_refused_and_told_everything_that_is_missing() {
    paused(async {
        let mut rig = made_anew(TwinSpec::default(), &[]).await;
        rig.token = None;
        for key in rig.twin.bucket().keys("twin-backups", "twin-etcd/.metadata/rke2flow-") {
            rig.twin.tamper(Tamper::RemoveFromBucket(key)).expect("an object");
        }
        let told = refusal(&mut rig, &[]).await.observed;
        assert!(told.contains("FAIL server token: the cluster file has no `token`"), "{told}");
        assert!(told.contains("FAIL recovery points in the bucket: there is nothing below"), "{told}");
        rig.cluster = Arc::new(Cluster { s3: None, ..(*rig.cluster).clone() });
        let told = refusal(&mut rig, &[]).await.observed;
        assert!(told.contains("FAIL recovery points in the bucket: the cluster file has no `s3`"), "{told}");
    });
}

#[test]
fn a_rebuild_with_another_token_is_refused_before_anything_is_touched() {
    paused(async {
        let mut rig = made_anew(TwinSpec::default(), &[]).await;
        rig.token = Some("K10twin::server:another".to_owned());
        let refused = refusal(&mut rig, &[]).await;
        let told = format!("{refused:?}");
        assert!(told.contains("the cluster file's `token` is another one"), "{told}");
        // With the right one the same cluster comes back.
        rig.token = Some(rig.twin.spec().token.clone());
        let ended = rig.run("rebuild", &[]).await;
        went_well(&rig, &ended);
    });
}

#[test]
fn a_rebuild_refuses_servers_that_have_data_or_run_until_they_are_named() {
    paused(async {
        let mut rig = made_anew(TwinSpec::default(), &[]).await;
        let mut living = Rig::upgraded(TwinSpec::default()).await;
        living.token = Some(living.twin.spec().token.clone());
        let told = refusal(&mut living, &[]).await.observed;
        assert!(told.contains("host server-1: no new machine") && told.contains("the unit is active"), "{told}");
        // One that is not new, and is given up by name.
        rig.twin.tamper(Tamper::PowerOff(host("server-2"))).expect("a host");
        let told = refusal(&mut rig, &[]).await.observed;
        assert!(told.contains("FAIL host server-2"), "{told}");
    });
}

#[test]
fn volumes_that_cannot_be_restored_keep_no_server_down() {
    paused(async {
        let mut rig = Rig::upgraded(TwinSpec::default()).await;
        let ended = rig.run("rollback", &["data=shop"]).await;
        let failed: Vec<String> = ended.failures().into_iter().map(|(instance, _)| instance).collect();
        assert_eq!(failed, ["data/RestoreVolumes@operator"], "{ended:#?}");
        let members = &rig.twin.fingerprint()["members"];
        assert_eq!(*members, serde_json::json!([["server-0", false], ["server-1", false], ["server-2", false]]));
        // The run is open: what it holds on hosts is taken down when it is closed.
        assert!(rig.kinds().iter().all(|kind| *kind == ViolationKind::FenceLeftUp), "{:#?}", rig.twin.judge());
    });
}

#[test]
fn three_servers_are_back_well_within_the_budget() {
    paused(async {
        let mut rig = Rig::upgraded(TwinSpec::default()).await;
        let ended = rig.run("rollback", &[]).await;
        went_well(&rig, &ended);
        let recovery = Report::of(&rig.records()).expect("whole records").recovery.expect("an outage");
        // Of 900 s. The clock is the twin's own, which jumps: this does not depend on the machine.
        assert!(recovery.seconds < 240.0, "{} s", recovery.seconds);
    });
}
