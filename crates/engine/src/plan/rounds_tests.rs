//! What stands in the plan when phases are repeated.

use proptest::prelude::*;

use super::testing::{cluster, refusal_of, repeated, repeated_text};
use super::{Forecast, Index, NeedPlan, Plan, Request, dot, text};
use crate::testing::ToyCatalogue;

const ONE: &str = "v1.34.2+rke2r1";
const TWO: &str = "v1.34.2+rke2r1,v1.35.1+rke2r1";

/// As an upgrade is: look, save, fetch ahead, work host by host, look again; then something at the end.
const STEPS: &str = r#"(id: "start", phase: "first", on: Operator, do: [Touch(mark: "x")]),
(id: "guard", phase: "a", on: Operator, needs: [All("start")], do: [Touch(mark: "${round.value}")]),
(id: "save", phase: "a", on: Servers, needs: [All("guard")], do: [Touch(mark: "${round.number} of ${run.id}: ${fact.guard.mark}")]),
(id: "fetch", phase: "b", on: All, hosts_at_once: "all", needs: [All("guard")], do: [Touch(mark: "${round.value} ${fact.guard.mark}")]),
(id: "work", phase: "c", on: All, last: "${fact.guard.mark}", needs: [All("save"), SameHost(["fetch"])], done_when: [Look(mark: "${round.value} ${round.later}")], do: [Touch(mark: "${fact.fetch.mark}", version: "${round.value}")]),
(id: "check", phase: "c", on: Operator, needs: [All("work")], do: [Touch(mark: "${round.value}")]),
(id: "aside", phase: "c", on: Operator, needs: [All("guard")], do: [Touch(mark: "y")]),
(id: "end", phase: "z", on: Operator, always: OnClose, needs: [All("check"), All("fetch")], do: [Touch(mark: "to ${param.v}")])"#;

fn needs(plan: &Plan, step: &str) -> String {
    let step = Index::of(plan).step(step).unwrap();
    let name = |step: &usize| plan.steps[*step].id.to_string();
    let text = |need: &NeedPlan| match need {
        NeedPlan::All(step) => name(step),
        NeedPlan::SameHost(steps) => format!("same {}", steps.iter().map(name).collect::<Vec<_>>().join("|")),
    };
    plan.steps[step].needs.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn fields(plan: &Plan, step: &str) -> String {
    let step = &plan.steps[Index::of(plan).step(step).unwrap()];
    let all: Vec<String> = step.done_when.iter().chain(&step.actions).map(|action| action.fields.to_string()).collect();
    all.join(" ")
}

#[test]
fn a_round_begins_when_everything_of_the_round_before_is_done_and_what_is_ahead_is_done_for_all() {
    let plan = repeated(STEPS, TWO);
    let names = |items: Vec<String>| items.join(" ");
    assert_eq!(
        names(plan.phases.iter().map(|phase| phase.id.to_string()).collect()),
        "first a-1 b-1 b-2 c-1 a-2 c-2 z"
    );
    assert_eq!(
        names(plan.steps.iter().map(|step| step.id.to_string()).collect()),
        "start guard-1 save-1 fetch-1 fetch-2 work-1 check-1 aside-1 guard-2 save-2 work-2 check-2 aside-2 end"
    );
    assert_eq!(needs(&plan, "guard-1"), "start");
    assert_eq!(needs(&plan, "guard-2"), "start, check-1, aside-1");
    assert_eq!(needs(&plan, "fetch-2"), "guard-1");
    assert_eq!(needs(&plan, "work-1"), "save-1, same fetch-1, same fetch-2");
    assert_eq!(needs(&plan, "work-2"), "save-2, same fetch-1, same fetch-2");
    assert_eq!(needs(&plan, "end"), "check-2, fetch-1, fetch-2");
}

#[test]
fn values_and_facts_are_those_of_the_round() {
    let plan = repeated(STEPS, TWO);
    assert_eq!(fields(&plan, "save-2"), r#"{"mark":"2 of ${run.id}: ${fact.guard-2.mark}"}"#);
    assert_eq!(fields(&plan, "fetch-2"), r#"{"mark":"v1.35.1+rke2r1 ${fact.guard-1.mark}"}"#);
    assert_eq!(
        fields(&plan, "work-1"),
        r#"{"mark":"v1.34.2+rke2r1 [\"v1.35.1+rke2r1\"]"} {"mark":"${fact.fetch-1.mark}","version":"v1.34.2+rke2r1"}"#
    );
    assert_eq!(
        fields(&plan, "work-2"),
        r#"{"mark":"v1.35.1+rke2r1 []"} {"mark":"${fact.fetch-2.mark}","version":"v1.35.1+rke2r1"}"#
    );
    assert_eq!(fields(&plan, "end"), r#"{"mark":"to [\"v1.34.2+rke2r1\",\"v1.35.1+rke2r1\"]"}"#);
    let last = plan.steps[Index::of(&plan).step("work-2").unwrap()].last.as_ref().unwrap();
    assert_eq!(plan.steps[last.step].id.as_str(), "guard-2");
    let round = plan.round_of(Index::of(&plan).step("work-2").unwrap()).unwrap();
    assert_eq!(round.to_string(), "round 2 of 2: v1.35.1+rke2r1");
    assert_eq!(plan.round_of(Index::of(&plan).step("end").unwrap()), None);
}

#[test]
fn one_round_is_the_runbook_without_repeat() {
    let plan = repeated(STEPS, ONE);
    let plain = STEPS.replace("${round.value}", ONE).replace("${round.number}", "1").replace("${round.later}", "[]");
    let plain = repeated_text(&plain).replace(r#"repeat: (over: "v", phases: ["a", "b", "c"], ahead: ["b"]),"#, "");
    let source = crate::source::SourceText::new("toy.ron", plain);
    let runbook = crate::runbook::parse::<crate::testing::Toy>(source, &ToyCatalogue::default()).unwrap();
    let request = Request { set: vec![format!("v={ONE}")], ..Request::default() };
    assert_eq!(plan, super::build(&runbook, &cluster(3, 1), &request, &ToyCatalogue::default()).unwrap().plan);
}

#[test]
fn a_plan_with_rounds_reads_well() {
    let plan = repeated(STEPS, TWO);
    insta::assert_snapshot!(text(&plan, &Forecast::of(&plan, &ToyCatalogue::default()).unwrap()));
    insta::assert_snapshot!(dot(&plan));
}

#[test]
fn releases_that_do_not_follow_one_another_are_refused() {
    let steps = r#"(id: "a", phase: "p", on: Operator, do: [Touch(mark: "to ${param.v}")])"#;
    let said = |set: &str| {
        let request = Request { set: vec![set.to_owned()], ..Request::default() };
        refusal_of(&cluster(1, 0), r#""v": Versions(["${cluster.version}"])"#, steps, &request)
    };
    insta::assert_snapshot!(
        ["v=v1.33.4+rke2r1,v1.35.1+rke2r1", "v=v1.34.2+rke2r1,v1.33.4+rke2r1", "v=v1.34.2+rke2r1, 1.35", "v="]
            .map(said)
            .join("\n")
    );
}

#[test]
fn more_rounds_than_one_digit_can_tell_apart_are_refused() {
    let releases: Vec<String> = (0..10).map(|minor| format!("v1.{minor}.0+rke2r1")).collect();
    let source = crate::source::SourceText::new("toy.ron", repeated_text(STEPS));
    let runbook = crate::runbook::parse::<crate::testing::Toy>(source, &ToyCatalogue::default()).unwrap();
    let request = Request { set: vec![format!("v={}", releases.join(","))], ..Request::default() };
    let refused = super::build(&runbook, &cluster(1, 0), &request, &ToyCatalogue::default()).unwrap_err().to_string();
    assert!(refused.contains("`v` makes 10 rounds: at most 9 are possible"), "{refused}");
}

/// Steps of the three repeated phases that need earlier ones of no later phase.
fn random_steps() -> impl Strategy<Value = String> {
    let step = (0usize..3, prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..3));
    prop::collection::vec(step, 1..12).prop_map(|mut steps| {
        steps.sort_by_key(|(phase, _)| *phase);
        let texts = steps.into_iter().enumerate().map(|(number, (phase, before))| {
            let before = if number == 0 { Vec::new() } else { before };
            let needs = before.iter().map(|(all, index)| match all {
                true => format!(r#"All("s{}")"#, index.index(number)),
                false => format!(r#"SameHost(["s{}"])"#, index.index(number)),
            });
            let needs: Vec<String> = needs.collect();
            let phase = ["a", "b", "c"][phase];
            format!(
                r#"(id: "s{number}", phase: "{phase}", on: All, needs: [{}], do: [Touch(mark: "${{round.value}}")])"#,
                needs.join(", ")
            )
        });
        texts.collect::<Vec<_>>().join(",\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_step_of_a_round_can_start_before_every_step_in_turn_of_the_rounds_before(steps in random_steps()) {
        let plan = repeated(&steps, "v1.34.2+rke2r1,v1.35.1+rke2r1,v1.36.0+rke2r1");
        let graph = plan.graph().expect("rounds make no circle");
        let in_turn = |step: &usize| !plan.phases[plan.steps[*step].phase].id.as_str().starts_with('b');
        let round = |step: usize| plan.round_of(step).unwrap().number;
        let all: Vec<usize> = (0..plan.steps.len()).filter(in_turn).collect();
        let pairs: Vec<(usize, usize)> =
            all.iter().flat_map(|&one| all.iter().map(move |&other| (one, other))).filter(|&(one, other)| round(one) < round(other)).collect();
        prop_assert!(graph.paths(&pairs).iter().all(|found| *found));
    }
}
