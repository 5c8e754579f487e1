//! What failed, for people: the same failure of several instances is told once.

use rke2flow_engine::action::Failure;
use rke2flow_engine::id::InstanceId;

/// One text per failure, with the instances that have it, in their order.
pub fn failures(failures: &[(InstanceId, Failure)]) -> Vec<String> {
    let mut told: Vec<(String, Vec<&str>)> = Vec::new();
    for (instance, failure) in failures {
        let text = failure.to_string();
        match told.iter_mut().find(|(known, _)| *known == text) {
            Some((_, instances)) => instances.push(instance.as_str()),
            None => told.push((text, vec![instance.as_str()])),
        }
    }
    told.into_iter().map(|(text, instances)| format!("{}: {}", instances.join(", "), text.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use rke2flow_engine::id::{HostName, StepId, Target};

    use super::*;

    fn failed(step: &str, host: &str, what: &str) -> (InstanceId, Failure) {
        let target = Target::Host(HostName::new(host).unwrap());
        (InstanceId::new(&StepId::new(step).unwrap(), "X", 1, &target), Failure::transient(what))
    }

    #[test]
    fn the_same_failure_of_several_hosts_is_told_once() {
        let all = [failed("a", "h1", "no route"), failed("b", "h1", "no disk"), failed("a", "h2", "no route")];
        assert_eq!(failures(&all), ["a/X@h1, a/X@h2: no route", "b/X@h1: no disk"]);
    }
}
