//! The form of a saved plan, and what refuses one.

use rke2flow_engine::cluster;
use rke2flow_engine::plan::{self, Request};
use rke2flow_engine::runbook;
use rke2flow_engine::source::SourceText;
use rke2flow_steps::catalogue::{AnyAction, StepsCatalogue};

use super::*;

const RUNBOOK: &str = r#"
Runbook(
  format: 1, name: "touch",
  params: { "grace": Text("10s") },
  phases: [(id: "work", clock: Before, budget: (ha: "1m", single: "1m"))],
  steps: [(id: "hold", phase: "work", on: Servers, do: [HoldUnit()])],
)
"#;

const CLUSTER: &str = r#"(format: 1, name: "test", hosts: [(name: "server-0", address: "10.0.0.1", role: Server)])"#;

fn saved() -> SavedPlan {
    let catalogue = StepsCatalogue::offline();
    let source = SourceText::new("touch.ron", RUNBOOK);
    let runbook = runbook::parse::<AnyAction>(source, &catalogue).unwrap_or_else(|found| panic!("{found}"));
    let file = cluster::parse(SourceText::new("cluster.ron", CLUSTER), Path::new("/")).unwrap();
    let planned = plan::build(&runbook, &file.cluster, &Request::default(), &catalogue).unwrap();
    let origin =
        |name: &str| Source { name: name.into(), origin: format!("/home/alice/{name}.ron"), digest: "ab".repeat(32) };
    let finding = json!({
        "instance": "hold/HoldUnit@server-0", "step": 0, "target": { "Host": "server-0" }, "action": "HoldUnit",
        "verdict": "done", "why": "", "fingerprint": { "installed": "v1.33.4+rke2r1" },
    });
    let print = json!({ "installed": "v1.33.4+rke2r1", "voters": ["server-0-1a2b3c4d"], "config_sha256": "cd" });
    SavedPlan {
        schema: PLAN_SCHEMA.to_owned(),
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        made_at: "2026-11-22T03:00:00Z".parse().unwrap(),
        who: "alice@laptop".to_owned(),
        runbook: origin("touch"),
        cluster: origin("test"),
        asked: Asked { set: vec!["grace=10s".to_owned()], ..Asked::default() },
        plan: planned.plan,
        looked: true,
        findings: vec![serde_json::from_value(finding).unwrap()],
        hosts: HostPrints::from([(
            serde_json::from_value(json!("server-0")).unwrap(),
            serde_json::from_value(print).unwrap(),
        )]),
    }
}

fn parse(document: &Value) -> Result<SavedPlan, Problem> {
    SavedPlan::parse(&document.to_string(), Path::new("p.json"))
}

fn document() -> Value {
    serde_json::to_value(saved()).unwrap()
}

#[test]
fn the_form_of_a_saved_plan_is_the_golden_one() {
    let mut document = document();
    document["tool"] = "0.0.0".into();
    insta::assert_snapshot!(format!("{document:#}"));
}

#[test]
fn what_a_later_version_added_to_the_form_is_passed_over() {
    let mut document = document();
    document["weather"] = "fine".into();
    document["plan"]["weather"] = "fine".into();
    document["findings"][0]["weather"] = "fine".into();
    assert_eq!(parse(&document).unwrap(), saved());
}

#[test]
fn a_plan_of_another_form_or_version_is_refused_with_who_wrote_it_and_the_next_command() {
    for (field, value) in [("schema", "rke2flow.dev/plan/v2"), ("tool", "9.9.9")] {
        let mut document = document();
        document["tool"] = "9.9.9".into();
        document[field] = value.into();
        let problem = parse(&document).unwrap_err();
        assert_eq!(problem.exit, Exit::Refused);
        assert!(problem.observed.contains("rke2flow 9.9.9") && problem.next.contains("--out p.json"), "{problem}");
    }
}

#[test]
fn what_is_no_plan_is_bad_input() {
    let mut other = document();
    other["schema"] = "rke2flow.dev/report/v1".into();
    let mut half = document();
    half["plan"].as_object_mut().unwrap().remove("steps");
    for (document, why) in [(other, "rke2flow.dev/report/v1"), (half, "damaged: missing field `steps`")] {
        let problem = parse(&document).unwrap_err();
        assert!(problem.exit == Exit::BadInput && problem.observed.contains(why), "{problem}");
    }
    let text = document().to_string();
    let cut = SavedPlan::parse(&text[..text.len() / 2], Path::new("p.json")).unwrap_err();
    assert!(cut.observed.contains("EOF while parsing"), "{cut}");
}

#[test]
fn another_verdict_or_another_thing_found_is_drift_and_what_could_not_be_told_is_not() {
    let then = saved();
    let now = |change: &dyn Fn(&mut Seen)| {
        let mut seen = Seen { findings: then.findings.clone(), hosts: then.hosts.clone() };
        change(&mut seen);
        then.must_agree_with(&seen)
    };
    assert_eq!(now(&|_| {}), Ok(()));
    let problem = now(&|seen| seen.findings[0].verdict = Verdict::WouldRun).unwrap_err();
    assert_eq!(problem.observed, "hold/HoldUnit@server-0: done then, would run now");
    assert_eq!(problem.next, "rke2flow plan touch --set grace=10s --out FILE");
    let problem =
        now(&|seen| drop(seen.findings[0].fingerprint.insert("installed".to_owned(), "v2".into()))).unwrap_err();
    assert!(problem.observed.contains("installed \"v1.33.4+rke2r1\" then, \"v2\" now"), "{problem}");
    let problem = now(&|seen| seen.hosts.values_mut().for_each(|print| print.voters = Some(Vec::new()))).unwrap_err();
    assert!(problem.observed.contains("voters server-0-1a2b3c4d then"), "{problem}");
    assert_eq!(now(&|seen| seen.hosts.clear()), Ok(()));

    let mut unknown = saved();
    unknown.findings[0].verdict = Verdict::CannotTell;
    unknown.findings[0].fingerprint.clear();
    let mut seen = Seen { findings: then.findings.clone(), hosts: then.hosts.clone() };
    seen.findings[0].why = "at another time".to_owned();
    assert_eq!(unknown.must_agree_with(&seen), Ok(()));
}
