//! A small catalogue of actions on a world in memory, for tests of the language, the plan and the run loop.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::{Action, ActionInfo, ActionSpec, Applied, Catalogue, Context, Failure, Place, Probe};
use crate::id::Target;
use crate::value::{FactSpec, Facts, Param, ValueType};

/// Goal: the mark is in the target's world.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Touch {
    /// Its name.
    pub mark: Param<String>,
    /// Any version; only its form is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Param<String>>,
    /// Any numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Param<Vec<u16>>>,
}

/// Goal: somebody has put the mark into the target's world.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// Its name.
    pub mark: Param<String>,
}

/// Goal: a person has agreed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// What is asked.
    pub show: Param<String>,
}

/// Goal: it has been tried more than `times` times.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fail {
    /// How many attempts fail.
    pub times: Param<u32>,
}

/// Goal: the target's etcd member has been stopped once.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopMember {}

/// The actions of the toy catalogue.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename = "AnyAction")]
pub enum Toy {
    /// See [`Touch`].
    Touch(Touch),
    /// See [`Look`].
    Look(Look),
    /// See [`Ask`].
    Ask(Ask),
    /// See [`Fail`].
    Fail(Fail),
    /// See [`StopMember`].
    StopMember(StopMember),
}

impl ActionSpec for Toy {
    fn name(&self) -> &'static str {
        match self {
            Toy::Touch(_) => TOUCH.name,
            Toy::Look(_) => LOOK.name,
            Toy::Ask(_) => ASK.name,
            Toy::Fail(_) => FAIL.name,
            Toy::StopMember(_) => STOP_MEMBER.name,
        }
    }

    fn fields(&self) -> Value {
        let fields = match self {
            Toy::Touch(action) => serde_json::to_value(action),
            Toy::Look(action) => serde_json::to_value(action),
            Toy::Ask(action) => serde_json::to_value(action),
            Toy::Fail(action) => serde_json::to_value(action),
            Toy::StopMember(action) => serde_json::to_value(action),
        };
        fields.expect("plain structs with text keys are JSON")
    }
}

const INFO: ActionInfo = ActionInfo {
    name: "",
    revision: 1,
    goal: "a toy",
    place: Place::Anywhere,
    facts: &[],
    changes: true,
    stops_etcd_member: false,
    disrupts: crate::action::Disruption::Nothing,
    gate: false,
    typical_seconds: 10,
};
static TOUCH: ActionInfo = ActionInfo {
    name: "Touch",
    facts: &[
        FactSpec { name: "mark", kind: ValueType::Text },
        FactSpec { name: "version", kind: ValueType::Version },
        FactSpec { name: "count", kind: ValueType::Number },
    ],
    ..INFO
};
static LOOK: ActionInfo = ActionInfo {
    name: "Look",
    facts: &[FactSpec { name: "mark", kind: ValueType::Text }],
    changes: false,
    typical_seconds: 1,
    ..INFO
};
static ASK: ActionInfo =
    ActionInfo { name: "Ask", place: Place::Operator, changes: false, gate: true, typical_seconds: 0, ..INFO };
static FAIL: ActionInfo = ActionInfo { name: "Fail", ..INFO };
static STOP_MEMBER: ActionInfo =
    ActionInfo { name: "StopMember", place: Place::Host, stops_etcd_member: true, typical_seconds: 60, ..INFO };

/// The toy actions over one world.
#[derive(Debug, Clone, Default)]
pub struct ToyCatalogue {
    /// What the actions look at and change.
    pub world: World,
}

impl Catalogue for ToyCatalogue {
    fn info(&self, name: &str) -> Option<&'static ActionInfo> {
        [&TOUCH, &LOOK, &ASK, &FAIL, &STOP_MEMBER].into_iter().find(|info| info.name == name)
    }

    fn names(&self) -> Vec<&'static str> {
        [&TOUCH, &LOOK, &ASK, &FAIL, &STOP_MEMBER].map(|info| info.name).to_vec()
    }

    fn bind(&self, name: &str, fields: &Value, target: &Target) -> Result<Arc<dyn Action>, String> {
        let world = self.world.clone();
        let spec = match name {
            "Touch" => {
                let touch: Touch = Deserialize::deserialize(fields).map_err(readable)?;
                if let Some(Param::Known(version)) = &touch.version
                    && !version.starts_with('v')
                {
                    return Err(format!("`version`: `{version}` is not a version such as v1.33.4+rke2r1"));
                }
                Toy::Touch(touch)
            }
            "Look" => Toy::Look(Deserialize::deserialize(fields).map_err(readable)?),
            "Ask" => Toy::Ask(Deserialize::deserialize(fields).map_err(readable)?),
            "Fail" => Toy::Fail(Deserialize::deserialize(fields).map_err(readable)?),
            "StopMember" => Toy::StopMember(StopMember {}),
            other => return Err(format!("there is no action `{other}`")),
        };
        Ok(Arc::new(ToyAction { spec, world, target: target.clone() }))
    }
}

fn readable(error: serde_json::Error) -> String {
    error.to_string()
}

/// Marks by target and name, with how often each was put there.
#[derive(Debug, Clone, Default)]
pub struct World(Arc<Mutex<BTreeMap<(String, String), u32>>>);

impl World {
    /// How often a mark was put into a target's world.
    pub fn count(&self, target: &Target, mark: &str) -> u32 {
        self.lock().get(&(target.to_string(), mark.to_owned())).copied().unwrap_or(0)
    }

    /// Puts a mark into a target's world; returns how often it has been put there.
    pub fn touch(&self, target: &Target, mark: &str) -> u32 {
        let mut marks = self.lock();
        let count = marks.entry((target.to_string(), mark.to_owned())).or_default();
        *count += 1;
        *count
    }

    /// Takes a mark out of a target's world.
    pub fn forget(&self, target: &Target, mark: &str) {
        self.lock().remove(&(target.to_string(), mark.to_owned()));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct ToyAction {
    spec: Toy,
    world: World,
    target: Target,
}

impl ToyAction {
    fn facts(&self, mark: &str) -> Facts {
        let version = match &self.spec {
            Toy::Touch(Touch { version: Some(Param::Known(version)), .. }) => version.as_str(),
            _ => "v0.0.0+rke2r1",
        };
        Facts::from([
            ("mark".to_owned(), Value::from(mark)),
            ("version".to_owned(), Value::from(version)),
            ("count".to_owned(), Value::from(self.world.count(&self.target, mark))),
        ])
    }

    fn mark(&self) -> Result<String, Failure> {
        let mark = match &self.spec {
            Toy::Touch(Touch { mark, .. }) | Toy::Look(Look { mark }) => mark.get(),
            Toy::Ask(_) | Toy::Fail(_) => return Ok("failed".to_owned()),
            Toy::StopMember(_) => return Ok("member-stopped".to_owned()),
        };
        mark.cloned().map_err(|error| Failure::permanent(error.to_string()))
    }
}

#[async_trait]
impl Action for ToyAction {
    async fn probe(&self, _context: &Context) -> Result<Probe, Failure> {
        let mark = self.mark()?;
        let wanted = match &self.spec {
            Toy::Fail(Fail { times }) => *times.get().map_err(|error| Failure::permanent(error.to_string()))? + 1,
            _ => 1,
        };
        if self.world.count(&self.target, &mark) >= wanted {
            return Ok(Probe::Satisfied(self.facts(&mark)));
        }
        Ok(Probe::pending(format!("`{mark}` is not there")))
    }

    async fn apply(&self, _context: &Context) -> Result<Applied, Failure> {
        let count = self.world.touch(&self.target, &self.mark()?);
        match &self.spec {
            Toy::Fail(Fail { times: Param::Known(times) }) if count <= *times => {
                Err(Failure::transient(format!("attempt {count} fails, as asked")))
            }
            _ => Ok(Applied::default()),
        }
    }
}
