//! JSON that two readers understand in two ways, in manifests sealed by someone whose key is trusted.

use super::{Attack, signer};
use crate::attacks::draft::Draft;
use crate::attacks::good::{LAYER, ONE, minimal};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        signer(
            "signed-layers-in-capitals-beside",
            ("7.1", "misspelling"),
            "LAYERS beside layers: Go lets the last one win.",
            minimal,
            |b| {
                edit(b, "{", "{\"LAYERS\":[],");
            },
        ),
        signer(
            "signed-layers-in-capitals-only",
            ("7.1", "misspelling"),
            "LAYERS instead of layers: only Go sees any.",
            minimal,
            |b| {
                edit(b, "\"layers\"", "\"LAYERS\"");
            },
        ),
        signer("signed-layers-long-s", ("7.1", "misspelling"), "U+017F folds to s in Go.", minimal, |b| {
            edit(b, "{", "{\"layer\u{17f}\":[],");
        }),
        signer("signed-long-s-escaped", ("7.1", "misspelling"), "The same, by its escape.", minimal, |b| {
            edit(b, "{", "{\"layer\\u017f\":[],");
        }),
        signer("signed-kelvin-sign", ("7.1", "there twice"), "U+212A folds to k in Go.", minimal, |b| {
            edit(b, "{", "{\"key\":1,\"\u{212a}ey\":2,");
        }),
        signer("signed-config-twice", ("7.1", "there twice"), "Two configs: which one is run?", minimal, |b| {
            edit(b, "\"config\":", "\"config\":{},\"config\":");
        }),
        signer(
            "signed-config-twice-by-escape",
            ("7.1", "there twice"),
            "The second config is written by an escape.",
            minimal,
            |b| {
                edit(b, "\"config\":", "\"\\u0063onfig\":{},\"config\":");
            },
        ),
        signer(
            "signed-key-begins-a-line",
            ("7.6", "\\nhint: all is well"),
            "A key that is there twice holds a line feed and then what looks like a line of the reader's.",
            minimal,
            |b| {
                edit(b, "{", "{\"\\nhint: all is well\":1,\"\\nhint: all is well\":2,");
            },
        ),
        signer("signed-digest-twice", ("7.1", "there twice"), "A layer with two digests.", minimal, |b| {
            let digest = format!("\"digest\":\"{}\"", crate::attacks::draft::digest(LAYER));
            edit(b, &digest, &format!("{digest},{digest}"));
        }),
        signer("signed-size-in-other-case", ("7.1", "misspelling"), "Size beside size.", minimal, |b| {
            edit(b, "\"size\":14", "\"Size\":1,\"size\":14");
        }),
        signer(
            "signed-unknown-key-twice",
            ("7.1", "there twice"),
            "A key of no meaning here is there twice.",
            minimal,
            |b| {
                edit(b, "{", "{\"x\":1,\"X\":2,");
            },
        ),
        signer("signed-annotation-twice", ("7.1", "there twice"), "An annotation with two values.", minimal, |b| {
            edit(b, "{", "{\"annotations\":{\"a\":\"1\",\"a\":\"2\"},");
        }),
        signer("signed-annotations-in-capitals", ("7.1", "misspelling"), "ANNOTATIONS.", minimal, |b| {
            edit(b, "{", "{\"ANNOTATIONS\":{},");
        }),
        signer(
            "signed-json-after-its-end",
            ("7.1", "trailing"),
            "A second manifest follows the first.",
            minimal,
            |b| {
                edit(b, "}]}", "}]}{\"schemaVersion\":2}");
            },
        ),
        signer("signed-json-deep", ("8", "nested deeper than"), "A hundred levels of lists.", minimal, |b| {
            edit(b, "{", &format!("{{\"x\":{}{},", "[".repeat(100), "]".repeat(100)));
        }),
        signer(
            "signed-json-33-levels",
            ("8", "nested deeper than"),
            "One level more than there may be.",
            minimal,
            |b| {
                edit(b, "{", &format!("{{\"x\":{}{},", "[".repeat(32), "]".repeat(32)));
            },
        ),
        signer(
            "signed-json-bottomless",
            ("8", "nested deeper than"),
            "A million lists that never end.",
            minimal,
            |b| {
                let path = b.manifest_of(ONE);
                b.exchange_document(&path, [&b"{\"x\":"[..], &[b'['; 1_000_000]].concat());
            },
        ),
        signer(
            "signed-json-4097-keys",
            ("8", "more than 4096 keys"),
            "One key more than there may be.",
            minimal,
            |b| {
                let keys: String = (0..4097).map(|n| format!("\"k{n}\":0,")).collect();
                edit(b, "{", &format!("{{\"x\":{{{}}},", keys.trim_end_matches(',')));
            },
        ),
        signer("signed-json-not-utf-8", ("7.1", "invalid"), "Bytes that are no UTF-8.", minimal, |b| {
            let path = b.manifest_of(ONE);
            let mut bytes = b.files[&path].clone();
            bytes.splice(1..1, *b"\"x\":\"\xff\",");
            b.exchange_document(&path, bytes);
        }),
        signer("signed-json-half-surrogate", ("7.1", "hex escape"), "Half of a surrogate pair.", minimal, |b| {
            edit(b, "{", "{\"x\":\"\\ud800\",");
        }),
        signer("signed-json-comment", ("7.2", "key must be a string"), "A comment.", minimal, |b| {
            edit(b, "{", "{/* all is well */")
        }),
        signer("signed-json-last-comma", ("7.2", "trailing comma"), "A comma after the last.", minimal, |b| {
            edit(b, "}]}", "}],}")
        }),
        signer(
            "signed-json-control-character",
            ("7.1", "control character"),
            "A raw escape character in a string.",
            minimal,
            |b| {
                edit(b, "{", "{\"x\":\"\u{1b}[2J\",");
            },
        ),
        signer(
            "signed-json-number-beyond",
            ("7.1", "number out of range"),
            "A number that nothing can hold.",
            minimal,
            |b| {
                edit(b, "{", "{\"x\":1e999999,");
            },
        ),
    ]
}

/// The manifest of config [`ONE`].
fn edit(b: &mut Draft, from: &str, to: &str) {
    let path = b.manifest_of(ONE);
    b.change_document(&path, from, to);
}
