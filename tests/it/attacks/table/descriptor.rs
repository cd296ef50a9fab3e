//! `bundle.json`, changed by someone whose key is trusted.

use super::{Attack, refused, signer};
use crate::attacks::draft::{Draft, digest};
use crate::attacks::good::{FOREIGN, left_out, minimal, rich};

pub(super) fn attacks() -> Vec<Attack> {
    [fields(), absent()].into_iter().flatten().collect()
}

fn fields() -> Vec<Attack> {
    vec![
        refused(signer(
            "signed-later-format",
            ("11.1", "has format 99"),
            "A format that is not known.",
            minimal,
            |b| {
                edit(b, "\"formatVersion\":1", "\"formatVersion\":99");
            },
        )),
        refused(signer(
            "signed-later-format-in-other-words",
            ("6.2", "has format 2"),
            "A later format says everything else in another way: its version is what is told.",
            minimal,
            |b| b.put("bundle.json", "{\"formatVersion\":2,\"created\":17,\"volumes\":[]}"),
        )),
        refused(signer("signed-draft-format", ("11.1", "a draft of format 1"), "Format 0, the draft.", minimal, |b| {
            edit(b, "\"formatVersion\":1", "\"formatVersion\":0")
        })),
        signer("signed-format-is-text", ("4", "invalid type"), "The version is a string.", minimal, |b| {
            edit(b, "\"formatVersion\":1", "\"formatVersion\":\"1\"");
        }),
        signer("signed-format-missing", ("4", "missing field"), "There is no version.", minimal, |b| {
            edit(b, "\"formatVersion\":1,", "");
        }),
        refused(signer(
            "signed-unknown-field",
            ("11.3", "unknown field \"volumes\""),
            "A field that is not known.",
            minimal,
            |b| {
                edit(b, "{", "{\"volumes\":2,");
            },
        )),
        refused(signer(
            "signed-unknown-requirement",
            ("11.2", "requires \"sparse\""),
            "A requirement that is not known.",
            minimal,
            |b| {
                edit(b, "\"requires\":[]", "\"requires\":[\"sparse\"]");
            },
        )),
        refused(signer(
            "signed-unknown-requirement-with-its-field",
            ("11.2", "requires \"sparse\""),
            "A requirement that brings a field along: the requirement is what is told.",
            minimal,
            |b| edit(b, "\"requires\":[]", "\"holes\":[],\"requires\":[\"sparse\"]"),
        )),
        signer("signed-requires-is-text", ("4", "invalid type"), "requires is a string.", minimal, |b| {
            edit(b, "\"requires\":[]", "\"requires\":\"\"");
        }),
        signer("signed-requires-missing", ("4", "missing field"), "There is no requires.", minimal, |b| {
            edit(b, "\"requires\":[],", "");
        }),
        signer("signed-bundle-json-duplicate-key", ("7.1", "there twice"), "A key is there twice.", minimal, |b| {
            edit(b, "{", "{\"absent\":[],");
        }),
        signer(
            "signed-bundle-json-key-in-other-case",
            ("7.1", "there twice"),
            "A key is there again in capitals.",
            minimal,
            |b| {
                edit(b, "{", "{\"REQUIRES\":[\"x\"],");
            },
        ),
        signer("signed-bundle-json-not-json", ("4", "expected"), "bundle.json is no JSON.", minimal, |b| {
            b.put("bundle.json", "formatVersion: 1\n");
        }),
        signer("signed-bundle-json-empty", ("4", "EOF"), "bundle.json is empty.", minimal, |b| {
            b.put("bundle.json", "")
        }),
        signer("signed-bundle-json-list", ("4", "a list where an object"), "bundle.json is a list.", minimal, |b| {
            b.put("bundle.json", "[1,[]]");
        }),
        signer(
            "signed-bundle-json-two-values",
            ("7.1", "trailing"),
            "A second value follows the first.",
            minimal,
            |b| {
                edit(b, "}\n", "}\n{}\n");
            },
        ),
        signer("signed-bundle-json-byte-order-mark", ("4", "expected value"), "A byte order mark.", minimal, |b| {
            edit(b, "{", "\u{feff}{");
        }),
        signer("signed-bundle-json-not-utf-8", ("7.1", "invalid"), "Bytes that are no UTF-8.", minimal, |b| {
            let mut bytes = b.remove("bundle.json");
            let at = bytes.windows(6).position(|window| window == b"corpus").unwrap();
            bytes[at] = 0xff;
            b.put("bundle.json", bytes);
        }),
        signer("signed-time-with-offset", ("4", "created"), "A time that is not in UTC.", minimal, |b| {
            edit(b, "12:00:00Z", "12:00:00+00:00");
        }),
        signer("signed-time-with-fraction", ("4", "created"), "A time with a fraction.", minimal, |b| {
            edit(b, "12:00:00Z", "12:00:00.5Z");
        }),
        signer("signed-time-before-year-zero", ("4", "created"), "A year of seven characters.", minimal, |b| {
            edit(b, "2026-11-23", "-002026-11-23");
        }),
        signer("signed-time-that-is-none", ("4", "created"), "The 30th of February.", minimal, |b| {
            edit(b, "2026-11-23", "2026-02-30");
        }),
        signer("signed-tool-acts-on-terminals", ("4", "tool"), "The tool's name clears the screen.", minimal, |b| {
            edit(b, "corpus/1", "\\u001b[2J");
        }),
        signer("signed-tool-long", ("4", "tool"), "The tool's name has 129 characters.", minimal, |b| {
            edit(b, "corpus/1", &"x".repeat(129));
        }),
        signer(
            "signed-series-alone",
            ("4", "only one of series and sequence"),
            "A series without a number.",
            minimal,
            |b| {
                edit(b, "\"series\":null", "\"series\":\"weekly\"");
            },
        ),
        signer("signed-sequence-zero", ("4", "no number from 1"), "The sequence begins with 1.", minimal, |b| {
            edit(b, "\"series\":null,\"sequence\":null", "\"series\":\"weekly\",\"sequence\":0");
        }),
        signer(
            "signed-sequence-beyond-doubles",
            ("4", "no number from 1"),
            "2^53: half of all JSON readers round.",
            minimal,
            |b| {
                edit(b, "\"series\":null,\"sequence\":null", "\"series\":\"weekly\",\"sequence\":9007199254740992");
            },
        ),
        signer("signed-series-is-path", ("4", "series is not a word"), "A series named ../up.", minimal, |b| {
            edit(b, "\"series\":null,\"sequence\":null", "\"series\":\"../up\",\"sequence\":1");
        }),
        signer("signed-base-unsorted", ("4", "base is not sorted"), "base is not sorted.", minimal, |b| {
            let (one, two) = (format!("sha256:{}", "1".repeat(64)), format!("sha256:{}", "2".repeat(64)));
            edit(b, "\"base\":[]", &format!("\"base\":[\"{two}\",\"{one}\"]"));
        }),
        signer("signed-base-other-algorithm", ("1.4", "sha512"), "A base by SHA-512.", minimal, |b| {
            edit(b, "\"base\":[]", &format!("\"base\":[\"sha512:{}\"]", "0".repeat(128)));
        }),
        signer("signed-other-layout", ("1", "oci-layout is not"), "oci-layout of another version.", minimal, |b| {
            b.replace("oci-layout", "1.0.0", "1.1.0");
        }),
        signer("signed-layout-with-line-end", ("8", "more than 30"), "oci-layout has a line end.", minimal, |b| {
            b.file("oci-layout").push(b'\n');
        }),
    ]
}

fn absent() -> Vec<Attack> {
    vec![
        signer("signed-absent-and-there", ("6.4", "absent and is there"), "Content is absent and there.", rich, |b| {
            b.blob(FOREIGN);
        }),
        signer(
            "signed-absent-manifest-and-there",
            ("6.4", "absent and is there"),
            "A manifest is absent and there.",
            rich,
            |b| {
                b.blob(left_out());
            },
        ),
        signer(
            "signed-absent-unreferred",
            ("6.4", "nothing refers to it"),
            "Something absent that nothing refers to.",
            minimal,
            |b| {
                let entry =
                    format!(r#"{{"digest":"{}","size":1,"reason":"foreign","names":["ns/app:1"]}}"#, digest(b"x"));
                edit(b, "\"absent\":[]", &format!("\"absent\":[{entry}]"));
            },
        ),
        signer(
            "signed-absent-from-nowhere",
            ("4", "not in the bundle"),
            "Absent from an image that is not there.",
            rich,
            |b| {
                edit(b, "ns/multi:1", "ns/multi:9");
            },
        ),
        signer("signed-absent-names-none", ("4", "names of absent"), "Absent from no image.", rich, |b| {
            edit(b, "[\"ns/multi:1\"]", "[]");
        }),
        signer("signed-absent-without-base", ("4", "no base"), "In an earlier bundle, and there is none.", rich, |b| {
            edit(b, "\"foreign\"", "\"base\"");
        }),
        signer(
            "signed-absent-manifest-in-base",
            ("4", "a manifest of"),
            "A manifest in an earlier bundle: nobody could tell what it needs.",
            rich,
            |b| {
                let base = format!("\"base\":[\"sha256:{}\"]", "1".repeat(64));
                edit(b, "\"base\":[]", &base);
                edit(b, "\"platform\"", "\"base\"");
            },
        ),
        signer("signed-absent-manifest-foreign", ("4", "a manifest of"), "A manifest as foreign.", rich, |b| {
            edit(b, "\"platform\"", "\"foreign\"");
        }),
        signer("signed-absent-layer-of-a-platform", ("4", "a layer of"), "A layer as another platform.", rich, |b| {
            edit(b, "\"foreign\"", "\"platform\"");
        }),
        signer("signed-absent-config-foreign", ("4", "the config of"), "A config as foreign.", rich, |b| {
            let config = crate::attacks::good::TWO;
            b.remove(&crate::attacks::draft::path_of(config));
            let entry = format!(
                r#"{{"digest":"{}","size":{},"reason":"foreign","names":["ns/multi:1"]}}"#,
                digest(config),
                config.len()
            );
            let text = b.text("bundle.json");
            let (head, list) = text.split_once("\"absent\":[").unwrap();
            let mut list: Vec<String> =
                list.trim_end_matches("]}\n").replace("},{", "}\n{").lines().map(str::to_owned).collect();
            list.push(entry);
            list.sort();
            b.put("bundle.json", format!("{head}\"absent\":[{}]}}\n", list.join(",")));
        }),
        signer("signed-absent-other-reason", ("4", "is no reason"), "Absent for a reason that is none.", rich, |b| {
            edit(b, "\"foreign\"", "\"whim\"");
        }),
        signer("signed-absent-reason-is-object", ("4", "invalid type"), "A reason as an object.", rich, |b| {
            edit(b, "\"foreign\"", "{\"foreign\":null}");
        }),
        signer(
            "signed-absent-extra-field",
            ("11.3", "unknown field"),
            "An entry of absent has a field more.",
            rich,
            |b| {
                edit(b, "\"reason\"", "\"urls\":[],\"reason\"");
            },
        ),
        signer("signed-absent-two-sizes", ("7.3", "two sizes"), "absent and a manifest differ in a size.", rich, |b| {
            edit(b, "\"size\":15", "\"size\":16");
        }),
        signer("signed-absent-twice", ("4", "something twice"), "Something is absent twice.", rich, |b| {
            let text = b.text("bundle.json");
            let at = text.find("\"absent\":[").unwrap() + 10;
            let entry = &text[at..=at + text[at..].find('}').unwrap()];
            edit(b, "\"absent\":[", &format!("\"absent\":[{entry},"));
        }),
        signer(
            "signed-absent-layer-not-said",
            ("6.4", "neither in SHA256SUMS nor"),
            "What is missing is not said to be absent.",
            rich,
            |b| {
                let text = b.text("bundle.json");
                let at = text.find("\"absent\":").unwrap();
                b.put("bundle.json", format!("{}\"absent\":[]}}\n", &text[..at]));
            },
        ),
        signer(
            "signed-absent-is-the-image",
            ("6.4", "nothing refers to it"),
            "The image itself is absent.",
            minimal,
            |b| {
                let manifest = b.remove(&b.manifest_of(crate::attacks::good::ONE));
                b.remove(&crate::attacks::draft::path_of(crate::attacks::good::ONE));
                b.remove(&crate::attacks::draft::path_of(crate::attacks::good::LAYER));
                b.blob("stowaway");
                let entry = format!(
                    r#"{{"digest":"{}","size":{},"reason":"foreign","names":["ns/app:1"]}}"#,
                    digest(&manifest),
                    manifest.len()
                );
                edit(b, "\"absent\":[]", &format!("\"absent\":[{entry}]"));
            },
        ),
    ]
}

fn edit(b: &mut Draft, from: &str, to: &str) {
    b.replace("bundle.json", from, to);
}
