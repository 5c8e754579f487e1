//! `init`: writes a cluster file from what a cluster, a kubeconfig or OpenTofu's outputs say.

mod api;
mod found;
mod server;
mod text;
mod tofu;

use std::path::{Path, PathBuf};

use rke2flow_engine::cluster;
use rke2flow_engine::source::SourceText;

use self::found::Found;
use super::block_on;
use crate::args::{Global, InitArgs, InitSource};
use crate::exit::{Exit, Outcome, Problem};

/// Where the cluster file goes when nothing is said.
const HERE: &str = "cluster.ron";

/// Looks, writes the file and says what comes next. Never writes over a file without `--force`.
pub fn init(global: &Global, args: &InitArgs) -> Outcome {
    let path = global.cluster.clone().unwrap_or_else(|| PathBuf::from(HERE));
    if path.exists() && !args.force {
        return Err(Problem::bad_input(format!("{} is there already: nothing was written", path.display()))
            .next("rke2flow init … --cluster OTHER.ron\nrke2flow init … --force   (replaces it)"));
    }
    let directory = std::path::absolute(&path).ok().and_then(|path| path.parent().map(Path::to_owned));
    let directory = directory.unwrap_or_default();
    let mut found = look(args, &directory)?;
    found.name = name(args, &found, &directory);
    let text = text::of(&found);
    check(&path, &directory, &text)?;
    std::fs::write(&path, &text)
        .map_err(|error| Problem::bad_input(format!("cannot write {}", path.display())).observed(error))?;
    let (servers, agents) = found.counts();
    eprintln!("{}: {servers} servers, {agents} agents", path.display());
    for note in &found.notes {
        eprintln!("note: {note}");
    }
    let chosen = if global.cluster.is_some() { format!(" --cluster {}", path.display()) } else { String::new() };
    eprintln!("next: read it, then\n      rke2flow trust{chosen}\n      rke2flow doctor{chosen}");
    Ok(Exit::Done)
}

fn look(args: &InitArgs, directory: &Path) -> Result<Found, Problem> {
    let place = args.from.get(1).map(String::as_str);
    let source = args.from.first().map(String::as_str).unwrap_or_default();
    let mut looked = None;
    match InitSource::read(source) {
        Some(InitSource::Ssh) => {
            let host = place.ok_or_else(|| usage("--from ssh needs a host: [USER@]HOST[:PORT]"))?;
            block_on(async {
                looked = Some(server::look(args, host, directory).await?);
                Ok(Exit::Done)
            })?;
        }
        Some(InitSource::Kubeconfig) => {
            let file =
                place.map(PathBuf::from).or_else(kubeconfig).ok_or_else(|| usage("--from kubeconfig needs a file"))?;
            block_on(async {
                looked = Some(api::look_by_file(args, &file).await?);
                Ok(Exit::Done)
            })?;
        }
        Some(InitSource::TofuOutput) => {
            let file = place.ok_or_else(|| usage("--from tofu-output needs a file, `-` for standard input"))?;
            looked = Some(tofu::look(args, file)?);
        }
        None => return Err(usage(&format!("`--from {source}` is not known"))),
    }
    let found = looked.expect("each source has either found something or refused");
    if found.counts().0 == 0 {
        return Err(
            Problem::new(Exit::Failed, "no server was found: nothing was written").observed(found.notes.join("\n"))
        );
    }
    Ok(found)
}

/// What was written must be what the other commands can read.
fn check(path: &Path, directory: &Path, text: &str) -> Result<(), Problem> {
    let source = SourceText::new(path.display().to_string(), text);
    match cluster::parse(source, directory) {
        Ok(_) => Ok(()),
        Err(diagnostics) => Err(Problem::new(Exit::Failed, "what was found does not make a cluster file")
            .observed(diagnostics)
            .next("write it by hand: runbooks/cluster.example.ron of the project shows every field")),
    }
}

/// The word of the person, else of the cluster, else of the directory.
fn name(args: &InitArgs, found: &Found, directory: &Path) -> String {
    let last = directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let words = [args.name.clone().unwrap_or_default(), found.name.clone(), last];
    words.iter().map(|word| found::name_of(word)).find(|word| !word.is_empty()).unwrap_or_else(|| "cluster".to_owned())
}

fn kubeconfig() -> Option<PathBuf> {
    let set = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
    set.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".kube/config")))
}

fn usage(what: &str) -> Problem {
    Problem::bad_input(what).next(
        "rke2flow init --from ssh root@10.0.0.10\nrke2flow init --from kubeconfig [FILE]\ntofu output -json | rke2flow init \
         --from tofu-output -",
    )
}
