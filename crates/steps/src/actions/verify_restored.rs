//! VerifyRestored: the restored server serves the snapshot that was meant, as the only member of etcd.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Context, Failure, Place, Probe};
use rke2flow_engine::id::{HostName, RunId};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::sentinel;
use crate::actions::voter::is_member_of;
use crate::actions::{Goal, World, host_of, info, known};
use crate::answer::Survey;
use crate::kinds::AnyKind;

/// Goal: the restored server serves the snapshot that was meant, as the only member of etcd.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyRestored {
    /// Id of the recovery point.
    pub point: Param<String>,
    /// UID of the sentinel that must be there; empty: the point has none.
    #[serde(default)]
    pub sentinel_before: Param<String>,
    /// Name of the sentinel that must not be there; empty: the point has none.
    #[serde(default)]
    pub sentinel_after: Param<String>,
    /// Whether others have joined since: then each server is asked, and the restored one is not alone any more.
    #[serde(default)]
    pub joined: Param<bool>,
}

#[async_trait]
impl Goal for VerifyRestored {
    const INFO: ActionInfo = ActionInfo {
        changes: false,
        ..info(
            "VerifyRestored",
            "the restored server serves the snapshot that was meant, as the only member of etcd",
            Place::Host,
            60,
        )
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let host = host_of(context)?;
        let survey = world.hosts().survey(host).await?;
        let joined = *known(&self.joined)?;
        let reset = survey.reset.as_ref().filter(|reset| reset.run == context.run.as_str());
        if !joined && reset.is_none() {
            return Ok(Probe::pending("no reset of this run has begun here"));
        }
        if let Some(waiting) = not_started(&survey) {
            return Ok(Probe::Pending(waiting));
        }
        if let Some(found) = wrong_members(&survey, host).filter(|_| !joined) {
            return Ok(Probe::Refused { expected: format!("one member of etcd, {host}"), found });
        }
        self.sentinels(world, host).await
    }
}

impl VerifyRestored {
    async fn sentinels(&self, world: &World, host: &HostName) -> Result<Probe, Failure> {
        let objects = world.objects().of_server(host);
        let (before, after) = (known(&self.sentinel_before)?, known(&self.sentinel_after)?);
        if !before.is_empty() {
            let run =
                RunId::new(known(&self.point)?.as_str()).map_err(|error| Failure::permanent(error.to_string()))?;
            let name = sentinel::name(&run, sentinel::Which::Before);
            let found = objects.get::<AnyKind>(&sentinel::path(&name)).await?.map(|object| object.metadata.uid);
            if found.as_ref() != Some(before) {
                return Ok(Probe::Refused {
                    expected: format!("the sentinel {name} with uid {before}, written before the snapshot"),
                    found: found.map_or_else(|| "none".to_owned(), |uid| format!("one with uid {uid}")),
                });
            }
        }
        if !after.is_empty() && objects.get::<AnyKind>(&sentinel::path(after)).await?.is_some() {
            return Ok(Probe::Refused {
                expected: format!("no sentinel {after}: it was written after the snapshot"),
                found: "it is there, so this is not the state of the snapshot".to_owned(),
            });
        }
        Ok(Probe::satisfied())
    }
}

fn not_started(survey: &Survey) -> Option<String> {
    if survey.unit != "active" {
        return Some(format!("the unit is {}", survey.unit));
    }
    if survey.readyz != "ok" {
        return Some(format!("/readyz says `{}`", survey.readyz));
    }
    // RKE2 removes it once the API is up (K3S pkg/etcd/metadata_controller.go).
    survey.reset_flag.then(|| "the reset flag is still there".to_owned())
}

fn wrong_members(survey: &Survey, host: &HostName) -> Option<String> {
    let names: Vec<&str> = survey.members.iter().map(|member| member.name.as_str()).collect();
    match names.as_slice() {
        [only] if is_member_of(only, host) => None,
        [] => Some("no member at all".to_owned()),
        names => Some(names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::{RUN, Scene};
    use crate::answer::ResetState;

    fn verify() -> VerifyRestored {
        let known = |text: &str| Param::Known(text.to_owned());
        VerifyRestored {
            point: known("261121-0300-aaaa"),
            sentinel_before: known("uid-a"),
            sentinel_after: known("rke2flow-261121-0300-aaaa-after"),
            joined: Param::Known(false),
        }
    }

    fn restored() -> Scene {
        let scene = Scene::new();
        scene.survey("server-0", |survey| {
            let (run, sha256) = (RUN.to_owned(), "abc".to_owned());
            survey.reset = Some(ResetState { run, sha256, proved: true, started_since: true });
            survey.members.truncate(1);
        });
        let before = sentinel::path("rke2flow-261121-0300-aaaa-before");
        scene.put(&before, serde_json::json!({ "metadata": { "uid": "uid-a" } }));
        scene
    }

    #[tokio::test(start_paused = true)]
    async fn the_snapshot_that_was_meant_is_recognised() {
        restored().on("server-0", verify()).satisfied().await;
    }

    #[tokio::test(start_paused = true)]
    async fn each_server_that_joined_must_serve_the_snapshot_too() {
        let joined = || VerifyRestored { joined: Param::Known(true), ..verify() };
        let scene = restored();
        scene.on("server-1", joined()).satisfied().await;
        scene.put(&sentinel::path("rke2flow-261121-0300-aaaa-after"), serde_json::json!({}));
        for server in ["server-0", "server-1", "server-2"] {
            assert!(matches!(scene.on(server, joined()).probe().await, Probe::Refused { .. }), "{server}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_snapshot_and_a_member_too_many_are_refused() {
        let scene = restored();
        scene.put(&sentinel::path("rke2flow-261121-0300-aaaa-after"), serde_json::json!({}));
        assert!(matches!(scene.on("server-0", verify()).probe().await, Probe::Refused { .. }), "sentinel after");
        let scene = restored();
        let before = sentinel::path("rke2flow-261121-0300-aaaa-before");
        scene.edit(&before, |object| object["metadata"]["uid"] = "other".into());
        assert!(matches!(scene.on("server-0", verify()).probe().await, Probe::Refused { .. }), "sentinel before");
        let scene = restored();
        scene.survey("server-0", |survey| survey.members.extend(survey.members.clone()));
        assert!(matches!(scene.on("server-0", verify()).probe().await, Probe::Refused { .. }), "two members");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_not_up_yet_or_was_never_restored_is_waited_for() {
        let scene = restored();
        scene.survey("server-0", |survey| survey.reset_flag = true);
        assert_eq!(scene.on("server-0", verify()).pending().await, "the reset flag is still there");
        Scene::new().on("server-0", verify()).pending().await;
    }
}
