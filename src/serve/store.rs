//! What is served: the traits, and an image layout as the one place that has them all.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::error::Result;
use crate::layout::{Change, Ingest, Layout, Listing};
use crate::oci::{Digest, Document, MediaType};

/// Content that can be served as a registry.
pub trait Store: Send + Sync + 'static {
    /// What is named; the same `Arc` as before while nothing changed.
    fn listing(&self) -> Result<Arc<Listing>>;

    /// A manifest or index, verified against its digest. `declared` as for [`Document::parse`].
    ///
    /// # Errors
    /// `NotFound` when it is not there.
    fn document(&self, digest: Digest, declared: &MediaType) -> Result<Document>;

    /// A blob (or a document's bytes), not verified yet: that happens as it is sent.
    ///
    /// # Errors
    /// `NotFound` when it is not there.
    fn blob(&self, digest: Digest) -> Result<StoredBlob>;

    /// Whether a blob is there.
    fn size(&self, digest: Digest) -> Result<u64> {
        self.blob(digest).map(|content| content.size)
    }
}

/// A store that can be pushed to.
pub trait WritableStore: Store {
    /// A place for a blob that is being received.
    fn ingest(&self) -> Result<Ingest>;

    /// Puts it in place if its digest is right (else `Damaged`, and nothing is left).
    fn commit(&self, ingest: Ingest, digest: Digest) -> Result<()>;

    /// Makes all changes of names, or none.
    fn apply(&self, changes: &[Change]) -> Result<()>;

    /// Removes what a killed server left.
    fn sweep(&self) -> Result<()>;
}

/// A blob's bytes.
pub struct StoredBlob {
    /// In bytes.
    pub size: u64,
    /// Where they are.
    pub bytes: Box<dyn ReadAt>,
}

/// Bytes at offsets, 0 being the blob's first.
pub trait ReadAt: Send + Sync {
    /// Fills a part of `buffer`; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

impl Store for Layout {
    fn listing(&self) -> Result<Arc<Listing>> {
        Layout::listing(self)
    }

    fn document(&self, digest: Digest, declared: &MediaType) -> Result<Document> {
        Layout::document(self, digest, declared)
    }

    fn blob(&self, digest: Digest) -> Result<StoredBlob> {
        let blob = Layout::blob(self, digest)?;
        Ok(StoredBlob { size: blob.size, bytes: Box::new(blob.file) })
    }
}

impl WritableStore for Layout {
    fn ingest(&self) -> Result<Ingest> {
        Layout::ingest(self)
    }

    fn commit(&self, ingest: Ingest, digest: Digest) -> Result<()> {
        Layout::commit(self, ingest, digest).map(|_| ())
    }

    fn apply(&self, changes: &[Change]) -> Result<()> {
        Layout::apply(self, changes)
    }

    fn sweep(&self) -> Result<()> {
        Layout::sweep(self)
    }
}
