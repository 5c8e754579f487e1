//! Detached units: an order is taken once, runs stage by stage, and leaves a receipt.

use std::time::Duration;

use rke2flow_engine::id::HostName;
use rke2flow_steps::answer::{REFUSED_EXIT, ReceiptAnswer};
use rke2flow_steps::command::{Change, Order};
use rke2flow_steps::render::encode_text;

use crate::host::describe_change;
use crate::judge::ViolationKind;
use crate::spec::Fault;
use crate::world::World;
use crate::world::event::Event;
use crate::world::log::EntryKind;

/// Bytes of a receipt's output that an answer shows.
const TAIL_BYTES: usize = 3072;

/// An order that the host has taken.
#[derive(Debug, Clone)]
pub struct OrderRun {
    /// The order.
    pub order: Order,
    /// How far it got.
    pub progress: Progress,
    /// The boot in which it started.
    pub boot: String,
    /// What it printed.
    pub out: String,
}

/// How far an order got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Its unit is active.
    Running {
        /// Index of the stage that is under way.
        stage: usize,
    },
    /// It came to its end.
    Finished {
        /// Exit status.
        exit: i32,
    },
    /// Its unit is gone and left no exit.
    Gone,
}

impl World {
    /// Takes an order: refused without the claim, a receipt when it is known, otherwise its unit starts.
    pub(crate) fn order(&mut self, name: &HostName, order: &Order) -> ReceiptAnswer {
        let host = self.host(name);
        let allowed = host.claim.as_ref().is_some_and(|held| held.claim == order.claim && !held.released);
        if !allowed {
            return ReceiptAnswer::Refused(host.claim.clone());
        }
        let unit = order.unit.as_str().to_owned();
        if host.orders.contains_key(&unit) {
            return self.receipt(name, &unit);
        }
        let run = OrderRun {
            order: order.clone(),
            progress: Progress::Running { stage: 0 },
            boot: host.boot_id(),
            out: String::new(),
        };
        self.host_mut(name).orders.insert(unit.clone(), run);
        let what = format!("start {}", describe_change(&order.change));
        self.recorder.record(Some(name), EntryKind::Write, what, Some(unit.clone()));
        if !self.evidence.units_started.insert((name.clone(), unit.clone())) {
            self.violate(ViolationKind::UnitRunTwice, Some(name), &format!("{unit} was started again"));
        }
        self.next_stage(name, &unit, 0);
        self.receipt(name, &unit)
    }

    /// What became of an order.
    pub(crate) fn receipt(&self, name: &HostName, unit: &str) -> ReceiptAnswer {
        let Some(run) = self.host(name).orders.get(unit) else { return ReceiptAnswer::Unknown };
        match run.progress {
            Progress::Running { .. } => ReceiptAnswer::Running,
            Progress::Gone => ReceiptAnswer::Interrupted { boot: run.boot.clone() },
            Progress::Finished { exit } => {
                let from = run.out.len().saturating_sub(TAIL_BYTES);
                let tail = run.out.get(from..).unwrap_or(&run.out);
                ReceiptAnswer::Finished { exit, boot: run.boot.clone(), tail: encode_text(tail.as_bytes()) }
            }
        }
    }

    /// A stage has run long enough: its effect, then the next one.
    pub(crate) fn run_stage(&mut self, name: &HostName, unit: &str, index: usize) {
        let Some(run) = self.host(name).orders.get(unit) else { return };
        if !self.host(name).powered || run.progress != (Progress::Running { stage: index }) {
            return;
        }
        let order = run.order.clone();
        let stages = order.change.stages();
        let change = describe_change(&order.change);
        if self.struck(name, &change, index, Strike::Fail) {
            return self.finish(name, unit, 1, &format!("stage {}: injected failure\n", stages[index]));
        }
        match self.stage(name, &order, stages[index]) {
            Err(text) => self.finish(name, unit, exit_of(stages[index]), &format!("{text}\n")),
            Ok(text) if text.is_empty() => {}
            Ok(text) => self.print(name, unit, &format!("{text}\n")),
        }
        let running = |world: &World| {
            matches!(world.host(name).orders.get(unit).map(|run| &run.progress), Some(Progress::Running { .. }))
        };
        if !running(self) {
            return;
        }
        if self.struck(name, &change, index, Strike::Cut) {
            self.set_progress(name, unit, Progress::Gone);
        } else if index + 1 == stages.len() {
            self.finish(name, unit, 0, "");
        } else {
            self.next_stage(name, unit, index + 1);
        }
    }

    /// Stops a unit of ours that runs: no exit is left.
    pub(crate) fn stop_order(&mut self, name: &HostName, unit: &str) {
        if let Some(run) = self.host_mut(name).orders.get_mut(unit)
            && matches!(run.progress, Progress::Running { .. })
        {
            run.progress = Progress::Gone;
        }
    }

    /// Our units that are active on a host.
    pub(crate) fn active_orders(&self, name: &HostName) -> Vec<String> {
        let active = self.host(name).orders.iter().filter(|(_, run)| matches!(run.progress, Progress::Running { .. }));
        active.map(|(unit, _)| unit.clone()).collect()
    }

    fn next_stage(&mut self, name: &HostName, unit: &str, index: usize) {
        let Some(run) = self.host(name).orders.get(unit) else { return };
        let (change, stage) = (run.order.change.clone(), run.order.change.stages()[index]);
        let delay = self.stage_takes(name, &change, stage);
        self.begin_stage(name, unit, stage);
        self.set_progress(name, unit, Progress::Running { stage: index });
        self.after(delay, Event::Stage { host: name.clone(), unit: unit.to_owned(), index });
    }

    fn finish(&mut self, name: &HostName, unit: &str, exit: i32, text: &str) {
        self.print(name, unit, text);
        self.set_progress(name, unit, Progress::Finished { exit });
    }

    fn print(&mut self, name: &HostName, unit: &str, text: &str) {
        self.look_for_secrets(name, text, "output of a unit");
        if let Some(run) = self.host_mut(name).orders.get_mut(unit) {
            run.out.push_str(text);
        }
    }

    fn set_progress(&mut self, name: &HostName, unit: &str, progress: Progress) {
        if let Some(run) = self.host_mut(name).orders.get_mut(unit) {
            run.progress = progress;
        }
    }

    fn struck(&mut self, name: &HostName, change: &str, index: usize, strike: Strike) -> bool {
        self.strikes(|fault| match (fault, strike) {
            (Fault::UnitFails { host, change: of, stage, times }, Strike::Fail)
            | (Fault::UnitCut { host, change: of, stage, times }, Strike::Cut)
                if of == change && *stage == index && host.as_ref().is_none_or(|host| host == name) =>
            {
                Some(times)
            }
            _ => None,
        })
    }

    /// How long a stage takes.
    fn stage_takes(&self, name: &HostName, change: &Change, stage: &str) -> Duration {
        use crate::world::durations as take;
        match (change, stage) {
            (Change::FetchRelease { version, .. }, "download") => match self.host(name).disk.releases.get(version) {
                Some(_) => take::SMALL,
                None => take::DOWNLOAD,
            },
            (Change::FetchRelease { .. } | Change::InstallVersion { .. }, "verify" | "verify-release") => {
                take::VERIFY_RELEASE
            }
            (Change::InstallVersion { .. }, "install") => take::INSTALL,
            (_, "verify-source" | "verify-copy" | "verify-snapshot") => take::VERIFY_SNAPSHOT,
            (_, "unpack") => take::UNPACK_SNAPSHOT,
            (_, "save") => take::SAVE_SNAPSHOT,
            (_, "upload" | "fetch") => take::TRANSFER_SNAPSHOT,
            (_, "stop-unit" | "restart") => take::STOP_UNIT,
            (Change::KillNode { grace_seconds } | Change::JoinAnew { grace_seconds }, "terminate") => {
                match self.host(name).pods {
                    Some(_) => Duration::from_secs(u64::from(*grace_seconds).min(5)),
                    None => take::SMALL,
                }
            }
            (Change::KillNode { .. } | Change::JoinAnew { .. }, "kill") => take::KILLALL,
            (_, "reset") if !self.host(name).disk.static_pods.is_empty() => {
                take::CLUSTER_RESET + take::STATIC_POD_CLEANUP
            }
            (_, "reset") => take::CLUSTER_RESET,
            _ => take::SMALL,
        }
    }
}

/// How a script ends at a stage that fails: these refuse, the others could not.
fn exit_of(stage: &str) -> i32 {
    match stage {
        "guard" | "start" | "restart" | "verify-source" | "verify-copy" | "verify-snapshot" => REFUSED_EXIT,
        _ => 1,
    }
}

#[derive(Clone, Copy)]
enum Strike {
    Fail,
    Cut,
}
