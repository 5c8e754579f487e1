//! What is said about `${…}` that will have no value, or one of another type.

use super::tests::said;

#[test]
fn references_are_checked_where_they_stand() {
    let text = said(
        r#"(id: "a", phase: "prepare", on: Operator, do: [Touch(mark: "${param.too}")]),
(id: "b", phase: "prepare", on: All, needs: [All("a")], do: [Touch(mark: "m ${host.nam} ${run.idd}"), Touch(mark: "${fact.a.mrak}")]),
(id: "c", phase: "prepare", on: Operator, do: [Touch(mark: "${fact.b.mark}"), Touch(mark: "${host.name}"), Touch(mark: "${fact.aa.mark}")]),
(id: "d", phase: "prepare", on: Operator, do: [Touch(mark: "${fact.d.mark}"), Touch(mark: "x")])"#,
    );
    insta::assert_snapshot!(text, @r#"
    error: there is no parameter `too`
     --> toy.ron:6:60
      |
    6 | (id: "a", phase: "prepare", on: Operator, do: [Touch(mark: "${param.too}")]),
      |                                                            ^^^^^^^^^^^^^^
      = help: did you mean `to`?

    error: a host has no `nam`
     --> toy.ron:7:74
      |
    7 | (id: "b", phase: "prepare", on: All, needs: [All("a")], do: [Touch(mark: "m ${host.nam} ${run.idd}"), Touch(mark: "${fact.a.mrak}")]),
      |                                                                          ^^^^^^^^^^^^^^^^^^^^^^^^^^
      = help: did you mean `name`?

    error: a run has no `idd`
     --> toy.ron:7:74
      |
    7 | (id: "b", phase: "prepare", on: All, needs: [All("a")], do: [Touch(mark: "m ${host.nam} ${run.idd}"), Touch(mark: "${fact.a.mrak}")]),
      |                                                                          ^^^^^^^^^^^^^^^^^^^^^^^^^^
      = help: did you mean `id`?

    error: step `a` leaves no fact `mrak`
     --> toy.ron:7:115
      |
    7 | (id: "b", phase: "prepare", on: All, needs: [All("a")], do: [Touch(mark: "m ${host.nam} ${run.idd}"), Touch(mark: "${fact.a.mrak}")]),
      |                                                                                                                   ^^^^^^^^^^^^^^^^
      = help: did you mean `mark`?

    error: `${fact.b.mark}` is not known yet: nothing makes `c` wait for `b`
     --> toy.ron:8:60
      |
    8 | (id: "c", phase: "prepare", on: Operator, do: [Touch(mark: "${fact.b.mark}"), Touch(mark: "${host.name}"), Touch(mark: "${fact.aa.mark}")]),
      |                                                            ^^^^^^^^^^^^^^^^
      = help: add `All("b")` to the needs of `c`

    error: `${host.name}` has no value: step `c` runs on the operator's machine
     --> toy.ron:8:91
      |
    8 | (id: "c", phase: "prepare", on: Operator, do: [Touch(mark: "${fact.b.mark}"), Touch(mark: "${host.name}"), Touch(mark: "${fact.aa.mark}")]),
      |                                                                                           ^^^^^^^^^^^^^^
      = help: `${host.init}` and `${host.init_address}` are known there

    error: there is no step `aa`
     --> toy.ron:8:120
      |
    8 | (id: "c", phase: "prepare", on: Operator, do: [Touch(mark: "${fact.b.mark}"), Touch(mark: "${host.name}"), Touch(mark: "${fact.aa.mark}")]),
      |                                                                                                                        ^^^^^^^^^^^^^^^^^
      = help: did you mean `a`?

    error: no earlier action of step `d` leaves a fact `mark`
     --> toy.ron:9:60
      |
    9 | (id: "d", phase: "prepare", on: Operator, do: [Touch(mark: "${fact.d.mark}"), Touch(mark: "x")])
      |                                                            ^^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn a_fact_or_parameter_of_the_wrong_type_is_refused_with_its_type() {
    let text = said(
        r#"(id: "a", phase: "prepare", on: Operator, do: [Touch(mark: "x")]),
(id: "b", phase: "prepare", on: All, needs: [All("a")],
 do: [Touch(mark: "${fact.a.count}"), Touch(mark: "x", ports: "${fact.a.mark}"), Touch(mark: "x", version: "${param.to}")])"#,
    );
    insta::assert_snapshot!(text, @r#"
    error: `Touch` cannot take these values: invalid type: integer `1`, expected a string
     --> toy.ron:8:19
      |
    8 |  do: [Touch(mark: "${fact.a.count}"), Touch(mark: "x", ports: "${fact.a.mark}"), Touch(mark: "x", version: "${param.to}")])
      |                   ^^^^^^^^^^^^^^^^^
      = help: `${fact.a.count}` is a Number, such as 1

    error: `Touch` cannot take these values: invalid type: string "text", expected a sequence
     --> toy.ron:8:63
      |
    8 |  do: [Touch(mark: "${fact.a.count}"), Touch(mark: "x", ports: "${fact.a.mark}"), Touch(mark: "x", version: "${param.to}")])
      |                                                               ^^^^^^^^^^^^^^^^
      = help: `${fact.a.mark}` is a Text, such as "text"

    error: `Touch` cannot take these values: `version`: `text` is not a version such as v1.33.4+rke2r1
     --> toy.ron:8:108
      |
    8 |  do: [Touch(mark: "${fact.a.count}"), Touch(mark: "x", ports: "${fact.a.mark}"), Touch(mark: "x", version: "${param.to}")])
      |                                                                                                            ^^^^^^^^^^^^^
      = help: `${param.to}` is a Text, such as "text"
    "#);
}

#[test]
fn a_template_that_is_none_is_refused() {
    insta::assert_snapshot!(said(r#"(id: "a", phase: "prepare", on: All, do: [Touch(mark: "${params.to}")])"#), @r#"
    error: `${params.to}` is not a reference: expected ${param.NAME}, ${fact.STEP.NAME}, ${host.NAME} or ${run.id}
     --> toy.ron:6:56
      |
    6 | (id: "a", phase: "prepare", on: All, do: [Touch(mark: "${params.to}")])
      |                                                        ^^^^^^^^^^^^
    "#);
}

#[test]
fn facts_of_a_step_that_may_be_done_already_must_be_left_by_its_checks_too() {
    let steps = |check: &str| {
        format!(
            r#"(id: "a", phase: "prepare", on: Operator, done_when: [{check}], do: [Touch(mark: "x")]),
(id: "b", phase: "prepare", on: Operator, needs: [All("a")], do: [Touch(mark: "${{fact.a.mark}}")])"#
        )
    };
    insta::assert_snapshot!(said(&steps(r#"Fail(times: 1)"#)), @r#"
    error: step `a` leaves no fact `mark` when its `done_when` says that it is done
     --> toy.ron:7:79
      |
    7 | (id: "b", phase: "prepare", on: Operator, needs: [All("a")], do: [Touch(mark: "${fact.a.mark}")])
      |                                                                               ^^^^^^^^^^^^^^^^
      = help: add an action that leaves it to `done_when`
    "#);
    assert_eq!(said(&steps(r#"Look(mark: "x")"#)), "nothing is wrong");
}

#[test]
fn the_host_that_goes_last_is_one_fact_of_a_step_that_is_done_before() {
    let text = said(
        r#"(id: "a", phase: "prepare", on: Operator, do: [Touch(mark: "x")]),
(id: "b", phase: "prepare", on: All, last: "${fact.a.mark}", do: [Touch(mark: "x")]),
(id: "c", phase: "prepare", on: All, needs: [All("a")], last: "${fact.a.count}", do: [Touch(mark: "x")]),
(id: "d", phase: "prepare", on: All, needs: [All("a")], last: "host-1", do: [Touch(mark: "x")]),
(id: "e", phase: "prepare", on: All, needs: [All("a")], last: "${fact.e.mark}", do: [Touch(mark: "x")]),
(id: "f", phase: "prepare", on: All, needs: [All("a")], last: "${fact.z.mark}", do: [Touch(mark: "x")])"#,
    );
    insta::assert_snapshot!(text);
    let right = r#"(id: "a", phase: "prepare", on: Operator, do: [Touch(mark: "x")]),
(id: "b", phase: "prepare", on: All, needs: [All("a")], last: "${fact.a.mark}", do: [Touch(mark: "x")])"#;
    assert_eq!(said(right), "nothing is wrong");
}
