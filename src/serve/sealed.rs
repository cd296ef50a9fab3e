//! A verified bundle as a store: a directory or an archive.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::store::{ReadAt, Store, StoredBlob};
use crate::bundle::Bundle;
use crate::content::{BlobId, Contents};
use crate::error::{Error, Result};
use crate::layout::{LayoutImage, Listing};
use crate::oci::{Descriptor, Digest, Document, MediaType};

/// What is in a bundle, served as its head says.
pub struct SealedStore {
    bundle: Arc<Bundle>,
    contents: Arc<Contents>,
    blobs: HashMap<Digest, BlobId>,
    listing: Arc<Listing>,
}

impl SealedStore {
    /// `contents` must be those of the bundle's head.
    ///
    /// # Errors
    /// `Io` if the manifests cannot be read any more.
    pub fn new(bundle: Arc<Bundle>, contents: Arc<Contents>) -> Result<SealedStore> {
        let mut listing = Listing::default();
        for image in &contents.images {
            let (bytes, media_type) = contents.documents.get(image.document)?;
            let descriptor = Descriptor {
                media_type: media_type.clone(),
                digest: image.document,
                size: bytes.len() as u64,
                platform: None,
                artifact_type: None,
                annotations: None,
            };
            listing.images.push(LayoutImage { name: image.name.clone(), descriptor });
        }
        let blobs = contents.blob_ids().map(|id| (contents.blob(id).digest, id)).collect();
        Ok(SealedStore { bundle, contents, blobs, listing: Arc::new(listing) })
    }
}

impl Store for SealedStore {
    fn listing(&self) -> Result<Arc<Listing>> {
        Ok(self.listing.clone())
    }

    fn document(&self, digest: Digest, _: &MediaType) -> Result<Document> {
        let (bytes, media_type) = self.contents.documents.get(digest)?;
        Document::parse_known(bytes, media_type, digest)
    }

    fn blob(&self, digest: Digest) -> Result<StoredBlob> {
        if self.contents.documents.size(digest).is_some() {
            let (bytes, _) = self.contents.documents.get(digest)?;
            return Ok(StoredBlob { size: bytes.len() as u64, bytes: Box::new(Whole(bytes)) });
        }
        let id =
            *self.blobs.get(&digest).ok_or_else(|| Error::not_found(format!("blob {digest} is not in the bundle")))?;
        let (file, begin) = self.bundle.file(&self.contents, id)?;
        let size = self.contents.blob(id).size;
        Ok(StoredBlob { size, bytes: Box::new(Part { file, begin, size }) })
    }
}

struct Whole(bytes::Bytes);

impl ReadAt for Whole {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// A part of a file.
struct Part {
    file: File,
    begin: u64,
    size: u64,
}

impl ReadAt for Part {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = left.min(buffer.len());
        FileExt::read_at(&self.file, &mut buffer[..count], self.begin + offset)
    }
}
