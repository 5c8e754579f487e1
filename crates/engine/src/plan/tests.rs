//! What is planned, what is refused, and what must hold for every plan.

use proptest::prelude::*;
use serde_json::Value;

use super::testing::{cluster, plan_of, planned, refusal_of, runbook_of, targets};
use super::{Forecast, Index, Plan, Request, Scope, build, dot, json, text};
use crate::id::{HostName, RunId, Target};
use crate::testing::ToyCatalogue;
use crate::value::Facts;

fn set(settings: &[&str]) -> Request {
    Request { set: settings.iter().map(|setting| (*setting).to_owned()).collect(), ..Request::default() }
}

#[test]
fn selectors_take_hosts_in_file_order_and_lost_hosts_drop_out_of_all() {
    let steps =
        ["Operator", "All", "Servers", "Agents", "Init", "OtherServers", r#"Host("agent-1")"#, r#"Group("agents")"#]
            .map(|on| {
                let name = on.to_lowercase().replace(|c: char| !c.is_alphanumeric(), "-");
                format!(r#"(id: "s{}", phase: "p", on: {on}, do: [Touch(mark: "x")])"#, name.trim_matches('-'))
            })
            .join(",");
    let plan = plan_of(&cluster(3, 2), &steps, &[]);
    let all = (0..8).map(|step| targets(&plan, step)).collect::<Vec<_>>();
    assert_eq!(all[0], "operator");
    assert_eq!(all[1], "server-0 server-1 server-2 agent-0 agent-1");
    assert_eq!(all[4..], ["server-0", "server-1 server-2", "agent-1", "agent-0 agent-1"]);
    let plan = plan_of(&cluster(3, 2), &steps, &["server-1", "agent-1"]);
    let all = (0..8).map(|step| targets(&plan, step)).collect::<Vec<_>>();
    assert_eq!(
        all[1..],
        ["server-0 server-2 agent-0", "server-0 server-2", "agent-0", "server-0", "server-2", "", "agent-0"]
    );
    let limited = Request { limit: vec!["agent-0".into()], ..Request::default() };
    assert_eq!(targets(&planned(&cluster(3, 2), "", &steps, &limited), 1), "agent-0");
}

#[test]
fn a_lost_init_server_is_replaced_by_the_next_one_and_that_is_said() {
    let steps = r#"(id: "reset", phase: "o", on: Init, do: [Touch(mark: "${host.init}")])"#;
    let request = Request { lost: vec!["server-0".into()], ..Request::default() };
    let planned = build(&runbook_of("", steps), &cluster(3, 0), &request, &ToyCatalogue::default()).unwrap();
    assert_eq!(targets(&planned.plan, 0), "server-1");
    insta::assert_snapshot!(planned.warnings, @r#"warning: `server-0` is declared lost, so `server-1` takes its place as the server that is reset and restored"#);
    let all_lost = Request { lost: vec!["server-0".into()], ..Request::default() };
    insta::assert_snapshot!(refusal_of(&cluster(1, 1), "", steps, &all_lost), @r#"
    error: every server is declared lost
      = help: a server has to be left to work on
    "#);
}

#[test]
fn the_parameter_lost_and_the_option_lost_are_one_list() {
    let request = Request { lost: vec!["agent-0".into()], ..set(&["lost=agent-1"]) };
    let steps = r#"(id: "a", phase: "p", on: Agents, do: [Touch(mark: "x")])"#;
    let plan = planned(&cluster(1, 3), r#""lost": Hosts([])"#, steps, &request);
    assert_eq!(targets(&plan, 0), "agent-2");
    assert_eq!(plan.params["lost"], Value::from(vec!["agent-0", "agent-1"]));
    assert!(plan.hosts.iter().filter(|host| host.lost).count() == 2);
}

#[test]
fn conditions_leave_steps_out_and_say_why() {
    let steps = r#"(id: "a", phase: "p", on: All, when: [Ha, NonEmpty("data")], do: [Touch(mark: "x")]),
(id: "b", phase: "p", on: All, needs: [All("a")], when: [Not(Velero), Not(S3), Not(Single), Rke2], do: [Touch(mark: "x")])"#;
    let params = r#""data": Namespaces([])"#;
    let plan = planned(&cluster(3, 0), params, steps, &Request::default());
    assert_eq!(plan.steps[0].left_out.as_deref(), Some("`NonEmpty(\"data\")` does not hold"));
    assert_eq!((targets(&plan, 0).as_str(), targets(&plan, 1).as_str()), ("", "server-0 server-1 server-2"));
    let plan = planned(&cluster(3, 0), params, steps, &set(&["data=shop, db"]));
    assert_eq!(plan.params["data"], Value::from(vec!["shop", "db"]));
    assert_eq!(plan.steps[0].left_out, None);
}

#[test]
fn parameters_are_typed_and_in_place_in_the_plan() {
    let params = r#""to": Required(Version), "from": Version("${cluster.version}"), "n": Number(1), "f": Flag(false), "wait": Duration("90s"), "l": Namespaces(["a"])"#;
    let steps = r#"(id: "a", phase: "p", on: Operator, do: [Touch(mark: "${param.from}-${param.n}-${param.l}-${run.id}", version: "${param.to}")]),
(id: "b", phase: "p", on: Operator, do: [Fail(times: "${param.n}"), Touch(mark: "${param.wait} ${param.f}")])"#;
    let plan = planned(&cluster(1, 0), params, steps, &set(&["to=v1.34.1+rke2r1", "n=2", "wait=2m", "f=true"]));
    let fields = |step: usize, action: usize| plan.steps[step].actions[action].fields.to_string();
    assert_eq!(fields(0, 0), r#"{"mark":"v1.33.4+rke2r1-2-[\"a\"]-${run.id}","version":"v1.34.1+rke2r1"}"#);
    assert_eq!(fields(1, 0), r#"{"times":2}"#);
    assert_eq!(fields(1, 1), r#"{"mark":"2m true"}"#);
}

#[test]
fn parameters_that_are_unknown_missing_or_of_another_type_are_refused_together() {
    let params = r#""version": Required(Version), "n": Number(1), "f": Flag(false), "w": Duration("1s"), "lost": Hosts([]), "to": RecoveryPoint("latest")"#;
    let steps = r#"(id: "a", phase: "p", on: Operator, do: [Touch(mark: "${param.version}")])"#;
    let request = set(&["verison=v1.2.3+rke2r1", "n=many", "f=yes", "w=5", "lost=agent-9", "plain", "to="]);
    insta::assert_snapshot!(refusal_of(&cluster(1, 1), params, steps, &request), @r#"
    error: runbook `toy` has no parameter `verison`
      = help: did you mean `version`?

    error: parameter `n`: `many` is not a whole number

    error: parameter `f`: `yes` is neither true nor false

    error: parameter `w`: `5` is not a duration: write a number with its unit, such as "90s", "15m" or "1h 30m"

    error: parameter `lost`: the cluster file has no host `agent-9`
      = help: did you mean `agent-0`?

    error: `plain` sets nothing
      = help: write --set NAME=VALUE

    error: parameter `to`: `` is not a recovery point
      = help: write a run id, the name of a snapshot file, or latest

    error: parameter `version` has no value
     --> toy.ron:1:53
      |
    1 | Runbook(format: 1, name: "toy", params: {"version": Required(Version), "n": Number(1), "f": Flag(false), "w": Duration("1s"), "lost": Hosts(
      |                                                     ^^^^^^^^
      = help: give it with --set version=…
    "#);
    let unknown = Request { lost: vec!["sever-0".into()], ..set(&["version=1.2", "to=${run.id}"]) };
    insta::assert_snapshot!(refusal_of(&cluster(1, 1), params, steps, &unknown), @r#"
    error: parameter `version`: `1.2` is not a version: expected one such as v1.33.4+rke2r1 or v1.33.4+k3s1

    error: parameter `to`: `${` cannot stand in a value

    error: the cluster file has no host `sever-0`
      = help: did you mean `server-0`?
    "#);
    let mut without = cluster(1, 0);
    without.version = None;
    insta::assert_snapshot!(refusal_of(&without, r#""v": Version("${cluster.version}")"#, steps.replace("version", "v").as_str(), &Request::default()), @r#"
    error: parameter `v` has no value: the cluster file has no `version`
     --> toy.ron:1:47
      |
    1 | Runbook(format: 1, name: "toy", params: {"v": Version("${cluster.version}")},
      |                                               ^^^^^^^
      = help: give it with --set v=…
    "#);
}

#[test]
fn a_value_that_the_action_refuses_is_refused_when_planning() {
    let steps = r#"(id: "a", phase: "p", on: All, do: [Fail(times: "${param.n}")])"#;
    insta::assert_snapshot!(refusal_of(&cluster(1, 0), r#""n": Number(1)"#, steps, &set(&["n=-1"])), @r#"
    error: `Fail` cannot take these values: invalid value: integer `-1`, expected u32
     --> toy.ron:4:49
      |
    4 | (id: "a", phase: "p", on: All, do: [Fail(times: "${param.n}")])
      |                                                 ^^^^^^^^^^^^
    "#);
}

#[test]
fn hosts_and_groups_that_are_not_in_the_cluster_are_refused() {
    let steps = r#"(id: "a", phase: "p", on: Host("agnet-0"), do: [Touch(mark: "x")]),
(id: "b", phase: "p", on: Group("agent"), do: [Touch(mark: "x")])"#;
    insta::assert_snapshot!(refusal_of(&cluster(1, 1), "", steps, &Request::default()), @r#"
    error: the cluster file has no host `agnet-0`
     --> toy.ron:4:27
      |
    4 | (id: "a", phase: "p", on: Host("agnet-0"), do: [Touch(mark: "x")]),
      |                           ^^^^
      = help: did you mean `agent-0`?

    error: no host of the cluster file is in the group `agent`
     --> toy.ron:5:27
      |
    5 | (id: "b", phase: "p", on: Group("agent"), do: [Touch(mark: "x")])
      |                           ^^^^^
      = help: did you mean `agents`?
    "#);
}

#[test]
fn a_plan_that_would_be_too_large_is_refused() {
    let steps: Vec<String> =
        (0..400).map(|n| format!(r#"(id: "s{n}", phase: "p", on: All, do: [Touch(mark: "x")])"#)).collect();
    let said = refusal_of(&cluster(1, 3000), "", &steps.join(",\n"), &Request::default());
    assert!(said.contains("more than 1000000 actions"), "{said}");
}

const SMALL: &str = r#"(id: "point", phase: "p", on: Operator, do: [Touch(mark: "point")]),
(id: "hosts", phase: "p", on: All, hosts_at_once: 2, needs: [All("point")], do: [Touch(mark: "${host.name}"), Touch(mark: "again")]),
(id: "data", phase: "o", on: Operator, when: [Velero], needs: [All("hosts")], do: [Touch(mark: "x")]),
(id: "init", phase: "o", on: Init, irreversible: "writes", needs: [SameHost(["hosts"]), All("data")], done_when: [Look(mark: "done")], do: [Touch(mark: "${fact.point.mark} ${fact.hosts.mark} ${host.init_address} ${run.id}")]),
(id: "end", phase: "q", on: Operator, always: OnClose, best_effort: "45s", needs: [All("init")], do: [Touch(mark: "x")])"#;

#[test]
fn an_offline_plan_shows_what_runs_where_in_which_order_and_how_long() {
    let plan = plan_of(&cluster(1, 2), SMALL, &["agent-1"]);
    let forecast = Forecast::of(&plan, &ToyCatalogue::default()).unwrap();
    insta::assert_snapshot!(text(&plan, &forecast), @r#"
    toy on toy: 2 hosts, one server
      agent-1 is declared lost and is in no step
    forecast 50s, of it outage 10s; typical: nothing was measured on this cluster yet

    p (Before), forecast 30s
      point              operator
        Touch(mark: "point")
      hosts              server-0 agent-0, all at once
        Touch(mark: "${host.name}")
        Touch(mark: "again")
        after point

    o (Outage), forecast 10s
      data               left out: `Velero` does not hold
      init               server-0
        done when Look(mark: "done")
        Touch(mark: "${fact.point.mark} ${fact.hosts.mark} ${host.init_address} ${run.id}")
        after the same host's hosts, data
        cannot be undone: writes

    q (After), forecast 10s
      end                operator
        Touch(mark: "x")
        after init
        best effort, at most 45s
        also runs when the run is closed in another way

    the longest way: point@operator 10s → hosts@agent-0 20s → init@server-0 10s → end@operator 10s
    "#);
    insta::assert_snapshot!(dot(&plan), @r#"
    digraph "toy" {
      rankdir=LR;
      node [shape=box];
      subgraph cluster_0 {
        label="p";
        "point" [label="point\nTouch\noperator"];
        "hosts" [label="hosts\nTouch, Touch\n2 hosts, all at once"];
      }
      subgraph cluster_1 {
        label="o";
        "data" [label="data\nTouch\nleft out", style=dotted];
        "init" [label="init\nTouch\nserver-0"];
      }
      subgraph cluster_2 {
        label="q";
        "end" [label="end\nTouch\noperator"];
      }
      "point" -> "hosts";
      "hosts" -> "data";
      "hosts" -> "init" [style=dashed];
      "data" -> "init";
      "init" -> "end";
    }
    "#);
    let json = json(&plan, &forecast);
    assert_eq!(json["schema"], "rke2flow.dev/plan/v1");
    assert_eq!(serde_json::from_value::<Plan>(json["plan"].clone()).unwrap(), plan);
}

#[test]
fn references_are_answered_from_the_plan_and_the_facts_at_run_time() {
    let plan = plan_of(&cluster(1, 2), SMALL, &[]);
    let index = Index::of(&plan);
    let run = RunId::new("261122-0312-k7q2").unwrap();
    let facts = |mark: &str| Facts::from([("mark".to_owned(), Value::from(mark))]);
    let known = [((0, 0), facts("P")), ((1, 0), facts("H0")), ((1, 1), facts("H1"))];
    let find = |step, target| known.iter().find(|(place, _)| *place == (step, target)).map(|(_, facts)| facts);
    let scope = Scope { plan: &plan, index: &index, run: &run, facts: &find };
    let init = index.step("init").unwrap();
    let rendered = scope.render(init, 0, &plan.steps[init].actions[0]).unwrap();
    assert_eq!(rendered["mark"], "P H0 10.0.0.0 261122-0312-k7q2");
    let hosts = index.step("hosts").unwrap();
    let agent = index.target(&plan, hosts, &Target::Host(HostName::new("agent-1").unwrap())).unwrap();
    assert_eq!(scope.render(hosts, agent, &plan.steps[hosts].actions[0]).unwrap()["mark"], "agent-1");
    let nothing = |_, _| None;
    let scope = Scope { facts: &nothing, ..scope };
    let said = scope.render(init, 0, &plan.steps[init].actions[0]).unwrap_err();
    assert_eq!(said, "`${fact.point.mark}`: `point` on operator has left no such fact");
}

/// Steps that need only earlier ones, told in a mixed order.
fn random_steps() -> impl Strategy<Value = String> {
    let step = (0usize..4, prop::collection::vec(any::<prop::sample::Index>(), 0..4), any::<u64>(), any::<bool>());
    prop::collection::vec(step, 1..40).prop_map(|steps| {
        let on = ["All", "Servers", "Operator", "Agents"];
        let mut texts: Vec<(u64, String)> = Vec::new();
        for (number, (selector, before, place, left_out)) in steps.into_iter().enumerate() {
            let before = if number == 0 { Vec::new() } else { before };
            let needs: Vec<String> = before.iter().map(|index| format!(r#"All("s{}")"#, index.index(number))).collect();
            let when = if left_out { r#"when: [Velero], "# } else { "" };
            let text = format!(
                r#"(id: "s{number}", phase: "p", on: {}, {when}needs: [{}], do: [Touch(mark: "x")])"#,
                on[selector],
                needs.join(", ")
            );
            texts.push((place, text));
        }
        texts.sort();
        texts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_graph_without_a_cycle_plans_in_an_order_that_respects_its_edges_and_reads_back(steps in random_steps()) {
        let plan = plan_of(&cluster(3, 2), &steps, &[]);
        let graph = plan.graph().unwrap();
        let mut rank = vec![0; plan.steps.len()];
        graph.order().iter().enumerate().for_each(|(position, &step)| rank[step] = position);
        for (index, step) in plan.steps.iter().enumerate() {
            for before in step.needs.iter().flat_map(super::NeedPlan::steps) {
                prop_assert!(rank[*before] < rank[index]);
            }
        }
        let written = serde_json::to_string(&plan).unwrap();
        prop_assert_eq!(serde_json::from_str::<Plan>(&written).unwrap(), plan.clone());
        let forecast = Forecast::of(&plan, &ToyCatalogue::default()).unwrap();
        let path: std::time::Duration = forecast.critical_path.iter().map(|leg| leg.takes.get()).sum();
        prop_assert_eq!(path, forecast.total.get());
    }
}
