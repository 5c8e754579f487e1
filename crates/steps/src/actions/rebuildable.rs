//! Rebuildable: everything that a rebuild needs is at hand, and the servers are new machines.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Context, Failure, FailureClass, Place, Probe};
use rke2flow_engine::cluster::{Host, Role};
use rke2flow_engine::value::{FactSpec, Facts, Param, ValueType};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use crate::actions::bucket_keys::Folder;
use crate::actions::kill_node::what_runs;
use crate::actions::{Finding, Goal, World, info, known};
use crate::answer::Survey;
use crate::token::token_hash;

/// Goal: everything that a rebuild needs is at hand, and the servers are new machines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rebuildable {
    /// What is asked for: `latest`, the id of the run that made it, or the name of a snapshot file.
    pub to: Param<String>,
    /// Servers whose old data may be moved aside.
    #[serde(default)]
    pub clean: Param<Vec<String>>,
}

/// How many recovery points are looked for: one is enough.
const POINTS_MAX: usize = 10;

#[async_trait]
impl Goal for Rebuildable {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "found", kind: ValueType::Text }],
        changes: false,
        ..info(
            "Rebuildable",
            "everything that a rebuild needs is at hand, and the servers are new machines",
            Place::Operator,
            10,
        )
    };

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        let clean = known(&self.clean)?;
        let alive = world.cluster().hosts.iter().filter(|host| !world.access().lost.contains(&host.name));
        let surveys = world.surveys(alive).await;
        let mut findings = vec![bucket(world, known(&self.to)?).await, token(world)];
        findings.extend(surveys.iter().map(|(host, survey)| machine(host, survey, clean)));
        for (host, survey) in surveys.iter().filter(|(host, _)| host.role == Role::Server) {
            if survey.is_ok() {
                findings.push(configuration(world, host).await);
            }
        }
        let failed = findings.iter().filter(|finding| finding.failed()).count();
        if failed > 0 {
            let what =
                format!("{failed} of {} things that a rebuild needs are missing; nothing was changed", findings.len());
            return Err(Failure::of(FailureClass::Refused, what).observed(Finding::text(&findings)));
        }
        let servers = surveys.iter().filter(|(host, _)| host.role == Role::Server).count();
        let aside = if clean.is_empty() { String::new() } else { format!("; moved aside on {}", clean.join(", ")) };
        let found = format!("{servers} servers without data{aside}");
        Ok(Probe::Satisfied(Facts::from([("found".to_owned(), found.into())])))
    }
}

/// The bucket is set, answers, and keeps a recovery point, if one is asked for.
async fn bucket(world: &World, to: &str) -> Finding {
    let check = "recovery points in the bucket";
    let Some(folder) = Folder::of(world) else {
        return Finding::fail(check, "the cluster file has no `s3`: endpoint, bucket, folder, access_key, secret_key");
    };
    let prefix = folder.points();
    match folder.bucket().list(&prefix, POINTS_MAX).await {
        Err(error) => Finding::fail(check, error.to_string()),
        // A snapshot that no point names may still be named by its file.
        Ok(found) if found.is_empty() && to == "latest" => {
            let hint = "name a snapshot of RKE2's own with --set to=FILE --set version=VERSION";
            Finding::fail(check, format!("there is nothing below {prefix}: {hint}"))
        }
        Ok(found) => Finding::pass(check, format!("{} or more below {prefix}", found.len())),
    }
}

/// Without the server token nobody can read the snapshot (DOC:datastore/backup_restore.md "Security").
fn token(world: &World) -> Finding {
    let check = "server token";
    match &world.access().token {
        None => Finding::fail(check, "the cluster file has no `token`: token: File(\"…\"), Env(\"…\") or Command([…])"),
        Some(token) if token_hash(token.expose_secret()).is_none() => {
            Finding::fail(check, "what `token` of the cluster file gives is no server token")
        }
        Some(_) => Finding::pass(check, "at hand"),
    }
}

/// A server must be new, or its data must be given up by name.
fn machine(host: &Host, survey: &Result<Survey, Failure>, clean: &[String]) -> Finding {
    let check = format!("host {}", host.name);
    let survey = match survey {
        Ok(survey) => survey,
        Err(failure) => return Finding::fail(check, failure.to_string()),
    };
    if host.role == Role::Agent {
        return Finding::pass(check, "answers");
    }
    let mut has = what_runs(survey);
    let there = [
        (survey.etcd_name || survey.etcd_member, "server/db/etcd"),
        (survey.tls, "server/tls"),
        (survey.cred, "server/cred"),
    ];
    has.extend(there.into_iter().filter(|(there, _)| *there).map(|(_, part)| format!("it has {part}")));
    if has.is_empty() {
        return Finding::pass(check, "a new machine");
    }
    if clean.iter().any(|name| name == host.name.as_str()) {
        return Finding::pass(check, format!("will be cleaned: {}", has.join(", ")));
    }
    Finding::fail(
        check,
        format!("no new machine: {} (if nobody needs that any more: --set clean={})", has.join(", "), host.name),
    )
}

/// RKE2's configuration is not in the snapshot: whoever makes the machine writes it.
async fn configuration(world: &World, host: &Host) -> Finding {
    let check = format!("configuration of {}", host.name);
    match world.hosts().identity(&host.name).await {
        Err(failure) => Finding::fail(check, failure.to_string()),
        Ok(found) if found.config_sha256.is_empty() => {
            let place = &world.access().paths.config;
            Finding::fail(check, format!("there is no {place}/config.yaml: write it as the old machine had it"))
        }
        Ok(_) => Finding::pass(check, "is there"),
    }
}
