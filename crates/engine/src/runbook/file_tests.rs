//! Files that are no runbook at all: refused quickly, with the reason.

use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::tests::try_parse;
use super::{parse, read};
use crate::source::{FILE_BYTES_MAX, SourceText};
use crate::testing::{Toy, ToyCatalogue};

fn refusal_of_file(path: &Path) -> String {
    let said = read::<Toy>(path, &ToyCatalogue::default()).unwrap_err().to_string();
    let directory = path.parent().unwrap().display().to_string();
    said.replace(&directory, "DIR")
}

fn refusal_of_bytes(bytes: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.ron");
    std::fs::write(&path, bytes).unwrap();
    refusal_of_file(&path)
}

#[test]
fn what_is_no_text_file_is_refused_and_named() {
    insta::assert_snapshot!(refusal_of_bytes(b""), @r#"
    error: `DIR/a.ron` is empty
     --> DIR/a.ron
    "#);
    insta::assert_snapshot!(refusal_of_bytes(b" \n\t\n"), @r#"
    error: `DIR/a.ron` is empty
     --> DIR/a.ron
    "#);
    insta::assert_snapshot!(refusal_of_bytes(b"(format\xff\xfe: 1)"), @r#"
    error: `DIR/a.ron` is not text: byte 7 is not UTF-8
     --> DIR/a.ron
    "#);
    insta::assert_snapshot!(refusal_of_bytes(b"\x7fELF\x02\0\0\0"), @r#"
    error: `DIR/a.ron` is not text: byte 5 is zero
     --> DIR/a.ron
    "#);
    insta::assert_snapshot!(refusal_of_file(Path::new("/nowhere/a.ron")), @r#"
    error: cannot read `DIR/a.ron`: there is no such file
     --> DIR/a.ron
    "#);
    insta::assert_snapshot!(refusal_of_file(Path::new("/dev/null")), @r#"
    error: `DIR/null` is not a regular file
     --> DIR/null
    "#);
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("a.ron")).unwrap();
    insta::assert_snapshot!(refusal_of_file(&directory.path().join("a.ron")), @r#"
    error: `DIR/a.ron` is a directory
     --> DIR/a.ron
      = help: name the file in it
    "#);
}

#[test]
fn a_file_over_the_limit_is_refused_unread() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.ron");
    // A hole in the file: 50 MB that nobody can have read in this time.
    std::fs::File::create(&path).unwrap().set_len(50 * FILE_BYTES_MAX).unwrap();
    insta::assert_snapshot!(refusal_of_file(&path), @r#"
    error: `DIR/a.ron` is larger than 1048576 bytes (52428800 bytes); it was not read
     --> DIR/a.ron
    "#);
}

#[test]
fn a_megabyte_of_brackets_is_refused_at_once_and_without_a_stack_overflow() {
    for (bracket, head) in [
        ("(", ""),
        ("[", ""),
        ("{", ""),
        ("Not(", r#"(format: 1, name: "x", phases: [], steps: [(id: "a", phase: "p", on: All, when: ["#),
        ("(", r#"(format: 1, name: "x", phases: [], steps: [(id: "a", phase: "p", on: All, do: [Touch(mark: "#),
        ("[", r#"(format: 1, name: "x", phases: [], steps: [(id: "a", phase: "p", on: All, do: [Touch(mark: "#),
        ("Some(", r#"(format: 1, name: "x", budget: "#),
        ("/*", ""),
    ] {
        let text = format!("{head}{}", bracket.repeat(FILE_BYTES_MAX as usize / bracket.len()));
        let started = Instant::now();
        let said = try_parse(&text).unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(2), "{bracket} took {:?}", started.elapsed());
        assert!(said.len() < 2000, "{bracket}: {said}");
    }
}

const RICH: &str = r#"// größer
Runbook(format: 1, name: "rich", on_failure: Finish, supersedes: true, budget: (ha: "9m", single: "9m"),
  params: {"to": Text("latest"), "v": Version("${cluster.version}"), "n": Required(Number), "l": Hosts([])},
  phases: [(id: "p", clock: Before, budget: (ha: "5m", single: "5m")), (id: "o", clock: Outage)],
  steps: [
    (id: "a", phase: "p", on: Operator, do: [Touch(mark: "${param.to}", version: "${param.v}"), Ask(show: "é?")]),
    (id: "b", phase: "p", on: All, hosts_at_once: "25%", needs: [All("a")], retry: (attempts: 2, backoff: "1s"),
     do: [Touch(mark: "${host.name} ${fact.a.mark}", ports: [1, 2]), Fail(times: "${param.n}")]),
    (id: "c", phase: "o", on: Group("x"), when: [Not(Velero), NonEmpty("l")], needs: [SameHost(["b"])], timeout: "9m",
     done_when: [Look(mark: "x")], irreversible: "why", do: [StopMember()]),
    (id: "d", phase: "o", on: Host("h"), always: OnClose, best_effort: "5s", do: [Touch(mark: "x")]),
])"#;

#[test]
fn the_runbook_that_is_damaged_below_is_right_before() {
    try_parse(RICH).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_damaged_runbook_is_refused_with_a_place_inside_of_it_and_never_panics(
        from in any::<prop::sample::Index>(),
        length in 0usize..40,
        instead in "[\\PC\n(){}\\[\\]\",:$]{0,6}",
    ) {
        let mut text: Vec<char> = RICH.chars().collect();
        let from = from.index(text.len());
        let until = (from + length).min(text.len());
        text.splice(from..until, instead.chars());
        let text: String = text.into_iter().collect();
        let source = SourceText::new("damaged.ron", text.as_str());
        if let Err(found) = parse::<Toy>(source, &ToyCatalogue::default()) {
            for diagnostic in found.iter() {
                let spot = diagnostic.location.as_ref().and_then(|location| location.spot.as_ref());
                let Some(spot) = spot else { continue };
                let lines = text.split('\n').count();
                prop_assert!((1..=lines).contains(&spot.place.line), "{}", diagnostic);
                prop_assert!(spot.place.column >= 1 && spot.place.width >= 1, "{}", diagnostic);
            }
        }
    }
}
