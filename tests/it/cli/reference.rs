//! The whole command line as a snapshot: nothing in it changes unseen.

use std::fs;

use rstest::rstest;
use support::Desk;

pub(crate) const COMMANDS: [&str; 12] = [
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

#[test]
fn the_reference_is_this() {
    let desk = support::desk!();
    let mut reference = format!("$ sealift --help\n{}", help(&desk, &["--help"]));
    for command in COMMANDS {
        reference += &format!("\n\n$ sealift {command} --help\n{}", help(&desk, &[command, "--help"]));
    }
    assert!(reference.lines().all(|line| line.chars().count() <= 120), "{reference}");
    insta::assert_snapshot!(reference);
}

#[test]
fn every_command_is_in_the_reference_and_shows_an_example() {
    let desk = support::desk!();
    let top = help(&desk, &["--help"]);
    let listed = top.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let listed: Vec<&str> = listed
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.trim().split(' ').next().unwrap())
        .collect();
    assert_eq!(listed, COMMANDS);
    for command in COMMANDS.iter().filter(|command| **command != "logout") {
        let help = help(&desk, &[command, "--help"]);
        assert!(help.contains("Example") && help.contains(&format!("sealift {command} ")), "{help}");
    }
}

#[test]
fn the_top_help_moves_one_image_from_end_to_end() {
    let help = help(&support::desk!(), &["--help"]);
    for word in ["sealift keygen", "sealift export", "sealift import", "allowed_signers", "Exit codes"] {
        assert!(help.contains(word), "{word} is not in\n{help}");
    }
}

#[test]
fn there_is_a_manual_page_a_command() {
    let desk = support::desk!();
    desk.sealift(&["man", "pages/man1"]).success();
    for command in COMMANDS {
        let page = fs::read_to_string(desk.path().join(format!("pages/man1/sealift-{command}.1"))).unwrap();
        assert!(page.contains(".SH") && page.contains(command), "{page}");
    }
    assert!(fs::read_to_string(desk.path().join("pages/man1/sealift.1")).unwrap().contains("allowed_signers"));
}

#[rstest]
#[case("bash")]
#[case("zsh")]
#[case("fish")]
fn completions_know_the_commands(#[case] shell: &str) {
    let script = support::desk!().sealift(&["completions", shell]).success().stdout();
    assert!(COMMANDS.iter().all(|command| script.contains(command)), "{script}");
}

#[test]
fn bash_loads_its_completions_and_completes_a_command() {
    let desk = support::desk!();
    let script = desk.sealift(&["completions", "bash"]).success().stdout();
    fs::write(desk.path().join("completions"), script).unwrap();
    let line = "source ./completions; COMP_WORDS=(sealift exp); COMP_CWORD=1; _sealift sealift exp sealift; \
                test \"${COMPREPLY[*]}\" = export";
    desk.shell(".", &format!("bash -euc '{line}'"));
}

#[test]
fn examples_in_a_manual_page_are_neither_filled_nor_hyphenated() {
    let desk = support::desk!();
    desk.sealift(&["man", "pages"]).success();
    let page = fs::read_to_string(desk.path().join("pages/sealift-export.1")).unwrap();
    let (_, examples) = page.split_once(".SH EXAMPLES\n.nf\n").unwrap();
    assert!(
        examples.contains("\n  sealift export \\-\\-from images.txt \\-\\-output usb/all \\-\\-key release.key\n"),
        "{examples}"
    );
    assert!(examples.ends_with(".fi\n"), "{examples}");
}

/// The help that `arguments` print on a terminal of 100 columns.
pub(crate) fn help(desk: &Desk, arguments: &[&str]) -> String {
    desk.sealift_with(arguments, &[("COLUMNS", "100")], "").success().stdout()
}
