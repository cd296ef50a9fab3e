//! The corpus as it lies in `bundle-spec`: written by the generator, read by the tests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::draft::Draft;
use super::good::GOOD;
use super::keys::allowed_signers;
use super::table::{Attack, By, Class, Found, archive_attacks, attacks};

/// Files of the corpus by their path below `bundle-spec`, and links with their targets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Corpus {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) links: BTreeMap<String, String>,
}

/// What the generator writes.
pub(crate) fn generated() -> Corpus {
    let mut corpus = Corpus::default();
    corpus.files.insert("attacks/keys/allowed_signers".into(), allowed_signers().into_bytes());
    for good in GOOD {
        let about = json!({"exit": 0, "why": good.why});
        corpus.add(&format!("good/{}", good.name), (good.make)(), &about);
    }
    for attack in attacks() {
        corpus.add(&format!("attacks/{}", attack.name), attack.make(), &expected(&attack));
    }
    for attack in archive_attacks() {
        let folder = format!("attacks/{}", attack.name);
        let about = json!({
            "exit": 3,
            "class": word(attack.class),
            "found": if attack.in_head { "head" } else { "layers" },
            "reason": attack.reason,
            "rule": attack.rule,
            "sealed": false,
            "why": attack.why,
        });
        corpus.files.insert(format!("{folder}/{}", attack.file()), attack.make());
        corpus.files.insert(format!("{folder}/expected.json"), format!("{about:#}\n").into_bytes());
    }
    corpus
}

/// What lies there.
pub(crate) fn committed() -> Corpus {
    let mut corpus = Corpus::default();
    for top in ["good", "attacks"] {
        for entry in walkdir::WalkDir::new(spec().join(top)) {
            let entry = entry.expect("the corpus can be read");
            let path = entry.path().strip_prefix(spec()).unwrap().to_str().unwrap().to_owned();
            if entry.path_is_symlink() {
                corpus.links.insert(path, fs::read_link(entry.path()).unwrap().to_str().unwrap().to_owned());
            } else if entry.file_type().is_file() && path != "attacks/README.md" {
                corpus.files.insert(path, fs::read(entry.path()).unwrap());
            }
        }
    }
    corpus
}

/// Puts a bundle of the corpus (`good/NAME`, `attacks/NAME`) into `at`, and returns its directory.
pub(crate) fn lay_out(name: &str, at: &Path) -> PathBuf {
    let bundle = at.join("bundle");
    let from = spec().join(name);
    let copied = Command::new("cp").arg("-R").arg(from.join("bundle")).arg(&bundle).status().unwrap();
    assert!(copied.success(), "{name}");
    if from.join("elsewhere").exists() {
        let copied = Command::new("cp").arg("-R").arg(from.join("elsewhere")).arg(at).status().unwrap();
        assert!(copied.success(), "{name}");
    }
    if from.join("make.sh").exists() {
        let made = Command::new("sh").arg("-eu").arg(from.join("make.sh")).current_dir(&bundle).status().unwrap();
        assert!(made.success(), "{name}/make.sh");
    }
    bundle
}

impl Corpus {
    /// Replaces what lies there.
    pub(crate) fn write(&self) {
        let old = committed();
        for path in old.files.keys().chain(old.links.keys()) {
            if !self.files.contains_key(path) && !self.links.contains_key(path) {
                fs::remove_file(spec().join(path)).unwrap();
            }
        }
        for (path, bytes) in &self.files {
            if old.files.get(path) != Some(bytes) {
                fs::create_dir_all(spec().join(path).parent().unwrap()).unwrap();
                fs::write(spec().join(path), bytes).unwrap();
            }
        }
        for (path, target) in &self.links {
            if old.links.get(path) != Some(target) {
                fs::create_dir_all(spec().join(path).parent().unwrap()).unwrap();
                symlink(target, spec().join(path)).unwrap();
            }
        }
    }

    fn add(&mut self, name: &str, draft: Draft, about: &serde_json::Value) {
        let mut script = String::new();
        for (path, bytes) in &draft.files {
            if bytes.len() > LARGEST || !is_portable(path) {
                let _ = writeln!(script, "{}", shell_file(path, bytes));
            } else {
                self.files.insert(normal(&format!("{name}/bundle/{path}")), bytes.clone());
            }
        }
        for (path, target) in draft.links {
            self.links.insert(format!("{name}/bundle/{path}"), target);
        }
        // A later line may make what an earlier one would write at length.
        let made = draft.script.iter().find_map(|line| line.split_once(" > ").map(|(_, path)| path.to_owned()));
        script = script
            .lines()
            .filter(|line| made.as_ref().is_none_or(|made| !line.ends_with(&format!("> '{made}'"))))
            .fold(String::new(), |mut text, line| {
                let _ = writeln!(text, "{line}");
                text
            });
        for line in &draft.script {
            let _ = writeln!(script, "{line}");
        }
        if !script.is_empty() {
            let text = format!("# Run in a copy of bundle/: makes what cannot be kept in a repository.\n{script}");
            self.files.insert(format!("{name}/make.sh"), text.into_bytes());
        }
        self.files.insert(format!("{name}/expected.json"), format!("{about:#}\n").into_bytes());
    }
}

pub(crate) fn spec() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bundle-spec")
}

fn expected(attack: &Attack) -> serde_json::Value {
    json!({
        "exit": 3,
        "class": word(attack.class),
        "found": match attack.found {
            Found::Head => "head",
            Found::Layers => "layers",
        },
        "reason": attack.reason,
        "rule": attack.rule,
        "sealed": attack.by == By::Signer,
        "why": attack.why,
    })
}

fn word(class: Class) -> &'static str {
    match class {
        Class::Damaged => "damaged",
        Class::Untrusted => "untrusted",
        Class::Refused => "refused",
    }
}

/// `a/bundle/../b` is `a/b`.
fn normal(path: &str) -> String {
    path.replace("/bundle/../", "/")
}

fn is_portable(path: &str) -> bool {
    path.bytes().all(|c| c.is_ascii_alphanumeric() || b"._/- ".contains(&c))
}

/// A line of shell that writes a file: long runs of one byte by their length, the rest as it is.
fn shell_file(path: &str, bytes: &[u8]) -> String {
    let mut parts = Vec::new();
    let mut plain = Vec::new();
    for run in bytes.chunk_by(|a, b| a == b) {
        if run.len() < LONG_RUN {
            plain.extend_from_slice(run);
            continue;
        }
        if !plain.is_empty() {
            parts.push(format!("printf {}", octal(&std::mem::take(&mut plain))));
        }
        parts.push(format!("head -c {} /dev/zero | tr '\\000' {}", run.len(), octal(&run[..1])));
    }
    if !plain.is_empty() || parts.is_empty() {
        parts.push(format!("printf {}", octal(&plain)));
    }
    let path =
        if is_portable(path) { format!("'{path}'") } else { format!("\"$(printf {})\"", octal(path.as_bytes())) };
    format!("{{ {}; }} > {path}", parts.join("; "))
}

/// A word for printf(1) and tr(1).
fn octal(bytes: &[u8]) -> String {
    let mut text = String::from("'");
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b" .,:;/_+=-{}[]\"".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "\\{byte:03o}");
        }
    }
    text + "'"
}

/// Larger files are made by make.sh.
const LARGEST: usize = 64 << 10;
const LONG_RUN: usize = 1024;
