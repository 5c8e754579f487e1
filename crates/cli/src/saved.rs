//! A plan in a file: `plan --out` and `plan -o json` write it, `run --plan` applies exactly this or refuses.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;
use rke2flow_engine::plan::{Forecast, PLAN_SCHEMA, Plan};
use rke2flow_engine::record::Source;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::args::Making;
use crate::blast::BlastRadius;
use crate::exit::{Exit, Problem};
use crate::fingerprint::{self, HostPrints};
use crate::making::{Asked, Made};
use crate::place;
use crate::probing::{Finding, Verdict};

/// A plan, what it was made of, and what was seen then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedPlan {
    schema: String,
    /// Version of rke2flow.
    tool: String,
    made_at: Timestamp,
    who: String,
    runbook: Source,
    cluster: Source,
    asked: Asked,
    plan: Plan,
    /// Whether the world was looked at; not with `--offline`.
    looked: bool,
    findings: Vec<Finding>,
    hosts: HostPrints,
}

/// What was seen of the world.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// What would become of every instance.
    pub findings: Vec<Finding>,
    /// What identifies the state of every host.
    pub hosts: HostPrints,
}

/// What every version of this form has.
#[derive(Deserialize)]
struct Head {
    schema: String,
    #[serde(default)]
    tool: String,
}

/// The largest saved plan that is read, in bytes.
const SAVED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How many differences are named before the rest is counted.
const DIFFERENCES_NAMED_MAX: usize = 10;

/// The form without its version.
const PLAN_FORM: &str = "rke2flow.dev/plan/";

impl SavedPlan {
    /// The plan as it is now.
    pub fn of(made: &Made, seen: Option<Seen>) -> Self {
        let looked = seen.is_some();
        let Seen { findings, hosts } = seen.unwrap_or_else(|| Seen { findings: Vec::new(), hosts: HostPrints::new() });
        Self {
            schema: PLAN_SCHEMA.to_owned(),
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            made_at: Timestamp::now(),
            who: place::who(),
            runbook: made.runbook_source(),
            cluster: made.cluster_source(),
            asked: made.asked.clone(),
            plan: made.planned.plan.clone(),
            looked,
            findings,
            hosts,
        }
    }

    /// The document: what a run compares, and beside it what only people and programs read.
    pub fn document(&self, forecast: &Forecast, radius: &BlastRadius) -> Value {
        let mut document = serde_json::to_value(self).expect("a plan is texts, numbers and lists");
        document["forecast"] = json!(forecast);
        document["blast_radius"] = json!(radius);
        if self.looked {
            document["would_run"] = json!(self.findings.iter().any(|finding| finding.verdict != Verdict::Done));
        }
        document
    }

    /// Reads a saved plan.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let problem = |why: String| Problem::bad_input(format!("cannot use the plan {}", path.display())).observed(why);
        if path == Path::new("-") {
            let why = "standard input is for answers at gates; a plan is read from a file";
            return Err(problem(why.to_owned()).next("rke2flow run RUNBOOK --plan FILE"));
        }
        let about = fs::metadata(path).map_err(|error| problem(error.to_string()))?;
        if !about.is_file() {
            return Err(problem("it is not a regular file".to_owned()));
        }
        if about.len() > SAVED_BYTES_MAX {
            return Err(problem(format!("it has {} bytes, more than {SAVED_BYTES_MAX}", about.len())));
        }
        let mut text = String::new();
        let file = File::open(path).map_err(|error| problem(error.to_string()))?;
        file.take(SAVED_BYTES_MAX).read_to_string(&mut text).map_err(|error| problem(error.to_string()))?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Problem> {
        let problem = |why: String| {
            Problem::bad_input(format!("cannot use the plan {}", path.display()))
                .observed(why)
                .next("rke2flow plan RUNBOOK --out FILE")
        };
        let head: Head =
            serde_json::from_str(text).map_err(|error| problem(format!("it is no saved plan: {error}")))?;
        if !head.schema.starts_with(PLAN_FORM) {
            return Err(problem(format!("its schema is {}, and {PLAN_SCHEMA} is expected", head.schema)));
        }
        let here = env!("CARGO_PKG_VERSION");
        let other = |what: String| {
            Problem::new(Exit::Refused, format!("cannot use the plan {}", path.display()))
                .observed(what)
                .next(format!("rke2flow plan RUNBOOK --out {}   (or use the version that made it)", path.display()))
        };
        let writer = if head.tool.is_empty() { "an unknown version" } else { &head.tool };
        if head.schema != PLAN_SCHEMA {
            let what = format!(
                "rke2flow {writer} wrote it in the form {}, and this is {here}, which reads {PLAN_SCHEMA}",
                head.schema
            );
            return Err(other(what));
        }
        if head.tool != here {
            return Err(other(format!("rke2flow {writer} made it, and this is {here}: its actions may be others")));
        }
        serde_json::from_str(text).map_err(|error| problem(format!("it is damaged: {error}")))
    }

    /// What was asked for then, as far as nothing else is asked for now.
    pub fn completed(&self, making: &Making) -> Making {
        let or = |now: &Vec<String>, then: &Vec<String>| if now.is_empty() { then.clone() } else { now.clone() };
        Making {
            runbook: making.runbook.clone(),
            set: or(&making.set, &self.asked.set),
            lost: or(&making.lost, &self.asked.lost),
            init: making.init.clone().or_else(|| self.asked.init.clone()),
            limit: or(&making.limit, &self.asked.limit),
        }
    }

    /// Refuses when the runbook, the cluster file, a parameter or an action's revision is not what it was.
    pub fn must_be_of(&self, made: &Made) -> Result<(), Problem> {
        let mut differs = Vec::new();
        for (what, then, now) in
            [("runbook", &self.runbook, made.runbook_source()), ("cluster file", &self.cluster, made.cluster_source())]
        {
            if then.digest != now.digest {
                differs.push(format!("the {what}: sha256 {} then, {} now", short(&then.digest), short(&now.digest)));
            }
        }
        let (then, now) = (&self.plan, &made.planned.plan);
        let names: std::collections::BTreeSet<&String> = then.params.keys().chain(now.params.keys()).collect();
        let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
        for name in names {
            let (then, now) = (then.params.get(name), now.params.get(name));
            if then != now {
                differs.push(format!("parameter {name}: {} then, {} now", shown(then), shown(now)));
            }
        }
        let (revised, here) = (revisions(then), revisions(now));
        for (action, revision) in &revised {
            if let Some(other) = here.get(action).filter(|other| *other != revision) {
                differs.push(format!("action {action}: revision {revision} then, {other} now"));
            }
        }
        if differs.is_empty() && then != now {
            differs.push("steps, hosts or their order".to_owned());
        }
        self.drift(differs)
    }

    /// Whether the world was looked at.
    pub fn knows_the_world(&self) -> bool {
        self.looked
    }

    /// Refuses when a verdict that was known, or what identifies a thing, is another one now.
    pub fn must_agree_with(&self, now: &Seen) -> Result<(), Problem> {
        let mut differs = fingerprint::differences(&self.hosts, &now.hosts);
        let mut by_instance: BTreeMap<_, &Finding> = BTreeMap::new();
        by_instance.extend(now.findings.iter().map(|finding| (&finding.instance, finding)));
        for then in &self.findings {
            let Some(now) = by_instance.get(&then.instance) else { continue };
            if is_known(then.verdict) && now.verdict != then.verdict {
                differs.push(format!("{}: {} then, {} now", then.instance, then.verdict.words(), now.verdict.words()));
            }
            for (name, value) in &then.fingerprint {
                if let Some(other) = now.fingerprint.get(name).filter(|other| *other != value) {
                    differs.push(format!("{}: {name} {value} then, {other} now", then.instance));
                }
            }
        }
        self.drift(differs)
    }

    fn drift(&self, mut differs: Vec<String>) -> Result<(), Problem> {
        if differs.is_empty() {
            return Ok(());
        }
        let more = differs.len().saturating_sub(DIFFERENCES_NAMED_MAX);
        differs.truncate(DIFFERENCES_NAMED_MAX);
        if more > 0 {
            differs.push(format!("and {more} more"));
        }
        let what = format!("the plan that {} saved at {} does not fit any more", self.who, self.made_at);
        let next = format!("rke2flow plan {}{} --out FILE", self.plan.runbook, self.asked.options());
        Err(Problem::new(Exit::Refused, what).observed(differs.join("\n")).next(next))
    }
}

fn is_known(verdict: Verdict) -> bool {
    !matches!(verdict, Verdict::CannotTell | Verdict::KnownAfter)
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// The revision of every action of a plan.
pub fn revisions(plan: &Plan) -> BTreeMap<String, u32> {
    let actions = plan.steps.iter().flat_map(|step| step.done_when.iter().chain(&step.actions));
    actions.map(|action| (action.name.clone(), action.revision)).collect()
}

/// Refuses a place where no plan can be saved, before anything is looked at.
pub fn must_be_writable(path: &Path) -> Result<(), Problem> {
    let is_file = fs::metadata(path).map_or(true, |about| about.is_file());
    if is_file && path != Path::new("-") {
        return Ok(());
    }
    Err(Problem::bad_input(format!("cannot save the plan as {}", path.display()))
        .observed("it is not a regular file")
        .next("rke2flow plan … --out FILE\nrke2flow plan … -o json   (the same, on standard output)"))
}

/// Writes the document so that it is there whole or not at all, for its owner alone.
pub fn write(path: &Path, document: &Value) -> Result<(), Problem> {
    let written = replace(path, format!("{document:#}\n").as_bytes());
    written.map_err(|error| Problem::bad_input(format!("cannot save the plan as {}", path.display())).observed(error))
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it has no file name"))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unfinished = directory.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        File::open(directory)?.sync_all()
    })();
    if written.is_err() {
        // What is left of it is of no use; the first error is the one that counts.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

#[cfg(test)]
mod tests;
