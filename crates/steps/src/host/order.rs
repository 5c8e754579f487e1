//! An order: sent once per attempt, then followed until its receipt says how it ended.

use std::time::Duration;

use rke2flow_engine::action::{Claim, Context, Failure, FailureClass, Receipt};
use rke2flow_engine::id::HostName;

use super::{Claims, Hosts, decode, without_claim};
use crate::answer::{ClaimAnswer, ClaimState, REFUSED_EXIT, ReceiptAnswer};
use crate::command::{Change, ClaimCommand, HostCommand, Order};
use crate::ports::AccessError;

/// Cluster time between two looks at a receipt: short orders end within the first few, long ones cost little.
const POLLS: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(500), Duration::from_secs(1)];
/// The most of a log's end that is kept, in bytes.
const TAIL_BYTES: usize = 4096;

impl Hosts {
    /// Sends a change and follows it until its receipt is there, at most until the attempt's deadline.
    ///
    /// The host runs one unit name at most once, so an order whose sending had an unknown outcome is sent again, and a
    /// resumed engine meets its own unit or its receipt. When this returns `Ok`, the script ended with exit 0.
    pub async fn order(&self, context: &Context, host: &HostName, change: Change) -> Result<Receipt, Failure> {
        let claim = context.claim.clone().ok_or_else(without_claim)?;
        let order = Order {
            run: context.run.clone(),
            instance: context.instance.clone(),
            attempt: context.attempt,
            unit: context.unit.clone(),
            claim,
            change,
        };
        let mut following = Following { context, host, last: String::new() };
        let followed = tokio::time::timeout_at(context.deadline, self.follow(&mut following, order)).await;
        followed.unwrap_or_else(|_| Err(following.late()))
    }

    async fn follow(&self, following: &mut Following<'_>, order: Order) -> Result<Receipt, Failure> {
        let (context, host) = (following.context, following.host);
        let claim = order.claim.clone();
        let change = HostCommand::Change(order);
        let (mut sent, mut told, mut polls) = (false, false, 0);
        loop {
            let answer = if sent { self.receipt(context, host).await } else { self.ask(host, change.clone()).await };
            match answer {
                Ok(ReceiptAnswer::Finished { exit, boot, tail }) => return self.ended(following, exit, boot, &tail),
                Ok(ReceiptAnswer::Interrupted { .. }) => return Err(following.interrupted()),
                Ok(ReceiptAnswer::Refused(holder)) => {
                    if told || !self.tell(host, &claim, holder.as_ref()).await {
                        return Err(fenced(host, holder));
                    }
                    (sent, told, following.last) = (false, true, "the host had not heard of the claim".to_owned());
                }
                Ok(ReceiptAnswer::Running) => (sent, following.last) = (true, String::new()),
                // It never arrived, or its host lost it before it began: sending again is what the unit name is for.
                Ok(ReceiptAnswer::Unknown) => (sent, following.last) = (false, "the host has not seen it".to_owned()),
                Err(error @ AccessError::Unreachable { .. }) if !sent && polls == 0 => return Err(error.into()),
                Err(error @ (AccessError::Unreachable { .. } | AccessError::Unknown { .. })) => {
                    (sent, following.last) = (true, error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
            following.say();
            context.clock.sleep(POLLS[polls.min(POLLS.len() - 1)]).await;
            polls += 1;
        }
    }

    /// Tells a host of a claim that was taken while it was away. Only when it remembers an older one or none, and a
    /// majority of the servers still remembers ours: a stale engine must not win a host that was asleep.
    async fn tell(&self, host: &HostName, claim: &Claim, holder: Option<&ClaimState>) -> bool {
        if holder.is_some_and(|state| state.claim.number >= claim.number) {
            return false;
        }
        if Claims::new(self.clone(), Vec::new()).verify(claim).await.is_err() {
            return false;
        }
        let taken = self.claim(host, ClaimCommand::Take(claim.clone())).await;
        matches!(taken, Ok(ClaimAnswer::Accepted))
    }

    fn ended(&self, following: &Following<'_>, exit: i32, boot: String, tail: &str) -> Result<Receipt, Failure> {
        let (context, host) = (following.context, following.host);
        let tail = self.access.redactor.redact(&end_of(&decode(host, tail)?));
        if exit == 0 {
            return Ok(Receipt { unit: context.unit.clone(), exit, boot, tail });
        }
        // What a script refuses, it refuses again: only a person, or another step, can change that.
        let failure = match exit {
            REFUSED_EXIT => Failure::permanent(format!("{host} refuses the order of {}", context.unit)),
            exit => Failure::transient(format!("{} on {host} ended with exit {exit}", context.unit)),
        };
        Err(failure.observed(end_of(&tail)).next(following.logs()))
    }
}

struct Following<'a> {
    context: &'a Context,
    host: &'a HostName,
    last: String,
}

impl Following<'_> {
    fn say(&self) {
        let waiting = format!("waiting for unit {} on {}", self.context.unit, self.host);
        let hint = if self.last.is_empty() { waiting } else { format!("{waiting}: {}", self.last) };
        self.context.progress.say(&hint);
    }

    fn late(&self) -> Failure {
        let seen = if self.last.is_empty() { "it still runs there" } else { &self.last };
        let what = format!("unit {} on {} did not end in time", self.context.unit, self.host);
        Failure::transient(what).observed(seen).next(self.logs())
    }

    fn interrupted(&self) -> Failure {
        let what = format!("unit {} was interrupted by a reboot of {}", self.context.unit, self.host);
        Failure::transient(what).next(self.logs())
    }

    fn logs(&self) -> String {
        format!("rke2flow logs {} {}", self.context.run, self.context.step)
    }
}

fn fenced(host: &HostName, holder: Option<ClaimState>) -> Failure {
    let observed = match &holder {
        Some(state) => super::claims::who(state),
        None => "the host remembers no claim at all".to_owned(),
    };
    Failure::of(FailureClass::Fenced, format!("{host} refuses the order: its claim is not this run's"))
        .observed(observed)
        .next("rke2flow status")
}

fn end_of(text: &str) -> String {
    let mut start = text.len().saturating_sub(TAIL_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].to_owned()
}
