//! `rke2flow-lab`: makes and drives a lab of real hosts by hand.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use rke2flow_lab::hosts::{self, Lab, LabError, LabName, Output, Spec};

/// How long `exec` lets a command run.
const EXEC_DEADLINE: Duration = Duration::from_secs(60 * 60);

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
    /// Pull a cable: a host's or `operator` (this machine's)
    Cut {
        /// The host
        host: String,
    },
    /// Put the cable in again
    Heal {
        /// The host
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
    /// What is on and what is connected
    Status,
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
    /// Hosts alone, with nothing of RKE2 on them
    #[arg(long)]
    bare: bool,
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
            let output = Lab::open(name)?.host(&host)?.exec_within(&command.join(" "), b"", EXEC_DEADLINE)?;
            return Ok(show(&output));
        }
        Verb::Cut { host } if host == "operator" => Lab::open(name)?.cut_operator()?,
        Verb::Heal { host } if host == "operator" => Lab::open(name)?.heal_operator()?,
        Verb::Cut { host } => Lab::open(name)?.host(&host)?.cut()?,
        Verb::Heal { host } => Lab::open(name)?.host(&host)?.heal()?,
        Verb::Stop { host } => Lab::open(name)?.host(&host)?.stop()?,
        Verb::Boot { host } => Lab::open(name)?.host(&host)?.boot()?,
        Verb::Replace { host } => Lab::open(name)?.host(&host)?.replace()?,
        Verb::Status => status(&Lab::open(name)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn make(name: &LabName, up: Up) -> Result<(), LabError> {
    let Up { dir, servers, agents, init, version, bare } = up;
    let dir = dir.unwrap_or_else(|| name.default_dir());
    let began = std::time::Instant::now();
    let lab = Lab::up(&Spec { name: name.clone(), dir, servers, agents, init, version, bare })?.keep();
    println!("lab `{name}` is up after {:.1} s in {}", began.elapsed().as_secs_f32(), lab.dir().display());
    status(&lab)
}

fn status(lab: &Lab) -> Result<(), LabError> {
    println!("{:<10} {:<14} {:<6} {:<9} {:>9} {:>9}", "HOST", "ADDRESS", "POWER", "CABLE", "PROCESSES", "DISK MiB");
    for host in lab.hosts() {
        let power = if host.is_on() { "on" } else { "off" };
        let cable = if host.is_connected()? { "in" } else { "cut" };
        let (address, processes, disk) = (lab.address(host.name())?, host.processes().len(), host.disk_bytes()? >> 20);
        println!("{:<10} {address:<14} {power:<6} {cable:<9} {processes:>9} {disk:>9}", host.name());
    }
    Ok(())
}

fn show(output: &Output) -> ExitCode {
    print!("{}", output.stdout);
    eprint!("{}", output.stderr);
    // As a shell says it of a command that a signal ended.
    let status = output.status.and_then(|status| u8::try_from(status).ok()).unwrap_or(255);
    ExitCode::from(status)
}
