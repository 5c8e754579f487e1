//! Deliberately wrong runbooks: the rehearsal of each fails, and the twin names what was wrong.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rke2flow_engine::action::FailureClass;
use rke2flow_twin::{TwinSpec, ViolationKind as V};

use crate::rig::{Ended, Rig, paused};

/// What becomes of a wrong runbook.
struct Row {
    name: &'static str,
    /// What the twin says, and nothing else.
    violations: &'static [V],
    /// What an action refuses before more harm is done; empty: the run ends well, and only the twin knows better.
    refused: &'static str,
}

const ROWS: &[Row] = &[
    Row { name: "agents-left-new", violations: &[V::VersionsDiffer], refused: "" },
    Row { name: "agents-left-old", violations: &[V::VersionsDiffer], refused: "" },
    Row { name: "cordon-left", violations: &[V::FenceLeftUp], refused: "" },
    Row {
        name: "downgrade-without-reset",
        violations: &[V::VersionsDiffer, V::ClusterDown],
        refused: "RestartUnit was not reached",
    },
    Row { name: "fence-left-up", violations: &[V::FenceLeftUp], refused: "" },
    Row { name: "hold-never-released", violations: &[V::FenceLeftUp, V::ClusterDown], refused: "" },
    Row {
        name: "init-emptied-after-reset",
        violations: &[V::AcknowledgedWriteLost, V::FenceLeftUp, V::EmptyCluster, V::ClusterDown],
        refused: "",
    },
    Row { name: "installed-never-restarted", violations: &[V::VersionsDiffer], refused: "" },
    Row {
        name: "joiners-downgraded-not-cleaned",
        violations: &[V::FenceLeftUp, V::ClusterDown],
        refused: "StartUnit was not reached",
    },
    Row {
        name: "others-not-killed",
        violations: &[V::FenceLeftUp, V::VersionsDiffer, V::ClusterDown],
        refused: "cannot reset etcd while another server is alive",
    },
    Row { name: "plans-left", violations: &[V::PlanLeft], refused: "" },
    Row {
        name: "reset-again-after-start",
        violations: &[V::ResetAfterStart, V::FenceLeftUp, V::ClusterDown],
        refused: "",
    },
    Row { name: "reset-twice", violations: &[V::FenceLeftUp, V::ClusterDown], refused: "" },
    Row {
        name: "restored-server-never-started",
        violations: &[V::WriteSurvivedRollback, V::FenceLeftUp, V::VersionsDiffer, V::StaleJoiner, V::ClusterDown],
        refused: "",
    },
    Row { name: "secret-in-a-command", violations: &[V::SecretExposed], refused: "" },
    Row { name: "server-stopped", violations: &[V::ClusterDown], refused: "" },
    Row { name: "servers-at-once", violations: &[V::QuorumLost, V::ApiLost], refused: "" },
    Row { name: "servers-left-old", violations: &[V::VersionsDiffer], refused: "" },
    Row {
        name: "stale-joiners",
        violations: &[V::TwoControlPlanes, V::FenceLeftUp, V::VersionsDiffer, V::StaleJoiner, V::ClusterDown],
        refused: "Voter was not reached",
    },
    Row { name: "unfence-forgotten-after-restore", violations: &[V::FenceLeftUp], refused: "" },
    Row {
        name: "wrong-snapshot",
        violations: &[V::FenceLeftUp, V::ClusterDown],
        refused: "refused: expected no sentinel",
    },
];

#[test]
fn each_wrong_runbook_fails_the_rehearsal_and_the_twin_says_why() {
    let mut wrong = Vec::new();
    for row in ROWS {
        paused(async {
            let (rig, ended) = rehearse(row.name).await;
            if rig.kinds() != row.violations {
                wrong.push(format!("{}: {:#?}", row.name, rig.twin.judge()));
            }
            let failed = ended.failures();
            let as_expected = match row.refused {
                "" => ended.well(),
                refused => failed.iter().any(|(_, failure)| failure.what.starts_with(refused)),
            };
            if !as_expected {
                wrong.push(format!("{}: {ended:#?}", row.name));
            }
        });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_wrong_runbook_has_its_row() {
    let files: BTreeSet<String> = std::fs::read_dir(directory())
        .expect("the directory is part of the project")
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_string_lossy().into_owned()))
        .collect();
    assert_eq!(files, ROWS.iter().map(|row| row.name.to_owned()).collect());
}

/// What no runbook can do, because the actions or the engine prevent it: proved on the twin by hand (`tests/wrong.rs`).
#[test]
fn every_kind_of_violation_is_proved_by_a_runbook_or_cannot_be_done_by_one() {
    let by_runbook: BTreeSet<V> = ROWS.iter().flat_map(|row| row.violations.iter().copied()).collect();
    // A unit's name holds run, instance and attempt, and the host refuses a name that it knows.
    let by_hand = BTreeSet::from([V::UnitRunTwice]);
    assert_eq!(V::ALL.into_iter().collect::<BTreeSet<V>>(), by_runbook.union(&by_hand).copied().collect());
}

#[test]
fn the_right_runbooks_have_no_violation() {
    paused(async {
        let mut rig = Rig::upgraded(TwinSpec::default()).await;
        assert_eq!(rig.kinds(), [], "{:#?}", rig.twin.judge());
        for name in ["backup", "health", "rollback", "upgrade", "rollback"] {
            let ended = rig.run(name, &[]).await;
            assert!(ended.well(), "{name}: {ended:?}");
            assert_eq!(rig.kinds(), [], "{name}: {:#?}", rig.twin.judge());
        }
    });
}

#[test]
fn cleaning_the_init_server_after_its_reset_moves_nothing() {
    let late = r#"(id: "late", phase: "outage", on: Init, needs: [All("reset")], do: [MoveAside(parts: [Etcd])]),
        (
            id: "start-0", phase: "outage", on: Init, needs: [All("late")],"#;
    let text = text("agents-left-new")
        .replace("on: Servers, hosts_at_once", "on: All, hosts_at_once")
        .replace("(\n            id: \"start-0\", phase: \"outage\", on: Init, needs: [All(\"reset\")],", late);
    assert!(text.contains("\"late\""));
    paused(async {
        let mut rig = Rig::upgraded(TwinSpec::default()).await;
        let ended = rig
            .run_text(
                "late",
                &text.replace(
                    "on: All, hosts_at_once: \"all\", needs: [All(\"previous\")]",
                    "on: Servers, hosts_at_once: \"all\", needs: [All(\"previous\")]",
                ),
                &[],
            )
            .await;
        assert!(ended.well() && rig.kinds().is_empty(), "{ended:#?} {:#?}", rig.twin.judge());
    });
}

#[test]
fn several_servers_at_once_outside_an_outage_are_refused_before_anything_runs() {
    let rig = paused(async { Rig::new(TwinSpec::default()) });
    let text = text("servers-at-once").replace("clock: Outage", "clock: Before");
    let refused = rig.plan("servers-at-once", &text, &[]).expect_err("it is refused");
    assert!(refused.contains("hosts_at_once") && refused.contains("servers"), "{refused}");
}

#[test]
fn what_a_host_refuses_is_not_tried_again() {
    paused(async {
        let (rig, ended) = rehearse("others-not-killed").await;
        assert_eq!(rig.failed_attempts().len(), 1, "{ended:#?}");
        assert!(ended.failures().iter().all(|(_, failure)| failure.class == FailureClass::Permanent), "{ended:#?}");
    });
}

/// Carries it out where a person would: a runbook that takes the place of an upgrade comes after one.
async fn rehearse(name: &str) -> (Rig, Ended) {
    let text = text(name);
    let mut rig = match text.contains("supersedes: true") {
        true => Rig::upgraded(TwinSpec::default()).await,
        false => Rig::new(TwinSpec { upgrade_controller: text.contains("UpgradePlan("), ..TwinSpec::default() }),
    };
    assert_eq!(rig.kinds(), [], "before {name}");
    let ended = rig.run_text(name, &text, &[]).await;
    (rig, ended)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(directory().join(format!("{name}.ron"))).expect("the file is part of the project")
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/wrong")
}
