//! `rehearse`: a runbook on a simulated cluster. The twin is a process of its own, and it judges by itself.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::ValueEnum;
use rke2flow_engine::clock::Clock;
use rke2flow_twin::serve::{Ask, Remote};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{block_on, resume, run, twin};
use crate::args::{ConsentArgs, Global, Making, Output, RehearseArgs, ResumeArgs, RunArgs};
use crate::exit::{Exit, Outcome, Problem};
use crate::reading;
use crate::show::Colour;

/// How long a twin may take to be up: key generation on a loaded machine is slow.
const UP_LIMIT: Duration = Duration::from_secs(60);

/// How long a twin may take to end.
const DOWN_LIMIT: Duration = Duration::from_secs(5);

/// Carries out a runbook on a twin, and asks the twin for its verdict.
pub fn rehearse(global: &Global, args: &RehearseArgs) -> Outcome {
    twin::spec_of(&args.twin)?;
    let stage = Stage::new(global)?;
    let outcome = block_on(stage.play(args));
    if args.keep {
        eprintln!("the twin's directory and the runs are in {}", stage.directory.display());
    } else if let Err(error) = std::fs::remove_dir_all(&stage.directory) {
        eprintln!("warning: cannot remove {}: {error}", stage.directory.display());
    } else {
        eprintln!("twin and run are gone again; `rehearse --keep` leaves them for report, show and logs");
    }
    outcome
}

/// Where a rehearsal takes place.
struct Stage {
    directory: PathBuf,
    global: Global,
}

impl Stage {
    fn new(global: &Global) -> Result<Self, Problem> {
        let name = format!("rke2flow-rehearsal-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let created = std::fs::create_dir(&directory);
        created.map_err(|error| {
            Problem::new(Exit::Failed, format!("cannot create {}", directory.display())).observed(error)
        })?;
        let global = Global {
            state_dir: Some(directory.join("state")),
            cluster: Some(directory.join("twin/cluster.ron")),
            ..global.clone()
        };
        Ok(Self { directory, global })
    }

    async fn play(&self, args: &RehearseArgs) -> Outcome {
        let mut process = self.twin_up(args).await?;
        let outcome = self.carry_out(args).await;
        let verdict = self.judge().await;
        self.twin_down(&mut process).await;
        let violations = verdict?;
        if violations.is_empty() {
            eprintln!("{}", Colour::of_stderr().good("the twin saw no violation"));
            return outcome;
        }
        let told: Vec<String> = violations.iter().map(tell).collect();
        let count = if told.len() == 1 { "a violation".to_owned() } else { format!("{} violations", told.len()) };
        let violated = Problem::new(Exit::Failed, format!("the twin saw {count}")).observed(told.join("\n"));
        match outcome {
            Ok(_) => Err(violated),
            Err(problem) => {
                eprintln!("{} {violated}", Colour::of_stderr().bad("error:"));
                Err(Problem { exit: Exit::Failed, ..problem })
            }
        }
    }

    async fn carry_out(&self, args: &RehearseArgs) -> Outcome {
        let runbook = reading::read_runbook(&reading::find_runbook(&args.runbook)?)?;
        self.write("before").await?;
        // What takes the place of an upgrade needs one.
        if runbook.supersedes {
            eprintln!("the twin is upgraded first");
            Box::pin(run::begin(&self.global, &self.run_args("upgrade", &[]))).await?;
            self.write("after").await?;
        }
        match args.kill_after {
            None => {
                let run = RunArgs { on_failure: args.on_failure, ..self.run_args(&args.runbook, &args.set) };
                Box::pin(run::begin(&self.global, &run)).await
            }
            Some(records) => self.killed_and_resumed(args, records).await,
        }
    }

    /// The application writes something that the twin will look for.
    async fn write(&self, when: &str) -> Result<(), Problem> {
        let body = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("written-{when}-the-upgrade"), "namespace": "default"},
            "data": {"when": when},
        });
        let question = json!({"method": "POST", "path": "/api/v1/namespaces/default/configmaps", "body": body});
        self.ask(Ask::Write, question).await.map(|_| ())
    }

    async fn judge(&self) -> Result<Vec<Value>, Problem> {
        match self.ask(Ask::Judge, Value::Null).await? {
            Value::Array(violations) => Ok(violations),
            other => Err(Problem::new(Exit::Failed, "the twin's verdict is not a list").observed(other)),
        }
    }

    async fn ask(&self, ask: Ask, with: Value) -> Result<Value, Problem> {
        let failed = |error: &dyn std::fmt::Display| Problem::new(Exit::Failed, "cannot ask the twin").observed(error);
        let remote = Remote::of(&self.twin()).map_err(|error| failed(&error))?;
        remote.ask(ask, with).await.map_err(|error| failed(&error))
    }

    /// The engine in a process of its own, killed after so many records, and gone on with in this one.
    async fn killed_and_resumed(&self, args: &RehearseArgs, records: u64) -> Outcome {
        let mut command = self.own_command()?;
        command.arg("--state-dir").arg(self.state()).arg("--cluster").arg(self.twin().join("cluster.ron"));
        command.args(["-o", "json", "run", &args.runbook, "--yes"]);
        command.args(args.set.iter().flat_map(|set| ["--set", set]));
        command.args(
            args.on_failure
                .and_then(|how| how.to_possible_value())
                .iter()
                .flat_map(|how| ["--on-failure", how.get_name()]),
        );
        command.stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| cannot_start("the engine", &error))?;
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut seen = 0;
        while seen < records && matches!(lines.next_line().await, Ok(Some(_))) {
            seen += 1;
        }
        if seen < records {
            eprintln!("the engine ended after {seen} records; there was nothing to kill");
        }
        // Already gone is as good as killed.
        let _ = child.kill().await;
        if seen == records {
            eprintln!("the engine was killed after record {seen}; going on");
        }
        let none = ResumeArgs { run: None, consent: YES, accept_revision: false };
        match crate::runs::Runs::of(&self.global)?.to_go_on_with(None) {
            Ok(_) => Box::pin(resume::begin(&self.global, &none)).await,
            Err(_) => Ok(Exit::Done),
        }
    }

    async fn twin_up(&self, args: &RehearseArgs) -> Result<Child, Problem> {
        let shape = &args.twin;
        let mut command = self.own_command()?;
        command.args(["twin", "up", "--dir"]).arg(self.twin());
        command.args(["--servers", &shape.servers.to_string(), "--agents", &shape.agents.to_string()]);
        command.args(["--speed", &shape.speed.to_string()]);
        if let Some(distribution) = shape.distribution.to_possible_value() {
            command.args(["--distribution", distribution.get_name()]);
        }
        command.args(shape.version.iter().flat_map(|version| ["--version", version]));
        command.args(shape.fault.iter().flat_map(|fault| ["--fault", fault]));
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| cannot_start("the twin", &error))?;
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let up = Clock::real().timeout(UP_LIMIT, lines.next_line()).await;
        match up {
            Some(Ok(Some(line))) => {
                eprintln!("{line}");
                Ok(child)
            }
            _ => Err(Problem::new(Exit::Failed, "the twin did not come up")
                .next(format!("rke2flow twin up --dir {}", self.twin().display()))),
        }
    }

    async fn twin_down(&self, process: &mut Child) {
        if let Ok(remote) = Remote::of(&self.twin()) {
            // Silence is answered by the kill below.
            let _ = remote.shutdown().await;
        }
        if Clock::real().timeout(DOWN_LIMIT, process.wait()).await.is_none() {
            let _ = process.kill().await;
        }
    }

    fn run_args(&self, runbook: &str, set: &[String]) -> RunArgs {
        let making = Making { runbook: runbook.to_owned(), set: set.to_vec(), ..Making::default() };
        RunArgs { making, waive: Vec::new(), plan: None, on_failure: None, consent: YES }
    }

    /// This program again, out of reach of the terminal's Ctrl-C, ended when this process ends in good order.
    fn own_command(&self) -> Result<Command, Problem> {
        let program = std::env::current_exe().map_err(|error| cannot_start("rke2flow", &error))?;
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        if self.global.output == Output::Text {
            command.args(std::iter::repeat_n("-v", usize::from(self.global.verbose)));
        }
        Ok(command)
    }

    fn twin(&self) -> PathBuf {
        self.directory.join("twin")
    }

    fn state(&self) -> &Path {
        self.global.state_dir.as_deref().unwrap_or(&self.directory)
    }
}

/// A rehearsal harms nobody: gates are answered with yes.
const YES: ConsentArgs = ConsentArgs { yes: true, takeover: false, fail_over_budget: false };

fn cannot_start(what: &str, error: &std::io::Error) -> Problem {
    Problem::new(Exit::Failed, format!("cannot start {what}")).observed(error)
}

fn tell(violation: &Value) -> String {
    let text = |field: &str| violation[field].as_str().map(str::to_owned);
    match (text("kind"), text("what").or_else(|| text("why")).or_else(|| text("detail"))) {
        (Some(kind), Some(what)) => format!("{kind}: {what}"),
        _ => violation.to_string(),
    }
}
