//! The command line itself: help, completions, the manual page, what is embedded.

use crate::scenario::Scenario;

#[test]
fn the_help_names_every_command_and_the_exit_codes() {
    let help = Scenario::new().rke2flow(&["--help"]).ends_with(0);
    insta::assert_snapshot!(help.stdout);
}

#[test]
fn the_help_of_run_names_every_option() {
    let help = Scenario::new().rke2flow(&["run", "--help"]).ends_with(0);
    insta::assert_snapshot!(help.stdout);
}

#[test]
fn an_unknown_command_is_bad_usage_and_told_with_the_nearest_one() {
    Scenario::new().rke2flow(&["resum"]).ends_with(2).says("resume");
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish"] {
        Scenario::new().rke2flow(&["completions", shell]).ends_with(0).prints("rke2flow");
    }
}

#[test]
fn the_manual_page_describes_the_commands() {
    Scenario::new().rke2flow(&["man"]).ends_with(0).prints(".TH").prints("takeover");
}

#[test]
fn the_embedded_runbooks_are_listed_printed_and_valid() {
    let scenario = Scenario::new();
    scenario.rke2flow(&["runbooks"]).ends_with(0).prints("upgrade").prints("rollback");
    scenario.rke2flow(&["runbooks", "rollback"]).ends_with(0).prints("ClusterReset");
    scenario.rke2flow(&["validate", "upgrade", "rollback.ron", "backup", "health"]).ends_with(0);
}

#[test]
fn without_a_cluster_file_the_next_command_is_told() {
    Scenario::new().rke2flow(&["run", "upgrade"]).ends_with(2).says("--cluster FILE").says("rehearse");
}

#[test]
fn without_any_run_status_says_so() {
    Scenario::new().rke2flow(&["status"]).ends_with(2).says("there is no run");
    Scenario::new().rke2flow(&["resume"]).ends_with(2).says("no run is open");
    Scenario::new().rke2flow(&["runs"]).ends_with(0);
}
