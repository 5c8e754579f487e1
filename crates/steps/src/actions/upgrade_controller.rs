//! UpgradeController: the system-upgrade-controller can take Plans.

use async_trait::async_trait;
use rke2flow_engine::action::{ATTENTION, ActionInfo, Context, Failure, FailureClass, Place, Probe};
use rke2flow_engine::cluster::Distribution;
use rke2flow_engine::value::{FactSpec, Facts, Param, ValueType};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::actions::upgrade_plan::tag;
use crate::actions::{Goal, World, info, known};
use crate::kinds::{AnyKind, UpgradePlan, Workload};

/// Goal: the system-upgrade-controller can take Plans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpgradeController {
    /// The version that Plans will ask for.
    pub version: Param<String>,
    /// The image that upgrades a node, without a tag; empty: `rancher/rke2-upgrade`.
    #[serde(default)]
    pub image: Param<String>,
}

#[async_trait]
impl Goal for UpgradeController {
    const INFO: ActionInfo = ActionInfo {
        changes: false,
        facts: &[
            FactSpec { name: "namespace", kind: ValueType::Text },
            FactSpec { name: "controller", kind: ValueType::Text },
            FactSpec { name: ATTENTION, kind: ValueType::List },
        ],
        ..info("UpgradeController", "the system-upgrade-controller can take Plans", Place::Operator, 5)
    };

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        let found = find(world).await?;
        if let Some(lack) = found.lack {
            return Ok(Probe::pending(lack));
        }
        let image = format!("{}:{}", image(world, known(&self.image)?), tag(known(&self.version)?));
        let untold = format!(
            "whether every node can pull {image} cannot be told beforehand: a node that cannot is named, and taken back \
             from the controller before anything on it was changed"
        );
        let facts =
            [("namespace", json!(found.namespace)), ("controller", json!(found.image)), (ATTENTION, json!([untold]))];
        Ok(Probe::Satisfied(Facts::from(facts.map(|(name, value)| (name.to_owned(), value)))))
    }
}

/// The controller, as far as Plans must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where it looks for Plans: its own namespace and no other (SUC pkg/upgrade/controller.go).
    pub namespace: String,
    /// The account that jobs act as.
    pub account: String,
    /// Its image, with its version.
    pub image: String,
    /// Why it does nothing now; `None`: it runs.
    pub lack: Option<String>,
}

/// The one controller of the cluster; a refusal with what is missing when it is not installed. Its pod may be on its way
/// between two servers: whoever needs it to run looks at `lack`.
pub(crate) async fn find(world: &World) -> Result<Found, Failure> {
    if world.objects().list::<UpgradePlan>(UpgradePlan::ALL).await?.is_none() {
        return Err(refused("the API serves no plans.upgrade.cattle.io: its CustomResourceDefinition is missing"));
    }
    let all: Vec<Workload> = world.objects().list("/apis/apps/v1/deployments").await?.unwrap_or_default();
    let controllers: Vec<Workload> = all.into_iter().filter(is_controller).collect();
    let place = |found: &Workload| format!("{}/{}", found.metadata.namespace, found.metadata.name);
    let controller = match controllers.as_slice() {
        [] => return Err(refused("there is no Deployment system-upgrade-controller in any namespace")),
        [one] => one,
        several => {
            let places: Vec<String> = several.iter().map(place).collect();
            return Err(refused(&format!("there are several: Deployments {}", places.join(", "))));
        }
    };
    if controller.spec.replicas == Some(0) {
        return Err(refused(&format!("Deployment {} is scaled to 0", place(controller))));
    }
    let lack = controller.deployment_lacks().map(|lack| format!("Deployment {}: {lack}", place(controller)));
    let pod = &controller.spec.template.spec;
    let account = match pod.service_account_name.as_str() {
        "" => "default",
        account => account,
    };
    let namespace = &controller.metadata.namespace;
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}");
    if world.objects().get::<AnyKind>(&path).await?.is_none() {
        return Err(refused(&format!("there is no ServiceAccount {namespace}/{account} for its jobs")));
    }
    let image = pod.containers.first().map(|container| container.image.clone()).unwrap_or_default();
    Ok(Found { namespace: namespace.clone(), account: account.to_owned(), image, lack })
}

/// The image that upgrades a node: the one that was given, or the distribution's own.
pub(crate) fn image(world: &World, given: &str) -> String {
    match (given, world.cluster().distribution) {
        ("", Distribution::Rke2) => "rancher/rke2-upgrade".to_owned(),
        ("", Distribution::K3s) => "rancher/k3s-upgrade".to_owned(),
        (given, _) => given.to_owned(),
    }
}

/// The name of the Deployment in its own manifest, and the label by which its pods know their name.
const NAME: &str = "system-upgrade-controller";
const LABEL: &str = "upgrade.cattle.io/controller";

fn is_controller(found: &Workload) -> bool {
    found.metadata.name == NAME || found.spec.template.metadata.labels.contains_key(LABEL)
}

fn refused(observed: &str) -> Failure {
    Failure::of(FailureClass::Refused, "the system-upgrade-controller cannot take Plans; nothing was changed")
        .observed(observed)
        .next("rke2flow run upgrade, which needs no controller; or install it: https://docs.rke2.io/upgrades/automated")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::suc::{self, CONTROLLER};
    use crate::actions::testing::{NEW, Scene};

    fn controller() -> UpgradeController {
        UpgradeController { version: Param::Known(NEW.to_owned()), image: Param::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_controller_that_runs_can_take_plans_and_what_cannot_be_known_is_told() {
        let facts = suc::scene().on("operator", controller()).satisfied().await;
        assert_eq!(facts["namespace"], "system-upgrade");
        assert_eq!(facts["controller"], "rancher/system-upgrade-controller:v0.15.2");
        let told = facts[ATTENTION].to_string();
        assert!(told.contains("rancher/rke2-upgrade:v1.34.1-rke2r1"), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_is_missing_of_a_controller_is_a_refusal_that_names_it() {
        let refusal = async |scene: &Scene| {
            let failure = scene.on("operator", controller()).failure().await;
            assert_eq!(failure.class, FailureClass::Refused);
            assert!(failure.next.contains("rke2flow run upgrade"), "{failure}");
            failure.observed
        };
        assert!(refusal(&Scene::new()).await.contains("no Deployment system-upgrade-controller"));
        let scene = suc::scene();
        scene.edit(CONTROLLER, |found| found["spec"]["replicas"] = 0.into());
        assert!(refusal(&scene).await.contains("is scaled to 0"));
        let scene = suc::scene();
        scene.edit(CONTROLLER, |found| found["status"]["availableReplicas"] = 0.into());
        assert!(scene.on("operator", controller()).pending().await.contains("0 of 1 pods available"));
        let scene = suc::scene();
        scene.edit(CONTROLLER, |found| found["spec"]["template"]["spec"]["serviceAccountName"] = "gone".into());
        assert!(refusal(&scene).await.contains("no ServiceAccount system-upgrade/gone"));
        let scene = suc::scene();
        let second = scene.object(CONTROLLER).unwrap();
        scene.put("/apis/apps/v1/namespaces/cattle-system/deployments/system-upgrade-controller", second);
        assert!(refusal(&scene).await.contains("there are several"));
    }
}
