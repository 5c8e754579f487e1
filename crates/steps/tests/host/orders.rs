//! Claims and receipts: who may act, and that an order runs at most once.

use rke2flow_steps::answer::{ClaimAnswer, ReceiptAnswer, Tail};
use rke2flow_steps::command::{Change, ClaimCommand, HostCommand, Look, Order};
use rke2flow_steps::render::script;

use super::bench::{Bench, claim, order};

fn count(host: &Bench) -> Change {
    Change::Script { script: format!("echo once >> '{}'", host.world("runs")) }
}

fn receipt(host: &Bench, order: &Order) -> ReceiptAnswer {
    host.look(Look::Receipt {
        run: order.run.clone(),
        instance: order.instance.clone(),
        attempt: order.attempt,
        unit: order.unit.clone(),
    })
}

#[test]
fn a_claim_is_taken_by_a_greater_number_or_again_by_the_same_holder_only() {
    let host = Bench::new();
    assert_eq!(host.take(claim(7)), ClaimAnswer::Accepted);
    assert_eq!(host.take(claim(7)), ClaimAnswer::Accepted);
    let mut other = claim(7);
    other.holder = "bob@desk".to_owned();
    let ClaimAnswer::Refused(state) = host.take(other.clone()) else { panic!("an equal number was accepted") };
    assert_eq!((state.claim.clone(), state.released), (claim(7), false));
    assert!(matches!(host.take(claim(6)), ClaimAnswer::Refused(_)));
    other.number = 8;
    assert_eq!(host.take(other.clone()), ClaimAnswer::Accepted);
    assert_eq!(host.survey().claim.unwrap().claim, other);
}

#[test]
fn a_released_claim_gives_no_right_to_act_until_it_is_taken_again() {
    let host = Bench::new();
    host.take(claim(7));
    let refused: ClaimAnswer = host.ask(HostCommand::Claim(ClaimCommand::Release(claim(8))));
    assert!(matches!(refused, ClaimAnswer::Refused(_)));
    let released: ClaimAnswer = host.ask(HostCommand::Claim(ClaimCommand::Release(claim(7))));
    assert_eq!(released, ClaimAnswer::Accepted);
    assert!(host.survey().claim.unwrap().released);
    let answer = host.place(&order(count(&host), 1));
    assert!(matches!(answer, ReceiptAnswer::Refused(Some(state)) if state.released));
    host.take(claim(7));
    assert!(matches!(host.place(&order(count(&host), 1)), ReceiptAnswer::Finished { exit: 0, .. }));
}

#[test]
fn an_order_without_the_remembered_claim_is_refused_and_leaves_nothing() {
    let host = Bench::new();
    assert_eq!(host.place(&order(count(&host), 1)), ReceiptAnswer::Refused(None));
    host.take(claim(8));
    let refused = host.place(&order(count(&host), 1));
    assert!(matches!(refused, ReceiptAnswer::Refused(Some(state)) if state.claim == claim(8)));
    assert!(!host.exists(&host.world("runs")));
    assert_eq!(receipt(&host, &order(count(&host), 1)), ReceiptAnswer::Unknown);
}

#[test]
fn an_order_that_was_placed_before_is_answered_from_its_receipt() {
    let host = Bench::new();
    host.take(claim(7));
    let order = order(count(&host), 1);
    let first = host.place(&order);
    assert!(matches!(first, ReceiptAnswer::Finished { exit: 0, .. }), "{first:?}");
    assert_eq!(host.place(&order), first);
    assert_eq!(receipt(&host, &order), first);
    assert_eq!(host.read(&host.world("runs")), "once\n");
}

#[test]
fn an_order_that_has_ended_is_finished_even_while_systemd_still_knows_its_unit() {
    let host = Bench::new();
    host.take(claim(7));
    let order = order(count(&host), 1);
    host.place(&order);
    host.write(&host.world(&format!("units/{}", order.unit)), "deactivating");
    assert!(matches!(receipt(&host, &order), ReceiptAnswer::Finished { exit: 0, .. }));
}

#[test]
fn a_staged_script_that_is_started_a_second_time_does_nothing() {
    let host = Bench::new();
    host.take(claim(7));
    let order = order(count(&host), 1);
    host.place(&order);
    let staged = host.read(&format!("{}/script", host.paths.receipt(&order.run, &order.instance, 1)));
    assert_eq!(host.sh(&staged).exit, 0);
    assert_eq!(host.read(&host.world("runs")), "once\n");
}

#[test]
fn of_ten_that_place_the_same_order_at_once_one_runs_it() {
    let host = Bench::new();
    host.write(&host.world("background"), "");
    host.take(claim(7));
    let order = order(count(&host), 1);
    std::thread::scope(|scope| {
        let answers: Vec<_> = (0..10).map(|_| scope.spawn(|| host.place(&order))).collect();
        for answer in answers {
            let answer = answer.join().unwrap();
            assert!(matches!(answer, ReceiptAnswer::Running | ReceiptAnswer::Finished { exit: 0, .. }), "{answer:?}");
        }
    });
    let starts = host.log().iter().filter(|line| line.starts_with("systemd-run")).count();
    assert_eq!(starts, 1);
}

#[test]
fn an_order_under_way_is_running_and_is_stopped_by_nobody() {
    let host = Bench::new();
    host.write(&host.world("background"), "");
    host.take(claim(7));
    let (gate, done) = (host.fifo("gate"), host.fifo("done"));
    // Reading a fifo waits for its writer: the script goes on when the test says so, and the test when it is done.
    let order = order(Change::Script { script: format!("cat '{gate}' > /dev/null; echo x > '{done}'") }, 1);
    assert_eq!(host.place(&order), ReceiptAnswer::Running);
    assert_eq!(host.place(&order), ReceiptAnswer::Running);
    assert_eq!(host.survey().our_units, [order.unit.as_str()]);
    host.write(&gate, "go");
    assert_eq!(host.read(&done), "x\n");
}

#[test]
fn an_order_that_another_boot_began_is_interrupted_and_does_not_run_again() {
    let host = Bench::new();
    host.take(claim(7));
    let order = order(count(&host), 1);
    host.place(&order);
    let directory = host.paths.receipt(&order.run, &order.instance, 1);
    std::fs::remove_file(format!("{directory}/exit")).unwrap();
    host.write(&format!("{directory}/started"), "11111111-2222\n");
    let interrupted = ReceiptAnswer::Interrupted { boot: "11111111-2222".to_owned() };
    assert_eq!(receipt(&host, &order), interrupted);
    assert_eq!(host.place(&order), interrupted);
    assert_eq!(host.read(&host.world("runs")), "once\n");
}

#[test]
fn an_order_runs_as_a_unit_of_its_own_with_the_environment_files_of_the_node_and_nothing_else() {
    let host = Bench::new();
    host.take(claim(7));
    let order = order(Change::Script { script: "echo secret-word".to_owned() }, 1);
    host.place(&order);
    let directory = host.paths.receipt(&order.run, &order.instance, 1);
    let expected = format!(
        "systemd-run --quiet --no-block --collect --unit={} --property=KillMode=process \
         --property=EnvironmentFile=-{} --description=rke2flow {} sh {directory}/script",
        order.unit,
        host.world("some proxies"),
        order.run
    );
    assert_eq!(host.log(), [expected]);
}

#[test]
fn a_stager_that_died_before_the_start_is_followed_by_one_that_starts() {
    let host = Bench::new();
    host.take(claim(7));
    let order = order(count(&host), 1);
    let directory = host.paths.receipt(&order.run, &order.instance, 1);
    host.write(&format!("{directory}/script.tmp"), "half a scr");
    assert_eq!(receipt(&host, &order), ReceiptAnswer::Unknown);
    assert!(matches!(host.place(&order), ReceiptAnswer::Finished { exit: 0, .. }));
    assert_eq!(host.read(&host.world("runs")), "once\n");
}

#[test]
fn a_script_that_arrives_only_in_part_does_nothing() {
    let host = Bench::new();
    host.take(claim(7));
    let before = host.state_of_the_world();
    let text = script(&host.envelope(HostCommand::Change(order(count(&host), 1))));
    let end = text.rfind("main \"$@\"").unwrap();
    let cuts = (0..40).map(|part| text.len() * part / 40).chain([end - 2, end, end + 2]);
    for cut in cuts.filter(|cut| text.is_char_boundary(*cut)) {
        host.sh(&text[..cut]);
        assert_eq!(host.state_of_the_world(), before, "cut at {cut} of {}", text.len());
        assert!(!host.exists(&host.world("runs")));
    }
    assert!(host.sh(&text).exit == 0 && host.exists(&host.world("runs")));
}

#[test]
fn the_log_of_one_of_our_units_is_what_it_printed() {
    let host = Bench::new();
    host.take(claim(7));
    let order = order(Change::Script { script: "echo hello there".to_owned() }, 1);
    host.place(&order);
    let tail: Tail = host.look(Look::Log { unit: order.unit.as_str().to_owned(), lines: 10 });
    assert_eq!(rke2flow_steps::render::decode_text(&tail.text).unwrap(), b"hello there\n");
    let tail: Tail = host.look(Look::Log { unit: "rke2-server".to_owned(), lines: 9999 });
    let asked = String::from_utf8(rke2flow_steps::render::decode_text(&tail.text).unwrap()).unwrap();
    assert!(asked.contains("--lines=200 --unit=rke2-server"), "{asked}");
}
