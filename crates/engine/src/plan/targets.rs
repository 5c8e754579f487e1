//! Which hosts a step runs on: selectors, lost hosts, limits, conditions.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use crate::cluster::{Cluster, Distribution, Role, Topology};
use crate::diagnostic::{Diagnostic, in_order};
use crate::id::{HostName, Target};
use crate::runbook::{Condition, Selector};

/// The hosts of a cluster file by what selectors ask for. Positions in the file's order.
pub(super) struct Selection<'a> {
    cluster: &'a Cluster,
    by_name: HashMap<&'a str, usize>,
    groups: HashMap<&'a str, Vec<usize>>,
    params: &'a BTreeMap<String, Value>,
    servers: Vec<usize>,
    agents: Vec<usize>,
    all: Vec<usize>,
    init: Option<usize>,
    others: Vec<usize>,
}

/// The position that stands for the operator's machine: after every host.
pub(super) const OPERATOR_POSITION: usize = usize::MAX;

impl<'a> Selection<'a> {
    /// `lost` hosts, and hosts outside a `limit` that is not empty, are in no selection.
    /// The values of parameters say which hosts they select.
    pub fn new(
        cluster: &'a Cluster,
        lost: &[HostName],
        limit: &[HostName],
        params: &'a BTreeMap<String, Value>,
    ) -> Self {
        let lost: HashSet<&HostName> = lost.iter().collect();
        let limit: HashSet<&HostName> = limit.iter().collect();
        let alive = |index: &usize| !lost.contains(&cluster.hosts[*index].name);
        let wanted = |index: &usize| limit.is_empty() || limit.contains(&cluster.hosts[*index].name);
        let init = init_of(cluster, &lost);
        let all: Vec<usize> = (0..cluster.hosts.len()).filter(alive).filter(wanted).collect();
        let of_role = |role| all.iter().copied().filter(|&index| cluster.hosts[index].role == role).collect();
        let servers: Vec<usize> = of_role(Role::Server);
        let mut groups: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, host) in cluster.hosts.iter().enumerate() {
            for group in &host.groups {
                groups.entry(group).or_default().push(index);
            }
        }
        Self {
            cluster,
            by_name: cluster.hosts.iter().enumerate().map(|(index, host)| (host.name.as_str(), index)).collect(),
            groups,
            params,
            agents: of_role(Role::Agent),
            others: servers.iter().copied().filter(|&index| Some(index) != init).collect(),
            servers,
            all,
            init,
        }
    }

    /// The server that is reset and restored: the cluster file's, or the first one that is not lost.
    pub fn init(&self) -> Option<&'a HostName> {
        self.init.map(|index| &self.cluster.hosts[index].name)
    }

    /// The positions that a selector selects, in order.
    pub fn select(&self, selector: &Selector) -> Result<Vec<usize>, Diagnostic> {
        let present = |index: &usize| self.all.binary_search(index).is_ok();
        match selector {
            Selector::Operator => Ok(vec![OPERATOR_POSITION]),
            Selector::All => Ok(self.all.clone()),
            Selector::Servers => Ok(self.servers.clone()),
            Selector::Agents => Ok(self.agents.clone()),
            Selector::Init => Ok(self.init.into_iter().filter(present).collect()),
            Selector::OtherServers => Ok(self.others.clone()),
            Selector::Host(name) => match self.by_name.get(name.as_str()) {
                Some(&index) => Ok([index].into_iter().filter(present).collect()),
                None => {
                    let message = format!("the cluster file has no host `{name}`");
                    Err(Diagnostic::error(message).meant(name.as_str(), in_order(&self.by_name)))
                }
            },
            Selector::Group(name) => match self.groups.get(name.as_str()) {
                Some(group) => Ok(group.iter().copied().filter(present).collect()),
                None => {
                    let message = format!("no host of the cluster file is in the group `{name}`");
                    Err(Diagnostic::error(message).meant(name, in_order(&self.groups)))
                }
            },
            Selector::ServersOf(param) => self.listed(param, &self.servers),
            Selector::AgentsOf(param) => self.listed(param, &self.agents),
        }
    }

    /// The positions of the hosts that a parameter names, out of these.
    fn listed(&self, param: &str, among: &[usize]) -> Result<Vec<usize>, Diagnostic> {
        let value = self.params.get(param).ok_or_else(|| {
            Diagnostic::error(format!("there is no parameter `{param}`"))
                .meant(param, self.params.keys().map(String::as_str))
        })?;
        // A value that could not be read has been reported, and is null.
        let named: HashSet<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let is_named = |index: &usize| named.contains(self.cluster.hosts[*index].name.as_str());
        Ok(among.iter().copied().filter(is_named).collect())
    }

    /// The target at a position.
    pub fn target(&self, position: usize) -> Target {
        self.cluster.hosts.get(position).map_or(Target::Operator, |host| Target::Host(host.name.clone()))
    }

    /// Whether a server is at a position.
    pub fn is_server(&self, position: usize) -> bool {
        self.cluster.hosts.get(position).is_some_and(|host| host.role == Role::Server)
    }
}

fn init_of(cluster: &Cluster, lost: &HashSet<&HostName>) -> Option<usize> {
    let named = cluster.init_server().map(|host| &host.name).filter(|name| !lost.contains(name));
    let is_init = |host: &crate::cluster::Host| match named {
        Some(name) => host.name == *name,
        None => host.role == Role::Server && !lost.contains(&host.name),
    };
    cluster.hosts.iter().position(is_init)
}

/// The first condition that does not hold.
pub(super) fn first_unmet<'c>(
    conditions: &'c [Condition],
    cluster: &Cluster,
    params: &BTreeMap<String, Value>,
) -> Option<&'c Condition> {
    conditions.iter().find(|condition| !holds(condition, cluster, params))
}

fn holds(condition: &Condition, cluster: &Cluster, params: &BTreeMap<String, Value>) -> bool {
    match condition {
        Condition::Velero => cluster.velero.is_some(),
        Condition::S3 => cluster.s3.is_some(),
        Condition::HealthUrls => !cluster.health_urls.is_empty(),
        Condition::Ha => cluster.topology() == Topology::Ha,
        Condition::Single => cluster.topology() == Topology::Single,
        Condition::Rke2 => cluster.distribution == Distribution::Rke2,
        Condition::K3s => cluster.distribution == Distribution::K3s,
        Condition::NonEmpty(param) => params.get(param.as_str()).is_some_and(|value| !is_empty(value)),
        Condition::Not(inner) => !holds(inner, cluster, params),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}
