//! The upgrade through the system-upgrade-controller: on clusters that are well, with jobs that go wrong, beside other
//! plans; and what the controller does to a cluster when nobody holds it back.

#![allow(clippy::unwrap_used)] // what tests are made of is test code as well

mod rehearsed;

use std::time::Duration;

use rehearsed::{Rehearsal, Rehearsed};
use rke2flow_engine::id::HostName;
use rke2flow_engine::record::Verdict;
use rke2flow_engine::run::Outcome;
use rke2flow_twin::kube::store::Key;
use rke2flow_twin::{Fault, JobTrouble, KubeBody, KubeHttp, Tamper, TwinSpec, ViolationKind};
use serde_json::{Value, json};

const UPGRADE_SUC: &str = include_str!("../../../runbooks/upgrade-suc.ron");
const RUN: &str = "261122-0400-upgr";
const OLD: &str = "v1.33.4+rke2r1";
const NEW: &str = "v1.34.1+rke2r1";
const PLANS: &str = "/apis/upgrade.cattle.io/v1/namespaces/system-upgrade/plans";

fn with_controller() -> TwinSpec {
    TwinSpec { upgrade_controller: true, ..TwinSpec::default() }
}

fn trouble(host: &str, trouble: JobTrouble, times: u32) -> Fault {
    Fault::UpgradeJob { host: HostName::new(host).unwrap(), trouble, times }
}

async fn upgrade(spec: TwinSpec) -> (Rehearsed, Rehearsal, Outcome) {
    let rehearsed = Rehearsed::new(spec, NEW);
    let (run, outcome) = rehearsed.run(RUN, UPGRADE_SUC, None).await;
    (rehearsed, run, outcome.unwrap().unwrap())
}

#[track_caller]
fn went_well(rehearsed: &Rehearsed, outcome: &Outcome) {
    assert_eq!(*outcome, Outcome::Closed(Verdict::Succeeded));
    assert_eq!(rehearsed.twin.judge(), []);
    for (name, _) in rehearsed.twin.spec().hosts() {
        assert_eq!(rehearsed.twin.survey(&name).installed, NEW, "{name}");
    }
}

fn kube(rehearsed: &Rehearsed, method: &str, path: &str, body: &Value) -> Value {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let request = KubeHttp {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        content_type: if method == "PATCH" { "application/merge-patch+json" } else { "application/json" }.to_owned(),
        body: if body.is_null() { Vec::new() } else { body.to_string().into_bytes() },
        user: "system:admin".to_owned(),
    };
    match rehearsed.twin.kube_now(&HostName::new("server-0").unwrap(), &request).body {
        KubeBody::Json(value) => value,
        other => panic!("{method} {path}: {other:?}"),
    }
}

/// What was asked of the API, in order.
fn asked(rehearsed: &Rehearsed, text: &str) -> usize {
    rehearsed.twin.log().iter().filter(|entry| entry.what.contains(text)).count()
}

#[tokio::test(start_paused = true)]
async fn clusters_of_every_shape_are_upgraded_and_nothing_of_the_plans_is_left() {
    for (servers, agents) in [(3, 3), (1, 2), (3, 0), (1, 0)] {
        let (rehearsed, ..) = {
            let (rehearsed, run, outcome) = upgrade(TwinSpec { servers, agents, ..with_controller() }).await;
            went_well(&rehearsed, &outcome);
            (rehearsed, run)
        };
        let plans = asked(&rehearsed, &format!("kube POST {PLANS}"));
        assert_eq!(plans, if agents == 0 { 1 } else { 2 }, "{servers} and {agents}");
        let (_, outcome) = rehearsed.run("261122-0500-next", UPGRADE_SUC, None).await;
        went_well(&rehearsed, &outcome.unwrap().unwrap());
        assert_eq!(asked(&rehearsed, &format!("kube POST {PLANS}")), plans, "a second run made another Plan");
    }
}

#[tokio::test(start_paused = true)]
async fn two_minors_in_one_run_have_plans_of_their_own() {
    const LAST: &str = "v1.35.1+rke2r1";
    let text = UPGRADE_SUC.replace(r#"["${cluster.version}"]"#, &format!("{:?}", [NEW, LAST]));
    assert_ne!(text, UPGRADE_SUC);
    let mut spec = with_controller();
    spec.releases.push(LAST.to_owned());
    let rehearsed = Rehearsed::new(spec, NEW);
    let (_, outcome) = rehearsed.run(RUN, &text, None).await;
    assert_eq!(outcome.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded));
    assert_eq!(rehearsed.twin.judge(), []);
    for (name, _) in rehearsed.twin.spec().hosts() {
        assert_eq!(rehearsed.twin.survey(&name).installed, LAST, "{name}");
    }
    assert_eq!(asked(&rehearsed, &format!("kube POST {PLANS}")), 4);
    assert_eq!(asked(&rehearsed, "change InstallVersion") + asked(&rehearsed, "change RestartUnit"), 0);
}

#[tokio::test(start_paused = true)]
async fn the_controller_replaces_the_binaries_and_we_restart_nothing() {
    let (rehearsed, _, outcome) = upgrade(with_controller()).await;
    went_well(&rehearsed, &outcome);
    assert_eq!(asked(&rehearsed, "change InstallVersion") + asked(&rehearsed, "change RestartUnit"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_pulled_stops_before_the_next_server_and_before_every_agent() {
    let spec = TwinSpec { faults: vec![trouble("server-1", JobTrouble::CannotPull, 100_000)], ..with_controller() };
    let (rehearsed, run, outcome) = upgrade(spec).await;
    let Outcome::Failed { instances } = &outcome else { panic!("{outcome:?}") };
    let told = format!("{instances:?}");
    assert!(told.contains("HandToUpgradePlan@server-1") && told.contains("ImagePullBackOff"), "{told}");
    let version = |name: &str| rehearsed.twin.survey(&HostName::new(name).unwrap()).installed;
    assert_eq!([version("server-0"), version("server-1")], [NEW, OLD]);
    assert_eq!(["server-2", "agent-0", "agent-1", "agent-2"].map(version), [OLD; 4]);
    assert_eq!(asked(&rehearsed, &format!("kube POST {PLANS}")), 1, "the agents' Plan was made");
    let node = kube(&rehearsed, "GET", "/api/v1/nodes/server-1", &Value::Null);
    assert!(node["spec"]["unschedulable"] != true, "{node}");
    // Nobody looks for hours: nothing happens to any node.
    rehearsed.twin.clock().sleep(Duration::from_secs(3 * 3600)).await;
    assert_eq!(version("server-1"), OLD);
    assert_eq!(rehearsed.abort(&run).await.unwrap(), Outcome::Closed(Verdict::Aborted));
    let found = rehearsed.twin.judge();
    assert!(found.iter().all(|violation| violation.kind == ViolationKind::VersionsDiffer), "{found:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_fails_a_few_times_or_an_image_that_comes_late_is_waited_for() {
    let faults = vec![
        trouble("server-0", JobTrouble::CannotPull, 6),
        trouble("server-2", JobTrouble::Fails, 3),
        trouble("agent-1", JobTrouble::Fails, 2),
    ];
    let (rehearsed, _, outcome) = upgrade(TwinSpec { faults, ..with_controller() }).await;
    went_well(&rehearsed, &outcome);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_cut_off_between_the_binary_and_the_restart_is_finished() {
    let faults = vec![trouble("server-1", JobTrouble::CutOff, 1), trouble("agent-0", JobTrouble::CutOff, 1)];
    let (rehearsed, _, outcome) = upgrade(TwinSpec { faults, ..with_controller() }).await;
    went_well(&rehearsed, &outcome);
    assert_eq!(asked(&rehearsed, "change RestartUnit"), 2, "the controller never restarts them");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_complete_before_its_node_is_well_makes_no_other_server_leave() {
    let faults = ["server-0", "server-1", "server-2"].map(|host| trouble(host, JobTrouble::EndsEarly, 1)).to_vec();
    let (rehearsed, _, outcome) = upgrade(TwinSpec { faults, ..with_controller() }).await;
    went_well(&rehearsed, &outcome);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_come_back_is_restarted_before_the_next_one_is_handed_over() {
    let hangs = Fault::RestartHangs { host: HostName::new("server-1").unwrap(), times: 1 };
    let (rehearsed, _, outcome) = upgrade(TwinSpec { faults: vec![hangs], ..with_controller() }).await;
    went_well(&rehearsed, &outcome);
}

#[tokio::test(start_paused = true)]
async fn plans_of_others_are_held_still_and_are_as_they_were_afterwards() {
    let (rehearsed, _, outcome) = upgrade(TwinSpec { upgrade_plan: Some(NEW.to_owned()), ..with_controller() }).await;
    went_well(&rehearsed, &outcome);
    let plan = kube(&rehearsed, "GET", &format!("{PLANS}/server-plan"), &Value::Null);
    assert_eq!(plan["spec"]["nodeSelector"]["matchExpressions"][0]["operator"], "Exists", "{plan}");
    rehearsed.twin.clock().sleep(Duration::from_secs(4000)).await;
    went_well(&rehearsed, &outcome);
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_run_left_behind_is_removed_and_acts_on_nothing() {
    let rehearsed = Rehearsed::new(with_controller(), NEW);
    let name = "rke2flow-261101-0000-aaaa-servers";
    let object = json!({
        "apiVersion": "upgrade.cattle.io/v1", "kind": "Plan", "metadata": {"labels": {"rke2flow.io/run": "261101-0000-aaaa"}},
        "spec": {"concurrency": 3, "version": "v1.32.1+rke2r1", "nodeSelector": {"matchLabels": {"rke2flow.io/upgrade-plan": name}}},
    });
    let key = Key::new("upgrade.cattle.io", "plans", "system-upgrade", name);
    rehearsed.twin.tamper(Tamper::PutObject { key, object }).unwrap();
    let (_, outcome) = rehearsed.run(RUN, UPGRADE_SUC, None).await;
    went_well(&rehearsed, &outcome.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn agents_wait_for_the_servers_plan_where_nodes_have_the_label_that_it_goes_by() {
    let rehearsed = Rehearsed::new(with_controller(), NEW);
    for name in ["server-0", "server-1", "server-2"] {
        let label = json!({"metadata": {"labels": {"node-role.kubernetes.io/master": "true"}}});
        kube(&rehearsed, "PATCH", &format!("/api/v1/nodes/{name}"), &label);
    }
    let (_, outcome) = rehearsed.run(RUN, UPGRADE_SUC, None).await;
    went_well(&rehearsed, &outcome.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_a_person_had_cordoned_is_upgraded_and_stays_cordoned() {
    let rehearsed = Rehearsed::new(with_controller(), NEW);
    let cordon = json!({"spec": {"unschedulable": true}});
    kube(&rehearsed, "PATCH", "/api/v1/nodes/agent-1", &cordon);
    let (_, outcome) = rehearsed.run(RUN, UPGRADE_SUC, None).await;
    assert_eq!(outcome.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded));
    let node = kube(&rehearsed, "GET", "/api/v1/nodes/agent-1", &Value::Null);
    assert_eq!(node["spec"]["unschedulable"], true);
    assert_eq!(node["metadata"]["annotations"].as_object().map_or(0, serde_json::Map::len), 0, "{node}");
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_is_scaled_down_refuses_the_run_before_anything_is_changed() {
    let rehearsed = Rehearsed::new(with_controller(), NEW);
    let path = "/apis/apps/v1/namespaces/system-upgrade/deployments/system-upgrade-controller";
    kube(&rehearsed, "PATCH", path, &json!({"spec": {"replicas": 0}}));
    let (_, outcome) = rehearsed.run(RUN, UPGRADE_SUC, None).await;
    let outcome = outcome.unwrap().unwrap();
    assert!(format!("{outcome:?}").contains("is scaled to 0"), "{outcome:?}");
    assert_eq!((asked(&rehearsed, "kube POST"), asked(&rehearsed, "kube PATCH")), (0, 1), "but for the test's own");
}

/// A plan as people write it: every server, one after the other, and nobody who looks whether one is well.
fn as_people_write_it() -> Value {
    json!({
        "apiVersion": "upgrade.cattle.io/v1", "kind": "Plan", "metadata": {"name": "server-plan"},
        "spec": {
            "concurrency": 1, "cordon": true, "serviceAccountName": "system-upgrade", "version": NEW,
            "nodeSelector": {"matchExpressions": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]},
            "upgrade": {"image": "rancher/rke2-upgrade"},
        },
    })
}

#[tokio::test(start_paused = true)]
async fn by_itself_the_controller_restarts_a_server_while_another_one_is_missing_and_quorum_is_lost() {
    let rehearsed = Rehearsed::new(with_controller(), NEW);
    rehearsed.twin.power_off(&HostName::new("server-2").unwrap());
    let mut plan = as_people_write_it();
    plan["spec"]["nodeSelector"] = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["server-0", "server-1"]}]});
    kube(&rehearsed, "POST", PLANS, &plan);
    rehearsed.twin.clock().sleep(Duration::from_secs(600)).await;
    let kinds: Vec<ViolationKind> = rehearsed.twin.judge().iter().map(|violation| violation.kind).collect();
    assert!(kinds.contains(&ViolationKind::QuorumLost), "{kinds:?}");
}

#[tokio::test(start_paused = true)]
async fn by_itself_the_controller_upgrades_and_leaves_a_failed_node_cordoned_and_its_plan_behind() {
    let faults = vec![trouble("server-1", JobTrouble::Fails, 100_000)];
    let rehearsed = Rehearsed::new(TwinSpec { faults, ..with_controller() }, NEW);
    kube(&rehearsed, "POST", PLANS, &as_people_write_it());
    rehearsed.twin.clock().sleep(Duration::from_secs(3600)).await;
    let plan = kube(&rehearsed, "GET", &format!("{PLANS}/server-plan"), &Value::Null);
    assert_eq!(plan["status"]["latestVersion"], "v1.34.1-rke2r1");
    assert_eq!(plan["status"]["applying"], json!(["server-1"]), "{plan}");
    let node = kube(&rehearsed, "GET", "/api/v1/nodes/server-1", &Value::Null);
    assert_eq!(node["spec"]["unschedulable"], true);
    let jobs = kube(&rehearsed, "GET", "/apis/batch/v1/namespaces/system-upgrade/jobs", &Value::Null);
    assert!(jobs.to_string().contains("apply-server-plan-on-server-1-with-"), "{jobs}");
    kube(&rehearsed, "DELETE", &format!("{PLANS}/server-plan"), &Value::Null);
    rehearsed.twin.clock().sleep(Duration::from_secs(60)).await;
    let jobs = kube(&rehearsed, "GET", "/apis/batch/v1/namespaces/system-upgrade/jobs", &Value::Null);
    assert_eq!(jobs["items"], json!([]), "with a plan its jobs go");
    let node = kube(&rehearsed, "GET", "/api/v1/nodes/server-1", &Value::Null);
    assert_eq!(node["spec"]["unschedulable"], true, "and the cordon stays (SUC#71)");
}
