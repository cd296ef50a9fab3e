//! Images made on the spot, where a test wants layers of a certain size or in a certain order.

use serde_json::json;

use crate::http::{push_blob, put_manifest};

/// Pushes an image of these layers under a tag; returns the digests of its config and its layers.
pub fn push_image(host: &str, repository: &str, tag: &str, layers: &[&[u8]]) -> Vec<String> {
    let config = json!({
        "architecture": "amd64", "os": "linux", "author": format!("{repository}:{tag}"),
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    let config = config.to_string().into_bytes();
    let mut digests = Vec::new();
    let mut descriptor = |media_type: &str, bytes: &[u8]| {
        digests.push(push_blob(host, repository, bytes));
        json!({"mediaType": media_type, "digest": digests.last(), "size": bytes.len()})
    };
    let config = descriptor("application/vnd.oci.image.config.v1+json", &config);
    let layers: Vec<_> =
        layers.iter().map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer)).collect();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
    put_manifest(host, repository, tag, media_type, manifest.to_string().as_bytes());
    digests
}

/// So many bytes that no two seeds share and that do not compress.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
