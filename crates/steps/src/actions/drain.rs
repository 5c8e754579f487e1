//! Drain: no pod runs on the node that could run elsewhere.

mod pods;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, FailureClass, Place, Probe};
use rke2flow_engine::duration::Span;
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use self::pods::{Kind, kind, path, pods_on, shown};
use crate::actions::cordon::node;
use crate::actions::{Goal, World, host_of, info, known, noted};
use crate::kinds::Pod;
use crate::objects::Evicted;

/// Goal: no pod runs on the node that could run elsewhere.
///
/// Pods are evicted as `kubectl drain` does it, so that disruption budgets are kept; those of DaemonSets and the static
/// ones stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Whether the node is drained at all.
    #[serde(default = "yes")]
    pub wanted: Param<bool>,
    /// How long evicted pods, and budgets that allow no eviction, are waited for.
    #[serde(default = "five_minutes")]
    pub within: Param<Span>,
    /// Evicts pods with `emptyDir` volumes too: what is in them is lost.
    #[serde(default)]
    pub delete_emptydir_data: Param<bool>,
    /// Evicts pods too that no controller makes again.
    #[serde(default)]
    pub force: Param<bool>,
}

fn yes() -> Param<bool> {
    Param::Known(true)
}

fn five_minutes() -> Param<Span> {
    Param::Known(Span::from_secs(300))
}

/// Between two tries, as `kubectl drain` waits after a refused eviction (kubectl pkg/drain/drain.go).
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// What is left of an attempt when the drain is given up: enough to say why.
const TO_SAY_WHY: Duration = Duration::from_secs(5);

#[async_trait]
impl Goal for Drain {
    const INFO: ActionInfo = info("Drain", "no pod runs on the node that could run elsewhere", Place::Host, 30);

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        if !*known(&self.wanted)? {
            return Ok(Probe::satisfied());
        }
        let left = self.evictable(world, context).await?;
        if left.is_empty() {
            return Ok(Probe::satisfied());
        }
        Ok(Probe::pending(format!("{} pods run on the node: {}", left.len(), shown(left.iter()))))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let host = host_of(context)?;
        if !node(world, context).await?.spec.unschedulable {
            return Err(Failure::permanent(format!("cannot drain {host}: it takes new pods (cordon it first)")));
        }
        let pods = self.evictable(world, context).await?;
        self.refuse_what_would_be_lost(context, &pods)?;
        let began = context.clock.elapsed();
        let within = known(&self.within)?.get();
        let mut evicted = 0;
        loop {
            let mut waits = Waits::default();
            for pod in self.evictable(world, context).await? {
                if pod.metadata.deletion_timestamp.is_some() {
                    waits.ending.push(pod);
                    continue;
                }
                match world.changes(context).evict(&path(&pod), &pod.metadata).await? {
                    Evicted::Accepted => {
                        evicted += 1;
                        waits.ending.push(pod);
                    }
                    Evicted::Blocked(why) => waits.blocked.entry(why).or_default().push(pod),
                }
            }
            if waits.is_over() {
                return Ok(noted(format!("evicted {evicted} pods")));
            }
            let no_time = context.deadline.saturating_duration_since(tokio::time::Instant::now()) <= TO_SAY_WHY;
            if no_time || context.clock.elapsed().saturating_sub(began) >= within {
                return Err(waits.given_up(context, known(&self.within)?));
            }
            context.progress.say(&waits.to_string());
            context.clock.sleep(TRY_AGAIN).await;
        }
    }
}

impl Drain {
    /// The pods on the node that a drain is about.
    async fn evictable(&self, world: &World, context: &Context) -> Result<Vec<Pod>, Failure> {
        let pods = pods_on(world, host_of(context)?).await?;
        Ok(pods.into_iter().filter(|pod| kind(pod) != Kind::Stays).collect())
    }

    /// Everything that an eviction would lose for good is told before the first one.
    fn refuse_what_would_be_lost(&self, context: &Context, pods: &[Pod]) -> Result<(), Failure> {
        let (force, delete) = (*known(&self.force)?, *known(&self.delete_emptydir_data)?);
        let of_kind = |wanted: Kind| pods.iter().filter(move |pod| kind(pod) == wanted);
        let mut refused = Vec::new();
        if !force && of_kind(Kind::Unmanaged).next().is_some() {
            refused.push(format!("no controller makes {} again", shown(of_kind(Kind::Unmanaged))));
        }
        let local = || pods.iter().filter(|pod| pods::has_local_data(pod));
        if !delete && local().next().is_some() {
            refused.push(format!("{} have data in emptyDir volumes", shown(local())));
        }
        if refused.is_empty() {
            return Ok(());
        }
        let what = format!("cannot drain {} without losing something", host_of(context)?);
        let next = "move them, or run again with --set drain_force=true or --set delete_emptydir_data=true";
        Err(Failure::of(FailureClass::Refused, what).observed(refused.join("\n")).next(next))
    }
}

/// What a drain waits for.
#[derive(Debug, Default)]
struct Waits {
    /// Evicted pods that have not ended.
    ending: Vec<Pod>,
    /// Pods that may not be evicted now, by the words of the budget that forbids it.
    blocked: BTreeMap<String, Vec<Pod>>,
}

impl std::fmt::Display for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let blocked =
            self.blocked.iter().map(|(why, pods)| format!("{} may not be evicted: {why}", shown(pods.iter())));
        let mut lines: Vec<String> = blocked.collect();
        if !self.ending.is_empty() {
            lines.push(format!("{} have not ended", shown(self.ending.iter())));
        }
        f.write_str(&lines.join("\n"))
    }
}

impl Waits {
    fn is_over(&self) -> bool {
        self.ending.is_empty() && self.blocked.is_empty()
    }

    /// A budget does not change by itself, so it is not tried again and again: a person is told.
    fn given_up(&self, context: &Context, within: &Span) -> Failure {
        let host = context.target.host().map(ToString::to_string).unwrap_or_default();
        Failure::permanent(format!("{host} was not drained within {within}"))
            .observed(self.to_string())
            .next(format!("make room for these pods or change their budget, then rke2flow resume {}", context.run))
    }
}
