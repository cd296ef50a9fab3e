//! Signature files.

use super::{Attack, stranger, untrusted};
use crate::attacks::draft::Draft;
use crate::attacks::good::minimal;
use crate::attacks::keys::{BUNDLE, Form, Key, PLAIN, REVIEW};

pub(super) fn attacks() -> Vec<Attack> {
    [forms(), files(), who()].into_iter().flatten().collect()
}

fn forms() -> Vec<Attack> {
    vec![
        stranger("signature-empty", ("3.3", "malformed signature"), "The signature file is empty.", minimal, |b| {
            b.file(&seal()).clear();
        }),
        stranger("signature-cut", ("3.3", "malformed signature"), "The signature file is cut off.", minimal, |b| {
            b.file(&seal()).truncate(100);
        }),
        stranger(
            "signature-junk-after",
            ("3.3", "malformed signature"),
            "A line follows the armor; ssh-keygen accepts that.",
            minimal,
            |b| b.file(&seal()).extend(b"more\n"),
        ),
        stranger("signature-line-end-after", ("3.3", "one form"), "An empty line follows the armor.", minimal, |b| {
            b.file(&seal()).push(b'\n');
        }),
        stranger(
            "signature-junk-before",
            ("3.3", "malformed signature"),
            "A line stands before the armor.",
            minimal,
            |b| {
                b.file(&seal()).splice(..0, *b"more\n");
            },
        ),
        stranger(
            "signature-other-lines",
            ("3.3", "one form"),
            "The armor has lines of 64; ssh-keygen accepts that.",
            minimal,
            |b| {
                b.sign("trusted", &Form { width: 64, ..BUNDLE });
            },
        ),
        stranger("signature-crlf", ("3.3", "CR LF"), "The armor's lines end with CR LF.", minimal, |b| {
            let text = b.text(&seal()).replace('\n', "\r\n");
            b.put(&seal(), text);
        }),
        stranger(
            "signature-reserved-field",
            ("3.3", "reserved field"),
            "The reserved field is not empty.",
            minimal,
            |b| {
                b.sign("trusted", &Form { reserved: b"x", ..BUNDLE });
            },
        ),
        stranger(
            "signature-second-encoding",
            ("3.4", "does not verify"),
            "The same signature with the group order added to its scalar: lax libraries accept it.",
            minimal,
            |b| b.sign("trusted", &Form { second_encoding: true, ..BUNDLE }),
        ),
        stranger(
            "signature-flipped",
            ("3.4", "does not verify"),
            "One bit of the signature proper differs.",
            minimal,
            |b| {
                let text = b.text(&seal());
                let at = text.find("\n-----END").unwrap() - 10;
                let old = &text[at..=at];
                let new = if old == "A" { "B" } else { "A" };
                b.file(&seal()).splice(at..=at, new.bytes());
            },
        ),
    ]
}

fn files() -> Vec<Attack> {
    vec![
        stranger("signature-huge", ("8", "more than 4096"), "A signature file of 4,097 bytes.", minimal, |b| {
            b.put(&seal(), vec![b'x'; 4097]);
        }),
        stranger("signature-1-gib", ("8", "more than 4096"), "A signature file of 1 GiB, sparse.", minimal, |b| {
            b.run(&format!("truncate -s 1G {}", seal()));
        }),
        stranger(
            "signatures-seventeen",
            ("8", "more than 16 signatures"),
            "Seventeen signatures that hold.",
            minimal,
            |b| {
                (0..16).for_each(|n| b.sign(&format!("stranger {n}"), &BUNDLE));
            },
        ),
        stranger(
            "signature-under-other-name",
            ("3.2", "holds the signature of key"),
            "A signature under the id of another key.",
            minimal,
            |b| {
                let bytes = b.remove(&seal());
                b.put(&Key::named("stranger").path(), bytes);
            },
        ),
        stranger(
            "signature-name-upper-case",
            ("3.2", "does not list"),
            "A signature's name in upper case.",
            minimal,
            |b| {
                let bytes = b.remove(&seal());
                let upper = Key::named("trusted").id().to_uppercase();
                b.put(&format!("signatures/{upper}.sig"), bytes);
            },
        ),
        stranger("signatures-stranger", ("1.2", "signatures/README"), "A file beside the signatures.", minimal, |b| {
            b.put("signatures/README", "x");
        }),
        stranger("signature-is-link", ("7.5", "symbolic link"), "A signature is a link.", minimal, |b| {
            b.link(&Key::named("stranger").path(), &seal().replace("signatures/", ""));
        }),
        stranger("signature-is-pipe", ("7.5", "named pipe"), "A signature is a named pipe.", minimal, |b| {
            b.run(&format!("mkfifo {}", Key::named("stranger").path()));
        }),
        stranger(
            "signatures-is-link",
            ("7.5", "symbolic link"),
            "signatures is a link to a directory elsewhere.",
            minimal,
            |b| {
                let bytes = b.remove(&seal());
                b.put(&seal().replace("signatures/", "../elsewhere/"), bytes);
                b.link("signatures", "../elsewhere");
            },
        ),
        stranger("signatures-is-file", ("7.5", "not a directory"), "signatures is a file.", minimal, |b| {
            let bytes = b.remove(&seal());
            b.put("signatures", bytes);
        }),
    ]
}

fn who() -> Vec<Attack> {
    vec![
        untrusted(stranger("signature-missing", ("3.5", "is not signed"), "signatures is empty.", minimal, |b| {
            b.remove(&seal());
            b.run("mkdir signatures");
        })),
        untrusted(stranger(
            "signatures-missing",
            ("3.5", "is not signed"),
            "There is no directory signatures.",
            minimal,
            |b| {
                b.remove(&seal());
            },
        )),
        untrusted(stranger(
            "signed-by-unknown-key",
            ("3.5", "is not in the list"),
            "Only an unknown key signed.",
            minimal,
            |b| {
                only(b, "stranger", &BUNDLE);
            },
        )),
        untrusted(stranger(
            "signed-by-expired-key",
            ("3.5", "is listed, but"),
            "The key that signed was valid until 2020.",
            minimal,
            |b| {
                only(b, "expired", &BUNDLE);
            },
        )),
        untrusted(stranger(
            "signed-by-key-for-reviews",
            ("3.5", "is listed, but"),
            "The key that signed is trusted for reviews only.",
            minimal,
            |b| only(b, "reviewer", &BUNDLE),
        )),
        untrusted(stranger(
            "review-only",
            ("3.5", "as a reviewer only"),
            "A trusted reviewer signed, and nobody else.",
            minimal,
            |b| {
                only(b, "reviewer", &REVIEW);
            },
        )),
        untrusted(stranger(
            "review-by-the-trusted-key-only",
            ("3.5", "as a reviewer only"),
            "The trusted key signed a review; a review never counts as a seal.",
            minimal,
            |b| only(b, "trusted", &REVIEW),
        )),
        untrusted(stranger(
            "signed-for-git",
            ("3.4", "is for \"git\""),
            "The trusted key signed these bytes for another purpose.",
            minimal,
            |b| only(b, "trusted", &Form { namespace: "git", ..PLAIN }),
        )),
        untrusted(stranger(
            "signed-for-receipt-beside-a-good-one",
            ("3.4", "is for \"sealift-receipt\""),
            "A receipt's signature lies beside a good one.",
            minimal,
            |b| b.sign("stranger", &Form { namespace: "sealift-receipt", ..PLAIN }),
        )),
        stranger(
            "signature-of-other-bytes",
            ("3.4", "does not verify"),
            "The signature of another bundle.",
            minimal,
            |b| {
                let other = crate::attacks::good::rich();
                b.put(&seal(), other.text(&seal()));
            },
        ),
        stranger(
            "bad-signature-beside-a-good-one",
            ("3.4", "does not verify"),
            "An unknown key's signature does not hold: someone changed something.",
            minimal,
            |b| {
                let key = Key::named("stranger");
                b.put(&key.path(), key.sign(&BUNDLE, b"other bytes"));
            },
        ),
    ]
}

fn seal() -> String {
    Key::named("trusted").path()
}

fn only(b: &mut Draft, key: &str, form: &Form<'_>) {
    b.remove(&seal());
    b.sign(key, form);
}
