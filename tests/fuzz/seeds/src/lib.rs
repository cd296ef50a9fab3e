//! A bundle as a fuzzer can change it: checksums and digests follow from the content, so that a changed byte is met by
//! the check for what it says, not by its checksum.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// Entries one after the other: what it is (a byte, [`Kind`]), the length of its content (two bytes, the low one
/// first), the content. In the content of blobs and documents, the byte 1 and a number stand for the digits of the digest
/// of that later entry (0 is the next one), the byte 2 and a number for its size.
#[derive(Debug, Default)]
pub struct Tree {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    content: Vec<u8>,
}

/// What an entry is; by its number among these, counted around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Named after its digest.
    Blob,
    /// `index.json`
    Index,
    /// `bundle.json`
    Descriptor,
    /// `oci-layout`
    Layout,
    /// A file under any name: the length of the name, the name, the bytes. It may be `SHA256SUMS`, which is worked out
    /// otherwise.
    File,
    /// A link: as a file, the bytes are the target.
    Link,
    /// A directory, whose name is the content.
    Folder,
    /// A named pipe, whose name is the content.
    Pipe,
}

impl Kind {
    const ALL: [Kind; 8] =
        [Kind::Blob, Kind::Index, Kind::Descriptor, Kind::Layout, Kind::File, Kind::Link, Kind::Folder, Kind::Pipe];
}

impl Tree {
    /// Takes any bytes; what is too short ends where it ends.
    pub fn parse(mut input: &[u8]) -> Tree {
        let mut tree = Tree::default();
        while let [kind, low, high, rest @ ..] = input {
            let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
            let (content, rest) = rest.split_at(length);
            input = rest;
            tree.add(Kind::ALL[usize::from(*kind) % Kind::ALL.len()], content);
        }
        for at in (0..tree.entries.len()).rev() {
            let whole = tree.resolve(at);
            tree.entries[at].content = whole;
        }
        tree
    }

    /// Adds an entry, whose references are not resolved.
    pub fn add(&mut self, kind: Kind, content: &[u8]) {
        self.entries.push(Entry { kind, content: content.to_vec() });
    }

    /// Whether there is a file of this name with these bytes.
    pub fn has(&self, path: &str, bytes: &[u8]) -> bool {
        self.files().iter().any(|file| file.0 == path && file.1 == bytes)
    }

    /// The bytes that [`Tree::parse`] takes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in &self.entries {
            let length = u16::try_from(entry.content.len()).expect("entries of seeds are small");
            bytes.push(entry.kind as u8);
            bytes.extend(length.to_le_bytes());
            bytes.extend(&entry.content);
        }
        bytes
    }

    /// Writes it to a new directory. What cannot be made (a name twice, a file as a directory) is left out.
    pub fn store(&self, root: &Path) {
        let _ = fs::create_dir_all(root.join("blobs/sha256"));
        let _ = fs::create_dir_all(root.join("signatures"));
        for (path, bytes) in self.files() {
            let path = root.join(path);
            let _ = path.parent().map(fs::create_dir_all);
            let _ = fs::write(path, bytes);
        }
        for Entry { kind, content } in &self.entries {
            let (name, rest) = named(content);
            match (kind, inside(name), inside(content)) {
                (Kind::Link, Some(name), _) => {
                    let _ = fs::remove_file(root.join(name));
                    let _ = symlink(String::from_utf8_lossy(rest).replace('\0', ""), root.join(name));
                }
                (Kind::Folder, _, Some(name)) => drop(fs::create_dir_all(root.join(name))),
                (Kind::Pipe, _, Some(name)) => {
                    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
                    let _ = fs::remove_file(root.join(name));
                    let _ = rustix::fs::mknodat(rustix::fs::CWD, root.join(name), rustix::fs::FileType::Fifo, mode, 0);
                }
                _ => {}
            }
        }
    }

    /// The same files as an archive, in the order of the entries.
    pub fn pack(&self) -> Vec<u8> {
        let mut files = self.files();
        let rank = |path: &str| match path {
            "SHA256SUMS" => 0,
            path if path.starts_with("signatures/") => 1,
            "bundle.json" => 2,
            "oci-layout" => 3,
            "index.json" => 4,
            _ => 5,
        };
        files.sort_by_key(|(path, _)| rank(path));
        let mut archive = Vec::new();
        for (path, bytes) in files {
            archive.extend(header(&path, bytes.len()));
            archive.extend(&bytes);
            archive.resize(archive.len().next_multiple_of(512), 0);
        }
        archive.resize(archive.len() + 1024, 0);
        archive
    }

    /// Path and bytes of every file, `SHA256SUMS` too.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        for Entry { kind, content } in &self.entries {
            let (path, bytes) = match kind {
                Kind::Blob => (format!("blobs/sha256/{}", hex(content)), content.as_slice()),
                Kind::Index => ("index.json".to_owned(), content.as_slice()),
                Kind::Descriptor => ("bundle.json".to_owned(), content.as_slice()),
                Kind::Layout => ("oci-layout".to_owned(), content.as_slice()),
                Kind::File => match named(content) {
                    (name, bytes) if inside(name).is_some() => (inside(name).unwrap_or_default().to_owned(), bytes),
                    _ => continue,
                },
                Kind::Link | Kind::Folder | Kind::Pipe => continue,
            };
            if !files.iter().any(|(known, _)| *known == path) {
                files.push((path, bytes.to_vec()));
            }
        }
        if !files.iter().any(|(path, _)| path == "SHA256SUMS") {
            let sealed = |path: &str| {
                path.starts_with("blobs/sha256/") || ["bundle.json", "index.json", "oci-layout"].contains(&path)
            };
            let mut lines: Vec<(String, String)> = files
                .iter()
                .filter(|(path, _)| sealed(path))
                .map(|(path, bytes)| (path.clone(), format!("{}  {path}\n", hex(bytes))))
                .collect();
            lines.sort();
            let sums: String = lines.into_iter().map(|(_, line)| line).collect();
            files.push(("SHA256SUMS".to_owned(), sums.into_bytes()));
        }
        files
    }

    /// The content of an entry with its references replaced; those after it are resolved.
    fn resolve(&self, at: usize) -> Vec<u8> {
        let entry = &self.entries[at];
        if matches!(entry.kind, Kind::Link | Kind::Folder | Kind::Pipe) {
            return entry.content.clone();
        }
        let mut whole = Vec::with_capacity(entry.content.len());
        let mut rest = entry.content.as_slice();
        while let [byte, after @ ..] = rest {
            let target = after.first().and_then(|number| self.entries.get(at + 1 + usize::from(*number)));
            rest = match (byte, target) {
                (1, Some(target)) => {
                    whole.extend(hex(&target.content).into_bytes());
                    &after[1..]
                }
                (2, Some(target)) => {
                    whole.extend(target.content.len().to_string().into_bytes());
                    &after[1..]
                }
                _ => {
                    whole.push(*byte);
                    after
                }
            };
        }
        whole
    }
}

/// A name with its length in front, and what follows.
fn named(content: &[u8]) -> (&[u8], &[u8]) {
    match content {
        [length, rest @ ..] => rest.split_at(usize::from(*length).min(rest.len())),
        [] => (content, content),
    }
}

/// A path that stays below the bundle: nothing else on the machine is a fuzzer's business.
fn inside(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name).ok()?;
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && part.len() < 256;
    (!name.contains('\0') && name.len() < 300 && name.split('/').all(plain)).then_some(name)
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A ustar header as bundle-spec section 12 has it.
fn header(path: &str, size: usize) -> [u8; 512] {
    let mut header = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| {
        let length = bytes.len().min(100);
        header[at..at + length].copy_from_slice(&bytes[..length]);
    };
    put(0, path.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}
