//! What can be typed: every command and option of the command line.

mod init;

pub use init::{InitArgs, InitSource};

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rke2flow_engine::cluster::Distribution;
use rke2flow_engine::id::RunId;
use rke2flow_engine::plan::OnFailure;

/// Upgrades, rolls back and rebuilds RKE2 clusters by durable, resumable runbooks.
#[derive(Debug, Parser)]
#[command(name = "rke2flow", version, max_term_width = 110)]
#[command(
    after_help = "Exit codes: 0 done, 1 a step failed, 2 bad input, 3 stopped and resumable, 4 refused by a guard or a host,
5 held by another operator, 6 something would run (plan --exit-code), 7 over budget (run --fail-over-budget).

First steps without a cluster: rke2flow rehearse upgrade"
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Where runs are kept [default: $XDG_STATE_HOME/rke2flow]
    #[arg(long, global = true, value_name = "DIR", env = "RKE2FLOW_STATE_DIR", hide_env = true)]
    pub state_dir: Option<PathBuf>,
    /// The cluster file [default: ./cluster.ron, then $RKE2FLOW_CLUSTER]
    #[arg(long, short = 'c', global = true, value_name = "FILE")]
    pub cluster: Option<PathBuf>,
    /// Form of what is printed on standard output
    #[arg(long, short = 'o', global = true, value_name = "FORM", default_value = "text")]
    pub output: Output,
    /// Say more: -v what is waited for, -vv how it is done
    #[arg(long, short = 'v', global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// Form of what is printed on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON document with a `schema`; for `run` and `watch`, one record per line.
    Json,
    /// A Graphviz graph (plan only).
    Dot,
    /// Markdown (report and mttr only).
    Markdown,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Carry out a runbook on the cluster
    Run(RunArgs),
    /// Go on with a run that stopped, failed or was killed; what is done is not repeated
    Resume(ResumeArgs),
    /// Show what a runbook would do: probes every step, changes nothing, takes no claim
    Plan(PlanArgs),
    /// Show how a run stands, what it waits for and what it still has on hosts
    Status(RunArg),
    /// Follow a run until its engine stops
    Watch(RunArg),
    /// List runs
    Runs,
    /// Show a run: what it was started with, and every step
    Show(RunRequired),
    /// Show what is known of a step: attempts, observations, the end of its output
    Logs(LogsArgs),
    /// Start nothing new in a run; what is under way goes on
    Pause(AskArgs),
    /// Go on after a pause
    Continue(AskArgs),
    /// Give a run up: take down what it has on hosts and close it
    Abort(AbortArgs),
    /// Say yes at a gate
    Approve(AskStepArgs),
    /// Say no at a gate
    Deny(AskStepArgs),
    /// Count a failed or waiting step as done
    Skip(AskStepArgs),
    /// Try a failed step again
    Retry(AskStepArgs),
    /// Show phases against budgets, the critical path and what was waited for
    Report(RunArg),
    /// Show how long recoveries took, over all runs of each cluster; rehearsals do not count
    Mttr(MttrArgs),
    /// Write a cluster file from what a server, a kubeconfig or OpenTofu's outputs say
    Init(InitArgs),
    /// Show the host keys of the cluster and write its known_hosts after a yes
    Trust(TrustArgs),
    /// Check runbooks and cluster files
    Validate(ValidateArgs),
    /// List the embedded runbooks, or print one
    Runbooks(RunbooksArgs),
    /// Connect to every host and check the cluster's health
    Doctor,
    /// Carry out a runbook on a simulated cluster over real SSH, TLS, HTTP and S3 connections
    Rehearse(RehearseArgs),
    /// Simulated clusters
    #[command(subcommand)]
    Twin(TwinCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// What makes a plan out of a runbook.
#[derive(Debug, Clone, Default, Args)]
pub struct Making {
    /// A path, or the name of an embedded runbook: `upgrade`, `upgrade.ron`
    pub runbook: String,
    /// A parameter of the runbook, as NAME=VALUE; lists as a,b,c
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// A host that is powered off or cut off for certain: never touched, never waited for
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub lost: Vec<String>,
    /// The server that is reset and restored, instead of the one that the cluster file says
    #[arg(long, value_name = "HOST")]
    pub init: Option<String>,
    /// Only these hosts (and the operator's own steps)
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub limit: Vec<String>,
}

/// Options of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// What makes the plan.
    #[command(flatten)]
    pub making: Making,
    /// Pass over one check of the guards that refuses, as CHECK=REASON (`doctor` names them); it is written down
    #[arg(long, value_name = "GUARD=REASON", value_parser = pair)]
    pub waive: Vec<(String, String)>,
    /// Apply exactly this saved plan (`plan --out`), or refuse when the plan differs
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// What is done when a step fails [default: what the runbook says]
    #[arg(long, value_name = "HOW")]
    pub on_failure: Option<OnFailureArg>,
    /// How the run ends.
    #[command(flatten)]
    pub consent: ConsentArgs,
}

/// What is done when a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnFailureArg {
    /// Start nothing new, hold the run where it is
    Hold,
    /// Go on with what does not depend on the failed step
    Finish,
    /// Hold, and ask whether to roll back to the run's recovery point (--yes does not answer that)
    OfferRollback,
    /// Hold, and roll back to the run's recovery point without asking again
    Rollback,
}

impl OnFailureArg {
    /// As a plan has it.
    pub fn of_plan(self) -> OnFailure {
        match self {
            OnFailureArg::Hold => OnFailure::Hold,
            OnFailureArg::Finish => OnFailure::Finish,
            OnFailureArg::OfferRollback | OnFailureArg::Rollback => OnFailure::Rollback,
        }
    }
}

/// How gates are answered and how the end is judged.
#[derive(Debug, Clone, Copy, Args)]
pub struct ConsentArgs {
    /// Say yes at every gate
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Take the cluster over from an operator who has not given it up
    #[arg(long)]
    pub takeover: bool,
    /// End with exit code 7 when a budget was exceeded
    #[arg(long)]
    pub fail_over_budget: bool,
}

/// Options of `resume`.
#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    /// The run [default: the only open one]
    pub run: Option<RunId>,
    /// How the run ends.
    #[command(flatten)]
    pub consent: ConsentArgs,
    /// Go on although an unfinished action has another revision in this version
    #[arg(long)]
    pub accept_revision: bool,
}

/// Options of `plan`.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// What makes the plan.
    #[command(flatten)]
    pub making: Making,
    /// Only read the files: connect to nothing
    #[arg(long)]
    pub offline: bool,
    /// Save the plan; `run --plan` applies exactly this or refuses
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// End with exit code 6 when something would run
    #[arg(long, conflicts_with = "offline")]
    pub exit_code: bool,
}

/// A run that may be left out.
#[derive(Debug, Clone, Args)]
pub struct RunArg {
    /// The run [default: the only open one, or the newest]
    pub run: Option<RunId>,
}

/// Options of `mttr`.
#[derive(Debug, Clone, Args)]
pub struct MttrArgs {
    /// The cluster's name [default: every cluster]
    pub name: Option<String>,
    /// How many outages of each runbook are listed; all are counted
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub last: u32,
}

/// A run that must be named.
#[derive(Debug, Clone, Args)]
pub struct RunRequired {
    /// The run
    pub run: RunId,
}

/// Options of `logs`.
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// The run
    pub run: RunId,
    /// A step, or one instance of it: `stop-servers`, `stop-servers/KillNode@server-1`
    pub step: String,
}

/// A request to a run.
#[derive(Debug, Clone, Args)]
pub struct AskArgs {
    /// The run
    pub run: RunId,
    /// Why; it is written down
    #[arg(long, default_value = "")]
    pub reason: String,
}

/// A request to give a run up.
#[derive(Debug, Clone, Args)]
pub struct AbortArgs {
    /// The run and why.
    #[command(flatten)]
    pub ask: AskArgs,
    /// Take the cluster over from an operator who has not given it up
    #[arg(long)]
    pub takeover: bool,
}

/// A request about one step of a run.
#[derive(Debug, Clone, Args)]
pub struct AskStepArgs {
    /// The run
    pub run: RunId,
    /// The step, or one instance of it: `consent`, `stop-servers/KillNode@server-1`
    pub step: String,
    /// Why; it is written down
    #[arg(long, default_value = "")]
    pub reason: String,
}

/// Options of `trust`.
#[derive(Debug, Clone, Args)]
pub struct TrustArgs {
    /// Write without asking; compare the fingerprints first
    #[arg(long, short = 'y')]
    pub yes: bool,
}

/// Options of `validate`.
#[derive(Debug, Clone, Args)]
pub struct ValidateArgs {
    /// Runbooks and cluster files; or names of embedded runbooks
    #[arg(required = true)]
    pub files: Vec<String>,
}

/// Options of `runbooks`.
#[derive(Debug, Clone, Args)]
pub struct RunbooksArgs {
    /// The one to print
    pub name: Option<String>,
}

/// A distribution as an option has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The control plane as static pods.
    Rke2,
    /// The control plane in one process.
    K3s,
}

impl From<Kind> for Distribution {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Rke2 => Distribution::Rke2,
            Kind::K3s => Distribution::K3s,
        }
    }
}

/// The size and pace of a simulated cluster.
#[derive(Debug, Clone, Args)]
pub struct TwinShape {
    /// Servers, each a member of etcd
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    pub servers: u32,
    /// Agents
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=200))]
    pub agents: u32,
    /// How many times faster than life
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub speed: u32,
    /// What the cluster is
    #[arg(long, value_enum, default_value_t = Kind::Rke2)]
    pub distribution: Kind,
    /// The release that the cluster runs at first
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
    /// Something that goes wrong; may be given several times
    #[arg(long, value_name = "SPEC")]
    pub fault: Vec<String>,
}

/// Options of `rehearse`.
#[derive(Debug, Clone, Args)]
pub struct RehearseArgs {
    /// A path, or the name of an embedded runbook: `upgrade`, `rollback`
    pub runbook: String,
    /// The simulated cluster.
    #[command(flatten)]
    pub twin: TwinShape,
    /// A parameter of the runbook, as NAME=VALUE
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// What is done when a step fails [default: what the runbook says]
    #[arg(long, value_name = "HOW")]
    pub on_failure: Option<OnFailureArg>,
    /// Kill the engine (SIGKILL) after this many records, then resume
    #[arg(long, value_name = "N")]
    pub kill_after: Option<u64>,
    /// Keep the simulated cluster's directory, and say where it is
    #[arg(long)]
    pub keep: bool,
}

/// Simulated clusters.
#[derive(Debug, Subcommand)]
pub enum TwinCommand {
    /// Start a simulated cluster in the foreground; writes DIR/cluster.ron
    Up(TwinUpArgs),
}

/// Options of `twin up`.
#[derive(Debug, Clone, Args)]
pub struct TwinUpArgs {
    /// Its directory: cluster.ron, keys, log
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// The simulated cluster.
    #[command(flatten)]
    pub twin: TwinShape,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.trim().is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not of the form GUARD=REASON")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
