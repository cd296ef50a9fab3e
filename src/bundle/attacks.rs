//! Attacks on a good bundle, each of which must be refused: one line of a table each, so that they can be written
//! out as directories for other implementations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode};

use super::checksums::Checksums;
use super::fixture::{FOREIGN, Key, SHARED, descriptor, now, read, write_good};
use super::{Bundle, limits};
use crate::error::{Error, Kind};
use crate::oci::{Digest, MediaType};
use crate::trust::Namespace;

/// Who does it.
#[derive(Clone, Copy, PartialEq, Debug)]
enum By {
    /// Someone without a trusted key: the seal stays as it was.
    Stranger,
    /// Someone with a trusted key: the bundle is sealed again after the change.
    Signer,
}
use By::{Signer, Stranger};

struct Attack {
    name: &'static str,
    by: By,
    kind: Kind,
    /// Part of the message, its causes or its hints.
    reason: &'static str,
    change: fn(&mut Draft),
}

/// A bundle in memory, to be changed.
#[derive(Clone)]
struct Draft {
    files: BTreeMap<String, Vec<u8>>,
    folders: Vec<String>,
    links: Vec<(String, PathBuf)>,
    pipes: Vec<String>,
    /// `SHA256SUMS` is sealed as it stands, not worked out from the files.
    own_sums: bool,
    key_id: String,
}

impl Draft {
    fn load(root: &Path) -> Draft {
        let mut files = BTreeMap::new();
        let mut folders = Vec::new();
        for entry in walkdir::WalkDir::new(root).min_depth(1) {
            let entry = entry.unwrap();
            let path = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if entry.file_type().is_dir() {
                folders.push(path);
            } else {
                files.insert(path, std::fs::read(entry.path()).unwrap());
            }
        }
        let signature = files.keys().find(|path| path.starts_with("signatures/")).unwrap();
        let key_id = signature["signatures/".len()..].trim_end_matches(".sig").to_owned();
        Draft { files, folders, links: vec![], pipes: vec![], own_sums: false, key_id }
    }

    fn store(&self, root: &Path) {
        std::fs::create_dir(root).unwrap();
        for folder in &self.folders {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        for (path, bytes) in &self.files {
            std::fs::write(root.join(path), bytes).unwrap();
        }
        for (path, target) in &self.links {
            std::os::unix::fs::symlink(target, root.join(path)).unwrap();
        }
        for path in &self.pipes {
            rustix::fs::mknodat(CWD, root.join(path), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        }
    }

    fn seal(&mut self, key: &Key) {
        if !self.own_sums {
            let of = |path: &str| Digest::of(self.files.get(path).map_or(b"", Vec::as_slice));
            let blobs = self.files.keys().filter_map(|path| Digest::from_hex(path.strip_prefix("blobs/sha256/")?));
            let sums = Checksums {
                descriptor: of("bundle.json"),
                index: of("index.json"),
                layout: of("oci-layout"),
                blobs: blobs.collect(),
            };
            self.put("SHA256SUMS", sums.to_bytes());
        }
        let signature = key.load().sign(Namespace::Bundle, &self.files["SHA256SUMS"]).unwrap();
        let path = self.signature();
        self.put(&path, signature.as_armored());
    }

    fn put(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.files.insert(path.to_owned(), bytes.into());
    }

    fn remove(&mut self, path: &str) -> Vec<u8> {
        self.files.remove(path).unwrap()
    }

    fn signature(&self) -> String {
        format!("signatures/{}.sig", self.key_id)
    }

    fn text(&self, path: &str) -> String {
        String::from_utf8(self.files[path].clone()).unwrap()
    }

    /// Changes the first place; there must be one.
    fn replace(&mut self, path: &str, from: &str, to: &str) {
        let text = self.text(path);
        assert!(text.contains(from), "{path} has no {from}: {text}");
        self.put(path, text.replacen(from, to, 1));
    }

    /// As [`Draft::replace`] in `SHA256SUMS`, which is then sealed as it stands.
    fn replace_sums(&mut self, from: &str, to: &str) {
        self.replace("SHA256SUMS", from, to);
        self.own_sums = true;
    }

    fn flip(&mut self, path: &str) {
        let bytes = self.files.get_mut(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }

    fn find(&self, part: &str) -> String {
        let has = |bytes: &[u8]| bytes.windows(part.len()).any(|window| window == part.as_bytes());
        let mut found = self.files.iter().filter(|(path, bytes)| path.starts_with("blobs/") && has(bytes));
        found.next().unwrap_or_else(|| panic!("no blob has {part}")).0.clone()
    }

    fn blob(&mut self, bytes: impl Into<Vec<u8>>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.put(&blob_path(digest), bytes);
        digest
    }

    /// Changes a document and everything above it, so that all digests and sizes are right again.
    fn change_document(&mut self, path: &str, from: &str, to: &str) {
        let text = self.text(path);
        assert!(text.contains(from), "{path} has no {from}: {text}");
        let old = self.remove(path);
        self.exchange(&old, text.replacen(from, to, 1).into_bytes());
    }

    fn exchange(&mut self, old: &[u8], new: Vec<u8>) {
        let describe = |bytes: &[u8]| format!("\"digest\":\"{}\",\"size\":{}", Digest::of(bytes), bytes.len());
        let (before, after) = (describe(old), describe(&new));
        self.blob(new);
        let parents: Vec<String> = self
            .files
            .iter()
            .filter(|(_, bytes)| {
                bytes.starts_with(b"{\"schemaVersion\"") && String::from_utf8_lossy(bytes).contains(&before)
            })
            .map(|(path, _)| path.clone())
            .collect();
        for path in parents {
            let text = self.text(&path).replace(&before, &after);
            if path == "index.json" {
                self.put(&path, text);
            } else {
                let old = self.remove(&path);
                self.exchange(&old, text.into_bytes());
            }
        }
    }

    /// The manifest of `ns/app:1`, and that of `ns/multi:1` which is carried.
    fn app(&self) -> String {
        self.find(&Digest::of(b"{\"config\":1}").to_string())
    }

    fn other(&self) -> String {
        self.find(&Digest::of(b"{\"config\":2}").to_string())
    }
}

fn blob_path(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn shared() -> String {
    blob_path(Digest::of(SHARED))
}

fn config() -> String {
    blob_path(Digest::of(b"{\"config\":1}"))
}

const ATTACKS: &[Attack] = &[
    // Changes to sealed files.
    attack("layer-cut", Stranger, Kind::Damaged, "has 15 bytes", |b| {
        b.files.get_mut(&shared()).unwrap().pop();
    }),
    attack("layer-longer", Stranger, Kind::Damaged, "has 17 bytes", |b| b.files.get_mut(&shared()).unwrap().push(0)),
    attack("layer-missing", Stranger, Kind::Damaged, "1 of 9 files are missing", |b| drop(b.remove(&shared()))),
    attack("config-changed", Stranger, Kind::Damaged, "another digest", |b| b.flip(&config())),
    attack("config-longer", Stranger, Kind::Damaged, "has 13 bytes", |b| b.files.get_mut(&config()).unwrap().push(0)),
    attack("manifest-changed", Stranger, Kind::Damaged, "have the digest", |b| b.flip(&b.app())),
    attack("manifest-missing", Stranger, Kind::Damaged, "is missing", |b| drop(b.remove(&b.app()))),
    attack("bundle-json-changed", Stranger, Kind::Damaged, "bundle.json is not what was sealed", |b| {
        b.replace("bundle.json", "12:00", "13:00");
    }),
    attack("index-json-changed", Stranger, Kind::Damaged, "index.json is not what was sealed", |b| {
        b.replace("index.json", "ns/app:1", "ns/app:2");
    }),
    attack("oci-layout-changed", Stranger, Kind::Damaged, "oci-layout is not what was sealed", |b| {
        b.replace("oci-layout", "1.0.0", "1.0.1");
    }),
    attack("oci-layout-huge", Stranger, Kind::Damaged, "more than 30", |b| b.put("oci-layout", vec![b' '; 1 << 20])),
    // The seal.
    attack("sums-changed", Stranger, Kind::Damaged, "does not verify", |b| b.replace("SHA256SUMS", "a", "b")),
    attack("sums-line-added", Stranger, Kind::Damaged, "does not verify", |b| {
        let line = format!("{}  zzz\n", Digest::of(b"").hex());
        b.files.get_mut("SHA256SUMS").unwrap().extend(line.bytes());
    }),
    attack("sums-crlf", Stranger, Kind::Damaged, "does not verify", |b| {
        b.put("SHA256SUMS", b.text("SHA256SUMS").replace('\n', "\r\n"));
    }),
    attack("sums-missing", Stranger, Kind::Damaged, "no SHA256SUMS", |b| drop(b.remove("SHA256SUMS"))),
    attack("sums-huge", Stranger, Kind::Damaged, "more than 16777216", |b| {
        b.put("SHA256SUMS", vec![b'0'; limits::SUMS_BYTES as usize + 1]);
    }),
    attack("sums-is-link", Stranger, Kind::Damaged, "symbolic link", |b| {
        let bytes = b.remove("SHA256SUMS");
        b.put("elsewhere", bytes);
        b.links.push(("SHA256SUMS".into(), "elsewhere".into()));
    }),
    attack("signature-cut", Stranger, Kind::Damaged, "malformed signature", |b| {
        let path = b.signature();
        b.files.get_mut(&path).unwrap().truncate(100);
    }),
    attack("signature-trailing-junk", Stranger, Kind::Damaged, "one form", |b| {
        let path = b.signature();
        b.files.get_mut(&path).unwrap().push(b'\n');
    }),
    attack("signature-huge", Stranger, Kind::Damaged, "more than 4096", |b| b.put(&b.signature(), vec![b'x'; 4097])),
    attack("signature-under-other-name", Stranger, Kind::Damaged, "holds the signature of key", |b| {
        let bytes = b.remove(&b.signature());
        b.put(&format!("signatures/{}.sig", "0".repeat(32)), bytes);
    }),
    attack("signature-is-link", Stranger, Kind::Damaged, "symbolic link", |b| {
        b.links.push((format!("signatures/{}.sig", "0".repeat(32)), format!("{}.sig", b.key_id).into()));
    }),
    attack("signatures-is-link", Stranger, Kind::Damaged, "symbolic link", |b| {
        let bytes = b.remove(&b.signature());
        b.folders.retain(|folder| folder != "signatures");
        b.folders.push("elsewhere".into());
        b.put(&format!("elsewhere/{}.sig", b.key_id), bytes);
        b.links.push(("signatures".into(), "elsewhere".into()));
    }),
    attack("signature-missing", Stranger, Kind::Untrusted, "is not signed", |b| drop(b.remove(&b.signature()))),
    attack("signatures-folder-missing", Stranger, Kind::Untrusted, "is not signed", |b| {
        b.remove(&b.signature());
        b.folders.retain(|folder| folder != "signatures");
    }),
    attack("signature-by-unknown-key", Stranger, Kind::Untrusted, "is not in the list", |b| {
        b.remove(&b.signature());
        sign_as_another(b, Namespace::Bundle);
    }),
    attack("signature-for-receipt", Stranger, Kind::Untrusted, "is for \"sealift-receipt\"", |b| {
        sign_as_another(b, Namespace::Receipt);
    }),
    attack("signature-by-reviewer-only", Stranger, Kind::Untrusted, "is not in the list", |b| {
        b.remove(&b.signature());
        sign_as_another(b, Namespace::Review);
    }),
    attack("signature-of-other-bytes-beside-a-good-one", Stranger, Kind::Damaged, "does not verify", |b| {
        let sums = b.files["SHA256SUMS"].clone();
        b.put("SHA256SUMS", "other");
        sign_as_another(b, Namespace::Bundle);
        b.put("SHA256SUMS", sums);
    }),
    attack("signatures-too-many", Stranger, Kind::Damaged, "more than 16 signatures", |b| {
        (0..16).for_each(|_| sign_as_another(b, Namespace::Bundle));
    }),
    attack("signatures-stranger", Stranger, Kind::Damaged, "signatures/README", |b| b.put("signatures/README", "x")),
    // What is not listed.
    attack("docker-archive-manifest", Stranger, Kind::Damaged, "does not list", |b| b.put("manifest.json", "[]")),
    attack("blob-not-listed", Stranger, Kind::Damaged, "does not list", |b| {
        b.blob("more");
    }),
    attack("blob-upper-case", Stranger, Kind::Damaged, "does not list", |b| {
        let path = format!("blobs/sha256/{}", Digest::of(SHARED).hex().to_uppercase());
        b.put(&path, SHARED);
    }),
    attack("folder-not-listed", Stranger, Kind::Damaged, "(a directory)", |b| b.folders.push("blobs/sha512".into())),
    attack("pipe-not-listed", Stranger, Kind::Damaged, "(a named pipe)", |b| b.pipes.push("blobs/pipe".into())),
    attack("name-that-acts-on-terminals", Stranger, Kind::Damaged, "evil\\u{1b}[2J", |b| {
        b.put("evil\u{1b}[2J", "x");
    }),
    attack("very-many-files", Stranger, Kind::Damaged, "more than", |b| {
        (0..100).for_each(|n| b.put(&format!("blobs/sha256/{n}"), "x"));
    }),
    attack("dropping-finder", Stranger, Kind::Damaged, "rm -r -- '", |b| b.put(".DS_Store", "x")),
    attack("dropping-apple-double", Stranger, Kind::Damaged, "rm -r -- '", |b| {
        b.put(&format!("blobs/sha256/._{}", Digest::of(SHARED).hex()), "x");
    }),
    attack("dropping-windows", Stranger, Kind::Damaged, "System Volume Information'", |b| {
        b.folders.push("System Volume Information".into());
        b.put("System Volume Information/WPSettings.dat", "x");
    }),
    attack("dropping-beside-signature", Stranger, Kind::Damaged, "rm -r -- '", |b| {
        b.put(&format!("signatures/._{}.sig", b.key_id), "x");
    }),
    // What is not a plain file or directory.
    attack("layer-is-link", Stranger, Kind::Damaged, "symbolic link", |b| {
        b.remove(&shared());
        b.links.push((shared(), "/etc/hostname".into()));
    }),
    attack("layer-is-folder", Stranger, Kind::Damaged, "a directory, not a regular file", |b| {
        b.remove(&shared());
        b.folders.push(shared());
    }),
    attack("manifest-is-link", Stranger, Kind::Damaged, "symbolic link", |b| {
        let path = b.app();
        let bytes = b.remove(&path);
        b.put("elsewhere", bytes);
        b.links.push((path, "../../elsewhere".into()));
    }),
    attack("index-json-is-pipe", Stranger, Kind::Damaged, "named pipe", |b| {
        b.remove("index.json");
        b.pipes.push("index.json".into());
    }),
    attack("blobs-is-link", Stranger, Kind::Damaged, "symbolic link", |b| {
        move_blobs(b);
        b.links.push(("blobs".into(), "elsewhere".into()));
    }),
    attack("blobs-missing", Stranger, Kind::Damaged, "blobs is missing", |b| {
        b.files.retain(|path, _| !path.starts_with("blobs/"));
        b.folders.retain(|path| !path.starts_with("blobs"));
    }),
    // A trusted key in hostile hands: the list.
    attack("signed-sums-crlf", Signer, Kind::Damaged, "CR LF", |b| {
        b.put("SHA256SUMS", b.text("SHA256SUMS").replace('\n', "\r\n"));
        b.own_sums = true;
    }),
    attack("signed-sums-empty", Signer, Kind::Damaged, "cut off", |b| {
        b.put("SHA256SUMS", "");
        b.own_sums = true;
    }),
    attack("signed-sums-binary-mark", Signer, Kind::Damaged, "two spaces", |b| b.replace_sums("  bundle", " *bundle")),
    attack("signed-sums-traversal", Signer, Kind::Damaged, "no path of a bundle", |b| {
        b.replace_sums("blobs/sha256/", "blobs/../../");
    }),
    attack("signed-sums-absolute", Signer, Kind::Damaged, "no path of a bundle", |b| {
        b.replace_sums("blobs/sha256/", "/etc/passwd");
    }),
    attack("signed-sums-other-name", Signer, Kind::Damaged, "not named after", |b| {
        b.replace_sums(&Digest::of(SHARED).hex(), &Digest::of(b"x").hex());
    }),
    attack("signed-sums-unsorted", Signer, Kind::Damaged, "not sorted", |b| {
        let text = b.text("SHA256SUMS");
        let mut lines: Vec<&str> = text.lines().collect();
        lines.swap(0, 1);
        b.put("SHA256SUMS", lines.join("\n") + "\n");
        b.own_sums = true;
    }),
    attack("signed-sums-twice", Signer, Kind::Damaged, "there twice", |b| {
        let text = b.text("SHA256SUMS");
        b.put("SHA256SUMS", format!("{}\n{text}", text.lines().next().unwrap()));
        b.own_sums = true;
    }),
    attack("signed-sums-without-index", Signer, Kind::Damaged, "does not list index.json", |b| {
        let line = b.text("SHA256SUMS").lines().find(|line| line.ends_with("index.json")).unwrap().to_owned();
        b.replace_sums(&format!("{line}\n"), "");
    }),
    // ... bundle.json
    attack("signed-later-format", Signer, Kind::Refused, "has format 7", |b| {
        b.replace("bundle.json", "\"formatVersion\":1", "\"formatVersion\":7");
    }),
    attack("signed-unknown-field", Signer, Kind::Refused, "unknown field \"volumes\"", |b| {
        b.replace("bundle.json", "{", "{\"volumes\":2,");
    }),
    attack("signed-unknown-requirement", Signer, Kind::Refused, "requires \"sparse\"", |b| {
        b.replace("bundle.json", "\"requires\":[]", "\"requires\":[\"sparse\"]");
    }),
    attack("signed-duplicate-key", Signer, Kind::Damaged, "there twice", |b| {
        b.replace("bundle.json", "{", "{\"absent\":[],");
    }),
    attack("signed-absent-and-there", Signer, Kind::Damaged, "absent and is there", |b| {
        b.blob(FOREIGN);
    }),
    attack("signed-absent-unreferred", Signer, Kind::Damaged, "nothing refers to it", |b| {
        b.replace("bundle.json", &Digest::of(FOREIGN).hex(), &"f".repeat(64));
        let text = b.text("bundle.json");
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let list = json["absent"].as_array_mut().unwrap();
        list.sort_by_key(|item| item["digest"].as_str().unwrap().to_owned());
        b.put("bundle.json", serde_json::to_vec(&json).unwrap());
    }),
    attack("signed-absent-from-nowhere", Signer, Kind::Damaged, "not in the bundle", |b| {
        b.replace("bundle.json", "ns/multi:1", "ns/multi:9");
    }),
    attack("signed-absent-without-base", Signer, Kind::Damaged, "no base", |b| {
        b.replace("bundle.json", "\"foreign\"", "\"base\"");
    }),
    attack("signed-absent-two-sizes", Signer, Kind::Damaged, "two sizes", |b| {
        b.replace("bundle.json", "\"size\":15", "\"size\":16");
    }),
    attack("signed-other-layout", Signer, Kind::Damaged, "oci-layout is not", |b| {
        b.replace("oci-layout", "1.0.0", "1.1.0");
    }),
    // ... index.json
    attack("signed-name-twice", Signer, Kind::Damaged, "there twice", |b| {
        b.replace("index.json", "\"ns/app:latest\"", "\"ns/app:1\"");
    }),
    attack("signed-names-unsorted", Signer, Kind::Damaged, "not sorted", |b| {
        b.replace("index.json", "\"ns/app:latest\"", "\"ns/app:0\"");
    }),
    attack("signed-name-traversal", Signer, Kind::Damaged, "not a repository path", |b| {
        b.replace("index.json", "\"ns/app:1\"", "\"../../app:1\"");
    }),
    attack("signed-name-acts-on-terminals", Signer, Kind::Damaged, "\\u{1b}", |b| {
        b.replace("index.json", "\"ns/app:1\"", "\"ns/app\\u001b[2J:1\"");
    }),
    attack("signed-name-of-another-digest", Signer, Kind::Damaged, "is the name of", |b| {
        let name = format!("\"ns/app@{}\"", Digest::of(b"x"));
        b.replace("index.json", "\"ns/app:latest\"", &name);
        // `:` sorts before `@`.
    }),
    attack("signed-source-acts-on-terminals", Signer, Kind::Damaged, "source", |b| {
        b.replace("index.json", "registry.example.com/", "registry\\u0007/");
    }),
    attack("signed-name-missing", Signer, Kind::Damaged, "unknown field", |b| {
        b.replace("index.json", "org.opencontainers.image.ref.name", "org.opencontainers.image.ref.nom");
    }),
    attack("signed-index-extra-field", Signer, Kind::Damaged, "unknown field", |b| {
        b.replace("index.json", "\"size\":", "\"urls\":[],\"size\":");
    }),
    attack("signed-index-misspelled-key", Signer, Kind::Damaged, "misspelling", |b| {
        b.replace("index.json", "\"manifests\"", "\"MANIFESTS\"");
    }),
    attack("signed-index-two-sizes", Signer, Kind::Damaged, "two sizes", |b| {
        b.replace("index.json", "\"size\":", "\"size\":1");
    }),
    attack("signed-index-points-at-layer", Signer, Kind::Damaged, "not the media type", |b| {
        b.replace("index.json", MediaType::OCI_MANIFEST, "application/octet-stream");
    }),
    attack("signed-index-other-media-type", Signer, Kind::Damaged, "are not those of", |b| {
        let text = b.text("index.json").replace(MediaType::OCI_MANIFEST, MediaType::DOCKER_LIST);
        b.put("index.json", text);
    }),
    attack("signed-child-under-other-media-type", Signer, Kind::Damaged, "is said to be", |b| {
        // The index in the bundle calls its child an OCI manifest, the top level calls the same bytes Docker's.
        let bytes = b.files[&b.other()].clone();
        let annotations =
            r#""annotations":{"io.containerd.image.name":"x","org.opencontainers.image.ref.name":"ns/z:1"}"#;
        let line = descriptor(MediaType::DOCKER_MANIFEST, Digest::of(&bytes), bytes.len() as u64);
        b.replace("index.json", "}]}", &format!("}},{},{annotations}}}]}}", line.trim_end_matches('}')));
    }),
    // ... documents
    attack("signed-manifests-beside-layers", Signer, Kind::Damaged, "beside", |b| {
        b.change_document(&b.app(), "{", "{\"manifests\":[],");
    }),
    attack("signed-layers-twice", Signer, Kind::Damaged, "misspelling", |b| {
        b.change_document(&b.app(), "{", "{\"LAYERS\":[],");
    }),
    attack("signed-inner-media-type", Signer, Kind::Damaged, "inside", |b| {
        b.change_document(&b.app(), "{", &format!("{{\"mediaType\":\"{}\",", MediaType::DOCKER_MANIFEST));
    }),
    attack("signed-schema-1", Signer, Kind::Refused, "schema 1", |b| {
        b.change_document(&b.app(), "\"schemaVersion\":2", "\"schemaVersion\":1");
    }),
    attack("signed-other-algorithm", Signer, Kind::Damaged, "sha512", |b| {
        b.change_document(&b.app(), &Digest::of(SHARED).to_string(), &format!("sha512:{}", "0".repeat(128)));
    }),
    attack("signed-layer-two-sizes", Signer, Kind::Damaged, "two sizes", |b| {
        b.change_document(&b.app(), "\"size\":16", "\"size\":17");
    }),
    attack("signed-layer-size-lies", Signer, Kind::Damaged, "its descriptor says 7", |b| {
        let (from, to) = ("\"size\":5}", "\"size\":7}");
        b.change_document(&b.other(), from, to);
    }),
    attack("signed-layer-beyond-all-media", Signer, Kind::Damaged, "more than 8796093022208", |b| {
        b.change_document(&b.other(), "\"size\":5}", "\"size\":18446744073709551615}");
    }),
    attack("signed-layer-negative", Signer, Kind::Damaged, "invalid value", |b| {
        b.change_document(&b.other(), "\"size\":5}", "\"size\":-5}");
    }),
    attack("signed-blob-not-there", Signer, Kind::Damaged, "neither in SHA256SUMS nor", |b| {
        b.remove(&blob_path(Digest::of(b"other")));
    }),
    attack("signed-manifest-not-there", Signer, Kind::Damaged, "neither in SHA256SUMS nor", |b| {
        b.remove(&b.other());
    }),
    attack("signed-blob-nobody-needs", Signer, Kind::Damaged, "nothing refers to it", |b| {
        b.blob("stowaway");
    }),
    attack("signed-blob-is-manifest", Signer, Kind::Damaged, "is a manifest in one place", |b| {
        let app = b.files[&b.app()].clone();
        let was = descriptor("l", Digest::of(b"other"), 5);
        b.remove(&blob_path(Digest::of(b"other")));
        b.change_document(&b.other(), &was, &descriptor("l", Digest::of(&app), app.len() as u64));
    }),
    attack("signed-manifest-huge", Signer, Kind::Damaged, "more than 4194304", |b| {
        b.change_document(&b.app(), "{", &format!("{{\"pad\":\"{}\",", "x".repeat(4 << 20)));
    }),
    attack("signed-nested-deep", Signer, Kind::Damaged, "nested deeper", |b| {
        let path = b.app();
        let mut inner = b.files[&path].clone();
        let lowest = inner.clone();
        let mut media_type = MediaType::OCI_MANIFEST;
        for _ in 0..20 {
            let line = descriptor(media_type, Digest::of(&inner), inner.len() as u64);
            inner = format!("{{\"schemaVersion\":2,\"manifests\":[{line}]}}").into_bytes();
            b.blob(inner.clone());
            media_type = MediaType::OCI_INDEX;
        }
        let line = |media_type, bytes: &[u8]| {
            descriptor(media_type, Digest::of(bytes), bytes.len() as u64).trim_end_matches('}').to_owned()
        };
        b.replace("index.json", &line(MediaType::OCI_MANIFEST, &lowest), &line(MediaType::OCI_INDEX, &inner));
    }),
    attack("signed-deep-json", Signer, Kind::Damaged, "nested deeper than", |b| {
        b.change_document(&b.app(), "{", &format!("{{\"x\":{}{},", "[".repeat(100), "]".repeat(100)));
    }),
];

const fn attack(name: &'static str, by: By, kind: Kind, reason: &'static str, change: fn(&mut Draft)) -> Attack {
    Attack { name, by, kind, reason, change }
}

fn move_blobs(b: &mut Draft) {
    let moved = |path: &str| path.replacen("blobs", "elsewhere", 1);
    b.files = b.files.iter().map(|(path, bytes)| (moved(path), bytes.clone())).collect();
    b.folders = b.folders.iter().map(|path| moved(path)).collect();
}

/// Adds a signature by a new key.
fn sign_as_another(b: &mut Draft, namespace: Namespace) {
    let key = Key::new().load();
    let signature = key.sign(namespace, &b.files["SHA256SUMS"]).unwrap();
    b.put(&format!("signatures/{}.sig", key.public_key().key_id()), signature.as_armored());
}

fn said(error: &Error) -> String {
    format!("{}\n{}", error.chain(), error.hints().join("\n"))
}

#[tokio::test]
async fn every_attack_is_refused_for_its_reason() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
    write_good(&dir.path().join("good"), &key).await;
    let good = Draft::load(&dir.path().join("good"));
    let mut wrong = Vec::new();
    for attack in ATTACKS {
        let mut draft = good.clone();
        (attack.change)(&mut draft);
        if attack.by == Signer {
            draft.seal(&key);
        }
        let path = dir.path().join(attack.name);
        draft.store(&path);
        match read(&path, &key.trust) {
            Ok(_) => wrong.push(format!("{}: let in", attack.name)),
            Err(error) if error.kind() == attack.kind && said(&error).contains(attack.reason) => {
                assert!(!said(&error).contains(|c: char| c.is_control() && c != '\n'), "{}", attack.name);
            }
            Err(error) => wrong.push(format!("{}: {error:?}", attack.name)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn the_good_bundle_passes_also_sealed_again_and_with_more_signatures() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
    write_good(&dir.path().join("good"), &key).await;
    let mut draft = Draft::load(&dir.path().join("good"));
    sign_as_another(&mut draft, Namespace::Bundle);
    sign_as_another(&mut draft, Namespace::Review);
    draft.seal(&key);
    draft.store(&dir.path().join("again"));
    let head = read(&dir.path().join("again"), &key.trust).unwrap();
    assert_eq!((head.seal.signers.len(), head.seal.bystanders.len()), (1, 2));
}

#[tokio::test]
async fn nothing_of_the_bundle_is_parsed_before_its_seal_holds() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
    write_good(&dir.path().join("good"), &key).await;
    let mut draft = Draft::load(&dir.path().join("good"));
    for path in ["bundle.json", "index.json", "oci-layout"] {
        draft.remove(path);
        draft.pipes.push(path.into());
    }
    draft.store(&dir.path().join("odd"));
    // The seal is judged although all else is unreadable, and reading on then fails.
    let bundle = Bundle::open(&dir.path().join("odd")).unwrap();
    let seal = bundle.verify_seal(&key.trust, now()).unwrap();
    assert_eq!(bundle.read_head(seal).unwrap_err().kind(), Kind::Damaged);
}

#[test]
fn attacks_have_names_of_their_own() {
    let names: std::collections::BTreeSet<&str> = ATTACKS.iter().map(|attack| attack.name).collect();
    assert_eq!(names.len(), ATTACKS.len());
    assert!(ATTACKS.len() >= 30);
}
