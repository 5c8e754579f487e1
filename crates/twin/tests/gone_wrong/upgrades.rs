//! Upgrades: who goes last, what is waited for, what is evicted, and what is left when they stop halfway.

use rke2flow_engine::id::HostName;
use rke2flow_engine::record::Event;
use rke2flow_twin::kube::store::Key;
use rke2flow_twin::{Fault, Tamper, TwinSpec};
use serde_json::{Value, json};

use crate::rig::{Ended, NEW, Rig, paused};

fn host(name: &str) -> HostName {
    HostName::new(name).expect("a host name")
}

/// The servers in the order in which the last run restarted them.
fn restarted(rig: &Rig) -> Vec<String> {
    let of = |event: Event| match event {
        Event::ApplyStarted { instance, attempt: 1, .. } => {
            instance.as_str().strip_prefix("servers/RestartUnit@").map(str::to_owned)
        }
        _ => None,
    };
    rig.records().into_iter().filter_map(|record| of(record.event)).collect()
}

/// Cluster seconds from the birth of a twin to the first attempt at an instance of its upgrade.
async fn seconds_until(begun: &str) -> u64 {
    let mut rig = Rig::new(TwinSpec::default());
    assert!(rig.run("upgrade", &[]).await.well());
    let records = rig.records();
    let is = |event: &Event| matches!(event, Event::AttemptStarted { instance, .. } if instance.as_str() == begun);
    let at = records.iter().find(|record| is(&record.event)).expect("it is in the plan").at;
    at.duration_since(records[0].at).as_secs().unsigned_abs()
}

async fn upgraded_with(rig: &mut Rig, set: &[&str]) {
    let ended = rig.run("upgrade", set).await;
    assert!(ended.well(), "{ended:#?}");
    assert_eq!(rig.kinds(), [], "{:#?}", rig.twin.judge());
}

fn only_failure(ended: &Ended) -> (String, rke2flow_engine::action::Failure) {
    let failures = ended.failures();
    assert_eq!(failures.len(), 1, "{ended:#?}");
    failures.into_iter().next().expect("there is one")
}

#[test]
fn the_leader_of_etcd_is_restarted_last_wherever_it_is() {
    paused(async {
        let mut rig = Rig::new(TwinSpec::default());
        upgraded_with(&mut rig, &[]).await;
        assert_eq!(restarted(&rig), ["server-1", "server-2", "server-0"]);

        let mut rig = Rig::new(TwinSpec::default());
        // Another one leads from now on.
        rig.twin.power_cycle(&host("server-0"));
        rig.sleep(300).await;
        upgraded_with(&mut rig, &[]).await;
        assert_eq!(restarted(&rig), ["server-0", "server-2", "server-1"]);
    });
}

#[test]
fn no_server_is_touched_while_a_voter_is_missing_and_the_run_goes_on_when_it_is_back() {
    paused(async {
        let at_seconds = seconds_until("servers/Voter@server-1").await + 5;
        let fault = Fault::HostDown { host: host("server-0"), at_seconds, back_after_seconds: None };
        let mut rig = Rig::new(TwinSpec { faults: vec![fault], ..TwinSpec::default() });
        let (instance, failure) = only_failure(&rig.run("upgrade", &[]).await);
        assert_eq!(instance, "servers/VotersHealthy@server-2");
        assert!(failure.what.starts_with("server-2 is not touched"), "{failure:?}");
        assert!(failure.observed.contains("server-0"), "{failure:?}");
        assert_eq!(restarted(&rig), ["server-1"]);
        assert!(!rig.kinds().contains(&rke2flow_twin::ViolationKind::QuorumLost), "{:#?}", rig.twin.judge());

        rig.twin.tamper(Tamper::PowerOn(host("server-0"))).expect("it was off");
        rig.sleep(300).await;
        let ended = rig.resume().await;
        assert!(ended.well(), "{ended:#?}");
        assert_eq!(rig.kinds(), [], "{:#?}", rig.twin.judge());
    });
}

#[test]
fn a_voter_that_comes_back_in_time_is_waited_for() {
    paused(async {
        let at_seconds = seconds_until("servers/Voter@server-1").await + 5;
        let fault = Fault::HostDown { host: host("server-0"), at_seconds, back_after_seconds: Some(60) };
        let mut rig = Rig::new(TwinSpec { faults: vec![fault], ..TwinSpec::default() });
        upgraded_with(&mut rig, &[]).await;
    });
}

/// A budget that covers both pods of the application and allows `unavailable` of them to be gone.
fn budget(unavailable: u64) -> Tamper {
    let labels = json!({"app.kubernetes.io/name": "web"});
    let object = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {},
        "spec": {"maxUnavailable": unavailable, "selector": {"matchLabels": labels}},
    });
    Tamper::PutObject { key: Key::new("policy", "poddisruptionbudgets", "shop", "web"), object }
}

fn evictions(rig: &Rig) -> usize {
    let is = |what: &str| what.starts_with("kube POST") && what.ends_with("/eviction");
    rig.twin.log().iter().filter(|entry| is(&entry.what)).count()
}

fn unschedulable(rig: &Rig, node: &str) -> bool {
    rig.twin.object(&Key::node(node)).expect("it is there")["spec"]["unschedulable"] == true
}

#[test]
fn a_drain_evicts_within_the_budgets_and_every_node_is_uncordoned_again() {
    paused(async {
        let mut rig = Rig::new(TwinSpec::default());
        rig.twin.tamper(budget(1)).expect("the API answers");
        upgraded_with(&mut rig, &["drain=true"]).await;
        assert!(evictions(&rig) >= 3, "{}", evictions(&rig));
        assert!(!["server-0", "agent-0", "agent-2"].iter().any(|node| unschedulable(&rig, node)));

        let mut rig = Rig::new(TwinSpec::default());
        upgraded_with(&mut rig, &[]).await;
        assert_eq!(evictions(&rig), 0, "nobody asked for a drain");
    });
}

#[test]
fn a_budget_that_allows_nothing_stops_the_drain_by_name_and_the_run_goes_on_without_it() {
    paused(async {
        let mut rig = Rig::new(TwinSpec::default());
        rig.twin.tamper(budget(0)).expect("the API answers");
        let ended = rig.run("upgrade", &["drain=true", "drain_within=1m"]).await;
        let (instance, failure) = only_failure(&ended);
        assert!(instance.starts_with("agents/Drain@agent-"), "{instance}");
        assert!(
            failure.observed.contains("shop/web-") && failure.observed.contains("disruption budget web"),
            "{failure:?}"
        );
        rig.twin
            .tamper(Tamper::RemoveObject(Key::new("policy", "poddisruptionbudgets", "shop", "web")))
            .expect("there");
        let ended = rig.resume().await;
        assert!(ended.well(), "{ended:#?}");
        assert_eq!(rig.kinds(), [], "{:#?}", rig.twin.judge());
    });
}

#[test]
fn a_node_that_was_cordoned_before_the_run_stays_so_and_no_other() {
    paused(async {
        let mut rig = Rig::new(TwinSpec::default());
        for node in ["agent-1", "server-1"] {
            let patch = json!({"spec": {"unschedulable": true}});
            rig.twin.tamper(Tamper::MergeObject { key: Key::node(node), patch }).expect("it is there");
        }
        let ended = rig.run("upgrade", &["drain=true"]).await;
        assert!(ended.well(), "{ended:#?}");
        let cordoned = |node: &&str| unschedulable(&rig, node);
        let all = ["server-0", "server-1", "server-2", "agent-0", "agent-1", "agent-2"];
        assert_eq!(all.into_iter().filter(|node| cordoned(node)).collect::<Vec<_>>(), ["server-1", "agent-1"]);
    });
}

#[test]
fn an_upgrade_is_done_only_when_the_charts_of_the_new_release_are_installed() {
    paused(async {
        let mut rig = Rig::new(TwinSpec::default());
        upgraded_with(&mut rig, &[]).await;
        let release = |revision: u64| {
            let name = format!("sh.helm.release.v1.rke2-canal.v{revision}");
            let secret = rig.twin.object(&Key::new("", "secrets", "kube-system", &name)).expect("it is there");
            secret["metadata"]["labels"]["status"].as_str().unwrap_or_default().to_owned()
        };
        assert_eq!((release(1).as_str(), release(2).as_str()), ("superseded", "deployed"));
        let image = |kind: &str, name: &str| -> Value {
            let object = rig.twin.object(&Key::new("apps", kind, "kube-system", name)).expect("it is there");
            object["spec"]["template"]["spec"]["containers"][0]["image"].clone()
        };
        let tag = NEW.replace('+', "-");
        assert_eq!(image("daemonsets", "rke2-canal"), format!("rancher/rke2-canal:{tag}"));
    });
}

#[test]
fn an_upgrade_that_could_not_be_taken_back_is_refused_before_a_node_is_touched_unless_that_is_waived() {
    let text = rke2flow_steps::runbooks::find("upgrade").expect("it is embedded").text;
    let hasty = text.replace("do: [Reversible()]", "do: [Reversible(budget: \"10s\")]");
    assert_ne!(text, hasty);
    paused(async {
        let mut rig = Rig::new(TwinSpec::default());
        let (instance, failure) = only_failure(&rig.run_text("upgrade", &hasty, &[]).await);
        assert_eq!(instance, "reversible/Reversible@operator");
        assert!(failure.observed.contains("FAIL rollback in time"), "{failure:?}");
        assert_eq!(restarted(&rig), Vec::<String>::new());
    });
}
