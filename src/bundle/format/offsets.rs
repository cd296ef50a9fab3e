//! The plan of an archive: every offset follows from the head, before the first layer is there.

use super::blobs::blob_path;
use super::members::{BLOCK, END, extent, header, padding};
use super::top_level::Sealed;
use super::{SIGNATURES, SUMS};
use crate::content::{BlobId, Contents};
use crate::error::Result;

/// Where blobs are in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberOffsets {
    /// Of the first byte of each blob's content, by [`BlobId`].
    blobs: Vec<u64>,
    /// Of the zeros that end it.
    pub(crate) end: u64,
}

impl MemberOffsets {
    /// `head` is the offset of the first header after manifests and indexes.
    pub(crate) fn new(head: u64, contents: &Contents) -> MemberOffsets {
        let mut end = head;
        let place = |blob: &crate::content::Blob| {
            let content = end + BLOCK;
            end += extent(blob.size);
            content
        };
        let blobs = contents.blobs.iter().map(place).collect();
        MemberOffsets { blobs, end }
    }

    /// Of the first byte of a blob's content.
    pub(crate) fn blob(&self, id: BlobId) -> u64 {
        self.blobs[id.0 as usize]
    }

    /// Of the whole archive, in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.end + END
    }
}

/// Takes the bytes of an archive one after the other.
pub(crate) type Sink<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// Writes `SHA256SUMS` and the signatures: what makes it a bundle.
pub(crate) fn write_seal(sealed: &Sealed, sink: &mut Sink<'_>) -> Result<()> {
    write_member(SUMS, sealed.sums(), sink)?;
    let mut signatures: Vec<_> = sealed.signatures().collect();
    signatures.sort();
    signatures.iter().try_for_each(|(name, bytes)| write_member(&format!("{SIGNATURES}/{name}"), bytes, sink))
}

/// Writes the files of the top level that follow the seal.
pub(crate) fn write_top(sealed: &Sealed, sink: &mut Sink<'_>) -> Result<()> {
    sealed.before().into_iter().try_for_each(|(name, bytes)| write_member(name, bytes, sink))
}

/// Writes what follows the seal, up to the first blob.
pub(crate) fn write_head(sealed: &Sealed, contents: &Contents, sink: &mut Sink<'_>) -> Result<()> {
    write_top(sealed, sink)?;
    for digest in &contents.document_order {
        write_member(&blob_path(*digest), &contents.documents.get(*digest)?.0, sink)?;
    }
    Ok(())
}

/// What [`write_seal`] writes, in bytes.
pub(crate) fn seal_length(sealed: &Sealed) -> u64 {
    let signatures = sealed.signatures().map(|(_, bytes)| extent(bytes.len() as u64));
    extent(sealed.sums().len() as u64) + signatures.sum::<u64>()
}

/// What [`write_head`] writes, in bytes.
pub(crate) fn head_length(sealed: &Sealed, contents: &Contents) -> u64 {
    let top = sealed.before().into_iter().map(|(_, bytes)| bytes.len() as u64);
    let documents = contents.document_order.iter().filter_map(|digest| contents.documents.size(*digest));
    top.chain(documents).map(extent).sum()
}

/// Writes a file of the head: its header, its bytes, its padding.
pub(crate) fn write_member(path: &str, bytes: &[u8], sink: &mut Sink<'_>) -> Result<()> {
    sink(&header(path, bytes.len() as u64))?;
    sink(bytes)?;
    sink(&ZEROS[..padding(bytes.len() as u64) as usize])
}

/// Padding, and the end.
pub(crate) const ZEROS: [u8; END as usize] = [0; END as usize];
