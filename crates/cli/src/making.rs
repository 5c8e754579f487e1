//! From what was typed to a plan: the runbook, the cluster file, parameters.

use std::sync::Arc;

use rke2flow_engine::cluster::{Cluster, ClusterFile};
use rke2flow_engine::id::HostName;
use rke2flow_engine::plan::{self, Planned, Request};
use rke2flow_engine::record::Source;
use rke2flow_steps::catalogue::StepsCatalogue;
use serde::{Deserialize, Serialize};

use crate::args::{Global, Making};
use crate::exit::Problem;
use crate::place;
use crate::reading::{self, Found};

/// A plan with everything that it was made of.
pub struct Made {
    /// The runbook's text, and where it comes from.
    pub found: Found,
    /// The cluster file.
    pub file: ClusterFile,
    /// The cluster, to be shared.
    pub cluster: Arc<Cluster>,
    /// Where the cluster file is.
    pub cluster_origin: String,
    /// What was asked for.
    pub asked: Asked,
    /// The plan and what looks wrong about it.
    pub planned: Planned,
}

/// What was asked for beside the runbook and the cluster file, as it was typed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// Parameters, as NAME=VALUE.
    pub set: Vec<String>,
    /// Hosts that are declared lost.
    pub lost: Vec<String>,
    /// The server that is reset and restored.
    pub init: Option<String>,
    /// The only hosts that take part.
    pub limit: Vec<String>,
}

impl Asked {
    fn of(making: &Making) -> Self {
        let Making { set, lost, init, limit, .. } = making.clone();
        Self { set, lost, init, limit }
    }

    /// As options of the command line, each after a space.
    pub fn options(&self) -> String {
        let named = |name: &str, values: &[String]| {
            values.iter().map(|value| format!(" --{name} {}", quoted(value))).collect::<String>()
        };
        let init: Vec<String> = self.init.iter().cloned().collect();
        [named("set", &self.set), named("lost", &self.lost), named("init", &init), named("limit", &self.limit)].concat()
    }
}

/// A word for a shell to read.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_@%+=:,./-".contains(letter);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

impl Made {
    /// The hosts that are declared lost.
    pub fn lost(&self) -> Vec<HostName> {
        self.planned.plan.hosts.iter().filter(|host| host.lost).map(|host| host.name.clone()).collect()
    }

    /// Where the runbook comes from, as a run remembers it.
    pub fn runbook_source(&self) -> Source {
        Source {
            name: self.planned.plan.runbook.clone(),
            origin: self.found.origin.clone(),
            digest: self.found.source.digest(),
        }
    }

    /// Where the cluster file comes from, as a run remembers it.
    pub fn cluster_source(&self) -> Source {
        Source {
            name: self.cluster.name.clone(),
            origin: self.cluster_origin.clone(),
            digest: self.file.source.digest(),
        }
    }
}

/// Reads both files and plans. Says on standard error which runbook it is, and what looks wrong.
pub fn make(global: &Global, making: &Making) -> Result<Made, Problem> {
    let path = place::cluster_path(global)?;
    let found = reading::find_runbook(&making.runbook)?;
    let file = reading::read_cluster(&path)?;
    let origin = std::path::absolute(&path).unwrap_or(path).display().to_string();
    make_of(found, file, origin, making)
}

/// Plans for a cluster file that was read already.
pub fn make_of(found: Found, file: ClusterFile, cluster_origin: String, making: &Making) -> Result<Made, Problem> {
    let mut cluster = file.cluster.clone();
    if let Some(init) = &making.init {
        cluster.init = Some(chosen_init(&cluster, init)?);
    }
    let runbook = reading::read_runbook(&found)?;
    let request = Request { set: making.set.clone(), lost: making.lost.clone(), limit: making.limit.clone() };
    let planned = plan::build(&runbook, &cluster, &request, &StepsCatalogue::offline()).map_err(|problems| {
        Problem::bad_input(format!("cannot plan {} for {cluster_origin}", making.runbook)).observed(problems)
    })?;
    // A lost init server has been replaced: actions ask the cluster, not the plan, and a run keeps it like this.
    cluster.init.clone_from(&planned.plan.init);
    eprintln!("{}", found.summary());
    for warnings in [&file.warnings, &planned.warnings] {
        if !warnings.is_empty() {
            eprintln!("{warnings}");
        }
    }
    Ok(Made { found, file, cluster: Arc::new(cluster), cluster_origin, asked: Asked::of(making), planned })
}

/// The server that `--init` names.
fn chosen_init(cluster: &Cluster, name: &str) -> Result<HostName, Problem> {
    let mut servers = cluster.servers().map(|host| &host.name);
    servers.find(|server| server.as_str() == name).cloned().ok_or_else(|| {
        let known: Vec<&str> = cluster.servers().map(|host| host.name.as_str()).collect();
        Problem::bad_input(format!("--init {name} is no server of the cluster file"))
            .observed(format!("its servers are {}", known.join(", ")))
    })
}
