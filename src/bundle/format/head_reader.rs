//! What carries the head of a bundle: a directory, an archive, a stream. The checks are the same for all of them.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::checksums::Checksums;
use crate::content::{Contents, NamedImage, SourceRepository};
use crate::error::{Error, Result};
use crate::oci::Digest;

/// Gives out the head, piece by piece, and is always asked in the order of an archive: a stream has no other. What it
/// gives out is not verified yet; sizes are within their limits before anything is read.
pub(crate) trait HeadReader: Send {
    /// Where a file is, for a message; the bundle itself for an empty path.
    fn shown(&self, path: &str) -> String;

    /// The bytes of `SHA256SUMS`.
    fn sums(&mut self) -> Result<Bytes>;

    /// Name and bytes of every file in `signatures/`, sorted, the names well-formed.
    fn signatures(&mut self) -> Result<Vec<(String, Bytes)>>;

    /// The bytes of a file of the top level.
    fn top(&mut self, name: &'static str, limit: u64) -> Result<Bytes>;

    /// The bytes of a manifest or index, which its descriptor says has `size` bytes.
    fn document(&mut self, digest: Digest, size: u64) -> Result<Bytes>;

    /// Checks that everything in `sizes` is there and nothing else.
    fn check_closed(&mut self, sums: &Checksums, sizes: &BTreeMap<Digest, u64>, contents: &Contents) -> Result<()>;

    /// Whether a config of the head has its digest.
    fn config(&mut self, digest: Digest, size: u64) -> Result<bool>;

    /// From where an image can be fetched: known only to a bundle that is still being made.
    fn origin(&self, _: &NamedImage) -> Option<SourceRepository> {
        None
    }
}

/// The error for a blob or document whose bytes are not what was sealed; `shown` says where it is.
pub(crate) fn damaged(shown: &str, what: &str) -> Error {
    Error::damaged(format!("{shown} is damaged: {what}"))
        .hint("copy the bundle again from its medium; if that does not help, ask its sender for it again")
}
