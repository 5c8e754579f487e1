//! `mttr`: how long recoveries took, over the runs of each cluster.

use rke2flow_engine::history::Mttr;
use serde_json::json;

use super::{print, print_json};
use crate::args::{Global, MttrArgs, Output};
use crate::exit::{Exit, Outcome, Problem};
use crate::{past, place};

/// Prints the times to recover of every cluster that was ever worked on from this state directory, or of one.
pub fn mttr(global: &Global, args: &MttrArgs) -> Outcome {
    let kept = past::kept(global)?;
    for note in &kept.notes {
        eprintln!("note: {note}");
    }
    let mttr = Mttr::of(&kept, args.name.as_deref(), args.last as usize);
    if mttr.clusters.is_empty()
        && let Some(name) = &args.name
        && !kept.entries.is_empty()
    {
        let mut known: Vec<&str> = kept.entries.iter().map(|entry| entry.cluster.as_str()).collect();
        known.sort_unstable();
        known.dedup();
        return Err(Problem::bad_input(format!("no run on a cluster named {name} has ended"))
            .observed(format!("runs have ended on {}", known.join(", ")))
            .next("rke2flow mttr"));
    }
    match global.output {
        Output::Json => print_json(&json!(mttr)),
        Output::Dot => {
            return Err(
                Problem::bad_input("times to recover have no dot form").next("rke2flow mttr -o text|json|markdown")
            );
        }
        Output::Text | Output::Markdown if mttr.clusters.is_empty() => {
            let runs = place::state_dir(global)?.join("runs");
            print(&format!(
                "no run has ended in {} yet: there is nothing to tell\nnext: rke2flow rehearse rollback   (needs no \
                 cluster, and does not count)",
                runs.display()
            ));
        }
        Output::Text => print(&mttr.to_text()),
        Output::Markdown => print(&mttr.to_markdown()),
    }
    Ok(Exit::Done)
}
