//! Under strace: what an answer or a receipt promises is on the disk before it is given.

use rke2flow_steps::command::{Change, ClaimCommand, HostCommand, Order};
use rke2flow_steps::point::RecoveryPoint;
use rke2flow_steps::render::script;

use super::bench::{Bench, claim, etcd_snapshot, order, sha256};
use super::oracle::{Event, Loose, read};

/// Follows a command to its end. `promises` says what must not be loose when the event comes.
fn judge(host: &Bench, command: HostCommand, promises: &dyn Fn(&Event) -> Vec<String>) {
    let broken = broken(host, &script(&host.envelope(command.clone())), promises);
    assert!(broken.is_empty(), "{command:?}:\n{}", broken.join("\n"));
}

/// What a power cut could have taken back of what was promised.
fn broken(host: &Bench, text: &str, promises: &dyn Fn(&Event) -> Vec<String>) -> Vec<String> {
    let trace = host.trace(text);
    let (mut loose, mut kept, mut broken) = (Loose::default(), 0, Vec::new());
    for event in &read(&trace) {
        let promised = promises(event);
        kept += promised.len();
        for path in &promised {
            broken.extend(loose.of(path).into_iter().map(|what| format!("{what} is loose at {event:?}")));
        }
        loose.follow(event);
    }
    let ours = |path: &&String| path.starts_with(&host.paths.state) && !path.ends_with("/out");
    let early = loose.too_early.iter().filter(ours);
    broken.extend(early.map(|path| format!("{path} was put in place before it was flushed")));
    assert!(kept > 0, "the script never came to what it promises:\n{trace}");
    broken
}

fn told(event: &Event) -> bool {
    matches!(event, Event::Told(_))
}

/// Whether the event publishes the receipt `name` of the order.
fn publishes(event: &Event, receipt: &str, name: &str) -> bool {
    matches!(event, Event::Named { path, from: Some(_) } if *path == format!("{receipt}/{name}"))
}

/// What an order promises of its own files, and what its change has promised when its exit status is written.
fn promised_by(host: &Bench, order: &Order, promised: &[String]) -> impl Fn(&Event) -> Vec<String> + use<> {
    let receipt = host.paths.receipt(&order.run, &order.instance, order.attempt);
    let unit = format!("{}/units/{}", host.paths.state, order.unit);
    let promised = promised.to_vec();
    move |event| {
        let of_receipt = |names: &[&str]| names.iter().map(|name| format!("{receipt}/{name}")).collect::<Vec<_>>();
        match event {
            // The unit finds its script, and a later look finds the receipt of the unit.
            Event::Began(program) if program.contains("/systemd-run") => {
                [of_receipt(&["script"]), vec![unit.clone()]].concat()
            }
            _ if publishes(event, &receipt, "exit") => [of_receipt(&["started", "out"]), promised.clone()].concat(),
            Event::Told(_) => of_receipt(&["script", "started", "exit", "out"]),
            _ => Vec::new(),
        }
    }
}

fn judge_change(host: &Bench, change: Change, attempt: u32, promised: &[String]) {
    host.take(claim(7));
    let order = order(change, attempt);
    let promises = promised_by(host, &order, promised);
    judge(host, HostCommand::Change(order), &promises);
}

#[test]
fn a_claim_is_on_the_disk_before_it_is_accepted_and_before_it_is_given_up() {
    let host = Bench::new();
    for command in [ClaimCommand::Take(claim(7)), ClaimCommand::Take(claim(8)), ClaimCommand::Release(claim(8))] {
        judge(&host, HostCommand::Claim(command), &|event| match told(event) {
            true => vec![host.paths.claim()],
            false => Vec::new(),
        });
    }
}

#[test]
fn an_order_is_on_the_disk_before_its_unit_starts_and_its_end_before_it_is_told() {
    let host = Bench::new();
    judge_change(&host, Change::Script { script: "echo done".to_owned() }, 1, &[]);
    judge_change(&host, Change::Script { script: "exit 3".to_owned() }, 2, &[]);
}

#[test]
fn that_an_order_has_started_is_on_the_disk_before_it_changes_anything() {
    let host = Bench::new();
    host.take(claim(7));
    let order = order(Change::Hold, 1);
    let started = format!("{}/started", host.paths.receipt(&order.run, &order.instance, order.attempt));
    let hold = host.paths.hold();
    judge(&host, HostCommand::Change(order), &|event| match event {
        Event::Written(path) if path.starts_with(&hold) => vec![started.clone()],
        _ => Vec::new(),
    });
}

#[test]
fn a_hold_and_its_drop_in_are_on_the_disk_before_the_receipt_says_so_and_so_is_their_end() {
    let host = Bench::new();
    let (hold, drop_in) = (host.paths.hold(), host.paths.hold_drop_in(host.role));
    judge_change(&host, Change::Hold, 1, &[hold.clone(), drop_in.clone()]);
    judge_change(&host, Change::ReleaseHold, 2, std::slice::from_ref(&hold));
    judge_change(&host, Change::Hold, 3, std::slice::from_ref(&hold));
    judge_change(&host, Change::CleanUp, 4, &[hold, drop_in]);
}

#[test]
fn an_override_and_a_recovery_point_are_on_the_disk_before_the_receipt_says_so() {
    let host = Bench::new();
    judge_change(&host, Change::PointAt { server: None }, 1, &[host.paths.server_override()]);
    let point = RecoveryPoint { id: "261122-0312-k7q2".to_owned(), ..RecoveryPoint::default() };
    let file = host.paths.point(&point.id);
    judge_change(&host, Change::WritePoint { point: Box::new(point) }, 2, &[file]);
}

#[test]
fn that_a_reset_begins_is_on_the_disk_before_it_does() {
    let host = Bench::new();
    host.write(&host.world("snapshot"), etcd_snapshot(1));
    let change = Change::ClusterReset { snapshot: host.world("snapshot"), sha256: sha256(&etcd_snapshot(1)) };
    host.take(claim(7));
    let order = order(change, 1);
    let receipt = host.paths.receipt(&order.run, &order.instance, order.attempt);
    let (record, log) = (host.paths.reset_record(), format!("{receipt}/reset.log"));
    judge(&host, HostCommand::Change(order), &|event| match event {
        Event::Began(program) if program.contains("--cluster-reset") => vec![record.clone()],
        _ if publishes(event, &receipt, "exit") => vec![record.clone(), log.clone()],
        _ => Vec::new(),
    });
}

#[test]
fn every_flush_that_is_left_out_is_seen() {
    let flushes = [
        // Of `durable`: the content before the rename, the name after it.
        "\tflush \"$1.tmp\"\n",
        "\tflush \"${1%/*}\"\n",
        // Of an order: its unit's name, its beginning, its output.
        "flush \"$state/units\"\n",
        "flush \"$receipt/started.$$\"\n",
        "flush \"$receipt\"\n",
        "\tflush \"$receipt/out\"\n",
    ];
    for flush in flushes {
        let host = Bench::new();
        host.take(claim(7));
        // A hold prints nothing: what it printed cannot be lost.
        let (change, promised) = match flush.contains("/out") {
            true => (Change::Script { script: "echo done".to_owned() }, Vec::new()),
            false => (Change::Hold, vec![host.paths.hold(), host.paths.hold_drop_in(host.role)]),
        };
        let order = order(change, 1);
        let promises = promised_by(&host, &order, &promised);
        let text = script(&host.envelope(HostCommand::Change(order)));
        let without = text.replace(flush, "\t:\n");
        assert_ne!(text, without, "{flush} is not in the script");
        assert!(!broken(&host, &without, &promises).is_empty(), "{flush} was left out, and nobody saw it");
    }
}
