//! Values never become shell: whatever they hold, they arrive as they are or not at all.

use proptest::prelude::{Strategy, any, proptest};
use proptest::test_runner::Config;
use rke2flow_steps::answer::Tail;
use rke2flow_steps::command::{Change, HostCommand, Look};
use rke2flow_steps::render::{decode_text, parse_envelope, script};

use super::bench::{Bench, order};

/// Texts that mean something to a shell, and any other.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = [
        "'",
        "\"",
        "$(touch hit)",
        "`touch hit`",
        "\n",
        "\\",
        "; touch hit;",
        "ü",
        "\u{0}",
        "%s",
        "-n",
        "!",
        "}\nmain",
    ];
    let piece = proptest::sample::select(pieces.to_vec()).prop_map(str::to_owned);
    let any_text = any::<String>();
    proptest::collection::vec(proptest::prop_oneof![piece, any_text], 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(Config { cases: 40, failure_persistence: None, ..Config::default() })]

    #[test]
    fn what_a_script_is_told_is_what_it_gets(text in hostile()) {
        let host = Bench::new();
        let wrapped = format!("printf '%s' {}", shlex::try_quote(&text.replace('\0', "")).unwrap());
        let tail: Tail = host.look(Look::Script { script: wrapped });
        assert_eq!(decode_text(&tail.text).unwrap(), text.replace('\0', "").as_bytes());
        assert_eq!(tail.exit, 0);
    }

    #[test]
    fn an_envelope_survives_the_way_through_a_script(text in hostile()) {
        let host = Bench::new();
        let order = order(Change::StageSnapshot { file: text.clone(), sha256: text.clone(), to: text }, 1);
        let envelope = host.envelope(HostCommand::Change(order));
        assert_eq!(parse_envelope(&script(&envelope)).unwrap(), envelope);
    }

    #[test]
    fn hostile_values_of_a_change_run_nothing(text in hostile()) {
        let host = Bench::new();
        let change = Change::PointAt { server: Some(text.clone()) };
        host.apply(&change, 1);
        let written = host.read(&host.paths.server_override());
        let value = written.lines().nth(1).unwrap().strip_prefix("server: ").unwrap();
        assert_eq!(serde_json::from_str::<String>(value).unwrap(), text);
        assert!(!host.exists(&host.world("hit")) && !std::path::Path::new("hit").exists());
    }
}
