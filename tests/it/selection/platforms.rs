//! Some platforms of an index.

use serde_json::{Value, json};
use support::{RealRegistry, desk, push_blob, push_image, put_manifest, raw_manifest, sha256, skopeo};

use super::{INDEX, MANIFEST, REPOSITORY, artifact};

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

/// golang:1.17 has three versions of Windows, and whoever takes the first gets one that does not run elsewhere
/// (ko-build/ko issue 534, google/go-containerregistry pull request 1173).
#[test]
fn a_version_of_windows_is_chosen_by_name_and_never_silently() {
    let (source, destination, desk) = (RealRegistry::start(), RealRegistry::start(), desk!());
    let host = source.host();
    let versions = ["10.0.20348.1", "10.0.17763.2300"];
    let mut children: Vec<Value> = versions.map(|version| child(host, version, "windows", version)).into();
    children.push(child(host, "linux", "linux", ""));
    index(host, "windows", &children);
    let image = format!("{host}/{REPOSITORY}:windows");

    let several = desk.sealift(&["export", "--dry-run", "--platform", "windows/amd64", &image]);
    several.code(2).stderr_contains("the index has 2 platforms that fit windows/amd64");
    for (version, child) in versions.iter().zip(&children) {
        several.stderr_contains(&format!("windows/amd64:{version}  {}", child["digest"].as_str().unwrap()));
    }
    several.stderr_contains("hint: say which: --platform windows/amd64:10.0.20348.1, windows/amd64:10.0.17763.2300");
    let missing = desk.sealift(&["export", "--dry-run", "--platform", "windows/amd64:10.0.1", &image]);
    missing.code(1).stderr_contains("it has windows/amd64:10.0.20348.1, windows/amd64:10.0.17763.2300, linux/amd64");

    let plan = desk.sealift(&["export", "--dry-run", &image]).success().stdout();
    let shown = "    for windows/amd64:10.0.20348.1, windows/amd64:10.0.17763.2300, linux/amd64\n";
    assert!(plan.contains(shown), "{plan}");
    // All digits, or those that tell the build.
    for asked in ["windows/amd64:10.0.17763.2300", "windows/amd64:10.0.17763"] {
        let json = desk.sealift(&["export", "--dry-run", "--json", "--platform", asked, &image]).success().stdout();
        let plan: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(plan["images"][0]["digest"], children[1]["digest"]);
        assert_eq!(plan["images"][0]["platforms"], json!(["windows/amd64:10.0.17763.2300"]), "its config says so, too");
    }
    desk.export(&["--platform", "windows/amd64:10.0.17763", &image]).success();
    let inspected = desk.sealift(&["inspect", "bundle", "--trust", "allowed_signers"]).success().stdout();
    assert!(inspected.contains("    for windows/amd64:10.0.17763.2300\n"), "{inspected}");
    desk.import("bundle", destination.host(), &[]).success();
    let landed = raw_manifest(destination.host(), REPOSITORY, "windows").expect("it landed");
    assert_eq!(sha256(&landed.bytes), children[1]["digest"].as_str().unwrap());
    // An index that is kept loses nothing that fits.
    let kept = ["--platform", "windows/amd64", "--platform-as", "index", "--dry-run", "--json"];
    let json = desk.sealift(&[&["export", &image], &kept[..]].concat()).success().stdout();
    let plan: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(plan["images"][0]["platforms"].as_array().map(Vec::len), Some(2), "{json}");
    assert_eq!(plan["images"][0]["platformsLeftOut"], json!(["linux/amd64"]));
}

/// Nydus lists an image for its own snapshotter beside the one for every other (dragonflyoss/nydus issue 1692).
#[test]
fn images_for_certain_features_are_chosen_by_digest() {
    let (source, desk) = (RealRegistry::start(), desk!());
    let host = source.host();
    let mut nydus = child(host, "nydus", "linux", "");
    nydus["platform"]["os.features"] = json!(["nydus.remoteimage.v1"]);
    let digest = nydus["digest"].as_str().unwrap().to_owned();
    index(host, "nydus", &[nydus, child(host, "plain", "linux", "")]);
    let image = format!("{host}/{REPOSITORY}:nydus");
    let several = desk.sealift(&["export", "--dry-run", "--platform", "linux/amd64", &image]);
    several.code(2).stderr_contains(&format!("linux/amd64+nydus.remoteimage.v1  {digest}"));
    several.stderr_contains("hint: no option tells them apart: name one of them by its digest");
    desk.sealift(&["export", "--dry-run", &format!("{host}/{REPOSITORY}@{digest}")]).success();
}

/// buildkit lists them in the index alone: they are no referrers.
#[test]
fn attestations_that_stay_behind_are_counted() {
    let (source, desk) = (RealRegistry::start(), desk!());
    let host = source.host();
    let about = child(host, "amd64", "linux", "");
    let mut attestation = child(host, "attestation", "unknown", "");
    attestation["platform"]["architecture"] = json!("unknown");
    attestation["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": about["digest"],
    });
    index(host, "attested", &[about, attestation]);
    let image = format!("{host}/{REPOSITORY}:attested");
    let one = desk.sealift(&["export", "--dry-run", "--platform", "linux/amd64", &image]);
    one.success().stderr_contains("warning: a single --platform leaves 1 attestation behind");
    one.stderr_contains("to keep it, add --platform-as index");
    for options in [&["--platform", "linux/amd64", "--platform-as", "index"][..], &[]] {
        let run = desk.sealift(&[&["export", "--dry-run", &image], options].concat());
        assert!(!run.success().stderr().contains("attestation"), "{}", run.stderr());
    }
}

#[test]
fn the_answer_of_an_export_tells_what_a_single_image_is_for() {
    let (source, desk) = (RealRegistry::start(), desk!());
    push_image(source.host(), "team/app", "1", &[b"layer"]);
    let image = format!("{}/team/app:1", source.host());
    for output in ["b", "b.tar", "b.tar.zst"] {
        let json = desk.sealift(&["export", &image, "-o", output, "-k", "key", "--json"]).success().stdout();
        let answer: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(answer["images"][0]["platforms"], json!(["linux/amd64"]), "{output}: {json}");
    }
}

/// Pushes an image, whose config has the same version; returns its descriptor.
fn child(host: &str, note: &str, os: &str, version: &str) -> Value {
    let mut platform = json!({"os": os, "architecture": "amd64"});
    if !version.is_empty() {
        platform["os.version"] = json!(version);
    }
    let mut config = platform.clone();
    config["author"] = json!(note);
    let config = config.to_string();
    let config = json!({
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": push_blob(host, REPOSITORY, config.as_bytes()),
        "size": config.len(),
    });
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}).to_string();
    put_manifest(host, REPOSITORY, &sha256(manifest.as_bytes()), MANIFEST, manifest.as_bytes());
    json!({
        "mediaType": MANIFEST, "digest": sha256(manifest.as_bytes()), "size": manifest.len(), "platform": platform,
    })
}

fn index(host: &str, tag: &str, children: &[Value]) {
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).to_string();
    put_manifest(host, REPOSITORY, tag, INDEX, index.as_bytes());
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
