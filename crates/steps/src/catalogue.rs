//! The table of contents of the actions: their enum for runbooks, and the catalogue that the engine asks by name.

use std::sync::Arc;

use async_trait::async_trait;
use rke2flow_engine::action::{Action, ActionInfo, ActionSpec, Applied, Catalogue, Context, Failure, Place, Probe};
use rke2flow_engine::id::Target;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::actions::{Bound, Goal, World};
use crate::ports::Access;

macro_rules! catalogue {
    ($($module:ident::$name:ident),* $(,)?) => {
        $(pub use crate::actions::$module::$name;)*

        /// Any action of a runbook: one variant per action, named as it is written.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub enum AnyAction {
            $(
                #[doc = concat!("See [`", stringify!($name), "`].")]
                $name($name),
            )*
        }

        impl ActionSpec for AnyAction {
            fn name(&self) -> &'static str {
                match self {
                    $(AnyAction::$name(_) => $name::INFO.name,)*
                }
            }

            fn fields(&self) -> Value {
                let fields = match self {
                    $(AnyAction::$name(fields) => serde_json::to_value(fields),)*
                };
                fields.expect("fields are texts, numbers and lists")
            }
        }

        /// Every action, in the order of the reference.
        const INFOS: &[&ActionInfo] = &[$(&$name::INFO),*];

        fn bind(world: Option<&World>, name: &str, fields: &Value) -> Result<Arc<dyn Action>, String> {
            match name {
                $(stringify!($name) => bind_one::<$name>(world, fields),)*
                _ => Err(format!("there is no action `{name}`")),
            }
        }
    };
}

catalogue! {
    guard::Guard,
    choose_point::ChoosePoint,
    gate::Gate,
    sentinel::Sentinel,
    velero_backup::VeleroBackup,
    save_snapshot::SaveSnapshot,
    upload_snapshot::UploadSnapshot,
    copy_snapshot::CopySnapshot,
    record_point::RecordPoint,
    fetch_release::FetchRelease,
    reversible::Reversible,
    fetch_snapshot::FetchSnapshot,
    stage_snapshot::StageSnapshot,
    install_version::InstallVersion,
    hold_unit::HoldUnit,
    release_hold::ReleaseHold,
    kill_node::KillNode,
    ports_closed::PortsClosed,
    move_aside::MoveAside,
    move_back::MoveBack,
    point_at::PointAt,
    cluster_reset::ClusterReset,
    start_unit::StartUnit,
    join_cluster::JoinCluster,
    restart_unit::RestartUnit,
    running_version::RunningVersion,
    voter::Voter,
    voters_healthy::VotersHealthy,
    etcd_leader::EtcdLeader,
    node_ready::NodeReady,
    verify_restored::VerifyRestored,
    remember_cluster::RememberCluster,
    restore_nodes::RestoreNodes,
    cordon::Cordon,
    uncordon::Uncordon,
    drain::Drain,
    disable_upgrade_plans::DisableUpgradePlans,
    upgrade_controller::UpgradeController,
    create_upgrade_plan::CreateUpgradePlan,
    hand_to_upgrade_plan::HandToUpgradePlan,
    take_from_upgrade_plan::TakeFromUpgradePlan,
    remove_upgrade_plans::RemoveUpgradePlans,
    pause_schedules::PauseSchedules,
    drop_replays::DropReplays,
    remove_ghosts::RemoveGhosts,
    refresh_system_pods::RefreshSystemPods,
    unfence::Unfence,
    restore_volumes::RestoreVolumes,
    leftovers::Leftovers,
    rolled_out::RolledOut,
    health::Health,
    http_check::HttpCheck,
    cluster_version::ClusterVersion,
    data_revision::DataRevision,
    same_data::SameData,
    command::Command,
    clean_up::CleanUp,
    still_lost::StillLost,
    mark_lost::MarkLost,
    forget_lost::ForgetLost,
    rejoinable::Rejoinable,
    forget_node::ForgetNode,
    rebuildable::Rebuildable,
    server_token::ServerToken,
    enable_unit::EnableUnit,
}

/// The actions of this product, on one cluster or on none.
#[derive(Clone)]
pub struct StepsCatalogue {
    world: Option<World>,
}

impl StepsCatalogue {
    /// A catalogue whose actions reach the world through `access`.
    pub fn new(access: Access) -> Self {
        Self { world: Some(World::new(access)) }
    }

    /// A catalogue for reading, checking and planning without a cluster: its actions are checked when they are bound,
    /// and cannot be run.
    pub fn offline() -> Self {
        Self { world: None }
    }
}

/// What is known about an action, without a cluster; `None` when there is none of this name.
pub fn info(name: &str) -> Option<&'static ActionInfo> {
    INFOS.iter().copied().find(|info| info.name == name)
}

/// Every action, in the order of the reference.
pub fn infos() -> &'static [&'static ActionInfo] {
    INFOS
}

impl Catalogue for StepsCatalogue {
    fn info(&self, name: &str) -> Option<&'static ActionInfo> {
        info(name)
    }

    fn names(&self) -> Vec<&'static str> {
        INFOS.iter().map(|info| info.name).collect()
    }

    fn bind(&self, name: &str, fields: &Value, target: &Target) -> Result<Arc<dyn Action>, String> {
        let info = info(name).ok_or_else(|| format!("there is no action `{name}`"))?;
        match (info.place, target) {
            (Place::Operator, Target::Host(host)) => {
                Err(format!("{name} runs on the operator's machine, not on {host}: use `on: Operator`"))
            }
            (Place::Host, Target::Operator) => {
                Err(format!("{name} runs for a host: use `on: Servers` or another selector"))
            }
            _ => bind(self.world.as_ref(), name, fields),
        }
    }
}

fn bind_one<G: Goal>(world: Option<&World>, fields: &Value) -> Result<Arc<dyn Action>, String> {
    let goal: G = serde_json::from_value(fields.clone()).map_err(|error| format!("{}: {error}", G::INFO.name))?;
    Ok(match world {
        Some(world) => Bound::action(world.clone(), goal),
        None => Arc::new(Offline { name: G::INFO.name }),
    })
}

/// An action that was bound without a cluster.
struct Offline {
    name: &'static str,
}

impl Offline {
    fn failure(&self) -> Failure {
        Failure::permanent(format!("{} cannot be run without a cluster", self.name))
    }
}

#[async_trait]
impl Action for Offline {
    async fn probe(&self, _context: &Context) -> Result<Probe, Failure> {
        Err(self.failure())
    }

    async fn apply(&self, _context: &Context) -> Result<Applied, Failure> {
        Err(self.failure())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rke2flow_engine::id::HostName;
    use serde_json::json;

    use super::*;

    /// The names of an action's fields, as its own refusal of an unknown one tells them.
    fn fields(info: &ActionInfo) -> Vec<String> {
        let target = match info.place {
            Place::Operator => Target::Operator,
            _ => Target::Host(HostName::new("server-0").unwrap()),
        };
        let refusal = StepsCatalogue::offline().bind(info.name, &json!({ "?": 1 }), &target).err().unwrap();
        let expected = refusal.split_once("expected").map_or("", |(_, expected)| expected);
        expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    fn reference() -> String {
        let mut text = include_str!("../../../docs/src/actions.md").split("\n| Action").next().unwrap().to_owned();
        text.push_str("\n| Action | Goal | Runs | Fields | Facts |\n|---|---|---|---|---|\n");
        for info in infos() {
            let place = match info.place {
                Place::Operator => "on the operator's machine",
                Place::Host => "for a host",
                Place::Anywhere => "anywhere",
            };
            let facts: Vec<&str> = info.facts.iter().map(|fact| fact.name).collect();
            let looks = if info.changes || info.gate { "" } else { " (looks only)" };
            let row = [info.name, &format!("{}{looks}", info.goal), place, &fields(info).join(", "), &facts.join(", ")];
            text.push_str(&format!("| {} |\n", row.join(" | ")));
        }
        text
    }

    #[test]
    fn the_reference_of_actions_is_the_catalogue() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/actions.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap();
        assert!(written == reference(), "docs/src/actions.md is old: run this test with UPDATE_DOCS=1");
    }

    #[test]
    fn every_action_has_a_name_and_a_goal_of_its_own() {
        let names: BTreeMap<&str, &str> = infos().iter().map(|info| (info.name, info.goal)).collect();
        assert_eq!(names.len(), infos().len());
        assert!(names.values().all(|goal| !goal.is_empty() && !goal.ends_with('.')));
    }

    #[test]
    fn an_action_is_bound_only_where_it_can_run_and_only_with_fields_that_it_has() {
        let catalogue = StepsCatalogue::offline();
        let host = Target::Host(HostName::new("server-0").unwrap());
        let refusal = |name: &str, fields: Value, target: &Target| catalogue.bind(name, &fields, target).err().unwrap();
        assert!(refusal("StartUnit", json!({}), &Target::Operator).contains("runs for a host"));
        assert!(refusal("Health", json!({}), &host).contains("runs on the operator's machine"));
        assert!(refusal("StartUnit", json!({ "force": true }), &host).contains("unknown field `force`"));
        assert!(refusal("StartUnti", json!({}), &host).contains("no action `StartUnti`"));
        assert!(catalogue.bind("StartUnit", &json!({}), &host).is_ok());
    }
}
