//! The catalogue's actions, one file each: its fields, its probe, its apply, its tests.

mod bucket_keys;
mod census;
mod changes;
mod clocks;
mod finding;
mod hop;
mod members;
mod snapshot_record;
#[cfg(test)]
pub(crate) mod testing;
mod upgrade_job;
mod upgrade_plan;
mod world;

pub mod choose_point;
pub mod clean_up;
pub mod cluster_reset;
pub mod cluster_version;
pub mod command;
pub mod copy_snapshot;
pub mod cordon;
pub mod create_upgrade_plan;
pub mod data_revision;
pub mod disable_upgrade_plans;
pub mod drain;
pub mod drop_replays;
pub mod enable_unit;
pub mod etcd_leader;
pub mod fetch_release;
pub mod fetch_snapshot;
pub mod forget_lost;
pub mod forget_node;
pub mod gate;
pub mod guard;
pub mod hand_to_upgrade_plan;
pub mod health;
pub mod hold_unit;
pub mod http_check;
pub mod install_version;
pub mod join_cluster;
pub mod kill_node;
pub mod leftovers;
pub mod mark_lost;
pub mod move_aside;
pub mod move_back;
pub mod node_ready;
pub mod pause_schedules;
pub mod point_at;
pub mod ports_closed;
pub mod rebuildable;
pub mod record_point;
pub mod refresh_system_pods;
pub mod rejoinable;
pub mod release_hold;
pub mod remember_cluster;
pub mod remove_ghosts;
pub mod remove_upgrade_plans;
pub mod restart_unit;
pub mod restore_nodes;
pub mod restore_volumes;
pub mod reversible;
pub mod rolled_out;
pub mod running_version;
pub mod same_data;
pub mod save_snapshot;
pub mod sentinel;
pub mod server_token;
pub mod stage_snapshot;
pub mod start_unit;
pub mod still_lost;
pub mod take_from_upgrade_plan;
pub mod uncordon;
pub mod unfence;
pub mod upgrade_controller;
pub mod upload_snapshot;
pub mod velero_backup;
pub mod verify_restored;
pub mod voter;
pub mod voters_healthy;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rke2flow_engine::action::{Action, ActionInfo, Applied, Context, Disruption, Failure, Place, Probe, Receipt};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use clocks::Clocks;
pub(crate) use finding::Finding;
pub(crate) use world::{LEASE_FRESH, World, host_names, host_of, known, moment, restored, stamp};

/// One kind of goal: what the engine knows about it, and how it is looked at and reached.
#[async_trait]
pub trait Goal: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What the engine must know before it runs one.
    const INFO: ActionInfo;

    /// See [`Action::probe`].
    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure>;

    /// See [`Action::apply`]. An action that changes nothing has none.
    async fn apply(&self, _world: &World, context: &Context) -> Result<Applied, Failure> {
        Err(Failure::permanent(format!("{} changes nothing, so it cannot be applied", context.instance)))
    }

    /// See [`Action::steady`].
    fn steady(&self) -> Duration {
        Duration::ZERO
    }
}

/// A goal on a world: what the engine runs.
pub(crate) struct Bound<G> {
    world: World,
    goal: G,
}

impl<G: Goal> Bound<G> {
    /// Binds a goal to the world that it is reached in.
    pub fn action(world: World, goal: G) -> Arc<dyn Action> {
        Arc::new(Self { world, goal })
    }
}

#[async_trait]
impl<G: Goal> Action for Bound<G> {
    async fn probe(&self, context: &Context) -> Result<Probe, Failure> {
        self.goal.probe(&self.world, context).await
    }

    async fn apply(&self, context: &Context) -> Result<Applied, Failure> {
        self.goal.apply(&self.world, context).await
    }

    fn steady(&self) -> Duration {
        self.goal.steady()
    }
}

/// The common case: it changes something, leaves no facts, is no gate and stops no etcd member.
pub(crate) const fn info(name: &'static str, goal: &'static str, place: Place, typical_seconds: u32) -> ActionInfo {
    ActionInfo {
        name,
        revision: 1,
        goal,
        place,
        facts: &[],
        changes: true,
        stops_etcd_member: false,
        disrupts: Disruption::Nothing,
        gate: false,
        typical_seconds,
    }
}

/// What an apply did through a detached order.
pub(crate) fn ordered(receipt: Receipt) -> Applied {
    Applied { receipt: Some(receipt), ..Applied::default() }
}

/// What an apply did otherwise, in one line.
pub(crate) fn noted(note: impl Into<String>) -> Applied {
    Applied { note: note.into(), ..Applied::default() }
}

/// Satisfied when nothing is missing, pending with everything that is.
pub(crate) fn unless_missing(missing: Vec<String>) -> Probe {
    if missing.is_empty() { Probe::satisfied() } else { Probe::pending(missing.join("; ")) }
}
