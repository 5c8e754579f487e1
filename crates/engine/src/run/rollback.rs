//! How a run that failed finds out whether it can be rolled back, and what a person is asked then.

use std::time::Duration;

use async_trait::async_trait;

use super::EngineError;
use super::commands::clip;
use super::drive::{Drive, unless_stopped};
use crate::decide;
use crate::record::{Cause, Event, RunOpened};
use crate::state::{Rollback, State};

/// The longest that finding out whether the run can be rolled back may take, in wall time.
const OFFER_TIMEOUT: Duration = Duration::from_secs(180);

/// Knows what a rollback needs: a recovery point of the run, hosts that answer, nothing that is under way.
#[async_trait]
pub trait RollbackOffer: Send + Sync {
    /// What a person is asked; the error says why the run cannot be rolled back.
    async fn offer(&self, opened: &RunOpened, state: &State) -> Result<String, String>;
}

/// Nothing can be rolled back.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRollback;

#[async_trait]
impl RollbackOffer for NoRollback {
    async fn offer(&self, _opened: &RunOpened, _state: &State) -> Result<String, String> {
        Err("this engine cannot roll a run back".to_owned())
    }
}

impl Drive {
    /// A rollback was offered when the engine before stopped: an approval that has arrived since counts; else a person
    /// has asked to go on, and what failed is tried again.
    pub(super) fn take_up_offer(&mut self) -> Result<(), EngineError> {
        if !matches!(self.ledger.state.rollback(), Rollback::Offered { .. }) {
            return Ok(());
        }
        self.take_commands()?;
        if !matches!(self.ledger.state.rollback(), Rollback::Offered { answer: None, .. }) {
            return Ok(());
        }
        let (at, who) = (self.clock.now(), "who resumed the run".to_owned());
        for lane in self.ledger.state.index.failed.clone() {
            let (instance, attempt) =
                (self.ledger.state.current(lane).clone(), self.ledger.state.lanes[lane].attempt + 1);
            self.ledger.record(Event::RetryScheduled { instance, attempt, at, by: Cause::Person(who.clone()) })?;
        }
        Ok(())
    }

    /// Asks whether the run is to be rolled back, when it has failed, nothing is under way and it is possible. Whether
    /// something was written down.
    pub(super) async fn offer_rollback(&mut self) -> Result<bool, EngineError> {
        let due = decide::next_due(&self.ledger.state).is_some();
        if self.no_rollback.is_some() || due || !self.ledger.state.may_offer_rollback() {
            return Ok(false);
        }
        self.ledger.acknowledge()?;
        let (rollback, stop) = (self.rollback.clone(), self.stop.clone());
        let heard = *self.stop.borrow();
        let limit = OFFER_TIMEOUT * self.clock.speed();
        let asked = self.clock.timeout(limit, rollback.offer(&self.opened, &self.ledger.state));
        let Some(answer) = unless_stopped(stop, heard, asked).await else { return Ok(false) };
        let late = || Err(format!("it could not be found out within {} s", OFFER_TIMEOUT.as_secs()));
        match answer.unwrap_or_else(late) {
            Ok(show) => {
                self.ledger.record(Event::RollbackOffered { show: clip(show) })?;
                if self.opened.rollback {
                    let who = format!("{}, by --on-failure rollback", self.opened.who);
                    self.ledger.record(Event::RollbackDecided { approved: true, who, reason: String::new() })?;
                }
                self.ledger.acknowledge()?;
                Ok(true)
            }
            Err(why) => {
                self.ledger.notice(&format!("no rollback is offered: {why}"));
                self.no_rollback = Some(why);
                Ok(false)
            }
        }
    }
}
