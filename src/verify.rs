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
use crate::error::{Error, Result};
use crate::place::{
    BlobId, Body, Chunks, Contents, Destination, LandingId, Linked, Order, Presence, PutManifest, ScopeId, Stored,
};
use crate::transfer::{self, Options, Summary, Supply};
use crate::trust::Trust;

/// A bundle whose signature and head are verified; its layers are verified in the read that uses them.
pub struct Verified {
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

impl Verified {
    /// What to move the layers from: of a stream, once.
    ///
    /// # Errors
    /// `Usage` when a stream was used already.
    pub fn supply(&self) -> Result<Supply> {
        match &self.layers {
            Layers::Bundle(bundle) => Ok(Supply::Source(bundle.clone())),
            Layers::Stream(stream) => match stream.lock().unwrap_or_else(PoisonError::into_inner).take() {
                Some(stream) => Ok(Supply::Pass(Box::new(stream.into_pass(self.head.contents.clone())))),
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
pub fn open(path: &Path, trust: &Trust, at: Timestamp) -> Result<Verified> {
    if BundleStream::is_needed(path) {
        return from_stream(BundleStream::open(path)?, trust, at);
    }
    let bundle = Bundle::open(path)?;
    let seal = bundle.verify_seal(trust, at)?;
    let head = bundle.read_head(seal)?;
    Ok(Verified { layers: Layers::Bundle(Arc::new(bundle)), head })
}

/// As [`open`], for a bundle that comes through a pipe, which messages call `shown`.
///
/// # Errors
/// As [`open`].
pub fn open_stream(input: Box<dyn Read + Send>, shown: &str, trust: &Trust, at: Timestamp) -> Result<Verified> {
    from_stream(BundleStream::new(input, shown)?, trust, at)
}

fn from_stream(mut stream: BundleStream, trust: &Trust, at: Timestamp) -> Result<Verified> {
    let seal = stream.verify_seal(trust, at)?;
    let head = stream.read_head(seal)?;
    Ok(Verified { layers: Layers::Stream(Mutex::new(Some(Box::new(stream)))), head })
}

fn once() -> Error {
    Error::usage("what comes through a pipe or is compressed can be read once only")
        .hint("use a tar (zstd -d BUNDLE.tar.zst) or a directory")
}

/// Reads and hashes every layer as well.
///
/// # Errors
/// `Damaged` with the file that is not what was sealed; `Io` when the medium cannot be read.
pub async fn layers(verified: &Verified, options: &Options) -> Result<Summary> {
    let options = Options { keep_going: false, ..options.clone() };
    transfer::run(verified.head.contents.clone(), verified.supply()?, Arc::new(Nowhere), &options)
        .await
        .map(|outcome| outcome.summary)
}

/// Takes everything and keeps nothing: reading it is what verifies it.
struct Nowhere;

#[async_trait]
impl Destination for Nowhere {
    fn order(&self) -> Order {
        Order::Any
    }

    async fn prepare(&self, _: &Contents) -> Result<HashSet<BlobId>> {
        Ok(HashSet::new())
    }

    async fn presence(&self, _: &Contents, _: BlobId, _: ScopeId) -> Result<Presence> {
        Ok(Presence::Absent)
    }

    async fn put(&self, _: &Contents, _: BlobId, _: ScopeId, body: &mut Body) -> Result<Stored> {
        let mut chunks = body.open().await?;
        while chunks.try_next().await?.is_some() {}
        Ok(Stored::Sent)
    }

    async fn link(&self, _: &Contents, _: BlobId, _: ScopeId, _: ScopeId) -> Result<Linked> {
        Ok(Linked::Done)
    }

    async fn read_back(&self, _: &Contents, _: BlobId, _: ScopeId) -> Result<Chunks> {
        unreachable!("a link is never refused here")
    }

    async fn land(&self, _: &Contents, _: LandingId) -> Result<PutManifest> {
        Ok(PutManifest::Done)
    }

    async fn commit(&self, _: &Contents) -> Result<()> {
        Ok(())
    }
}
