//! `doctor`: whether every host can be reached, and whether the cluster is well.

use std::sync::Arc;

use rke2flow_engine::cluster::Cluster;
use rke2flow_steps::access::ssh::HostReport;
use rke2flow_steps::catalogue::StepsCatalogue;
use rke2flow_steps::ports::Access;
use serde_json::json;

use super::{block_on, print, print_json};
use crate::args::{Global, Making, Output};
use crate::exit::{Exit, Outcome, Problem};
use crate::probing::{self, Finding, Verdict};
use crate::show::{self, Colour};
use crate::world::Checked;
use crate::{making, place, reading, world};

/// One thing that was looked at.
struct Check {
    target: String,
    what: String,
    well: bool,
    observed: String,
}

/// Looks at everything, also when something fails.
pub fn doctor(global: &Global) -> Outcome {
    let path = place::cluster_path(global)?;
    let cluster = Arc::new(reading::read_cluster(&path)?.cluster);
    block_on(async {
        let connected = world::open(cluster.clone(), &[]).await?;
        let checked = connected.shell.check_all(&world::hosts(&cluster, &[])).await;
        let mut checks: Vec<Check> = checked.iter().flat_map(of_host).collect();
        let silent: Vec<String> =
            checked.iter().filter(|(_, answer)| answer.is_err()).map(|(host, _)| host.to_string()).collect();
        if silent.len() < cluster.hosts.len() {
            checks.extend(of_cluster(global, &connected.access, &cluster, silent.clone()).await?);
        }
        tell(global, &cluster, &checks, silent.len())
    })
}

fn of_host((host, answer): &Checked) -> Vec<Check> {
    let check = |what: &str, well: bool, observed: String| Check {
        target: host.to_string(),
        what: what.to_owned(),
        well,
        observed,
    };
    match answer {
        Err(error) => vec![check("ssh", false, error.to_string())],
        Ok(report) => vec![
            check("ssh", true, way(report)),
            check("unit", report.survey.unit == "active", unit(report)),
            check("free of holds", !report.survey.hold, hold(report)),
            check("claim", true, claim(report)),
        ],
    }
}

fn way(report: &HostReport) -> String {
    let origin = if report.origin.is_empty() { String::new() } else { format!(" [{}]", report.origin) };
    format!("{}, {} ms{origin}", report.host_key, report.took.as_millis())
}

fn unit(report: &HostReport) -> String {
    let survey = &report.survey;
    let state = if survey.unit.is_empty() { "no unit" } else { &survey.unit };
    format!("{state}, installed {}", if survey.installed.is_empty() { "nothing" } else { &survey.installed })
}

fn hold(report: &HostReport) -> String {
    if report.survey.hold { "a run holds RKE2 down here: rke2flow status".to_owned() } else { String::new() }
}

fn claim(report: &HostReport) -> String {
    match &report.survey.claim {
        None => "nobody has ever claimed it".to_owned(),
        Some(state) if state.released => format!("released by {}", state.claim.holder),
        Some(state) => format!("held by {} for run {}", state.claim.holder, state.claim.run),
    }
}

/// The embedded health runbook, looked at and not carried out.
async fn of_cluster(
    global: &Global,
    access: &Access,
    cluster: &Arc<Cluster>,
    silent: Vec<String>,
) -> Result<Vec<Check>, Problem> {
    let making = Making { runbook: "health".to_owned(), lost: silent, ..Making::default() };
    let made = match making::make(global, &making) {
        Ok(made) => made,
        // With too few servers left there is no plan; the silent hosts are told already.
        Err(problem) => {
            let target = cluster.name.clone();
            let check = Check { target, what: "health".to_owned(), well: false, observed: problem.observed };
            return Ok(vec![check]);
        }
    };
    let findings = probing::probe(&made.planned.plan, &StepsCatalogue::new(access.clone())).await;
    Ok(findings.iter().map(of_finding).collect())
}

fn of_finding(finding: &Finding) -> Check {
    Check {
        target: finding.target.to_string(),
        what: finding.instance.as_str().split('@').next().unwrap_or_default().to_owned(),
        well: finding.verdict == Verdict::Done,
        observed: match finding.verdict {
            Verdict::Done => String::new(),
            Verdict::KnownAfter => format!("known after {}", finding.why),
            _ => finding.why.clone(),
        },
    }
}

fn tell(global: &Global, cluster: &Cluster, checks: &[Check], silent: usize) -> Outcome {
    let ill = checks.iter().filter(|check| !check.well).count();
    if global.output == Output::Json {
        let list: Vec<_> = checks
            .iter()
            .map(|check| {
                json!({"target": check.target, "check": check.what, "pass": check.well, "observed": check.observed})
            })
            .collect();
        print_json(&json!({"schema": "rke2flow.dev/doctor/v1", "cluster": cluster.name, "checks": list}));
    } else {
        let colour = Colour::of_stdout();
        let rows = checks.iter().map(|check| {
            let word = if check.well { colour.good("PASS") } else { colour.bad("FAIL") };
            vec![word, check.target.clone(), check.what.clone(), check.observed.clone()]
        });
        print(&show::table(&["", "TARGET", "CHECK", "OBSERVED"], rows));
    }
    match (silent, ill) {
        (0, 0) => Ok(Exit::Done),
        (0, ill) => Err(Problem::new(Exit::Failed, format!("{ill} of {} checks fail", checks.len()))),
        (silent, _) => {
            Err(Problem::new(Exit::Refused, format!("{silent} of {} hosts cannot be used", cluster.hosts.len()))
                .next("rke2flow trust   (when it is the host key, and you know why)"))
        }
    }
}
