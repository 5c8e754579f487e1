//! The blast radius of a plan: which nodes it touches and how, how long no API answers, what blocks it, what has one
//! pod only, and what nothing brings back.

use std::collections::BTreeSet;
use std::time::Duration;

use rke2flow_engine::action::{Disruption, PlannedAction};
use rke2flow_engine::clock::Clock;
use rke2flow_engine::cluster::Role;
use rke2flow_engine::duration::Span;
use rke2flow_engine::id::{HostName, Target};
use rke2flow_engine::plan::{Forecast, Plan};
use rke2flow_steps::catalogue;
use rke2flow_steps::exposure::{self, Blocking, Single};
use rke2flow_steps::objects::Objects;
use rke2flow_steps::ports::Access;
use serde::Serialize;

use crate::fingerprint::HostPrints;
use crate::probing::{Finding, Verdict};

/// How long the API is waited for.
const API_LIMIT: Duration = Duration::from_secs(60);

/// How many workloads or budgets the document names; the rest is counted.
const NAMED_MAX: usize = 100;

/// What a plan does to those who use the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct BlastRadius {
    /// Nodes that take no new pods for a while.
    pub cordoned: Vec<HostName>,
    /// Nodes whose pods are evicted.
    pub drained: Vec<HostName>,
    /// Nodes on which RKE2 is restarted.
    pub restarted: Vec<HostName>,
    /// Nodes on which everything is stopped.
    pub killed: Vec<HostName>,
    /// How long no API server answers.
    pub api_loss: ApiLoss,
    /// Budgets that block a drain.
    pub blocking_budgets: Known<Blocking>,
    /// Workloads of one pod, on nodes that are drained or stop serving.
    pub single_replicas: Known<Single>,
    /// What a rollback, this one or one of this run, does not bring back.
    pub not_rolled_back: Vec<String>,
}

/// How long no API server answers, as far as it can be foretold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ApiLoss {
    /// How long.
    pub expected: Span,
    /// Where that comes from.
    pub why: String,
}

/// What the API was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Known<T> {
    /// Its answer.
    Known {
        /// At most [`NAMED_MAX`].
        named: Vec<T>,
        /// How many there are beyond them.
        more: usize,
    },
    /// There was none.
    CannotTell {
        /// Why.
        why: String,
    },
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Known::Known { named: Vec::new(), more: 0 }
    }
}

impl<T> Known<T> {
    fn not_looked() -> Self {
        Known::CannotTell { why: "nothing was looked at (--offline)".to_owned() }
    }

    fn of(mut named: Vec<T>) -> Self {
        let more = named.len().saturating_sub(NAMED_MAX);
        named.truncate(NAMED_MAX);
        Known::Known { named, more }
    }
}

impl BlastRadius {
    /// Of a plan about whose steps nothing is known: all of them may act.
    pub fn unseen(plan: &Plan, forecast: &Forecast) -> Self {
        let steps = plan.steps.iter().enumerate().filter(|(_, step)| !step.takes_back());
        let acts = steps.flat_map(|(index, step)| {
            let each = step.targets.iter();
            each.flat_map(move |target| step.actions.iter().map(move |action| Act::of(index, target, &action.name)))
        });
        let radius = Acts { plan, acts: acts.collect() }.radius(forecast, None);
        Self { blocking_budgets: Known::not_looked(), single_replicas: Known::not_looked(), ..radius }
    }

    /// Of what a dry run found.
    pub async fn seen(
        plan: &Plan,
        forecast: &Forecast,
        findings: &[Finding],
        hosts: &HostPrints,
        access: &Access,
    ) -> Self {
        let may_act = |finding: &&Finding| {
            matches!(finding.verdict, Verdict::WouldRun | Verdict::KnownAfter | Verdict::CannotTell)
        };
        let acts = findings.iter().filter(may_act);
        let acts = acts.map(|finding| Act::of(finding.step, &finding.target, &finding.action)).collect();
        let voters = hosts.values().filter_map(|print| print.voters.as_ref()).map(Vec::len).max();
        let radius = Acts { plan, acts }.radius(forecast, voters);
        radius.exposing(access).await
    }

    /// Whether nothing of the cluster is touched.
    pub fn is_nothing(&self) -> bool {
        [&self.cordoned, &self.drained, &self.restarted, &self.killed].iter().all(|nodes| nodes.is_empty())
    }

    async fn exposing(mut self, access: &Access) -> Self {
        let names = |nodes: &[HostName]| nodes.iter().map(ToString::to_string).collect::<BTreeSet<String>>();
        let (drained, mut interrupted) = (names(&self.drained), names(&self.restarted));
        interrupted.extend(names(&self.killed));
        if drained.is_empty() && interrupted.is_empty() {
            return self;
        }
        let objects = Objects::new(access.kube.clone());
        let asked = Clock::real().timeout(API_LIMIT, exposure::of(&objects, &drained, &interrupted)).await;
        let why = match asked {
            Some(Ok(found)) => {
                self.blocking_budgets = Known::of(found.blocking);
                self.single_replicas = Known::of(found.single);
                return self;
            }
            Some(Err(failure)) => failure.to_string(),
            None => format!("the API did not answer within {} s", API_LIMIT.as_secs()),
        };
        self.blocking_budgets = Known::CannotTell { why: why.clone() };
        self.single_replicas = Known::CannotTell { why };
        self
    }
}

/// Something that a run may do.
struct Act {
    step: usize,
    target: Target,
    action: String,
    disrupts: Disruption,
}

impl Act {
    fn of(step: usize, target: &Target, action: &str) -> Self {
        let disrupts = catalogue::info(action).map_or(Disruption::Nothing, |info| info.disrupts);
        Self { step, target: target.clone(), action: action.to_owned(), disrupts }
    }
}

struct Acts<'a> {
    plan: &'a Plan,
    acts: Vec<Act>,
}

impl Acts<'_> {
    fn radius(&self, forecast: &Forecast, voters: Option<usize>) -> BlastRadius {
        BlastRadius {
            cordoned: self.nodes(Disruption::Cordons),
            drained: self.nodes(Disruption::Drains),
            restarted: self.nodes(Disruption::Restarts),
            killed: self.nodes(Disruption::Kills),
            api_loss: self.api_loss(forecast, voters),
            blocking_budgets: Known::default(),
            single_replicas: Known::default(),
            not_rolled_back: self.not_rolled_back(),
        }
    }

    /// In the cluster file's order. What runs on the operator's machine may reach every node.
    fn nodes(&self, how: Disruption) -> Vec<HostName> {
        let acts: Vec<&Act> = self.acts.iter().filter(|act| act.disrupts == how).collect();
        let everywhere = acts.iter().any(|act| act.target == Target::Operator);
        let named: BTreeSet<&HostName> = acts.iter().filter_map(|act| act.target.host()).collect();
        let hosts = self.plan.hosts.iter().filter(|host| !host.lost && (everywhere || named.contains(&host.name)));
        hosts.map(|host| host.name.clone()).collect()
    }

    fn api_loss(&self, forecast: &Forecast, voters: Option<usize>) -> ApiLoss {
        let servers: Vec<&HostName> = self.servers(|host| !host.lost);
        let members = voters.unwrap_or_else(|| self.servers(|_| true).len());
        let spare = servers.len().saturating_sub(members / 2 + 1);
        let hit = |how| self.nodes(how).iter().filter(|node| servers.contains(node)).count();
        let (killed, restarted) = (hit(Disruption::Kills), hit(Disruption::Restarts));
        if killed > spare {
            let budget = self.plan.budget.map(|budget| format!(", budget {budget}")).unwrap_or_default();
            let why = format!("{killed} of {} servers are stopped: the forecast of the outage{budget}", servers.len());
            return ApiLoss { expected: forecast.outage, why };
        }
        if restarted == 0 {
            return ApiLoss { expected: Span::default(), why: "no server stops serving".to_owned() };
        }
        let (at_once, each) = self.restarts(&servers);
        if servers.len() > 1 && at_once <= spare {
            let why = format!("{restarted} servers restart, at most {at_once} at once, and the others keep quorum");
            return ApiLoss { expected: Span::default(), why };
        }
        let expected = Span::from(each * restarted.div_ceil(at_once.max(1)) as u32);
        let why = match servers.len() {
            1 => "the only server restarts".to_owned(),
            _ => format!(
                "{restarted} servers restart, {at_once} at once, and {} of {members} members of etcd are no quorum",
                servers.len() - at_once.min(servers.len())
            ),
        };
        ApiLoss { expected, why }
    }

    /// How many servers may restart at once, and how long one of them is away.
    fn restarts(&self, servers: &[&HostName]) -> (usize, Duration) {
        let restarts = |act: &&Act| {
            act.disrupts == Disruption::Restarts && act.target.host().is_none_or(|host| servers.contains(&host))
        };
        let steps: BTreeSet<usize> = self.acts.iter().filter(restarts).map(|act| act.step).collect();
        let steps: Vec<_> = steps.into_iter().map(|step| &self.plan.steps[step]).collect();
        let at_once = steps.iter().map(|step| step.hosts_at_once.min(step.targets.len())).max().unwrap_or(1);
        let away = steps.iter().map(|step| away(&step.actions)).max().unwrap_or_default();
        (at_once, away)
    }

    fn servers(&self, wanted: impl Fn(&rke2flow_engine::plan::HostEntry) -> bool) -> Vec<&HostName> {
        let servers = self.plan.hosts.iter().filter(|host| host.role == Role::Server && wanted(host));
        servers.map(|host| &host.name).collect()
    }

    /// Volumes: domain knowledge of Velero; the rest: an etcd restore brings back what is in etcd, and nothing else
    /// (docs.rke2.io, Backup and Restore).
    fn not_rolled_back(&self) -> Vec<String> {
        let has = |name: &str| self.acts.iter().any(|act| act.action == name);
        if !has("ClusterReset") && !has("RecordPoint") {
            return Vec::new();
        }
        let opted_in: Vec<&str> = self
            .plan
            .params
            .get("data")
            .and_then(|value| value.as_array())
            .map_or_else(Vec::new, |namespaces| namespaces.iter().filter_map(|name| name.as_str()).collect());
        let volumes = match opted_in.as_slice() {
            [] => "data in persistent volumes: they keep what is on them now (opt in by `--set data=NAMESPACE` of rollback)".to_owned(),
            named => format!("data in persistent volumes of other namespaces than {}", named.join(", ")),
        };
        vec![
            volumes,
            "what is outside the cluster: load balancers, DNS, certificates, databases, and what controllers have made there since".to_owned(),
            "what pods have done since: mails, payments, messages; jobs and CronJobs may do it again".to_owned(),
            "files on the hosts: operating system, /etc/rancher, hostPath and local volumes".to_owned(),
        ]
    }
}

/// How long a server is away: its restart, and what only waits for it.
fn away(actions: &[PlannedAction]) -> Duration {
    let infos = actions.iter().filter_map(|action| catalogue::info(&action.name));
    let from = infos.skip_while(|info| info.disrupts != Disruption::Restarts);
    let waits = from.enumerate().take_while(|(index, info)| *index == 0 || !info.changes);
    Duration::from_secs(waits.map(|(_, info)| u64::from(info.typical_seconds)).sum())
}

#[cfg(test)]
mod tests;
