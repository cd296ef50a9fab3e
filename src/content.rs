//! What a place of content can do, and the [`Contents`] that are moved between places.
//!
//! A place is a registry, an image layout, a directory, a bundle. Places do not know each other: `transfer` moves
//! planned content from one that can be read ([`Source`], [`SequentialSource`]) to one that can be written ([`Destination`]).
//! [`Catalog`] is what planning asks of a place.

mod allowance;
mod body;
mod builder;
mod contents;
mod documents;
pub(crate) mod referrers;
mod tags;

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;

pub use allowance::Allowance;
pub use body::{Body, verified};
pub use builder::{Builder, Fit, Misfit};
pub use contents::{
    Absent, Blob, BlobId, BlobKind, Contents, MAX_EDGES, MAX_NESTING, ManifestId, NamedImage, PlannedManifest, Reason,
    RepositoryId, SourceRepository, SourceRepositoryId,
};
pub use documents::Documents;
pub use referrers::{Referrers, subjects};
pub use tags::Tags;

use crate::error::{Error, Failure, Result};
use crate::oci::{Descriptor, Digest, Document, Host, MediaType, Repository, Selector, Tag};

/// Content as it streams by, in chunks of any size (usually 64 KiB to 1 MiB).
pub type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// A blob of at most this size (4 MiB) may be held in memory whole.
pub const SMALL_BLOB: u64 = 4 << 20;

/// What planning asks of a place.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// Every tag of a repository, in the order of the place, without duplicates.
    async fn tags(&self, host: &Host, repository: &Repository) -> Result<Tags>;

    /// A manifest or index with its exact bytes. With a digest in the selector the bytes are verified against it.
    async fn document(&self, host: &Host, repository: &Repository, selector: &Selector) -> Result<Document>;

    /// What a tag points to now, learnt without reading it; nothing if the place cannot say so. What is not there may be
    /// nothing, too: reading it tells.
    async fn resolve(&self, _host: &Host, _repository: &Repository, _tag: &Tag) -> Result<Option<ResolvedTag>> {
        Ok(None)
    }

    /// The manifests whose `subject` is `digest`; nothing if the place cannot answer such questions.
    async fn referrers(&self, host: &Host, repository: &Repository, digest: Digest) -> Result<Option<Vec<Descriptor>>>;

    /// Whether a blob is there.
    async fn has_blob(&self, host: &Host, repository: &Repository, digest: Digest) -> Result<bool>;
}

/// What a tag points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedTag {
    /// Of its bytes.
    pub digest: Digest,
    /// As the place has it; it may say something general.
    pub media_type: MediaType,
}

/// A place from which blobs are read in any order, any number at once.
#[async_trait]
pub trait Source: Send + Sync {
    /// The bytes of `blob` from `offset` on. The source mends its own interruptions (a cut connection is resumed
    /// inside the stream) and need not verify: `transfer` does.
    async fn open(&self, contents: &Contents, blob: BlobId, offset: u64) -> Result<Chunks>;

    /// The error for bytes that are not what the plan says: a bundle is damaged, a registry does not keep its word.
    fn mismatch(&self, contents: &Contents, blob: BlobId, what: &str) -> Error;
}

/// A medium that decides the order itself: a pipe, a compressed archive, discs in turn.
#[async_trait]
pub trait SequentialSource: Send {
    /// The next blob and its bytes; nothing at the end. Dropping the chunks skips what is left of the blob.
    async fn next(&mut self, contents: &Contents) -> Result<Option<(BlobId, Chunks)>>;

    /// Makes the errors of [`Source::mismatch`]; on its own, since the pass is in use while its chunks are read.
    fn mismatch(&self) -> Mismatch;
}

/// The error for a blob that is not what the plan says, made from what is wrong.
pub type Mismatch = Arc<dyn Fn(&Blob, &str) -> Error + Send + Sync>;

/// In which order a destination takes blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Any order, several at once.
    Any,
    /// One after the other as [`Contents::blobs`] lists them: a pipe, a compressed archive, FAT.
    AsPlanned,
}

/// Whether a destination has a blob in a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobStatus {
    /// In that scope.
    Present,
    /// Known to be in another scope, from where it can be linked.
    Elsewhere(RepositoryId),
    /// Not there.
    Absent,
    /// Not asked: let a mount or an upload answer.
    Unknown,
}

/// What came of an attempt to link a blob into another scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountOutcome {
    /// It is there now.
    Done,
    /// The place would not: the bytes have to be sent.
    Refused,
}

/// What came of a blob that a place was to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutBlob {
    /// Its bytes were sent.
    Uploaded,
    /// It was there: the place was not asked before, and found that out before it opened the body.
    AlreadyThere,
}

/// The result of putting a manifest in place.
#[derive(Debug)]
pub enum PutManifest {
    /// It is there.
    Done,
    /// It is not: the place lacks blobs that it took, mounted or said it had.
    BlobsMissing(MissingBlobs),
}

/// Blobs that a place lacks, in the scope of a manifest that it refused.
#[derive(Debug)]
pub struct MissingBlobs {
    /// At least one. They are put again, whatever the place says of them, and then the manifest.
    pub blobs: Vec<BlobId>,
    /// How the place refused the manifest.
    pub error: Error,
}

/// A place that is written to.
///
/// The order of calls: `prepare` once; then, in the order that [`Destination::order`] asks for, for every blob
/// `blob_status`, then `put` or `link`; `replan` if blobs failed; then `land`, children before parents and tags last;
/// `confirm` once; `commit` once, never after a failure.
#[async_trait]
pub trait Destination: Send + Sync {
    /// Which order of blobs it takes.
    fn order(&self) -> Order;

    /// Makes ready (locks, space, offsets) and says which blobs an earlier run left there, re-hashed.
    async fn prepare(&self, contents: &Contents) -> Result<HashSet<BlobId>>;

    /// Whether the blob is in the scope.
    async fn blob_status(&self, contents: &Contents, blob: BlobId, scope: RepositoryId) -> Result<BlobStatus>;

    /// Takes a blob. Success means that all of it is there; a failure of the body is returned as it is
    /// (`Body::source_error`) and not retried.
    async fn put_blob(
        &self,
        contents: &Contents,
        blob: BlobId,
        scope: RepositoryId,
        body: &mut Body,
    ) -> Result<PutBlob>;

    /// Makes a blob that is in one scope be in another without its bytes.
    async fn mount_blob(
        &self,
        contents: &Contents,
        blob: BlobId,
        from: RepositoryId,
        to: RepositoryId,
    ) -> Result<MountOutcome>;

    /// The bytes of a blob that is there, for a comparison, or for a refused link when the source cannot be read twice.
    async fn read_back(&self, contents: &Contents, blob: BlobId, scope: RepositoryId) -> Result<Chunks>;

    /// Puts a document (and its tag, if it has one) in place and makes sure that it is there.
    async fn put_manifest(&self, contents: &Contents, landing: ManifestId) -> Result<PutManifest>;

    /// Reads a document that landed, by its tag if it has one, and compares it.
    ///
    /// # Errors
    /// `NotFound` or `Registry` if it is not there, or if something else is.
    async fn check_landed(&self, contents: &Contents, landing: ManifestId) -> Result<()> {
        let _ = (contents, landing);
        Ok(())
    }

    /// Whether images can still be left out when blobs fail: not of what carries its seal ahead of them.
    fn can_skip_images(&self) -> bool {
        true
    }

    /// Some of what was planned is left out: `contents` is the rest, with ids of its own, and `left_out` says why.
    /// Called once at most, when no blob moves any more and nothing has landed.
    async fn replan(&self, contents: &Contents, left_out: &[Failure]) -> Result<()> {
        let _ = (contents, left_out);
        Ok(())
    }

    /// Looks again at what others may have changed since it landed, and mends it. Called once, after everything landed
    /// and before `commit`. Returns the images for which that failed.
    async fn confirm(&self, contents: &Contents) -> Result<Vec<Failure>> {
        let _ = contents;
        Ok(Vec::new())
    }

    /// Makes everything durable and says so: nothing looks done before this.
    async fn commit(&self, contents: &Contents) -> Result<()>;

    /// After a run that failed or was stopped: takes back, within a few seconds, what it began and nobody can use.
    async fn abort(&self) {}
}
