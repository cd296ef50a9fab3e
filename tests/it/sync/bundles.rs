//! A bundle as one end of a sync.

use std::fs;

use support::{RealRegistry, desk, raw_manifest, sha256, tags};

use super::{assert_same_trees, sync};

#[test]
fn a_bundle_is_made_and_read_like_any_other_end() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let jq = format!("{}/team/tools/jq", source.host());
    let made =
        sync(&desk, &["-s", "docker", "-d", "bundle", "--all", "--names", "path", "--key", "key", &jq, "sealed"]);
    made.success().stderr_contains("signed by key id");
    desk.sealift(&["verify", "sealed", "--trust", "allowed_signers"]).success();

    // To a tree, which is what comes from the registry itself.
    sync(&desk, &["-s", "bundle", "-d", "dir", "--trust", "allowed_signers", "sealed", "from-bundle"]).success();
    sync(&desk, &["-s", "docker", "-d", "dir", "--all", "--names", "path", &jq, "from-registry"]).success();
    assert_same_trees(&desk.path().join("from-bundle"), &desk.path().join("from-registry"));

    // To a registry, which is an import.
    let target = format!("{}/mirror", destination.host());
    sync(&desk, &["-s", "bundle", "-d", "docker", "--trust", "allowed_signers", "sealed", &target]).success();
    let (here, there) = (
        raw_manifest(source.host(), "team/tools/jq", "1"),
        raw_manifest(destination.host(), "mirror/team/tools/jq", "1"),
    );
    assert_eq!(sha256(&here.unwrap().bytes), sha256(&there.unwrap().bytes));

    // A stranger's key opens nothing.
    desk.sealift(&["keygen", "other"]).success();
    let refused = sync(&desk, &["-s", "bundle", "-d", "dir", "--trust", "other.pub", "sealed", "nothing"]);
    refused.code(3);
    assert!(!desk.path().join("nothing").exists());
}

#[test]
fn a_bundle_comes_through_a_pipe_too() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let app = format!("{}/team/app:1", source.host());
    let program = env!("CARGO_BIN_EXE_sealift");
    let piped = |read: &str| {
        desk.shell(
            ".",
            &format!(
                "'{program}' sync -q -s docker -d bundle --key key {app} - | \
                 '{program}' sync -q -s bundle --trust allowed_signers {read}"
            ),
        );
    };
    piped("-d dir - usb");
    piped(&format!("-d docker - {}", destination.host()));
    assert!(desk.path().join("usb/app:1/manifest.json").exists());
    assert_eq!(tags(destination.host(), "app"), ["1"]);
}

#[test]
fn a_tree_of_skopeo_is_sealed_and_imported() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let image = format!("{}/library/busybox", source.host());
    super::skopeo_sync(&desk, &["--src", "docker", "--dest", "dir", "--all", "--scoped", &image, "tree"]);
    let export = |more: &[&str]| {
        desk.sealift(&[&["export", "--from-dir", "tree", "--output", "sealed", "--key", "key"], more].concat())
    };
    let port = source.host().replace(':', "_");
    let planned = desk.sealift(&["export", "--from-dir", "tree", "--dry-run"]).success().stdout();
    assert!(planned.contains("busybox:1.35"), "{planned}");
    // What only a tree can hold stays behind when somebody says so.
    let directory = desk.path().join(format!("tree/{}/library/busybox:1.35", source.host()));
    fs::write(directory.join("signature-1"), b"skopeo's").unwrap();
    export(&[]).code(3).stderr_contains("has signatures").stderr_contains("--remove-signatures");
    export(&["--remove-signatures"]).success().stderr_contains("nothing vouches for");
    desk.import("sealed", destination.host(), &[]).success();
    let mut landed = tags(destination.host(), &format!("{port}/library/busybox"));
    landed.sort();
    assert_eq!(landed, ["1.35", "latest"]);
    let index = raw_manifest(source.host(), "library/busybox", "1.35").unwrap();
    let there = raw_manifest(destination.host(), &format!("{port}/library/busybox"), "1.35").unwrap();
    assert_eq!(index.bytes, there.bytes);

    // The other way to the same.
    let sealed =
        sync(&desk, &["-s", "dir", "-d", "bundle", "--all", "--remove-signatures", "--key", "key", "tree", "again"]);
    sealed.success();
    let identity = |bundle: &str| sha256(&fs::read(desk.path().join(bundle).join("index.json")).unwrap());
    assert_eq!(identity("sealed"), identity("again"));
}
