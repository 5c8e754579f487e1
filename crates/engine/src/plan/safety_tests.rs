//! Plans that are refused because of the hosts that there are.

use super::testing::{cluster, plan_of, planned, refusal_of, targets};
use super::{LastPlan, Request};
use crate::testing::ToyCatalogue;

#[test]
fn same_host_must_cover_every_host_of_the_step() {
    let steps = |on: &str| {
        format!(
            r#"(id: "a", phase: "p", on: Servers, do: [Touch(mark: "x")]),
(id: "b", phase: "p", on: Agents, when: [Velero], do: [Touch(mark: "x")]),
(id: "c", phase: "p", on: {on}, needs: [SameHost(["a", "b"])], do: [Touch(mark: "x")]),
(id: "d", phase: "p", on: All, needs: [SameHost(["a"])], do: [Touch(mark: "x")])"#
        )
    };
    insta::assert_snapshot!(refusal_of(&cluster(1, 1), "", &steps("All"), &Request::default()), @r#"
    error: step `d` runs on `agent-0`, which is in none of the steps of its `SameHost`: `a`
     --> toy.ron:7:50
      |
    7 | (id: "d", phase: "p", on: All, needs: [SameHost(["a"])], do: [Touch(mark: "x")])
      |                                                  ^^^
      = help: each of its hosts has to be in one of them; `All(…)` waits for every host of a step
    "#);
    // Nothing but servers: `d` is covered too, and `c` is covered by a step that is left out.
    assert_eq!(targets(&plan_of(&cluster(1, 0), &steps("All"), &[]), 3), "server-0");
}

#[test]
fn a_fact_must_have_one_value_on_every_host_that_uses_it() {
    let steps = r#"(id: "a", phase: "p", on: Servers, do: [Touch(mark: "x")]),
(id: "b", phase: "p", on: Operator, when: [Velero], do: [Touch(mark: "x")]),
(id: "c", phase: "p", on: All, needs: [All("a"), All("b")], do: [Touch(mark: "${fact.a.mark}"), Touch(mark: "${fact.b.mark}")])"#;
    insta::assert_snapshot!(refusal_of(&cluster(3, 1), "", steps, &Request::default()), @r#"
    error: `${fact.a.mark}` has no one value on `agent-0`: step `a` does not run there, but on 3 others
     --> toy.ron:6:78
      |
    6 | (id: "c", phase: "p", on: All, needs: [All("a"), All("b")], do: [Touch(mark: "${fact.a.mark}"), Touch(mark: "${fact.b.mark}")])
      |                                                                              ^^^^^^^^^^^^^^^^

    error: `${fact.b.mark}` has no value: step `b` runs nowhere, because `Velero` does not hold
     --> toy.ron:6:109
      |
    6 | (id: "c", phase: "p", on: All, needs: [All("a"), All("b")], do: [Touch(mark: "${fact.a.mark}"), Touch(mark: "${fact.b.mark}")])
      |                                                                                                             ^^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn a_parameter_says_how_many_hosts_are_at_work_at_once() {
    let steps = r#"(id: "a", phase: "p", on: Agents, hosts_at_once: "${param.width}", do: [Touch(mark: "x")])"#;
    let at_once = |params: &str, set: &str| {
        let request = Request { set: vec![set.to_owned()], ..Request::default() };
        planned(&cluster(1, 8), params, steps, &request).steps[0].hosts_at_once
    };
    assert_eq!(at_once(r#""width": Text("25%")"#, "width=25%"), 2);
    assert_eq!(at_once(r#""width": Text("25%")"#, "width=5"), 5);
    assert_eq!(at_once(r#""width": Text("1")"#, "width=all"), 8);
    assert_eq!(at_once(r#""width": Number(3)"#, "width=3"), 3);
    let refused = |set: &str| {
        let request = Request { set: vec![set.to_owned()], ..Request::default() };
        refusal_of(&cluster(1, 8), r#""width": Text("25%")"#, steps, &request)
    };
    assert!(refused("width=0").contains("`width` is `0`, which is no number of hosts"));
    let servers = steps.replace("Agents", "Servers").replace("Touch(mark: \"x\")", "StopMember()");
    let request = Request { set: vec!["width=all".to_owned()], ..Request::default() };
    let refusal = refusal_of(&cluster(3, 0), r#""width": Text("1")"#, &servers, &request);
    assert!(refusal.contains("may stop 3 etcd members at once"), "{refusal}");
}

#[test]
fn the_host_that_goes_last_is_named_by_a_step_that_runs_once_and_before_all_of_them() {
    let steps = |on: &str, need: &str| {
        format!(
            r#"(id: "a", phase: "p", on: {on}, do: [Touch(mark: "x")]),
(id: "b", phase: "p", on: Servers, needs: [{need}], last: "${{fact.a.mark}}", do: [Touch(mark: "x")])"#
        )
    };
    let refused = |on: &str, need: &str| refusal_of(&cluster(3, 0), "", &steps(on, need), &Request::default());
    assert!(refused("Servers", r#"All("a")"#).contains("`${fact.a.mark}` has no one value: step `a` runs on 3 hosts"));
    let everywhere = r#"SameHost(["a"])"#;
    assert!(refused("Init", everywhere).contains("is in none of the steps of its `SameHost`"));
    let plan = plan_of(&cluster(3, 0), &steps("Operator", r#"All("a")"#), &[]);
    assert_eq!(plan.steps[1].last, Some(LastPlan { step: 0, fact: "mark".to_owned() }));
    let text = super::text(&plan, &super::Forecast::of(&plan, &ToyCatalogue::default()).unwrap());
    assert!(text.contains("last the host that ${fact.a.mark} names"), "{text}");
}

#[test]
fn a_fact_must_be_known_on_the_host_that_uses_it_and_not_only_on_another() {
    let steps = |need: &str, fact: &str| {
        format!(
            r#"(id: "point", phase: "p", on: Operator, do: [Touch(mark: "x")]),
(id: "a", phase: "p", on: Init, needs: [All("point")], do: [Touch(mark: "x")]),
(id: "b", phase: "p", on: OtherServers, needs: [All("point")], do: [Touch(mark: "x")]),
(id: "c", phase: "p", on: Servers, needs: [{need}], do: [Touch(mark: "${{fact.{fact}.mark}}")]),
(id: "d", phase: "p", on: Operator, needs: [All("c")], do: [Touch(mark: "${{fact.a.mark}}")])"#
        )
    };
    let same_host = r#"SameHost(["a", "b"])"#;
    insta::assert_snapshot!(refusal_of(&cluster(3, 0), "", &steps(same_host, "a"), &Request::default()), @r#"
    error: `${fact.a.mark}` may not be known yet when `c` starts on another host
     --> toy.ron:7:84
      |
    7 | (id: "c", phase: "p", on: Servers, needs: [SameHost(["a", "b"])], do: [Touch(mark: "${fact.a.mark}")]),
      |                                                                                    ^^^^^^^^^^^^^^^^
      = help: add `All("a")` to the needs of `c`
    "#);
    plan_of(&cluster(3, 0), &steps(same_host, "point"), &[]);
    plan_of(&cluster(3, 0), &steps(r#"SameHost(["a", "b"]), All("a")"#, "a"), &[]);
    plan_of(&cluster(1, 0), &steps(r#"SameHost(["a"])"#, "a"), &[]);
}

#[test]
fn two_etcd_members_are_never_stopped_at_once_while_the_cluster_serves() {
    let one = |at_once: &str| {
        format!(r#"(id: "a", phase: "p", on: Group("servers"), hosts_at_once: {at_once}, do: [StopMember()])"#)
    };
    insta::assert_snapshot!(refusal_of(&cluster(3, 3), "", &one("\"all\""), &Request::default()), @r#"
    error: step `a` may stop 3 etcd members at once, outside of an outage phase
     --> toy.ron:4:6
      |
    4 | (id: "a", phase: "p", on: Group("servers"), hosts_at_once: "all", do: [StopMember()])
      |      ^^^
      = help: write `hosts_at_once: 1`, or move it into a phase with `clock: Outage`
    "#);
    plan_of(&cluster(3, 3), &one("\"33%\""), &[]);
    plan_of(&cluster(1, 3), &one("\"all\""), &[]);
    plan_of(&cluster(3, 3), &one("\"all\"").replace("\"p\"", "\"o\""), &[]);

    let two = |first: &str, need: &str| {
        format!(
            r#"(id: "a", phase: "p", on: {first}, do: [StopMember()]),
(id: "m", phase: "p", on: Servers, needs: [SameHost(["a"])], do: [Touch(mark: "x")]),
(id: "b", phase: "p", on: Servers, needs: [{need}], do: [StopMember()])"#
        )
    };
    insta::assert_snapshot!(refusal_of(&cluster(3, 0), "", &two("Servers", ""), &Request::default()), @r#"
    error: steps `a` and `b` may stop two etcd members at once
     --> toy.ron:6:6
      |
    6 | (id: "b", phase: "p", on: Servers, needs: [], do: [StopMember()])
      |      ^^^
      = help: add `All("a")` to the needs of `b`
    "#);
    let refused = refusal_of(&cluster(3, 0), "", &two("Servers", r#"SameHost(["a"])"#), &Request::default());
    assert!(refused.contains("two etcd members at once"), "{refused}");
    plan_of(&cluster(3, 0), &two("Servers", r#"All("a")"#), &[]);
    plan_of(&cluster(3, 0), &two("Servers", r#"All("m")"#), &[]);
    plan_of(&cluster(1, 0), &two("Servers", r#"SameHost(["m"])"#), &[]);
}

#[test]
fn a_limit_never_leaves_out_an_irreversible_or_a_safety_step() {
    let steps = r#"(id: "a", phase: "p", on: All, do: [Touch(mark: "x")]),
(id: "b", phase: "p", on: Init, irreversible: "writes", do: [Touch(mark: "x")]),
(id: "c", phase: "p", on: Servers, safety: true, do: [Touch(mark: "x")])"#;
    let limit = |host: &str| Request { limit: vec![host.into()], ..Request::default() };
    insta::assert_snapshot!(refusal_of(&cluster(1, 1), "", steps, &limit("agent-0")), @r#"
    error: the limit leaves out step `b`, which is irreversible
     --> toy.ron:5:27
      |
    5 | (id: "b", phase: "p", on: Init, irreversible: "writes", do: [Touch(mark: "x")]),
      |                           ^^^^
      = help: add its host to the limit

    error: the limit leaves out step `c`, which is a safety step
     --> toy.ron:6:27
      |
    6 | (id: "c", phase: "p", on: Servers, safety: true, do: [Touch(mark: "x")])
      |                           ^^^^^^^
      = help: add its host to the limit
    "#);
    assert_eq!(targets(&planned(&cluster(1, 1), "", steps, &limit("server-0")), 0), "server-0");
}
