//! `rke2flow-lab`: makes and drives a lab of real hosts by hand.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use rke2flow_lab::hosts::{self, Extent, Lab, LabError, LabName, Spec};

/// A lab of real hosts on this machine: systemd, OpenSSH, journald and etcd in namespaces.
#[derive(Parser)]
#[command(name = "rke2flow-lab", version)]
struct Arguments {
    /// Which lab: 1 to 11 of a-z and 0-9
    #[arg(long, global = true, default_value = "lab", env = "RKE2FLOW_LAB_NAME")]
    name: String,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a lab and write its cluster.ron
    Up(Up),
    /// Remove a lab, or what is left of one; it is no error when there is none
    Down {
        /// Every lab on this machine
        #[arg(long)]
        all: bool,
        /// Its directory, if `up` was ended before it had one mounted
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Run a command on a host as root
    Exec {
        /// The host
        host: String,
        /// The command; several words are joined by spaces, as ssh does
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Pull a cable: packets are lost without a word
    Cut {
        /// A host, `operator` (this machine) or `s3`
        host: String,
    },
    /// Put the cable in again
    Heal {
        /// A host, `operator` or `s3`
        host: String,
    },
    /// Take a host's power away
    Stop {
        /// The host
        host: String,
    },
    /// Turn a host on with its disk
    Boot {
        /// The host
        host: String,
    },
    /// Put a new machine in a host's place: same name and address, empty disk, new keys
    Replace {
        /// The host
        host: String,
    },
    /// Configure a host and install a release, as on a new machine; nothing is started
    Install {
        /// The host
        host: String,
        /// The version [default: the lab's]
        version: Option<String>,
    },
    /// Offer another release to the hosts, in /srv/lab/releases
    Release {
        /// The version, such as v1.34.2+rke2r1
        version: String,
    },
    /// What is on, what is connected, and what RKE2 does
    Status,
    /// The process of the lab's S3 endpoint
    #[command(hide = true)]
    S3 {
        /// Where it listens
        listen: std::net::SocketAddr,
        /// The lab's directory, which has its accounts
        directory: PathBuf,
    },
}

#[derive(Args)]
struct Up {
    /// The lab's directory: not there yet, or empty [default: /run/rke2flow-lab/NAME]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// How many servers
    #[arg(long, default_value_t = 3)]
    servers: u8,
    /// How many agents
    #[arg(long, default_value_t = 3)]
    agents: u8,
    /// The server that the others join
    #[arg(long, default_value = "server-0")]
    init: String,
    /// The version of RKE2 that runs
    #[arg(long, default_value = "v1.33.4+rke2r1")]
    version: String,
    /// Hosts alone: no S3 endpoint, nothing of RKE2 on them
    #[arg(long, conflicts_with = "installed")]
    bare: bool,
    /// RKE2 configured and installed on each host, neither enabled nor started
    #[arg(long)]
    installed: bool,
}

fn main() -> ExitCode {
    let Arguments { name, verb } = Arguments::parse();
    match LabName::new(&name).map_err(LabError::from).and_then(|name| run(&name, verb)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rke2flow-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &LabName, verb: Verb) -> Result<ExitCode, LabError> {
    match verb {
        Verb::Up(up) => make(name, up)?,
        Verb::Down { all: true, .. } => {
            for name in hosts::names()? {
                hosts::down(&name, &name.default_dir())?;
            }
        }
        Verb::Down { all: false, dir } => hosts::down(name, &dir.unwrap_or_else(|| name.default_dir()))?,
        Verb::Exec { host, command } => {
            let mut shell = Lab::open(name)?.host(&host)?.shell(&command.join(" "))?;
            let ended = shell.status().map_err(|source| LabError::File {
                what: "run a shell on",
                path: host.into(),
                source,
            })?;
            // As a shell says it of a command that a signal ended.
            return Ok(ExitCode::from(ended.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(255)));
        }
        Verb::Cut { host } => cut(&Lab::open(name)?, &host)?,
        Verb::Heal { host } => heal(&Lab::open(name)?, &host)?,
        Verb::Stop { host } => Lab::open(name)?.host(&host)?.stop()?,
        Verb::Boot { host } => Lab::open(name)?.host(&host)?.boot()?,
        Verb::Replace { host } => Lab::open(name)?.host(&host)?.replace()?,
        Verb::Install { host, version } => install(&Lab::open(name)?, &host, version)?,
        Verb::Release { version } => Lab::open(name)?.add_release(&version)?,
        Verb::Status => status(&Lab::open(name)?)?,
        Verb::S3 { listen, directory } => serve_s3(listen, &directory)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn make(name: &LabName, up: Up) -> Result<(), LabError> {
    let Up { dir, servers, agents, init, version, bare, installed } = up;
    let extent = match (bare, installed) {
        (true, _) => Extent::Bare,
        (false, true) => Extent::Installed,
        (false, false) => Extent::Running,
    };
    let dir = dir.unwrap_or_else(|| name.default_dir());
    let began = std::time::Instant::now();
    let lab = Lab::up(&Spec { name: name.clone(), dir, servers, agents, init, version, extent })?.keep();
    println!("lab `{name}` is up after {:.1} s in {}", began.elapsed().as_secs_f32(), lab.dir().display());
    status(&lab)
}

fn cut(lab: &Lab, name: &str) -> Result<(), LabError> {
    match name {
        "operator" => lab.cut_operator(),
        hosts::s3::PORT_NAME => lab.cut_s3(),
        host => lab.host(host)?.cut(),
    }
}

fn heal(lab: &Lab, name: &str) -> Result<(), LabError> {
    match name {
        "operator" => lab.heal_operator(),
        hosts::s3::PORT_NAME => lab.heal_s3(),
        host => lab.host(host)?.heal(),
    }
}

fn install(lab: &Lab, host: &str, version: Option<String>) -> Result<(), LabError> {
    let host = lab.host(host)?;
    host.configure()?;
    host.install(version.as_deref().unwrap_or(&lab.spec().version))
}

fn status(lab: &Lab) -> Result<(), LabError> {
    let dir = lab.dir().display();
    println!("lab `{}` in {dir}, cluster file {}", lab.spec().name, lab.cluster_file().display());
    let heads = ["HOST", "ADDRESS", "POWER", "CABLE", "UNIT", "STATE"];
    let [host, address, power, cable, unit, state] = heads;
    println!(
        "{host:<10} {address:<14} {power:<6} {cable:<6} {unit:<12} {state:<12} {:>10} {:>8}",
        "MEMORY MiB", "DISK MiB"
    );
    for host in lab.hosts() {
        let power = if host.is_on() { "on" } else { "off" };
        let cable = if host.is_connected()? { "in" } else { "cut" };
        let (name, address, unit) = (host.name(), host.address()?, host.unit());
        let state = host.exec(&format!("systemctl is-active {unit}")).map_or("-".to_owned(), |output| output.stdout);
        let (memory, disk) = (host.memory_bytes() >> 20, host.disk_bytes()? >> 20);
        let state = state.trim_end();
        println!("{name:<10} {address:<14} {power:<6} {cable:<6} {unit:<12} {state:<12} {memory:>10} {disk:>8}");
    }
    Ok(())
}

fn serve_s3(listen: std::net::SocketAddr, directory: &Path) -> Result<(), LabError> {
    let failed = |source| LabError::File { what: "start threads for", path: listen.to_string().into(), source };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(failed)?;
    runtime.block_on(hosts::s3::serve(listen, directory))
}
