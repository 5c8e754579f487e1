//! The members of etcd as every server tells of them: who votes, who is missing, who is a stranger.

use std::collections::BTreeSet;

use rke2flow_engine::action::Failure;
use rke2flow_engine::cluster::Host;

use crate::actions::{Finding, voter};
use crate::answer::{Member, Survey};

/// What a server lacks to serve and to vote, in its own words.
pub(crate) fn server(host: &Host, survey: &Result<Survey, Failure>) -> Finding {
    let check = format!("server {}", host.name);
    match survey {
        Ok(survey) => {
            let named = format!("{}: ", host.name);
            let lacks = voter::lacks(&host.name, survey).into_iter();
            let lacks = lacks.map(|lack| lack.strip_prefix(&named).unwrap_or(&lack).to_owned()).collect();
            Finding::unless_missing(check, "/readyz ok, etcd healthy, voter", lacks)
        }
        Err(failure) => Finding::fail(check, failure.to_string()),
    }
}

/// Exactly the servers are members, each with a vote, and every server tells of the same ones: a member that is gone
/// still counts for the quorum, and a member of another id belongs to another cluster.
pub(crate) fn voters(surveys: &[(&Host, Result<Survey, Failure>)]) -> Finding {
    let expected = surveys.len();
    // One that is down tells of nothing; that is said of the server itself.
    let asked: Vec<(&Host, &Survey)> = surveys
        .iter()
        .filter_map(|(host, told)| Some((*host, told.as_ref().ok()?)))
        .filter(|(_, survey)| !survey.members.is_empty())
        .collect();
    let mut ill = Vec::new();
    for (host, survey) in &asked {
        let is_server =
            |member: &Member| surveys.iter().any(|(server, _)| voter::is_member_of(&member.name, &server.name));
        let others = survey.members.iter().filter(|member| !is_server(member));
        ill.extend(others.map(|member| format!("{}: {} is a member and no server", host.name, member.name)));
        let learners = survey.members.iter().filter(|member| member.learner);
        ill.extend(learners.map(|member| format!("{}: {} is a learner, without a vote", host.name, member.name)));
        let missing = surveys.iter().map(|(server, _)| &server.name);
        let missing =
            missing.filter(|name| !survey.members.iter().any(|member| voter::is_member_of(&member.name, name)));
        ill.extend(missing.map(|name| format!("{}: {name} is no member", host.name)));
        if survey.members.len() != expected {
            ill.push(format!("{} tells of {} members instead of {expected}", host.name, survey.members.len()));
        }
        ill.extend(misplaced(surveys, survey).map(|text| format!("{}: {text}", host.name)));
    }
    if let Some((first, rest)) = asked.split_first() {
        let differ = rest.iter().filter(|(_, survey)| identities(survey) != identities(first.1));
        ill.extend(
            differ
                .map(|(host, _)| format!("{} and {} tell of different members: two clusters", first.0.name, host.name)),
        );
    } else {
        ill.push("no server tells".to_owned());
    }
    Finding::unless_missing("etcd members", format!("{} servers tell of exactly {expected}", asked.len()), ill)
}

/// Members whose peer address is not the one that the cluster file gives their node.
fn misplaced<'a>(
    surveys: &'a [(&Host, Result<Survey, Failure>)],
    told: &'a Survey,
) -> impl Iterator<Item = String> + 'a {
    told.members.iter().filter_map(|member| {
        let (host, _) = surveys.iter().find(|(host, _)| voter::is_member_of(&member.name, &host.name))?;
        let address = host.node_ip.as_deref()?;
        let here = |url: &String| url.contains(&format!("//{address}:")) || url.contains(&format!("//[{address}]:"));
        let there = || format!("{} has the peers {} and not {address}", member.name, member.peer_urls.join(", "));
        (!member.peer_urls.iter().any(here)).then(there)
    })
}

/// What makes a member the same one for two servers.
fn identities(survey: &Survey) -> BTreeSet<(u64, &str, &[String])> {
    survey.members.iter().map(|member| (member.id, member.name.as_str(), member.peer_urls.as_slice())).collect()
}
