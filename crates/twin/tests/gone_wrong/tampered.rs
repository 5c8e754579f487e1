//! A fact of the world is made wrong by hand after a finished run: the probe that stands for it does not say that all
//! is well.

use std::collections::BTreeSet;

use rke2flow_engine::action::Probe;
use rke2flow_engine::id::HostName;
use rke2flow_steps::catalogue;
use rke2flow_steps::command::NodePart;
use rke2flow_steps::paths::HostPaths;
use rke2flow_twin::kube::store::Key;
use rke2flow_twin::{Tamper, TwinSpec};
use serde_json::{Value, json};

use crate::rig::{NEW, OLD, Rig, Seen, paused};

/// Longer than it takes until nobody believes a silent node any more.
const SILENCE_SECONDS: u64 = 120;

#[test]
fn after_an_upgrade_no_probe_is_content_with_a_world_that_was_made_wrong() {
    let looked = paused(async {
        let mut rig = Rig::new(with_plan(NEW));
        let ended = rig.run("upgrade", &[]).await;
        assert!(ended.well(), "{ended:?}");
        rig.sleep(60).await;
        tamper_with_all(&rig).await
    });
    assert!(looked.len() > 12, "{looked:?}");
}

#[test]
fn after_a_rollback_no_probe_is_content_with_a_world_that_was_made_wrong() {
    let looked = paused(async {
        let mut rig = Rig::upgraded(with_plan(OLD)).await;
        let ended = rig.run("rollback", &[]).await;
        assert!(ended.well(), "{ended:?}");
        rig.sleep(60).await;
        tamper_with_all(&rig).await
    });
    assert!(looked.len() > 12, "{looked:?}");
}

#[test]
fn after_an_upgrade_through_the_controller_no_probe_is_content_with_a_world_that_was_made_wrong() {
    let looked = paused(async {
        let mut rig = Rig::new(TwinSpec { upgrade_controller: true, ..TwinSpec::default() });
        let ended = rig.run("upgrade-suc", &[&format!("version={NEW}")]).await;
        assert!(ended.well(), "{ended:?}");
        rig.sleep(60).await;
        tamper_with_all(&rig).await
    });
    for name in ["UpgradeController", "HandToUpgradePlan", "TakeFromUpgradePlan", "RemoveUpgradePlans"] {
        assert!(looked.contains(name), "{looked:?}");
    }
}

/// A plan that has nothing to do at the end of the story.
fn with_plan(version: &str) -> TwinSpec {
    TwinSpec { upgrade_plan: Some(version.to_owned()), ..TwinSpec::default() }
}

#[test]
fn every_action_has_its_row() {
    let apart =
        |name: &&str| ![&NEVER_CONTENT[..], &ALWAYS_CONTENT, &OF_OTHER_RUNS].iter().any(|list| list.contains(name));
    let without: Vec<&str> = catalogue::infos().iter().map(|info| info.name).filter(apart).collect();
    let known: BTreeSet<&str> = ROWS.iter().map(|(name, _)| *name).collect();
    assert_eq!(without.into_iter().filter(|name| !known.contains(name)).collect::<Vec<_>>(), Vec::<&str>::new());
}

/// Makes each fact wrong that an instance stands for, one by one, and returns the actions that were looked at.
async fn tamper_with_all(rig: &Rig) -> BTreeSet<String> {
    let mut looked = BTreeSet::new();
    let mut content = Vec::new();
    let saved = rig.twin.save();
    for (instance, seen) in rig.seen() {
        if ALWAYS_CONTENT.contains(&seen.name.as_str()) || !is_content(&seen).await {
            continue;
        }
        looked.insert(seen.name.clone());
        for wrong in wrongs(rig, &seen) {
            for tamper in &wrong.tampers {
                rig.twin.tamper(tamper.clone()).unwrap_or_else(|why| panic!("{instance}: {tamper:?}: {why}"));
            }
            rig.sleep(wrong.then_seconds).await;
            if is_content(&seen).await {
                content.push(format!("{instance} after {:?}", wrong.tampers));
            }
            rig.twin.restore(&saved);
            assert!(is_content(&seen).await, "{instance} is not as before, after {:?}", wrong.tampers);
        }
    }
    assert!(content.is_empty(), "{}", content.join("\n"));
    looked
}

async fn is_content(seen: &Seen) -> bool {
    matches!(seen.action.probe(&seen.context).await, Ok(Probe::Satisfied(_)))
}

/// A world that is wrong.
struct Wrong {
    tampers: Vec<Tamper>,
    /// How long it takes until it shows.
    then_seconds: u64,
}

fn at_once(tamper: Tamper) -> Wrong {
    Wrong { tampers: vec![tamper], then_seconds: 0 }
}

fn later(tamper: Tamper) -> Wrong {
    Wrong { tampers: vec![tamper], then_seconds: SILENCE_SECONDS }
}

/// What a row goes by.
struct About<'a> {
    rig: &'a Rig,
    seen: &'a Seen,
    paths: HostPaths,
}

impl About<'_> {
    /// The host that the instance runs for; the first server for those that run on the operator's machine.
    fn host(&self) -> HostName {
        self.seen.context.target.host().cloned().unwrap_or_else(|| host("server-0"))
    }

    fn run(&self) -> String {
        self.seen.context.run.to_string()
    }

    fn is_server(&self) -> bool {
        self.host().as_str().starts_with("server")
    }

    fn field(&self, name: &str) -> String {
        self.seen.fields[name].as_str().unwrap_or_default().to_owned()
    }

    fn gone(&self, path: String) -> Wrong {
        at_once(Tamper::Remove { host: self.host(), path })
    }

    /// Files below a directory of the host, by its own answer.
    fn files(&self, below: &str) -> Vec<String> {
        self.rig.twin.files(&self.host()).into_iter().filter(|path| path.starts_with(below)).collect()
    }

    fn snapshots(&self) -> Vec<String> {
        self.files(&format!("{}/rke2flow-{}", self.paths.snapshots(), self.run()))
    }
}

fn wrongs(rig: &Rig, seen: &Seen) -> Vec<Wrong> {
    let about = About { rig, seen, paths: rig.twin.spec().paths() };
    let row = ROWS.iter().find(|(name, _)| *name == seen.name);
    let (name, row) = row.unwrap_or_else(|| panic!("{} has no row", seen.name));
    let wrongs = row(&about);
    assert!(!wrongs.is_empty(), "{name} has nothing that can be wrong");
    wrongs
}

/// A gate asks a person each time; the Plan of a run is gone when the run is at its end.
const NEVER_CONTENT: [&str; 2] = ["Gate", "CreateUpgradePlan"];

/// These only tell what they find; a drain is not asked for here (`upgrades.rs` does).
const ALWAYS_CONTENT: [&str; 4] = ["RememberCluster", "Leftovers", "DataRevision", "Drain"];

/// These are of runs with lost or new hosts, which `variants.rs` carries out.
const OF_OTHER_RUNS: [&str; 8] =
    ["StillLost", "MarkLost", "ForgetLost", "Rejoinable", "ForgetNode", "Rebuildable", "ServerToken", "EnableUnit"];

type Row = (&'static str, fn(&About<'_>) -> Vec<Wrong>);

/// Which facts each action stands for.
const ROWS: &[Row] = &[
    ("Guard", |about| {
        let other = Tamper::Token { host: host("server-1"), token: "another".to_owned() };
        let mut wrongs = vec![at_once(other), at_once(Tamper::PowerOff(host("agent-1")))];
        if about.seen.fields["checks"].to_string().contains("etcd_quorum") {
            wrongs.push(at_once(Tamper::KillNode(host("server-2"))));
        }
        wrongs
    }),
    ("ChoosePoint", |_| {
        // A file that is gone or damaged is fetched from the bucket: only the token has no second place.
        vec![at_once(Tamper::Token { host: host("server-0"), token: "another".to_owned() })]
    }),
    ("Sentinel", |about| {
        let which = if about.field("which") == "Before" { "before" } else { "after" };
        let name = format!("rke2flow-{}-{which}", about.run());
        let key = Key::new("", "configmaps", "kube-system", &name);
        let stranger = json!({"metadata": {"labels": {"rke2flow.io/run": null}}});
        vec![at_once(Tamper::RemoveObject(key.clone())), merged(key, stranger)]
    }),
    ("VeleroBackup", |about| {
        let key = Key::new("velero.io", "backups", "velero", &format!("rf-{}-pre", about.run()));
        let phase = |phase: &str| merged(key.clone(), json!({"status": {"phase": phase}}));
        vec![at_once(Tamper::RemoveObject(key.clone())), phase("PartiallyFailed"), phase("Failed"), phase("InProgress")]
    }),
    ("SaveSnapshot", |about| {
        let each = |path: &String| {
            let corrupt = Tamper::Corrupt { host: about.host(), path: path.clone() };
            [at_once(corrupt), about.gone(path.clone())]
        };
        about.snapshots().iter().flat_map(each).collect()
    }),
    ("UploadSnapshot", |about| {
        let each = |path: &String| {
            let key = format!("{}/{}", about.rig.twin.spec().folder, path.rsplit('/').next().unwrap_or_default());
            [Tamper::RemoveFromBucket(key.clone()), Tamper::EmptyInBucket(key)].map(at_once)
        };
        about.snapshots().iter().flat_map(each).collect()
    }),
    ("CopySnapshot", |about| {
        let copies = about.files(&format!("{}/", about.paths.kept_snapshots()));
        let each = |path: &String| {
            let corrupt = Tamper::Corrupt { host: about.host(), path: path.clone() };
            [at_once(corrupt), about.gone(path.clone())]
        };
        copies.iter().flat_map(each).collect()
    }),
    ("FetchSnapshot", |about| {
        let path = about.field("path");
        vec![at_once(Tamper::Corrupt { host: about.host(), path: path.clone() }), about.gone(path)]
    }),
    ("RecordPoint", |about| {
        let point = about.paths.point(&about.run());
        let keys = about.rig.twin.bucket().keys(&about.rig.twin.spec().bucket, "");
        let key = keys.into_iter().find(|key| key.ends_with(&format!("{}.json", about.run()))).expect("in the bucket");
        let snapshot = Tamper::Remove { host: host("server-0"), path: about.paths.snapshots() };
        vec![about.gone(point), at_once(Tamper::RemoveFromBucket(key)), at_once(snapshot)]
    }),
    ("FetchRelease", |about| match about.field("version").as_str() {
        // What is installed: with another binary, another release has to be there.
        "" => vec![about.gone(about.paths.releases())],
        version => vec![about.gone(about.paths.release(version))],
    }),
    ("StageSnapshot", |about| {
        let staged = about.files(&format!("{}/", about.paths.staged(&about.seen.context.run)));
        let each = |path: &String| {
            [about.gone(path.clone()), at_once(Tamper::Corrupt { host: about.host(), path: path.clone() })]
        };
        staged.iter().flat_map(each).collect()
    }),
    ("InstallVersion", |about| vec![at_once(other_version(about))]),
    ("HoldUnit", |about| vec![about.gone(about.paths.hold())]),
    ("ReleaseHold", |about| vec![at_once(Tamper::Hold(about.host()))]),
    ("KillNode", |about| vec![later(Tamper::StartUnit(about.host()))]),
    ("PortsClosed", |about| vec![later(Tamper::StartUnit(about.host()))]),
    ("MoveAside", |about| {
        // What was moved is gone, and what came in its place looks as if it had never been moved.
        let part = |part: &Value| serde_json::from_value::<NodePart>(part.clone()).expect("a part of a node");
        let parts = about.seen.fields["parts"].as_array().into_iter().flatten().map(part);
        parts.map(|part| about.gone(about.paths.aside(part, &about.seen.context.run))).collect()
    }),
    ("MoveBack", |about| vec![about.gone(format!("{}/server/db/etcd", about.paths.data))]),
    // Without an API server nobody knows what the data are.
    ("SameData", |_| {
        let killed = ["server-0", "server-1", "server-2"].map(|name| Tamper::KillNode(host(name)));
        vec![Wrong { tampers: killed.to_vec(), then_seconds: 0 }]
    }),
    ("PointAt", |about| vec![about.gone(about.paths.server_override())]),
    ("ClusterReset", |about| vec![about.gone(about.paths.reset_record())]),
    ("StartUnit", stopped),
    ("JoinCluster", stopped),
    ("RestoreNodes", |_| vec![merged(Key::node("agent-1"), json!({"spec": {"unschedulable": true}}))]),
    ("DropReplays", |_| {
        let labels = json!({"upgrade.cattle.io/plan": "server-plan"});
        let job = Key::new("batch", "jobs", "system-upgrade", "apply-server-plan-on-server-0-with-abc");
        let object = json!({"metadata": {"labels": labels}, "spec": {}, "status": {"active": 1}});
        let restore = Key::new("velero.io", "restores", "velero", "of-long-ago");
        let new = json!({"metadata": {}, "spec": {}, "status": {"phase": "New"}});
        let remove = json!({"metadata": {"annotations": {"etcd.rke2.cattle.io/remove": "true"}}});
        vec![
            at_once(Tamper::PutObject { key: job, object }),
            at_once(Tamper::PutObject { key: restore, object: new }),
            merged(Key::node("server-2"), remove),
        ]
    }),
    ("RestartUnit", |about| {
        let mut wrongs = stopped(about);
        wrongs.push(kubelet_of(about.host().as_str(), OTHER));
        wrongs
    }),
    ("RunningVersion", |about| {
        let mut wrongs = serving(about);
        wrongs.push(kubelet_of(about.host().as_str(), OTHER));
        wrongs.push(not_ready(about.host().as_str()));
        wrongs
    }),
    ("Voter", serving),
    ("VotersHealthy", |_| {
        let server = || host("server-1");
        vec![
            at_once(Tamper::KillNode(server())),
            at_once(Tamper::Demote(server())),
            at_once(Tamper::StopUnit(server())),
        ]
    }),
    // Without a majority nobody leads.
    ("EtcdLeader", |_| {
        let killed = ["server-1", "server-2"].map(|name| Tamper::KillNode(host(name)));
        vec![Wrong { tampers: killed.to_vec(), then_seconds: 0 }]
    }),
    ("Reversible", |about| {
        let snapshot = Tamper::Remove { host: host("server-1"), path: about.paths.kept_snapshots() };
        let release = Tamper::Remove { host: host("agent-1"), path: about.paths.releases() };
        let point = Tamper::Remove { host: host("server-2"), path: about.paths.point(&about.run()) };
        [snapshot, release, point].map(at_once).into()
    }),
    ("RolledOut", |_| {
        let job = Key::new("batch", "jobs", "kube-system", "helm-install-rke2-canal");
        let release = Key::new("", "secrets", "kube-system", "sh.helm.release.v1.rke2-canal.v2");
        let set = Key::new("apps", "daemonsets", "kube-system", "rke2-canal");
        vec![
            merged(job.clone(), json!({"status": {"succeeded": null, "conditions": [], "failed": 3}})),
            at_once(Tamper::RemoveObject(job)),
            merged(release, json!({"metadata": {"labels": {"status": "failed"}}})),
            merged(set, json!({"status": {"numberAvailable": 1}})),
        ]
    }),
    ("NodeReady", |about| {
        vec![later(Tamper::StopUnit(about.host())), not_ready(about.host().as_str()), node_gone(about.host().as_str())]
    }),
    ("VerifyRestored", stopped),
    ("Cordon", |about| vec![merged(Key::node(about.host().as_str()), json!({"spec": {"unschedulable": null}}))]),
    ("Uncordon", |about| vec![cordoned(about.host().as_str()), node_gone(about.host().as_str())]),
    ("DisableUpgradePlans", |_| vec![plan(json!({}))]),
    ("UpgradeController", |_| {
        let controller = Key::new("apps", "deployments", "system-upgrade", "system-upgrade-controller");
        let account = Key::new("", "serviceaccounts", "system-upgrade", "system-upgrade");
        vec![merged(controller, json!({"spec": {"replicas": 0}})), at_once(Tamper::RemoveObject(account))]
    }),
    ("HandToUpgradePlan", |about| vec![at_once(other_version(about))]),
    ("TakeFromUpgradePlan", |about| vec![handed(about.host().as_str()), node_gone(about.host().as_str())]),
    ("RemoveUpgradePlans", |_| vec![handed("agent-0"), plan_of_ours()]),
    ("PauseSchedules", |_| vec![merged(schedule(), json!({"spec": {"paused": false}}))]),
    ("RemoveGhosts", |_| vec![at_once(Tamper::PutObject { key: Key::node("agent-9"), object: json!({}) })]),
    ("RefreshSystemPods", |about| {
        let old = json!({
            "metadata": {
                "labels": {"k8s-app": "canal"},
                "creationTimestamp": "2020-01-01T00:00:00Z", "ownerReferences": [{"kind": "DaemonSet", "name": "canal"}],
            },
            "spec": {"nodeName": "agent-0"},
        });
        assert!(!about.field("older_than").is_empty());
        vec![at_once(Tamper::PutObject { key: Key::pod("kube-system", "canal-old"), object: old })]
    }),
    ("Unfence", |about| {
        // Of a plan that asks for another version, the end of a rollback says that it stays fenced.
        let version = if about.seen.fields["keep_upgrades"] == true { OLD } else { "v1.36.0+rke2r1" };
        let paused =
            json!({"metadata": {"annotations": {"rke2flow.io/was-paused": "false"}}, "spec": {"paused": true}});
        vec![merged(schedule(), paused), plan_of(version, json!({"rke2flow.io/was-node-selector": "{}"}))]
    }),
    ("RestoreVolumes", |about| {
        let key = Key::new("velero.io", "restores", "velero", &format!("rf-{}-data-a1", about.run()));
        vec![at_once(Tamper::RemoveObject(key.clone())), merged(key, json!({"status": {"phase": "PartiallyFailed"}}))]
    }),
    ("Health", |_| {
        vec![
            at_once(Tamper::StopUnit(host("server-1"))),
            at_once(Tamper::KillNode(host("server-2"))),
            at_once(Tamper::Demote(host("server-1"))),
            later(Tamper::StopUnit(host("agent-1"))),
            kubelet_of("agent-2", OTHER),
            not_ready("agent-0"),
            node_gone("agent-0"),
            at_once(Tamper::PutObject { key: Key::node("agent-9"), object: json!({}) }),
        ]
    }),
    ("HttpCheck", |_| {
        vec![Wrong {
            tampers: ["agent-0", "agent-1", "agent-2"].map(|name| Tamper::PowerOff(host(name))).to_vec(),
            then_seconds: 0,
        }]
    }),
    ("ClusterVersion", |_| {
        vec![kubelet_of("agent-1", OTHER), kubelet_of("server-2", OTHER), cordoned("agent-1"), node_gone("server-1")]
    }),
    ("Command", |about| {
        let path = about.field("probe").rsplit(' ').next().unwrap_or_default().to_owned();
        vec![about.gone(path)]
    }),
    ("CleanUp", |about| {
        let point = Tamper::PointAt { host: about.host(), run: about.run(), server: None };
        [Tamper::Hold(about.host()), Tamper::HoldDropIn(about.host()), point].map(at_once).into()
    }),
];

/// A version that neither story has.
const OTHER: &str = "v1.32.1+rke2r1";

fn stopped(about: &About<'_>) -> Vec<Wrong> {
    vec![at_once(Tamper::StopUnit(about.host())), at_once(Tamper::KillNode(about.host()))]
}

/// What a node that serves is not.
fn serving(about: &About<'_>) -> Vec<Wrong> {
    let mut wrongs = stopped(about);
    if about.is_server() {
        wrongs.push(at_once(Tamper::Demote(about.host())));
    }
    wrongs
}

fn other_version(about: &About<'_>) -> Tamper {
    let version = if about.field("version") == OLD { OTHER } else { OLD };
    Tamper::Install { host: about.host(), version: version.to_owned() }
}

fn kubelet_of(node: &str, version: &str) -> Wrong {
    merged(Key::node(node), json!({"status": {"nodeInfo": {"kubeletVersion": version}}}))
}

fn not_ready(node: &str) -> Wrong {
    merged(Key::node(node), json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}))
}

fn cordoned(node: &str) -> Wrong {
    let cordon = json!({
        "metadata": {"annotations": {"rke2flow.io/cordoned": "261101-0000-aaaa"}}, "spec": {"unschedulable": true},
    });
    merged(Key::node(node), cordon)
}

fn node_gone(node: &str) -> Wrong {
    at_once(Tamper::RemoveObject(Key::node(node)))
}

fn handed(node: &str) -> Wrong {
    merged(
        Key::node(node),
        json!({"metadata": {"labels": {"rke2flow.io/upgrade-plan": "rke2flow-261101-0000-aaaa-agents"}}}),
    )
}

fn plan_of_ours() -> Wrong {
    let object = json!({
        "apiVersion": "upgrade.cattle.io/v1", "kind": "Plan", "metadata": {"labels": {"rke2flow.io/run": "261101-0000-aaaa"}},
        "spec": {"concurrency": 1, "nodeSelector": {"matchLabels": {"nobody": "has"}}, "version": NEW},
    });
    let key = Key::new("upgrade.cattle.io", "plans", "system-upgrade", "rke2flow-261101-0000-aaaa-agents");
    at_once(Tamper::PutObject { key, object })
}

fn plan(annotations: Value) -> Wrong {
    plan_of("v1.36.0+rke2r1", annotations)
}

fn plan_of(version: &str, annotations: Value) -> Wrong {
    let object = json!({
        "apiVersion": "upgrade.cattle.io/v1", "kind": "Plan", "metadata": {"annotations": annotations},
        "spec": {"concurrency": 1, "nodeSelector": {}, "version": version},
    });
    let key = Key::new("upgrade.cattle.io", "plans", "system-upgrade", "another-plan");
    at_once(Tamper::PutObject { key, object })
}

fn schedule() -> Key {
    Key::new("velero.io", "schedules", "velero", "velero-six-hourly")
}

fn merged(key: Key, patch: Value) -> Wrong {
    at_once(Tamper::MergeObject { key, patch })
}

fn host(name: &str) -> HostName {
    HostName::new(name).expect("a host name")
}
