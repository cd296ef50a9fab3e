//! A bundle, read in the order that is safe: the seal, the head, the closed list. What it is carried by is the
//! business of a [`HeadReader`]; a directory's is here, for its closed list is the longest.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::FileType;

use super::archive::Archive;
use super::format::blobs::{blob_folder, blob_path, damaged_blob, hash_blob, open_blob, stream_blob};
use super::format::checksums::Checksums;
use super::format::head::Head;
use super::format::head_reader::{HeadReader, damaged};
use super::format::seal::{self, Seal, Unverified};
use super::format::unlisted::{Unlisted, is_file};
use super::format::{ALGORITHM, BLOBS, DESCRIPTOR, INDEX, LAYOUT, SIGNATURES, SUMS, limits};
use crate::content::{Blob, BlobId, Chunks, Contents, Source};
use crate::error::{Error, Result};
use crate::files::{Directory, DirectoryEntry, show};
use crate::oci::{Digest, MAX_DOCUMENT};
use crate::trust::Trust;

/// An open bundle of which nothing is known yet. Also the [`Source`](crate::content::Source) of its blobs, once its
/// [`Head`] is read.
#[derive(Debug)]
pub struct Bundle {
    pub(super) form: Form,
}

/// What can be read in any order.
#[derive(Debug)]
pub(super) enum Form {
    Directory(Directory),
    Archive(Archive),
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
            Ok(metadata) if metadata.is_dir() => Ok(Bundle { form: Form::Directory(Directory::open(path)?) }),
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
    pub fn read_unverified(&self) -> Result<Unverified<Seal>> {
        match &self.form {
            Form::Directory(root) => Seal::read_unverified(&mut Files(root)),
            Form::Archive(archive) => archive.seal(|carrier| Seal::read_unverified(carrier)),
        }
    }

    /// Reads and verifies the head, and that nothing else is there than what is sealed.
    ///
    /// # Errors
    /// `Damaged` or `Refused` for whatever is not as the format says; `Io` if the medium cannot be read.
    pub fn read_head(&self, seal: Seal) -> Result<Head> {
        match &self.form {
            Form::Directory(root) => (&mut Files(root) as &mut dyn HeadReader).read_head(seal),
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

/// A bundle directory as a carrier.
struct Files<'a>(&'a Directory);

impl HeadReader for Files<'_> {
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
        let mut strangers = Unlisted::default();
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
fn check_level(folder: &Directory, known: &[(&str, FileType)], strangers: &mut Unlisted) -> Result<()> {
    for entry in folder.entries(known.len() + limits::STRANGERS)? {
        match known.iter().find(|(name, _)| OsStr::new(name) == entry.name) {
            Some((_, kind)) if *kind == entry.kind => {}
            Some((_, kind)) => return Err(wrong(folder, &entry, *kind)),
            None => strangers.add(folder, &entry),
        }
    }
    Ok(())
}

fn wrong(folder: &Directory, entry: &DirectoryEntry, wanted: FileType) -> Error {
    folder.wrong_kind(&entry.name, entry.kind, crate::files::kind_name(wanted))
}

#[async_trait]
impl Source for Bundle {
    async fn open(&self, contents: &Contents, blob: BlobId, offset: u64) -> Result<Chunks> {
        match &self.form {
            Form::Directory(root) => {
                let blob = contents.blob(blob);
                stream_blob(root, blob.digest, blob.size, offset)
            }
            Form::Archive(archive) => archive.stream(contents, blob, offset),
        }
    }

    fn mismatch(&self, contents: &Contents, blob: BlobId, what: &str) -> Error {
        let digest = contents.blob(blob).digest;
        match &self.form {
            Form::Directory(root) => damaged_blob(root, digest, what),
            Form::Archive(archive) => damaged(&archive.shown(&blob_path(digest)), what),
        }
    }
}
