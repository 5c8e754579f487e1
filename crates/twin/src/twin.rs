//! The twin as others use it: commands, API requests, HTTP probes, bucket, log, verdict.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rke2flow_engine::clock::Clock;
use rke2flow_engine::cluster::Cluster;
use rke2flow_engine::id::HostName;
use rke2flow_steps::answer::Survey;
use rke2flow_steps::ports::Output;
use serde_json::Value;

use crate::judge::Violation;
use crate::kube::request::{KubeHttp, KubeReply};
use crate::kube::store::Key;
use crate::s3::store::{Buckets, S3Store};
use crate::spec::{Fault, TwinSpec};
use crate::tamper::Tamper;
use crate::world::World;
use crate::world::log::{LogEntry, Recorder};

/// A simulated cluster. Cheap to clone; all clones are the same cluster.
#[derive(Clone)]
pub struct Twin {
    inner: Arc<Inner>,
}

/// How everything was at one moment.
#[derive(Debug)]
pub struct Saved {
    world: World,
    bucket: Buckets,
}

struct Inner {
    clock: Clock,
    spec: TwinSpec,
    recorder: Arc<Recorder>,
    bucket: Arc<S3Store>,
    world: Mutex<World>,
}

impl Twin {
    /// A healthy cluster that has been running for a day, on this clock.
    pub fn new(spec: TwinSpec, clock: Clock) -> Self {
        let recorder = Arc::new(Recorder::new(clock.clone()));
        let bucket = Arc::new(S3Store::new(&spec.bucket, recorder.clone()));
        let world = Mutex::new(World::new(&spec, recorder.clone(), bucket.clone()));
        Self { inner: Arc::new(Inner { clock, spec, recorder, bucket, world }) }
    }

    /// What it was made of.
    pub fn spec(&self) -> &TwinSpec {
        &self.inner.spec
    }

    /// Its clock.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Whether the host has power: nothing answers there otherwise, its SSH included.
    pub fn reachable(&self, host: &HostName) -> bool {
        self.world().reachable(host)
    }

    /// Runs a script of rke2flow on a host: the envelope in its first line is interpreted. A script without an envelope
    /// is refused with exit 127. `login_user` is who logged in.
    pub async fn shell(&self, host: &HostName, login_user: &str, script: &str) -> Output {
        self.shell_now(host, login_user, script)
    }

    /// [`Twin::shell`] without waiting.
    pub fn shell_now(&self, host: &HostName, login_user: &str, script: &str) -> Output {
        self.world().shell(host, login_user, script)
    }

    /// What a host saw in a process's arguments, such as the command of an SSH exec: secrets must not be there.
    pub fn saw_arguments(&self, host: &HostName, arguments: &str) {
        self.world().saw_arguments(host, arguments);
    }

    /// Sends a request to the API server on this host's 127.0.0.1:6443. Check [`Twin::listening`] first: a refused
    /// connection has no reply.
    pub async fn kube(&self, host: &HostName, request: KubeHttp) -> KubeReply {
        let delay = self.api_delay();
        if delay > Duration::ZERO {
            self.inner.clock.sleep(delay).await;
        }
        self.kube_now(host, &request)
    }

    /// The delay of every request to the Kubernetes API.
    pub(crate) fn api_delay(&self) -> Duration {
        self.world().api_delay()
    }

    /// [`Twin::kube`] without waiting.
    pub fn kube_now(&self, host: &HostName, request: &KubeHttp) -> KubeReply {
        self.world().kube(host, request)
    }

    /// Whether something listens on this port of this host.
    pub fn listening(&self, host: &HostName, port: u16) -> bool {
        self.world().listening(host, port)
    }

    /// GET on this host's loopback: `2381/health`, `<supervisor>/db/info`, `<supervisor>/ping`. `None`: connection refused.
    pub async fn http(&self, host: &HostName, port: u16, path: &str) -> Option<(u16, String)> {
        self.world().http(host, port, path)
    }

    /// Lets something more go wrong from now on.
    pub fn inject(&self, fault: Fault) {
        self.world().inject(fault);
    }

    /// Nothing goes wrong any more, except what has its moment already.
    pub fn mend(&self) {
        self.world().faults.clear();
    }

    /// Makes a fact of the world another one, behind everybody's back; the reason when there is nothing of the kind.
    pub fn tamper(&self, what: Tamper) -> Result<(), String> {
        self.world().tamper(what)
    }

    /// Remembers how everything is, for [`Twin::restore`].
    pub fn save(&self) -> Saved {
        Saved { world: self.world().clone(), bucket: self.inner.bucket.save() }
    }

    /// Makes everything as it was, except time.
    pub fn restore(&self, saved: &Saved) {
        *self.world() = saved.world.clone();
        self.inner.bucket.restore(saved.bucket.clone());
    }

    /// Pulls the host's plug and puts it back: units and containers are gone, what is enabled starts at boot.
    pub fn power_cycle(&self, host: &HostName) {
        self.world().power_off(host, Some(0));
    }

    /// Pulls the host's plug for good.
    pub fn power_off(&self, host: &HostName) {
        self.world().power_off(host, None);
    }

    /// What an application of the workload answers to the operator; `None`: nobody listens.
    pub fn application(&self, url: &str) -> Option<(u16, String)> {
        self.world().application(url)
    }

    /// The object store.
    pub fn bucket(&self) -> Arc<S3Store> {
        self.inner.bucket.clone()
    }

    /// The paths of the plain files on a host's disk.
    pub fn files(&self, host: &HostName) -> Vec<String> {
        self.world().hosts.get(host).map(|host| host.disk.files.keys().cloned().collect()).unwrap_or_default()
    }

    /// The hosts that this one remembers as lost.
    pub fn lost_marks(&self, host: &HostName) -> Vec<String> {
        let marks = |host: &crate::host::Host| host.disk.lost.iter().map(|mark| mark.host.clone()).collect();
        self.world().hosts.get(host).map(marks).unwrap_or_default()
    }

    /// Sets what `cat rke2.yaml` prints on a server, by whoever puts TLS in front of the API. Secret.
    pub fn set_kubeconfig(&self, host: &HostName, text: String) {
        self.world().set_kubeconfig(host, text);
    }

    /// What must never have happened and did, as of now; for the end of a rehearsal.
    pub fn judge(&self) -> Vec<Violation> {
        self.world().judge()
    }

    /// Everything that was done to the twin.
    pub fn log(&self) -> Vec<LogEntry> {
        self.inner.recorder.entries()
    }

    /// An object of the API as it is, by any server that answers.
    pub fn object(&self, key: &Key) -> Option<Value> {
        let world = self.world();
        world.reached().and_then(|plane| world.planes[plane].store.get(key).cloned())
    }

    /// What a host tells of itself.
    pub fn survey(&self, host: &HostName) -> Survey {
        self.world().survey(host)
    }

    /// The world without what legitimately differs between two runs (times, uids, revisions), for comparing them.
    pub fn fingerprint(&self) -> Value {
        self.world().fingerprint()
    }

    /// The inventory of this cluster, addresses as inside the model; whoever puts servers in front replaces
    /// addresses, ports, keys and the bucket's endpoint.
    pub fn cluster(&self) -> Cluster {
        crate::inprocess::cluster(&self.inner.spec)
    }

    /// The model, advanced to now.
    fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.inner.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.advance(self.inner.clock.elapsed());
        world
    }
}
