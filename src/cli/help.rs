//! `sealift help`: the list of commands and guides, the help of a command, or a guide.

use clap::Parser;
use clap::builder::{PossibleValue, PossibleValuesParser};

use super::Arguments;
use super::output::print_data;
use crate::error::Result;
use crate::guide::{self, GUIDES};

/// Print the help of a command, or a guide
///
/// The guides explain what the help of a command cannot. They are part of the program and need no internet. Without
/// TOPIC the commands and the guides are listed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sealift help
  sealift help export
  sealift help registries")]
pub(super) struct Help {
    /// A guide or a command
    #[arg(value_name = "TOPIC", value_parser = topics())]
    topic: Option<String>,
}

/// The commands that `sealift help` knows: a test compares them with those of the program, from which clap cannot
/// take them while it builds the same list.
const COMMANDS: [&str; 12] = [
    "keygen",
    "export",
    "verify",
    "inspect",
    "import",
    "sync",
    "serve",
    "login",
    "logout",
    "man",
    "completions",
    "help",
];

fn topics() -> PossibleValuesParser {
    let guides = GUIDES.iter().map(|guide| PossibleValue::new(guide.topic).help(guide.title()));
    let commands = COMMANDS.map(|command| PossibleValue::new(command).help(format!("sealift {command} --help")));
    PossibleValuesParser::new(guides.chain(commands))
}

/// The guides, one a line, for the end of the help of the program.
pub(super) fn list_of_guides() -> String {
    let line = |guide: &guide::Guide| format!("\n  {:<12}{}", guide.topic, guide.title());
    format!("Guides (sealift help TOPIC):{}", GUIDES.iter().map(line).collect::<String>())
}

pub(super) fn run(command: &Help) -> Result<()> {
    let topic = command.topic.as_deref();
    if let Some(guide) = topic.and_then(guide::find) {
        return print_data(guide.text);
    }
    // clap writes the help, with its width and colours, as the answer to --help.
    let arguments = ["sealift"].into_iter().chain(topic).chain(["--help"]);
    match Arguments::try_parse_from(arguments) {
        Err(help) => drop(help.print()),
        Ok(_) => unreachable!("--help is no command"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn help_knows_every_command_and_no_guide_has_the_name_of_one() {
        let program = Arguments::command();
        let commands: Vec<&str> = program.get_subcommands().map(clap::Command::get_name).collect();
        assert_eq!(commands, COMMANDS);
        assert!(GUIDES.iter().all(|guide| !COMMANDS.contains(&guide.topic)));
    }
}
