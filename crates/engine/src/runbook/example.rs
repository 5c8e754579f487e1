//! The rollback of the language's reference, read and planned with a catalogue of its actions that do nothing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::{Action, ActionInfo, ActionSpec, Catalogue, Place};
use crate::id::Target;
use crate::plan::testing::cluster;
use crate::plan::{Forecast, NeedPlan, Plan, Request, build};
use crate::source::SourceText;
use crate::value::{FactSpec, Param, ValueType};

macro_rules! actions {
    ($($name:ident $place:ident { $($field:ident: $kind:ty),* } [$($fact:literal $fact_kind:ident),*])*) => {
        $(
            #[derive(Debug, Clone, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            struct $name { $($field: $kind),* }
        )*

        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(rename = "Action")]
        enum Spec { $($name($name)),* }

        impl ActionSpec for Spec {
            fn name(&self) -> &'static str {
                match self { $(Spec::$name(_) => stringify!($name)),* }
            }

            fn fields(&self) -> Value {
                match self { $(Spec::$name(action) => serde_json::to_value(action).unwrap()),* }
            }
        }

        static INFOS: &[ActionInfo] = &[$(ActionInfo {
            name: stringify!($name),
            revision: 1,
            goal: "",
            place: Place::$place,
            facts: &[$(FactSpec { name: $fact, kind: ValueType::$fact_kind }),*],
            changes: true,
            stops_etcd_member: false,
            disrupts: crate::action::Disruption::Nothing,
            gate: false,
            typical_seconds: 5,
        }),*];

        impl Catalogue for Example {
            fn info(&self, name: &str) -> Option<&'static ActionInfo> {
                INFOS.iter().find(|info| info.name == name)
            }

            fn names(&self) -> Vec<&'static str> {
                INFOS.iter().map(|info| info.name).collect()
            }

            fn bind(&self, name: &str, fields: &Value, target: &Target) -> Result<Arc<dyn Action>, String> {
                match name {
                    $(stringify!($name) => $name::deserialize(fields).map(|_| ()).map_err(|error| error.to_string())?,)*
                    other => return Err(format!("there is no action `{other}`")),
                }
                let nothing = serde_json::json!({ "mark": "x" });
                crate::testing::ToyCatalogue::default().bind("Look", &nothing, target)
            }
        }
    };
}

struct Example;

type Text = Param<String>;

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Part {
    Etcd,
    Tls,
    Cred,
    ShippedCharts,
}

actions! {
    ChoosePoint Operator { to: Text } ["id" Text, "version" Version, "snapshot" Text, "sha256" Text, "taken_at" Time, "velero_backup" Text]
    FetchRelease Host { version: Text } []
    StageSnapshot Host { file: Text } ["staged_path" Text]
    Gate Operator { show: Text } []
    HoldUnit Host {} []
    KillNode Host { grace: Param<crate::duration::Span> } []
    PortsClosed Host { ports: Vec<u16> } []
    InstallVersion Host { version: Text, keep_replaced: bool } []
    MoveAside Host { paths: Vec<Part> } []
    PointAt Host { server: Text } []
    ClusterReset Host { snapshot: Text, sha256: Text } []
    ReleaseHold Host {} []
    StartUnit Host {} ["started_at" Time]
    VerifyRestored Host { point: Text } []
    DisableUpgradePlans Operator {} []
    PauseSchedules Operator {} []
    RemoveGhosts Operator {} []
    Voter Host { steady: Param<crate::duration::Span> } []
    NodeReady Host { newer_than: Text } []
    RestoreVolumes Operator { backup: Text, namespaces: Param<Vec<String>> } []
    Health Operator {} []
    Unfence Operator {} []
}

fn rollback(servers: usize, agents: usize, set: &[&str]) -> Plan {
    let source = SourceText::new("rollback.ron", include_str!("example.ron"));
    let runbook = super::parse::<Spec>(source, &Example).unwrap_or_else(|found| panic!("{found}"));
    let request = Request { set: set.iter().map(|text| (*text).to_owned()).collect(), ..Request::default() };
    build(&runbook, &cluster(servers, agents), &request, &Example).unwrap_or_else(|found| panic!("{found}")).plan
}

fn targets_of<'a>(plan: &'a Plan, step: &str) -> Vec<&'a Target> {
    plan.steps.iter().find(|other| other.id.as_str() == step).unwrap().targets.iter().collect()
}

#[test]
fn the_rollback_of_the_reference_plans_for_several_servers() {
    let plan = rollback(3, 3, &["data=shop", "lost=server-2"]);
    assert_eq!(targets_of(&plan, "join").len(), 1, "server-2 is lost");
    let clean = plan.steps.iter().find(|step| step.id.as_str() == "clean").unwrap();
    assert!(matches!(clean.needs.as_slice(), [NeedPlan::SameHost(_)]));
    let forecast = Forecast::of(&plan, &Example).unwrap();
    assert!(forecast.outage > crate::duration::Span::default());
    assert!(targets_of(&plan, "data").is_empty(), "the toy cluster has no Velero");
}

#[test]
fn the_rollback_of_the_reference_plans_for_one_server_and_no_agents() {
    let plan = rollback(1, 0, &[]);
    assert!(targets_of(&plan, "join").is_empty() && targets_of(&plan, "agents").is_empty());
    assert_eq!(targets_of(&plan, "reset").len(), 1);
}
