//! What is carried besides the image that was named: referrers, platforms; and what is left out when it fails.

use rstest::rstest;
use serde_json::{Value, json};
use support::{
    FaultProxy, RealRegistry, Rule, desk, get, put_manifest, raw_manifest, references, request, sha256, skopeo,
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An index with a signature (cosign's tag), and an SBOM by `subject` and an attestation (cosign's tag) on a child.
struct Signed {
    source: RealRegistry,
    index: String,
    child: String,
    signature: String,
    sbom: String,
    attestation: String,
}

impl Signed {
    fn new() -> Self {
        let source = RealRegistry::with_corpus();
        let host = source.host().to_owned();
        let found = raw_manifest(&host, REPOSITORY, "1.35").expect("busybox is in the corpus");
        let index: Value = serde_json::from_slice(&found.bytes).unwrap();
        let child = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
        let about = |digest: &str| format!("sha256-{}", &digest["sha256:".len()..]);
        let artifact = |note: &str, subject: Option<&str>, tag: &str| {
            let bytes = artifact(&host, note, subject);
            let tag = if tag.is_empty() { sha256(&bytes) } else { tag.to_owned() };
            put_manifest(&host, REPOSITORY, &tag, MANIFEST, &bytes);
            (sha256(&bytes), bytes.len())
        };
        let (signature, _) = artifact("signature", None, &format!("{}.sig", about(&found.digest)));
        let (attestation, _) = artifact("attestation", None, &format!("{}.att", about(&child)));
        let (sbom, size) = artifact("sbom", Some(&child), "");
        // docker-registry does not know the referrers API: its clients keep this index.
        let entry =
            json!({"mediaType": MANIFEST, "digest": sbom, "size": size, "artifactType": "application/spdx+json"});
        let fallback = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
        put_manifest(&host, REPOSITORY, &about(&child), INDEX, fallback.as_bytes());
        Signed { source, index: found.digest, child, signature, sbom, attestation }
    }
}

const REPOSITORY: &str = "library/busybox";

#[rstest]
#[case::registry_without_the_api(false)]
#[case::registry_with_the_api(true)]
fn signatures_sboms_and_attestations_are_found_on_the_other_side(#[case] api: bool) {
    let (signed, desk) = (Signed::new(), desk!());
    let (real, served) = (RealRegistry::start(), desk.serve(&["--writable", "registry"]));
    let destination = if api { served.host() } else { real.host() };
    desk.export(&[format!("{}/{REPOSITORY}:1.35", signed.source.host())]).success();
    desk.import("bundle", destination, &[]).success();

    let at = |reference: &str| raw_manifest(destination, REPOSITORY, reference).map(|found| sha256(&found.bytes));
    let tag = |digest: &str, suffix: &str| format!("sha256-{}{suffix}", &digest["sha256:".len()..]);
    assert_eq!(at(&tag(&signed.index, ".sig")), Some(signed.signature.clone()));
    assert_eq!(at(&tag(&signed.child, ".att")), Some(signed.attestation.clone()));
    assert_eq!(at(&signed.sbom), Some(signed.sbom.clone()));
    let listed = |answer: support::Answer| -> Vec<String> {
        let index: Value = serde_json::from_slice(&answer.body).unwrap();
        let manifests = index["manifests"].as_array().cloned().unwrap_or_default();
        manifests.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect()
    };
    let by_tag = get(destination, &format!("/v2/{REPOSITORY}/manifests/{}", tag(&signed.child, "")));
    assert_eq!(listed(by_tag), [signed.sbom.as_str()]);
    if api {
        let by_api = get(destination, &format!("/v2/{REPOSITORY}/referrers/{}", signed.child));
        assert_eq!(listed(by_api), [signed.sbom.as_str()]);
    }
}

#[test]
fn a_source_with_the_api_and_a_destination_without_it_agree_on_referrers() {
    let (signed, desk) = (Signed::new(), desk!());
    let between = desk.serve(&["--writable", "between"]);
    desk.export(&[format!("{}/{REPOSITORY}:1.35", signed.source.host())]).success();
    desk.import("bundle", between.host(), &[]).success();
    // Only the API knows now.
    let tag = format!("sha256-{}", &signed.child["sha256:".len()..]);
    assert_eq!(support::delete(between.host(), &format!("/v2/{REPOSITORY}/manifests/{tag}")).status, 202);

    let destination = RealRegistry::start();
    let image = format!("{}/{REPOSITORY}:1.35", between.host());
    desk.sealift(&["export", &image, "--output", "again", "--key", "key"]).success();
    desk.import("again", destination.host(), &[]).success();
    let made = raw_manifest(destination.host(), REPOSITORY, &tag).expect("the list of referrers was made");
    let made: Value = serde_json::from_slice(&made.bytes).unwrap();
    assert_eq!(made["manifests"][0]["digest"], signed.sbom);
    assert_eq!(made["manifests"][0]["artifactType"], "application/spdx+json");
}

#[test]
fn without_referrers_none_are_carried() {
    let (signed, desk) = (Signed::new(), desk!());
    desk.export(&["--no-referrers", &format!("{}/{REPOSITORY}:1.35", signed.source.host())]).success();
    let json = desk.sealift(&["inspect", "bundle", "--json"]).success().stdout();
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["totals"]["images"], 1, "{json}");
    let plan = desk.sealift(&["export", "--dry-run", "--json", &format!("{}/{REPOSITORY}:1.35", signed.source.host())]);
    let value: Value = serde_json::from_str(&plan.success().stdout()).unwrap();
    assert_eq!(value["totals"]["images"], 4, "{value:#}");
}

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
    let refused = desk.import("bundle", strict.host(), &[]);
    refused.code(1).stderr_contains("--platform");
    desk.import("bundle", lenient.host(), &[]).success();
    assert_eq!(sha256(&raw_manifest(lenient.host(), REPOSITORY, "three").unwrap().bytes), index);
    assert!(raw_manifest(lenient.host(), "team/tools/jq", "1").is_none());
}

#[test]
fn what_fails_is_named_and_the_rest_is_done() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let proxy = FaultProxy::start(source.host());
    let mut images: Vec<String> =
        references().iter().filter(|r| r.is_tagged()).take(7).map(|reference| reference.at(proxy.host())).collect();
    let lost = lost_layer(&source);
    let schema1 = [("content-type", "application/vnd.docker.distribution.manifest.v1+prettyjws")];
    proxy.inject(Rule::on("GET", "/manifests/old").answer(200, &schema1, r#"{"schemaVersion":1}"#));
    images.extend(["team/app:missing", "team/app:old", "team/lost:1"].map(|name| format!("{}/{name}", proxy.host())));

    desk.export(&images).code(3).stderr_contains("schema 1");
    assert!(!desk.path().join("bundle").exists());
    let arguments: Vec<&str> = std::iter::once("--keep-going").chain(images.iter().map(String::as_str)).collect();
    let partly = desk.export(&arguments);
    partly.code(3).stderr_contains("team/app:missing").stderr_contains("team/app:old").stderr_contains("team/lost:1");
    // Without what is refused on purpose it is exit code 4.
    desk.shell(".", "rm -r bundle");
    let arguments: Vec<&str> = arguments.into_iter().filter(|image| !image.ends_with(":old")).collect();
    desk.export(&arguments).code(4).stderr_contains("team/app:missing").stderr_contains(&lost);

    let destination = RealRegistry::start();
    desk.import("bundle", destination.host(), &[]).success();
    let landed: usize =
        support::catalog(destination.host()).iter().map(|r| support::tags(destination.host(), r).len()).sum();
    assert!(landed >= 7, "{landed}");
    assert!(raw_manifest(destination.host(), "team/lost", "1").is_none());
}

#[test]
fn an_import_goes_past_a_damaged_layer_and_still_says_3() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let images = ["library/busybox:1.35", "docker/single:2.36"].map(|name| format!("{}/{name}", source.host()));
    desk.export(&images).success();
    desk.flip_largest_blob("bundle");
    let partly = desk.import("bundle", destination.host(), &["--keep-going"]);
    partly.code(3).stderr_contains("blobs/sha256/");
    let there = |repository: &str, tag: &str| raw_manifest(destination.host(), repository, tag).is_some();
    assert!(there("library/busybox", "1.35") ^ there("docker/single", "2.36"), "one of the two must be there");
}

/// An image one of whose layers its registry has lost; returns the layer's digest.
fn lost_layer(source: &RealRegistry) -> String {
    let host = source.host();
    let bytes = artifact_in(host, "team/lost", "lost", None);
    put_manifest(host, "team/lost", "1", MANIFEST, &bytes);
    let manifest: Value = serde_json::from_slice(&bytes).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(support::delete(host, &format!("/v2/team/lost/blobs/{layer}")).status, 202);
    layer
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

fn artifact(host: &str, note: &str, subject: Option<&str>) -> Vec<u8> {
    artifact_in(host, REPOSITORY, note, subject)
}

/// The manifest of an artifact with one layer, which is pushed; the manifest itself is not.
fn artifact_in(host: &str, repository: &str, note: &str, subject: Option<&str>) -> Vec<u8> {
    let blob = |media_type: &str, bytes: &[u8]| {
        let begun = request(host, "POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"").unwrap();
        let location = begun.header("location").unwrap().to_owned();
        let path = &location[location.find("/v2/").unwrap()..];
        let done = request(host, "PUT", &format!("{path}&digest={}", sha256(bytes)), &[], bytes).unwrap();
        assert_eq!(done.status, 201);
        json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()})
    };
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/spdx+json",
        "config": blob("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [blob("text/plain", format!("a {note}").as_bytes())],
    });
    if let Some(subject) = subject {
        let found = raw_manifest(host, repository, subject).expect("a subject");
        manifest["subject"] = json!({"mediaType": MANIFEST, "digest": subject, "size": found.bytes.len()});
    }
    manifest.to_string().into_bytes()
}
