//! Documents that registries hold and that are not as the specifications have them: what can be carried is, the rest is
//! named and left out.

use std::fs;

use rstest::rstest;
use serde_json::{Value, json};
use support::{Desk, FaultProxy, RealRegistry, Rule, Run, desk, push_image, put_manifest, raw_manifest, sha256, tags};

use super::{INDEX, MANIFEST};

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Pushed by ORAS before 1.0 and by Notation's first releases; oras-project/oras issue 652 is its end.
const ORAS_ARTIFACT: &str = "application/vnd.cncf.oras.artifact.manifest.v1+json";

/// A registry with the images `team/app:amd64`, `team/app:arm64` and `team/good:1`.
struct Scene {
    source: RealRegistry,
    desk: Desk,
}

impl Scene {
    fn new() -> Self {
        let source = RealRegistry::start();
        for tag in ["amd64", "arm64"] {
            push_image(source.host(), "team/app", tag, &[tag.as_bytes()]);
        }
        push_image(source.host(), "team/good", "1", &[b"good"]);
        Scene { source, desk: desk!() }
    }

    fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.source.host())
    }

    /// The descriptor of `team/app:TAG`, as an index lists it.
    fn child(&self, tag: &str) -> Value {
        let found = raw_manifest(self.source.host(), "team/app", tag).expect("it was pushed");
        json!({
            "mediaType": MANIFEST, "digest": sha256(&found.bytes), "size": found.bytes.len(),
            "platform": {"os": "linux", "architecture": tag},
        })
    }

    /// Puts an index of these children under a tag; docker-registry looks only whether they are there.
    fn index(&self, tag: &str, children: &[Value]) -> String {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).to_string();
        put_manifest(self.source.host(), "team/app", tag, INDEX, index.as_bytes());
        sha256(index.as_bytes())
    }

    fn export(&self, options: &[&str], images: &[&str]) -> Run {
        let fixed = ["export", "--output", "bundle", "--key", "key", "--retry-delay", "0.05"];
        self.desk.sealift(&[&fixed, options, images].concat())
    }

    /// Exports `failing` and a good image with `--keep-going`: the good one is sealed alone.
    fn the_rest_is_sealed(&self, failing: &str) -> Run {
        let partly = self.export(&["--keep-going", "--json"], &[failing, &self.image("team/good:1")]);
        partly.code(4).stderr_contains("the rest is done").stderr_contains(failing);
        self.desk.sealift(&["verify", "bundle", "--trust", "allowed_signers"]).success();
        let answer: Value = serde_json::from_str(&partly.stdout()).expect("JSON");
        assert_eq!(answer["images"].as_array().map(Vec::len), Some(1), "{answer:#}");
        assert_eq!(answer["images"][0]["name"], "team/good:1");
        partly
    }
}

/// Kubernetes' coredns 1.1.3 is such an index (kubernetes/kubernetes issue 65253, containerd/containerd issue 2401):
/// docker's manifest command wrote wrong sizes (openfaas/store issue 58).
#[rstest]
#[case::size("size", json!(130), "the index says 130 bytes, the manifest has")]
#[case::media_type("mediaType", json!(DOCKER_MANIFEST), "the index says application/vnd.docker")]
fn an_index_that_is_wrong_about_a_child_is_named_and_left_out(
    #[case] field: &str,
    #[case] value: Value,
    #[case] said: &str,
) {
    let scene = Scene::new();
    let mut wrong = scene.child("arm64");
    wrong[field] = value;
    let digest = wrong["digest"].as_str().unwrap().to_owned();
    scene.index("wrong", &[scene.child("amd64"), wrong]);
    let image = scene.image("team/app:wrong");
    let refused = scene.export(&[], &[&image]);
    refused.code(3).stderr_contains(&image).stderr_contains(said).stderr_contains("the publisher's mistake");
    refused.stderr_contains(&format!("{digest} (linux/arm64)"));
    refused.stderr_contains("--platform with one of linux/amd64, linux/arm64");
    refused.stderr_contains(&format!("by its digest: {}@{digest}", scene.image("team/app")));
    assert!(!scene.desk.path().join("bundle").exists());
    scene.the_rest_is_sealed(&image);

    // Both ways on, of which one is an image for one platform under the same name.
    let destination = RealRegistry::start();
    let by_digest = format!("{}@{digest}", scene.image("team/app"));
    for (options, image, expected) in
        [(&["--platform", "linux/arm64"][..], &image, "wrong"), (&[], &by_digest, digest.as_str())]
    {
        fs::remove_dir_all(scene.desk.path().join("bundle")).unwrap();
        scene.export(options, &[image]).success();
        scene.desk.import("bundle", destination.host(), &[]).success();
        let landed = raw_manifest(destination.host(), "team/app", expected).expect("it landed");
        assert_eq!(sha256(&landed.bytes), digest);
    }
}

#[test]
fn a_sync_leaves_out_an_index_that_is_wrong_about_a_child() {
    let (scene, destination) = (Scene::new(), RealRegistry::start());
    let mut wrong = scene.child("arm64");
    wrong["size"] = json!(130);
    scene.index("wrong", &[scene.child("amd64"), wrong]);
    let app = scene.image("team/app");
    let line = ["sync", "-s", "docker", "-d", "docker", "--all", &app, destination.host()];
    let refused = scene.desk.sealift(&line);
    refused.code(3).stderr_contains("the publisher's mistake").stderr_contains("hint: leave out --all");
    assert_eq!(tags(destination.host(), "app"), [""; 0]);
    let partly = scene.desk.sealift(&[&line[..], &["--keep-going"]].concat());
    partly.code(4).stderr_contains("team/app:wrong").stderr_contains("the publisher's mistake");
    assert_eq!(tags(destination.host(), "app"), ["amd64", "arm64"]);
}

/// Each is refused by bundle-spec 7.2, whatever registries and other clients make of it.
#[rstest]
#[case::no_layers(MANIFEST, json!({"schemaVersion": 2, "config": config()}), "layers is missing")]
#[case::null_layers(MANIFEST, json!({"schemaVersion": 2, "config": config(), "layers": null}), "layers is null")]
#[case::null_manifests(INDEX, json!({"schemaVersion": 2, "manifests": null}), "manifests is null")]
#[case::artifact(ORAS_ARTIFACT, json!({"mediaType": ORAS_ARTIFACT, "artifactType": "a/b", "blobs": []}), ORAS_ARTIFACT)]
#[case::artifact_by_itself("application/json", json!({"mediaType": ORAS_ARTIFACT, "blobs": []}), ORAS_ARTIFACT)]
fn a_document_that_is_refused_is_named_with_its_field_or_type(
    #[case] media_type: &str,
    #[case] document: Value,
    #[case] said: &str,
) {
    let (scene, destination) = (Scene::new(), RealRegistry::start());
    let proxy = FaultProxy::start(scene.source.host());
    let answer = document.to_string();
    proxy.inject(Rule::on("GET", "/team/odd/manifests/1").answer(200, &[("content-type", media_type)], &answer));
    let odd = format!("{}/team/odd:1", proxy.host());
    scene.export(&[], &[&odd]).code(3).stderr_contains(&odd).stderr_contains(said);
    scene.the_rest_is_sealed(&odd).stderr_contains(said);

    let yaml = format!("{}:\n  images: {{team/odd: ['1'], team/good: ['1']}}\n", proxy.host());
    fs::write(scene.desk.path().join("sync.yaml"), yaml).unwrap();
    let line = ["sync", "-s", "yaml", "-d", "docker", "sync.yaml", destination.host()];
    scene.desk.sealift(&line).code(3).stderr_contains("team/odd:1").stderr_contains(said);
    assert_eq!(tags(destination.host(), "good"), [""; 0]);
    let partly = scene.desk.sealift(&[&line[..], &["--keep-going"]].concat());
    partly.code(4).stderr_contains("team/odd:1").stderr_contains(said);
    assert_eq!(tags(destination.host(), "good"), ["1"]);
}

/// skopeo 1.9 copies such an index, containerd 1.6 imports it; the fields of `platform` are what a client chooses by, and
/// nothing is chosen here.
#[rstest]
#[case::empty(json!({}), json!({}))]
#[case::half(json!({"os": "linux"}), json!({"architecture": "arm64"}))]
#[case::one_of_two(json!({"os": "linux", "architecture": "amd64"}), json!({}))]
fn platforms_that_say_nothing_are_carried(#[case] one: Value, #[case] other: Value) {
    let (scene, destination) = (Scene::new(), RealRegistry::start());
    let [mut amd64, mut arm64] = ["amd64", "arm64"].map(|tag| scene.child(tag));
    (amd64["platform"], arm64["platform"]) = (one, other);
    let digest = scene.index("bare", &[amd64, arm64]);
    scene.export(&[], &[&scene.image("team/app:bare")]).success();
    scene.desk.sealift(&["inspect", "bundle", "--trust", "allowed_signers"]).success();
    scene.desk.import("bundle", destination.host(), &[]).success();
    let landed = raw_manifest(destination.host(), "team/app", "bare").expect("it landed");
    assert_eq!(sha256(&landed.bytes), digest);
    let from = format!("docker://{}/team/app:bare", destination.host());
    let to = format!("dir:{}", scene.desk.path().join("copied").display());
    support::skopeo(&["--insecure-policy", "copy", "-q", "--all", "--src-tls-verify=false", &from, &to]);
}

#[test]
fn an_artifact_with_an_image_as_its_layer_is_carried_without_that_image() {
    let scene = Scene::new();
    let image = raw_manifest(scene.source.host(), "team/app", "amd64").expect("it was pushed");
    support::push_blob(scene.source.host(), "team/wrap", &image.bytes);
    let layer = json!({"mediaType": MANIFEST, "digest": sha256(&image.bytes), "size": image.bytes.len()});
    support::push_blob(scene.source.host(), "team/wrap", b"{}");
    let artifact =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config(), "layers": [layer]}).to_string();
    put_manifest(scene.source.host(), "team/wrap", "1", MANIFEST, artifact.as_bytes());
    let images = ["team/wrap:1", "team/app:amd64"].map(|name| scene.image(name));
    let refused = scene.export(&[], &[&images[0], &images[1]]);
    refused.code(3).stderr_contains(&format!("a layer or config of this image and a manifest of {}", images[1]));
    refused.stderr_contains("bundle-spec, section 7.3").stderr_contains("hint: export two bundles");
    let partly = scene.export(&["--keep-going"], &[&images[0], &images[1]]);
    partly.code(4).stderr_contains(&images[0]).stderr_contains("hint: export two bundles");
    let json = scene.desk.sealift(&["inspect", "bundle", "--trust", "allowed_signers", "--json"]).success().stdout();
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (value["images"].as_array().map(Vec::len), &value["images"][0]["name"]),
        (Some(1), &json!("team/app:amd64"))
    );
    // Two bundles, as the hint says.
    fs::remove_dir_all(scene.desk.path().join("bundle")).unwrap();
    scene.export(&[], &[&images[0]]).success();
    let destination = RealRegistry::start();
    scene.desk.import("bundle", destination.host(), &[]).success();
    assert_eq!(tags(destination.host(), "team/wrap"), ["1"]);
}

#[test]
fn a_child_that_is_missing_is_named_and_the_other_platforms_can_be_carried() {
    let scene = Scene::new();
    let arm64 = scene.child("arm64");
    scene.index("two", &[scene.child("amd64"), arm64.clone()]);
    let gone = arm64["digest"].as_str().unwrap();
    assert_eq!(support::delete(scene.source.host(), &format!("/v2/team/app/manifests/{gone}")).status, 202);
    let image = scene.image("team/app:two");
    let failed = scene.export(&[], &[&image]);
    failed.code(1).stderr_contains(&format!("its index lists {gone} (linux/arm64)"));
    failed.stderr_contains("hint: carry the other platforms: --platform linux/amd64\n");
    scene.export(&["--platform", "linux/amd64"], &[&image]).success();
    let both = ["--platform", "linux/amd64", "--platform", "linux/arm64"];
    let failed = scene.desk.sealift(&[&["export", "--dry-run", &image], &both[..]].concat());
    failed.code(1).stderr_contains("ask only for platforms that are there: linux/amd64\n");
}

/// Neither is refused here, and each by registries: by an index that lists blobs, as buildkit's cache is, many of them
/// (moby/buildkit issue 2251); by an annotation that is a number those that are written in Go, docker-registry for one.
#[test]
fn what_some_registries_refuse_is_told() {
    let (desk, strict) = (desk!(), RealRegistry::start());
    let lenient = desk.serve(&["--writable", "registry"]);
    let host = lenient.host();
    let layer = support::push_blob(host, "team/cache", b"layer");
    let cache = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 5},
    ]});
    put_manifest(host, "team/cache", "1", INDEX, cache.to_string().as_bytes());
    support::push_blob(host, "team/number", b"{}");
    let number = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config(), "layers": [], "annotations": {"build": 7},
    });
    put_manifest(host, "team/number", "1", MANIFEST, number.to_string().as_bytes());
    let images = ["team/cache:1", "team/number:1"].map(|name| format!("{host}/{name}"));
    let run = desk.export(&images);
    run.success().stderr_contains("warning: team/cache:1: some registries refuse an index that lists blobs");
    run.stderr_contains("warning: team/number:1: some registries refuse an annotation that is not a text");
    desk.import("bundle", strict.host(), &["--only", "team/number", "--retry-times", "0"])
        .code(1)
        .stderr_contains("400");
}

/// The descriptor of an artifact's empty config (image-spec, manifest.md).
fn config() -> Value {
    json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256(b"{}"), "size": 2})
}
