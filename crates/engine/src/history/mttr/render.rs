//! The times to recover as text for a terminal, and as markdown.

use std::fmt::Write;

use super::{ClusterRecoveries, Mttr, Outage, Recoveries};
use crate::cluster::Topology;
use crate::record::Verdict;
use crate::report::{BudgetVerdict, align, table, time};

/// Writes a table under its title.
type Section<'a> = &'a dyn Fn(&mut String, &str, &[Vec<String>]) -> std::fmt::Result;

impl Mttr {
    /// Plain, aligned text.
    pub fn to_text(&self) -> String {
        self.written(&|out, cluster| writeln!(out, "{}", heading(cluster)), &|out, title, rows| {
            write!(out, "\n{title}\n{}", align(rows))
        })
    }

    /// Markdown, for a review.
    pub fn to_markdown(&self) -> String {
        self.written(&|out, cluster| writeln!(out, "# {}", heading(cluster)), &|out, title, rows| {
            write!(out, "\n## {title}\n\n{}", table(rows))
        })
    }

    fn written(
        &self,
        head: &dyn Fn(&mut String, &ClusterRecoveries) -> std::fmt::Result,
        section: Section<'_>,
    ) -> String {
        let mut out = String::new();
        let mut write = || -> std::fmt::Result {
            for (at, cluster) in self.clusters.iter().enumerate() {
                if at > 0 {
                    writeln!(out)?;
                }
                head(&mut out, cluster)?;
                if cluster.runbooks.is_empty() {
                    writeln!(out, "\nno run that has ended here had an outage")?;
                }
                for runbook in &cluster.runbooks {
                    writeln!(out, "\n{}", summary(runbook))?;
                    section(&mut out, "outages", &outage_rows(runbook))?;
                    if !runbook.phases.is_empty() {
                        section(&mut out, "phases of the outage", &phase_rows(runbook))?;
                    }
                }
                writeln!(out, "\n{}", left_out(cluster))?;
            }
            Ok(())
        };
        write().expect("writing to a String cannot fail");
        out
    }
}

fn heading(cluster: &ClusterRecoveries) -> String {
    let servers: Vec<String> =
        cluster.servers.iter().map(|server| format!("{} at {}", server.name, server.address)).collect();
    format!("{} ({})", cluster.cluster, servers.join(", "))
}

fn summary(runbook: &Recoveries) -> String {
    let topology = match runbook.topology {
        Topology::Ha => "several servers",
        Topology::Single => "one server",
    };
    let mut line = format!("{}, {topology}: ", runbook.runbook);
    let (Some(median), Some(p90)) = (runbook.median_seconds, runbook.p90_seconds) else {
        return line + "no outage has ended in success";
    };
    let count = runbook.recovered;
    let outages = if count == 1 { "1 outage".to_owned() } else { format!("{count} outages") };
    line += &format!("time to recover median {}, p90 {}, of {outages}", time(median), time(p90));
    if runbook.over_budget > 0 {
        line += &format!("; {} OVER BUDGET", runbook.over_budget);
    }
    match runbook.trend {
        Some(trend) => {
            line + &format!("; earlier {}, lately {}", time(trend.earlier_seconds), time(trend.lately_seconds))
        }
        None => line,
    }
}

fn outage_rows(runbook: &Recoveries) -> Vec<Vec<String>> {
    let header = ["run", "began", "took", "budget", "verdict", "no engine", "at gates", "paused"];
    let row = |outage: &Outage| {
        let recovery = &outage.recovery;
        vec![
            outage.run.to_string(),
            recovery.started_at.strftime("%Y-%m-%d %H:%M").to_string(),
            time(recovery.seconds),
            recovery.budget_seconds.map_or_else(|| "-".to_owned(), time),
            verdict(outage).to_owned(),
            part(recovery.gap_seconds),
            part(recovery.gate_seconds),
            part(recovery.pause_seconds),
        ]
    };
    rows(&header, runbook.outages.iter().map(row))
}

fn verdict(outage: &Outage) -> &'static str {
    match (&outage.verdict, outage.recovery.verdict) {
        (Verdict::Aborted, _) => "aborted, not counted",
        (Verdict::Superseded { .. }, _) => "superseded, not counted",
        (Verdict::Succeeded, BudgetVerdict::Over) => "OVER BUDGET",
        (Verdict::Succeeded, BudgetVerdict::Within) => "within budget",
        (Verdict::Succeeded, _) => "recovered",
    }
}

fn phase_rows(runbook: &Recoveries) -> Vec<Vec<String>> {
    let header = ["phase", "median", "p90", "budget", "over budget"];
    let row = |phase: &super::PhaseHistory| {
        vec![
            phase.id.to_string(),
            time(phase.median_seconds),
            time(phase.p90_seconds),
            phase.budget_seconds.map_or_else(|| "-".to_owned(), time),
            format!("{} of {}", phase.over_budget, phase.count),
        ]
    };
    rows(&header, runbook.phases.iter().map(row))
}

fn rows(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    let header = header.iter().map(|cell| (*cell).to_owned()).collect();
    std::iter::once(header).chain(rows).collect()
}

fn part(seconds: f64) -> String {
    if seconds > 0.0 { time(seconds) } else { "-".to_owned() }
}

fn left_out(cluster: &ClusterRecoveries) -> String {
    let counted = |count: usize, one: &str, more: &str| format!("{count} {}", if count == 1 { one } else { more });
    format!(
        "not counted: {}, {}",
        counted(cluster.without_outage, "run without an outage", "runs without an outage"),
        counted(cluster.rehearsals, "rehearsal", "rehearsals")
    )
}
