//! A bundle in memory, to be built and to be changed. Written without sealift's own writer, which refuses to make most
//! of what is made here.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use sha2::{Digest as _, Sha256};

use super::keys::{BUNDLE, Key, hex};

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

#[derive(Clone, Default)]
pub(crate) struct Draft {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Path and target.
    pub(crate) links: Vec<(String, String)>,
    /// Lines of shell that make what the files and links cannot say, run in the bundle's directory.
    pub(crate) script: Vec<String>,
    /// `SHA256SUMS` is sealed as it stands, not worked out from the files.
    own_sums: bool,
    images: Vec<String>,
    absent: Vec<String>,
}

/// Building.
impl Draft {
    pub(crate) fn blob(&mut self, bytes: impl Into<Vec<u8>>) -> String {
        let bytes = bytes.into();
        let digest = digest(&bytes);
        self.put(&blob_path(&digest), bytes);
        digest
    }

    /// Puts a manifest and all it refers to; returns its bytes.
    pub(crate) fn manifest(&mut self, config: &[u8], layers: &[&[u8]]) -> Vec<u8> {
        self.blob(config);
        layers.iter().for_each(|layer| drop(self.blob(*layer)));
        let bytes = manifest(config, layers).into_bytes();
        self.blob(bytes.clone());
        bytes
    }

    /// Puts an index of some documents with their media types; returns its bytes.
    pub(crate) fn index(&mut self, children: &[(&str, &[u8])]) -> Vec<u8> {
        let bytes = index(children).into_bytes();
        self.blob(bytes.clone());
        bytes
    }

    /// Adds a line to `index.json`. Names are to be added in their order.
    pub(crate) fn image(&mut self, name: &str, media_type: &str, document: &[u8]) {
        let (digest, size) = (digest(document), document.len());
        self.images.push(format!(
            r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size},"annotations":{{"io.containerd.image.name":"registry.example.com/{name}","org.opencontainers.image.ref.name":"{name}"}}}}"#
        ));
    }

    /// Adds an entry to `absent`.
    pub(crate) fn absent(&mut self, content: &[u8], reason: &str, name: &str) {
        let (digest, size) = (digest(content), content.len());
        self.absent.push(format!(r#"{{"digest":"{digest}","size":{size},"reason":"{reason}","names":["{name}"]}}"#));
        self.absent.sort();
    }

    /// Writes the files of the top level and seals.
    pub(crate) fn finish(mut self) -> Draft {
        self.put("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        let images = self.images.join(",");
        self.put(
            "index.json",
            format!("{{\"schemaVersion\":2,\"mediaType\":\"{OCI_INDEX}\",\"manifests\":[{images}]}}\n"),
        );
        let absent = self.absent.join(",");
        self.put(
            "bundle.json",
            format!(
                "{{\"formatVersion\":1,\"requires\":[],\"created\":\"2026-11-23T12:00:00Z\",\"tool\":\"corpus/1\",\"series\":null,\"sequence\":null,\"base\":[],\"absent\":[{absent}]}}\n"
            ),
        );
        self.seal();
        self
    }

    /// Works out `SHA256SUMS`, unless it was set by hand, and signs it with the trusted key.
    pub(crate) fn seal(&mut self) {
        if !self.own_sums {
            let sums: String = self
                .files
                .iter()
                .filter(|(path, _)| {
                    ["bundle.json", "index.json", "oci-layout"].contains(&path.as_str())
                        || path.starts_with("blobs/sha256/")
                })
                .map(|(path, bytes)| format!("{}  {path}\n", hex(&Sha256::digest(bytes))))
                .collect();
            self.put("SHA256SUMS", sums);
        }
        let key = Key::named("trusted");
        let signature = key.sign(&BUNDLE, &self.files["SHA256SUMS"]);
        self.put(&key.path(), signature);
    }

    /// Writes it to a new directory.
    pub(crate) fn store(&self, root: &Path) {
        for (path, bytes) in &self.files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        for line in &self.script {
            assert!(Command::new("sh").args(["-euc", line]).current_dir(root).status().unwrap().success(), "{line}");
        }
    }
}

/// Changing.
impl Draft {
    pub(crate) fn put(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.files.insert(path.to_owned(), bytes.into());
    }

    pub(crate) fn remove(&mut self, path: &str) -> Vec<u8> {
        self.files.remove(path).unwrap_or_else(|| panic!("there is no {path}"))
    }

    pub(crate) fn file(&mut self, path: &str) -> &mut Vec<u8> {
        self.files.get_mut(path).unwrap_or_else(|| panic!("there is no {path}"))
    }

    pub(crate) fn text(&self, path: &str) -> String {
        String::from_utf8(self.files[path].clone()).unwrap()
    }

    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.links.push((path.to_owned(), target.to_owned()));
    }

    pub(crate) fn run(&mut self, line: &str) {
        self.script.push(line.to_owned());
    }

    /// Changes the first place; there must be one.
    pub(crate) fn replace(&mut self, path: &str, from: &str, to: &str) {
        let text = self.text(path);
        assert!(text.contains(from), "{path} has no {from}: {text}");
        self.put(path, text.replacen(from, to, 1));
    }

    /// Sets `SHA256SUMS`, which is then sealed as it stands.
    pub(crate) fn sums(&mut self, bytes: impl Into<Vec<u8>>) {
        self.put("SHA256SUMS", bytes);
        self.own_sums = true;
    }

    /// As [`Draft::replace`] in `SHA256SUMS`, which is then sealed as it stands.
    pub(crate) fn replace_sums(&mut self, from: &str, to: &str) {
        self.replace("SHA256SUMS", from, to);
        self.own_sums = true;
    }

    pub(crate) fn flip(&mut self, path: &str) {
        let bytes = self.file(path);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }

    /// Adds a signature over `SHA256SUMS` as it stands.
    pub(crate) fn sign(&mut self, key: &str, form: &super::keys::Form<'_>) {
        let key = Key::named(key);
        let signature = key.sign(form, &self.files["SHA256SUMS"]);
        self.put(&key.path(), signature);
    }

    /// The first blob that has `part` in it.
    pub(crate) fn find(&self, part: &str) -> String {
        let has = |bytes: &[u8]| bytes.windows(part.len()).any(|window| window == part.as_bytes());
        let mut found = self.files.iter().filter(|(path, bytes)| path.starts_with("blobs/") && has(bytes));
        found.next().unwrap_or_else(|| panic!("no blob has {part}")).0.clone()
    }

    /// The manifest of a config.
    pub(crate) fn manifest_of(&self, config: &[u8]) -> String {
        self.find(&digest(config))
    }

    /// Changes a document and everything above it, so that all digests and sizes are right again.
    pub(crate) fn change_document(&mut self, path: &str, from: &str, to: &str) {
        let text = self.text(path);
        assert!(text.contains(from), "{path} has no {from}: {text}");
        self.exchange_document(path, text.replacen(from, to, 1).into_bytes());
    }

    /// Puts other bytes in the place of a document, as above.
    pub(crate) fn exchange_document(&mut self, path: &str, new: Vec<u8>) {
        let old = self.remove(path);
        let (before, after) = (reference(&old), reference(&new));
        self.blob(new);
        let refers = |bytes: &[u8]| bytes.starts_with(b"{") && String::from_utf8_lossy(bytes).contains(&before);
        let parents: Vec<String> =
            self.files.iter().filter(|(_, bytes)| refers(bytes)).map(|(path, _)| path.clone()).collect();
        for path in parents {
            let text = self.text(&path).replace(&before, &after);
            match path.as_str() {
                "index.json" => self.put(&path, text),
                _ => self.exchange_document(&path, text.into_bytes()),
            }
        }
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// The 64 digits.
pub(crate) fn hex_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn blob_path(digest: &str) -> String {
    digest.replace("sha256:", "blobs/sha256/")
}

/// The path of a blob with these bytes.
pub(crate) fn path_of(bytes: &[u8]) -> String {
    blob_path(&digest(bytes))
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> String {
    format!("{{\"mediaType\":\"{media_type}\",{}}}", reference(bytes))
}

pub(crate) fn manifest(config: &[u8], layers: &[&[u8]]) -> String {
    let layers: Vec<String> = layers.iter().map(|layer| descriptor(LAYER, layer)).collect();
    format!(r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#, descriptor(CONFIG, config), layers.join(","))
}

pub(crate) fn index(children: &[(&str, &[u8])]) -> String {
    let children: Vec<String> = children.iter().map(|(media_type, bytes)| descriptor(media_type, bytes)).collect();
    format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, children.join(","))
}

fn reference(bytes: &[u8]) -> String {
    format!("\"digest\":\"{}\",\"size\":{}", digest(bytes), bytes.len())
}
