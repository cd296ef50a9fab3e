//! Whatever a bundle says, and wherever it says it: nothing that the program prints is a line of a stranger's, or acts
//! on a terminal.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::corpus::spec;
use super::draft::{Draft, OCI_INDEX, OCI_MANIFEST, descriptor, index};
use super::good::{LAYER, ONE, minimal};

/// As it stands in JSON: a line that looks like ours, one that clears the screen, one that turns text around.
const EVIL: &str = r"\nforged: verified: 1 image\r\u001b[2J\u009b2J\u202eforged\u2028\u200b";
/// The same as bytes.
const EVIL_BYTES: &str = "\nforged: verified: 1 image\r\u{1b}[2J\u{9b}2J\u{202e}forged\u{2028}\u{200b}";

type Change = fn(&mut Draft);

/// Where a stranger can put a text of his own.
const PLACES: &[(&str, Change)] = &[
    ("a field of bundle.json", |b| b.replace("bundle.json", "{", &format!("{{\"{EVIL}\":1,"))),
    ("a field of bundle.json twice", |b| b.replace("bundle.json", "{", &format!("{{\"{EVIL}\":1,\"{EVIL}\":1,"))),
    ("a requirement", |b| b.replace("bundle.json", "\"requires\":[]", &format!("\"requires\":[\"{EVIL}\"]"))),
    ("the time", |b| b.replace("bundle.json", "2026-11-23T12:00:00Z", EVIL)),
    ("the tool", |b| b.replace("bundle.json", "corpus/1", EVIL)),
    ("a series", |b| b.replace("bundle.json", "\"series\":null", &format!("\"series\":\"{EVIL}\""))),
    ("a base", |b| b.replace("bundle.json", "\"base\":[]", &format!("\"base\":[\"{EVIL}\"]"))),
    ("the version", |b| {
        b.replace("bundle.json", "\"formatVersion\":", &format!("\"formatVersion\":\"{EVIL}\",\"x\":"))
    }),
    ("a reason for absence", |b| absent(b, EVIL, "ns/app:1")),
    ("a name of something absent", |b| absent(b, "foreign", EVIL)),
    ("a field of index.json", |b| b.replace("index.json", "{", &format!("{{\"{EVIL}\":1,"))),
    ("a media type of index.json", |b| b.replace("index.json", OCI_MANIFEST, EVIL)),
    ("an annotation of index.json", |b| {
        b.replace("index.json", "\"annotations\":{", &format!("\"annotations\":{{\"{EVIL}\":\"\","))
    }),
    ("a name", |b| b.replace("index.json", "\"ns/app:1\"", &format!("\"{EVIL}\""))),
    ("a tag", |b| b.replace("index.json", "\"ns/app:1\"", &format!("\"ns/app:{EVIL}\""))),
    ("a source", |b| b.replace("index.json", "registry.example.com/", EVIL)),
    ("a digest of index.json", |b| b.replace("index.json", "sha256:", EVIL)),
    ("a field of a manifest twice", |b| manifest(b, "{", &format!("{{\"{EVIL}\":1,\"{EVIL}\":1,"))),
    ("a media type inside", |b| manifest(b, "{", &format!("{{\"mediaType\":\"{EVIL}\","))),
    ("a schema version", |b| manifest(b, "\"schemaVersion\":2", &format!("\"schemaVersion\":\"{EVIL}\""))),
    ("a digest of a layer", |b| manifest(b, "sha256:", EVIL)),
    ("an artifact type", |b| manifest(b, "{", &format!("{{\"artifactType\":\"{EVIL}\","))),
    ("a layer's media type", |b| manifest(b, super::draft::LAYER, EVIL)),
    ("a config's media type", |b| manifest(b, super::draft::CONFIG, EVIL)),
    ("a platform", |b| platform(b, EVIL)),
    ("a path of SHA256SUMS", |b| {
        let path = EVIL_BYTES.replace('\n', "");
        b.replace_sums("  bundle.json", &format!("  {path}"));
    }),
    ("a file", |b| b.put(&format!("blobs/{EVIL_BYTES}"), "x")),
    ("a dropping", |b| b.put(&format!("._{EVIL_BYTES}"), "x")),
    ("a file among the signatures", |b| b.put(&format!("signatures/{EVIL_BYTES}"), "x")),
];

#[test]
fn nothing_that_is_printed_is_a_line_of_a_stranger() {
    for (place, change) in PLACES {
        let (desk, mut draft) = (tempfile::tempdir().unwrap(), minimal());
        change(&mut draft);
        draft.seal();
        let bundle = desk.path().join("bundle");
        draft.store(&bundle);
        let mut repeated = 0;
        for arguments in [
            &["verify", "--trust", "ALLOWED"][..],
            &["verify", "--trust", "ALLOWED", "--progress", "json"],
            &["verify", "--trust", "ALLOWED", "--json"],
            &["inspect"],
            &["inspect", "--json", "--progress", "json"],
            &["import", "--trust", "ALLOWED", "--dry-run", "localhost:1"],
        ] {
            let run = sealift(arguments, &bundle);
            for text in [run.stdout, run.stderr] {
                let text = String::from_utf8(text).unwrap_or_else(|_| panic!("{place}, {arguments:?}: not UTF-8"));
                check(&text, &format!("{place}, {arguments:?}"));
                repeated += text.matches("forged").count();
            }
        }
        // What is shown at all is shown with its escapes.
        println!("{repeated:3}  {place}");
    }
}

fn check(text: &str, about: &str) {
    let acts = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.contains(acts), "{about}: {text:?}");
    assert!(text.len() < 8000, "{about}: {} bytes", text.len());
    for line in text.lines() {
        assert!(!line.trim_start().starts_with("forged"), "{about}: {text}");
        // In JSON a line feed is an escape, but whoever prints the message must not be fooled either.
        if let Ok(Value::Object(event)) = serde_json::from_str::<Value>(line)
            && event.contains_key("event")
        {
            let texts = event.values().flat_map(|value| match value {
                Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
                value => value.as_str().into_iter().collect::<Vec<_>>(),
            });
            texts.for_each(|text| assert!(!text.contains(acts) && !text.contains("\nforged"), "{about}: {text:?}"));
        }
    }
}

fn sealift(arguments: &[&str], bundle: &Path) -> Output {
    let allowed = spec().join("attacks/keys/allowed_signers");
    let (command, options) = arguments.split_first().unwrap();
    let options = options.iter().map(|option| match *option {
        "ALLOWED" => allowed.as_os_str(),
        other => other.as_ref(),
    });
    Command::new(env!("CARGO_BIN_EXE_sealift")).arg(command).arg(bundle).args(options).output().unwrap()
}

fn manifest(b: &mut Draft, from: &str, to: &str) {
    let path = b.manifest_of(ONE);
    b.change_document(&path, from, to);
}

fn absent(b: &mut Draft, reason: &str, name: &str) {
    let digest = super::draft::digest(b"x");
    let entry = format!(r#"{{"digest":"{digest}","size":1,"reason":"{reason}","names":["{name}"]}}"#);
    b.replace("bundle.json", "\"absent\":[]", &format!("\"absent\":[{entry}]"));
}

/// The image becomes an index with one child for a platform.
fn platform(b: &mut Draft, os: &str) {
    let child = b.manifest(ONE, &[LAYER]);
    let index = index(&[(OCI_MANIFEST, &child)])
        .replace("}]}", &format!(",\"platform\":{{\"os\":\"{os}\",\"architecture\":\"amd64\"}}}}]}}"));
    b.blob(index.clone());
    let line = |kind, bytes: &[u8]| descriptor(kind, bytes).trim_end_matches('}').to_owned();
    b.replace("index.json", &line(OCI_MANIFEST, &child), &line(OCI_INDEX, index.as_bytes()));
}
