//! `doctor`: whether every host can be reached, whether every guard would let a run begin, and whether the cluster is well.

use std::sync::Arc;

use rke2flow_engine::cluster::Cluster;
use rke2flow_steps::access::ssh::HostReport;
use rke2flow_steps::actions::guard::{self, Judgement, Outcome as Word, Question};
use rke2flow_steps::catalogue::StepsCatalogue;
use rke2flow_steps::ports::Access;
use serde_json::{Value, json};

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
    word: Word,
    observed: String,
    /// Why it matters, and who says so; empty for what is no guard.
    why: String,
    source: String,
    fix: String,
}

/// Looks at everything, also when something fails. Takes no claim and changes nothing.
pub fn doctor(global: &Global) -> Outcome {
    let path = place::cluster_path(global)?;
    let cluster = Arc::new(reading::read_cluster(&path)?.cluster);
    block_on(async {
        let connected = world::open(cluster.clone(), &[]).await?;
        let checked = connected.shell.check_all(&world::hosts(&cluster, &[])).await;
        let mut checks: Vec<Check> = checked.iter().flat_map(of_host).collect();
        let silent: Vec<String> =
            checked.iter().filter(|(_, answer)| answer.is_err()).map(|(host, _)| host.to_string()).collect();
        let mut refusing = 0;
        if silent.len() < cluster.hosts.len() {
            // What an upgrade to the cluster file's version would be asked.
            let question = Question { version: cluster.version.clone().unwrap_or_default(), ..Question::default() };
            let judgements = guard::examine(&connected.access, &question).await;
            refusing = judgements.iter().filter(|judgement| judgement.outcome == Word::Fail).count();
            checks.extend(judgements.iter().map(|judgement| of_guard(&cluster, judgement)));
            checks.extend(of_cluster(global, &connected.access, &cluster, silent.clone()).await?);
        }
        tell(global, &cluster, &checks);
        verdict(&checks, &cluster, silent.len(), refusing)
    })
}

fn of_guard(cluster: &Cluster, judgement: &Judgement) -> Check {
    let check = judgement.check;
    Check {
        target: cluster.name.clone(),
        what: check.to_string(),
        word: judgement.outcome,
        observed: judgement.observed.clone(),
        why: check.reason().to_owned(),
        source: check.source().to_owned(),
        fix: judgement.fix.clone(),
    }
}

fn plain(target: String, what: impl Into<String>, well: bool, observed: String) -> Check {
    let word = if well { Word::Pass } else { Word::Fail };
    Check { target, what: what.into(), word, observed, why: String::new(), source: String::new(), fix: String::new() }
}

fn of_host((host, answer): &Checked) -> Vec<Check> {
    let check = |what: &str, well: bool, observed: String| plain(host.to_string(), what, well, observed);
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
        Err(problem) => return Ok(vec![plain(cluster.name.clone(), "health", false, problem.observed)]),
    };
    let findings = probing::probe(&made.planned.plan, &StepsCatalogue::new(access.clone())).await;
    Ok(findings.iter().map(of_finding).collect())
}

fn of_finding(finding: &Finding) -> Check {
    let what = finding.instance.as_str().split('@').next().unwrap_or_default();
    let observed = match finding.verdict {
        Verdict::Done => String::new(),
        Verdict::KnownAfter => format!("known after {}", finding.why),
        _ => finding.why.clone(),
    };
    plain(finding.target.to_string(), what, finding.verdict == Verdict::Done, observed)
}

fn tell(global: &Global, cluster: &Cluster, checks: &[Check]) {
    if global.output == Output::Json {
        let list: Vec<Value> = checks.iter().map(as_json).collect();
        print_json(&json!({"schema": "rke2flow.dev/doctor/v1", "cluster": cluster.name, "checks": list}));
        return;
    }
    let colour = Colour::of_stdout();
    let rows = checks.iter().flat_map(|check| {
        let word = match check.word {
            Word::Pass => colour.good(check.word.word()),
            Word::Warn | Word::Waived => colour.warn(check.word.word()),
            Word::Fail => colour.bad(check.word.word()),
        };
        let mut rows = vec![vec![word, check.target.clone(), check.what.clone(), check.observed.clone()]];
        if !check.fix.is_empty() {
            let below = |text: String| vec![String::new(), String::new(), String::new(), text];
            rows.push(below(format!("why: {} ({})", check.why, check.source)));
            rows.push(below(format!("fix: {}", check.fix)));
        }
        rows
    });
    print(&show::table(&["", "TARGET", "CHECK", "OBSERVED"], rows));
}

fn as_json(check: &Check) -> Value {
    let mut told = json!({
        "target": check.target, "check": check.what, "pass": check.word != Word::Fail, "outcome": check.word,
        "observed": check.observed,
    });
    for (field, text) in [("reason", &check.why), ("source", &check.source), ("fix", &check.fix)] {
        if !text.is_empty() {
            told[field] = json!(text);
        }
    }
    told
}

fn verdict(checks: &[Check], cluster: &Cluster, silent: usize, refusing: usize) -> Outcome {
    let failing = checks.iter().filter(|check| check.word == Word::Fail).count();
    if silent > 0 {
        return Err(Problem::new(Exit::Refused, format!("{silent} of {} hosts cannot be used", cluster.hosts.len()))
            .next("rke2flow trust   (when it is the host key, and you know why)"));
    }
    if refusing > 0 {
        return Err(Problem::new(Exit::Refused, format!("{refusing} guards would refuse a run; nothing was changed"))
            .next("mend what fails, or pass over one of them: rke2flow run RUNBOOK --waive CHECK=REASON"));
    }
    match failing {
        0 => Ok(Exit::Done),
        failing => Err(Problem::new(Exit::Failed, format!("{failing} of {} checks fail", checks.len()))),
    }
}
