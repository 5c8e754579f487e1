//! The check of the server token: a snapshot is useless without the one that it was taken under.

use rke2flow_engine::action::Failure;

use super::check::{Level, Row, Seen};
use super::evidence::Evidence;

pub(super) const TOKEN: Row = Row {
    level: Level::Refuse,
    why: "the CA keys in a snapshot are encrypted with the token: without it nothing can be restored",
    source: "docs.rke2.io/datastore/backup_restore; R2#2410; rancher#36298",
    unwaivable: None,
    judge: |evidence| Box::pin(token(evidence)),
};

async fn token(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let servers = evidence.servers().await;
    let mut seen = Seen::well(format!("{} servers have the same one", servers.len()));
    let first = servers.iter().find(|(_, survey)| !survey.token_sha256.is_empty());
    for (host, survey) in &servers {
        match first {
            _ if survey.token_sha256.is_empty() => {
                seen.refuse(format!("{} has no token on disk", host.name), put_back(host.name.as_str()));
            }
            Some((other, expected)) if expected.token_sha256 != survey.token_sha256 => {
                let what = format!("{} has another token than {}", host.name, other.name);
                seen.refuse(what, put_back(host.name.as_str()));
            }
            _ => {}
        }
    }
    if servers.is_empty() {
        seen.refuse("no server answers", "bring a server back first");
    }
    let expected = &evidence.question.token_hash;
    if !expected.is_empty() {
        for (host, _) in &servers {
            let hash = evidence.world.hosts().identity(&host.name).await?.token_hash;
            if !hash.is_empty() && hash != *expected {
                let what =
                    format!("{} has the token of hash {hash}, the snapshot was taken under {expected}", host.name);
                seen.refuse(what, put_back(host.name.as_str()));
            }
        }
    }
    Ok(seen)
}

fn put_back(host: &str) -> String {
    format!("put the cluster's token back into server/token of {host}, as another server or the password store has it")
}
