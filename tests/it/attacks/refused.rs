//! The corpus through the program, in front of a registry that counts.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use support::{FaultProxy, RealRegistry};

use super::corpus::{Corpus, committed, generated, lay_out, spec};
use super::good::{GOOD, ONE, SHARED};
use super::table::{By, Found, archive_attacks, attacks};
use super::tarball::Tarball;

#[test]
#[ignore = "writes bundle-spec/good and bundle-spec/attacks"]
fn regenerate() {
    generated().write();
}

#[test]
fn the_corpus_is_what_its_generator_writes() {
    let (there, made) = (committed(), generated());
    let names = |corpus: &Corpus| corpus.files.keys().chain(corpus.links.keys()).cloned().collect::<Vec<_>>();
    assert_eq!(names(&there), names(&made), "cargo test --test it -- --ignored regenerate");
    for (path, bytes) in &made.files {
        assert!(there.files[path] == *bytes, "{path}: cargo test --test it -- --ignored regenerate");
    }
    assert_eq!(there.links, made.links);
}

#[test]
fn attacks_have_names_and_rules_of_their_own() {
    let attacks = attacks();
    let names: std::collections::BTreeSet<&str> = attacks.iter().map(|attack| attack.name).collect();
    assert_eq!(names.len(), attacks.len());
    assert!(attacks.len() >= 100, "{}", attacks.len());
    let sealed = |by| attacks.iter().filter(|attack| attack.by == by).count();
    assert!(sealed(By::Signer) >= 100 && sealed(By::Stranger) >= 50);
}

#[test]
fn every_attack_is_refused_with_its_reason_before_any_writing_request() {
    let registry = RealRegistry::start();
    let counting = FaultProxy::start(registry.host());
    let mut wrong = Vec::new();
    for attack in attacks() {
        let desk = tempfile::tempdir().unwrap();
        let bundle = lay_out(&format!("attacks/{}", attack.name), desk.path());
        for options in [&[][..], &["--verify-first"]] {
            counting.reset_count();
            let run = import(&bundle, counting.host(), options);
            let said = String::from_utf8_lossy(&run.stderr).into_owned();
            let mut fault = |what: &str| wrong.push(format!("{} {options:?}: {what}\n{said}", attack.name));
            if run.status.code() != Some(3) {
                fault(&format!("exit {:?}", run.status.code()));
            }
            if !said.contains(attack.reason) {
                fault(&format!("{:?} is not said", attack.reason));
            }
            if said.contains(|c: char| c.is_control() && c != '\n') || said.len() > 4096 {
                fault("control characters, or very much text");
            }
            let writes: Vec<_> =
                counting.requests().into_iter().filter(|r| !["GET", "HEAD"].contains(&r.method.as_str())).collect();
            let bad = match attack.found {
                Found::Layers if options.is_empty() => writes.iter().any(|r| r.path.contains("/manifests/")),
                _ => !writes.is_empty(),
            };
            if bad {
                fault(&format!("{writes:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), attacks().len(), wrong.join("\n"));
    assert_eq!(
        support::catalog(registry.host())
            .iter()
            .filter(|repository| !support::tags(registry.host(), repository).is_empty())
            .count(),
        0
    );
}

/// As a file, and through a pipe, where what is wrong after the head is found late.
#[test]
fn every_attack_on_an_archive_is_refused_and_nothing_lands() {
    let registry = RealRegistry::start();
    let counting = FaultProxy::start(registry.host());
    let trust = spec().join("attacks/keys/allowed_signers");
    let mut wrong = Vec::new();
    for attack in archive_attacks() {
        let bundle = spec().join("attacks").join(attack.name).join(attack.file());
        for piped in [false, true] {
            // A run that has ended may have asked for more than was recorded of it.
            counting.wait_until_quiet();
            counting.reset_count();
            let input = if piped { fs::File::open(&bundle).unwrap().into() } else { Stdio::null() };
            let run = Command::new(env!("CARGO_BIN_EXE_sealift"))
                .arg("import")
                .arg(if piped { Path::new("-") } else { &bundle })
                .args([counting.host(), "--retry-times", "0", "--trust"])
                .arg(&trust)
                .env("HOME", "/nonexistent")
                .stdin(input)
                .output()
                .expect("the program starts");
            let said = String::from_utf8_lossy(&run.stderr).into_owned();
            let mut fault = |what: &str| wrong.push(format!("{} piped: {piped}: {what}\n{said}", attack.name));
            if run.status.code() != Some(3) {
                fault(&format!("exit {:?}", run.status.code()));
            }
            // A stream ends early where a file is too short.
            if piped == attack.packed && !said.contains(attack.reason) {
                fault(&format!("{:?} is not said", attack.reason));
            }
            let writes: Vec<_> =
                counting.requests().into_iter().filter(|r| !["GET", "HEAD"].contains(&r.method.as_str())).collect();
            let in_head = attack.in_head && !piped;
            if in_head && !writes.is_empty() || writes.iter().any(|r| r.path.contains("/manifests/")) {
                fault(&format!("{writes:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), archive_attacks().len(), wrong.join("\n"));
    assert!(archive_attacks().len() >= 100, "{}", archive_attacks().len());
    assert!(support::catalog(registry.host()).iter().all(|name| support::tags(registry.host(), name).is_empty()));
}

#[test]
fn every_good_bundle_is_taken() {
    let registry = RealRegistry::start();
    for good in GOOD {
        let desk = tempfile::tempdir().unwrap();
        let bundle = lay_out(&format!("good/{}", good.name), desk.path());
        // Each below a prefix of its own: their names are the same.
        let target = format!("{}/{}", registry.host(), good.name);
        for run in [sealift(&["verify"], &bundle, &[]), import(&bundle, &target, &[])] {
            let said = String::from_utf8_lossy(&run.stderr);
            // What is absent, this registry misses.
            let sparse = good.name == "rich" && said.contains("BLOB_UNKNOWN")
                || good.name == "series" && said.contains("leaves to an earlier one");
            assert!(run.status.success() || sparse, "{}: {said}", good.name);
        }
        // Packed by hand, as bundle-spec says.
        let tar = desk.path().join("bundle.tar");
        fs::write(&tar, Tarball::of(&(good.make)()).bytes()).unwrap();
        let run = sealift(&["verify"], &tar, &[]);
        assert!(run.status.success(), "{} as an archive: {}", good.name, String::from_utf8_lossy(&run.stderr));
    }
}

#[test]
fn what_is_left_to_a_base_must_be_there_before_anything_is_sent() {
    let registry = RealRegistry::start();
    let counting = FaultProxy::start(registry.host());
    let desk = tempfile::tempdir().unwrap();
    let bundle = lay_out("good/series", desk.path());
    let target = format!("{}/mirror", counting.host());
    let run = import(&bundle, &target, &[]);
    let said = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{said}");
    let base = super::draft::digest(b"the second one");
    for part in ["2 of 2 things", "/mirror/ns/app", &format!("the bundle {base}")] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(counting.requests().iter().all(|r| ["GET", "HEAD"].contains(&r.method.as_str())));
    for blob in [ONE, SHARED] {
        let uploads = "/v2/mirror/ns/app/blobs/uploads/";
        let begun = support::request(registry.host(), "POST", uploads, &[], b"").expect("an upload begins");
        let location = begun.header("location").expect("an upload has a location").to_owned();
        let path = &location[location.find("/v2/").expect("a path")..];
        let whole = format!("{path}&digest={}", super::draft::digest(blob));
        assert_eq!(support::request(registry.host(), "PUT", &whole, &[], blob).expect("it ends").status, 201);
    }
    let run = import(&bundle, &target, &[]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(support::tags(registry.host(), "mirror/ns/app"), ["1"]);
}

fn import(bundle: &Path, target: &str, options: &[&str]) -> Output {
    sealift(&["import"], bundle, &[&[target, "--retry-times", "0"], options].concat())
}

/// Runs `sealift COMMAND BUNDLE ARGUMENTS --trust ...` with no home directory.
pub(crate) fn sealift(command: &[&str], bundle: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sealift"))
        .args(command)
        .arg(bundle)
        .args(arguments)
        .arg("--trust")
        .arg(spec().join("attacks/keys/allowed_signers"))
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
        .output()
        .expect("the program starts")
}
