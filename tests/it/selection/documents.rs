//! Manifests that registries serve as something else than they are, and content that manifests carry themselves.

use rstest::rstest;
use serde_json::{Value, json};
use support::{FaultProxy, RealRegistry, Rule, desk, push_blob, put_manifest, raw_blob, raw_manifest, sha256};

use super::{INDEX, MANIFEST};

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Nexus serves manifests without `mediaType` as Docker's (buildah issue 575, where a push by buildah cannot be pulled).
/// docker-registry refuses a Docker manifest without that field, so that an import as such must fail.
#[rstest]
#[case::manifest(false)]
#[case::index(true)]
fn a_manifest_without_its_media_type_lands_as_what_its_bytes_prove(#[case] in_index: bool) {
    let (source, desk, destination) = (RealRegistry::start(), desk!(), RealRegistry::start());
    let manifest = manifest(source.host(), CONFIG);
    let tag = if in_index { sha256(manifest.as_bytes()) } else { "1".to_owned() };
    put_manifest(source.host(), "app", &tag, MANIFEST, manifest.as_bytes());
    let index = index(&manifest, MANIFEST);
    if in_index {
        put_manifest(source.host(), "app", "1", INDEX, index.as_bytes());
    }
    let proxy = FaultProxy::start(source.host());
    serve_as(&proxy, &tag, DOCKER_MANIFEST, &manifest);
    if in_index {
        serve_as(&proxy, "1", DOCKER_LIST, &index);
    }
    desk.export(&[format!("{}/app:1", proxy.host())]).success();
    desk.import("bundle", destination.host(), &[]).success();
    let landed = raw_manifest(destination.host(), "app", "1").expect("it is there");
    assert_eq!(landed.media_type, if in_index { INDEX } else { MANIFEST });
    assert_eq!(landed.bytes, raw_manifest(source.host(), "app", "1").unwrap().bytes);
}

/// Its config says nothing, so that the type that its index gives it decides.
#[test]
fn a_child_without_its_media_type_is_what_its_index_says() {
    let (source, desk, destination) = (RealRegistry::start(), desk!(), RealRegistry::start());
    let manifest = manifest(source.host(), "application/x");
    let digest = sha256(manifest.as_bytes());
    put_manifest(source.host(), "app", &digest, MANIFEST, manifest.as_bytes());
    put_manifest(source.host(), "app", "1", INDEX, index(&manifest, MANIFEST).as_bytes());
    let proxy = FaultProxy::start(source.host());
    serve_as(&proxy, &digest, DOCKER_MANIFEST, &manifest);
    desk.export(&[format!("{}/app:1", proxy.host())]).success();
    desk.import("bundle", destination.host(), &[]).success();
    assert_eq!(raw_manifest(destination.host(), "app", &digest).expect("it is there").media_type, MANIFEST);
}

/// image-spec, descriptor.md, "Embedded Content". Registries that do not serve an embedded config: project-zot/zot issue
/// 2977 (no content), PingCAP-QE/ci pull request 5279 (0 bytes).
#[rstest]
#[case::not_there(|rule: Rule| rule.status(404))]
#[case::no_content(|rule: Rule| rule.status(204))]
#[case::no_bytes(|rule: Rule| rule.answer(200, &[], ""))]
fn what_a_manifest_embeds_is_used_where_the_registry_does_not_serve_it(#[case] answer: fn(Rule) -> Rule) {
    let (source, desk, destination) = (RealRegistry::start(), desk!(), RealRegistry::start());
    let config = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": push_blob(source.host(), "app", b"{}"),
        "size": 2, "data": "e30="});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}).to_string();
    put_manifest(source.host(), "app", "1", MANIFEST, manifest.as_bytes());
    let proxy = FaultProxy::start(source.host());
    proxy.inject(answer(Rule::on("GET", "/blobs/")));
    desk.export(&["--retry-times", "0", &format!("{}/app:1", proxy.host())]).success();
    desk.import("bundle", destination.host(), &[]).success();
    assert_eq!(raw_blob(destination.host(), "app", &sha256(b"{}")).expect("it is there").1, 2);
}

#[rstest]
#[case::other_bytes("e31=")]
#[case::not_base64("{}")]
fn what_a_manifest_embeds_must_be_what_its_descriptor_says(#[case] data: &str) {
    let (source, desk) = (RealRegistry::start(), desk!());
    let digest = push_blob(source.host(), "app", b"{}");
    let config = json!({"mediaType": "a/b", "digest": digest, "size": 2, "data": data});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}).to_string();
    put_manifest(source.host(), "app", "1", MANIFEST, manifest.as_bytes());
    let proxy = FaultProxy::start(source.host());
    let image = format!("{}/app:1", proxy.host());
    proxy.inject(Rule::on("GET", "/blobs/").status(404));
    desk.export(&[&image]).code(1).stderr_contains("404").stderr_contains(&digest);
    proxy.heal();
    // As long as the registry serves the blob, it does not matter.
    desk.export(&[&image]).success();
}

#[test]
fn a_manifest_that_its_index_embeds_is_used_where_the_registry_does_not_serve_it() {
    let (source, desk, destination) = (RealRegistry::start(), desk!(), RealRegistry::start());
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"{CONFIG}","digest":"{}","size":2}},"layers":[]}}"#,
        push_blob(source.host(), "app", b"{}")
    );
    let digest = sha256(manifest.as_bytes());
    put_manifest(source.host(), "app", &digest, MANIFEST, manifest.as_bytes());
    let mut index: Value = serde_json::from_str(&index(&manifest, MANIFEST)).unwrap();
    index["manifests"][0]["data"] = json!(base64(manifest.as_bytes()));
    put_manifest(source.host(), "app", "1", INDEX, index.to_string().as_bytes());
    let proxy = FaultProxy::start(source.host());
    proxy.inject(Rule::on("GET", &format!("/manifests/{digest}")).status(404));
    desk.export(&[format!("{}/app:1", proxy.host())]).success();
    desk.import("bundle", destination.host(), &[]).success();
    assert_eq!(raw_manifest(destination.host(), "app", &digest).expect("it is there").bytes, manifest.as_bytes());
}

/// A manifest without `mediaType`, whose config has this one.
fn manifest(host: &str, config: &str) -> String {
    let config = json!({"mediaType": config, "digest": push_blob(host, "app", b"{}"), "size": 2});
    json!({"schemaVersion": 2, "config": config, "layers": []}).to_string()
}

/// An index without `mediaType`.
fn index(manifest: &str, media_type: &str) -> String {
    let child = json!({"mediaType": media_type, "digest": sha256(manifest.as_bytes()), "size": manifest.len()});
    json!({"schemaVersion": 2, "manifests": [child]}).to_string()
}

fn serve_as(proxy: &FaultProxy, reference: &str, media_type: &str, body: &str) {
    let rule = Rule::on("GET", &format!("/manifests/{reference}"));
    proxy.inject(rule.answer(200, &[("content-type", media_type)], body));
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = three.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for at in 0..4 {
            let digit = (number >> (18 - 6 * at)) & 63;
            text.push(if at <= three.len() { char::from(ALPHABET[digit as usize]) } else { '=' });
        }
    }
    text
}
