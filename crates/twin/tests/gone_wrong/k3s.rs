//! K3s gone wrong where it goes wrong in another way: the control plane dies with its unit, containers do not.

use rke2flow_engine::cluster::Distribution;
use rke2flow_engine::id::HostName;
use rke2flow_twin::{Fault, Tamper, TwinSpec};

use crate::rig::{Ended, Rig, paused};

const OLD: &str = "v1.33.4+k3s1";

fn spec(servers: usize, agents: usize) -> TwinSpec {
    TwinSpec { servers, agents, ..TwinSpec::of(Distribution::K3s) }
}

fn host(name: &str) -> HostName {
    HostName::new(name).expect("a host name")
}

#[track_caller]
fn went_well(rig: &Rig, ended: &Ended) {
    assert!(ended.well(), "{ended:#?}\n{:#?}", rig.failed_attempts());
    assert_eq!(rig.kinds(), [], "{:#?}", rig.twin.judge());
}

#[track_caller]
fn every_node_runs(rig: &Rig, version: &str) {
    for (name, _) in rig.twin.spec().hosts() {
        assert_eq!(rig.twin.survey(&name).installed, version, "{name}");
    }
}

#[test]
fn one_server_and_three_are_upgraded_and_go_back() {
    for (servers, agents) in [(1, 0), (3, 2)] {
        paused(async {
            let mut rig = Rig::upgraded(spec(servers, agents)).await;
            every_node_runs(&rig, "v1.34.1+k3s1");
            let ended = rig.run("rollback", &[]).await;
            went_well(&rig, &ended);
            every_node_runs(&rig, OLD);
        });
    }
}

#[test]
fn containers_that_are_left_below_a_stopped_unit_do_not_outlive_the_reset() {
    paused(async {
        let mut rig = Rig::upgraded(spec(3, 1)).await;
        // The order ends between the stop of the unit, which takes etcd and the API along, and the killall.
        let cut = Fault::UnitCut { host: None, change: "KillNode".to_owned(), stage: 1, times: 3 };
        rig.twin.inject(cut);
        let mut ended = rig.run("rollback", &[]).await;
        if !ended.well() {
            ended = rig.resume().await;
        }
        went_well(&rig, &ended);
        every_node_runs(&rig, OLD);
    });
}

#[test]
fn a_server_whose_unit_hangs_in_the_upgrade_is_a_member_less_and_nobody_else_is_touched() {
    paused(async {
        let hangs = Fault::RestartHangs { host: host("server-1"), times: 100 };
        let mut rig = Rig::new(TwinSpec { faults: vec![hangs], ..spec(3, 1) });
        let ended = rig.run("upgrade", &[]).await;
        assert!(!ended.well(), "{ended:#?}");
        // Unlike RKE2's, its etcd is down as well: the next server must not be stopped.
        assert_eq!(rig.twin.survey(&host("server-1")).etcd_health, "");
        assert_eq!(rig.twin.survey(&host("server-2")).installed, OLD);
        assert_eq!(rig.twin.survey(&host("server-2")).etcd_health, "true");
        rig.twin.mend();
        let ended = rig.run("rollback", &[]).await;
        went_well(&rig, &ended);
        every_node_runs(&rig, OLD);
    });
}

#[test]
fn a_lost_server_stays_away_and_rejoins() {
    paused(async {
        let mut rig = Rig::upgraded(spec(3, 1)).await;
        rig.twin.power_off(&host("server-1"));
        rig.sleep(60).await;
        rig.lost = vec![host("server-1")];
        let ended = rig.run("rollback", &[]).await;
        went_well(&rig, &ended);
        rig.twin.tamper(Tamper::PowerOn(host("server-1"))).expect("a host");
        rig.lost.clear();
        rig.sleep(30).await;
        let ended = rig.run("rejoin", &["host=server-1"]).await;
        went_well(&rig, &ended);
        every_node_runs(&rig, OLD);
    });
}
