//! The catalogue's actions, one file each: its fields, its probe, its apply, its tests.

use rke2flow_engine::action::{ActionInfo, Place};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub mod choose_point;
pub mod clean_up;
pub mod cluster_reset;
pub mod cluster_version;
pub mod command;
pub mod cordon;
pub mod disable_upgrade_plans;
pub mod fetch_release;
pub mod gate;
pub mod guard;
pub mod health;
pub mod hold_unit;
pub mod http_check;
pub mod install_version;
pub mod kill_node;
pub mod move_aside;
pub mod node_ready;
pub mod pause_schedules;
pub mod point_at;
pub mod ports_closed;
pub mod record_point;
pub mod refresh_system_pods;
pub mod release_hold;
pub mod remove_ghosts;
pub mod restart_unit;
pub mod restore_volumes;
pub mod running_version;
pub mod save_snapshot;
pub mod sentinel;
pub mod stage_snapshot;
pub mod start_unit;
pub mod uncordon;
pub mod unfence;
pub mod velero_backup;
pub mod verify_restored;
pub mod voter;

/// One kind of goal: what the engine knows about it, and how it is looked at and reached.
pub trait Goal: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What the engine must know before it runs one.
    const INFO: ActionInfo;
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
        gate: false,
        typical_seconds,
    }
}
