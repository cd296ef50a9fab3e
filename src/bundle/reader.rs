//! A bundle, read in the order that is safe: the seal, the head, the closed list. What it is carried by is the
//! business of a [`Carrier`]; a directory's is here, for its closed list is the longest.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::FileType;

use super::absence::{children, may_be_absent};
use super::archive::Archive;
use super::carrier::{Carrier, damaged};
use super::checksums::Checksums;
use super::descriptor::{Descriptor, Series};
use super::files::{Entry, Folder, show};
use super::index::{self, Item};
use super::seal::{self, Seal, Unverified};
use super::sealing;
use super::source::{blob_folder, blob_path, damaged_blob, hash_blob, open_blob};
use super::strangers::{Strangers, is_file};
use super::{ALGORITHM, BLOBS, DESCRIPTOR, INDEX, LAYOUT, LAYOUT_BYTES, SIGNATURES, SUMS, limits};
use crate::error::{Error, Result};
use crate::oci::{self, Digest, Document, MAX_DOCUMENT, View};
use crate::place::{Blob, BlobId, BlobKind, Builder, Contents, Reason};
use crate::trust::Trust;

/// An open bundle of which nothing is known yet. Also the [`Source`](crate::place::Source) of its blobs, once its
/// [`Head`] is read.
#[derive(Debug)]
pub struct Bundle {
    pub(super) form: Form,
}

/// What can be read in any order.
#[derive(Debug)]
pub(super) enum Form {
    Directory(Folder),
    Archive(Archive),
}

/// Everything of a bundle but its layers, verified against its seal.
#[derive(Debug)]
pub struct Head {
    /// Who vouches for it.
    pub seal: Seal,
    /// What is in it.
    pub contents: Arc<Contents>,
    /// When it was made, in whole seconds, as its maker says.
    pub created: Timestamp,
    /// The program that made it, as its maker says.
    pub tool: String,
    /// Its place in a series.
    pub series: Option<Series>,
    /// The identities of the bundles it builds on.
    pub base: Vec<Digest>,
}

impl Head {
    /// The SHA-256 of `SHA256SUMS`: what two people compare to know that they hold the same bundle.
    pub fn identity(&self) -> Digest {
        self.seal.identity
    }
}

impl Bundle {
    /// Opens a bundle directory, or an archive (`BUNDLE.tar`) that can be read in any order. Nothing in it is read
    /// yet.
    ///
    /// # Errors
    /// `NotFound` or `Io` if there is no such thing, `Usage` for what is neither.
    pub fn open(path: &Path) -> Result<Bundle> {
        let shown = show(path.as_os_str());
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Ok(Bundle { form: Form::Directory(Folder::open(path)?) }),
            Ok(metadata) if metadata.is_file() => Ok(Bundle { form: Form::Archive(Archive::open(path)?) }),
            Ok(_) => Err(Error::usage(format!("{shown} is neither a directory nor a file"))
                .hint("to read a bundle from a pipe, give - in its place")),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::not_found(format!("there is no {shown}"))
                .hint("check the path, and whether the medium is mounted")),
            Err(e) => Err(Error::io(format!("cannot open {shown}"), e)),
        }
    }

    /// Checks who signed `SHA256SUMS`, as of `at`. Nothing else is looked at.
    ///
    /// # Errors
    /// `Untrusted` if nobody who is trusted signed it, `Damaged` if a signature is malformed or does not hold.
    pub fn verify_seal(&self, trust: &Trust, at: Timestamp) -> Result<Seal> {
        match &self.form {
            Form::Directory(root) => Seal::verify(&mut Files(root), trust, at),
            Form::Archive(archive) => archive.seal(|carrier| Seal::verify(carrier, trust, at)),
        }
    }

    /// The seal without any trust: to look at, not to act upon.
    pub fn seal_unverified(&self) -> Result<Unverified<Seal>> {
        match &self.form {
            Form::Directory(root) => Seal::look(&mut Files(root)),
            Form::Archive(archive) => archive.seal(|carrier| Seal::look(carrier)),
        }
    }

    /// Reads and verifies the head, and that nothing else is there than what is sealed.
    ///
    /// # Errors
    /// `Damaged` or `Refused` for whatever is not as the format says; `Io` if the medium cannot be read.
    pub fn read_head(&self, seal: Seal) -> Result<Head> {
        match &self.form {
            Form::Directory(root) => (&mut Files(root) as &mut dyn Carrier).read_head(seal),
            Form::Archive(archive) => archive.head(|carrier| carrier.read_head(seal)),
        }
    }

    /// A blob's bytes to be read at any offset, not verified: the open file, and where in it the blob begins.
    ///
    /// # Errors
    /// `Damaged` if the head was not read before, or the file is not as it says.
    pub fn file(&self, contents: &Contents, blob: BlobId) -> Result<(File, u64)> {
        let Blob { digest, size, .. } = *contents.blob(blob);
        match &self.form {
            Form::Directory(root) => Ok((open_blob(root, digest, size)?, 0)),
            Form::Archive(archive) => archive.blob(digest),
        }
    }

    /// The bytes of a config of the head, which were verified with it and are again.
    ///
    /// # Errors
    /// `Damaged` if they are not what was verified, `Io` if they cannot be read.
    pub fn config(&self, contents: &Contents, blob: BlobId) -> Result<Bytes> {
        let (file, offset) = self.file(contents, blob)?;
        let Blob { digest, size, .. } = *contents.blob(blob);
        let mut bytes = vec![0; usize::try_from(size.min(MAX_DOCUMENT)).unwrap_or_default()];
        file.read_exact_at(&mut bytes, offset).map_err(|e| Error::io(format!("cannot read config {digest}"), e))?;
        match Digest::of(&bytes) {
            found if found == digest => Ok(bytes.into()),
            _ => Err(damaged(&blob_path(digest), "its bytes have another digest")),
        }
    }

    /// As [`Bundle::read_head`], for a seal that nobody vouches for.
    pub fn read_head_unverified(&self, seal: Unverified<Seal>) -> Result<Unverified<Head>> {
        self.read_head(seal.0).map(Unverified)
    }
}

impl dyn Carrier + '_ {
    /// Reads and verifies the head, and that nothing else is there than what is sealed.
    pub(super) fn read_head(&mut self, seal: Seal) -> Result<Head> {
        let sums = Checksums::parse(&seal.sums)?;
        let descriptor =
            Descriptor::parse(&self.read_listed(DESCRIPTOR, sums.descriptor, limits::DESCRIPTOR_BYTES)?)?;
        let layout = self.read_listed(LAYOUT, sums.layout, LAYOUT_BYTES.len() as u64)?;
        if layout != LAYOUT_BYTES {
            return Err(Error::damaged(format!("{LAYOUT} is not the line {}", String::from_utf8_lossy(LAYOUT_BYTES))));
        }
        let items = index::parse(&self.read_listed(INDEX, sums.index, limits::INDEX_BYTES)?)?;
        descriptor.check_names(&items.iter().map(|item| item.image.name.to_string()).collect())?;
        if let Some(item) = descriptor.absent.iter().find(|item| sums.has(item.digest)) {
            return Err(Error::damaged(format!("{} is listed as absent and is there", item.digest)));
        }
        let contents = self.read_contents(&sums, &descriptor, items)?;
        let sizes = check_reach(&sums, &contents)?;
        sealing::check_configs(&contents)?;
        self.check_closed(&sums, &sizes, &contents)?;
        self.check_configs(&contents)?;
        Ok(Head {
            seal,
            contents: Arc::new(contents),
            created: descriptor.created,
            tool: descriptor.tool,
            series: descriptor.series,
            base: descriptor.base,
        })
    }

    /// A file of the top level whose bytes have the listed checksum.
    fn read_listed(&mut self, name: &'static str, sum: Digest, limit: u64) -> Result<Bytes> {
        let bytes = self.top(name, limit)?;
        if Digest::of(&bytes) != sum {
            return Err(Error::damaged(format!("{} is not what was sealed", self.shown(name)))
                .hint("copy the bundle again from its medium; if that does not help, ask its sender for it again"));
        }
        Ok(bytes)
    }

    /// Follows everything that is referred to from `items` down.
    fn read_contents(&mut self, sums: &Checksums, descriptor: &Descriptor, items: Vec<Item>) -> Result<Contents> {
        let absent: HashMap<Digest, Reason> = descriptor.absent.iter().map(|item| (item.digest, item.reason)).collect();
        let mut unseen: HashSet<Digest> = absent.keys().copied().collect();
        let mut builder = Builder::default();
        let mut total = 0;
        for item in &items {
            // A stack of our own: the depth is a stranger's choice.
            let mut stack = vec![(item.image.document, item.size, item.media_type.clone())];
            while let Some((digest, size, media_type)) = stack.pop() {
                if absent.contains_key(&digest) || builder.has(digest) {
                    continue;
                }
                total += size;
                if total > limits::DOCUMENTS_BYTES {
                    return Err(Error::damaged(format!(
                        "manifests and indexes have more than {} bytes in all",
                        limits::DOCUMENTS_BYTES
                    )));
                }
                let document = self.read_document(sums, digest, size, &media_type)?;
                for (role, child) in children(&document) {
                    unseen.remove(&child.digest);
                    if let Some(reason) = absent.get(&child.digest).filter(|reason| !may_be_absent(role, **reason)) {
                        return Err(Error::damaged(format!(
                            "{DESCRIPTOR}: {} is {role} of {digest}, which cannot be absent for the reason {reason}",
                            child.digest
                        )));
                    }
                    if child.size > limits::BLOB_BYTES {
                        return Err(Error::damaged(format!(
                            "{} has {} bytes, more than {}",
                            child.digest,
                            child.size,
                            limits::BLOB_BYTES
                        )));
                    }
                }
                if let View::Index { children } = document.view() {
                    let documents = children.iter().filter(|child| child.media_type.document_kind().is_some());
                    stack.extend(documents.rev().map(|child| (child.digest, child.size, child.media_type.clone())));
                }
                builder.document(&document)?;
            }
            builder.image(item.image.clone(), self.origin(&item.image));
        }
        if let Some(digest) = unseen.iter().min() {
            return Err(Error::damaged(format!("{digest} is listed as absent, and nothing refers to it")));
        }
        for item in &descriptor.absent {
            builder.absent(item.clone());
        }
        let contents = builder.finish()?;
        // One that was met as a child of another image was not held against its own line.
        for item in &items {
            let (bytes, media_type) = contents.documents.get(item.image.document)?;
            if bytes.len() as u64 != item.size || *media_type != item.media_type {
                return Err(Error::damaged(format!(
                    "{INDEX}: {} is said to be {} of {} bytes, and is {media_type} of {} bytes",
                    item.image.name,
                    item.media_type,
                    item.size,
                    bytes.len()
                )));
            }
        }
        Ok(contents)
    }

    fn read_document(
        &mut self,
        sums: &Checksums,
        digest: Digest,
        size: u64,
        media_type: &oci::MediaType,
    ) -> Result<Document> {
        if !sums.has(digest) {
            return Err(unlisted(digest));
        }
        if size > MAX_DOCUMENT {
            return Err(Error::damaged(format!("manifest {digest} has {size} bytes, more than {MAX_DOCUMENT}")));
        }
        let bytes = self.document(digest, size)?;
        if bytes.len() as u64 != size {
            let what = format!("it has {} bytes, and its descriptor says {size}", bytes.len());
            return Err(damaged(&self.shown(&blob_path(digest)), &what));
        }
        let found = Digest::of(&bytes);
        if found != digest {
            return Err(damaged(&self.shown(&blob_path(digest)), &format!("its bytes have the digest {found}")));
        }
        Document::parse_known(bytes, media_type, digest)
    }

    fn check_configs(&mut self, contents: &Contents) -> Result<()> {
        for blob in contents.blobs.iter().filter(|blob| blob.kind == BlobKind::Config) {
            if !self.config(blob.digest, blob.size)? {
                return Err(damaged(&self.shown(&blob_path(blob.digest)), "its bytes have another digest"));
            }
        }
        Ok(())
    }
}

/// A bundle directory as a carrier.
struct Files<'a>(&'a Folder);

impl Carrier for Files<'_> {
    fn shown(&self, path: &str) -> String {
        self.0.shown(path)
    }

    fn sums(&mut self) -> Result<Bytes> {
        seal::sums_in(self.0)
    }

    fn signatures(&mut self) -> Result<Vec<(String, Bytes)>> {
        seal::signatures_in(self.0)
    }

    fn top(&mut self, name: &'static str, limit: u64) -> Result<Bytes> {
        self.0.read(name, limit)
    }

    fn document(&mut self, digest: Digest, _: u64) -> Result<Bytes> {
        blob_folder(self.0)?.read(&digest.hex(), MAX_DOCUMENT)
    }

    fn config(&mut self, digest: Digest, size: u64) -> Result<bool> {
        hash_blob(self.0, digest, size, || true)
    }

    /// What is listed is there with its size, and nothing else is there.
    fn check_closed(&mut self, sums: &Checksums, sizes: &BTreeMap<Digest, u64>, _: &Contents) -> Result<()> {
        let mut strangers = Strangers::default();
        let top = [
            (SUMS, FileType::RegularFile),
            (DESCRIPTOR, FileType::RegularFile),
            (LAYOUT, FileType::RegularFile),
            (INDEX, FileType::RegularFile),
            (SIGNATURES, FileType::Directory),
            (BLOBS, FileType::Directory),
        ];
        check_level(self.0, &top, &mut strangers)?;
        let blobs = self.0.folder(BLOBS)?;
        check_level(&blobs, &[(ALGORITHM, FileType::Directory)], &mut strangers)?;
        let folder = blobs.folder(ALGORITHM)?;
        let mut there = HashSet::with_capacity(sums.blobs.len());
        // A desktop that leaves things behind leaves one beside each file.
        for entry in folder.entries(2 * sums.blobs.len() + limits::STRANGERS)? {
            let digest = entry.name.to_str().and_then(Digest::from_hex);
            let Some((digest, size)) = digest.and_then(|digest| Some((digest, *sizes.get(&digest)?))) else {
                strangers.add(&folder, &entry);
                continue;
            };
            if !is_file(&entry) {
                return Err(folder.wrong_kind(&entry.name, entry.kind, "a regular file"));
            }
            if entry.size != size {
                let what = format!("it has {} bytes, and its descriptor says {size}", entry.size);
                return Err(damaged_blob(self.0, digest, &what));
            }
            there.insert(digest);
        }
        // What is missing comes first: a copy that was cut off often leaves something odd behind, too.
        let mut missing = sums.blobs.iter().filter(|digest| !there.contains(digest));
        if let Some(first) = missing.next() {
            let count = 1 + missing.count();
            return Err(Error::damaged(format!(
                "{count} of {} files are missing, the first is {}",
                sums.blobs.len(),
                folder.shown(first.hex())
            ))
            .hint("copy the bundle again from its medium, or ask its sender for it again"));
        }
        match strangers.refusal() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// A level of the tree where every name is known. That what must be there is there is found when it is read.
fn check_level(folder: &Folder, known: &[(&str, FileType)], strangers: &mut Strangers) -> Result<()> {
    for entry in folder.entries(known.len() + limits::STRANGERS)? {
        match known.iter().find(|(name, _)| OsStr::new(name) == entry.name) {
            Some((_, kind)) if *kind == entry.kind => {}
            Some((_, kind)) => return Err(wrong(folder, &entry, *kind)),
            None => strangers.add(folder, &entry),
        }
    }
    Ok(())
}

fn wrong(folder: &Folder, entry: &Entry, wanted: FileType) -> Error {
    folder.wrong_kind(&entry.name, entry.kind, super::files::kind_name(wanted))
}

/// Every digest that is reachable is listed, and every listed one is reachable. Returns their sizes.
fn check_reach(sums: &Checksums, contents: &Contents) -> Result<BTreeMap<Digest, u64>> {
    let mut sizes = BTreeMap::new();
    for digest in &contents.document_order {
        sizes.insert(*digest, contents.documents.size(*digest).unwrap_or_default());
    }
    for blob in &contents.blobs {
        sizes.insert(blob.digest, blob.size);
    }
    if let Some(digest) = sizes.keys().find(|digest| !sums.has(**digest)) {
        return Err(unlisted(*digest));
    }
    if let Some(digest) = sums.blobs.iter().find(|digest| !sizes.contains_key(digest)) {
        return Err(Error::damaged(format!("{digest} is listed in {SUMS}, and nothing refers to it")));
    }
    Ok(sizes)
}

fn unlisted(digest: Digest) -> Error {
    Error::damaged(format!("the images need {digest}, which is neither in {SUMS} nor listed as absent"))
        .hint("the bundle was sealed without it: ask its sender to export it again")
}
