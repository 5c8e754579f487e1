//! `runbooks`: what is embedded in this binary.

use crate::shim_runbooks as embedded;
use serde_json::json;

use super::{print, print_json};
use crate::args::{Global, Output, RunbooksArgs};
use crate::exit::{Exit, Outcome};
use crate::{reading, show};

/// Lists the embedded runbooks, or prints the text of one.
pub fn runbooks(global: &Global, args: &RunbooksArgs) -> Outcome {
    if let Some(name) = &args.name {
        print(reading::find_runbook(name)?.source.text());
        return Ok(Exit::Done);
    }
    if global.output == Output::Json {
        let list: Vec<_> = embedded::all().iter().map(|book| json!({"name": book.name, "about": book.about})).collect();
        print_json(&json!({"schema": "rke2flow.dev/runbooks/v1", "runbooks": list}));
        return Ok(Exit::Done);
    }
    let rows = embedded::all().iter().map(|book| vec![book.name.to_owned(), book.about.to_owned()]);
    print(&show::table(&["NAME", "ABOUT"], rows));
    Ok(Exit::Done)
}
