//! `runbooks`: what is embedded in this binary.

use rke2flow_steps::runbooks::RUNBOOKS;
use serde_json::json;

use super::{print, print_json};
use crate::args::{Global, Output, RunbooksArgs};
use crate::exit::{Exit, Outcome, Problem};
use crate::{reading, show};

/// Lists the embedded runbooks, or prints the text of one.
pub fn runbooks(global: &Global, args: &RunbooksArgs) -> Outcome {
    if let Some(name) = &args.name {
        print(reading::find_runbook(name)?.source.text());
        return Ok(Exit::Done);
    }
    let about = RUNBOOKS.iter().map(|embedded| {
        let runbook = reading::read_runbook(&reading::of_binary(embedded))?;
        Ok((embedded.name, runbook.about))
    });
    let list = about.collect::<Result<Vec<(&str, String)>, Problem>>()?;
    if global.output == Output::Json {
        let list: Vec<_> = list.iter().map(|(name, about)| json!({"name": name, "about": about})).collect();
        print_json(&json!({"schema": "rke2flow.dev/runbooks/v1", "runbooks": list}));
        return Ok(Exit::Done);
    }
    print(&show::table(&["NAME", "ABOUT"], list.into_iter().map(|(name, about)| vec![name.to_owned(), about])));
    Ok(Exit::Done)
}
