//! CreateUpgradePlan: the run's own Plan for these nodes is there, pinned to this version.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::duration::Span;
use rke2flow_engine::value::{FactSpec, Facts, Param, ValueType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::actions::upgrade_controller::{find, image};
use crate::actions::upgrade_plan::{HANDED, Of, name, tag};
use crate::actions::{Goal, World, info, known, noted};
use crate::kinds::{LABEL_RUN, LABEL_STEP, Node, UpgradePlan};
use crate::objects::Created;

/// Goal: the run's own Plan for these nodes is there, pinned to this version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateUpgradePlan {
    /// Servers or Agents.
    pub of: Of,
    /// `v1.33.4+rke2r1`: never a channel, whose next word is somebody else's.
    pub version: Param<String>,
    /// The image that upgrades a node, without a tag; empty: `rancher/rke2-upgrade`.
    #[serde(default)]
    pub image: Param<String>,
    /// Whether the controller drains a node before it upgrades it; otherwise it only cordons.
    #[serde(default)]
    pub drain: Param<bool>,
    /// How long such a drain may take.
    #[serde(default = "drain_timeout")]
    pub drain_timeout: Param<Span>,
}

#[async_trait]
impl Goal for CreateUpgradePlan {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "plan", kind: ValueType::Text }],
        ..info(
            "CreateUpgradePlan",
            "the run's own Plan for these nodes is there, pinned to this version",
            Place::Operator,
            5,
        )
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let name = name(&context.round_id(), self.of);
        if self.nodes(world) == 0 {
            return Ok(Probe::Satisfied(Facts::from([("plan".to_owned(), json!(""))])));
        }
        let path = format!("{}/{name}", UpgradePlan::collection(&find(world).await?.namespace));
        let Some(plan) = world.objects().get::<UpgradePlan>(&path).await? else {
            return Ok(Probe::pending(format!("there is no Plan {name}")));
        };
        if let Some(found) = self.strange(&plan, context)? {
            return Ok(Probe::Refused { expected: format!("no Plan {name}, or the one that this run made"), found });
        }
        if let Some(invalid) =
            plan.status.conditions.iter().find(|told| told.kind == "Validated" && told.status == "False")
        {
            let found = format!("the controller says that it is not valid: {}", invalid.message);
            return Ok(Probe::Refused { expected: format!("a valid Plan {name}"), found });
        }
        if plan.status.latest_version != tag(known(&self.version)?) {
            return Ok(Probe::InProgress(format!("the controller has not looked at Plan {name} yet")));
        }
        Ok(Probe::Satisfied(Facts::from([("plan".to_owned(), json!(name))])))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        if self.nodes(world) == 0 {
            return Ok(noted(format!("the cluster has no {}", self.of)));
        }
        let found = find(world).await?;
        let nodes: Vec<Node> = world.objects().list("/api/v1/nodes").await?.unwrap_or_default();
        let waits = self.of == Of::Agents && nodes.iter().any(|node| node.metadata.labels.contains_key(MASTER));
        let body = json!({
            "apiVersion": "upgrade.cattle.io/v1", "kind": "Plan",
            "metadata": {
                "name": name(&context.round_id(), self.of), "namespace": found.namespace,
                "labels": { LABEL_RUN: context.run.as_str(), LABEL_STEP: context.step.as_str() },
            },
            "spec": self.spec(world, context, &found.account, waits)?,
        });
        match world.changes(context).create(&UpgradePlan::collection(&found.namespace), body).await? {
            Created::New(_) => {
                Ok(noted(format!("created Plan {}/{}", found.namespace, name(&context.round_id(), self.of))))
            }
            Created::Exists => Ok(noted("it is there already")),
        }
    }
}

impl CreateUpgradePlan {
    /// How many nodes it is for.
    fn nodes(&self, world: &World) -> usize {
        let ours = |host: &&rke2flow_engine::cluster::Host| {
            self.of.includes(host.role) && !world.access().lost.contains(&host.name)
        };
        world.cluster().hosts.iter().filter(ours).count()
    }

    fn spec(&self, world: &World, context: &Context, account: &str, waits: bool) -> Result<Value, Failure> {
        let image = image(world, known(&self.image)?);
        // One server at a time is said twice: by the label that we give, and to the controller itself.
        let concurrency = if self.of == Of::Servers { 1 } else { self.nodes(world) };
        let mut spec = json!({
            "concurrency": concurrency,
            "cordon": true,
            "exclusive": true,
            "serviceAccountName": account,
            "version": known(&self.version)?,
            "nodeSelector": { "matchLabels": { HANDED: name(&context.round_id(), self.of) } },
            // A node that is to be upgraded is upgraded, whatever taints keep other pods away from it.
            "tolerations": [{ "operator": "Exists" }],
            "upgrade": { "image": image },
        });
        if waits {
            spec["prepare"] = json!({ "image": image, "args": ["prepare", name(&context.round_id(), Of::Servers)] });
        }
        if *known(&self.drain)? {
            let seconds = known(&self.drain_timeout)?.get().as_secs();
            spec["drain"] = json!({
                "timeout": format!("{seconds}s"),
                "force": false,
                "ignoreDaemonSets": true,
                "deleteEmptydirData": true,
                "skipWaitForDeleteTimeout": SKIP_WAIT_SECONDS,
            });
            spec["jobActiveDeadlineSecs"] = json!(JOB_SECONDS + seconds);
        }
        Ok(spec)
    }

    /// What is wrong with a Plan of this name: it is somebody else's, or somebody has changed what it does.
    fn strange(&self, plan: &UpgradePlan, context: &Context) -> Result<Option<String>, Failure> {
        let version = known(&self.version)?;
        let selector = &plan.spec.node_selector["matchLabels"][HANDED];
        Ok(if plan.metadata.run() != Some(context.run.as_str()) {
            Some("one without this run's label".to_owned())
        } else if plan.spec.version != *version || !plan.spec.channel.is_empty() {
            Some(format!("one for the version `{}` and the channel `{}`", plan.spec.version, plan.spec.channel))
        } else if *selector != name(&context.round_id(), self.of) {
            Some(format!("one with the nodeSelector {}", plan.spec.node_selector))
        } else {
            None
        })
    }
}

/// What `prepare` of the upgrade image knows servers by (rke2-upgrade scripts/upgrade.sh). RKE2 does not set it any more
/// since 1.34 (rke2#7042): there `prepare` would wait for ever. Our agents are handed over only when every server runs
/// the version and is healthy, so that `prepare` is a second lock where it works, and left out where it does not.
const MASTER: &str = "node-role.kubernetes.io/master";
/// How long a job may take besides its drain: what the controller's own manifest says.
const JOB_SECONDS: u64 = 900;
/// Pods whose deletion takes longer are not waited for: their node may be gone.
const SKIP_WAIT_SECONDS: u64 = 60;

fn drain_timeout() -> Param<Span> {
    Param::Known(Span::from_secs(300))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::suc;
    use crate::actions::testing::{NEW, RUN};

    fn plan(of: Of) -> CreateUpgradePlan {
        CreateUpgradePlan {
            of,
            version: Param::Known(NEW.to_owned()),
            image: Param::default(),
            drain: Param::default(),
            drain_timeout: drain_timeout(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn creating_a_plan_is_idempotent_and_pins_it() {
        let scene = suc::scene();
        let facts = scene.on("operator", plan(Of::Servers)).idempotent().await;
        assert_eq!(facts["plan"], format!("rke2flow-{RUN}-servers"));
        let spec = scene.object(&suc::plan("servers")).unwrap()["spec"].clone();
        assert_eq!((&spec["version"], &spec["channel"]), (&json!(NEW), &Value::Null));
        assert_eq!(
            (&spec["concurrency"], &spec["cordon"], &spec["exclusive"]),
            (&json!(1), &json!(true), &json!(true))
        );
        assert_eq!(spec["nodeSelector"]["matchLabels"][HANDED], format!("rke2flow-{RUN}-servers"));
        assert_eq!((&spec["prepare"], &spec["drain"]), (&Value::Null, &Value::Null));
    }

    #[tokio::test(start_paused = true)]
    async fn agents_wait_for_the_servers_plan_where_the_image_can_tell_servers() {
        let scene = suc::scene();
        scene.on("operator", plan(Of::Agents)).apply().await;
        assert!(scene.object(&suc::plan("agents")).unwrap()["spec"]["prepare"].is_null());
        let scene = suc::scene();
        scene.edit("/api/v1/nodes/server-0", |node| node["metadata"]["labels"][MASTER] = "true".into());
        scene.on("operator", plan(Of::Agents)).apply().await;
        let spec = scene.object(&suc::plan("agents")).unwrap()["spec"].clone();
        assert_eq!(spec["prepare"]["args"], json!(["prepare", format!("rke2flow-{RUN}-servers")]));
        assert_eq!(spec["concurrency"], 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_that_is_asked_for_has_an_end_and_forces_nothing() {
        let scene = suc::scene();
        scene.on("operator", CreateUpgradePlan { drain: Param::Known(true), ..plan(Of::Agents) }).apply().await;
        let spec = scene.object(&suc::plan("agents")).unwrap()["spec"].clone();
        assert_eq!((&spec["drain"]["timeout"], &spec["drain"]["force"]), (&json!("300s"), &json!(false)));
        assert_eq!(spec["jobActiveDeadlineSecs"], 1200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_plan_of_somebody_else_or_one_that_was_changed_is_not_taken_for_ours() {
        let scene = suc::scene();
        let at = suc::plan("servers");
        scene.on("operator", plan(Of::Servers)).apply().await;
        let refused = async || matches!(scene.on("operator", plan(Of::Servers)).probe().await, Probe::Refused { .. });
        assert!(!refused().await);
        scene.edit(&at, |plan| plan["spec"]["channel"] = "https://c.test/stable".into());
        assert!(refused().await, "a channel was added to it");
        scene.edit(&at, |plan| plan["spec"]["channel"] = "".into());
        scene.edit(&at, |plan| plan["spec"]["nodeSelector"] = json!({}));
        assert!(refused().await, "it selects every node");
        scene.put(&at, json!({ "spec": { "version": NEW } }));
        assert!(refused().await, "it has no label of ours");
    }

    #[tokio::test(start_paused = true)]
    async fn a_plan_that_nobody_has_looked_at_is_waited_for() {
        let scene = suc::scene();
        scene.on("operator", plan(Of::Servers)).apply().await;
        scene.edit(&suc::plan("servers"), |plan| plan["status"] = json!({}));
        let probe = scene.on("operator", plan(Of::Servers)).probe().await;
        assert!(matches!(probe, Probe::InProgress(why) if why.contains("has not looked")));
    }
}
