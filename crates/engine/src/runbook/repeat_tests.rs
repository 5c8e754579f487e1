//! What is refused in `repeat`.

use super::parse;
use crate::plan::testing::repeated_text;
use crate::source::SourceText;
use crate::testing::{Toy, ToyCatalogue};

fn said(text: String) -> String {
    match parse::<Toy>(SourceText::new("toy.ron", text), &ToyCatalogue::default()) {
        Ok(_) => "nothing is wrong".to_owned(),
        Err(found) => found.to_string(),
    }
}

const RIGHT: &str =
    r#"(id: "s", phase: "a", on: Operator, do: [Touch(mark: "${round.value}", version: "${round.value}")])"#;

fn with(repeat: &str) -> String {
    let right = r#"repeat: (over: "v", phases: ["a", "b", "c"], ahead: ["b"])"#;
    said(repeated_text(RIGHT).replace(right, &format!("repeat: ({repeat})")))
}

#[test]
fn a_round_needs_a_list_and_phases_that_follow_one_another() {
    assert_eq!(said(repeated_text(RIGHT)), "nothing is wrong");
    let wrong = [
        r#"over: "w", phases: ["a"]"#,
        r#"over: "v", phases: ["a", "q", "a"], ahead: ["c"]"#,
        r#"over: "v", phases: ["a", "c"]"#,
        r#"over: "v", phases: ["a", "b", "c", "z"]"#,
        r#"over: "v", phases: []"#,
        r#"over: "v", phase: []"#,
    ];
    insta::assert_snapshot!(wrong.map(with).join("\n\n"));
    let text = repeated_text(RIGHT).replace(r#"Versions(["${cluster.version}"])"#, r#"Version("${cluster.version}")"#);
    assert!(said(text).contains("the parameter `v` is a Version and no list"));
}

#[test]
fn what_belongs_to_a_round_is_known_in_its_phases_alone() {
    insta::assert_snapshot!(said(repeated_text(
        r#"(id: "s", phase: "a", on: Operator, do: [Touch(mark: "${round.vlaue} ${round.number}", version: "${param.v}")]),
(id: "t", phase: "z", on: Operator, needs: [All("s")], do: [Touch(mark: "${round.value} ${fact.s.mark}")]),
(id: "u", phase: "c", on: Operator, needs: [All("s")], do: [Touch(mark: "x", version: "${round.later}")])"#
    )));
}

#[test]
fn steps_of_the_end_and_names_that_a_round_would_have_are_refused() {
    insta::assert_snapshot!(said(repeated_text(
        r#"(id: "s", phase: "a", on: Operator, always: OnClose, do: [Touch(mark: "x")]),
(id: "s-2", phase: "z", on: Operator, do: [Touch(mark: "x")]),
(id: "a-name-that-is-so-long-that-no-number-of-a-round-fits-behind-it", phase: "a", on: Operator, do: [Touch(mark: "x")])"#
    )));
}
