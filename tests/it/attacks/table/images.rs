//! `index.json`, changed by someone whose key is trusted.

use super::{Attack, signer};
use crate::attacks::draft::{DOCKER_LIST, DOCKER_MANIFEST, Draft, OCI_INDEX, OCI_MANIFEST, descriptor, digest};
use crate::attacks::good::{TWO, minimal, rich};

pub(super) fn attacks() -> Vec<Attack> {
    [names(), items()].into_iter().flatten().collect()
}

fn names() -> Vec<Attack> {
    vec![
        signer("signed-name-twice", ("5", "there twice"), "Two images of one name.", rich, |b| {
            edit(b, "\"ns/app:latest\"", "\"ns/app:1\"");
        }),
        signer("signed-names-unsorted", ("5", "not sorted"), "Names are not sorted.", rich, |b| {
            edit(b, "\"ns/app:latest\"", "\"ns/app:0\"");
        }),
        signer("signed-name-traversal", ("5", "not a repository path"), "A name leads up.", minimal, |b| {
            name(b, "../../app:1");
        }),
        signer("signed-name-absolute", ("5", "not a repository path"), "A name begins with a slash.", minimal, |b| {
            name(b, "/ns/app:1");
        }),
        signer(
            "signed-name-with-query",
            ("5", "not a tag"),
            "A tag that would be a query of the request.",
            minimal,
            |b| {
                name(b, "ns/app:1?x=/../../other/manifests/1");
            },
        ),
        signer("signed-name-percent", ("5", "not a repository path"), "A slash by its percent code.", minimal, |b| {
            name(b, "ns%2fapp:1");
        }),
        signer("signed-name-with-port", ("5", "not a tag"), "A name with a registry in front.", minimal, |b| {
            name(b, "evil.example.com:5000/app:1");
        }),
        signer("signed-name-upper-case", ("5", "lower case"), "A repository in upper case.", minimal, |b| {
            name(b, "NS/app:1")
        }),
        signer(
            "signed-name-without-tag",
            ("5", "path:tag or path@digest"),
            "A name with neither tag nor digest.",
            minimal,
            |b| {
                name(b, "ns/app");
            },
        ),
        signer("signed-name-tag-and-digest", ("5", "not a repository path"), "A name with both.", minimal, |b| {
            let manifest = digest(&b.files[&b.manifest_of(crate::attacks::good::ONE)]);
            name(b, &format!("ns/app:1@{manifest}"));
        }),
        signer("signed-name-long", ("8", "longer than 255"), "A repository of 256 characters.", minimal, |b| {
            name(b, &format!("{}:1", "n".repeat(256)));
        }),
        signer("signed-tag-long", ("8", "not a tag"), "A tag of 129 characters.", minimal, |b| {
            name(b, &format!("ns/app:{}", "t".repeat(129)));
        }),
        signer("signed-name-acts-on-terminals", ("7.6", "\\u{1b}"), "A name clears the screen.", minimal, |b| {
            name(b, "ns/app\\u001b[2J:1");
        }),
        signer(
            "signed-name-unicode",
            ("5", "not a repository path"),
            "A Cyrillic letter that looks like a Latin one.",
            minimal,
            |b| {
                name(b, "ns/\u{430}pp:1");
            },
        ),
        signer(
            "signed-name-of-another-digest",
            ("5", "is the name of"),
            "A name by a digest that is another's.",
            minimal,
            |b| {
                name(b, &format!("ns/app@{}", digest(b"x")));
            },
        ),
        signer("signed-name-missing", ("5", "missing field"), "An image without a name.", minimal, |b| {
            edit(b, ",\"org.opencontainers.image.ref.name\":\"ns/app:1\"", "");
        }),
        signer("signed-source-missing", ("5", "missing field"), "An image without a source.", minimal, |b| {
            edit(b, "\"io.containerd.image.name\":\"registry.example.com/ns/app:1\",", "");
        }),
        signer("signed-source-acts-on-terminals", ("5", "source"), "A source rings the bell.", minimal, |b| {
            edit(b, "registry.example.com/", "registry\\u0007/");
        }),
        signer("signed-source-empty", ("5", "source"), "A source of no characters.", minimal, |b| {
            edit(b, "registry.example.com/ns/app:1", "");
        }),
        signer("signed-source-long", ("8", "source"), "A source of 1,025 bytes.", minimal, |b| {
            edit(b, "registry.example.com/ns/app:1", &"s".repeat(1025));
        }),
    ]
}

fn items() -> Vec<Attack> {
    vec![
        signer("signed-index-annotation-more", ("5", "unknown field"), "An annotation more.", minimal, |b| {
            edit(b, "\"annotations\":{", "\"annotations\":{\"x\":\"y\",");
        }),
        signer("signed-index-annotations-missing", ("5", "missing field"), "No annotations at all.", minimal, |b| {
            let text = b.text("index.json");
            let at = text.find(",\"annotations\"").unwrap();
            b.put("index.json", format!("{}}}]}}\n", &text[..at]));
        }),
        signer("signed-index-urls", ("5", "unknown field"), "A descriptor says where to fetch from.", minimal, |b| {
            edit(b, "\"size\":", "\"urls\":[\"http://evil.example.com/\"],\"size\":");
        }),
        signer(
            "signed-index-data",
            ("5", "unknown field"),
            "A descriptor carries other content inside.",
            minimal,
            |b| {
                edit(b, "\"size\":", "\"data\":\"e30=\",\"size\":");
            },
        ),
        signer("signed-index-without-images", ("5", "names no image"), "There is no image.", minimal, |b| {
            b.put("index.json", format!("{{\"schemaVersion\":2,\"mediaType\":\"{OCI_INDEX}\",\"manifests\":[]}}\n"));
            b.files.retain(|path, _| !path.starts_with("blobs/"));
        }),
        signer("signed-index-config", ("5", "unknown field"), "index.json has a config, too.", minimal, |b| {
            edit(b, "{\"schema", "{\"config\":{},\"schema");
        }),
        signer("signed-index-schema-1", ("5", "schema version"), "index.json of schema version 1.", minimal, |b| {
            edit(b, "\"schemaVersion\":2", "\"schemaVersion\":1");
        }),
        signer(
            "signed-index-is-docker-list",
            ("5", "schema version"),
            "index.json says it is Docker's list.",
            minimal,
            |b| {
                edit(b, crate::attacks::draft::OCI_INDEX, DOCKER_LIST);
            },
        ),
        signer(
            "signed-index-keys-in-capitals",
            ("7.1", "misspelling"),
            "MANIFESTS instead of manifests: Go takes it.",
            minimal,
            |b| {
                edit(b, "\"manifests\"", "\"MANIFESTS\"");
            },
        ),
        signer(
            "signed-index-duplicate-key",
            ("7.1", "there twice"),
            "manifests is there twice: which one counts?",
            minimal,
            |b| {
                edit(b, "\"manifests\":", "\"manifests\":[],\"manifests\":");
            },
        ),
        signer(
            "signed-index-key-in-other-case",
            ("7.1", "misspelling"),
            "manifests again in another case.",
            minimal,
            |b| {
                edit(b, "\"manifests\":", "\"Manifests\":[],\"manifests\":");
            },
        ),
        signer("signed-index-two-sizes", ("7.3", "two sizes"), "One manifest, two sizes.", rich, |b| {
            edit(b, "\"size\":", "\"size\":1");
        }),
        signer(
            "signed-index-two-media-types",
            ("7.3", "two media types"),
            "One manifest, two media types.",
            rich,
            |b| {
                edit(b, OCI_MANIFEST, DOCKER_MANIFEST);
            },
        ),
        signer(
            "signed-index-size-lies",
            ("6.3", "its descriptor says"),
            "A manifest's size is not its descriptor's.",
            minimal,
            |b| {
                edit(b, "\"size\":", "\"size\":1");
            },
        ),
        signer(
            "signed-index-size-huge",
            ("8", "more than 4194304"),
            "A manifest of 4 MiB and one byte.",
            minimal,
            |b| {
                let size = b.files[&b.manifest_of(crate::attacks::good::ONE)].len();
                edit(b, &format!("\"size\":{size}"), "\"size\":4194305");
            },
        ),
        signer("signed-index-size-negative", ("5", "invalid value"), "A negative size.", minimal, |b| {
            edit(b, "\"size\":", "\"size\":-")
        }),
        signer("signed-index-size-fraction", ("5", "invalid type"), "A size with a fraction.", minimal, |b| {
            edit(b, ",\"annotations\"", ".0,\"annotations\"");
        }),
        signer("signed-index-digest-upper-case", ("1.4", "lower-case hex"), "A digest in upper case.", minimal, |b| {
            let hex = crate::attacks::draft::hex_of(&b.files[&b.manifest_of(crate::attacks::good::ONE)]);
            edit(b, &hex, &hex.to_uppercase());
        }),
        signer("signed-index-digest-traversal", ("1.4", "lower-case hex"), "A digest that is a path.", minimal, |b| {
            let hex = crate::attacks::draft::hex_of(&b.files[&b.manifest_of(crate::attacks::good::ONE)]);
            edit(b, &hex, &format!("../../{}", &hex[6..]));
        }),
        signer(
            "signed-index-points-at-layer",
            ("5", "not the media type"),
            "A name for something that is no manifest.",
            minimal,
            |b| {
                edit(b, OCI_MANIFEST, "application/octet-stream");
            },
        ),
        signer(
            "signed-index-other-media-type",
            ("7.2", "are not those of"),
            "A manifest is said to be a list.",
            minimal,
            |b| {
                edit(b, OCI_MANIFEST, DOCKER_LIST);
            },
        ),
        signer(
            "signed-index-manifest-nowhere",
            ("6.4", "neither in SHA256SUMS nor"),
            "A manifest that is not there.",
            minimal,
            |b| {
                let hex = crate::attacks::draft::hex_of(&b.files[&b.manifest_of(crate::attacks::good::ONE)]);
                edit(b, &hex, &"0".repeat(64));
            },
        ),
        signer(
            "signed-child-under-other-media-type",
            ("7.3", "is said to be"),
            "One manifest is OCI's in an index and Docker's at the top.",
            rich,
            |b| {
                let bytes = b.files[&b.manifest_of(TWO)].clone();
                let line = descriptor(DOCKER_MANIFEST, &bytes);
                let annotations =
                    r#""annotations":{"io.containerd.image.name":"x","org.opencontainers.image.ref.name":"ns/z:1"}"#;
                edit(b, "}]}\n", &format!("}},{},{annotations}}}]}}\n", line.trim_end_matches('}')));
            },
        ),
    ]
}

fn edit(b: &mut Draft, from: &str, to: &str) {
    b.replace("index.json", from, to);
}

fn name(b: &mut Draft, name: &str) {
    edit(b, "\"ns/app:1\"", &format!("\"{name}\""));
}
