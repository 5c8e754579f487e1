//! The stand-in for RKE2: one program under the names of its processes.

pub mod agent;
pub mod archive;
pub mod bootstrap;
pub mod children;
pub mod cleanup;
pub mod container;
pub mod embedded;
pub mod etcd;
pub mod flavor;
pub mod http;
pub mod join;
pub mod kubelet;
pub mod layout;
pub mod log;
pub mod manifest;
pub mod member;
pub mod membership;
pub mod node;
pub mod password;
pub mod release;
pub mod reset;
pub mod runtime;
pub mod s3;
pub mod server;
pub mod settings;
pub mod snapshot;
pub mod snapshot_cli;
pub mod snapshot_record;
pub mod storage;
pub mod supervisor;
pub mod token;
pub mod workload;

use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::node::Ending;
use self::settings::Settings;
use crate::process::ControlPlane;

/// Runs the process that the program was called as: by its own name, or by its first argument.
pub fn run(words: Vec<String>) -> ExitCode {
    let name = |word: &String| Path::new(word).file_name().map(|name| name.to_string_lossy().into_owned());
    let mut words = words.into_iter();
    let mut called = words.next().as_ref().and_then(name).unwrap_or_default();
    if called == "lab-rke2" {
        called = words.next().unwrap_or_default();
    }
    // Others find processes by this name.
    let _ = fs::write("/proc/self/comm", &called);
    let arguments: Vec<String> = words.collect();
    let file = arguments.first().map(PathBuf::from).unwrap_or_default();
    if std::env::var_os(embedded::PART_VARIABLE).is_some()
        && let Err(error) = children::end_with_parent()
    {
        log::error(error.to_string());
        return ExitCode::FAILURE;
    }
    match called.as_str() {
        "rke2" | "k3s" => node(&called, &arguments),
        "containerd" => child(async { std::future::pending::<io::Result<()>>().await }),
        "kubelet" => child(kubelet::run(&file)),
        "containerd-shim-runc-v2" => container::shim(&arguments),
        "etcd" => storage::run(&arguments),
        "kube-apiserver" => block_on(async { crate::api::serve(control_plane(&file)?).await }),
        "kube-controller-manager" => block_on(async { crate::api::controllers(control_plane(&file)?).await }),
        "kube-scheduler" | "cloud-controller-manager" | "kube-proxy" | "pause" => {
            block_on(async { std::future::pending::<io::Result<()>>().await })
        }
        "lab-writer" => block_on(workload::run(&file)),
        _ => {
            eprintln!("lab-rke2: `{called}` is no process of RKE2");
            ExitCode::from(2)
        }
    }
}

/// `rke2 --release VERSION COMMAND …`, `k3s --release …`: the release comes from the wrapper that the release installed.
fn node(called: &str, arguments: &[String]) -> ExitCode {
    let [flag, version, arguments @ ..] = arguments else {
        eprintln!("{called}: no --release");
        return ExitCode::from(2);
    };
    if flag != "--release" {
        eprintln!("{called}: `{flag}` where --release should be");
        return ExitCode::from(2);
    }
    let (command, rest) = match arguments.split_first() {
        None => ("--help", &[][..]),
        Some((command, rest)) => (command.as_str(), rest),
    };
    if matches!(command, "--version" | "-v") {
        println!("{called} version {version} (lab)\ngo version none");
        return ExitCode::SUCCESS;
    }
    let settings = match Settings::read(flavor::traits(version), rest) {
        Ok(settings) => settings,
        Err(why) => return ended(Err(Ending::Error(why))),
    };
    match command {
        "server" => on_one_thread(until_told(server::run(version, settings))),
        "agent" => on_one_thread(until_told(agent::run(version, settings))),
        "etcd-snapshot" => on_one_thread(snapshot_cli::run(&settings)),
        _ => ended(Err(Ending::Error(format!("No help topic for '{command}'")))),
    }
}

/// A server or agent ends in order when it is told to: what it runs in containers is no part of that.
async fn until_told(run: impl Future<Output = Result<(), Ending>>) -> Result<(), Ending> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        ended = run => ended,
        _ = terminate.recv() => { log::info("Received terminated, shutting down"); Ok(()) }
        _ = interrupt.recv() => { log::info("Received interrupt, shutting down"); Ok(()) }
    }
}

fn ended(outcome: Result<(), Ending>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ending::Error(why)) => {
            log::fatal(format!("Error: {why}"));
            ExitCode::FAILURE
        }
        Err(Ending::Fatal(why)) => {
            log::fatal(why);
            ExitCode::FAILURE
        }
        Err(Ending::Shutdown(why)) => {
            log::error(format!("Shutdown request received: {why}"));
            ExitCode::SUCCESS
        }
    }
}

/// Children that end with their parent end with the thread that started them: here that is the main thread.
fn on_one_thread(run: impl Future<Output = Result<(), Ending>>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => ended(runtime.block_on(run)),
        Err(error) => ended(Err(error.into())),
    }
}

fn child(run: impl Future<Output = io::Result<()>>) -> ExitCode {
    match children::end_with_parent() {
        Ok(()) => block_on(run),
        Err(error) => {
            log::error(error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn block_on(run: impl Future<Output = io::Result<()>>) -> ExitCode {
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(run));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error(error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn control_plane(file: &Path) -> io::Result<ControlPlane> {
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}
