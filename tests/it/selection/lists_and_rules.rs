//! Choosing what to carry: skopeo's YAML, tag globs and the latest versions, on a real registry.

use std::fs;

use rstest::rstest;
use serde_json::Value;
use support::{Desk, FaultProxy, RealRegistry, Rule, desk, put_manifest, raw_manifest, sha256};

/// A registry with `pick/app`, `pick/tool` and `pick/db`, all of one small image, under many tags.
fn registry() -> RealRegistry {
    let registry = RealRegistry::with_corpus();
    let host = registry.host();
    let found = raw_manifest(host, "docker/single", "2.36").expect("a small image is in the corpus");
    let manifest: Value = serde_json::from_slice(&found.bytes).expect("a manifest");
    for (repository, tags) in TAGS {
        let layers = manifest["layers"].as_array().expect("layers");
        for blob in layers.iter().chain([&manifest["config"]]) {
            let digest = blob["digest"].as_str().expect("a digest");
            let path = format!("/v2/{repository}/blobs/uploads/?mount={digest}&from=docker/single");
            assert_eq!(support::request(host, "POST", &path, &[], b"").expect("an answer").status, 201);
        }
        for tag in tags.split_whitespace() {
            put_manifest(host, repository, tag, &found.media_type, &found.bytes);
        }
    }
    registry
}

const TAGS: [(&str, &str); 3] = [
    ("pick/app", "1.9.0 1.10.0 1.10.1-rc.1 v1.8.0 2.0 latest nightly-7"),
    ("pick/tool", "1.13.1-perl 1.13.2-perl 1.13.3-perl 1.13.1 edge"),
    ("pick/db", "3.11.9 3.12.0 3.12.1 4.0.0 4.1.0-beta.1 current"),
];

/// The names that a plan lands, sorted.
fn planned(desk: &Desk, arguments: &[&str]) -> Vec<String> {
    let fixed = ["export", "--dry-run", "--json", "--no-referrers", "--retry-delay", "0.05"];
    let json = desk.sealift(&[&fixed, arguments].concat()).success().stdout();
    let plan: Value = serde_json::from_str(&json).expect("JSON");
    let mut names: Vec<String> = plan["images"]
        .as_array()
        .expect("images")
        .iter()
        .map(|image| image["name"].as_str().expect("a name").to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_yaml_file_picks_exactly_what_it_says() {
    let (registry, desk) = (registry(), desk!());
    let host = registry.host();
    let digest = sha256(&raw_manifest(host, "pick/db", "current").unwrap().bytes);
    let yaml = format!(
        "{host}:
  images:
    pick/app: [latest, 2.0]
    docker/single: []
    pick/db: ['{digest}']
  images-by-tag-regex:
    pick/tool: ^1\\.13\\.[12]-perl$
  images-by-semver:
    pick/db: '>= 3.12, < 4.0 || 4.1.0-0'
  tls-verify: true
"
    );
    fs::write(desk.path().join("sync.yaml"), yaml).unwrap();
    let mut expected: Vec<String> = [
        "pick/app:latest",
        "pick/app:2.0",
        "pick/tool:1.13.1-perl",
        "pick/tool:1.13.2-perl",
        "pick/db:3.12.0",
        "pick/db:3.12.1",
    ]
    .map(str::to_owned)
    .into();
    expected.push(format!("pick/db@{digest}"));
    expected.extend(support::tags(host, "docker/single").iter().map(|tag| format!("docker/single:{tag}")));
    expected.sort();
    assert_eq!(planned(&desk, &["--from", "sync.yaml"]), expected);
}

#[test]
fn skopeo_picks_the_same_from_the_same_file() {
    let (registry, desk) = (registry(), desk!());
    let yaml = format!(
        "{}:\n  images:\n    pick/app: [latest, 2.0]\n    docker/single: []\n  images-by-tag-regex:\n    \
         pick/tool: ^1\\.13\\.[12]-perl$\n  tls-verify: false\n",
        registry.host()
    );
    fs::write(desk.path().join("skopeo.yaml"), &yaml).unwrap();
    fs::write(desk.path().join("sync.yaml"), yaml.replace("  tls-verify: false\n", "")).unwrap();
    let (file, target) = (desk.path().join("skopeo.yaml"), desk.path().join("tree"));
    let arguments = ["sync", "--src", "yaml", "--dest", "dir", "--scoped"];
    support::skopeo(&[&arguments, &[file.to_str().unwrap(), target.to_str().unwrap()][..]].concat());
    let mut theirs = Vec::new();
    let root = target.join(registry.host());
    for (repository, _) in TAGS.iter().chain([&("docker/single", "")]) {
        let (folder, name) = repository.split_once('/').unwrap();
        let Ok(entries) = fs::read_dir(root.join(folder)) else { continue };
        for entry in entries {
            let entry = entry.unwrap().file_name().into_string().unwrap();
            if entry.starts_with(&format!("{name}:")) {
                theirs.push(format!("{folder}/{entry}"));
            }
        }
    }
    theirs.sort();
    assert!(theirs.len() > 4, "{theirs:?}");
    assert_eq!(planned(&desk, &["--from", "sync.yaml"]), theirs);
}

#[rstest]
#[case::include(&["--include", "1.1*"], "1.10.0 1.10.1-rc.1")]
#[case::exclude(&["--include", "1.*", "--include", "v*", "--exclude", "*-rc*"], "1.10.0 1.9.0 v1.8.0")]
#[case::latest(&["--latest", "2"], "1.10.1-rc.1 2.0")]
#[case::all_three(&["--exclude", "*-*", "--exclude", "2*", "--latest", "2"], "1.10.0 1.9.0")]
fn globs_and_latest_choose_tags_of_a_repository(#[case] options: &[&str], #[case] expected: &str) {
    let (registry, desk) = (registry(), desk!());
    let expected: Vec<String> = expected.split(' ').map(|tag| format!("pick/app:{tag}")).collect();
    let image = format!("{}/pick/app", registry.host());
    assert_eq!(planned(&desk, &[options, &[&image]].concat()), expected);
    fs::write(desk.path().join("list"), format!("{image}\n")).unwrap();
    assert_eq!(planned(&desk, &[options, &["--from", "list"]].concat()), expected);
    fs::write(desk.path().join("sync.yml"), format!("{}:\n  images:\n    pick/app: []\n", registry.host())).unwrap();
    assert_eq!(planned(&desk, &[options, &["--from", "sync.yml"]].concat()), expected);
}

#[test]
fn images_that_are_named_are_not_filtered_and_matches_are() {
    let (registry, desk) = (registry(), desk!());
    let yaml = format!(
        "{}:\n  images:\n    pick/app: [nightly-7]\n  images-by-semver:\n    pick/db: '>=3'\n",
        registry.host()
    );
    fs::write(desk.path().join("sync.yaml"), yaml).unwrap();
    let names = planned(&desk, &["--from", "sync.yaml", "--latest", "1"]);
    assert_eq!(names, ["pick/app:nightly-7", "pick/db:4.0.0"]);
}

#[test]
fn a_repository_of_which_nothing_is_left_is_an_error() {
    let (registry, desk) = (registry(), desk!());
    let image = format!("{}/pick/app", registry.host());
    let run = desk.sealift(&["export", "--dry-run", "--include", "9*", &image]);
    run.code(1).stderr_contains("none of the 7 tags").stderr_contains(&image).stderr_contains("--include");
}

#[rstest]
#[case::key("127.0.0.1:1:\n  image: {}\n", "sync.yaml, line 2: 127.0.0.1:1: image: this is an unknown key")]
#[case::expression(
    "127.0.0.1:1:\n  images-by-tag-regex:\n    app: '['\n",
    "sync.yaml, line 3: 127.0.0.1:1: images-by-tag-regex: app"
)]
#[case::cert_dir(
    "127.0.0.1:1:\n  images: {app: []}\n  cert-dir: certs\n",
    "sync.yaml, line 1: 127.0.0.1:1: cert-dir: certs is not a directory"
)]
#[case::nothing("127.0.0.1:1:\n  images: {}\n", "there is nothing to export")]
fn what_a_file_says_and_cannot_be_done_is_an_error(#[case] yaml: &str, #[case] said: &str) {
    let desk = desk!();
    fs::write(desk.path().join("sync.yaml"), yaml).unwrap();
    desk.sealift(&["export", "--dry-run", "--from", "sync.yaml"]).code(2).stderr_contains(said);
}

#[test]
fn a_login_in_the_file_is_used_and_never_shown() {
    let (registry, desk) = (RealRegistry::with_htpasswd(true), desk!());
    let (user, password) = (support::HTPASSWD_USER, support::HTPASSWD_PASSWORD);
    let yaml = |password: &str| {
        format!(
            "{}:\n  images:\n    library/busybox: ['1.35']\n  credentials:\n    username: {user}\n    password: '{password}'\n",
            registry.host()
        )
    };
    fs::write(desk.path().join("sync.yaml"), yaml(password)).unwrap();
    assert_eq!(planned(&desk, &["--from", "sync.yaml"]), ["library/busybox:1.35"]);
    let refused = desk.sealift(&["export", "--dry-run", "--from", "sync.yaml", "--no-creds"]);
    refused.code(1);
    fs::write(desk.path().join("sync.yaml"), yaml("planted-wrong")).unwrap();
    let refused = desk.sealift(&["export", "--dry-run", "-vv", "--from", "sync.yaml"]);
    assert!(!refused.code(1).stderr().contains("planted"), "{}", refused.stderr());
    let twice = desk.sealift(&["export", "--dry-run", "--from", "sync.yaml", "--creds", "alice:planted"]);
    twice.code(2).stderr_contains("two logins");
}

#[test]
fn a_repository_that_cannot_be_listed_stops_the_run_or_is_gone_past() {
    let (registry, desk) = (registry(), desk!());
    let proxy = FaultProxy::start(registry.host());
    proxy.inject(Rule::on("GET", "/pick/tool/tags/list").answer(403, &[], "{}"));
    let yaml = format!("{}:\n  images: {{pick/tool: [], pick/app: [], pick/gone: []}}\n", proxy.host());
    fs::write(desk.path().join("sync.yaml"), yaml).unwrap();
    let export = ["export", "--from", "sync.yaml", "--output", "bundle", "--key", "key", "--retry-delay", "0.05"];
    desk.sealift(&export).code(1).stderr_contains("pick/tool").stderr_contains("pick/gone");
    assert!(!desk.path().join("bundle").exists());
    let partly = desk.sealift(&[&export[..], &["--keep-going"]].concat());
    partly.code(4).stderr_contains("pick/tool").stderr_contains("pick/gone").stderr_contains("2 of 9");
    let json = desk.sealift(&["inspect", "bundle", "--json"]).success().stdout();
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["totals"]["images"], 7, "{json}");
}
