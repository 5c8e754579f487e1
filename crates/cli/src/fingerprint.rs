//! What a saved plan remembers of the world, so that a run can tell whether it is another one: versions, voters and
//! digests; never times, and never what a person may not show.

use std::collections::{BTreeMap, HashMap};

use futures::StreamExt;
use rke2flow_engine::action::ActionInfo;
use rke2flow_engine::id::HostName;
use rke2flow_engine::value::{Facts, ValueType};
use rke2flow_steps::host::Hosts;
use rke2flow_steps::kinds::Node;
use rke2flow_steps::objects::Objects;
use rke2flow_steps::ports::Access;
use serde::{Deserialize, Serialize};

/// How many hosts are asked at once.
const HOSTS_AT_ONCE: usize = 16;

/// Every host's fingerprint.
pub type HostPrints = BTreeMap<HostName, HostPrint>;

/// What identifies the state of a host. What could not be found out is absent, and compared with nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostPrint {
    /// The version on its disk; `none` where RKE2 is not installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installed: Option<String>,
    /// The version that its node runs, as the API tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<String>,
    /// The version of its etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<String>,
    /// The members of etcd that vote, as this server tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voters: Option<Vec<String>>,
    /// SHA-256 of the certificate of the server's authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_sha256: Option<String>,
    /// SHA-256 of the node's configuration without our drop-ins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_sha256: Option<String>,
}

/// Facts that say which thing was found, whatever their type; versions do so anyway. The others are measurements,
/// times and texts for people.
const IDENTIFYING: [&str; 7] = ["id", "installed", "s3_key", "sha256", "snapshot", "staged_sha256", "velero_backup"];

/// The part of an action's facts by which another world is known.
pub fn of_facts(info: &ActionInfo, facts: &Facts) -> Facts {
    let identifies = info.facts.iter().filter(|spec| {
        spec.kind == ValueType::Version || (spec.kind == ValueType::Text && IDENTIFYING.contains(&spec.name))
    });
    identifies.filter_map(|spec| Some((spec.name.to_owned(), facts.get(spec.name)?.clone()))).collect()
}

/// Asks hosts and the API; changes nothing and takes no claim.
pub async fn of_hosts(access: &Access, hosts: Vec<HostName>) -> HostPrints {
    let nodes: Vec<Node> = match Objects::new(access.kube.clone()).list("/api/v1/nodes").await {
        Ok(nodes) => nodes.unwrap_or_default(),
        Err(failure) => {
            tracing::warn!("the API does not tell which versions run: {failure}");
            Vec::new()
        }
    };
    let running: HashMap<String, String> =
        nodes.iter().map(|node| (node.metadata.name.clone(), node.version().to_owned())).collect();
    let ask = |host: HostName| {
        let running = running.get(host.as_str()).cloned();
        async move {
            let print = of_host(&Hosts::new(access.clone()), &host).await;
            (host, HostPrint { running, ..print })
        }
    };
    futures::stream::iter(hosts.into_iter().map(ask)).buffer_unordered(HOSTS_AT_ONCE).collect().await
}

async fn of_host(hosts: &Hosts, host: &HostName) -> HostPrint {
    let (survey, identity) = futures::join!(hosts.survey(host), hosts.identity(host));
    let mut print = HostPrint::default();
    if let Ok(survey) = survey {
        print.installed = Some(if survey.installed.is_empty() { "none".to_owned() } else { survey.installed });
        print.ca_sha256 = told(survey.ca_sha256);
        let mut voters: Vec<String> =
            survey.members.into_iter().filter(|member| !member.learner).map(|member| member.name).collect();
        voters.sort();
        print.voters = (!voters.is_empty()).then_some(voters);
    }
    if let Ok(identity) = identity {
        (print.config_sha256, print.etcd) = (told(identity.config_sha256), told(identity.etcd_version));
    }
    print
}

fn told(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// What was known then and is known now, and is another thing: one line each.
pub fn differences(then: &HostPrints, now: &HostPrints) -> Vec<String> {
    let both = then.iter().filter_map(|(host, then)| Some((host, then, now.get(host)?)));
    both.flat_map(|(host, then, now)| {
        let voters = |print: &HostPrint| print.voters.as_ref().map(|voters| voters.join(" "));
        let pairs = [
            ("installed", then.installed.clone(), now.installed.clone()),
            ("runs", then.running.clone(), now.running.clone()),
            ("etcd", then.etcd.clone(), now.etcd.clone()),
            ("voters", voters(then), voters(now)),
            ("certificate of its authority", then.ca_sha256.clone(), now.ca_sha256.clone()),
            ("configuration", then.config_sha256.clone(), now.config_sha256.clone()),
        ];
        pairs.into_iter().filter_map(move |(what, then, now)| {
            let (then, now) = (then?, now?);
            (then != now).then(|| format!("{host}: {what} {then} then, {now} now"))
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use rke2flow_steps::catalogue;
    use serde_json::json;

    use super::*;

    fn prints(change: impl FnOnce(&mut HostPrint)) -> HostPrints {
        let mut print = HostPrint {
            installed: Some("v1.33.4+rke2r1".to_owned()),
            voters: Some(vec!["server-0-1".to_owned(), "server-1-2".to_owned()]),
            ..HostPrint::default()
        };
        change(&mut print);
        HostPrints::from([(HostName::new("server-0").unwrap(), print)])
    }

    #[test]
    fn what_is_another_thing_is_told_and_what_is_not_known_is_not() {
        let then = prints(|_| {});
        assert_eq!(differences(&then, &prints(|_| {})), Vec::<String>::new());
        let now = prints(|print| print.installed = Some("v1.34.1+rke2r1".to_owned()));
        assert_eq!(differences(&then, &now), ["server-0: installed v1.33.4+rke2r1 then, v1.34.1+rke2r1 now"]);
        let now = prints(|print| print.voters = Some(vec!["server-0-1".to_owned()]));
        assert_eq!(differences(&then, &now), ["server-0: voters server-0-1 server-1-2 then, server-0-1 now"]);
        assert_eq!(differences(&then, &prints(|print| *print = HostPrint::default())), Vec::<String>::new());
    }

    #[test]
    fn versions_and_digests_identify_and_times_and_measurements_do_not() {
        let facts = Facts::from([
            ("id".to_owned(), json!("261122-0312-k7q2")),
            ("version".to_owned(), json!("v1.33.4+rke2r1")),
            ("sha256".to_owned(), json!("ab")),
            ("taken_at".to_owned(), json!("2026-11-22T03:00:00Z")),
            ("loss".to_owned(), json!("3 minutes of writes")),
            ("size".to_owned(), json!(7)),
        ]);
        let kept = of_facts(catalogue::info("ChoosePoint").unwrap(), &facts);
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["id", "sha256", "version"]);
    }
}
