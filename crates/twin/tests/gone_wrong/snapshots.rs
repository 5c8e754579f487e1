//! Which snapshot a rollback takes, and from where.

use rke2flow_engine::id::HostName;
use rke2flow_twin::{Tamper, TwinSpec};

use crate::rig::{Ended, NEW, OLD, Rig, paused};

fn host(name: &str) -> HostName {
    HostName::new(name).expect("a host name")
}

/// Removes every etcd snapshot from the hosts' own disks.
fn without_local_snapshots(rig: &Rig) {
    for (name, _) in rig.twin.spec().hosts() {
        for path in rig.twin.files(&name).into_iter().filter(|path| path.contains("/snapshots/")) {
            rig.twin.tamper(Tamper::Remove { host: name.clone(), path }).expect("the file is there");
        }
    }
}

fn ran_back(rig: &Rig, ended: &Ended) {
    assert!(ended.well(), "{ended:#?}");
    assert_eq!(rig.kinds(), [], "{:#?}", rig.twin.judge());
    assert_eq!(rig.twin.fingerprint()["hosts"]["server-2"]["installed"], OLD);
}

fn fetched(rig: &Rig) -> usize {
    rig.twin.log().iter().filter(|entry| entry.what == "change FetchSnapshot").count()
}

#[test]
fn a_snapshot_that_only_the_bucket_has_is_staged_from_there() {
    paused(async {
        let mut rig = Rig::upgraded(TwinSpec::default()).await;
        without_local_snapshots(&rig);
        let before = fetched(&rig);
        let ended = rig.run("rollback", &["from=s3"]).await;
        ran_back(&rig, &ended);
        assert_eq!(fetched(&rig), before + 1);
    });
}

#[test]
fn a_compressed_snapshot_that_only_the_bucket_has_is_unpacked() {
    paused(async {
        let mut rig = Rig::upgraded(TwinSpec { compress: true, ..TwinSpec::default() }).await;
        without_local_snapshots(&rig);
        let ended = rig.run("rollback", &["from=s3"]).await;
        ran_back(&rig, &ended);
    });
}

#[test]
fn another_server_is_restored_from_its_own_copy_when_the_first_is_lost() {
    paused(async {
        let mut rig = Rig::upgraded(TwinSpec::default()).await;
        let files = rig.twin.files(&host("server-1"));
        assert!(files.iter().any(|path| path.starts_with("/var/lib/rke2flow/snapshots/rke2flow-")), "{files:?}");
        let ended = rig.run("rollback", &["from=local"]).await;
        ran_back(&rig, &ended);
    });
}

#[test]
fn a_scheduled_snapshot_is_restored_when_its_version_is_told() {
    paused(async {
        let mut rig = Rig::new(TwinSpec::default());
        rig.sleep(60).await;
        rig.twin.tamper(Tamper::ScheduledSnapshot(host("server-0"))).unwrap();
        let files = rig.twin.files(&host("server-0"));
        let path = files.iter().find(|path| path.contains("/etcd-snapshot-server-0-")).unwrap();
        let file = path.rsplit('/').next().unwrap().to_owned();
        rig.sleep(60).await;
        assert!(rig.run("upgrade", &[]).await.well());
        let (to, version) = (format!("to={file}"), format!("version={OLD}"));
        let ended = rig.run("rollback", &[&to]).await;
        let told = ended.failures();
        assert!(told.len() == 1 && format!("{told:?}").contains("--set version="), "{ended:#?}");
        let ended = rig.run("rollback", &[&to, &version]).await;
        assert!(ended.well(), "{ended:#?}");
        assert_eq!(rig.twin.fingerprint()["hosts"]["server-2"]["installed"], OLD);
    });
}

#[test]
fn latest_passes_over_a_point_that_was_taken_in_the_middle_of_an_upgrade() {
    paused(async {
        let mut rig = Rig::upgraded(TwinSpec::default()).await;
        // A second point, with one node behind.
        let patch = serde_json::json!({ "status": { "nodeInfo": { "kubeletVersion": OLD } } });
        let key = rke2flow_twin::kube::store::Key::new("", "nodes", "", "agent-2");
        rig.twin.tamper(Tamper::StopUnit(host("agent-2"))).unwrap();
        rig.twin.tamper(Tamper::MergeObject { key, patch }).unwrap();
        let backup = rig.run("backup", &[]).await;
        assert!(backup.well(), "{backup:#?}");
        rig.twin.tamper(Tamper::StartUnit(host("agent-2"))).unwrap();
        rig.sleep(120).await;
        let ended = rig.run("rollback", &[]).await;
        ran_back(&rig, &ended);
        assert_ne!(OLD, NEW);
    });
}
