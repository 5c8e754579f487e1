//! What the embedded runbooks do to clusters of several sizes.

use std::path::Path;

use rke2flow_engine::cluster::{self, Cluster};
use rke2flow_engine::plan::{self, Request};
use rke2flow_engine::source::SourceText;
use rke2flow_steps::catalogue::StepsCatalogue;

use super::*;
use crate::reading;

fn cluster(servers: usize, agents: usize) -> Cluster {
    let host = |role: &str, net: usize, number: usize| {
        format!("(name: \"{}-{number}\", address: \"10.0.{net}.{number}\", role: {role})", role.to_lowercase())
    };
    let hosts: Vec<String> =
        (0..servers).map(|at| host("Server", 0, at)).chain((0..agents).map(|at| host("Agent", 1, at))).collect();
    let text = format!("(format: 1, name: \"test\", version: \"v1.34.1+rke2r1\", hosts: [{}])", hosts.join(", "));
    cluster::parse(SourceText::new("cluster.ron", text), Path::new("/"))
        .unwrap_or_else(|found| panic!("{found}"))
        .cluster
}

fn radius(runbook: &str, cluster: &Cluster, asked: Request) -> BlastRadius {
    let runbook = reading::read_runbook(&reading::find_runbook(runbook).unwrap()).unwrap();
    let catalogue = StepsCatalogue::offline();
    let planned = plan::build(&runbook, cluster, &asked, &catalogue).unwrap_or_else(|found| panic!("{found}"));
    let forecast = Forecast::of(&planned.plan, &catalogue).unwrap();
    BlastRadius::unseen(&planned.plan, &forecast)
}

fn names(nodes: &[HostName]) -> Vec<&str> {
    nodes.iter().map(HostName::as_str).collect()
}

#[test]
fn an_upgrade_of_three_servers_restarts_every_node_and_loses_no_api() {
    let radius = radius("upgrade", &cluster(3, 2), Request::default());
    let all = ["server-0", "server-1", "server-2", "agent-0", "agent-1"];
    assert_eq!((names(&radius.restarted), names(&radius.cordoned)), (all.to_vec(), all.to_vec()));
    assert!(radius.killed.is_empty() && radius.api_loss.expected == Span::default(), "{:?}", radius.api_loss);
    assert!(radius.api_loss.why.contains("keep quorum"), "{:?}", radius.api_loss);
    assert!(radius.not_rolled_back[0].contains("persistent volumes"));
    assert!(matches!(radius.single_replicas, Known::CannotTell { .. }));
}

#[test]
fn one_server_two_servers_and_three_of_which_one_is_lost_lose_the_api_while_one_restarts() {
    let lost = Request { lost: vec!["server-2".to_owned()], ..Request::default() };
    for (servers, asked, why) in [
        (1, Request::default(), "the only server restarts"),
        (2, Request::default(), "1 of 2 members of etcd are no quorum"),
        (3, lost, "1 of 3 members of etcd are no quorum"),
    ] {
        let loss = radius("upgrade", &cluster(servers, 0), asked).api_loss;
        assert!(loss.expected >= Span::from_secs(30) && loss.why.contains(why), "{servers}: {loss:?}");
    }
}

#[test]
fn a_rollback_stops_every_node_and_loses_the_api_for_the_forecast_of_its_outage() {
    let radius = radius("rollback", &cluster(3, 1), Request::default());
    assert_eq!(names(&radius.killed), ["server-0", "server-1", "server-2", "agent-0"]);
    assert!(radius.api_loss.expected >= Span::from_secs(60), "{:?}", radius.api_loss);
    assert!(radius.api_loss.why.contains("3 of 3 servers are stopped") && radius.api_loss.why.contains("budget 15m"));
    let opted = Request { set: vec!["data=shop,bank".to_owned()], ..Request::default() };
    let radius = self::radius("rollback", &cluster(3, 1), opted);
    assert!(radius.not_rolled_back[0].contains("other namespaces than shop, bank"), "{:?}", radius.not_rolled_back);
}

#[test]
fn a_look_at_the_health_touches_nothing() {
    let radius = radius("health", &cluster(3, 1), Request::default());
    assert!(radius.is_nothing() && radius.not_rolled_back.is_empty());
    assert_eq!(radius.api_loss.why, "no server stops serving");
}

#[test]
fn long_lists_are_cut_off_and_counted() {
    let known = Known::of((0..NAMED_MAX + 7).collect());
    assert!(matches!(known, Known::Known { ref named, more: 7 } if named.len() == NAMED_MAX));
}
