//! The archive of a draft, packed by hand as section 12 of bundle-spec says, and then changed. Shares no code with
//! sealift's writer, so that both cannot be wrong in the same way.

use std::collections::BTreeSet;

use serde_json::Value;

use super::draft::{Draft, blob_path};

pub(crate) const BLOCK: usize = 512;

/// Members in their order; the end is added by [`Tarball::bytes`].
#[derive(Clone)]
pub(crate) struct Tarball {
    pub(crate) members: Vec<Member>,
}

#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) header: [u8; BLOCK],
    pub(crate) content: Vec<u8>,
}

impl Tarball {
    pub(crate) fn of(draft: &Draft) -> Tarball {
        let members = order(draft).iter().map(|path| Member::file(path, &draft.files[path])).collect();
        Tarball { members }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.parts(0..self.members.len()), vec![0; 2 * BLOCK]].concat()
    }

    /// Some of the members, without the end.
    pub(crate) fn parts(&self, range: std::ops::Range<usize>) -> Vec<u8> {
        self.members[range].iter().flat_map(Member::bytes).collect()
    }

    /// The number of the member whose path begins so.
    pub(crate) fn at(&self, path: &str) -> usize {
        let found = self.members.iter().position(|member| member.header.starts_with(path.as_bytes()));
        found.unwrap_or_else(|| panic!("there is no {path}"))
    }

    pub(crate) fn member(&mut self, path: &str) -> &mut Member {
        let at = self.at(path);
        &mut self.members[at]
    }

    /// Puts a member before another, or at the end.
    pub(crate) fn insert(&mut self, before: Option<&str>, member: Member) {
        let at = before.map_or(self.members.len(), |path| self.at(path));
        self.members.insert(at, member);
    }

    pub(crate) fn remove(&mut self, path: &str) -> Member {
        let at = self.at(path);
        self.members.remove(at)
    }
}

impl Member {
    pub(crate) fn file(path: &str, content: &[u8]) -> Member {
        Member { header: header(path, content.len() as u64), content: content.to_vec() }
    }

    /// A member of another type.
    pub(crate) fn of_type(path: &str, kind: u8, content: &[u8]) -> Member {
        let mut member = Member::file(path, content);
        member.set(156, &[kind]);
        member
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = [&self.header[..], &self.content].concat();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    /// Writes into the header, and puts its sum right.
    pub(crate) fn set(&mut self, at: usize, bytes: &[u8]) {
        self.header[at..at + bytes.len()].copy_from_slice(bytes);
        put_sum(&mut self.header);
    }
}

/// The table of section 12.3, for sizes below 8 GiB.
pub(crate) fn header(path: &str, size: u64) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let fields: [(usize, &[u8]); 10] = [
        (0, path.as_bytes()),
        (100, b"0000644"),
        (108, b"0000000"),
        (116, b"0000000"),
        (124, &octal(size)),
        (136, b"00000000000"),
        (156, b"0"),
        (257, b"ustar\x0000"),
        (329, b"0000000"),
        (337, b"0000000"),
    ];
    for (at, bytes) in fields {
        header[at..at + bytes.len()].copy_from_slice(bytes);
    }
    put_sum(&mut header);
    header
}

/// Eleven octal digits.
pub(crate) fn octal(size: u64) -> [u8; 11] {
    format!("{size:011o}").into_bytes().try_into().expect("less than 8 GiB")
}

pub(crate) fn put_sum(header: &mut [u8; BLOCK]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// The order of section 12.1.
fn order(draft: &Draft) -> Vec<String> {
    let mut paths = vec!["SHA256SUMS".to_owned()];
    paths.extend(draft.files.keys().filter(|path| path.starts_with("signatures/")).cloned());
    paths.extend(["bundle.json", "oci-layout", "index.json"].map(str::to_owned));
    let json = |path: &str| serde_json::from_slice::<Value>(&draft.files[path]).expect("a document of a good bundle");
    let mut documents = Vec::new();
    let mut stack = children(&json("index.json"), &["manifests"]);
    stack.reverse();
    while let Some(path) = stack.pop() {
        let is_document = draft.files.get(&path).is_some_and(|bytes| {
            serde_json::from_slice::<Value>(bytes).is_ok_and(|value| value.get("schemaVersion").is_some())
        });
        if is_document && !documents.contains(&path) {
            let mut below = children(&json(&path), &["manifests"]);
            below.reverse();
            stack.extend(below);
            documents.push(path);
        }
    }
    let named = |fields: &[&str]| documents.iter().flat_map(|path| children(&json(path), fields)).collect::<Vec<_>>();
    let mut seen = BTreeSet::new();
    paths.extend([documents.clone(), named(&["config"]), named(&["layers"])].concat());
    paths.retain(|path| draft.files.contains_key(path) && seen.insert(path.clone()));
    paths
}

/// What the fields of a document refer to, as paths.
fn children(document: &Value, fields: &[&str]) -> Vec<String> {
    let of = |field: &&str| match &document[*field] {
        Value::Array(list) => list.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    };
    let digest = |descriptor: Value| blob_path(descriptor["digest"].as_str().expect("a digest"));
    fields.iter().flat_map(of).map(digest).collect()
}
