//! Two operators on one cluster: one acts, the other is told who does; one who was frozen and lost the right to act is
//! refused by the hosts when he wakes.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use rke2flow_twin::serve::Ask;
use serde_json::{Value, json};

use crate::scenario::{Outcome, Process, Scenario};

/// Changes every server three times and leaves nothing.
const THREE: &str = r#"
Runbook(
  format: 1, name: "three",
  phases: [(id: "work", clock: Before, budget: (ha: "10m", single: "10m"))],
  steps: [
    (id: "hold", phase: "work", on: Servers, do: [HoldUnit()]),
    (id: "release", phase: "work", on: Servers, needs: [All("hold")], do: [ReleaseHold()]),
    (id: "clean-up", phase: "work", on: Servers, needs: [All("release")], do: [CleanUp()]),
  ],
)
"#;

/// Another version on one host after the other: changes through SSH and through the Kubernetes API in turn.
const ROLL: &str = r#"
Runbook(
  format: 1, name: "roll",
  params: { "version": Version("${cluster.version}") },
  phases: [(id: "work", clock: Before, budget: (ha: "30m", single: "30m"))],
  steps: [
    (id: "roll", phase: "work", on: Servers, hosts_at_once: 1,
     do: [Cordon(), HoldUnit(), ReleaseHold(), FetchRelease(version: "${param.version}"),
          InstallVersion(version: "${param.version}"), RestartUnit(version: "${param.version}"), Voter(), Uncordon()]),
    (id: "agents", phase: "work", on: Agents, needs: [All("roll")],
     do: [FetchRelease(version: "${param.version}"), InstallVersion(version: "${param.version}"),
          RestartUnit(version: "${param.version}"), NodeReady()]),
    (id: "clean-up", phase: "work", on: Servers, needs: [All("agents")], do: [CleanUp()]),
  ],
)
"#;

const SHAPE: [&str; 4] = ["--servers", "3", "--agents", "1"];

/// Wall time within which a world that was disturbed has to look like one that was not.
const REST: Duration = Duration::from_secs(30);

/// A person with a state directory of his own.
struct Operator<'a> {
    scenario: &'a Scenario,
    name: &'static str,
    state: String,
}

impl<'a> Operator<'a> {
    fn new(scenario: &'a Scenario, name: &'static str) -> Self {
        Self { scenario, name, state: scenario.path(&format!("state-of-{name}")).to_str().unwrap().to_owned() }
    }

    fn variables(&self) -> [(&str, &str); 3] {
        [("SUDO_USER", self.name), ("USER", self.name), ("RKE2FLOW_STATE_DIR", &self.state)]
    }

    fn does(&self, arguments: &[&str]) -> Outcome {
        self.scenario.rke2flow_with(&self.variables(), arguments)
    }

    fn starts(&self, arguments: &[&str]) -> Process {
        self.scenario.start_with(&self.variables(), arguments)
    }

    /// The run that is not closed.
    fn open_run(&self) -> Option<String> {
        let runs: Value = serde_json::from_str(&self.does(&["runs", "-o", "json"]).stdout).unwrap();
        let open = |run: &&Value| !["succeeded", "aborted", "superseded"].contains(&run["state"].as_str().unwrap());
        runs["runs"].as_array().unwrap().iter().find(open).map(|run| run["run"].as_str().unwrap().to_owned())
    }

    fn records(&self, run: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(format!("{}/runs/{run}/journal.ndjson", self.state)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// What hosts started, in order: the run that each order was of.
fn starts(scenario: &Scenario) -> Vec<String> {
    let log = scenario.ask_twin(Ask::Log, Value::Null);
    let started = log.as_array().unwrap().iter().filter(|entry| entry["what"].as_str().unwrap().starts_with("start "));
    let run = |unit: &str| unit.trim_start_matches("rke2flow-").split('-').take(3).collect::<Vec<_>>().join("-");
    started.map(|entry| run(entry["unit"].as_str().unwrap())).collect()
}

/// No host took an order of one run after it had taken a later run's.
#[track_caller]
fn nobody_acted_between_the_others_orders(scenario: &Scenario) {
    let mut blocks = starts(scenario);
    blocks.dedup();
    let mut runs: BTreeMap<&String, usize> = BTreeMap::new();
    blocks.iter().for_each(|run| *runs.entry(run).or_default() += 1);
    assert!(runs.values().all(|times| *times == 1), "{blocks:?}");
    assert_eq!(scenario.ask_twin(Ask::Judge, Value::Null), json!([]));
}

#[test]
fn of_two_who_start_at_once_one_acts_and_the_other_is_told_who_since_when() {
    let shape = [&SHAPE[..], &["--speed", "20"]].concat();
    let scenario = Scenario::with_twin_of(&shape).file("three.ron", THREE);
    let (alice, bob) = (Operator::new(&scenario, "alice"), Operator::new(&scenario, "bob"));
    for (of_alice, of_bob) in [(0, 0), (0, 30), (30, 0), (0, 120), (120, 0)] {
        let run = |who: &Operator<'_>, delay: u64| {
            thread::sleep(Duration::from_millis(delay));
            who.does(&["run", "three.ron"])
        };
        let (alices, bobs) = thread::scope(|scope| {
            let alices = scope.spawn(|| run(&alice, of_alice));
            let bobs = run(&bob, of_bob);
            (alices.join().unwrap(), bobs)
        });
        let (winner, loser, lost) = match (alices.code, bobs.code) {
            (Some(0), Some(5)) => ("alice", &bob, bobs),
            (Some(5), Some(0)) => ("bob", &alice, alices),
            other => panic!("{other:?}:\n{}\n{}", alices.stderr, bobs.stderr),
        };
        assert!(lost.stderr.contains(&format!("held by {winner}@")), "{}", lost.stderr);
        assert!(lost.stderr.contains(" since 20") && lost.stderr.contains("next: "), "{}", lost.stderr);
        // A run that was created on the way is whole, and goes on when the cluster is free.
        if let Some(run) = loser.open_run() {
            loser.does(&["resume", &run]).ends_with(0);
        }
        nobody_acted_between_the_others_orders(&scenario);
    }
}

fn settled(scenario: &Scenario) -> Value {
    let mut print = scenario.ask_twin(Ask::Fingerprint, Value::Null);
    let objects = print["objects"].as_object_mut().unwrap();
    objects.retain(|name, _| !name.starts_with("pods/"));
    print
}

#[test]
fn one_who_was_frozen_while_another_took_over_is_refused_by_every_host_when_he_wakes() {
    let shape = [&SHAPE[..], &["--speed", "50"]].concat();
    let undisturbed = Scenario::with_twin_of(&shape).file("roll.ron", ROLL);
    Operator::new(&undisturbed, "bob").does(&["run", "roll.ron"]).ends_with(0);
    let expected = settled(&undisturbed);
    for frozen_at in [
        r#""kind":"AttemptStarted","data":{"instance":"roll/Cordon@server-1""#,
        r#""kind":"ApplyStarted","data":{"instance":"roll/HoldUnit@server-0""#,
        r#""kind":"ApplyStarted","data":{"instance":"roll/RestartUnit@server-1""#,
        r#""kind":"Settled","data":{"instance":"roll/RestartUnit@server-0""#,
    ] {
        let scenario = Scenario::with_twin_of(&shape).file("roll.ron", ROLL);
        let (alice, bob) = (Operator::new(&scenario, "alice"), Operator::new(&scenario, "bob"));
        let mut stale = alice.starts(&["run", "roll.ron", "-o", "json"]);
        assert!(stale.reads_until(frozen_at), "{frozen_at}");
        stale.signal("STOP");
        bob.does(&["run", "roll.ron"]).ends_with(5).says("held by alice@");
        bob.does(&["run", "roll.ron", "--takeover"]).ends_with(0).says("succeeded");
        stale.signal("CONT");
        assert_eq!(stale.end(), Some(5), "{frozen_at}");
        nobody_acted_between_the_others_orders(&scenario);

        let run = alice.open_run().unwrap();
        assert_eq!(alice.records(&run).last().unwrap()["kind"], "EngineStopped", "{frozen_at}");
        let deadline = Instant::now() + REST;
        while settled(&scenario) != expected && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(settled(&scenario), expected, "{frozen_at}");
        // The stale run can be closed, now that the cluster is free.
        alice.does(&["abort", &run]).ends_with(0);
        assert_eq!(scenario.ask_twin(Ask::Judge, Value::Null), json!([]));
    }
}

#[test]
fn one_who_was_frozen_while_he_took_the_claim_never_shares_the_cluster() {
    let shape = [&SHAPE[..], &["--speed", "20"]].concat();
    let scenario = Scenario::with_twin_of(&shape).file("three.ron", THREE);
    let (alice, bob) = (Operator::new(&scenario, "alice"), Operator::new(&scenario, "bob"));
    let mut ends: BTreeMap<(Option<i32>, Option<i32>), usize> = BTreeMap::new();
    for (number, frozen_after) in [40, 80, 120, 160, 220, 300].into_iter().enumerate() {
        let frozen = alice.starts(&["run", "three.ron"]);
        thread::sleep(Duration::from_millis(frozen_after));
        frozen.signal("STOP");
        let takes_over = number % 2 == 0;
        let bobs = match takes_over {
            true => bob.does(&["run", "three.ron", "--takeover"]),
            false => bob.does(&["run", "three.ron"]),
        };
        assert!(matches!((bobs.code, takes_over), (Some(0), _) | (Some(5), false)), "{}", bobs.stderr);
        frozen.signal("CONT");
        let alices = frozen.end();
        assert!(matches!(alices, Some(0 | 5)), "{alices:?}");
        *ends.entry((alices, bobs.code)).or_default() += 1;
        nobody_acted_between_the_others_orders(&scenario);
    }
    eprintln!("how alice, who was frozen, and bob ended: {ends:?}");
}

#[test]
fn one_who_takes_over_a_run_follows_its_reset_that_is_under_way_and_does_not_repeat_it() {
    let scenario = Scenario::with_twin_of(&[&SHAPE[..], &["--speed", "60"]].concat());
    let (alice, bob) = (Operator::new(&scenario, "alice"), Operator::new(&scenario, "bob"));
    alice.does(&["run", "upgrade", "--yes"]).ends_with(0);
    let mut stale = alice.starts(&["run", "rollback", "--yes", "-o", "json"]);
    assert!(stale.reads_until(r#""kind":"ApplyStarted","data":{"instance":"reset/ClusterReset@"#));
    thread::sleep(Duration::from_millis(150));
    stale.signal("STOP");
    let run = alice.open_run().unwrap();
    let copied = std::process::Command::new("cp").args(["-r", &alice.state, &bob.state]).status().unwrap();
    assert!(copied.success());
    bob.does(&["resume", &run]).ends_with(5).says("held by alice@").says("--takeover");
    bob.does(&["resume", &run, "--takeover"]).ends_with(0).says("succeeded");
    stale.signal("CONT");
    // Refused as soon as it orders something; 1 when it first meets a world that its own probes refuse.
    assert!(matches!(stale.end(), Some(1 | 5)));
    let log = scenario.ask_twin(Ask::Log, Value::Null);
    let resets = |entry: &&Value| entry["what"].as_str().unwrap().starts_with("start ClusterReset");
    assert_eq!(log.as_array().unwrap().iter().filter(resets).count(), 1);
    assert_eq!(scenario.ask_twin(Ask::Judge, Value::Null), json!([]));
}

#[test]
fn who_has_nothing_but_the_hosts_takes_a_rollback_over_whatever_it_has_begun() {
    let scenario = Scenario::with_twin_of(&[&SHAPE[..], &["--speed", "30"]].concat());
    let (alice, bob) = (Operator::new(&scenario, "alice"), Operator::new(&scenario, "bob"));
    alice.does(&["run", "upgrade", "--yes"]).ends_with(0);
    for (dies_at, order) in [
        ("stop-servers/KillNode@server-1", "start KillNode"),
        ("reset/ClusterReset@server-0", "start ClusterReset"),
        ("join/JoinCluster@server-1", "start StartUnit"),
    ] {
        let mut dying = alice.starts(&["run", "rollback", "--yes", "-o", "json"]);
        assert!(dying.reads_until(&format!(r#""kind":"ApplyStarted","data":{{"instance":"{dies_at}"#)), "{dies_at}");
        let dead = alice.open_run().unwrap();
        await_order(&scenario, &dead, order);
        dying.kill();
        std::fs::remove_dir_all(&alice.state).unwrap();

        let held = bob.does(&["run", "rollback", "--yes"]).ends_with(5);
        held.says("held by alice@").says(&dead).says("\n  server-0: ").says("--takeover");
        bob.does(&["run", "rollback", "--yes", "--takeover"]).ends_with(0).says("taking over from alice@");
        nobody_acted_between_the_others_orders(&scenario);
    }
}

/// Waits until a host has begun such an order of a run.
fn await_order(scenario: &Scenario, run: &str, order: &str) {
    let deadline = Instant::now() + REST;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let is_it = |entry: &Value| text(&entry["what"]).starts_with(order) && text(&entry["unit"]).contains(run);
    while !scenario.ask_twin(Ask::Log, Value::Null).as_array().unwrap().iter().any(is_it) {
        assert!(Instant::now() < deadline, "no {order} of {run} was begun");
        thread::sleep(Duration::from_millis(5));
    }
}
