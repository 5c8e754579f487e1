//! Diagnostics of the program itself, on standard error: by `-v`, or by `RUST_LOG`.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::show::Colour;
use crate::telemetry;

/// Starts the log and, when the environment asks for traces, their layer.
pub fn start(verbose: u8) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_filter(verbose)));
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(Colour::of_stderr() == Colour::On)
        .with_target(verbose > 1)
        .with_filter(filter);
    // Only our own spans: those of hyper and of the exporter itself would trace the export (deps of opentelemetry).
    let traced = EnvFilter::new("off,rke2flow=info,rke2flow_engine=info,rke2flow_steps=info");
    let traces = telemetry::layer().map(|layer| layer.with_filter(traced));
    // A second start happens only in tests, and changes nothing.
    let _ = tracing_subscriber::registry().with(log).with(traces).try_init();
}

fn default_filter(verbose: u8) -> &'static str {
    match verbose {
        0 => "error,rke2flow=warn,rke2flow_engine=warn,rke2flow_steps=warn,rke2flow_twin=warn,opentelemetry=off",
        1 => "error,rke2flow=info,rke2flow_engine=info,rke2flow_steps=info,rke2flow_twin=info,opentelemetry=off",
        2 => "warn,rke2flow=debug,rke2flow_engine=debug,rke2flow_steps=debug,rke2flow_twin=debug",
        _ => "debug,rke2flow=trace,rke2flow_engine=trace,rke2flow_steps=trace,rke2flow_twin=trace",
    }
}
