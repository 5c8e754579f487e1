//! A world of marks, actions that look at it and change it, and plans made of them in a few words.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rke2flow_engine::action::{
    Action, ActionInfo, Applied, Catalogue, Context, Failure, FailureClass, Place, PlannedAction, Probe, Receipt,
};
use rke2flow_engine::clock::Clock;
use rke2flow_engine::cluster::Topology;
use rke2flow_engine::duration::Span;
use rke2flow_engine::id::{HostName, PhaseId, RunId, StepId, Target};
use rke2flow_engine::journal::{CrashPoint, MemoryDisk, MemoryJournal};
use rke2flow_engine::plan::{NeedPlan, OnFailure, PhaseClock, PhasePlan, Plan, Retry, StepPlan};
use rke2flow_engine::record::{Event, Record, RunOpened, Source};
use rke2flow_engine::run::{Engine, EngineError, NewRun, Outcome, Run};
use rke2flow_engine::value::Facts;
use serde_json::{Value, json};

/// Everything that happened in the world, in order.
#[derive(Debug, Clone, Default)]
pub struct World(Arc<Mutex<Happened>>);

#[derive(Debug, Default)]
struct Happened {
    marks: BTreeMap<String, u32>,
    log: Vec<String>,
    attempts: BTreeMap<String, u32>,
    together: usize,
    most_together: usize,
    hopeless: Vec<String>,
    looks: BTreeMap<(String, u32), u64>,
    blind: BTreeMap<String, u32>,
}

impl World {
    pub fn marks(&self) -> BTreeMap<String, u32> {
        self.0.lock().unwrap().marks.clone()
    }

    pub fn mark(&self, mark: &str) {
        *self.0.lock().unwrap().marks.entry(mark.to_owned()).or_default() += 1;
    }

    /// The mark can never be made.
    pub fn fail_for_good(&self, mark: &str) {
        self.0.lock().unwrap().hopeless.push(mark.to_owned());
    }

    /// So many looks at the mark fail, as if its host did not answer for a moment.
    pub fn blind(&self, mark: &str, looks: u32) {
        self.0.lock().unwrap().blind.insert(mark.to_owned(), looks);
    }

    pub fn has(&self, mark: &str) -> bool {
        self.0.lock().unwrap().marks.contains_key(mark)
    }

    /// Names of the marks in the order in which they were first made.
    pub fn log(&self) -> Vec<String> {
        self.0.lock().unwrap().log.clone()
    }

    pub fn most_together(&self) -> usize {
        self.0.lock().unwrap().most_together
    }
}

const INFO: ActionInfo = ActionInfo {
    name: "Make",
    revision: 1,
    goal: "the mark is there",
    place: Place::Anywhere,
    facts: &[],
    changes: true,
    stops_etcd_member: false,
    disrupts: rke2flow_engine::action::Disruption::Nothing,
    gate: false,
    typical_seconds: 1,
};
static MAKE: ActionInfo = INFO;
static WATCH: ActionInfo = ActionInfo { name: "Watch", changes: false, ..INFO };
static ASK: ActionInfo = ActionInfo { name: "Ask", changes: false, gate: true, ..INFO };

impl Catalogue for World {
    fn info(&self, name: &str) -> Option<&'static ActionInfo> {
        [&MAKE, &WATCH, &ASK].into_iter().find(|info| info.name == name)
    }

    fn names(&self) -> Vec<&'static str> {
        vec!["Make", "Watch", "Ask"]
    }

    fn bind(&self, _name: &str, fields: &Value, target: &Target) -> Result<Arc<dyn Action>, String> {
        let name = fields["mark"].as_str().ok_or("`mark` is missing")?;
        Ok(Arc::new(Mark { world: self.clone(), fields: fields.clone(), mark: format!("{name}@{target}") }))
    }
}

/// Fields: `mark`; `takes` seconds, and up to `spread` more, by the mark's name; `fails` so many attempts; `class` of that failure; `panics`; `never`; `steady`
/// seconds; `fact` that is left; `refused`; `under_way` in the first so many looks; `flickers`: holds in every other
/// look of an attempt; `tail` of the receipt in bytes.
struct Mark {
    world: World,
    fields: Value,
    mark: String,
}

impl Mark {
    fn seconds(&self, name: &str) -> Duration {
        Duration::from_millis((self.fields[name].as_f64().unwrap_or(0.0) * 1000.0) as u64)
    }

    /// Counts a look of an attempt, and says how many there were before.
    fn look(&self, attempt: u32) -> Result<u64, Failure> {
        let mut happened = self.world.0.lock().unwrap();
        if let Some(blind) = happened.blind.get_mut(&self.mark).filter(|blind| **blind > 0) {
            *blind -= 1;
            return Err(Failure::transient(format!("{} cannot be seen", self.mark)));
        }
        let looks = happened.looks.entry((self.mark.clone(), attempt)).or_default();
        *looks += 1;
        Ok(*looks - 1)
    }

    fn receipt(&self, context: &Context) -> Option<Receipt> {
        let bytes = self.fields["tail"].as_u64()?;
        let tail = format!("{}the end", "x".repeat(bytes as usize));
        Some(Receipt { unit: context.unit.clone(), exit: 0, boot: String::new(), tail })
    }

    fn failure(&self) -> Failure {
        let class = match self.fields["class"].as_str() {
            Some("Permanent") => FailureClass::Permanent,
            Some("Refused") => FailureClass::Refused,
            Some("Fenced") => FailureClass::Fenced,
            _ => FailureClass::Transient,
        };
        Failure::of(class, format!("{} fails, as asked", self.mark))
    }
}

#[async_trait]
impl Action for Mark {
    async fn probe(&self, context: &Context) -> Result<Probe, Failure> {
        let looks = self.look(context.attempt)?;
        if self.fields["refused"].as_bool() == Some(true) {
            return Ok(Probe::Refused { expected: "peace".into(), found: "war".into() });
        }
        if looks < self.fields["under_way"].as_u64().unwrap_or(0) {
            return Ok(Probe::InProgress(format!("{} is under way", self.mark)));
        }
        if looks % 2 == 1 && self.fields["flickers"].as_bool() == Some(true) {
            return Ok(Probe::pending(format!("{} is gone for a moment", self.mark)));
        }
        if !self.world.has(&self.mark) || self.fields["never"].as_bool() == Some(true) {
            return Ok(Probe::pending(format!("{} is not there", self.mark)));
        }
        let fact = self.fields["fact"].as_str().unwrap_or("done");
        Ok(Probe::Satisfied(Facts::from([("fact".to_owned(), Value::from(fact))])))
    }

    async fn apply(&self, context: &Context) -> Result<Applied, Failure> {
        let tries = {
            let mut happened = self.world.0.lock().unwrap();
            happened.together += 1;
            happened.most_together = happened.most_together.max(happened.together);
            let tries = happened.attempts.entry(self.mark.clone()).or_default();
            *tries += 1;
            *tries
        };
        let spread = self.fields["spread"].as_u64().unwrap_or(0) + 1;
        let more = self.mark.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % spread;
        context.clock.sleep(self.seconds("takes") + Duration::from_secs(more)).await;
        let mut happened = self.world.0.lock().unwrap();
        happened.together -= 1;
        if self.fields["panics"].as_bool() == Some(true) {
            drop(happened);
            panic!("{} panics, as asked", self.mark);
        }
        if happened.hopeless.contains(&self.mark) {
            return Err(Failure::permanent(format!("{} is hopeless", self.mark)));
        }
        if u64::from(tries) <= self.fields["fails"].as_u64().unwrap_or(0) {
            return Err(self.failure());
        }
        if !happened.marks.contains_key(&self.mark) {
            happened.log.push(self.mark.clone());
        }
        *happened.marks.entry(self.mark.clone()).or_default() += 1;
        Ok(Applied { receipt: self.receipt(context), ..Applied::default() })
    }

    fn steady(&self) -> Duration {
        self.seconds("steady")
    }
}

pub fn host(name: &str) -> Target {
    Target::Host(HostName::new(name).unwrap())
}

pub fn make(mark: &str) -> PlannedAction {
    act("Make", json!({ "mark": mark }))
}

pub fn act(name: &str, fields: Value) -> PlannedAction {
    PlannedAction { name: name.to_owned(), revision: 1, fields }
}

/// A step on the operator's machine that makes a mark of its own name.
pub fn step(id: &str) -> StepPlan {
    StepPlan {
        id: StepId::new(id).unwrap(),
        phase: 0,
        targets: vec![Target::Operator],
        hosts_at_once: 1,
        needs: Vec::new(),
        done_when: Vec::new(),
        actions: vec![make(id)],
        retry: Retry { attempts: 3, backoff: Span::from_secs(5) },
        timeout: Span::from_secs(60),
        irreversible: None,
        best_effort: None,
        always: None,
        safety: false,
        left_out: None,
        last: None,
    }
}

/// A step on hosts.
pub fn on(id: &str, hosts: &[&str], at_once: usize) -> StepPlan {
    StepPlan { targets: hosts.iter().map(|name| host(name)).collect(), hosts_at_once: at_once, ..step(id) }
}

pub fn after(step: StepPlan, needs: &[usize]) -> StepPlan {
    StepPlan { needs: needs.iter().map(|need| NeedPlan::All(*need)).collect(), ..step }
}

pub fn doing(step: StepPlan, actions: Vec<PlannedAction>) -> StepPlan {
    StepPlan { actions, ..step }
}

pub fn plan(steps: Vec<StepPlan>) -> Plan {
    let phase = |id: &str, clock| PhasePlan { id: PhaseId::new(id).unwrap(), clock, budget: None, round: None };
    Plan {
        runbook: "toy".to_owned(),
        on_failure: OnFailure::Hold,
        supersedes: false,
        budget: None,
        topology: Topology::Single,
        cluster: "toys".to_owned(),
        hosts: Vec::new(),
        init: None,
        params: BTreeMap::new(),
        phases: vec![phase("prepare", PhaseClock::Before), phase("outage", PhaseClock::Outage)],
        steps,
    }
}

pub fn new_run(plan: Plan) -> NewRun {
    let source = |name: &str| Source { name: name.to_owned(), origin: "embedded".to_owned(), digest: "00".repeat(32) };
    NewRun {
        id: RunId::new("261122-0312-k7q2").unwrap(),
        opened: RunOpened {
            tool: "0.1.0".to_owned(),
            runbook: source("toy"),
            cluster: source("toys"),
            params: BTreeMap::new(),
            revisions: BTreeMap::new(),
            topology: Topology::Single,
            speed: 1,
            who: "test".to_owned(),
            lost: Vec::new(),
            yes: false,
            parent: None,
            rollback: false,
            trace_parent: None,
        },
        plan,
        runbook: "Runbook()".to_owned(),
        cluster: "Cluster()".to_owned(),
        waivers: Vec::new(),
    }
}

/// One world, one disk, and engines that come and go.
#[derive(Clone, Default)]
pub struct Scenario {
    pub world: World,
    pub disk: MemoryDisk,
}

impl Scenario {
    pub fn new() -> Self {
        Self::default()
    }

    /// An engine on a new run.
    pub fn begin(&self, plan: Plan) -> Engine {
        self.begin_with(new_run(plan))
    }

    pub fn begin_with(&self, new: NewRun) -> Engine {
        let clock = Clock::real();
        let run = Run::begin(Box::new(MemoryJournal::open(self.disk.clone())), new, &clock).unwrap();
        Engine::new(run, Arc::new(self.world.clone()), clock)
    }

    /// An engine that goes on with the run on the disk.
    pub fn resume(&self) -> Engine {
        self.resume_from(MemoryJournal::open(self.disk.clone()))
    }

    pub fn resume_from(&self, journal: MemoryJournal) -> Engine {
        let run = Run::resume(Box::new(journal)).unwrap();
        Engine::new(run, Arc::new(self.world.clone()), Clock::real())
    }

    /// Runs a plan until the engine dies at this point; whether it did.
    pub async fn crash_at(&self, plan: Plan, point: CrashPoint) -> bool {
        let (journal, clock) = (MemoryJournal::open(self.disk.clone()).crash_at(point), Clock::real());
        match Run::begin(Box::new(journal), new_run(plan), &clock) {
            Ok(run) => Engine::new(run, Arc::new(self.world.clone()), clock).drive().await.is_err(),
            Err(_) => true,
        }
    }

    /// Runs a plan to its end.
    pub async fn drive(&self, plan: Plan) -> Result<Outcome, EngineError> {
        self.begin(plan).drive().await
    }

    pub fn records(&self) -> Vec<Record> {
        self.disk.records()
    }

    pub fn kinds(&self) -> Vec<&'static str> {
        self.records().iter().map(|record| record.event.kind()).collect()
    }

    /// `instance attempt` of every attempt that was begun.
    pub fn attempts(&self) -> Vec<String> {
        let started = |record: Record| match record.event {
            Event::AttemptStarted { instance, attempt } => Some(format!("{instance} {attempt}")),
            _ => None,
        };
        self.records().into_iter().filter_map(started).collect()
    }
}

/// The names of what failed.
pub fn failed(outcome: &Outcome) -> Vec<String> {
    match outcome {
        Outcome::Failed { instances } => instances.iter().map(|(id, _)| id.to_string()).collect(),
        other => panic!("expected a failure, got {other:?}"),
    }
}
