//! Layers that registries need not hold: carried if the registry has them, else absent, and an import says what that means.

use rstest::rstest;
use serde_json::{Value, json};
use support::{Desk, FaultProxy, RealRegistry, Serving, desk, push_blob, put_manifest, raw_blob, sha256};

use super::MANIFEST;

/// Media types of a manifest, its config and a layer.
type Types = [&'static str; 3];

const OCI: Types = [
    MANIFEST,
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
];
const DOCKER: Types = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];
const LAYER: &[u8] = b"a layer with a licence";

#[rstest]
#[case::oci(OCI)]
#[case::docker(DOCKER)]
fn what_the_registry_does_not_hold_is_absent_and_an_import_says_so(#[case] types: Types) {
    let desk = desk!();
    let (source, lenient) = (desk.serve(&["--writable", "source"]), desk.serve(&["--writable", "destination"]));
    push_windows(&source, types);
    let proxy = FaultProxy::start(source.host());
    let image = format!("{}/windows:1", proxy.host());
    let plan = desk.sealift(&["export", "--dry-run", &image]).success().stdout();
    assert!(plan.contains("its registry does not hold it") && plan.contains("windows:1"), "{plan}");

    let exported = desk.export(&[&image]);
    exported
        .success()
        .stderr_contains("warning: 1 foreign layer is left out, because the source does not hold the bytes");
    exported.stderr_contains(&format!("{} of windows:1", sha256(LAYER)));
    assert_eq!(exported.stderr().matches("foreign").count(), 1, "once: {}", exported.stderr());
    assert_eq!(proxy.count("GET", &sha256(LAYER)), 0, "it is asked for while planning, by HEAD");
    assert!(proxy.count("HEAD", &sha256(LAYER)) > 0);
    let absent = &inspect(&desk)["absent"];
    let expected = json!([{"digest": sha256(LAYER), "size": LAYER.len(), "reason": "foreign", "names": ["windows:1"]}]);
    assert_eq!(*absent, expected);

    let events = desk.import("bundle", lenient.host(), &["--progress", "json"]).success().stderr();
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let position = |event: &str| events.iter().position(|known| known["event"] == event).unwrap();
    assert!(position("warning") < position("blob-started"), "{events:#?}");
    assert!(events[position("warning")]["text"].as_str().unwrap().contains("foreign layers"));
    assert!(raw_blob(lenient.host(), "windows", &sha256(LAYER)).is_none());

    let strict = RealRegistry::start();
    let refused = desk.import("bundle", strict.host(), &["--retry-times", "0"]);
    refused.code(1).stderr_contains("hint: the bundle is without foreign layers").stderr_contains("export again");
}

#[test]
fn what_the_registry_holds_is_carried() {
    let desk = desk!();
    let (source, destination) = (desk.serve(&["--writable", "source"]), desk.serve(&["--writable", "destination"]));
    push_blob(source.host(), "windows", LAYER);
    push_windows(&source, OCI);
    desk.export(&[format!("{}/windows:1", source.host())]).success();
    assert_eq!(inspect(&desk)["absent"], json!([]));
    let imported = desk.import("bundle", destination.host(), &[]);
    assert!(!imported.success().stderr().contains("foreign"), "{}", imported.stderr());
    assert_eq!(raw_blob(destination.host(), "windows", &sha256(LAYER)).unwrap().0, sha256(LAYER));
}

#[test]
fn what_is_foreign_in_one_image_and_a_layer_of_another_is_carried() {
    let desk = desk!();
    let (source, destination) = (desk.serve(&["--writable", "source"]), RealRegistry::start());
    let other = RealRegistry::start();
    push_windows(&source, OCI);
    push_blob(other.host(), "plain", LAYER);
    push(other.host(), "plain", &json!({"mediaType": "l", "digest": sha256(LAYER), "size": LAYER.len()}));
    desk.export(&[format!("{}/windows:1", source.host()), format!("{}/plain:1", other.host())]).success();
    assert_eq!(inspect(&desk)["absent"], json!([]));
    desk.import("bundle", destination.host(), &["--only", "plain"]).success();
    assert_eq!(raw_blob(destination.host(), "plain", &sha256(LAYER)).unwrap().0, sha256(LAYER));
}

#[test]
fn a_registry_that_cannot_be_asked_fails_the_image_and_not_the_run() {
    let desk = desk!();
    let source = desk.serve(&["--writable", "source"]);
    push_windows(&source, OCI);
    push(
        source.host(),
        "plain",
        &json!({"mediaType": "l", "digest": push_blob(source.host(), "plain", b"x"), "size": 1}),
    );
    let proxy = FaultProxy::start(source.host());
    proxy.inject(support::Rule::on("HEAD", &sha256(LAYER)).status(500));
    let images = ["windows:1", "plain:1"].map(|name| format!("{}/{name}", proxy.host()));
    desk.export(&images).code(1).stderr_contains("windows:1");
    let partly = desk.export(&["--keep-going", &images[0], &images[1]]);
    partly.code(4).stderr_contains("windows:1");
    assert_eq!(inspect(&desk)["images"][0]["name"], "plain:1");
}

fn inspect(desk: &Desk) -> Value {
    let json = desk.sealift(&["inspect", "bundle", "--trust", "allowed_signers", "--json"]).success().stdout();
    serde_json::from_str(&json).unwrap()
}

/// An image whose last layer is foreign, and not pushed.
fn push_windows(registry: &Serving, types: Types) {
    let urls = ["http://192.0.2.1/layer"];
    let layer = json!({"mediaType": types[2], "digest": sha256(LAYER), "size": LAYER.len(), "urls": urls});
    push_as(registry.host(), "windows", types, &layer);
}

fn push(host: &str, repository: &str, layer: &Value) {
    push_as(host, repository, OCI, layer);
}

fn push_as(host: &str, repository: &str, types: Types, layer: &Value) {
    let config = br#"{"os":"windows","architecture":"amd64"}"#;
    let config = json!({"mediaType": types[1], "digest": push_blob(host, repository, config), "size": config.len()});
    let manifest = json!({"schemaVersion": 2, "mediaType": types[0], "config": config, "layers": [layer]});
    put_manifest(host, repository, "1", types[0], manifest.to_string().as_bytes());
}
