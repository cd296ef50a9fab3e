//! Is a bundle whole, and from whom. Reaches no registry.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use jiff::Timestamp;

use crate::bundle::{Bundle, BundleStream, Head};
use crate::content::{
    BlobId, BlobStatus, Body, Chunks, Contents, Destination, ManifestId, MountOutcome, Order, PutBlob, PutManifest,
    RepositoryId,
};
use crate::error::{Error, Result};
use crate::transfer::{self, Input, Summary, TransferOptions};
use crate::trust::Trust;

/// A bundle whose signature and head are verified; its layers are verified in the read that uses them.
pub struct VerifiedBundle {
    layers: Layers,
    /// Everything else.
    pub head: Head,
}

/// Where the layers are.
enum Layers {
    /// A directory or an archive.
    Bundle(Arc<Bundle>),
    /// What can be read once.
    Stream(Mutex<Option<Box<BundleStream>>>),
}

impl VerifiedBundle {
    /// What to move the layers from: of a stream, once.
    ///
    /// # Errors
    /// `Usage` when a stream was used already.
    pub fn supply(&self) -> Result<Input> {
        match &self.layers {
            Layers::Bundle(bundle) => Ok(Input::Source(bundle.clone())),
            Layers::Stream(stream) => match stream.lock().unwrap_or_else(PoisonError::into_inner).take() {
                Some(stream) => Ok(Input::Pass(Box::new(stream.into_pass(self.head.contents.clone())))),
                None => Err(once()),
            },
        }
    }

    /// The bytes of a config of the head; of a stream, until its layers are read.
    ///
    /// # Errors
    /// `Io` if it cannot be read, `Usage` for a stream that was used already.
    pub fn config(&self, blob: BlobId) -> Result<Bytes> {
        match &self.layers {
            Layers::Bundle(bundle) => bundle.config(&self.head.contents, blob),
            Layers::Stream(stream) => match &*stream.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(stream) => stream.config(blob),
                None => Err(once()),
            },
        }
    }

    /// The directory or archive.
    ///
    /// # Errors
    /// `Usage` for a stream, which cannot be read in any order.
    pub fn bundle(&self) -> Result<&Arc<Bundle>> {
        match &self.layers {
            Layers::Bundle(bundle) => Ok(bundle),
            Layers::Stream(_) => Err(once()),
        }
    }
}

/// Verifies the signature, then the head and the closed list of files with their sizes. Of a compressed archive, what
/// comes after the head is verified as it is read, once.
///
/// # Errors
/// `Untrusted` or `Damaged`, with the file and what to do; `Io` when the medium cannot be read.
pub fn open(path: &Path, trust: &Trust, at: Timestamp) -> Result<VerifiedBundle> {
    if BundleStream::is_needed(path) {
        return from_stream(BundleStream::open(path)?, trust, at);
    }
    let bundle = Bundle::open(path)?;
    let seal = bundle.verify_seal(trust, at)?;
    let head = bundle.read_head(seal)?;
    Ok(VerifiedBundle { layers: Layers::Bundle(Arc::new(bundle)), head })
}

/// As [`open`], for a bundle that comes through a pipe, which messages call `shown`.
///
/// # Errors
/// As [`open`].
pub fn open_stream(input: Box<dyn Read + Send>, shown: &str, trust: &Trust, at: Timestamp) -> Result<VerifiedBundle> {
    from_stream(BundleStream::new(input, shown)?, trust, at)
}

fn from_stream(mut stream: BundleStream, trust: &Trust, at: Timestamp) -> Result<VerifiedBundle> {
    let seal = stream.verify_seal(trust, at)?;
    let head = stream.read_head(seal)?;
    Ok(VerifiedBundle { layers: Layers::Stream(Mutex::new(Some(Box::new(stream)))), head })
}

fn once() -> Error {
    Error::usage("what comes through a pipe or is compressed can be read once only")
        .hint("use a tar (zstd -d BUNDLE.tar.zst) or a directory")
}

/// Reads and hashes every layer as well.
///
/// # Errors
/// `Damaged` with the file that is not what was sealed; `Io` when the medium cannot be read.
pub async fn layers(verified: &VerifiedBundle, options: &TransferOptions) -> Result<Summary> {
    let options = TransferOptions { keep_going: false, ..options.clone() };
    transfer::run(verified.head.contents.clone(), verified.supply()?, Arc::new(NullDestination), &options)
        .await
        .map(|outcome| outcome.summary)
}

/// Takes everything and keeps nothing: reading it is what verifies it.
struct NullDestination;

#[async_trait]
impl Destination for NullDestination {
    fn order(&self) -> Order {
        Order::Any
    }

    async fn prepare(&self, _: &Contents) -> Result<HashSet<BlobId>> {
        Ok(HashSet::new())
    }

    async fn blob_status(&self, _: &Contents, _: BlobId, _: RepositoryId) -> Result<BlobStatus> {
        Ok(BlobStatus::Absent)
    }

    async fn put_blob(&self, _: &Contents, _: BlobId, _: RepositoryId, body: &mut Body) -> Result<PutBlob> {
        let mut chunks = body.open().await?;
        while chunks.try_next().await?.is_some() {}
        Ok(PutBlob::Uploaded)
    }

    async fn mount_blob(&self, _: &Contents, _: BlobId, _: RepositoryId, _: RepositoryId) -> Result<MountOutcome> {
        Ok(MountOutcome::Done)
    }

    async fn read_back(&self, _: &Contents, _: BlobId, _: RepositoryId) -> Result<Chunks> {
        unreachable!("a link is never refused here")
    }

    async fn put_manifest(&self, _: &Contents, _: ManifestId) -> Result<PutManifest> {
        Ok(PutManifest::Done)
    }

    async fn commit(&self, _: &Contents) -> Result<()> {
        Ok(())
    }
}
