//! `sealift man` and `sealift completions`: what is known of the command line, for other programs.

use std::io;
use std::path::{Path, PathBuf};

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
    write_pages(directory)
        .map_err(|e| Error::io(format!("cannot write manual pages into {}", directory.display()), e))?;
    if !quiet {
        note(&format!("manual pages are in {}: man -l {}", directory.display(), directory.join("sealift.1").display()));
    }
    Ok(())
}

fn write_pages(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut all = Arguments::command().disable_help_subcommand(true);
    all.build();
    for command in std::iter::once(&all).chain(all.get_subcommands()) {
        write_page(command.clone(), directory)?;
    }
    Ok(())
}

/// One page. The examples are ours to write: clap's lines are filled, and the commands in them hyphenated.
fn write_page(command: clap::Command, directory: &Path) -> io::Result<()> {
    let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let whole = command.has_subcommands();
    let source = concat!("sealift ", env!("CARGO_PKG_VERSION"));
    let page = clap_mangen::Man::new(command).source(source).manual("sealift");
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if whole {
        page.render_subcommands_section(&mut text)?;
    }
    text.extend_from_slice(as_it_is("EXAMPLES", &examples).as_bytes());
    std::fs::write(directory.join(page.get_filename()), text)
}

/// A section whose lines stay as they are (groff_man(7): a leading dot or quote would be a request).
fn as_it_is(title: &str, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let line = |line: &str| {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
        format!("{guard}{line}\n")
    };
    format!(".SH {title}\n.nf\n{}.fi\n", text.lines().map(line).collect::<String>())
}

pub(super) fn run_completions(command: &Completions) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(command.shell, &mut Arguments::command(), "sealift", &mut script);
    print_data(&String::from_utf8_lossy(&script))
}
