//! `import --read-back`, and what an import confirms without it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Desk, FaultProxy, Manifest, RealRegistry, Rule, busybox, desk, noise, push_image, raw_manifest};

const REPOSITORY: &str = "library/busybox";

/// A registry that acknowledges what it does not store: 202 and 201 for uploads, 201 for manifests, and 200 for HEAD of
/// any blob. `manifests` is what it returns for each reference.
fn acknowledges(manifests: &[(&str, &Manifest)]) -> (RealRegistry, FaultProxy) {
    let empty = RealRegistry::start();
    let proxy = FaultProxy::start(empty.host());
    let location = format!("/v2/{REPOSITORY}/blobs/uploads/1");
    proxy.inject(Rule::on("POST", "/uploads/").answer(202, &[("location", &location)], ""));
    proxy.inject(Rule::on("PUT", "/").status(201));
    proxy.inject(Rule::on("HEAD", "/blobs/").status(200));
    for (reference, manifest) in manifests {
        let headers = [("content-type", manifest.media_type.as_str())];
        let text = String::from_utf8(manifest.bytes.clone()).expect("JSON");
        proxy.inject(Rule::on("GET", &format!("/manifests/{reference}")).answer(200, &headers, &text));
    }
    (empty, proxy)
}

/// The index of a sealed image, and its only manifest.
fn sealed(desk: &Desk) -> (Manifest, Manifest) {
    let source = RealRegistry::with_corpus();
    desk.export(&[busybox(source.host())]).success();
    let manifest = |reference: &str| raw_manifest(source.host(), REPOSITORY, reference).expect("it is in the corpus");
    let index = manifest("1.35");
    let child = json(&index)["manifests"][0]["digest"].as_str().expect("a child").to_owned();
    (index, manifest(&child))
}

fn json(manifest: &Manifest) -> Value {
    serde_json::from_slice(&manifest.bytes).expect("JSON")
}

#[test]
fn a_manifest_that_was_acknowledged_and_not_stored_fails_every_import() {
    let desk = desk!();
    let (index, _) = sealed(&desk);
    let (_empty, proxy) = acknowledges(&[]);
    // Its answer to HEAD repeats what was pushed.
    proxy.inject(Rule::on("HEAD", "/manifests/").answer(200, &[("docker-content-digest", &index.digest)], ""));
    let failed = desk.import("bundle", proxy.host(), &["--retry-times", "1"]);
    failed.code(1).stderr_contains("library/busybox:1.35 is not there after").stderr_contains(&index.digest);
    assert!(proxy.count("GET", "/manifests/1.35") > 0);
}

#[test]
fn another_manifest_under_the_tag_fails_every_import() {
    let desk = desk!();
    let (index, _) = sealed(&desk);
    let other = Manifest { bytes: [&index.bytes[..], b"\n"].concat(), ..index.clone() };
    let (_empty, proxy) = acknowledges(&[("1.35", &other)]);
    proxy.inject(Rule::on("HEAD", "/manifests/").answer(200, &[("docker-content-digest", &index.digest)], ""));
    let failed = desk.import("bundle", proxy.host(), &["--retry-times", "1"]);
    failed.code(1).stderr_contains(&format!("is {} after {}", support::sha256(&other.bytes), index.digest));
}

#[test]
fn blobs_that_were_acknowledged_and_not_stored_fail_with_read_back_only() {
    let desk = desk!();
    let (index, child) = sealed(&desk);
    let (_empty, proxy) = acknowledges(&[("1.35", &index), (&child.digest, &child)]);
    desk.import("bundle", proxy.host(), &[]).success();
    assert_eq!(proxy.count("GET", "/blobs/"), 0);

    let failed = desk.import("bundle", proxy.host(), &["--read-back", "--retry-times", "1"]);
    failed.code(1).stderr_contains("was pushed to library/busybox and cannot be read back").stderr_contains("hint: ");
    let named = failed.stderr().split_once("error: blob sha256:").expect("a blob is named").1[..64].to_owned();
    assert!(desk.path().join("bundle/blobs/sha256").join(named).exists());
}

/// Two images in repositories of their own, which share a layer.
fn two_images(desk: &Desk) -> (RealRegistry, String) {
    let source = RealRegistry::start();
    let (shared, own) = (noise(1, 300_000), noise(2, 200_000));
    let digests = push_image(source.host(), "team/a", "1", &[&shared, &own]);
    push_image(source.host(), "team/b", "1", &[&shared]);
    let images = ["team/a:1", "team/b:1"].map(|name| format!("{}/{name}", source.host()));
    desk.export(&images).success();
    (source, digests[2].clone())
}

/// Where docker-registry keeps the bytes of a blob.
fn stored(registry: &RealRegistry, digest: &str) -> PathBuf {
    let hex = digest.strip_prefix("sha256:").expect("a digest");
    registry.storage().join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("the blob is stored");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("written");
}

#[test]
fn every_blob_is_read_once_from_each_repository() {
    let (desk, destination) = (desk!(), RealRegistry::start());
    let (_source, _) = two_images(&desk);
    for options in [&["--read-back"][..], &["--read-back", "--jobs", "1", "--json"]] {
        let before = destination.access_log().len();
        let run = desk.import("bundle", destination.host(), options);
        run.success().stderr_contains("reading back 5 blobs");
        let log = destination.access_log();
        let read = |path: &str| log[before..].iter().filter(|a| a.method == "GET" && a.path.contains(path)).count();
        assert_eq!((read("/team/a/blobs/sha256"), read("/team/b/blobs/sha256")), (3, 2));
        assert!(read("/manifests/") >= 2);
        if options.contains(&"--json") {
            let answer: Value = serde_json::from_str(&run.stdout()).expect("JSON");
            assert_eq!(answer["readBack"], true);
        }
    }
}

#[test]
fn a_blob_that_was_changed_in_the_registrys_storage_is_named() {
    let (desk, destination) = (desk!(), RealRegistry::start());
    let (_source, changed) = two_images(&desk);
    desk.import("bundle", destination.host(), &[]).success();
    flip(&stored(&destination, &changed));
    // The registry says that it has everything.
    desk.import("bundle", destination.host(), &[]).success();
    let failed = desk.import("bundle", destination.host(), &["--read-back"]);
    failed.code(1).stderr_contains(&format!("blob {changed} was pushed to team/a, and is different there"));

    // The other image is as it was pushed.
    let partly = desk.import("bundle", destination.host(), &["--read-back", "--keep-going"]);
    partly.code(4).stderr_contains(&changed).stderr_contains("team/a:1");
    assert!(!partly.stderr().contains("team/b:1"), "{}", partly.stderr());
}

#[test]
fn a_child_that_was_changed_in_the_registrys_storage_is_named() {
    let (desk, source, destination) = (desk!(), RealRegistry::with_corpus(), RealRegistry::start());
    let index = support::references().into_iter().find(|r| r.has("platforms") && r.is_tagged()).expect("an index");
    desk.export(&[index.at(source.host())]).success();
    desk.import("bundle", destination.host(), &["--read-back"]).success();
    let index = json(&raw_manifest(source.host(), &index.repository, &index.reference).expect("it is there"));
    let child = index["manifests"][0]["digest"].as_str().expect("a child");
    flip(&stored(&destination, child));
    let failed = desk.import("bundle", destination.host(), &["--read-back", "--retry-times", "0"]);
    failed.code(1).stderr_contains(child);
}
