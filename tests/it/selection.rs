//! What is carried besides the image that was named (referrers, platforms, foreign layers), under which names, and what
//! is left out when it fails.

mod documents;
mod failing;
mod foreign;
mod lists;
mod lists_and_rules;
mod names;
mod order;
mod origins;
mod platforms;
mod referrers;
mod referrers_api;
mod refusing;
mod unusual;

use serde_json::json;
use support::{push_blob, raw_manifest};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const REPOSITORY: &str = "library/busybox";

fn artifact(host: &str, note: &str, subject: Option<&str>) -> Vec<u8> {
    artifact_in(host, REPOSITORY, note, subject)
}

/// The manifest of an artifact with one layer, which is pushed; the manifest itself is not.
fn artifact_in(host: &str, repository: &str, note: &str, subject: Option<&str>) -> Vec<u8> {
    let blob = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": push_blob(host, repository, bytes), "size": bytes.len()});
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
