//! `completions` and `man`: what describes the command line itself.

use clap::CommandFactory;

use super::print;
use crate::args::Cli;
use crate::exit::{Exit, Outcome, Problem};

/// Prints the completion script of a shell.
pub fn completions(shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "rke2flow", &mut script);
    print(&String::from_utf8_lossy(&script));
    Ok(Exit::Done)
}

/// Prints the manual page, subcommands included.
pub fn man() -> Outcome {
    let mut page = Vec::new();
    let mut command = Cli::command();
    command.build();
    let failed = |error| Problem::new(Exit::Failed, "cannot render the manual page").observed(error);
    clap_mangen::Man::new(command.clone()).render(&mut page).map_err(failed)?;
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        clap_mangen::Man::new(subcommand.clone()).render(&mut page).map_err(failed)?;
    }
    print(&String::from_utf8_lossy(&page));
    Ok(Exit::Done)
}
