//! One bad entry: nothing starts, or the rest is done and what is not is named.

use std::fs;
use std::net::TcpListener;

use support::{RealRegistry, desk, references, tags};

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

    run("both.yaml", &[]).code(2).stderr_contains("both.yaml, line 5").stderr_contains("docker/single");
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
    let yaml = format!("{}:\n  images: {{library/busybox: ['1.35'], mirror/eu/busybox: ['1.35']}}\n", source.host());
    fs::write(desk.path().join("sync.yaml"), yaml).unwrap();
    let common = ["--src", "yaml", "--dest", "docker", "sync.yaml", destination.host()];
    let refused = sync(&desk, &common);
    refused.code(2).stderr_contains("library/busybox:1.35 and").stderr_contains("mirror/eu/busybox:1.35 would both");
    assert!(source.access_log().iter().all(|a| !a.path.contains("/manifests/")), "{:?}", source.access_log());
    assert!(destination.access_log().is_empty());
    sync(&desk, &[&["--scoped"], &common[..]].concat()).success();
    sync(&desk, &[&["--names", "path"], &common[..]].concat()).success();
    let place = source.host().replace(':', "_");
    assert_eq!(tags(destination.host(), &format!("{place}/mirror/eu/busybox")), ["1.35"]);
    assert_eq!(tags(destination.host(), "mirror/eu/busybox"), ["1.35"]);
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
