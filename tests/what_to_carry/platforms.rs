//! Some platforms of an index.

use serde_json::{Value, json};
use support::{RealRegistry, desk, put_manifest, raw_manifest, sha256, skopeo};

use crate::{INDEX, MANIFEST, REPOSITORY, artifact};

#[test]
fn one_platform_lands_as_its_own_manifest() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let image = format!("{}/{REPOSITORY}:1.35", source.host());
    desk.export(&["--platform", "linux/arm64", &image]).success();
    desk.import("bundle", destination.host(), &[]).success();
    let inspected = skopeo(&[
        "inspect",
        "--override-arch=arm64",
        "--tls-verify=false",
        &format!("docker://{}/{REPOSITORY}:1.35", destination.host()),
    ]);
    let inspected: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected["Architecture"], "arm64");
    let plan = desk.sealift(&["export", "--dry-run", "--platform", "linux/arm64", &image]).success().stdout();
    let digest = inspected["Digest"].as_str().unwrap();
    assert!(plan.contains(&digest["sha256:".len()..][..12]) && plan.contains("    for linux/arm64\n"), "{plan}");
    assert_eq!(raw_manifest(destination.host(), REPOSITORY, "1.35").unwrap().media_type, MANIFEST);
    let refused = desk.sealift(&["export", "--dry-run", "--platform", "plan9/mips", &image]);
    refused.code(1).stderr_contains("it has linux/amd64, linux/arm64");
}

#[test]
fn some_platforms_keep_the_index_where_the_registry_takes_it() {
    let (source, strict, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let lenient = desk.serve(&["--writable", "registry"]);
    let index = three_platforms(&source);
    let image = format!("{}/{REPOSITORY}:three", source.host());
    desk.export(&["--platform", "linux/amd64", "--platform", "linux/arm64", &image]).success();
    desk.sealift(&["verify", "bundle", "--trust", "allowed_signers"]).success();
    let wishes = ["--platform", "linux/amd64", "--platform", "plan9/mips"];
    let partly = desk.sealift(&[&["export", "--dry-run", &image], &wishes[..]].concat());
    partly.success().stderr_contains("warning: library/busybox:three is not there for plan9/mips");
    let dry = desk.sealift(&["import", "bundle", strict.host(), "--trust", "allowed_signers", "--dry-run"]);
    dry.success().stderr_contains("the bundle leaves platforms out");
    let refused = desk.import("bundle", strict.host(), &[]);
    refused.code(1).stderr_contains("hint: the bundle leaves platforms out").stderr_contains("a single --platform");
    let events = desk.import("bundle", lenient.host(), &["--progress", "json"]).success().stderr();
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let position = |event: &str| events.iter().position(|known| known["event"] == event).unwrap();
    assert!(position("warning") < position("blob-started"), "what it means is said before layers are sent");
    assert_eq!(sha256(&raw_manifest(lenient.host(), REPOSITORY, "three").unwrap().bytes), index);
    assert!(raw_manifest(lenient.host(), "team/tools/jq", "1").is_none());
}

/// Two platforms of busybox and one more, under the tag `three`; returns the index's digest.
fn three_platforms(source: &RealRegistry) -> String {
    let host = source.host();
    let found = raw_manifest(host, REPOSITORY, "1.35").expect("busybox is in the corpus");
    let mut index: Value = serde_json::from_slice(&found.bytes).unwrap();
    let third = artifact(host, "third", None);
    put_manifest(host, REPOSITORY, &sha256(&third), MANIFEST, &third);
    index["manifests"].as_array_mut().unwrap().push(json!({
        "mediaType": MANIFEST, "digest": sha256(&third), "size": third.len(),
        "platform": {"os": "linux", "architecture": "riscv64"},
    }));
    let bytes = index.to_string();
    put_manifest(host, REPOSITORY, "three", INDEX, bytes.as_bytes());
    sha256(bytes.as_bytes())
}
