//! `SHA256SUMS`: changed after signing, and signed in a form that is not allowed.

use super::{Attack, signer, stranger};
use crate::attacks::draft::{digest, hex_of, path_of};
use crate::attacks::good::{LAYER, minimal, rich};

pub(super) fn attacks() -> Vec<Attack> {
    [changed(), signed()].into_iter().flatten().collect()
}

fn changed() -> Vec<Attack> {
    vec![
        stranger("sums-changed", ("6.1", "does not verify"), "One bit of SHA256SUMS differs.", minimal, |b| {
            b.flip("SHA256SUMS");
        }),
        stranger("sums-line-added", ("6.1", "does not verify"), "SHA256SUMS has a line more.", minimal, |b| {
            let line = format!("{}  zzz\n", hex_of(b""));
            b.file("SHA256SUMS").extend(line.bytes());
        }),
        stranger("sums-cut", ("6.1", "does not verify"), "SHA256SUMS lacks its last line.", minimal, |b| {
            b.file("SHA256SUMS").truncate(80);
        }),
        stranger("sums-crlf", ("6.1", "does not verify"), "Lines of SHA256SUMS end with CR LF.", minimal, |b| {
            let text = b.text("SHA256SUMS").replace('\n', "\r\n");
            b.put("SHA256SUMS", text);
        }),
        stranger("sums-missing", ("6.1", "no SHA256SUMS"), "SHA256SUMS is not there.", minimal, |b| {
            b.remove("SHA256SUMS");
        }),
        stranger("sums-is-link", ("7.5", "symbolic link"), "SHA256SUMS is a link out of the bundle.", minimal, |b| {
            let bytes = b.remove("SHA256SUMS");
            b.put("../elsewhere", bytes);
            b.link("SHA256SUMS", "../elsewhere");
        }),
        stranger("sums-is-pipe", ("7.5", "named pipe"), "SHA256SUMS is a named pipe.", minimal, |b| {
            b.remove("SHA256SUMS");
            b.run("mkfifo SHA256SUMS");
        }),
        stranger("sums-is-folder", ("7.5", "a directory"), "SHA256SUMS is a directory.", minimal, |b| {
            b.remove("SHA256SUMS");
            b.run("mkdir SHA256SUMS");
        }),
        stranger("sums-1-gib", ("8", "more than 16777216"), "SHA256SUMS is a sparse file of 1 GiB.", minimal, |b| {
            b.run("truncate -s 1G SHA256SUMS");
        }),
    ]
}

fn signed() -> Vec<Attack> {
    vec![
        signer("signed-sums-crlf", ("2", "CR LF"), "CR LF, and signed.", minimal, |b| {
            let text = b.text("SHA256SUMS").replace('\n', "\r\n");
            b.sums(text);
        }),
        signer("signed-sums-empty", ("2", "cut off"), "SHA256SUMS is empty, and signed.", minimal, |b| b.sums("")),
        signer(
            "signed-sums-unfinished",
            ("2", "does not end with a line end"),
            "The last line has no end.",
            minimal,
            |b| {
                let text = b.text("SHA256SUMS").trim_end().to_owned();
                b.sums(text);
            },
        ),
        signer("signed-sums-empty-line", ("2", "64 lower-case hex digits"), "There is an empty line.", minimal, |b| {
            let text = b.text("SHA256SUMS") + "\n";
            b.sums(text);
        }),
        signer(
            "signed-sums-comment",
            ("2", "64 lower-case hex digits"),
            "A comment, as sha256sum skips it.",
            minimal,
            |b| {
                let text = format!("# all is well\n{}", b.text("SHA256SUMS"));
                b.sums(text);
            },
        ),
        signer("signed-sums-binary-mark", ("2", "two spaces"), "sha256sum's mark for binary files.", minimal, |b| {
            b.replace_sums("  bundle", " *bundle");
        }),
        signer("signed-sums-escaped", ("2", "64 lower-case hex digits"), "sha256sum's escaped form.", minimal, |b| {
            let text = format!("\\{}", b.text("SHA256SUMS"));
            b.sums(text);
        }),
        signer("signed-sums-bsd", ("2", "64 lower-case hex digits"), "The BSD form of a line.", minimal, |b| {
            let hex = hex_of(LAYER);
            b.replace_sums(&format!("{hex}  blobs/sha256/{hex}"), &format!("SHA256 (blobs/sha256/{hex}) = {hex}"));
        }),
        signer(
            "signed-sums-upper-case",
            ("2", "64 lower-case hex digits"),
            "A checksum in upper case.",
            minimal,
            |b| {
                let hex = hex_of(LAYER);
                b.replace_sums(&format!("{hex}  "), &format!("{}  ", hex.to_uppercase()));
            },
        ),
        signer(
            "signed-sums-name-upper-case",
            ("2.2", "no path of a bundle"),
            "A blob's name in upper case.",
            minimal,
            |b| {
                let hex = hex_of(LAYER);
                b.replace_sums(&format!("  blobs/sha256/{hex}"), &format!("  blobs/sha256/{}", hex.to_uppercase()));
                sort(b);
            },
        ),
        signer(
            "signed-sums-traversal",
            ("2", "no path of a bundle"),
            "A path leads out of the bundle.",
            minimal,
            |b| {
                b.replace_sums("blobs/sha256/", "blobs/../../");
            },
        ),
        signer("signed-sums-absolute", ("2", "no path of a bundle"), "A path is absolute.", minimal, |b| {
            b.replace_sums("  blobs/sha256/", "  /etc/");
        }),
        signer("signed-sums-dot", ("2", "no path of a bundle"), "A path begins with ./", minimal, |b| {
            b.replace_sums("  blobs/sha256/", "  ./blobs/sha256/");
        }),
        signer(
            "signed-sums-unknown-path",
            ("2", "no path of a bundle"),
            "A file that a bundle does not have.",
            minimal,
            |b| {
                b.put("README", "x");
                let text = format!("{}{}  README\n", b.text("SHA256SUMS"), hex_of(b"x"));
                b.sums(text);
                sort(b);
            },
        ),
        signer("signed-sums-itself", ("2.3", "no path of a bundle"), "SHA256SUMS lists itself.", minimal, |b| {
            let text = format!("{}{}  SHA256SUMS\n", b.text("SHA256SUMS"), "0".repeat(64));
            b.sums(text);
            sort(b);
        }),
        signer(
            "signed-sums-signatures",
            ("2.3", "no path of a bundle"),
            "SHA256SUMS lists a signature.",
            minimal,
            |b| {
                let path = crate::attacks::keys::Key::named("trusted").path();
                let text = format!("{}{}  {path}\n", b.text("SHA256SUMS"), "0".repeat(64));
                b.sums(text);
            },
        ),
        signer(
            "signed-sums-other-name",
            ("2.2", "not named after"),
            "A blob under another checksum's name.",
            minimal,
            |b| {
                let hex = hex_of(LAYER);
                b.replace_sums(&format!("{hex}  "), &format!("{}  ", hex_of(b"x")));
            },
        ),
        signer(
            "signed-sums-other-algorithm",
            ("1.4", "no path of a bundle"),
            "A blob in blobs/sha512.",
            minimal,
            |b| {
                b.replace_sums("blobs/sha256/", "blobs/sha512/");
                sort(b);
            },
        ),
        signer("signed-sums-unsorted", ("2.1", "not sorted"), "Two lines have changed places.", minimal, |b| {
            let text = b.text("SHA256SUMS");
            let mut lines: Vec<&str> = text.lines().collect();
            lines.swap(0, 1);
            b.sums(lines.join("\n") + "\n");
        }),
        signer("signed-sums-twice", ("2.1", "there twice"), "A line is there twice.", minimal, |b| {
            let text = b.text("SHA256SUMS");
            b.sums(format!("{}\n{text}", text.lines().next().unwrap()));
        }),
        signer(
            "signed-sums-index-twice",
            ("2.1", "there twice"),
            "index.json is listed with two checksums.",
            minimal,
            |b| {
                let line = format!("{}  index.json\n", "f".repeat(64));
                let text = b.text("SHA256SUMS") + &line;
                b.sums(text);
                sort(b);
            },
        ),
        signer(
            "signed-sums-without-bundle-json",
            ("2.1", "does not list bundle.json"),
            "bundle.json is not listed.",
            minimal,
            |b| {
                without(b, "bundle.json");
            },
        ),
        signer(
            "signed-sums-without-index",
            ("2.1", "does not list index.json"),
            "index.json is not listed.",
            minimal,
            |b| {
                without(b, "index.json");
            },
        ),
        signer(
            "signed-sums-without-layout",
            ("2.1", "does not list oci-layout"),
            "oci-layout is not listed.",
            minimal,
            |b| {
                without(b, "oci-layout");
            },
        ),
        signer(
            "signed-sums-without-layer",
            ("6.4", "neither in SHA256SUMS nor"),
            "A layer is there and not listed.",
            rich,
            |b| {
                without(b, &path_of(crate::attacks::good::OTHER));
            },
        ),
        signer(
            "signed-sums-100001-lines",
            ("8", "more than 100000 lines"),
            "One line more than there may be.",
            minimal,
            |b| {
                let text: String = (0..100_001).map(|n| format!("{n:064x}  blobs/sha256/{n:064x}\n")).collect();
                b.sums(text);
                b.run(r#"awk 'BEGIN { for (i = 0; i < 100001; i++) printf "%064x  blobs/sha256/%064x\n", i, i }' > SHA256SUMS"#);
            },
        ),
        signer(
            "signed-sums-nul",
            ("2", "64 lower-case hex digits"),
            "A NUL stands where a space belongs.",
            minimal,
            |b| {
                b.replace_sums("  oci-layout", "\0 oci-layout");
            },
        ),
        signer("signed-sums-path-acts-on-terminals", ("7.6", "\\x1b[2J"), "A path clears the screen.", minimal, |b| {
            b.replace_sums("  oci-layout", "  oci\u{1b}[2J");
        }),
        signer(
            "signed-identity-of-another",
            ("6.2", "is not what was sealed"),
            "The listed checksum of index.json is another's.",
            minimal,
            |b| {
                let index = hex_of(&b.files["index.json"]);
                b.replace_sums(&index, &digest(b"x")[7..]);
            },
        ),
    ]
}

fn without(b: &mut crate::attacks::draft::Draft, path: &str) {
    let line = b.text("SHA256SUMS").lines().find(|line| line.ends_with(path)).unwrap().to_owned();
    b.replace_sums(&format!("{line}\n"), "");
}

/// By path.
fn sort(b: &mut crate::attacks::draft::Draft) {
    let text = b.text("SHA256SUMS");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_by_key(|line| &line[66..]);
    b.sums(lines.join("\n") + "\n");
}
