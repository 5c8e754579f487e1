//! The world as actions see it: the hosts, the Kubernetes objects and the bucket of one cluster.

use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use rke2flow_engine::action::{Applied, Context, Failure, FailureClass};
use rke2flow_engine::cluster::{Cluster, Host};
use rke2flow_engine::id::HostName;
use rke2flow_engine::value::Param;

use super::changes::Changes;
use super::ordered;
use crate::answer::Survey;
use crate::command::Change;
use crate::distribution::Traits;
use crate::host::Hosts;
use crate::kinds::{Lease, Node};
use crate::objects::Objects;
use crate::ports::{Access, Bucket};

/// How old a node's lease may be: kubelets renew it every 10 s, and Kubernetes itself gives up after 40 s.
pub(crate) const LEASE_FRESH: Duration = Duration::from_secs(60);

/// Everything that an action looks at and changes.
#[derive(Clone)]
pub struct World {
    hosts: Hosts,
    objects: Objects,
}

impl World {
    /// The world behind these ports.
    pub fn new(access: Access) -> Self {
        let objects = Objects::new(access.kube.clone());
        Self { hosts: Hosts::new(access), objects }
    }

    /// Its hosts.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Its Kubernetes objects.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// The ports behind it.
    pub fn access(&self) -> &Access {
        self.hosts.access()
    }

    /// Its cluster file.
    pub fn cluster(&self) -> &Cluster {
        &self.access().cluster
    }

    /// What its distribution is.
    pub fn distribution(&self) -> &'static Traits {
        Traits::of(self.cluster().distribution)
    }

    /// Its bucket.
    pub fn bucket(&self) -> Option<&dyn Bucket> {
        self.access().bucket.as_deref()
    }

    /// The host's entry in the cluster file.
    pub fn entry(&self, host: &HostName) -> Result<&Host, Failure> {
        let missing = || Failure::permanent(format!("there is no host `{host}` in the cluster file"));
        self.cluster().host(host).ok_or_else(missing)
    }

    /// The server that is reset and restored.
    pub fn init(&self) -> Result<&HostName, Failure> {
        let missing = || Failure::permanent("the cluster file has no server");
        self.cluster().init_server().map(|host| &host.name).ok_or_else(missing)
    }

    /// The servers that are not declared lost, in file order.
    pub fn servers(&self) -> impl Iterator<Item = &Host> {
        self.cluster().servers().filter(|host| !self.access().lost.contains(&host.name))
    }

    /// What the context's host tells of itself.
    pub async fn survey(&self, context: &Context) -> Result<Survey, Failure> {
        self.hosts.survey(host_of(context)?).await
    }

    /// What these hosts tell of themselves, asked all at once, in their order.
    pub async fn surveys<'a>(&self, hosts: impl Iterator<Item = &'a Host>) -> Vec<(&'a Host, Result<Survey, Failure>)> {
        let ask = |host: &'a Host| async move { (host, self.hosts.survey(&host.name).await) };
        join_all(hosts.map(ask)).await
    }

    /// Sends the attempt's one order to the context's host and follows it to its end.
    pub async fn order(&self, context: &Context, change: Change) -> Result<Applied, Failure> {
        self.hosts.order(context, host_of(context)?, change).await.map(ordered)
    }

    /// A node's object and lease, by any healthy server.
    pub async fn node(&self, name: &HostName) -> Result<(Option<Node>, Option<Lease>), Failure> {
        let (node, lease) = (Node::path(name.as_str()), Lease::path(name.as_str()));
        futures::future::try_join(self.objects.get(&node), self.objects.get(&lease)).await
    }

    /// Changes through the Kubernetes API, by any healthy server.
    pub(crate) fn changes<'a>(&'a self, context: &'a Context) -> Changes<'a> {
        Changes::new(self, context)
    }

    /// Reads the claim again on the first server that answers, and refuses when it is not ours any more.
    pub async fn check_claim(&self, context: &Context) -> Result<(), Failure> {
        let Some(claim) = &context.claim else {
            return Err(Failure::permanent("cannot change the cluster without a claim (a dry run changes nothing)"));
        };
        let mut silent = Vec::new();
        for server in self.servers() {
            let survey = match self.hosts.survey(&server.name).await {
                Ok(survey) => survey,
                Err(failure) => {
                    silent.push(failure.to_string());
                    continue;
                }
            };
            return match survey.claim {
                Some(state) if state.claim == *claim && !state.released => Ok(()),
                other => Err(lost_claim(&server.name, other)),
            };
        }
        Err(Failure::transient("no server tells who may act on the cluster").observed(silent.join("; ")))
    }
}

fn lost_claim(server: &HostName, state: Option<crate::answer::ClaimState>) -> Failure {
    let observed = match state {
        Some(state) => format!("run {} of {} (claim {})", state.claim.run, state.claim.holder, state.claim.number),
        None => "no claim at all".to_owned(),
    };
    Failure::of(FailureClass::Fenced, format!("{server} does not remember this run's claim"))
        .observed(observed)
        .next("rke2flow status")
}

/// The host that the step runs for.
pub(crate) fn host_of(context: &Context) -> Result<&HostName, Failure> {
    let missing = || Failure::permanent(format!("{} needs a host to run for", context.instance));
    context.target.host().ok_or_else(missing)
}

/// The hosts that a field names.
pub(crate) fn host_names(names: &[String]) -> Result<Vec<HostName>, Failure> {
    let read = |name: &String| HostName::new(name.as_str()).map_err(|error| Failure::permanent(error.to_string()));
    names.iter().map(read).collect()
}

/// The server that is restored: the one that a field names, or the cluster file's. They differ when the latter is lost.
pub(crate) fn restored(world: &World, server: &Param<String>) -> Result<HostName, Failure> {
    match known(server)?.as_str() {
        "" => world.init().cloned(),
        name => HostName::new(name).map_err(|error| Failure::permanent(error.to_string())),
    }
}

/// The value of a field.
pub(crate) fn known<T>(param: &Param<T>) -> Result<&T, Failure> {
    param.get().map_err(|error| Failure::permanent(error.to_string()))
}

/// A field with a moment; `None` when it is empty.
pub(crate) fn moment(param: &Param<String>) -> Result<Option<Timestamp>, Failure> {
    let text = known(param)?;
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |error| Failure::permanent(format!("`{text}` is not a moment such as 2026-01-01T00:00:00Z: {error}"));
    text.parse().map(Some).map_err(wrong)
}

/// A host's seconds since the epoch as a moment.
pub(crate) fn stamp(epoch: i64) -> Timestamp {
    Timestamp::from_second(epoch).unwrap_or(Timestamp::UNIX_EPOCH)
}
