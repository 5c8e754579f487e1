//! Traces over OTLP, taken by a real receiver.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::Span;

use crate::collector::Collector;
use crate::scenario::{Scenario, THREE_STEPS};

fn find<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name} among {:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());
    found[0]
}

#[test]
fn a_run_is_one_trace_of_run_phase_step_and_attempt() {
    let collector = Collector::listen();
    let scenario = Scenario::with_twin().file("three.ron", THREE_STEPS);
    scenario.rke2flow_with(&collector.variables(), &["run", "three.ron"]).ends_with(0);
    let spans = collector.spans();
    let traces: BTreeSet<&[u8]> = spans.iter().map(|span| span.trace_id.as_slice()).collect();
    assert_eq!(traces.len(), 1);
    let (run, phase) = (find(&spans, "RUN three-steps"), find(&spans, "work"));
    let (step, attempt) = (find(&spans, "hold"), find(&spans, "HoldUnit@server-0"));
    assert!(run.parent_span_id.is_empty());
    assert_eq!(phase.parent_span_id, run.span_id);
    assert_eq!(step.parent_span_id, phase.span_id);
    assert_eq!(attempt.parent_span_id, step.span_id);
    assert_eq!(find(&spans, "engine").parent_span_id, run.span_id);
    assert!(attempt.start_time_unix_nano <= attempt.end_time_unix_nano);
    let keys: Vec<&str> = run.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert!(keys.contains(&"cicd.pipeline.run.id") && keys.contains(&"cicd.pipeline.result"), "{keys:?}");
}

#[test]
fn a_run_that_was_killed_and_resumed_is_one_trace_and_tells_every_span_once() {
    let collector = Collector::listen();
    let scenario = Scenario::with_slow_twin().file("three.ron", THREE_STEPS);
    let mut engine = scenario.start_with(&collector.variables(), &["run", "three.ron", "-o", "json"]);
    engine.wait_for("\"Settled\"");
    engine.kill();
    scenario.rke2flow_with(&collector.variables(), &["resume"]).ends_with(0);
    let spans = collector.spans();
    let traces: BTreeSet<&[u8]> = spans.iter().map(|span| span.trace_id.as_slice()).collect();
    let ids: BTreeSet<&[u8]> = spans.iter().map(|span| span.span_id.as_slice()).collect();
    assert_eq!(traces.len(), 1);
    assert_eq!(ids.len(), spans.len(), "a span was told twice");
    for name in ["RUN three-steps", "work", "hold", "release", "start", "HoldUnit@server-0", "StartUnit@server-0"] {
        find(&spans, name);
    }
}

#[test]
fn the_callers_trace_is_gone_on_with() {
    let collector = Collector::listen();
    let scenario = Scenario::with_twin().file("three.ron", THREE_STEPS);
    let mut variables = collector.variables();
    variables.push(("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    scenario.rke2flow_with(&variables, &["run", "three.ron"]).ends_with(0);
    let spans = collector.spans();
    let run = find(&spans, "RUN three-steps");
    assert_eq!(
        run.trace_id,
        [0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c]
    );
    assert_eq!(run.parent_span_id, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
}

#[test]
fn a_collector_that_does_not_answer_costs_at_most_two_seconds_and_no_exit_code() {
    // Accepts connections by its backlog, and never answers.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let scenario = Scenario::with_twin().file("three.ron", THREE_STEPS);
    let without = Instant::now();
    scenario.rke2flow(&["run", "three.ron"]).ends_with(0);
    let without = without.elapsed();
    let address = format!("http://{}", deaf.local_addr().unwrap());
    let with = Instant::now();
    scenario.rke2flow_with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &address)], &["run", "three.ron"]).ends_with(0);
    let more = with.elapsed().saturating_sub(without);
    assert!(more < Duration::from_millis(3500), "it cost {more:?}");
}
