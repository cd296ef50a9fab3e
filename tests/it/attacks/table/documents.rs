//! Manifests and indexes, changed by someone whose key is trusted, with all digests above them put right again.

use super::{Attack, refused, signer};
use crate::attacks::draft::{
    CONFIG, DOCKER_LIST, DOCKER_MANIFEST, Draft, LAYER as LAYER_TYPE, OCI_INDEX, OCI_MANIFEST, descriptor, digest,
    manifest, path_of,
};
use crate::attacks::good::{LAYER, ONE, OTHER, SHARED, TWO, minimal, rich};

pub(super) fn attacks() -> Vec<Attack> {
    [shapes(), sizes(), reach()].into_iter().flatten().collect()
}

fn shapes() -> Vec<Attack> {
    vec![
        signer(
            "signed-manifests-beside-layers",
            ("7.2", "beside"),
            "An image to one reader, an index to another.",
            minimal,
            |b| {
                edit(b, "{", "{\"manifests\":[],");
            },
        ),
        signer("signed-config-beside-manifests", ("7.2", "beside"), "An index with a config.", rich, |b| {
            let path = b.find("\"manifests\"");
            b.change_document(&path, "\"manifests\"", &format!("\"config\":{},\"manifests\"", descriptor(CONFIG, ONE)));
        }),
        signer("signed-layers-without-config", ("7.2", "only one of"), "Layers without a config.", minimal, |b| {
            edit(b, &format!("\"config\":{},", descriptor(CONFIG, ONE)), "");
            b.remove(&path_of(ONE));
        }),
        signer(
            "signed-config-is-list",
            ("7.2", "a list where an object"),
            "A descriptor as a list of its values.",
            minimal,
            |b| {
                let list = format!(r#"["{CONFIG}","{}",{},null,null,null]"#, digest(ONE), ONE.len());
                edit(b, &descriptor(CONFIG, ONE), &list);
            },
        ),
        refused(signer(
            "signed-neither",
            ("7.2", "neither manifests nor"),
            "Neither an image nor an index.",
            minimal,
            |b| {
                let path = b.manifest_of(ONE);
                b.exchange_document(&path, b"{\"schemaVersion\":2}".to_vec());
                b.remove(&path_of(ONE));
                b.remove(&path_of(LAYER));
            },
        )),
        signer("signed-manifest-is-no-json", ("7.2", "expected"), "A manifest that is no JSON.", minimal, |b| {
            let path = b.manifest_of(ONE);
            b.exchange_document(&path, b"#!/bin/sh\n".to_vec());
        }),
        signer(
            "signed-inner-media-type",
            ("7.2", "inside"),
            "A manifest says inside that it is Docker's.",
            minimal,
            |b| {
                edit(b, "{", &format!("{{\"mediaType\":\"{DOCKER_MANIFEST}\","));
            },
        ),
        signer(
            "signed-inner-media-type-begins-a-line",
            ("7.6", "x\\nhint: all is well"),
            "The media type inside a manifest holds a line feed and then what looks like a line of the reader's.",
            minimal,
            |b| {
                edit(b, "{", "{\"mediaType\":\"x\\nhint: all is well\\u001b[2J\",");
            },
        ),
        signer(
            "signed-manifest-says-index",
            ("7.2", "inside"),
            "A manifest says inside that it is an index.",
            minimal,
            |b| {
                edit(b, "{", &format!("{{\"mediaType\":\"{OCI_INDEX}\","));
            },
        ),
        refused(signer(
            "signed-schema-1",
            ("10", "schema 1"),
            "Docker schema 1, whose digest covers a part only.",
            minimal,
            |b| {
                edit(b, "\"schemaVersion\":2", "\"schemaVersion\":1");
            },
        )),
        signer("signed-schema-3", ("7.2", "schemaVersion is 3"), "A schema that does not exist.", minimal, |b| {
            edit(b, "\"schemaVersion\":2", "\"schemaVersion\":3");
        }),
        signer("signed-schema-version-missing", ("7.2", "missing field"), "No schema version.", minimal, |b| {
            edit(b, "\"schemaVersion\":2,", "");
        }),
        signer("signed-other-algorithm", ("1.4", "sha512"), "A layer by SHA-512.", minimal, |b| {
            edit(b, &digest(LAYER), &format!("sha512:{}", "0".repeat(128)));
        }),
        signer("signed-digest-short", ("1.4", "lower-case hex"), "A digest of 63 digits.", minimal, |b| {
            let digest = digest(LAYER);
            edit(b, &digest, &digest[..digest.len() - 1]);
        }),
        signer("signed-layers-is-object", ("7.2", "invalid type"), "layers is an object.", minimal, |b| {
            edit(b, "\"layers\":[", "\"layers\":{\"0\":");
            let path = b.manifest_of(ONE);
            b.change_document(&path, "}]}", "}}}");
        }),
        signer(
            "signed-descriptor-without-digest",
            ("7.2", "missing field"),
            "A layer without a digest.",
            minimal,
            |b| {
                edit(b, &format!("\"digest\":\"{}\",", digest(LAYER)), "");
            },
        ),
        signer(
            "signed-media-type-with-parameter",
            ("7.2", "inside"),
            "An inner media type with a parameter.",
            minimal,
            |b| {
                edit(b, "{", &format!("{{\"mediaType\":\"{OCI_MANIFEST}; v=2\","));
            },
        ),
    ]
}

fn sizes() -> Vec<Attack> {
    vec![
        signer("signed-layer-two-sizes", ("7.3", "two sizes"), "One layer, two sizes.", rich, |b| {
            edit(b, "\"size\":16}", "\"size\":17}");
        }),
        signer(
            "signed-layer-size-lies",
            ("6.4", "its descriptor says 15"),
            "A layer's size is not its descriptor's.",
            minimal,
            |b| {
                edit(b, "\"size\":14}", "\"size\":15}");
            },
        ),
        signer(
            "signed-config-size-lies",
            ("6.4", "its descriptor says 11"),
            "A config's size is not its descriptor's.",
            minimal,
            |b| {
                edit(b, "\"size\":12}", "\"size\":11}");
            },
        ),
        signer(
            "signed-layer-beyond-all-media",
            ("8", "more than 8796093022208"),
            "A layer of 2^64 - 1 bytes: sums overflow.",
            minimal,
            |b| {
                edit(b, "\"size\":14}", "\"size\":18446744073709551615}");
            },
        ),
        signer("signed-layer-beyond-integers", ("7.2", "invalid type"), "A layer of 10^30 bytes.", minimal, |b| {
            edit(b, "\"size\":14}", "\"size\":1000000000000000000000000000000}");
        }),
        signer("signed-layer-negative", ("7.2", "invalid value"), "A layer of -1 bytes.", minimal, |b| {
            edit(b, "\"size\":14}", "\"size\":-1}");
        }),
        signer("signed-manifest-huge", ("8", "more than 4194304"), "A manifest of more than 4 MiB.", minimal, |b| {
            edit(b, "{", &format!("{{\"pad\":\"{}\",", "x".repeat(4 << 20)));
        }),
        signer(
            "signed-child-huge",
            ("8", "more than 4194304"),
            "A manifest of more than 4 MiB below an index.",
            rich,
            |b| {
                let path = b.manifest_of(TWO);
                b.change_document(&path, "{", &format!("{{\"pad\":\"{}\",", "x".repeat(4 << 20)));
            },
        ),
        signer(
            "signed-child-size-lies",
            ("6.3", "its descriptor says"),
            "A child's size is not its descriptor's.",
            rich,
            |b| {
                let path = b.find("\"manifests\"");
                b.change_document(&path, "\"size\":", "\"size\":1");
            },
        ),
    ]
}

fn reach() -> Vec<Attack> {
    vec![
        signer(
            "signed-blob-not-there",
            ("6.4", "neither in SHA256SUMS nor"),
            "A layer is neither there nor absent.",
            rich,
            |b| {
                b.remove(&path_of(OTHER));
            },
        ),
        signer(
            "signed-manifest-not-there",
            ("6.4", "neither in SHA256SUMS nor"),
            "A child is neither there nor absent.",
            rich,
            |b| {
                b.remove(&b.manifest_of(TWO));
            },
        ),
        signer(
            "signed-blob-nobody-needs",
            ("6.4", "nothing refers to it"),
            "A blob that nothing refers to.",
            minimal,
            |b| {
                b.blob("stowaway");
            },
        ),
        signer(
            "signed-manifest-nobody-needs",
            ("6.4", "nothing refers to it"),
            "A manifest that nothing refers to.",
            minimal,
            |b| {
                b.blob(manifest(ONE, &[LAYER, LAYER]));
            },
        ),
        signer(
            "signed-subject-carried",
            ("6.4", "nothing refers to it"),
            "A manifest that is referred to as subject only.",
            minimal,
            |b| {
                let subject = manifest(ONE, &[]);
                edit(
                    b,
                    "\"config\"",
                    &format!("\"subject\":{},\"config\"", descriptor(OCI_MANIFEST, subject.as_bytes())),
                );
                b.blob(subject);
            },
        ),
        signer(
            "signed-layer-is-manifest",
            ("7.3", "is a manifest in one place"),
            "A layer of one image is the manifest of another.",
            rich,
            |b| {
                let app = b.files[&b.manifest_of(ONE)].clone();
                let path = b.manifest_of(TWO);
                b.change_document(&path, &descriptor(LAYER_TYPE, b""), &descriptor(LAYER_TYPE, &app));
                b.remove(&path_of(b""));
            },
        ),
        signer(
            "signed-config-is-layer",
            ("7.3", "two sizes"),
            "A config is a layer elsewhere, with another size.",
            rich,
            |b| {
                let path = b.manifest_of(TWO);
                b.change_document(
                    &path,
                    &descriptor(LAYER_TYPE, b""),
                    &descriptor(LAYER_TYPE, ONE).replace("\"size\":12", "\"size\":13"),
                );
                b.remove(&path_of(b""));
            },
        ),
        signer(
            "signed-child-of-other-media-type",
            ("7.2", "are not those of"),
            "An index says that its manifest is an index.",
            rich,
            |b| {
                let path = b.find("\"manifests\"");
                b.change_document(&path, OCI_MANIFEST, DOCKER_LIST);
            },
        ),
        signer(
            "signed-child-two-media-types",
            ("7.3", "is said to be"),
            "An index lists one child as OCI's and as Docker's.",
            rich,
            |b| {
                let child = b.files[&b.manifest_of(TWO)].clone();
                let path = b.find("\"manifests\"");
                b.change_document(
                    &path,
                    "\"manifests\":[",
                    &format!("\"manifests\":[{},", descriptor(DOCKER_MANIFEST, &child)),
                );
            },
        ),
        signer("signed-nested-deep", ("8", "nested deeper"), "Nine levels of documents.", minimal, |b| nest(b, 8)),
        signer(
            "signed-nested-very-deep",
            ("8", "nested deeper"),
            "A hundred levels: recursion would not end well.",
            minimal,
            |b| nest(b, 99),
        ),
        signer(
            "signed-shared-layer-not-there",
            ("6.4", "neither in SHA256SUMS nor"),
            "A layer of two images is not there.",
            rich,
            |b| {
                b.remove(&path_of(SHARED));
            },
        ),
    ]
}

/// The manifest of config [`ONE`].
fn edit(b: &mut Draft, from: &str, to: &str) {
    let path = b.manifest_of(ONE);
    b.change_document(&path, from, to);
}

/// Puts `levels` indexes above the only image.
fn nest(b: &mut Draft, levels: usize) {
    let lowest = b.files[&b.manifest_of(ONE)].clone();
    let (mut top, mut media_type) = (lowest.clone(), OCI_MANIFEST);
    for _ in 0..levels {
        top = b.index(&[(media_type, &top)]);
        media_type = OCI_INDEX;
    }
    let line = |media_type, bytes: &[u8]| descriptor(media_type, bytes).trim_end_matches('}').to_owned();
    b.replace("index.json", &line(OCI_MANIFEST, &lowest), &line(media_type, &top));
}
