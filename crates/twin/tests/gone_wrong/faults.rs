//! What the user gets when something goes wrong: one test per kind of fault.

use std::time::Duration;

use rke2flow_engine::action::FailureClass;
use rke2flow_engine::id::HostName;
use rke2flow_twin::{Fault, TwinSpec, ViolationKind};

use crate::rig::{Ended, Rig, paused};

fn host(name: &str) -> HostName {
    HostName::new(name).expect("a host name")
}

/// An upgrade of a twin with these faults.
async fn upgrade(faults: Vec<Fault>) -> (Rig, Ended) {
    let mut rig = Rig::new(TwinSpec { faults, ..TwinSpec::default() });
    let ended = rig.run("upgrade", &[]).await;
    (rig, ended)
}

/// It went wrong once, was tried again, and nothing of it is left.
fn assert_retried(rig: &Rig, ended: &Ended, instance: &str, what: &str) {
    assert!(ended.well(), "{ended:#?}");
    let failed = rig.failed_attempts();
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert!(failed[0].0 == instance && failed[0].1.to_string().contains(what), "{failed:#?}");
    assert_eq!(rig.kinds(), [], "{:#?}", rig.twin.judge());
}

#[test]
fn an_upload_that_rke2_lost_is_made_up_for_without_another_snapshot() {
    for fault in [Fault::UploadFails(100), Fault::UploadTruncated(100)] {
        paused(async {
            let (rig, ended) = upgrade(vec![fault]).await;
            assert!(ended.well() && rig.failed_attempts().is_empty(), "{ended:#?}");
            assert_eq!(rig.kinds(), [], "{:#?}", rig.twin.judge());
            let ordered = |what: &str| rig.twin.log().iter().filter(|entry| entry.what == what).count();
            assert_eq!((ordered("change SaveSnapshot"), ordered("change UploadSnapshot")), (1, 1));
            // What the bucket has is what the server has.
            let snapshot = rig.twin.bucket().keys("twin-backups", "twin-etcd/rke2flow-").remove(0);
            let object = rig.twin.bucket().look("twin-backups", &snapshot).unwrap().unwrap();
            assert_eq!(object.bytes.len() % 512, 32);
            assert_eq!(object.metadata["rke2-token-hash"].len(), 12);
        });
    }
}

#[test]
fn every_server_keeps_the_snapshot_and_the_point() {
    paused(async {
        let (rig, ended) = upgrade(Vec::new()).await;
        assert!(ended.well(), "{ended:#?}");
        for server in ["server-0", "server-1", "server-2"] {
            let files = rig.twin.files(&host(server));
            let has = |part: &str| files.iter().any(|path| path.contains(part));
            assert!(has("/snapshots/rke2flow-") && has("/points/"), "{server}: {files:?}");
        }
    });
}

#[test]
fn without_a_bucket_each_server_saves_a_snapshot_of_its_own() {
    paused(async {
        let mut rig = Rig::new(TwinSpec { etcd_s3: false, velero: false, ..TwinSpec::default() });
        let ended = rig.run("upgrade", &[]).await;
        assert!(ended.well() && rig.kinds().is_empty(), "{ended:#?}");
        let saves = rig.twin.log().iter().filter(|entry| entry.what == "change SaveSnapshot").count();
        assert_eq!(saves, 3);
    });
}

#[test]
fn a_snapshot_that_was_not_made_is_found_out_and_made() {
    paused(async {
        let (rig, ended) = upgrade(vec![Fault::SnapshotFails(1)]).await;
        assert_retried(&rig, &ended, "snapshot/SaveSnapshot@server-0", "there is no snapshot of this run");
    });
}

#[test]
fn an_upload_that_fails_every_time_stops_the_upgrade_before_any_node_is_touched() {
    paused(async {
        let (rig, ended) = upgrade(vec![Fault::UploadFails(100), Fault::BucketRefusesHosts(100)]).await;
        let failed = ended.failures();
        assert!(failed.len() == 1 && failed[0].0 == "snapshot/UploadSnapshot@server-0", "{ended:#?}");
        assert!(failed[0].1.observed.contains("HTTP status 503"), "{failed:#?}");
        let touched = |what: &str| rig.twin.log().iter().any(|entry| entry.what == what);
        assert!(!touched("change InstallVersion") && !touched("change RestartUnit"));
        // A person repairs the bucket: the same run goes on, and ends well.
        rig.twin.mend();
        let ended = rig.resume().await;
        assert!(ended.well() && rig.kinds().is_empty(), "{ended:#?}");
    });
}

#[test]
fn a_restart_that_hangs_is_given_up_and_ordered_again() {
    paused(async {
        let hangs = Fault::RestartHangs { host: host("server-1"), times: 1 };
        let (rig, ended) = upgrade(vec![hangs]).await;
        assert_retried(&rig, &ended, "servers/RestartUnit@server-1", "the unit is activating");
    });
}

#[test]
fn a_restart_that_hangs_every_time_stops_the_upgrade_with_the_quorum_kept_and_the_host_named() {
    paused(async {
        let hangs = Fault::RestartHangs { host: host("server-1"), times: 100 };
        let (rig, ended) = upgrade(vec![hangs]).await;
        let failed = ended.failures();
        assert!(failed.len() == 1 && failed[0].0 == "servers/RestartUnit@server-1", "{ended:#?}");
        assert!(failed[0].1.observed.contains("the unit is activating"), "{failed:#?}");
        assert!(!rig.kinds().contains(&ViolationKind::QuorumLost));
        rig.twin.mend();
        let ended = rig.resume().await;
        assert!(ended.well() && rig.kinds().is_empty(), "{ended:#?} {:#?}", rig.twin.judge());
    });
}

/// When the first server of an undisturbed upgrade is restarted, in cluster seconds.
async fn first_restart() -> u64 {
    let (rig, ended) = upgrade(Vec::new()).await;
    assert!(ended.well(), "{ended:?}");
    let log = rig.twin.log();
    let restart = log.iter().find(|entry| entry.what == "change RestartUnit").expect("servers are restarted");
    restart.at.as_secs()
}

#[test]
fn a_server_that_loses_its_power_stops_the_upgrade_with_the_quorum_kept_and_the_host_named() {
    let restart = paused(first_restart());
    for lost in ["server-1", "server-2"] {
        for at_seconds in [restart - 2, restart + 120] {
            paused(async {
                let down = Fault::HostDown { host: host(lost), at_seconds, back_after_seconds: None };
                let (rig, ended) = upgrade(vec![down]).await;
                let failed = ended.failures();
                let told = failed.iter().any(|(_, failure)| failure.to_string().contains(lost));
                assert!(told, "{lost} at {at_seconds}: {ended:#?}");
                let kinds = rig.kinds();
                assert!(!kinds.contains(&ViolationKind::QuorumLost), "{lost} at {at_seconds}: {:#?}", rig.twin.judge());
                assert!(!kinds.contains(&ViolationKind::AcknowledgedWriteLost), "{lost} at {at_seconds}: {kinds:?}");
            });
        }
    }
}

#[test]
fn an_upgrade_that_a_power_cut_stopped_goes_on_when_the_host_is_back() {
    let restart = paused(first_restart());
    paused(async {
        let back_after_seconds = Some(4 * 3600);
        let down = Fault::HostDown { host: host("server-1"), at_seconds: restart - 2, back_after_seconds };
        let (rig, ended) = upgrade(vec![down]).await;
        assert!(!ended.failures().is_empty(), "the run did not notice: {ended:#?}");
        rig.sleep(5 * 3600).await;
        let ended = rig.resume().await;
        assert!(ended.well() && rig.kinds().is_empty(), "{ended:#?} {:#?}", rig.twin.judge());
    });
}

#[test]
fn a_backup_that_lacks_something_is_never_done_and_never_tried_again_by_itself() {
    paused(async {
        let (rig, ended) = upgrade(vec![Fault::VeleroPartiallyFails(1)]).await;
        let failed = ended.failures();
        assert_eq!((failed.len(), rig.failed_attempts().len()), (1, 1), "{ended:#?}");
        let (instance, failure) = &failed[0];
        assert_eq!((instance.as_str(), failure.class), ("volumes/VeleroBackup@operator", FailureClass::Permanent));
        assert!(
            failure.observed.contains("PartiallyFailed") && failure.next.contains("rke2flow retry"),
            "{failure:#?}"
        );
        let ended = rig.resume().await;
        assert!(ended.well() && rig.kinds().is_empty(), "{ended:#?}");
    });
}

#[test]
fn a_script_that_fails_once_is_run_again_under_a_new_name() {
    paused(async {
        let fails = Fault::UnitFails { host: None, change: "InstallVersion".to_owned(), stage: 2, times: 1 };
        let (rig, ended) = upgrade(vec![fails]).await;
        assert_retried(&rig, &ended, "servers/InstallVersion@server-1", "ended with exit 1");
    });
}

#[test]
fn a_script_whose_unit_disappears_is_looked_at_and_run_again() {
    paused(async {
        let cut = Fault::UnitCut { host: None, change: "InstallVersion".to_owned(), stage: 1, times: 1 };
        let (rig, ended) = upgrade(vec![cut]).await;
        assert_retried(&rig, &ended, "servers/InstallVersion@server-1", "was interrupted");
    });
}

#[test]
fn a_slow_api_makes_an_upgrade_slower_and_nothing_else() {
    paused(async {
        let (rig, ended) = upgrade(vec![Fault::ApiSlow(2_000)]).await;
        let slow = rig.twin.clock().elapsed();
        assert!(ended.well() && rig.kinds().is_empty(), "{ended:#?}");
        assert_eq!(rig.failed_attempts(), []);
        assert!(slow > Duration::from_secs(60), "{slow:?}");
    });
}
