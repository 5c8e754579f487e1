//! What an unfinished run has left on hosts, as they tell it themselves: its journal may be on a laptop that is gone.

use rke2flow_engine::id::HostName;
use rke2flow_steps::answer::Survey;

/// What somebody has begun on a host and not finished, one line; `None`: nothing is seen of it.
pub fn left_on(host: &HostName, survey: &Survey) -> Option<String> {
    let mut left: Vec<String> = survey.our_units.iter().map(|unit| format!("{unit} works")).collect();
    if let Some(reset) = survey.reset.as_ref().filter(|reset| !reset.started_since) {
        let how = if reset.proved { "was reset" } else { "is being reset, or its reset failed," };
        left.push(format!("its etcd {how} by run {} and not started since", reset.run));
    }
    if survey.hold {
        left.push("it is held down: RKE2 does not start, also not after a reboot".to_owned());
    }
    if let Some(run) = survey.server_override.split(' ').next().filter(|run| !run.is_empty()) {
        left.push(format!("it has a configuration drop-in of run {run}"));
    }
    (!left.is_empty()).then(|| format!("{host}: {}", left.join("; ")))
}

#[cfg(test)]
mod tests {
    use rke2flow_steps::answer::ResetState;

    use super::*;

    fn found(survey: &Survey) -> Option<String> {
        left_on(&HostName::new("server-0").unwrap(), survey)
    }

    #[test]
    fn what_works_and_what_was_left_is_told_in_one_line() {
        assert_eq!(found(&Survey::default()), None);
        let reset = ResetState { run: "r1".to_owned(), sha256: String::new(), proved: false, started_since: false };
        let survey = Survey {
            our_units: vec!["rke2flow-r1-0123abcd-a1".to_owned()],
            reset: Some(reset.clone()),
            server_override: "r1 https://10.0.0.10:9345".to_owned(),
            hold: true,
            ..Survey::default()
        };
        assert_eq!(
            found(&survey).unwrap(),
            "server-0: rke2flow-r1-0123abcd-a1 works; its etcd is being reset, or its reset failed, by run r1 and not \
             started since; it is held down: RKE2 does not start, also not after a reboot; it has a configuration \
             drop-in of run r1"
        );
        let done = ResetState { proved: true, started_since: true, ..reset };
        assert_eq!(found(&Survey { reset: Some(done), ..Survey::default() }), None);
    }
}
