//! `twin up`: a simulated cluster in the foreground.

use std::sync::Arc;

use rke2flow_engine::clock::Clock;
use rke2flow_steps::distribution::Traits;
use rke2flow_twin::serve;
use rke2flow_twin::{Fault, Twin, TwinSpec};
use tokio::signal::unix::{SignalKind, signal};

use super::{block_on, print};
use crate::args::{TwinShape, TwinUpArgs};
use crate::exit::{Exit, Outcome, Problem};

/// Serves a twin until Ctrl-C, SIGTERM, or a shutdown through its control port.
pub fn up(args: &TwinUpArgs) -> Outcome {
    let spec = spec_of(&args.twin)?;
    block_on(async {
        let cannot =
            |error: &dyn std::fmt::Display| Problem::new(Exit::Failed, "cannot start the twin").observed(error);
        let twin = Twin::new(spec, Clock::with_speed(args.twin.speed));
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| cannot(&error))?;
        let running = serve::up(Arc::new(twin), &args.dir).await.map_err(|error| cannot(&error))?;
        print(&format!("the twin is up: {}", running.cluster_ron.display()));
        eprintln!("next: rke2flow run upgrade --cluster {}", running.cluster_ron.display());
        tokio::select! {
            () = running.stopped() => {}
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        running.shutdown().await;
        Ok(Exit::Done)
    })
}

/// What the options say about a twin.
pub fn spec_of(shape: &TwinShape) -> Result<TwinSpec, Problem> {
    let mut spec = TwinSpec {
        servers: shape.servers as usize,
        agents: shape.agents as usize,
        speed: shape.speed,
        upgrade_controller: true,
        ..TwinSpec::of(shape.distribution.into())
    };
    if let Some(version) = &shape.version {
        rke2flow_engine::cluster::check_version(version).map_err(Problem::bad_input)?;
        let build = format!("+{}", spec.paths().name);
        if !version.contains(&build) {
            let what = format!("{version} is no release of {}", Traits::of(spec.distribution).title);
            return Err(Problem::bad_input(what).next("--distribution k3s goes with versions such as v1.33.4+k3s1"));
        }
        spec.version.clone_from(version);
        if !spec.releases.contains(version) {
            spec.releases.insert(0, version.clone());
        }
    }
    for text in &shape.fault {
        let fault: Fault = ron::Options::default()
            .with_default_extension(ron::extensions::Extensions::IMPLICIT_SOME)
            .from_str(text)
            .map_err(|error| {
                Problem::bad_input(format!("cannot read the fault `{text}`"))
                    .observed(error)
                    .next("rke2flow rehearse upgrade --fault 'UploadFails(1)'\nrke2flow rehearse upgrade --fault 'RestartHangs(host: \"server-1\", times: 1)'")
            })?;
        spec.faults.push(fault);
    }
    Ok(spec)
}
