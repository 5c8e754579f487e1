//! What checks judge by: looked at once, for all that ask, and only when one asks.

use futures::future::join_all;
use rke2flow_engine::action::Failure;
use rke2flow_engine::clock::Clock;
use rke2flow_engine::cluster::{Host, Role};
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, OnceCell};

use super::Question;
use super::check::Seen;
use crate::actions::World;
use crate::answer::{Inspection, Survey};
use crate::kinds::Node;

/// What was seen, failures included: one host that does not answer must not hide what the others say.
pub(super) struct Evidence<'a> {
    pub world: &'a World,
    pub question: &'a Question,
    clock: &'a Clock,
    hosts: OnceCell<Vec<Asked<'a>>>,
    inspections: OnceCell<Vec<(&'a Host, Result<Inspection, Failure>)>>,
    nodes: OnceCell<Result<Vec<Node>, Failure>>,
    /// Whose turn it is to ask the API.
    api: Mutex<()>,
}

/// One host's answer, and when it was given by the clock here: in between, its own clock was read.
pub(super) struct Asked<'a> {
    pub host: &'a Host,
    pub survey: Result<Survey, Failure>,
    pub asked_ms: i64,
    pub answered_ms: i64,
}

impl<'a> Evidence<'a> {
    /// Nothing seen yet.
    pub fn new(world: &'a World, question: &'a Question, clock: &'a Clock) -> Self {
        Self {
            world,
            question,
            clock,
            hosts: OnceCell::new(),
            inspections: OnceCell::new(),
            nodes: OnceCell::new(),
            api: Mutex::new(()),
        }
    }

    /// Every host that is not lost.
    pub async fn hosts(&self) -> &[Asked<'a>] {
        let ask = || async {
            let lost = |host: &&Host| self.question.lost.iter().any(|name| name == host.name.as_str());
            let alive = self.world.cluster().hosts.iter().filter(|host| !lost(host));
            join_all(alive.map(|host| async move {
                let asked_ms = self.clock.now().as_millisecond();
                let survey = self.world.hosts().survey(&host.name).await;
                Asked { host, survey, asked_ms, answered_ms: self.clock.now().as_millisecond() }
            }))
            .await
        };
        self.hosts.get_or_init(ask).await
    }

    /// The hosts that answered. Those that did not are `hosts_reachable`'s.
    pub async fn surveys(&self) -> Vec<(&'a Host, &Survey)> {
        self.hosts().await.iter().filter_map(|asked| Some((asked.host, asked.survey.as_ref().ok()?))).collect()
    }

    /// The servers that answered.
    pub async fn servers(&self) -> Vec<(&'a Host, &Survey)> {
        let mut surveys = self.surveys().await;
        surveys.retain(|(host, _)| host.role == Role::Server);
        surveys
    }

    /// What the hosts that answered tell beyond their survey. One that does not is something that is wrong.
    pub async fn inspections(&self, seen: &mut Seen) -> Vec<(&'a Host, &Survey, &Inspection)> {
        let ask = || async {
            let inspect = |host: &'a Host| async move { (host, self.world.hosts().inspection(&host.name).await) };
            join_all(self.surveys().await.into_iter().map(|(host, _)| inspect(host))).await
        };
        let answers = self.inspections.get_or_init(ask).await;
        let mut told = Vec::new();
        for ((host, survey), (_, inspection)) in self.surveys().await.into_iter().zip(answers) {
            match inspection {
                Ok(inspection) => told.push((host, survey, inspection)),
                Err(failure) => seen.refuse(format!("{} cannot be inspected: {failure}", host.name), "rke2flow doctor"),
            }
        }
        told
    }

    /// Every object of a collection, one collection after the other: the first question looks for a server that answers,
    /// and many at once would each look for themselves. `None`: the API does not serve this kind.
    pub async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Option<Vec<T>>, Failure> {
        let _turn = self.api.lock().await;
        self.world.objects().list(path).await
    }

    /// Every node of the API.
    pub async fn nodes(&self) -> Result<&[Node], Failure> {
        let list = || async { Ok(self.list("/api/v1/nodes").await?.unwrap_or_default()) };
        self.nodes.get_or_init(list).await.as_ref().map(Vec::as_slice).map_err(Clone::clone)
    }
}
