//! Parse + validate + plan + order of 10, 1,000 and 100,000 steps, as a chain and as a fan, with the memory that it takes.
//!
//! Aim: 100,000 steps in less than 1 s and less than 300 MB. The peak is that of the process, so it is printed for the
//! largest runbook only, in a process of its own: `cargo bench --bench plan -- --peak`.

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use rke2flow_engine::cluster::{self, Cluster};
use rke2flow_engine::plan::{self, Forecast, Request};
use rke2flow_engine::runbook;
use rke2flow_engine::source::SourceText;
use rke2flow_engine::testing::{Toy, ToyCatalogue};

/// Steps of a benchmark run.
const SIZES: [usize; 3] = [10, 1_000, 100_000];

fn main() {
    if std::env::args().any(|argument| argument == "--peak") {
        for (shape, text) in [("chain", chain(SIZES[2])), ("fan", fan(SIZES[2]))] {
            let before = resident_peak_mb();
            let started = Instant::now();
            let steps = plan_of(&text);
            let took = started.elapsed();
            println!(
                "{shape}: {steps} steps, {} MB of text: {took:?}, peak {} MB ({before} MB before)",
                text.len() / 1_000_000,
                resident_peak_mb()
            );
        }
        return;
    }
    divan::main();
}

#[divan::bench(args = SIZES, sample_count = 5, sample_size = 1)]
fn chain_of_steps(bencher: divan::Bencher<'_, '_>, steps: usize) {
    let text = chain(steps);
    bencher.bench(|| plan_of(&text));
}

#[divan::bench(args = SIZES, sample_count = 5, sample_size = 1)]
fn fan_of_steps(bencher: divan::Bencher<'_, '_>, steps: usize) {
    let text = fan(steps);
    bencher.bench(|| plan_of(&text));
}

/// From the text to a plan with its forecast; returns the number of steps.
fn plan_of(text: &str) -> usize {
    let catalogue = ToyCatalogue::default();
    let runbook = runbook::parse::<Toy>(SourceText::new("bench.ron", text), &catalogue).expect("the runbook is right");
    let planned = plan::build(&runbook, &cluster(), &Request::default(), &catalogue).expect("the plan is right");
    let forecast = Forecast::of(&planned.plan, &catalogue).expect("there is no cycle");
    assert!(!forecast.critical_path.is_empty());
    planned.plan.steps.len()
}

fn cluster() -> Cluster {
    let text = r#"(format: 1, name: "bench", hosts: [(name: "server-0", address: "10.0.0.1", role: Server)])"#;
    cluster::parse(SourceText::new("cluster.ron", text), Path::new("/")).expect("the cluster is right").cluster
}

/// Each step needs the one before, and uses its fact.
fn chain(steps: usize) -> String {
    runbook_text(steps, |text, number| match number {
        0 => write!(text, "(id: \"s0\", phase: \"p\", on: Init, do: [Touch(mark: \"x\")]),"),
        _ => {
            let before = number - 1;
            write!(
                text,
                "(id: \"s{number}\", phase: \"p\", on: Init, needs: [All(\"s{before}\")], do: [Touch(mark: \"${{fact.s{before}.mark}}\")]),"
            )
        }
    })
}

/// One step, then all others at once, then one that needs all of them.
fn fan(steps: usize) -> String {
    let last = steps - 1;
    runbook_text(steps, |text, number| match number {
        0 => write!(text, "(id: \"s0\", phase: \"p\", on: Init, do: [Touch(mark: \"x\")]),"),
        _ if number == last => {
            let needs: Vec<String> = (1..last).map(|before| format!("All(\"s{before}\")")).collect();
            write!(
                text,
                "(id: \"s{last}\", phase: \"p\", on: Init, needs: [{}], do: [Touch(mark: \"x\")]),",
                needs.join(",")
            )
        }
        _ => write!(
            text,
            "(id: \"s{number}\", phase: \"p\", on: Init, needs: [All(\"s0\")], do: [Touch(mark: \"${{fact.s0.mark}}\")]),"
        ),
    })
}

fn runbook_text(steps: usize, step: impl Fn(&mut String, usize) -> std::fmt::Result) -> String {
    let mut text = String::from("(format: 1, name: \"bench\", phases: [(id: \"p\", clock: Before)], steps: [\n");
    for number in 0..steps {
        step(&mut text, number).expect("writing to a String cannot fail");
        text.push('\n');
    }
    text.push_str("])");
    text
}

/// The most memory that this process ever had, from the kernel's own count; 0 where there is no /proc.
fn resident_peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}
