//! One bad entry: nothing starts, or the rest is done and what is not is named.

use std::fs;
use std::net::TcpListener;

use support::{Access, FaultProxy, RealRegistry, Rule, desk, push_image, raw_manifest, references, tags};

use super::sync;

#[test]
fn nothing_starts_or_the_rest_is_done_and_both_faults_are_named() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = listener.local_addr().unwrap();
    drop(listener);
    let yaml = format!(
        "{}:\n  images:\n    team/app: []\n  images-by-tag-regex:\n    docker/single: '('\n{gone}:\n  images:\n    some/app: []\n",
        source.host()
    );
    fs::write(desk.path().join("both.yaml"), &yaml).unwrap();
    fs::write(desk.path().join("gone.yaml"), yaml.replace("'('", "'2'")).unwrap();
    let fixed = ["--retry-times", "0", "--src", "yaml", "--dest", "docker"];
    let run = |file: &str, more: &[&str]| sync(&desk, &[&fixed, more, &[file, destination.host()]].concat());

    run("both.yaml", &[])
        .code(2)
        .stderr_contains("both.yaml, line 5")
        .stderr_contains("docker/single: \"(\" is not a regular expression: a parenthesis is not closed\n");
    run("gone.yaml", &[]).code(1).stderr_contains(&gone.to_string());
    assert!(destination.writes().is_empty(), "{:?}", destination.writes());

    let partly = run("both.yaml", &["--keep-going", "--digestfile", "digests"]);
    partly.code(4).stderr_contains("both.yaml, line 5").stderr_contains(&format!("{gone}/some/app"));
    let mut landed = tags(destination.host(), "app");
    landed.sort();
    assert_eq!(landed, ["1", "2"]);
    let digests = fs::read_to_string(desk.path().join("digests")).unwrap();
    assert_eq!(digests.lines().count(), 2, "{digests}");
    // The second time everything that can be had is there, and the faults are still faults.
    run("both.yaml", &["--keep-going"]).code(4).stderr_contains("2 images, there already");
}

#[test]
fn two_images_for_one_name_are_refused_before_a_manifest_is_read() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    push_image(source.host(), "mirror/us/busybox", "1.35", &[b"another image"]);
    let pushed = source.access_log().len();
    let yaml = format!("{}:\n  images: {{library/busybox: ['1.35'], mirror/us/busybox: ['1.35']}}\n", source.host());
    fs::write(desk.path().join("sync.yaml"), yaml).unwrap();
    let common = ["--src", "yaml", "--dest", "docker", "--all", "sync.yaml", destination.host()];
    let refused = sync(&desk, &common);
    refused.code(2).stderr_contains("library/busybox:1.35 and").stderr_contains("mirror/us/busybox:1.35 are different");
    let read = |a: &Access| a.method == "GET" && a.path.contains("/manifests/");
    assert!(!source.access_log()[pushed..].iter().any(read), "{:?}", source.access_log());
    assert!(destination.writes().is_empty(), "{:?}", destination.writes());
    sync(&desk, &[&["--scoped"], &common[..]].concat()).success();
    sync(&desk, &[&["--names", "path"], &common[..]].concat()).success();
    let place = source.host().replace(':', "_");
    assert_eq!(tags(destination.host(), &format!("{place}/mirror/us/busybox")), ["1.35"]);
    assert_eq!(tags(destination.host(), "mirror/us/busybox"), ["1.35"]);
}

#[test]
fn an_image_that_is_not_there_is_named() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let missing = format!("{}/team/app:none", source.host());
    sync(&desk, &["-s", "docker", "-d", "docker", &missing, destination.host()]).code(1).stderr_contains(&missing);
    let digest = references().iter().find(|r| r.repository == "library/busybox").unwrap().digest.clone();
    let by_digest = format!("{}/library/busybox@{digest}", source.host());
    sync(&desk, &["-s", "docker", "-d", "docker", "--override-arch", "s390x", &by_digest, destination.host()])
        .code(1)
        .stderr_contains("linux/s390x")
        .stderr_contains("linux/arm64");
}

#[test]
fn a_directory_that_is_named_by_a_digest_vouches_for_its_manifest() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let references = references();
    let pinned = references.iter().find(|r| r.repository == "team/pinned").expect("in the corpus");
    let other = references.iter().find(|r| r.name() == "team/app:1").expect("in the corpus");
    for reference in [pinned, other] {
        sync(&desk, &["-s", "docker", "-d", "dir", &reference.at(source.host()), "usb"]).success();
    }
    let directory = desk.path().join(format!("usb/pinned@{}", pinned.digest));
    fs::copy(desk.path().join("usb/app:1/manifest.json"), directory.join("manifest.json")).unwrap();
    let arguments = ["-s", "dir", "-d", "docker", "usb", destination.host()];
    sync(&desk, &arguments).code(3).stderr_contains("is named by a digest").stderr_contains("either it was changed");
    assert!(destination.writes().is_empty());
    // With --keep-going the other one lands; that something is damaged weighs more than that something is done.
    sync(&desk, &[&["--keep-going"], &arguments[..]].concat()).code(3).stderr_contains("is named by a digest");
    assert_eq!(tags(destination.host(), "app"), ["1"]);
}

#[test]
fn a_blob_that_cannot_be_had_keeps_only_its_images_back() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let image = raw_manifest(source.host(), "formats/zstd", "1").expect("in the corpus");
    let image: serde_json::Value = serde_json::from_slice(&image.bytes).unwrap();
    let layer = image["layers"][0]["digest"].as_str().unwrap().replace("sha256:", "");
    let file = source.storage().join(format!("docker/registry/v2/blobs/sha256/{}/{layer}/data", &layer[..2]));
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 1;
    fs::write(&file, bytes).unwrap();
    let yaml = format!("{}:\n  images: {{team/app: [], formats/zstd: []}}\n", source.host());
    fs::write(desk.path().join("sync.yaml"), yaml).unwrap();
    let common = ["-s", "yaml", "-d", "dir", "--digestfile", "digests", "--retry-times", "1", "sync.yaml", "usb"];
    sync(&desk, &common).code(1).stderr_contains("formats/zstd");
    assert!(!desk.path().join("usb/zstd:1/manifest.json").exists());
    sync(&desk, &[&["--keep-going"], &common[..]].concat()).code(4).stderr_contains("zstd:1");
    let digests = fs::read_to_string(desk.path().join("digests")).unwrap();
    let mut lines: Vec<&str> = digests.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["dir:usb/app:1", "dir:usb/app:2"]);
    assert!(desk.path().join("usb/app:2/manifest.json").exists());
    assert!(!desk.path().join("usb/zstd:1/manifest.json").exists());
}

/// Only what is there in the end counts, in words and in JSON.
#[test]
fn a_sync_counts_only_what_landed() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let proxy = FaultProxy::start(destination.host());
    // They share a layer; the first one is refused.
    proxy.inject(Rule::on("POST", "/v2/formats/plain/blobs/uploads/").status(403));
    let yaml = format!("{}:\n  images: {{formats/plain: [], formats/odd-json: [], team/app: []}}\n", source.host());
    fs::write(desk.path().join("sync.yaml"), yaml).unwrap();
    let common = ["-s", "yaml", "-d", "docker", "--names", "path", "--keep-going", "--json", "sync.yaml", proxy.host()];
    let partly = sync(&desk, &common);
    partly.code(4).stderr_contains("the rest is done, but formats/plain:1: ").stderr_contains(": 3 images,");
    let answer: serde_json::Value = serde_json::from_str(&partly.stdout()).unwrap();
    assert_eq!(answer["totals"]["images"], 3, "{answer:#}");
    assert_eq!(answer["images"].as_array().unwrap().len(), 3, "{answer:#}");
    assert_eq!(answer["failures"][0]["image"], "formats/plain:1");
}

/// A tree, too, is looked for at its destination before anything is moved.
#[test]
fn a_destination_that_does_not_answer_about_an_image_fails_that_image_alone() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let yaml = format!("{}:\n  images: {{team/app: [], formats/zstd: []}}\n", source.host());
    fs::write(desk.path().join("sync.yaml"), yaml).unwrap();
    sync(&desk, &["-s", "yaml", "-d", "dir", "--names", "path", "sync.yaml", "usb"]).success();
    let proxy = FaultProxy::start(destination.host());
    // A status that says neither that the image is missing nor that only a push can tell.
    proxy.inject(Rule::on("HEAD", "/v2/formats/zstd/manifests/").status(451));
    let common = ["-s", "dir", "-d", "docker", "usb", proxy.host()];
    sync(&desk, &common).code(1).stderr_contains("formats/zstd:1");
    assert!(destination.writes().is_empty());
    sync(&desk, &[&["--keep-going"], &common[..]].concat()).code(4).stderr_contains("formats/zstd:1");
    assert_eq!(tags(destination.host(), "team/app"), ["1", "2"]);
}
