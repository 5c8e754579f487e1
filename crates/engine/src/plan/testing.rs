//! Clusters and plans for tests of planning.

use super::{Plan, Request, build};
use crate::cluster::{self, Cluster};
use crate::id::Target;
use crate::runbook::{self, Runbook};
use crate::source::SourceText;
use crate::testing::{Toy, ToyCatalogue};

/// A cluster file's hosts: `server-0 …` and `agent-0 …`.
pub fn cluster(servers: usize, agents: usize) -> Cluster {
    let host = |kind: &str, role: &str, number: usize, octet: usize| {
        format!(r#"(name: "{kind}-{number}", address: "10.0.{octet}.{number}", role: {role}, groups: ["{kind}s"])"#)
    };
    let servers = (0..servers).map(|number| host("server", "Server", number, 0));
    let agents = (0..agents).map(|number| host("agent", "Agent", number, 1));
    let hosts: Vec<String> = servers.chain(agents).collect();
    let text = format!(r#"(format: 1, name: "toy", version: "v1.33.4+rke2r1", hosts: [{}])"#, hosts.join(",\n"));
    cluster::parse(SourceText::new("cluster.ron", text), std::path::Path::new("/")).unwrap().cluster
}

/// The text of a runbook with phases `p` (Before), `o` (Outage) and `q` (After).
pub fn runbook_text(params: &str, steps: &str) -> String {
    format!(
        r#"Runbook(format: 1, name: "toy", params: {{{params}}},
phases: [(id: "p", clock: Before), (id: "o", clock: Outage), (id: "q", clock: After)],
steps: [
{steps}
])"#
    )
}

/// The text of a runbook whose phases `a` and `b` are repeated over the releases `v`; `b` is ahead; `z` comes after.
pub fn repeated_text(steps: &str) -> String {
    format!(
        r#"Runbook(format: 1, name: "toy", params: {{"v": Versions(["${{cluster.version}}"])}},
repeat: (over: "v", phases: ["a", "b", "c"], ahead: ["b"]),
phases: [
  (id: "first", clock: Before), (id: "a", clock: Before, budget: (ha: "1m", single: "1m")), (id: "b", clock: Before),
  (id: "c", clock: Before), (id: "z", clock: After),
],
steps: [
{steps}
])"#
    )
}

/// The plan of such a runbook for these releases.
pub fn repeated(steps: &str, releases: &str) -> Plan {
    let source = SourceText::new("toy.ron", repeated_text(steps));
    let runbook: Runbook<Toy> =
        runbook::parse(source, &ToyCatalogue::default()).unwrap_or_else(|found| panic!("{found}"));
    let request = Request { set: vec![format!("v={releases}")], ..Request::default() };
    let planned = build(&runbook, &cluster(3, 1), &request, &ToyCatalogue::default());
    planned.unwrap_or_else(|found| panic!("{found}")).plan
}

/// A runbook that is right.
pub fn runbook_of(params: &str, steps: &str) -> Runbook<Toy> {
    let source = SourceText::new("toy.ron", runbook_text(params, steps));
    runbook::parse(source, &ToyCatalogue::default()).unwrap_or_else(|found| panic!("{found}"))
}

/// The plan of steps that are right, with hosts declared lost.
pub fn plan_of(cluster: &Cluster, steps: &str, lost: &[&str]) -> Plan {
    let request = Request { lost: lost.iter().map(|name| (*name).to_owned()).collect(), ..Request::default() };
    let planned = build(&runbook_of("", steps), cluster, &request, &ToyCatalogue::default());
    planned.unwrap_or_else(|found| panic!("{found}")).plan
}

/// What refuses a plan.
pub fn refusal_of(cluster: &Cluster, params: &str, steps: &str, request: &Request) -> String {
    let refused = build(&runbook_of(params, steps), cluster, request, &ToyCatalogue::default());
    refused.map(|planned| format!("{:?}", planned.plan)).unwrap_err().to_string()
}

/// The plan of a runbook that is right.
pub fn planned(cluster: &Cluster, params: &str, steps: &str, request: &Request) -> Plan {
    let planned = build(&runbook_of(params, steps), cluster, request, &ToyCatalogue::default());
    planned.unwrap_or_else(|found| panic!("{found}")).plan
}

/// A step's targets as text.
pub fn targets(plan: &Plan, step: usize) -> String {
    plan.steps[step].targets.iter().map(Target::to_string).collect::<Vec<_>>().join(" ")
}
