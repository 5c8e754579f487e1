//! The loop of a run: take what attempts say, decide, make it durable, wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::attempt::Message;
use super::ledger::Ledger;
use super::prompts::Prompts;
use super::{ClaimError, Claims, Engine, EngineError, Gates, Outcome, Revisions, RollbackOffer, Stop};
use crate::action::{Catalogue, Claim, Failure};
use crate::clock::Clock;
use crate::decide::{self, Decision};
use crate::id::{InstanceId, RunId};
use crate::inbox::Inbox;
use crate::plan::{self, Plan};
use crate::record::{Event, RunOpened, Verdict};
use crate::state::Rollback;

/// How long a record may wait for company before it is made durable, in wall time.
const IDLE_FLUSH: Duration = Duration::from_millis(20);

/// Time between two looks into the inbox, in wall time.
const INBOX_POLL: Duration = Duration::from_millis(250);

/// The longest that taking or releasing the claim may take, in wall time.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(180);

/// How often other attempts are given the chance to share a commit.
const GATHER_ROUNDS: usize = 3;

/// Messages and hints that may be on their way.
const MESSAGES_MAX: usize = 1024;
const HINTS_MAX: usize = 256;

pub(super) async fn drive(engine: Engine) -> Result<Outcome, EngineError> {
    if let Some(verdict) = engine.run.replayed.state.closed() {
        return Ok(Outcome::Closed(verdict.clone()));
    }
    check_revisions(&engine)?;
    let acquire = within(&engine.clock, engine.claims.acquire(&engine.run.replayed.id));
    let Some(claim) = unless_stopped(engine.stop.clone(), Stop::Run, acquire).await else {
        return Ok(Outcome::Stopped { going_on: Vec::new() });
    };
    let claim = claim?;
    let mut drive = Drive::new(engine, claim);
    drive.take_up()?;
    drive.run().await
}

pub(super) struct Drive {
    pub(super) ledger: Ledger,
    pub(super) plan: Arc<Plan>,
    pub(super) index: plan::Index,
    pub(super) run: RunId,
    pub(super) opened_at: Timestamp,
    pub(super) catalogue: Arc<dyn Catalogue>,
    pub(super) clock: Clock,
    pub(super) claims: Arc<dyn Claims>,
    pub(super) claim: Claim,
    pub(super) gates: Gates,
    pub(super) prompts: Prompts,
    pub(super) rollback: Arc<dyn RollbackOffer>,
    pub(super) opened: RunOpened,
    /// Why the run cannot be rolled back, once that was found out.
    pub(super) no_rollback: Option<String>,
    pub(super) inbox: Option<Inbox>,
    pub(super) attempts: JoinSet<()>,
    pub(super) say: mpsc::Sender<Message>,
    pub(super) hint: mpsc::Sender<(InstanceId, String)>,
    /// Digest of the fields of every attempt that runs, by lane.
    pub(super) inputs: HashMap<usize, String>,
    /// Attempts that wait until their `ApplyStarted` is durable.
    pub(super) barriers: Vec<oneshot::Sender<()>>,
    said: mpsc::Receiver<Message>,
    hints: mpsc::Receiver<(InstanceId, String)>,
    pub(super) stop: watch::Receiver<Stop>,
    stop_ended: bool,
    flush_at: Option<Instant>,
    look_at: Instant,
    /// When it was last decided what to do: whether something is due is judged by this, so that a wait that ends
    /// between two questions is not missed.
    decided_at: Timestamp,
    started: (String, String, u64),
    /// Where long outputs are kept; keeps the run's lock.
    pub(super) directory: Option<(crate::journal::RunDirectory, crate::journal::RunLock)>,
}

impl Drive {
    fn new(engine: Engine, claim: Claim) -> Self {
        let Engine { run, catalogue, clock, claims, consent, observers, inbox, stop, .. } = engine;
        let Engine { rollback, gates, machine, version, .. } = engine;
        let (replayed, journal, directory) = run.into_parts();
        let gap = match replayed.engines {
            0 => 0,
            _ => clock.now().duration_since(replayed.last_at).as_millis().max(0) as u64,
        };
        let mut ledger = Ledger::new(replayed.id.clone(), journal, replayed.state, clock.clone());
        ledger.observers = observers;
        ledger.claim = claim.number;
        let (say, said) = mpsc::channel(MESSAGES_MAX);
        let (hint, hints) = mpsc::channel(HINTS_MAX);
        Self {
            ledger,
            index: plan::Index::of(&replayed.plan),
            plan: replayed.plan,
            run: replayed.id,
            opened_at: replayed.opened_at,
            catalogue,
            clock,
            claims,
            claim,
            gates,
            prompts: Prompts::new(consent),
            rollback,
            opened: replayed.opened,
            no_rollback: None,
            inbox,
            attempts: JoinSet::new(),
            say,
            hint,
            inputs: HashMap::new(),
            barriers: Vec::new(),
            said,
            hints,
            stop,
            stop_ended: false,
            flush_at: None,
            look_at: Instant::now(),
            decided_at: Timestamp::MIN,
            started: (machine, version, gap),
            directory,
        }
    }

    fn take_up(&mut self) -> Result<(), EngineError> {
        self.ledger.tell_notes();
        let (machine, version, gap_ms) = std::mem::take(&mut self.started);
        let (pid, speed) = (std::process::id(), self.clock.speed());
        self.ledger.record(Event::EngineStarted { pid, machine, version, speed, gap_ms })?;
        let Claim { number, holder, .. } = self.claim.clone();
        self.ledger.record(Event::ClaimTaken { number, holder })?;
        self.take_up_offer()
    }

    async fn run(&mut self) -> Result<Outcome, EngineError> {
        loop {
            self.look_into_inbox()?;
            self.hear()?;
            self.act().await?;
            self.pass_barriers().await?;
            if self.offer_rollback().await? {
                continue;
            }
            if let Some(outcome) = self.outcome() {
                return self.leave(outcome);
            }
            self.wait().await?;
        }
    }

    fn look_into_inbox(&mut self) -> Result<(), EngineError> {
        if Instant::now() >= self.look_at {
            self.look_at = Instant::now() + INBOX_POLL;
            self.take_commands()?;
        }
        Ok(())
    }

    /// Takes everything that attempts have said so far. Returns how much it was.
    fn hear(&mut self) -> Result<usize, EngineError> {
        let mut heard = 0;
        while let Ok(message) = self.said.try_recv() {
            self.take_message(message)?;
            heard += 1;
        }
        Ok(heard)
    }

    /// Decides and does until there is nothing to decide.
    async fn act(&mut self) -> Result<(), EngineError> {
        loop {
            self.decided_at = self.clock.now();
            let mut decisions = decide::decide(&self.plan, &self.ledger.state, self.decided_at);
            if *self.stop.borrow() != Stop::Run {
                decisions.retain(|decision| !decision.is_start());
            }
            if decisions.is_empty() && !self.consent_by_flag()? {
                break;
            }
            for decision in decisions {
                match decision {
                    Decision::Record(event) => self.ledger.record(*event)?,
                    Decision::Begin { lane } | Decision::TakeUp { lane } => self.begin(lane)?,
                    Decision::AskConsent { lane, show } => self.open_gate(lane, show)?,
                    Decision::Close { verdict, why } => {
                        if !self.close(verdict, why).await? {
                            return Ok(());
                        }
                    }
                }
            }
        }
        self.prompts.follow(&self.ledger.state.open_gates());
        Ok(())
    }

    /// One commit for every attempt that is about to change something, and for what was recorded before.
    async fn pass_barriers(&mut self) -> Result<(), EngineError> {
        for _ in 0..GATHER_ROUNDS {
            if self.barriers.is_empty() {
                break;
            }
            tokio::task::yield_now().await;
            if self.hear()? == 0 {
                break;
            }
            self.act().await?;
        }
        if !self.barriers.is_empty() {
            self.ledger.acknowledge()?;
            // An attempt that is gone was cancelled; nobody waits for its barrier.
            for go in self.barriers.drain(..) {
                let _ = go.send(());
            }
        }
        Ok(())
    }

    /// Whether it is closed: a person may stop waiting for the hosts that are told.
    async fn close(&mut self, verdict: Verdict, why: String) -> Result<bool, EngineError> {
        self.ledger.acknowledge()?;
        let heard = *self.stop.borrow();
        let release = within(&self.clock, self.claims.release(&self.claim));
        let Some(released) = unless_stopped(self.stop.clone(), heard, release).await else { return Ok(false) };
        released?;
        self.ledger.record(Event::RunClosed { verdict, why })?;
        self.ledger.acknowledge()?;
        Ok(true)
    }

    /// How driving ends now, if it does.
    fn outcome(&self) -> Option<Outcome> {
        let state = &self.ledger.state;
        let stop = *self.stop.borrow();
        if let Some(verdict) = state.closed() {
            return Some(Outcome::Closed(verdict.clone()));
        }
        if stop == Stop::Now || (stop == Stop::Drain && state.in_flight_here() == 0) {
            return Some(Outcome::Stopped { going_on: self.going_on() });
        }
        if state.in_flight_here() > 0 {
            return None;
        }
        if let (Some(why), None) = (state.paused(), state.aborting()) {
            return Some(Outcome::Paused { why: why.to_owned() });
        }
        if decide::next_due(state).is_some_and(|at| at > self.decided_at) {
            return None;
        }
        match state.rollback() {
            Rollback::Approved | Rollback::Began { .. } if state.aborting().is_none() => {
                return Some(Outcome::RollBack);
            }
            Rollback::Offered { .. } if self.prompts.is_asking() => return None,
            Rollback::Offered { .. } => return Some(Outcome::WaitingAtGate { gates: state.open_gates() }),
            _ => {}
        }
        let (instances, gates) = (state.failures(), state.open_gates());
        let asking = !gates.is_empty() && self.prompts.is_asking();
        // What does not depend on a failure may go on once a person has answered.
        let waits_for_an_answer = asking && state.goes_on_after_failures();
        if !waits_for_an_answer && !instances.is_empty() {
            return Some(Outcome::Failed { instances });
        }
        if asking {
            return None;
        }
        Some(Outcome::WaitingAtGate { gates })
    }

    /// Waits for the next thing to happen.
    async fn wait(&mut self) -> Result<(), EngineError> {
        if self.ledger.is_behind() {
            self.flush_at.get_or_insert_with(|| Instant::now() + IDLE_FLUSH);
        } else {
            self.flush_at = None;
        }
        let wake_at = self.wake_at();
        let timer = async {
            match wake_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(message) = self.said.recv() => self.take_message(message)?,
            changed = self.stop.changed(), if !self.stop_ended => self.stop_ended = changed.is_err(),
            answer = self.prompts.answer(), if self.prompts.is_asking() => {
                if let Some((gate, consented)) = answer {
                    self.take_answer(&gate, consented)?;
                }
            }
            Some((instance, hint)) = self.hints.recv() => self.ledger.hint(&instance, &hint),
            () = timer => {}
        }
        if self.flush_at.is_some_and(|at| Instant::now() >= at) {
            self.flush_at = None;
            self.ledger.acknowledge()?;
        }
        while self.attempts.try_join_next().is_some() {}
        Ok(())
    }

    fn wake_at(&self) -> Option<Instant> {
        let now = self.clock.now();
        // What has come due since the last decision is not waited for at all.
        let due = decide::next_due(&self.ledger.state).filter(|at| *at > self.decided_at).map(|at| {
            let wait = Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO);
            Instant::now() + wait
        });
        let look = self.inbox.is_some().then_some(self.look_at);
        [due, look, self.flush_at].into_iter().flatten().min()
    }
}

/// Waits for the claim, but no longer than until a person asks for more than had been asked `before`.
pub(super) async fn unless_stopped<T>(
    mut stop: watch::Receiver<Stop>,
    before: Stop,
    claiming: impl Future<Output = T>,
) -> Option<T> {
    let asked = async {
        if stop.wait_for(|stop| *stop > before).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        () = asked => None,
        claimed = claiming => Some(claimed),
    }
}

/// Waits for the claim, but not for ever.
async fn within<T>(clock: &Clock, claiming: impl Future<Output = Result<T, ClaimError>>) -> Result<T, ClaimError> {
    let limit = CLAIM_TIMEOUT * clock.speed();
    let late = || ClaimError::Failed(Failure::transient("the servers did not answer about the claim in time"));
    clock.timeout(limit, claiming).await.unwrap_or_else(|| Err(late()))
}

fn check_revisions(engine: &Engine) -> Result<(), EngineError> {
    let replayed = &engine.run.replayed;
    let tool = || replayed.opened.tool.clone();
    for action in replayed.state.unfinished_actions() {
        let name = || action.name.clone();
        let Some(info) = engine.catalogue.info(&action.name) else {
            return Err(EngineError::UnknownAction { action: name(), tool: tool() });
        };
        if info.revision != action.revision && engine.revisions == Revisions::Strict {
            let (planned, here) = (action.revision, info.revision);
            return Err(EngineError::Revision { action: name(), planned, here, tool: tool() });
        }
    }
    Ok(())
}
