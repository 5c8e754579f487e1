//! What a person reads who wrote something wrong.

use super::{Runbook, parse};
use crate::source::SourceText;
use crate::testing::{Toy, ToyCatalogue};

const HEAD: &str = r#"Runbook(format: 1, name: "toy", params: {"to": Text("latest"), "count": Number(3)}, phases: [
  (id: "prepare", clock: Before, budget: (ha: "5m", single: "5m")),
  (id: "outage", clock: Outage, budget: (ha: "60s", single: "60s")),
  (id: "after", clock: After),
], steps: ["#;

fn steps(steps: &str) -> String {
    format!("{HEAD}\n{steps}\n])")
}

pub(super) fn try_parse(text: &str) -> Result<Runbook<Toy>, String> {
    parse(SourceText::new("toy.ron", text), &ToyCatalogue::default()).map_err(|found| found.to_string())
}

/// Everything that is said about these steps.
pub(super) fn said(text: &str) -> String {
    try_parse(&steps(text)).map(|_| "nothing is wrong".to_owned()).unwrap_or_else(|said| said)
}

#[test]
fn a_misspelt_action_is_shown_where_it_stands_with_the_name_that_was_meant() {
    insta::assert_snapshot!(said(r#"(id: "a", phase: "prepare", on: All, do: [Tuoch(mark: "x")])"#), @r#"
    error: unknown action `Tuoch`
     --> toy.ron:6:43
      |
    6 | (id: "a", phase: "prepare", on: All, do: [Tuoch(mark: "x")])
      |                                           ^^^^^
      = help: did you mean `Touch`?
    "#);
}

#[test]
fn a_misspelt_field_of_a_step_or_of_an_action_is_shown() {
    insta::assert_snapshot!(said(r#"(id: "a", phase: "prepare", on: All, host_at_once: 2, do: [Touch(mark: "x")])"#), @r#"
    error: unknown field `host_at_once` of `Step`
     --> toy.ron:6:38
      |
    6 | (id: "a", phase: "prepare", on: All, host_at_once: 2, do: [Touch(mark: "x")])
      |                                      ^^^^^^^^^^^^
      = help: did you mean `hosts_at_once`?
    "#);
    insta::assert_snapshot!(said(r#"(id: "a", phase: "prepare", on: All, do: [Touch(marc: "x")])"#), @r#"
    error: unknown field `marc` of `Touch`
     --> toy.ron:6:49
      |
    6 | (id: "a", phase: "prepare", on: All, do: [Touch(marc: "x")])
      |                                                 ^^^^
      = help: did you mean `mark`?
    "#);
}

#[test]
fn a_missing_field_is_named() {
    insta::assert_snapshot!(said(r#"(id: "a", phase: "prepare", on: All, do: [Touch()])"#), @r#"
    error: the field `mark` of `Touch` is missing
     --> toy.ron:6:49
      |
    6 | (id: "a", phase: "prepare", on: All, do: [Touch()])
      |                                                 ^
    "#);
}

#[test]
fn a_wrong_type_is_shown_with_what_was_expected() {
    insta::assert_snapshot!(said(r#"(id: "a", phase: "prepare", on: All, hosts_at_once: "some", do: [Touch(mark: "x")])"#), @r#"
    error: expected a number from 1, a percentage such as "25%", "all", or "${param.NAME}" but found the string "some" instead
     --> toy.ron:6:54
      |
    6 | (id: "a", phase: "prepare", on: All, hosts_at_once: "some", do: [Touch(mark: "x")])
      |                                                      ^^^^
    "#);
    insta::assert_snapshot!(said(r#"(id: "a", phase: "prepare", on: All, timeout: "90", do: [Touch(mark: "x")])"#), @r#"
    error: `90` is not a duration: write a number with its unit, such as "90s", "15m" or "1h 30m"
     --> toy.ron:6:48
      |
    6 | (id: "a", phase: "prepare", on: All, timeout: "90", do: [Touch(mark: "x")])
      |                                                ^^
    "#);
    insta::assert_snapshot!(said(r#"(id: "a", phase: "prepare", on: All, do: [Touch(mark: 5)])"#), @r#"
    error: expected a string but found the unsigned integer `5` instead
     --> toy.ron:6:55
      |
    6 | (id: "a", phase: "prepare", on: All, do: [Touch(mark: 5)])
      |                                                       ^
    "#);
    insta::assert_snapshot!(said(r#"(id: "A step", phase: "prepare", on: All, do: [Touch(mark: "x")])"#), @r#"
    error: step id `A step` is not a name: 1 to 63 of a-z, 0-9 and `-`, beginning and ending with a letter or digit
     --> toy.ron:6:7
      |
    6 | (id: "A step", phase: "prepare", on: All, do: [Touch(mark: "x")])
      |       ^^^^^^
    "#);
}

#[test]
fn a_cycle_is_shown_as_a_path() {
    let text = said(
        r#"(id: "a", phase: "prepare", on: All, needs: [All("c")], do: [Touch(mark: "x")]),
(id: "b", phase: "prepare", on: All, needs: [SameHost(["a"])], do: [Touch(mark: "x")]),
(id: "c", phase: "prepare", on: All, needs: [All("b")], do: [Touch(mark: "x")])"#,
    );
    insta::assert_snapshot!(text, @r#"
    error: steps need one another in a circle: a → c → b → a
     --> toy.ron:6:6
      |
    6 | (id: "a", phase: "prepare", on: All, needs: [All("c")], do: [Touch(mark: "x")]),
      |      ^^^
      = help: each needs the one after the arrow; take one of these needs out
    "#);
}

#[test]
fn everything_wrong_with_names_is_reported_together_in_the_order_of_the_file() {
    let text = said(
        r#"(id: "first", phase: "prepair", on: All, when: [NonEmpty("too")], do: [Touch(mark: "x")]),
(id: "first", phase: "prepare", on: All, needs: [All("frist"), SameHost(["other"])], do: []),
(id: "third", phase: "prepare", on: Operator, do: [Touch(mark: "${fact.first.mrak}")])"#,
    );
    insta::assert_snapshot!(text, @r#"
    error: there is no phase `prepair`
     --> toy.ron:6:22
      |
    6 | (id: "first", phase: "prepair", on: All, when: [NonEmpty("too")], do: [Touch(mark: "x")]),
      |                      ^^^^^^^^^
      = help: did you mean `prepare`?

    error: there is no parameter `too`
     --> toy.ron:6:58
      |
    6 | (id: "first", phase: "prepair", on: All, when: [NonEmpty("too")], do: [Touch(mark: "x")]),
      |                                                          ^^^^^
      = help: did you mean `to`?

    error: there are two steps named `first`
     --> toy.ron:7:6
      |
    7 | (id: "first", phase: "prepare", on: All, needs: [All("frist"), SameHost(["other"])], do: []),
      |      ^^^^^^^

    error: step `first` has nothing to do
     --> toy.ron:7:6
      |
    7 | (id: "first", phase: "prepare", on: All, needs: [All("frist"), SameHost(["other"])], do: []),
      |      ^^^^^^^
      = help: name an action in `do`

    error: step `first` needs `frist`, but there is no such step
     --> toy.ron:7:54
      |
    7 | (id: "first", phase: "prepare", on: All, needs: [All("frist"), SameHost(["other"])], do: []),
      |                                                      ^^^^^^^
      = help: did you mean `first`?

    error: step `first` needs `other`, but there is no such step
     --> toy.ron:7:74
      |
    7 | (id: "first", phase: "prepare", on: All, needs: [All("frist"), SameHost(["other"])], do: []),
      |                                                                          ^^^^^^^
      = help: expected `first` or `third`

    error: step `first` leaves no fact `mrak`
     --> toy.ron:8:64
      |
    8 | (id: "third", phase: "prepare", on: Operator, do: [Touch(mark: "${fact.first.mrak}")])
      |                                                                ^^^^^^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn promises_that_exclude_one_another_are_refused() {
    let text = said(
        r#"(id: "a", phase: "prepare", on: Operator, irreversible: "writes", retry: (attempts: 3), best_effort: "5s", do: [Touch(mark: "x")]),
(id: "b", phase: "prepare", on: Operator, irreversible: " ", always: OnClose, do: [Ask(show: "?")])"#,
    );
    insta::assert_snapshot!(text, @r#"
    error: step `a` is irreversible, so its changes are not tried 3 times
     --> toy.ron:6:74
      |
    6 | (id: "a", phase: "prepare", on: Operator, irreversible: "writes", retry: (attempts: 3), best_effort: "5s", do: [Touch(mark: "x")]),
      |                                                                          ^
      = help: leave `retry` out: what failed before it changed anything is tried again anyway

    error: step `a` is irreversible, so its failure cannot be passed over by `best_effort`
     --> toy.ron:6:102
      |
    6 | (id: "a", phase: "prepare", on: Operator, irreversible: "writes", retry: (attempts: 3), best_effort: "5s", do: [Touch(mark: "x")]),
      |                                                                                                      ^^^^

    error: step `b` always runs at the close, so it cannot be irreversible
     --> toy.ron:7:6
      |
    7 | (id: "b", phase: "prepare", on: Operator, irreversible: " ", always: OnClose, do: [Ask(show: "?")])
      |      ^^^

    error: `irreversible` gives no reason
     --> toy.ron:7:57
      |
    7 | (id: "b", phase: "prepare", on: Operator, irreversible: " ", always: OnClose, do: [Ask(show: "?")])
      |                                                         ^^^
      = help: say what cannot be undone: it is shown when consent is asked

    error: step `b` always runs at the close, so it cannot wait for a person
     --> toy.ron:7:84
      |
    7 | (id: "b", phase: "prepare", on: Operator, irreversible: " ", always: OnClose, do: [Ask(show: "?")])
      |                                                                                    ^^^
    "#);
}

#[test]
fn limits_and_places_of_actions_are_checked() {
    let text = said(
        r#"(id: "c", phase: "prepare", on: All, retry: (attempts: 21), timeout: "25h", do: [Ask(show: "?")]),
(id: "d", phase: "prepare", on: Operator, done_when: [Ask(show: "?")], do: [StopMember()]),
(id: "e", phase: "after", on: Servers, hosts_at_once: "all", do: [StopMember()])"#,
    );
    insta::assert_snapshot!(text, @r#"
    error: 21 attempts: from 1 to 20 are possible
     --> toy.ron:6:45
      |
    6 | (id: "c", phase: "prepare", on: All, retry: (attempts: 21), timeout: "25h", do: [Ask(show: "?")]),
      |                                             ^

    error: `timeout` is 25h: more than 0 and at most 24h is possible
     --> toy.ron:6:70
      |
    6 | (id: "c", phase: "prepare", on: All, retry: (attempts: 21), timeout: "25h", do: [Ask(show: "?")]),
      |                                                                      ^^^^^

    error: `Ask` runs on the operator's machine only: write `on: Operator`
     --> toy.ron:6:82
      |
    6 | (id: "c", phase: "prepare", on: All, retry: (attempts: 21), timeout: "25h", do: [Ask(show: "?")]),
      |                                                                                  ^^^

    error: `Ask` asks a person, so it cannot tell whether a step is done
     --> toy.ron:7:55
      |
    7 | (id: "d", phase: "prepare", on: Operator, done_when: [Ask(show: "?")], do: [StopMember()]),
      |                                                       ^^^

    error: `StopMember` runs on hosts only: `on: Operator` names none
     --> toy.ron:7:77
      |
    7 | (id: "d", phase: "prepare", on: Operator, done_when: [Ask(show: "?")], do: [StopMember()]),
      |                                                                             ^^^^^^^^^^

    error: `StopMember` stops an etcd member, and step `e` does so on several hosts at once outside of an outage phase
     --> toy.ron:8:55
      |
    8 | (id: "e", phase: "after", on: Servers, hosts_at_once: "all", do: [StopMember()])
      |                                                       ^^^^^
      = help: write `hosts_at_once: 1`, or move the step into a phase with `clock: Outage`
    "#);
}

#[test]
fn a_step_cannot_need_a_later_phase_and_phases_keep_their_order() {
    let text = said(
        r#"(id: "a", phase: "after", on: All, do: [Touch(mark: "x")]),
(id: "b", phase: "prepare", on: All, needs: [All("a")], do: [Touch(mark: "x")])"#,
    );
    insta::assert_snapshot!(text, @r#"
    error: step `b` of phase `prepare` needs `a` of the later phase `after`
     --> toy.ron:7:18
      |
    7 | (id: "b", phase: "prepare", on: All, needs: [All("a")], do: [Touch(mark: "x")])
      |                  ^^^^^^^^^
    "#);
    let text = r#"(format: 1, name: "toy", phases: [(id: "o", clock: Outage), (id: "p", clock: Before)],
steps: [(id: "a", phase: "p", on: All, do: [Touch(mark: "x")])])"#;
    insta::assert_snapshot!(try_parse(text).unwrap_err(), @r#"
    error: phase `p` is Before, but stands after `o`, which is Outage
     --> toy.ron:1:66
      |
    1 | (format: 1, name: "toy", phases: [(id: "o", clock: Outage), (id: "p", clock: Before)],
      |                                                                  ^^^
      = help: phases go Before, Outage, After
    "#);
}

#[test]
fn phase_budgets_must_fit_into_the_budget() {
    let text = r#"(format: 1, name: "toy", budget: (ha: "2m", single: "3m"), phases: [
  (id: "p", clock: Before, budget: (ha: "1h", single: "1h")),
  (id: "one", clock: Outage, budget: (ha: "1m", single: "1m")),
  (id: "two", clock: Outage, budget: (ha: "1m", single: "1m")),
  (id: "three", clock: Outage, budget: (ha: "90s", single: "1m")),
], steps: [
  (id: "a", phase: "p", on: All, do: [Touch(mark: "x")]),
  (id: "b", phase: "one", on: All, needs: [All("a")], do: [Touch(mark: "x")]),
  (id: "c", phase: "two", on: All, needs: [All("a")], do: [Touch(mark: "x")]),
  (id: "d", phase: "three", on: All, needs: [All("b"), All("c")], do: [Touch(mark: "x")]),
])"#;
    insta::assert_snapshot!(try_parse(text).unwrap_err(), @r#"
    error: the phases may take 2m 30s one after the other, but the budget `ha` is 2m
     --> toy.ron:1:34
      |
    1 | (format: 1, name: "toy", budget: (ha: "2m", single: "3m"), phases: [
      |                                  ^
      = help: the longest way is two → three
    "#);
}

#[test]
fn another_format_and_bad_parameters_are_refused() {
    let text = r#"(format: 2, name: "Toy", params: {"version": Version("1.33"), "x": Text("${cluster.versoin}")}, phases: [(id: "p", clock: Before)],
steps: [(id: "a", phase: "p", on: All, do: [Touch(mark: "x")])])"#;
    insta::assert_snapshot!(try_parse(text).unwrap_err(), @r#"
    error: format 2 is not known to this version
     --> toy.ron:1:10
      |
    1 | (format: 2, name: "Toy", params: {"version": Version("1.33"), "x": Text("${cluster.versoin}")}, phases: [(id: "p", clock: Before)],
      |          ^
      = help: expected `format: 1`

    error: `Toy` is not a name for a runbook
     --> toy.ron:1:19
      |
    1 | (format: 2, name: "Toy", params: {"version": Version("1.33"), "x": Text("${cluster.versoin}")}, phases: [(id: "p", clock: Before)],
      |                   ^^^^^
      = help: write 1 to 63 of a-z, 0-9 and `-`

    error: `1.33` is not a version: expected one such as v1.33.4+rke2r1 or v1.33.4+k3s1
     --> toy.ron:1:46
      |
    1 | (format: 2, name: "Toy", params: {"version": Version("1.33"), "x": Text("${cluster.versoin}")}, phases: [(id: "p", clock: Before)],
      |                                              ^^^^^^^

    error: the default of `x` has a `${…}` that is not known before a run
     --> toy.ron:1:68
      |
    1 | (format: 2, name: "Toy", params: {"version": Version("1.33"), "x": Text("${cluster.versoin}")}, phases: [(id: "p", clock: Before)],
      |                                                                    ^^^^
      = help: only ${cluster.version}, ${cluster.name} or ${cluster.init} alone can stand there
    "#);
    let twice = r#"(format: 1, name: "toy", params: {"x": Text("1"), "x": Text("2")}, phases: [], steps: [])"#;
    insta::assert_snapshot!(try_parse(twice).unwrap_err(), @r#"
    error: the parameter `x` is given twice
     --> toy.ron:1:52
      |
    1 | (format: 1, name: "toy", params: {"x": Text("1"), "x": Text("2")}, phases: [], steps: [])
      |                                                    ^
    "#);
}

#[test]
fn a_hundred_wrong_steps_are_counted_and_the_first_ones_shown() {
    let wrong = (0..100).map(|n| format!(r#"(id: "s{n}", phase: "nowhere-{n}", on: All, do: [Touch(mark: "x")]),"#));
    let text = said(&wrong.collect::<String>());
    assert!(text.contains("no phase `nowhere-19`") && !text.contains("nowhere-20"), "{text}");
    assert!(text.ends_with("and 80 more"), "{text}");
}

#[test]
fn defaults_are_those_of_the_reference() {
    let runbook = try_parse(&steps(r#"(id: "a", phase: "prepare", on: All, do: [Touch(mark: "x")])"#)).unwrap();
    let step = &runbook.steps[0];
    assert_eq!(step.hosts_at_once.value, super::HostsAtOnce::Count(1));
    assert_eq!(step.hosts_at_once.of(0), 1);
    assert_eq!(super::HostsAtOnce::Percent(25).of(3), 1);
    assert_eq!(super::HostsAtOnce::Percent(50).of(5), 2);
    assert!(step.retry.is_none() && step.timeout.is_none() && !step.safety && !runbook.supersedes);
}
