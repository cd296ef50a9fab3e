//! A bundle in one file: `BUNDLE.tar`, the same files in one order that follows from the head.
//!
//! ```text
//! SHA256SUMS  signatures/...  |  bundle.json  oci-layout  index.json  manifests  |  configs  layers  |  1024 zeros
//!        the seal                              the head, with small configs         in planned order
//! ```
//!
//! Everything is named after its content, so every header and offset ([`chain`]) is known before the first layer is
//! there: it is written straight into its place, and the seal last. For the same reason nobody has to interpret a tar:
//! the reader computes every header and every byte of padding from the head and compares ([`members`]).
//!
//! [`Archive`] is an archive that can be read in any order, [`ArchiveWriter`] makes one, and uses again what an earlier
//! run left ([`journal`], [`extent_map`]). [`BundleStream`] and [`StreamWriter`] are the same for what goes by once: pipes, zstd.

pub(crate) mod extents;
pub(crate) mod partial;
mod stream;
mod stream_writer;
#[cfg(test)]
mod tests;
mod writer;
mod zstd;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::format::SUMS;
use super::format::blobs::blob_path;
use super::format::checksums::Checksums;
use super::format::head_reader::HeadReader;
use super::format::members::{BLOCK, END, MemberReader, check_header, check_zeros, padding, shown_member, trailing};
use super::format::offsets::MemberOffsets;
use crate::files::{Reading, show};

pub use stream::BundleStream;
pub use stream_writer::{Compression, StreamWriter};
pub use writer::ArchiveWriter;

use crate::content::{BlobId, Chunks, Contents};
use crate::error::{Error, Result};
use crate::files::reading::ReadFrom;
use crate::oci::Digest;

/// An open archive of which nothing is known yet.
#[derive(Debug)]
pub(super) struct Archive {
    file: Arc<File>,
    path: PathBuf,
    /// In bytes, when it was opened.
    length: u64,
    /// Where the seal ends: known when it was read.
    sealed: OnceLock<u64>,
    /// Where the content of each blob begins: known when the head was read. By digest, because whoever imports a part
    /// of a bundle numbers its blobs anew.
    places: OnceLock<HashMap<Digest, u64>>,
}

impl Archive {
    pub(super) fn open(path: &Path) -> Result<Archive> {
        let shown = show(path.as_os_str());
        let failed = |e| Error::io(format!("cannot open {shown}"), e);
        let file = File::open(path).map_err(failed)?;
        let mut magic = [0; 4];
        if file.read_at(&mut magic, 0).map_err(failed)? == 4 && magic == zstd::MAGIC {
            return Err(Error::usage(format!(
                "{shown} is compressed: it can only be read from its beginning to its end"
            ))
            .hint("decompress it (zstd -d) and use the tar"));
        }
        let length = file.metadata().map_err(failed)?.len();
        check_is_archive(&file, length, &shown)?;
        let (sealed, places) = (OnceLock::new(), OnceLock::new());
        Ok(Archive { file: Arc::new(file), path: path.to_owned(), length, sealed, places })
    }

    /// A member's path for a message.
    pub(super) fn shown(&self, path: &str) -> String {
        shown_member(&show(self.path.as_os_str()), path)
    }

    /// Lets the seal be read.
    pub(super) fn seal<T>(&self, read: impl FnOnce(&mut dyn HeadReader) -> Result<T>) -> Result<T> {
        let mut carrier = Cursor { archive: self, members: self.members(0) };
        let seal = read(&mut carrier)?;
        let _ = self.sealed.set(carrier.members.position());
        Ok(seal)
    }

    /// Lets the head be read, which follows the seal.
    pub(super) fn head<T>(&self, read: impl FnOnce(&mut dyn HeadReader) -> Result<T>) -> Result<T> {
        let Some(sealed) = self.sealed.get() else {
            return Err(Error::damaged(format!("the seal of {} was not read", self.shown(""))));
        };
        read(&mut Cursor { archive: self, members: self.members(*sealed) })
    }

    /// The bytes of a blob from `offset` on.
    pub(super) fn stream(&self, contents: &Contents, blob: BlobId, offset: u64) -> Result<Chunks> {
        let (file, begin) = self.blob(contents.blob(blob).digest)?;
        let shown = self.shown(&blob_path(contents.blob(blob).digest));
        let end = begin + contents.blob(blob).size;
        Ok(Reading { file, shown: shown.into(), offset: begin + offset, end }.stream())
    }

    /// The file, opened again, and where in it the content of a blob begins.
    pub(super) fn blob(&self, digest: Digest) -> Result<(File, u64)> {
        let begin = *self
            .places
            .get()
            .and_then(|places| places.get(&digest))
            .ok_or_else(|| Error::damaged(format!("the head of {} was not verified", self.shown(""))))?;
        let file = self.file.try_clone().map_err(|e| Error::io(format!("cannot open {} again", self.shown("")), e))?;
        Ok((file, begin))
    }

    fn members(&self, offset: u64) -> MemberReader {
        let input = BufReader::with_capacity(READ_AHEAD, ReadFrom { file: self.file.clone(), offset });
        MemberReader::new(Box::new(input), show(self.path.as_os_str()), offset)
    }

    /// The length, then every header and all padding from the first blob on.
    fn check_chain(&self, chain: &MemberOffsets, contents: &Contents) -> Result<()> {
        let shown = self.shown("");
        if self.length < chain.length() {
            return Err(Error::damaged(format!("{shown} has {} of {} bytes", self.length, chain.length()))
                .hint("it was cut off: copy it again from its medium, or ask for it again"));
        }
        // What lies between the contents of two blobs is read at once.
        let mut previous = 0;
        let mut gap = [0; (2 * BLOCK) as usize];
        for id in contents.blob_ids() {
            let blob = contents.blob(id);
            let gap = &mut gap[..(previous + BLOCK) as usize];
            let offset = chain.blob(id) - gap.len() as u64;
            self.read_at(gap, offset)?;
            let (zeros, header) = gap.split_at(previous as usize);
            check_zeros(&shown, offset, zeros)?;
            check_header(&shown, &blob_path(blob.digest), blob.size, offset + previous, header)?;
            previous = padding(blob.size);
        }
        if self.length > chain.length() {
            return Err(trailing(&shown, chain.length()));
        }
        let mut rest = [0; (BLOCK + END) as usize];
        let rest = &mut rest[..(previous + END) as usize];
        self.read_at(rest, chain.end - previous)?;
        check_zeros(&shown, chain.end - previous, rest)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|e| {
            let shown = self.shown("");
            match e.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    Error::damaged(format!("{shown} became shorter while it was read"))
                }
                _ => Error::io(format!("cannot read {shown} at byte {offset}"), e)
                    .hint("the medium may be failing: copy the bundle to another one, or ask for it again"),
            }
        })
    }
}

/// Tells a file that cannot even be the beginning of an archive: what is given is often the wrong one.
fn check_is_archive(file: &File, length: u64, shown: &str) -> Result<()> {
    if length >= BLOCK {
        return Ok(());
    }
    let mut beginning = vec![0; SUMS.len().min(length as usize)];
    file.read_exact_at(&mut beginning, 0).map_err(|e| Error::io(format!("cannot read {shown}"), e))?;
    if SUMS.as_bytes().starts_with(&beginning) {
        return Ok(());
    }
    Err(Error::usage(format!("{shown} is not a bundle: it is neither a directory nor a tar"))
        .hint("give what sealift export made; whose signature counts is said by --trust FILE"))
}

/// The head of an archive, read from some place on.
struct Cursor<'a> {
    archive: &'a Archive,
    members: MemberReader,
}

impl HeadReader for Cursor<'_> {
    fn shown(&self, path: &str) -> String {
        self.archive.shown(path)
    }

    fn sums(&mut self) -> Result<Bytes> {
        self.members.sums()
    }

    fn signatures(&mut self) -> Result<Vec<(String, Bytes)>> {
        self.members.signatures()
    }

    fn top(&mut self, name: &'static str, limit: u64) -> Result<Bytes> {
        self.members.file(name, limit)
    }

    fn document(&mut self, digest: Digest, size: u64) -> Result<Bytes> {
        self.members.document(digest, size)
    }

    fn check_closed(&mut self, _: &Checksums, _: &BTreeMap<Digest, u64>, contents: &Contents) -> Result<()> {
        let chain = MemberOffsets::new(self.members.position(), contents);
        self.archive.check_chain(&chain, contents)?;
        let places = contents.blob_ids().map(|id| (contents.blob(id).digest, chain.blob(id)));
        let _ = self.archive.places.set(places.collect());
        Ok(())
    }

    fn config(&mut self, digest: Digest, size: u64) -> Result<bool> {
        // The chain is right, and configs follow each other.
        self.members.enter(digest, size)?;
        Ok(Digest::of(&self.members.content(size)?) == digest)
    }
}

/// How much is read at once of the head, which has many small members.
const READ_AHEAD: usize = 64 << 10;
