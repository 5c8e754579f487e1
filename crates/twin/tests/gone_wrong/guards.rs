//! Guards: each check finds the world that was made wrong for it, says what it saw and what to do, and is content with a
//! right one.

use std::collections::BTreeSet;
use std::sync::Arc;

use rke2flow_engine::cluster::{Cluster, Distribution};
use rke2flow_engine::id::HostName;
use rke2flow_steps::actions::guard::{self, Check, Judgement, Outcome, Question};
use rke2flow_twin::inprocess::{self, Fate};
use rke2flow_twin::kube::store::Key;
use rke2flow_twin::{Estate, Tamper, TwinSpec};
use serde_json::{Value, json};

use crate::rig::{NEW, Rig, paused};

/// A world that is made wrong for one check.
struct Case {
    check: Check,
    outcome: Outcome,
    /// What its message has: of the observation, and of the fix.
    says: [&'static str; 2],
    tampers: Vec<Tamper>,
    /// The version that is meant, when it is another one than the right world's.
    version: Option<&'static str>,
    /// What becomes of the cluster file.
    file: fn(&mut Cluster),
    /// Whether a backup was made before.
    backup: bool,
}

fn case(check: Check, outcome: Outcome, says: [&'static str; 2], tampers: Vec<Tamper>) -> Case {
    Case { check, outcome, says, tampers, version: None, file: |_| {}, backup: true }
}

fn at(check: Check, version: &'static str, says: [&'static str; 2]) -> Case {
    Case { version: Some(version), ..case(check, Outcome::Fail, says, Vec::new()) }
}

fn of_file(check: Check, says: [&'static str; 2], file: fn(&mut Cluster)) -> Case {
    Case { file, ..case(check, Outcome::Fail, says, Vec::new()) }
}

/// What every machine of the right world is: its etcd has every fix.
fn right() -> Estate {
    Estate { etcd_version: "3.5.26".to_owned(), ..Estate::default() }
}

fn host(name: &str) -> HostName {
    HostName::new(name).expect("a host's name")
}

fn estate(name: &str, estate: Estate) -> Tamper {
    Tamper::Estate { host: host(name), estate }
}

fn everywhere(estate_of: impl Fn() -> Estate) -> Vec<Tamper> {
    ["server-0", "server-1", "server-2", "agent-0", "agent-1", "agent-2"].map(|name| estate(name, estate_of())).to_vec()
}

fn put(key: Key, object: Value) -> Tamper {
    Tamper::PutObject { key, object }
}

fn workload(plural: &str, namespace: &str, name: &str) -> Tamper {
    let status = json!({"desiredNumberScheduled": 6});
    put(Key::new("apps", plural, namespace, name), json!({"spec": {"replicas": 1}, "status": status}))
}

fn webhook(policy: &str) -> Tamper {
    let key = Key::new("admissionregistration.k8s.io", "validatingwebhookconfigurations", "", "policy");
    let service = json!({"namespace": "shop", "name": "policy-webhook"});
    let hook = json!({"name": "validate.policy.test", "failurePolicy": policy, "clientConfig": {"service": service}});
    put(key, json!({"webhooks": [hook]}))
}

fn slice(service: &str, ready: bool) -> Tamper {
    let key = Key::new("discovery.k8s.io", "endpointslices", "shop", &format!("{service}-x7k2p"));
    let labels = json!({"kubernetes.io/service-name": service});
    put(key, json!({"metadata": {"labels": labels}, "endpoints": [{"conditions": {"ready": ready}}]}))
}

fn budget(allowed: u32, expected: u32) -> Tamper {
    let key = Key::new("policy", "poddisruptionbudgets", "shop", "db");
    let status =
        json!({"disruptionsAllowed": allowed, "expectedPods": expected, "currentHealthy": 1, "desiredHealthy": 1});
    put(key, json!({"status": status}))
}

fn longhorn(state: &str, robustness: &str) -> Tamper {
    let key = Key::new("longhorn.io", "volumes", "longhorn-system", "pvc-1");
    put(key, json!({"status": {"state": state, "robustness": robustness}}))
}

fn kubelet(name: &str, version: &str) -> Tamper {
    Tamper::MergeObject { key: Key::node(name), patch: json!({"status": {"nodeInfo": {"kubeletVersion": version}}}) }
}

/// Worlds that are wrong: every check has at least one, and each is wrong for its check.
fn wrong() -> Vec<Case> {
    let mut cases = of_hosts();
    cases.extend(of_certificates());
    cases.extend(of_etcd_and_versions());
    cases.extend(of_objects());
    cases.extend(of_backups());
    cases
}

fn of_hosts() -> Vec<Case> {
    use Outcome::{Fail, Warn};
    let one = |change: fn(&mut Estate)| {
        let mut changed = right();
        change(&mut changed);
        vec![estate("server-1", changed)]
    };
    let units = |unit: &str| Estate { units: vec![unit.to_owned()], ..right() };
    let apt = Estate { apt_upgrades: true, apt_reboots: true, ..units("apt-daily-upgrade.timer") };
    vec![
        case(Check::HostsReachable, Fail, ["agent-1", "--lost agent-1"], vec![Tamper::PowerOff(host("agent-1"))]),
        case(
            Check::InstallMethod,
            Fail,
            ["server-1: /usr/bin/rke2 belongs to the package rke2-server-1.33.4", "INSTALL_RKE2_METHOD=tar"],
            one(|estate| estate.package = "rke2-server-1.33.4~rke2r1-0.el9.x86_64".to_owned()),
        ),
        case(
            Check::Architecture,
            Fail,
            ["server-1 is `s390x`", "cluster file"],
            one(|estate| estate.arch = "s390x".to_owned()),
        ),
        case(
            Check::ClockOffset,
            Fail,
            ["server-1's clock is", "chronyc"],
            one(|estate| estate.clock_ahead_seconds = 120),
        ),
        case(Check::ClockOffset, Warn, ["behind", "chronyc"], one(|estate| estate.clock_ahead_seconds = -9)),
        case(
            Check::DiskFree,
            Fail,
            ["server-1 has 100 MiB free", "free 1"],
            one(|estate| estate.disk_free = 100 << 20),
        ),
        case(
            Check::ManagedByRancher,
            Fail,
            ["agent-0: rancher-system-agent.service is active", "through Rancher"],
            vec![estate("agent-0", units("rancher-system-agent.service"))],
        ),
        case(
            Check::OsUpdates,
            Warn,
            ["agent-0: apt-daily-upgrade.timer upgrades the system, and reboots", "systemctl stop"],
            vec![estate("agent-0", apt)],
        ),
        case(
            Check::OsUpdates,
            Warn,
            ["rebootmgr.service", "systemctl stop rebootmgr.service"],
            vec![estate("agent-0", units("rebootmgr.service"))],
        ),
    ]
}

fn of_certificates() -> Vec<Case> {
    use Outcome::{Fail, Warn};
    let one = |change: fn(&mut Estate)| {
        let mut changed = right();
        change(&mut changed);
        vec![estate("server-1", changed)]
    };
    vec![
        case(
            Check::Certificates,
            Fail,
            ["server-1: agent/client-kubelet.crt ends within a day", "restart RKE2"],
            one(|estate| estate.certificate_days = 1),
        ),
        case(Check::Certificates, Warn, ["in 9 days", "restart RKE2"], one(|estate| estate.certificate_days = 10)),
        case(Check::Certificates, Fail, ["server-ca.crt", "rotate-ca"], one(|estate| estate.authority_days = 20)),
    ]
}

fn of_etcd_and_versions() -> Vec<Case> {
    use Outcome::{Fail, Warn};
    let etcd = |version: &str| vec![estate("server-2", Estate { etcd_version: version.to_owned(), ..right() })];
    let token = Tamper::Token { host: host("server-1"), token: "another".to_owned() };
    vec![
        case(
            Check::EtcdQuorum,
            Fail,
            ["server-2: it is a learner", "journalctl"],
            vec![Tamper::Demote(host("server-2"))],
        ),
        case(
            Check::EtcdQuorum,
            Fail,
            ["server-2: the unit is inactive", "journalctl"],
            vec![Tamper::KillNode(host("server-2"))],
        ),
        case(Check::EtcdAlarms, Fail, ["ALARM NOSPACE", "alarm disarm"], vec![Tamper::Alarm("NOSPACE".to_owned())]),
        case(Check::EtcdAlarms, Fail, ["ALARM CORRUPT", "rollback"], vec![Tamper::Alarm("CORRUPT".to_owned())]),
        case(Check::EtcdPath, Fail, ["server-2 runs etcd 3.5.12", "newest patch release"], etcd("3.5.12")),
        case(Check::EtcdPath, Warn, ["server-2 runs etcd 3.5.21", "newest patch release"], etcd("3.5.21")),
        case(
            Check::VersionSkew,
            Fail,
            ["agent-0 runs v1.29.1+rke2r1", "bring agent-0"],
            vec![kubelet("agent-0", "v1.29.1+rke2r1")],
        ),
        case(
            Check::VersionSkew,
            Fail,
            ["more than one minor release apart", "finish that upgrade"],
            vec![kubelet("server-0", "v1.31.1+rke2r1")],
        ),
        case(
            Check::VersionSkew,
            Fail,
            ["the API has no node agent-2", "kubectl get node"],
            vec![Tamper::RemoveObject(Key::node("agent-2"))],
        ),
        at(Check::OneMinor, "v1.35.0+rke2r1", ["skips a minor release", "each minor in between"]),
        at(Check::NoDowngrade, "v1.33.3+rke2r1", ["would be a downgrade", "rollback"]),
        case(
            Check::ServerToken,
            Fail,
            ["server-1 has another token than server-0", "server/token of server-1"],
            vec![token],
        ),
    ]
}

fn of_objects() -> Vec<Case> {
    use Outcome::{Fail, Warn};
    let known = |plural, namespace, name, does, fix| {
        case(Check::OtherControllers, Warn, [does, fix], vec![workload(plural, namespace, name)])
    };
    vec![
        case(
            Check::Webhooks,
            Fail,
            ["policy: nobody answers validate.policy.test (service shop/policy-webhook", "failurePolicy Ignore"],
            vec![webhook("Fail"), slice("policy-webhook", false), slice("other", true)],
        ),
        case(Check::DisruptionBudgets, Fail, ["shop/db allows no eviction", "edit pdb db"], vec![budget(0, 1)]),
        case(
            Check::LonghornVolumes,
            Fail,
            ["volume pvc-1 is degraded", "pvc-1"],
            vec![longhorn("attached", "degraded")],
        ),
        case(Check::LonghornVolumes, Fail, ["pvc-1 is faulted", "pvc-1"], vec![longhorn("detached", "faulted")]),
        known("daemonsets", "kube-system", "kured", "kube-system/kured reboots nodes", "weave.works/kured-node-lock"),
        known("statefulsets", "argocd", "argocd-application-controller", "argocd/", "--sync-policy none"),
        known("deployments", "flux-system", "kustomize-controller", "(Flux)", "flux suspend"),
        known("deployments", "kube-system", "aws-cluster-autoscaler", "removes nodes", "scale cluster-autoscaler to 0"),
        known("deployments", "kube-system", "karpenter", "removes nodes", "scale karpenter"),
        known("deployments", "cattle-system", "cattle-cluster-agent", "Rancher", "in Rancher"),
        known("deployments", "kube-system", "descheduler", "evicts pods", "descheduler to 0"),
    ]
}

fn of_backups() -> Vec<Case> {
    use Outcome::Warn;
    let never = Case {
        backup: false,
        ..case(Check::BackupFreshness, Warn, ["there is no recovery point", "run backup"], vec![])
    };
    let servers = ["server-0", "server-1", "server-2"];
    let days_later = everywhere(|| Estate { clock_ahead_seconds: 3 * 24 * 3600, ..right() });
    let other_token = servers.map(|name| Tamper::Token { host: host(name), token: "another".to_owned() }).to_vec();
    vec![
        never,
        case(Check::BackupFreshness, Warn, ["is 3 days old", "run backup"], days_later),
        case(Check::BackupFreshness, Warn, ["was taken under another token", "run backup"], other_token),
        of_file(Check::EtcdBackupRequiresS3Config, ["etcd_backup.enabled=true requires", "set `s3`"], |cluster| {
            cluster.s3 = None
        }),
        of_file(Check::VeleroRequiresS3Config, ["velero.enabled=true requires S3", "set `s3`"], |cluster| {
            cluster.s3 = None
        }),
        of_file(Check::VeleroRequiresCsi, ["hcloud_csi.preinstall=true", "CSI driver"], |cluster| {
            cluster.velero.as_mut().expect("the twin has Velero").csi = false;
        }),
    ]
}

/// What only K3s can be.
fn of_k3s() -> Vec<Case> {
    let sqlite = Estate { datastore: "sqlite".to_owned(), ..right() };
    let flag = Estate { unit_server: "https://10.9.9.9:6443".to_owned(), ..right() };
    vec![
        case(
            Check::EmbeddedEtcd,
            Outcome::Fail,
            ["server-1 keeps the cluster in SQLite", "--cluster-init"],
            vec![estate("server-1", sqlite)],
        ),
        case(
            Check::ServerFlag,
            Outcome::Fail,
            ["the unit of agent-0 says --server https://10.9.9.9:6443", "config.yaml"],
            vec![estate("agent-0", flag)],
        ),
    ]
}

/// Worlds that are right for a check, beside the one that is right for all: what looks alike and is not wrong.
fn right_too() -> Vec<(Check, Vec<Tamper>)> {
    let quiet = Estate { units: vec!["apt-daily-upgrade.timer".to_owned()], ..right() };
    let asleep = Key::new("apps", "deployments", "kube-system", "cluster-autoscaler");
    vec![
        (Check::OsUpdates, vec![estate("agent-0", quiet)]),
        (Check::Webhooks, vec![webhook("Ignore")]),
        (Check::Webhooks, vec![webhook("Fail"), slice("policy-webhook", true)]),
        (Check::DisruptionBudgets, vec![budget(0, 0)]),
        (Check::DisruptionBudgets, vec![budget(1, 2)]),
        (Check::LonghornVolumes, vec![longhorn("attached", "healthy")]),
        (Check::LonghornVolumes, vec![longhorn("detached", "unknown")]),
        (Check::OtherControllers, vec![put(asleep, json!({"spec": {"replicas": 0}}))]),
    ]
}

const NEW_K3S: &str = "v1.34.1+k3s1";

async fn judged(rig: &Rig, case: &Case) -> Judgement {
    let mut cluster = (*rig.cluster).clone();
    (case.file)(&mut cluster);
    let access = inprocess::access_without(&rig.twin, Arc::new(cluster), Arc::new(|_| Fate::Go), &[]);
    let k3s = rig.cluster.distribution == Distribution::K3s;
    let version = case.version.unwrap_or(if k3s { NEW_K3S } else { NEW }).to_owned();
    let question = Question { version, drains: Some(true), ..Question::default() };
    let all = guard::examine(&access, &question).await;
    all.into_iter().find(|judgement| judgement.check == case.check).expect("every check is judged")
}

fn make_wrong(rig: &Rig, tampers: &[Tamper]) {
    for tamper in tampers {
        rig.twin.tamper(tamper.clone()).unwrap_or_else(|why| panic!("{tamper:?}: {why}"));
    }
}

#[test]
fn each_check_finds_the_world_that_was_made_wrong_for_it_and_is_content_with_a_right_one() {
    paused(async {
        let mut rig = Rig::new(TwinSpec::default());
        make_wrong(&rig, &everywhere(right));
        let newborn = rig.twin.save();
        let ended = rig.run("backup", &[]).await;
        assert!(ended.well(), "{ended:?}");
        let backed_up = rig.twin.save();
        for check in Check::ALL {
            let judgement = judged(&rig, &case(*check, Outcome::Pass, ["", ""], Vec::new())).await;
            assert_eq!(judgement.outcome, Outcome::Pass, "in a right world: {}", judgement.explained());
        }
        for (check, tampers) in right_too() {
            make_wrong(&rig, &tampers);
            let judgement = judged(&rig, &case(check, Outcome::Pass, ["", ""], Vec::new())).await;
            assert_eq!(judgement.outcome, Outcome::Pass, "{tampers:?}: {}", judgement.explained());
            rig.twin.restore(&backed_up);
        }
        for case in wrong() {
            rig.twin.restore(if case.backup { &backed_up } else { &newborn });
            make_wrong(&rig, &case.tampers);
            let judgement = judged(&rig, &case).await;
            let told = judgement.explained();
            assert_eq!(judgement.outcome, case.outcome, "{:?}: {told}", case.tampers);
            let [observed, fix] = case.says;
            assert!(judgement.observed.contains(observed), "`{observed}` is not in: {told}");
            assert!(judgement.fix.contains(fix), "`{fix}` is not in the fix of: {told}");
        }
    });
}

#[test]
fn what_only_k3s_can_be_is_found_there_and_not_missed_in_rke2() {
    paused(async {
        for distribution in [Distribution::Rke2, Distribution::K3s] {
            for case in of_k3s() {
                let rig = Rig::new(TwinSpec::of(distribution));
                assert_eq!(judged(&rig, &case).await.outcome, Outcome::Pass);
                make_wrong(&rig, &case.tampers);
                let judgement = judged(&rig, &case).await;
                if distribution == Distribution::Rke2 {
                    assert_eq!(judgement.outcome, Outcome::Pass, "{}", judgement.explained());
                    continue;
                }
                assert_eq!(judgement.outcome, case.outcome, "{}", judgement.explained());
                assert!(judgement.observed.contains(case.says[0]), "{}", judgement.explained());
                assert!(judgement.fix.contains(case.says[1]), "{}", judgement.explained());
            }
        }
    });
}

#[test]
fn every_check_has_a_world_that_is_wrong_for_it_at_its_own_level() {
    let shown: BTreeSet<Check> = [wrong(), of_k3s()]
        .iter()
        .flatten()
        .filter(|case| {
            case.outcome == if case.check.level() == guard::Level::Refuse { Outcome::Fail } else { Outcome::Warn }
        })
        .map(|case| case.check)
        .collect();
    assert_eq!(shown, Check::ALL.iter().copied().collect());
}

#[test]
fn an_upgrade_that_a_guard_refuses_changes_nothing_and_one_that_is_warned_goes_on() {
    paused(async {
        let mut rig = Rig::new(TwinSpec::default());
        let units = vec!["rancher-system-agent.service".to_owned()];
        make_wrong(&rig, &[estate("server-1", Estate { units, ..right() })]);
        let ended = rig.run("upgrade", &[]).await;
        let failures = ended.failures();
        assert!(failures.len() == 1 && failures[0].0.starts_with("guards/Guard"), "{ended:?}");
        let (failure, text) = (&failures[0].1, failures[0].1.to_string());
        assert!(text.contains("FAIL managed_by_rancher") && text.contains("fix: upgrade through Rancher"), "{text}");
        assert!(failure.next.contains("--waive managed_by_rancher=REASON"), "{}", failure.next);
        for (name, _) in rig.twin.spec().hosts() {
            assert!(rig.twin.files(&name).iter().all(|path| !path.contains("snapshots")), "{name} has a snapshot");
        }

        let mut rig = Rig::new(TwinSpec::default());
        make_wrong(&rig, &[workload("deployments", "autoscaler", "cluster-autoscaler")]);
        let ended = rig.run("upgrade", &[]).await;
        assert!(ended.well(), "{ended:?}");
    });
}
