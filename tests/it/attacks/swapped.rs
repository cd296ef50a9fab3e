//! What was checked is what is sent, also when somebody exchanges files in between.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use sealift::Kind;
use sealift::bundle::Bundle;
use sealift::jobs::verify::{self, VerifiedBundle};
use tempfile::TempDir;

use super::draft::{manifest, path_of};
use super::good::{LAYER, ONE, minimal};
use super::recording::{open, options, transfer, trust};

/// Of the size of the layer.
const EVIL: &[u8] = b"the evil layer";

fn verified() -> (TempDir, PathBuf, VerifiedBundle) {
    let desk = tempfile::tempdir().unwrap();
    let bundle = desk.path().join("bundle");
    minimal().store(&bundle);
    let verified = open(&bundle, &trust()).unwrap();
    (desk, bundle, verified)
}

/// Puts other bytes there as another file, as an attacker would: the old one may still be open.
fn swap(path: &Path, bytes: &[u8]) {
    fs::write(path.with_extension("new"), bytes).unwrap();
    fs::rename(path.with_extension("new"), path).unwrap();
}

fn must_be_refused(verified: &VerifiedBundle, reason: &str) {
    let (recording, done) = transfer(verified);
    let error = done.expect_err("must be refused");
    assert_eq!(error.kind(), Kind::Damaged, "{error:?}");
    assert!(error.chain().contains(reason), "{error:?}");
    assert!(recording.is_untouched());
    assert!(
        recording.blobs.lock().unwrap().iter().all(|blob| [ONE, LAYER].contains(&blob.as_slice())),
        "wrong bytes became whole somewhere"
    );
}

#[test]
fn a_layer_exchanged_after_the_head_was_read_is_caught_as_it_is_sent() {
    let (_desk, bundle, verified) = verified();
    swap(&bundle.join(path_of(LAYER)), EVIL);
    must_be_refused(&verified, "have the digest");
}

#[test]
fn a_layer_exchanged_after_all_layers_were_read_is_caught_as_it_is_sent() {
    let (_desk, bundle, verified) = verified();
    tokio::runtime::Runtime::new().unwrap().block_on(verify::layers(&verified, &options())).unwrap();
    fs::write(bundle.join(path_of(LAYER)), EVIL).unwrap();
    must_be_refused(&verified, "have the digest");
}

#[test]
fn a_config_exchanged_after_it_was_verified_is_caught_as_it_is_sent() {
    let (_desk, bundle, verified) = verified();
    swap(&bundle.join(path_of(ONE)), b"{\"config\":9}");
    must_be_refused(&verified, "have the digest");
}

#[test]
fn a_layer_of_another_size_a_link_and_a_pipe_are_caught() {
    let (_desk, bundle, verified) = verified();
    let layer = bundle.join(path_of(LAYER));
    swap(&layer, b"short");
    must_be_refused(&verified, "has 5 of 14 bytes");
    fs::remove_file(&layer).unwrap();
    must_be_refused(&verified, "is missing");
    fs::write(bundle.join("../same"), LAYER).unwrap();
    symlink("../../../same", &layer).unwrap();
    must_be_refused(&verified, "symbolic link");
    fs::remove_file(&layer).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &layer,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    must_be_refused(&verified, "named pipe");
}

#[test]
fn a_directory_exchanged_for_a_link_is_caught() {
    let (_desk, bundle, verified) = verified();
    fs::rename(bundle.join("blobs"), bundle.join("../elsewhere")).unwrap();
    symlink("../elsewhere", bundle.join("blobs")).unwrap();
    must_be_refused(&verified, "symbolic link");
}

#[test]
fn a_bundle_exchanged_for_another_is_not_looked_at() {
    let (desk, bundle, verified) = verified();
    fs::rename(&bundle, desk.path().join("moved")).unwrap();
    fs::create_dir(&bundle).unwrap();
    // The directory that was opened is the one that is read.
    let (recording, done) = transfer(&verified);
    done.unwrap();
    assert!(!recording.is_untouched());
}

#[test]
fn a_manifest_exchanged_after_the_head_was_read_changes_nothing_that_lands() {
    let (_desk, bundle, verified) = verified();
    let good = manifest(ONE, &[LAYER]);
    swap(&bundle.join(path_of(good.as_bytes())), manifest(ONE, &[EVIL]).as_bytes());
    swap(&bundle.join("index.json"), b"{}");
    let (recording, done) = transfer(&verified);
    done.unwrap();
    assert!(recording.landed.lock().unwrap().iter().all(|landed| landed == good.as_bytes()));
}

#[test]
fn what_is_parsed_is_what_was_signed() {
    let (_desk, path, _) = verified();
    let bundle = Bundle::open(&path).unwrap();
    let at = "2026-11-23T12:00:00Z".parse().unwrap();
    let seal = bundle.verify_seal(&trust(), at).unwrap();
    let identity = seal.identity;
    swap(&path.join("SHA256SUMS"), b"other sums\n");
    assert_eq!(bundle.read_head(seal).unwrap().identity(), identity);
    assert!(bundle.verify_seal(&trust(), at).is_err());
}

#[test]
fn an_index_exchanged_after_the_seal_was_verified_is_caught() {
    let (_desk, path, _) = verified();
    let bundle = Bundle::open(&path).unwrap();
    let seal = bundle.verify_seal(&trust(), "2026-11-23T12:00:00Z".parse().unwrap()).unwrap();
    let evil = fs::read_to_string(path.join("index.json")).unwrap().replace("ns/app:1", "ns/app:2");
    swap(&path.join("index.json"), evil.as_bytes());
    assert_eq!(bundle.read_head(seal).unwrap_err().kind(), Kind::Damaged);
}

#[test]
fn nothing_of_the_bundle_is_parsed_before_its_seal_holds() {
    let (_desk, path, _) = verified();
    for name in ["bundle.json", "index.json", "oci-layout"] {
        fs::write(path.join(name), "what nobody can read").unwrap();
    }
    let bundle = Bundle::open(&path).unwrap();
    // The seal is judged although all else is wrong, and reading on then fails.
    let seal = bundle.verify_seal(&trust(), "2026-11-23T12:00:00Z".parse().unwrap()).unwrap();
    assert_eq!(bundle.read_head(seal).unwrap_err().kind(), Kind::Damaged);
}
