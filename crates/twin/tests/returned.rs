//! What comes back with a snapshot, and who comes back to it: the rollback's own runbook on worlds that are not tidy.

#![allow(clippy::unwrap_used)] // what tests are made of is test code as well

mod rehearsed;

use rehearsed::{Rehearsal, Rehearsed, Stop};
use rke2flow_engine::id::HostName;
use rke2flow_engine::record::Verdict;
use rke2flow_engine::report::Report;
use rke2flow_engine::run::Outcome;
use rke2flow_steps::answer::Survey;
use rke2flow_twin::kube::store::Key;
use rke2flow_twin::{Fault, Tamper, TwinSpec};
use serde_json::{Value, json};

const UPGRADE: &str = include_str!("../../../runbooks/upgrade.ron");
const ROLLBACK: &str = include_str!("../../../runbooks/rollback.ron");
const BACKUP: &str = include_str!("../../../runbooks/backup.ron");
const OLD: &str = "v1.33.4+rke2r1";
const NEW: &str = "v1.34.1+rke2r1";

fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

/// An upgraded twin that was prepared before its recovery point.
async fn upgraded(spec: TwinSpec, before: &[Tamper]) -> Rehearsed {
    let rehearsed = Rehearsed::new(spec, NEW);
    for tamper in before {
        rehearsed.twin.tamper(tamper.clone()).unwrap();
    }
    let (_, outcome) = rehearsed.run("261122-0400-upgr", UPGRADE, None).await;
    assert_eq!(outcome.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded));
    rehearsed
}

/// Rolls back, well; returns what the report tells the person.
async fn rolled_back(rehearsed: &Rehearsed) -> String {
    let (run, outcome) = rehearsed.run("261122-0500-back", ROLLBACK, None).await;
    assert_eq!(outcome.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded));
    rehearsed.at_rest().await;
    assert_eq!(rehearsed.twin.judge(), []);
    told(&run)
}

fn told(run: &Rehearsal) -> String {
    let report = Report::of(&run.disk.records()).unwrap();
    report.attention.iter().map(|told| format!("{}: {}\n", told.instance, told.text)).collect()
}

fn object(rehearsed: &Rehearsed, key: &Key) -> Option<Value> {
    rehearsed.twin.object(key)
}

fn secret(node: &str) -> Key {
    Key::new("", "secrets", "kube-system", &format!("{node}.node-password.rke2"))
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_learner_stalls_begins_anew_and_gets_its_vote() {
    let fault = Fault::LearnerStalls { host: host("server-1"), times: 1 };
    let rehearsed = upgraded(TwinSpec::default(), &[]).await;
    rehearsed.twin.inject(fault);
    rolled_back(&rehearsed).await;
    let survey: Survey = rehearsed.twin.survey(&host("server-1"));
    assert_eq!(survey.members.iter().filter(|member| !member.learner).count(), 3);
    let again = survey.aside.iter().filter(|name| name.starts_with("server/db/etcd-rke2flow-261122-0500-back")).count();
    assert_eq!(again, 2, "the old data and the stalled learner's: {:?}", survey.aside);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_was_made_anew_since_the_snapshot_is_let_in_again() {
    let rehearsed = upgraded(TwinSpec::default(), &[]).await;
    let before = object(&rehearsed, &secret("agent-0")).unwrap()["data"].clone();
    rehearsed.twin.tamper(Tamper::MadeAnew(host("agent-1"))).unwrap();
    let new = object(&rehearsed, &secret("agent-1")).unwrap()["data"].clone();
    let told = rolled_back(&rehearsed).await;
    assert!(told.contains("secret agent-1.node-password.rke2"), "{told}");
    assert_eq!(object(&rehearsed, &secret("agent-1")).unwrap()["data"], new);
    assert_eq!(object(&rehearsed, &secret("agent-0")).unwrap()["data"], before, "nobody else's is touched");
    assert!(!told.contains("agent-0.node-password"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_the_snapshot_does_not_know_gets_its_labels_and_taints_back() {
    let rehearsed = Rehearsed::new(TwinSpec::default(), OLD);
    let stop = Some(Stop::BeforeFirst("SaveSnapshot"));
    let (backup, _) = rehearsed.run("261122-0400-back", BACKUP, stop).await;
    rehearsed.twin.tamper(Tamper::RemoveObject(Key::node("agent-2"))).unwrap();
    let outcome = rehearsed.resume(&backup).await.unwrap();
    assert_eq!(outcome.unwrap(), Outcome::Closed(Verdict::Succeeded));
    // It registers itself after the snapshot, and a person puts something on it.
    for tamper in [Tamper::StopUnit(host("agent-2")), Tamper::StartUnit(host("agent-2"))] {
        rehearsed.twin.tamper(tamper).unwrap();
    }
    rehearsed.twin.clock().sleep(std::time::Duration::from_secs(120)).await;
    let patch = json!({
        "metadata": {"labels": {"team": "shop"}}, "spec": {"taints": [{"key": "gpu", "value": "", "effect": "NoSchedule"}]},
    });
    rehearsed.twin.tamper(Tamper::MergeObject { key: Key::node("agent-2"), patch }).unwrap();
    let told = rolled_back(&rehearsed).await;
    let node = object(&rehearsed, &Key::node("agent-2")).unwrap();
    assert_eq!(node["metadata"]["labels"]["team"], "shop", "{told}");
    assert_eq!(node["spec"]["taints"][0]["key"], "gpu");
    assert!(told.contains("agent-2: label team=shop"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn upgrade_jobs_restores_and_removals_out_of_the_snapshot_are_not_carried_out_again() {
    let job = Key::new("batch", "jobs", "system-upgrade", "apply-agent-plan-on-agent-0-with-abc");
    let labels = json!({
        "upgrade.cattle.io/plan": "agent-plan", "upgrade.cattle.io/node": "agent-0",
        "upgrade.cattle.io/version": "v1.34.1-rke2r1",
    });
    let object_of_job = json!({"metadata": {"labels": labels}, "spec": {}, "status": {"active": 1}});
    let remove = json!({"metadata": {"annotations": {"etcd.rke2.cattle.io/remove": "true"}}});
    let before = [
        Tamper::PutObject { key: job.clone(), object: object_of_job },
        Tamper::MergeObject { key: Key::node("server-2"), patch: remove },
    ];
    let rehearsed = upgraded(TwinSpec::default(), &before).await;
    let told = rolled_back(&rehearsed).await;
    assert!(told.contains("upgrade Job system-upgrade/apply-agent-plan-on-agent-0-with-abc"), "{told}");
    assert!(told.contains("removal of server-2 from etcd"), "{told}");
    assert_eq!(object(&rehearsed, &job), None);
    rehearsed.twin.clock().sleep(std::time::Duration::from_secs(1800)).await;
    assert_eq!(rehearsed.twin.survey(&host("agent-0")).installed, OLD);
    assert_eq!(rehearsed.twin.judge(), []);
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_follows_a_channel_does_not_upgrade_again_after_the_rollback_and_that_is_told() {
    let rehearsed = upgraded(TwinSpec { upgrade_plan: Some(NEW.to_owned()), ..TwinSpec::default() }, &[]).await;
    let told = rolled_back(&rehearsed).await;
    assert!(told.contains("Plan system-upgrade/server-plan stays disabled"), "{told}");
    assert!(told.contains("kubectl -n system-upgrade patch"), "{told}");
    rehearsed.twin.clock().sleep(std::time::Duration::from_secs(3600)).await;
    for name in ["server-0", "server-1", "server-2", "agent-0", "agent-1", "agent-2"] {
        assert_eq!(rehearsed.twin.survey(&host(name)).installed, OLD, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_attachments_and_schedules_are_told_and_left_as_they_are() {
    let attachment = Key::new("storage.k8s.io", "volumeattachments", "", "csi-1");
    let spec = json!({"metadata": {}, "spec": {"nodeName": "agent-9", "source": {"persistentVolumeName": "pv-9"}}});
    let cron = Key::new("batch", "cronjobs", "shop", "bill");
    let before = [
        Tamper::PutObject { key: attachment.clone(), object: spec },
        Tamper::PutObject { key: cron, object: json!({"metadata": {}, "spec": {}}) },
    ];
    let rehearsed = upgraded(TwinSpec::default(), &before).await;
    let told = rolled_back(&rehearsed).await;
    assert!(told.contains("volume pv-9 on node agent-9, which does not exist"), "{told}");
    assert!(told.contains("CronJobs run by the times of the snapshot, some perhaps again: shop/bill"), "{told}");
    assert!(object(&rehearsed, &attachment).is_some());
}
