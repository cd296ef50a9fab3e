//! `inspect` looks at bundles that nobody vouches for: it says so first, drives no terminal, and ends soon.

use std::path::Path;
use std::process::{Command, Output};

use super::corpus::lay_out;
use super::draft::{Draft, OCI_INDEX, OCI_MANIFEST, descriptor};
use super::good::{LAYER, ONE, minimal};
use super::table::{Class, attacks};

fn inspect(bundle: &Path, options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sealift")).arg("inspect").arg(bundle).args(options).output().unwrap()
}

fn store(draft: &Draft) -> (tempfile::TempDir, std::path::PathBuf) {
    let desk = tempfile::tempdir().unwrap();
    let bundle = desk.path().join("bundle");
    draft.store(&bundle);
    (desk, bundle)
}

#[test]
fn without_trust_it_says_unverified_before_anything_else() {
    let untrusted: Vec<_> = attacks().into_iter().filter(|attack| attack.class == Class::Untrusted).collect();
    let mut shown = 0;
    for attack in untrusted {
        let desk = tempfile::tempdir().unwrap();
        let bundle = lay_out(&format!("attacks/{}", attack.name), desk.path());
        let (plain, json) = (inspect(&bundle, &[]), inspect(&bundle, &["--json"]));
        assert_eq!(plain.status.code(), json.status.code());
        if plain.status.success() {
            shown += 1;
            assert!(plain.stdout.starts_with(b"UNVERIFIED"), "{}", attack.name);
            let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
            assert_eq!(json["verified"], false, "{}", attack.name);
            assert!(json["signers"].as_array().unwrap().iter().all(|signer| signer["trusted"] == false));
        }
    }
    assert!(shown >= 5, "{shown}");
}

#[test]
fn texts_of_strangers_drive_no_terminal_and_are_cut() {
    let mut b = minimal();
    b.replace("index.json", "registry.example.com/", "evil\\u202e/");
    let artifact = format!("a/\\u001b[2J\\u009b2J\\u202e{}", "x".repeat(100_000));
    b.change_document(&b.manifest_of(ONE), "{", &format!("{{\"artifactType\":\"{artifact}\","));
    let child = b.text(&b.manifest_of(ONE));
    let line = descriptor(OCI_MANIFEST, child.as_bytes());
    let platform = "\"platform\":{\"os\":\"\\u001b]0;gotcha\\u0007\",\"architecture\":\"\\u2066\"}";
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{},{platform}}}]}}"#, line.trim_end_matches('}'));
    b.blob(index.clone());
    let line = |kind, bytes: &[u8]| descriptor(kind, bytes).trim_end_matches('}').to_owned();
    b.replace("index.json", &line(OCI_MANIFEST, child.as_bytes()), &line(OCI_INDEX, index.as_bytes()));
    b.seal();
    let (_desk, bundle) = store(&b);
    for options in [&[][..], &["--json"]] {
        let run = inspect(&bundle, options);
        let text = String::from_utf8(run.stdout).unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let acts = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{2069}').contains(&c);
        assert!(!text.contains(acts), "{text:?}");
        assert!(text.contains("gotcha") && text.len() < 10_000, "{} bytes", text.len());
    }
    let json: serde_json::Value = serde_json::from_slice(&inspect(&bundle, &["--json"]).stdout).unwrap();
    assert_eq!(json["images"][0]["platforms"][0], "\u{1b}]0;gotcha\u{7}/\u{2066}");
}

#[test]
fn what_can_be_reached_in_very_many_ways_is_visited_once() {
    let mut b = Draft::default();
    let mut top = b.manifest(ONE, &[LAYER]);
    let mut media_type = OCI_MANIFEST;
    for _ in 0..7 {
        // 200^7 ways down.
        top = b.index(&vec![(media_type, top.as_slice()); 200]);
        media_type = OCI_INDEX;
    }
    b.image("ns/wide:1", media_type, &top);
    let (_desk, bundle) = store(&b.finish());
    // A reader that follows each way does not end.
    assert!(inspect(&bundle, &[]).status.success());
}

#[test]
fn a_large_document_under_many_names_is_read_once() {
    let mut b = Draft::default();
    let app = b.manifest(ONE, &[LAYER]);
    let pad = "x".repeat(3 << 20);
    let list = descriptor(OCI_MANIFEST, &app);
    let large = format!(r#"{{"schemaVersion":2,"artifactType":"{pad}","manifests":[{list}]}}"#).into_bytes();
    b.blob(large.clone());
    let large_size = large.len() as u64;
    for n in 0..2000 {
        b.image(&format!("ns/app:{n:05}"), OCI_INDEX, &large);
    }
    let (_folder, bundle) = store(&b.finish());
    let run = inspect(&bundle, &["--json"]);
    assert!(run.status.success() && run.stdout.len() < 4 << 20, "{}", run.stdout.len());
    let read = support::desk!().usage(&["inspect", bundle.to_str().unwrap()]).read;
    assert!(read < 10 * large_size, "{read} bytes were read");
}
