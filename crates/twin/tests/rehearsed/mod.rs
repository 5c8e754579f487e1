//! The real engine, runbooks and actions on a twin in process, stopped wherever a test wants.

#![allow(dead_code, clippy::unwrap_used)] // each test binary uses a part of it

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rke2flow_engine::action::{Claim, Failure};
use rke2flow_engine::clock::Clock;
use rke2flow_engine::cluster::Cluster;
use rke2flow_engine::id::{HostName, RunId};
use rke2flow_engine::inbox::Inbox;
use rke2flow_engine::journal::{CrashPoint, MemoryDisk, MemoryJournal};
use rke2flow_engine::plan::{self, Plan, Request};
use rke2flow_engine::record::{Command, RunOpened, Source};
use rke2flow_engine::run::{ClaimError, Claims, Engine, EngineError, Gates, NewRun, Outcome, Run};
use rke2flow_engine::runbook;
use rke2flow_engine::source::SourceText;
use rke2flow_steps::catalogue::{AnyAction, StepsCatalogue};
use rke2flow_steps::host::{self, Hosts, Takeover};
use rke2flow_twin::inprocess::{Effect, Fate, Side, access_with, cluster};
use rke2flow_twin::{KubeHttp, Twin, TwinSpec};
use serde_json::{Value, json};
use tokio::sync::Notify;

/// Where the engine is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Before or after a record is durable.
    Record(CrashPoint),
    /// Before or after the effect of this number on the twin, counted from 0.
    Effect(u64, Side),
    /// Before the first effect on the twin whose description has this text in it.
    BeforeFirst(&'static str),
    /// The same, the effect of this number with the text, counted from 1.
    BeforeNth(&'static str, usize),
}

/// One twin and what is run on it.
pub struct Rehearsed {
    pub twin: Twin,
    pub cluster: Arc<Cluster>,
}

/// A run on a disk of its own.
pub struct Rehearsal {
    pub disk: MemoryDisk,
    pub effects: Arc<AtomicU64>,
}

impl Rehearsal {
    /// Whether its plan was written down.
    pub fn begun(&self) -> bool {
        Run::resume(Box::new(MemoryJournal::open(self.disk.clone()))).is_ok()
    }
}

impl Rehearsed {
    /// A twin; the cluster file wants this version.
    pub fn new(spec: TwinSpec, version: &str) -> Self {
        let mut inventory = cluster(&spec);
        inventory.version = Some(version.to_owned());
        Self { twin: Twin::new(spec, Clock::real()), cluster: Arc::new(inventory) }
    }

    /// The world when pods that were deleted last have come back.
    pub async fn at_rest(&self) -> Value {
        self.twin.clock().sleep(Duration::from_secs(60)).await;
        self.twin.fingerprint()
    }

    /// The application writes an object of this name.
    pub fn write(&self, name: &str) {
        let collection = "/api/v1/namespaces/default/configmaps";
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}});
        assert_eq!(self.kube("POST", collection, body.to_string()), 201);
    }

    /// Whether the object of this name is there.
    pub fn has(&self, name: &str) -> bool {
        self.kube("GET", &format!("/api/v1/namespaces/default/configmaps/{name}"), String::new()) == 200
    }

    fn kube(&self, method: &str, path: &str, body: String) -> u16 {
        let request = KubeHttp {
            method: method.to_owned(),
            path: path.to_owned(),
            query: String::new(),
            content_type: "application/json".to_owned(),
            body: body.into_bytes(),
            user: "system:admin".to_owned(),
        };
        self.twin.kube_now(&HostName::new("server-0").unwrap(), &request).status
    }

    /// Begins a run of this runbook and drives it until its end or until it is stopped.
    pub async fn run(
        &self,
        id: &str,
        text: &str,
        stop: Option<Stop>,
    ) -> (Rehearsal, Option<Result<Outcome, EngineError>>) {
        let id = RunId::new(id).unwrap();
        let rehearsal = Rehearsal { disk: MemoryDisk::new(), effects: Arc::new(AtomicU64::new(0)) };
        let journal = match stop {
            Some(Stop::Record(point)) => MemoryJournal::open(rehearsal.disk.clone()).crash_at(point),
            _ => MemoryJournal::open(rehearsal.disk.clone()),
        };
        match Run::begin(Box::new(journal), self.new_run(id, text), self.twin.clock()) {
            Ok(run) => {
                let outcome = self.drive(run, &rehearsal, stop, None).await;
                (rehearsal, outcome)
            }
            Err(_) => (rehearsal, None),
        }
    }

    /// Goes on with a run; `None` when it was never begun.
    pub async fn resume(&self, rehearsal: &Rehearsal) -> Option<Result<Outcome, EngineError>> {
        self.resume_until(rehearsal, None).await
    }

    /// The same, until it is stopped at an effect, counted anew.
    pub async fn resume_until(
        &self,
        rehearsal: &Rehearsal,
        stop: Option<Stop>,
    ) -> Option<Result<Outcome, EngineError>> {
        let run = Run::resume(Box::new(MemoryJournal::open(rehearsal.disk.clone()))).ok()?;
        self.drive(run, rehearsal, stop, None).await
    }

    /// Gives a run up: takes down what it has.
    pub async fn abort(&self, rehearsal: &Rehearsal) -> Result<Outcome, EngineError> {
        self.abort_until(rehearsal, None).await.unwrap()
    }

    /// The same, until it is stopped. Effects are counted anew.
    pub async fn abort_until(&self, rehearsal: &Rehearsal, stop: Option<Stop>) -> Option<Result<Outcome, EngineError>> {
        let directory = tempfile::tempdir().unwrap();
        let inbox = Inbox::at(directory.path());
        let command = Command::Abort { reason: "given up".to_owned(), who: "test@host".to_owned() };
        inbox.send(&command, jiff::Timestamp::UNIX_EPOCH).unwrap();
        let journal = match stop {
            Some(Stop::Record(point)) => MemoryJournal::open(rehearsal.disk.clone()).crash_at(point),
            _ => MemoryJournal::open(rehearsal.disk.clone()),
        };
        rehearsal.effects.store(0, Ordering::Relaxed);
        let run = Run::resume(Box::new(journal)).unwrap();
        self.drive(run, rehearsal, stop, Some(inbox)).await
    }

    async fn drive(
        &self,
        run: Run,
        rehearsal: &Rehearsal,
        stop: Option<Stop>,
        inbox: Option<Inbox>,
    ) -> Option<Result<Outcome, EngineError>> {
        let (stopped, count) = (Arc::new(Notify::new()), rehearsal.effects.clone());
        let stop_at = if let Some(Stop::Effect(number, side)) = stop { Some((number, side)) } else { None };
        let stop_before = match stop {
            Some(Stop::BeforeFirst(text)) => Some((text, 1)),
            Some(Stop::BeforeNth(text, number)) => Some((text, number)),
            _ => None,
        };
        let (notify, reached, met) = (stopped.clone(), AtomicBool::new(false), AtomicUsize::new(0));
        let hook = Arc::new(move |effect: &Effect| {
            if !effect.changes {
                return Fate::Go;
            }
            let is_meant = stop_before.is_some_and(|(text, number)| {
                effect.side == Side::Before
                    && effect.what.contains(text)
                    && met.fetch_add(1, Ordering::Relaxed) + 1 == number
            });
            if is_meant || reached.load(Ordering::Relaxed) {
                reached.store(true, Ordering::Relaxed);
                notify.notify_one();
                return Fate::Hang;
            }
            let number = match effect.side {
                Side::Before => count.load(Ordering::Relaxed),
                Side::After => count.fetch_add(1, Ordering::Relaxed),
            };
            if stop_at == Some((number, effect.side)) || stop_at.is_some_and(|(at, _)| number > at) {
                notify.notify_one();
                return Fate::Hang;
            }
            Fate::Go
        });
        let access = access_with(&self.twin, self.cluster.clone(), hook);
        let claims = ByHosts(host::Claims::new(Hosts::new(access.clone()), Vec::new()));
        let catalogue = Arc::new(StepsCatalogue::new(access));
        let mut engine =
            Engine::new(run, catalogue, self.twin.clock().clone()).claims(Arc::new(claims)).gates(Gates::Yes);
        if let Some(inbox) = inbox {
            engine = engine.inbox(inbox);
        }
        tokio::select! {
            outcome = engine.drive() => Some(outcome),
            () = stopped.notified() => None,
        }
    }

    pub fn plan(&self, text: &str) -> Plan {
        let catalogue = StepsCatalogue::offline();
        let runbook = runbook::parse::<AnyAction>(SourceText::new("test.ron", text), &catalogue);
        let runbook = runbook.unwrap_or_else(|found| panic!("{found}"));
        let planned = plan::build(&runbook, &self.cluster, &Request::default(), &catalogue);
        planned.unwrap_or_else(|found| panic!("{found}")).plan
    }

    fn new_run(&self, id: RunId, text: &str) -> NewRun {
        let plan = self.plan(text);
        let source =
            |name: &str| Source { name: name.to_owned(), origin: "embedded".to_owned(), digest: String::new() };
        NewRun {
            id,
            opened: RunOpened {
                tool: "test".to_owned(),
                runbook: source(&plan.runbook),
                cluster: source("twin"),
                params: plan.params.clone(),
                revisions: BTreeMap::new(),
                topology: plan.topology,
                speed: 1,
                who: "test@host".to_owned(),
                lost: Vec::new(),
                yes: true,
                parent: None,
                rollback: false,
                trace_parent: None,
            },
            plan,
            runbook: text.to_owned(),
            cluster: String::new(),
            waivers: Vec::new(),
        }
    }
}

struct ByHosts(host::Claims);

#[async_trait]
impl Claims for ByHosts {
    async fn acquire(&self, run: &RunId) -> Result<Claim, ClaimError> {
        let taken = self.0.acquire("test@host", run, Takeover::Anyone).await;
        Ok(taken.map_err(|error| Failure::transient(error.to_string()))?.claim)
    }

    async fn verify(&self, claim: &Claim) -> Result<(), ClaimError> {
        Ok(self.0.verify(claim).await.map_err(|error| Failure::transient(error.to_string()))?)
    }

    async fn release(&self, claim: &Claim) -> Result<(), ClaimError> {
        self.0.release(claim).await;
        Ok(())
    }
}
