//! `sealift man` and `sealift completions`: what is known of the command line, for other programs.

use std::path::PathBuf;

use clap::CommandFactory;

use super::Arguments;
use super::output::{note, print_data};
use crate::error::{Error, Result};

/// Write the manual pages, one a command
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  sealift man ~/.local/share/man/man1 && man sealift-export")]
pub(super) struct Man {
    /// The directory to write them into; it is made if it is missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sealift completions bash > ~/.local/share/bash-completion/completions/sealift
  sealift completions zsh > ~/.zfunc/_sealift
  sealift completions fish > ~/.config/fish/completions/sealift.fish")]
pub(super) struct Completions {
    /// Which shell
    shell: clap_complete::Shell,
}

pub(super) fn run_man(command: &Man, quiet: bool) -> Result<()> {
    let directory = &command.directory;
    let written = std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Arguments::command().disable_help_subcommand(true), directory));
    written.map_err(|e| Error::io(format!("cannot write manual pages into {}", directory.display()), e))?;
    if !quiet {
        note(&format!("manual pages are in {}: man -l {}", directory.display(), directory.join("sealift.1").display()));
    }
    Ok(())
}

pub(super) fn run_completions(command: &Completions) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(command.shell, &mut Arguments::command(), "sealift", &mut script);
    print_data(&String::from_utf8_lossy(&script))
}
