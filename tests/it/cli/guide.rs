//! The guides: `sealift help TOPIC` prints them, README links to them, and what they name exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

use super::reference::{COMMANDS, help};

/// Options of other programs, and options that the help leaves out, with the reason.
const OTHER_OPTIONS: [(&str, &str); 5] = [
    ("--parallel", "curl's"),
    ("--sign-by", "skopeo's; sealift refuses it and says what to do"),
    ("--require-signed", "skopeo's; sealift refuses it"),
    ("--debug", "skopeo's, as in its table"),
    ("--version", "of the program alone"),
];

#[test]
fn each_topic_prints_its_page() {
    let desk = support::desk!();
    for (topic, page) in guides() {
        let printed = desk.sealift(&["help", &topic]).success().stdout();
        assert_eq!(printed, page, "sealift help {topic}");
        assert!(page.starts_with("# ") && page.contains("\n\nAfter this page you "), "{topic} has no opening");
    }
}

#[test]
fn help_lists_commands_and_topics() {
    let desk = support::desk!();
    let list = help(&desk, &["help"]);
    assert_eq!(list, help(&desk, &["--help"]));
    for (topic, page) in guides() {
        let title = page.lines().next().unwrap().trim_start_matches("# ");
        assert!(list.lines().any(|line| line.trim().starts_with(&topic) && line.ends_with(title)), "{topic}: {list}");
    }
    assert!(COMMANDS.iter().all(|command| list.contains(&format!("\n  {command} "))), "{list}");
}

#[test]
fn help_of_a_command_is_that_of_its_help_option() {
    let desk = support::desk!();
    for command in COMMANDS {
        assert_eq!(help(&desk, &["help", command]), help(&desk, &[command, "--help"]));
    }
}

#[test]
fn an_unknown_topic_is_wrong_usage_and_lists_the_topics() {
    let run = support::desk!().sealift(&["help", "registrys"]);
    let said = run.code(2).stderr();
    for topic in guides().keys().map(String::as_str).chain(COMMANDS) {
        assert!(said.contains(topic), "{topic} is not in {said}");
    }
}

#[test]
fn manual_page_and_completions_know_the_topics() {
    let desk = support::desk!();
    desk.sealift(&["man", "pages"]).success();
    let page = fs::read_to_string(desk.path().join("pages/sealift-help.1")).unwrap();
    let script = desk.sealift(&["completions", "bash"]).success().stdout();
    for topic in guides().keys() {
        assert!(page.contains(topic.as_str()), "{topic} is not in {page}");
        assert!(script.contains(&format!("{topic} ")), "{topic} is not in the completions");
    }
}

#[test]
fn the_readme_is_short_and_links_to_each_guide() {
    let readme = read("README.md");
    for topic in guides().keys() {
        assert!(readme.contains(&format!("](src/guide/{topic}.md)")), "README does not link to {topic}");
    }
    assert!(readme.lines().count() <= 250);
    let walks = readme.split("## Walks\n").nth(1).unwrap().split("\n## ").next().unwrap();
    for walk in walks.split("\n### ").skip(1) {
        let lines = walk.lines().filter(|line| !line.is_empty()).count();
        assert!(lines <= 1 + 12 && walk.contains("](src/guide/"), "{lines} lines, or no link: {walk}");
    }
}

#[test]
fn every_relative_link_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut wrong = Vec::new();
    for file in documents() {
        let text = read(&file);
        for target in link.captures_iter(&text).map(|found| found[1].to_owned()).filter(|link| !link.contains("://")) {
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path =
                if path.is_empty() { root().join(&file) } else { root().join(&file).parent().unwrap().join(path) };
            let found = path.exists() && (anchor.is_empty() || anchors(&path).contains(anchor));
            if !found {
                wrong.push(format!("{file}: {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_option_in_a_guide_is_in_the_help() {
    let desk = support::desk!();
    let option = Regex::new(r"(?:^|[\s`'(])(--[a-z][a-z0-9.-]*[a-z0-9])").unwrap();
    let known: BTreeMap<&str, BTreeSet<String>> =
        COMMANDS.iter().map(|command| (*command, options(&option, &help(&desk, &[command, "--help"])))).collect();
    let all: BTreeSet<&String> = known.values().flatten().collect();
    let mut wrong = Vec::new();
    for file in documents() {
        let text = read(&file);
        for name in options(&option, &text) {
            let other = OTHER_OPTIONS.iter().any(|(other, _)| *other == name) || is_of_a_script(&text, &name);
            if !all.contains(&name) && !other {
                wrong.push(format!("{file}: {name}"));
            }
        }
        for (command, line) in commands(&text) {
            match known.get(command.as_str()) {
                Some(own) => {
                    wrong.extend(options(&option, &line).difference(own).map(|o| format!("{file}: {line}: {o}")))
                }
                None => wrong.push(format!("{file}: {line}: there is no such command")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The text of each guide by its topic, as the files say.
fn guides() -> BTreeMap<String, String> {
    let files = fs::read_dir(root().join("src/guide")).unwrap().map(|entry| entry.unwrap().path());
    let guides: BTreeMap<_, _> = files
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap()))
        .collect();
    assert!(guides.len() >= 6);
    guides
}

/// README, the guides and what stands beside README for people.
fn documents() -> Vec<String> {
    let guides = guides().into_keys().map(|topic| format!("src/guide/{topic}.md"));
    guides.chain(["README.md", "SECURITY.md", "CONTRIBUTING.md"].map(String::from)).collect()
}

/// The lines of code blocks that run sealift, each with its command.
fn commands(text: &str) -> Vec<(String, String)> {
    let code = text.split("```").skip(1).step_by(2);
    let call = Regex::new(r"(?m)^(?:\$ )?(?:.*[ |])?sealift ([a-z]+)(.*)$").unwrap();
    code.flat_map(|block| call.captures_iter(block).map(|c| (c[1].to_owned(), c[0].to_owned())).collect::<Vec<_>>())
        .collect()
}

fn options(option: &Regex, text: &str) -> BTreeSet<String> {
    option.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

/// An option that only lines with `scripts/` or `cargo` name.
fn is_of_a_script(text: &str, name: &str) -> bool {
    text.lines().filter(|line| line.contains(name)).all(|line| line.contains("scripts/") || line.contains("cargo "))
}

/// The anchors of the headings of a file, as the usual hosts make them.
fn anchors(path: &Path) -> BTreeSet<String> {
    let keep = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let headings = fs::read_to_string(path).unwrap();
    let headings = headings.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| line.trim_start_matches('#').trim().to_lowercase().chars().filter(keep).collect::<String>())
        .map(|heading| heading.replace(' ', "-"))
        .collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
