//! Actions that do nothing, and note when they were applied.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use rke2flow_engine::action::{Action, ActionInfo, Applied, Catalogue, Context, Failure, Place, PlannedAction, Probe};
use rke2flow_engine::cluster::Topology;
use rke2flow_engine::duration::Span;
use rke2flow_engine::id::{HostName, PhaseId, RunId, StepId, Target};
use rke2flow_engine::plan::{NeedPlan, OnFailure, PhaseClock, PhasePlan, Plan, Retry, StepPlan};
use rke2flow_engine::record::{RunOpened, Source};
use rke2flow_engine::run::NewRun;
use serde_json::{Value, json};

#[derive(Clone, Default)]
pub struct World(Arc<Mutex<Applications>>);

#[derive(Default)]
struct Applications {
    done: HashSet<String>,
    at: Vec<Instant>,
}

impl World {
    pub fn applied_at(&self) -> Vec<Instant> {
        self.0.lock().expect("no action panics").at.clone()
    }
}

static NOTHING: ActionInfo = ActionInfo {
    name: "Nothing",
    revision: 1,
    goal: "nothing",
    place: Place::Anywhere,
    facts: &[],
    changes: true,
    stops_etcd_member: false,
    disrupts: rke2flow_engine::action::Disruption::Nothing,
    gate: false,
    typical_seconds: 1,
};

impl Catalogue for World {
    fn info(&self, name: &str) -> Option<&'static ActionInfo> {
        (name == NOTHING.name).then_some(&NOTHING)
    }

    fn names(&self) -> Vec<&'static str> {
        vec![NOTHING.name]
    }

    fn bind(&self, _name: &str, _fields: &Value, _target: &Target) -> Result<Arc<dyn Action>, String> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Action for World {
    async fn probe(&self, context: &Context) -> Result<Probe, Failure> {
        let done = self.0.lock().expect("no action panics").done.contains(context.instance.as_str());
        Ok(if done { Probe::satisfied() } else { Probe::pending("not done") })
    }

    async fn apply(&self, context: &Context) -> Result<Applied, Failure> {
        let mut applications = self.0.lock().expect("no action panics");
        applications.at.push(Instant::now());
        applications.done.insert(context.instance.to_string());
        Ok(Applied::default())
    }
}

/// Steps one after the other, each on so many hosts at once; 0 hosts: on the operator's machine.
pub fn chain(id: &str, steps: usize, hosts: usize) -> NewRun {
    let targets: Vec<Target> = match hosts {
        0 => vec![Target::Operator],
        _ => (0..hosts).map(|at| Target::Host(HostName::new(format!("h{at}")).expect("a host's name"))).collect(),
    };
    let step = |at: usize| StepPlan {
        id: StepId::new(format!("s{at}")).expect("a step's name"),
        phase: 0,
        targets: targets.clone(),
        hosts_at_once: targets.len(),
        needs: (at > 0).then(|| NeedPlan::SameHost(vec![at - 1])).into_iter().collect(),
        done_when: Vec::new(),
        actions: vec![PlannedAction { name: "Nothing".to_owned(), revision: 1, fields: json!({}) }],
        retry: Retry::default(),
        timeout: Span::from_secs(600),
        irreversible: None,
        best_effort: None,
        always: None,
        safety: false,
        left_out: None,
        last: None,
    };
    let phase =
        PhasePlan { id: PhaseId::new("all").expect("a phase"), clock: PhaseClock::Before, budget: None, round: None };
    let plan = Plan {
        runbook: "bench".to_owned(),
        on_failure: OnFailure::Hold,
        supersedes: false,
        budget: None,
        topology: Topology::Single,
        cluster: "bench".to_owned(),
        hosts: Vec::new(),
        init: None,
        params: BTreeMap::new(),
        phases: vec![phase],
        steps: (0..steps).map(step).collect(),
    };
    let source = Source { name: "bench".to_owned(), origin: "embedded".to_owned(), digest: "0".repeat(64) };
    let opened = RunOpened {
        tool: "bench".to_owned(),
        runbook: source.clone(),
        cluster: source,
        params: BTreeMap::new(),
        revisions: BTreeMap::new(),
        topology: Topology::Single,
        speed: 1,
        who: "bench".to_owned(),
        lost: Vec::new(),
        yes: false,
        parent: None,
        rollback: false,
        trace_parent: None,
    };
    let id = RunId::new(id).expect("a run's id");
    NewRun { id, opened, plan, runbook: String::new(), cluster: String::new(), waivers: Vec::new() }
}
