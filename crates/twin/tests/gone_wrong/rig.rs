//! A twin, runbooks on it one after the other, and what the engine looked at while it carried them out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rke2flow_engine::action::{Action, ActionInfo, Applied, Catalogue, Claim, Context, Failure, Probe};
use rke2flow_engine::clock::Clock;
use rke2flow_engine::cluster::Cluster;
use rke2flow_engine::id::{HostName, InstanceId, RunId, Target};
use rke2flow_engine::journal::{MemoryDisk, MemoryJournal};
use rke2flow_engine::plan::{self, Plan, Request};
use rke2flow_engine::record::{Event, Record, RunOpened, Source, Verdict};
use rke2flow_engine::run::{ClaimError, Claims, Engine, Gates, NewRun, Outcome, Run};
use rke2flow_engine::runbook;
use rke2flow_engine::source::SourceText;
use rke2flow_steps::catalogue::{AnyAction, StepsCatalogue};
use rke2flow_steps::host::{Hosts, Takeover};
use rke2flow_steps::ports::Access;
use rke2flow_steps::runbooks;
use rke2flow_twin::inprocess::Fate;
use rke2flow_twin::{Twin, TwinSpec, ViolationKind, inprocess};
use serde_json::Value;

/// The version at the beginning.
pub const OLD: &str = "v1.33.4+rke2r1";
/// The version of upgrades: another etcd release.
pub const NEW: &str = "v1.34.1+rke2r1";

/// Longer than any run of a rehearsal cluster: what takes longer hangs.
const CLUSTER_TIME_MAX: Duration = Duration::from_secs(6 * 3600);

/// A twin and what is done to it.
pub struct Rig {
    pub twin: Twin,
    pub cluster: Arc<Cluster>,
    /// Hosts that the next run is told to be lost.
    pub lost: Vec<HostName>,
    /// The server token, where the cluster file says where it is.
    pub token: Option<String>,
    clock: Clock,
    runs: u32,
    last: Option<Begun>,
}

/// The last run.
struct Begun {
    disk: MemoryDisk,
    watched: Arc<Watched>,
    access: Access,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// What the engine said.
    pub outcome: Result<Outcome, String>,
}

impl Ended {
    pub fn well(&self) -> bool {
        matches!(self.outcome, Ok(Outcome::Closed(Verdict::Succeeded)))
    }

    /// The failures that a person is told.
    pub fn failures(&self) -> Vec<(String, Failure)> {
        match &self.outcome {
            Ok(Outcome::Failed { instances }) => {
                instances.iter().map(|(instance, failure)| (instance.to_string(), failure.clone())).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl Rig {
    pub fn new(spec: TwinSpec) -> Self {
        let clock = Clock::real();
        let twin = Twin::new(spec, clock.clone());
        let cluster = Arc::new(twin.cluster());
        Self { twin, cluster, lost: Vec::new(), token: None, clock, runs: 0, last: None }
    }

    /// A twin that has just been upgraded, and written to.
    pub async fn upgraded(spec: TwinSpec) -> Self {
        let mut rig = Self::new(spec);
        let ended = rig.run("upgrade", &[]).await;
        assert!(ended.well(), "the upgrade before: {ended:?}");
        rig.sleep(120).await;
        rig
    }

    pub async fn sleep(&self, seconds: u64) {
        self.clock.sleep(Duration::from_secs(seconds)).await;
    }

    /// Carries out an embedded runbook.
    pub async fn run(&mut self, name: &str, set: &[&str]) -> Ended {
        let embedded = runbooks::find(name).expect("it is embedded");
        self.run_text(name, embedded.text, set).await
    }

    /// Carries out the text of a runbook.
    pub async fn run_text(&mut self, name: &str, text: &str, set: &[&str]) -> Ended {
        let plan = self.plan(name, text, set).unwrap_or_else(|refused| panic!("{refused}"));
        self.runs += 1;
        let id = RunId::new(format!("261122-0{}12-test", self.runs)).expect("a run id");
        let disk = MemoryDisk::new();
        let init = plan.init.clone();
        let new = new_run(name, text, id, plan);
        Run::begin(Box::new(MemoryJournal::open(disk.clone())), new, &self.clock).expect("a journal in memory");
        // As the command line does it: a lost init server has been replaced, for actions too.
        let cluster = Arc::new(Cluster { init, ..(*self.cluster).clone() });
        let mut access = inprocess::access_without(&self.twin, cluster, Arc::new(|_| Fate::Go), &self.lost);
        access.token = self.token.clone().map(Into::into);
        let watched = Arc::new(Watched::new(StepsCatalogue::new(access.clone())));
        self.last = Some(Begun { disk, watched, access });
        self.resume().await
    }

    /// Goes on with the last run.
    pub async fn resume(&self) -> Ended {
        let begun = self.last.as_ref().expect("a run was begun");
        let run = Run::resume(Box::new(MemoryJournal::open(begun.disk.clone()))).expect("a whole journal");
        let hosts = Hosts::new(begun.access.clone());
        let claims = HostClaims(rke2flow_steps::host::Claims::new(hosts, begun.access.lost.clone()));
        let engine = Engine::new(run, begun.watched.clone(), self.clock.clone());
        let engine = engine.claims(Arc::new(claims)).gates(Gates::Yes);
        let outcome = tokio::select! {
            biased;
            ended = engine.drive() => ended.map_err(|error| error.to_string()),
            () = self.clock.sleep(CLUSTER_TIME_MAX) => Err("hangs".to_owned()),
        };
        Ended { outcome }
    }

    /// The plan of a runbook's text, or why it is refused.
    pub fn plan(&self, name: &str, text: &str, set: &[&str]) -> Result<Plan, String> {
        let catalogue = StepsCatalogue::offline();
        let source = SourceText::new(name, text.to_owned());
        let read = runbook::parse::<AnyAction>(source, &catalogue).map_err(|found| found.to_string())?;
        let set = set.iter().map(|text| (*text).to_owned()).collect();
        let lost = self.lost.iter().map(ToString::to_string).collect();
        let request = Request { set, lost, ..Request::default() };
        let built = plan::build(&read, &self.cluster, &request, &catalogue).map_err(|found| found.to_string())?;
        Ok(built.plan)
    }

    /// The kinds of violations, each once.
    pub fn kinds(&self) -> Vec<ViolationKind> {
        let mut kinds: Vec<ViolationKind> = self.twin.judge().iter().map(|violation| violation.kind).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    /// The records of the last run.
    pub fn records(&self) -> Vec<Record> {
        self.last.as_ref().map(|begun| begun.disk.records()).unwrap_or_default()
    }

    /// The attempts of the last run that failed: instance, and why.
    pub fn failed_attempts(&self) -> Vec<(String, Failure)> {
        let failed = |record: Record| match record.event {
            Event::AttemptFailed { instance, failure, .. } => Some((instance.to_string(), failure)),
            _ => None,
        };
        self.records().into_iter().filter_map(failed).collect()
    }

    /// Every action of the last run that was looked at, as it was bound and with its last context.
    pub fn seen(&self) -> BTreeMap<InstanceId, Seen> {
        let begun = self.last.as_ref().expect("a run was begun");
        begun.watched.seen.lock().expect("no test panics while it looks").clone()
    }
}

fn new_run(name: &str, text: &str, id: RunId, plan: Plan) -> NewRun {
    let source = |name: &str| Source { name: name.to_owned(), origin: "test".to_owned(), digest: String::new() };
    let opened = RunOpened {
        tool: "0.1.0".to_owned(),
        runbook: source(name),
        cluster: source("twin"),
        params: plan.params.clone(),
        revisions: Default::default(),
        topology: plan.topology,
        speed: 1,
        who: "tester@rig".to_owned(),
        lost: Vec::new(),
        yes: true,
        parent: None,
        rollback: false,
        trace_parent: None,
    };
    NewRun { id, opened, plan, runbook: text.to_owned(), cluster: String::new(), waivers: Vec::new() }
}

/// An action as it was bound, and its last context.
#[derive(Clone)]
pub struct Seen {
    pub name: String,
    pub fields: Value,
    pub action: Arc<dyn Action>,
    pub context: Context,
}

/// A catalogue that remembers what it bound.
struct Watched {
    inner: StepsCatalogue,
    seen: Arc<Mutex<BTreeMap<InstanceId, Seen>>>,
}

impl Watched {
    fn new(inner: StepsCatalogue) -> Self {
        Self { inner, seen: Arc::default() }
    }
}

impl Catalogue for Watched {
    fn info(&self, name: &str) -> Option<&'static ActionInfo> {
        self.inner.info(name)
    }

    fn names(&self) -> Vec<&'static str> {
        self.inner.names()
    }

    fn bind(&self, name: &str, fields: &Value, target: &Target) -> Result<Arc<dyn Action>, String> {
        let action = self.inner.bind(name, fields, target)?;
        let (name, fields, seen) = (name.to_owned(), fields.clone(), self.seen.clone());
        Ok(Arc::new(Looked { name, fields, action, seen }))
    }
}

/// An action that writes down who looked.
struct Looked {
    name: String,
    fields: Value,
    action: Arc<dyn Action>,
    seen: Arc<Mutex<BTreeMap<InstanceId, Seen>>>,
}

#[async_trait]
impl Action for Looked {
    async fn probe(&self, context: &Context) -> Result<Probe, Failure> {
        let (name, fields) = (self.name.clone(), self.fields.clone());
        let seen = Seen { name, fields, action: self.action.clone(), context: context.clone() };
        self.seen.lock().expect("no test panics while it looks").insert(context.instance.clone(), seen);
        self.action.probe(context).await
    }

    async fn apply(&self, context: &Context) -> Result<Applied, Failure> {
        self.action.apply(context).await
    }

    fn steady(&self) -> Duration {
        self.action.steady()
    }
}

/// Claims on the twin's hosts.
struct HostClaims(rke2flow_steps::host::Claims);

#[async_trait]
impl Claims for HostClaims {
    async fn acquire(&self, run: &RunId) -> Result<Claim, ClaimError> {
        let claimed = self.0.acquire("tester@rig", run, Takeover::OwnRuns).await;
        claimed.map(|claimed| claimed.claim).map_err(|error| Failure::permanent(error.to_string()).into())
    }

    async fn verify(&self, claim: &Claim) -> Result<(), ClaimError> {
        self.0.verify(claim).await.map_err(|error| Failure::permanent(error.to_string()).into())
    }

    async fn release(&self, claim: &Claim) -> Result<(), ClaimError> {
        self.0.release(claim).await;
        Ok(())
    }
}

/// Runs on a clock that jumps to the next wait.
pub fn paused<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(story)
}
