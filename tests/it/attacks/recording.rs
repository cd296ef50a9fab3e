//! A destination that takes everything and remembers what came to be there.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use sealift::content::{
    BlobId, BlobStatus, Body, Chunks, Contents, Destination, ManifestId, MountOutcome, Order, PutBlob, PutManifest,
    RepositoryId,
};
use sealift::jobs::verify::{self, VerifiedBundle};
use sealift::progress::Silent;
use sealift::transfer::{self, TransferOptions};
use sealift::trust::Trust;
use sealift::{Error, Result};
use tokio_util::sync::CancellationToken;

#[derive(Default)]
pub(crate) struct Recording {
    /// Whole blobs.
    pub(crate) blobs: Mutex<Vec<Vec<u8>>>,
    /// Documents in place.
    pub(crate) landed: Mutex<Vec<Vec<u8>>>,
    pub(crate) committed: Mutex<bool>,
}

impl Recording {
    pub(crate) fn is_untouched(&self) -> bool {
        self.landed.lock().unwrap().is_empty() && !*self.committed.lock().unwrap()
    }
}

/// Verifies as the program does.
pub(crate) fn open(bundle: &Path, trust: &Trust) -> Result<VerifiedBundle> {
    verify::open(bundle, trust, now())
}

pub(crate) fn now() -> jiff::Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// Moves everything.
pub(crate) fn transfer(verified: &VerifiedBundle) -> (Arc<Recording>, Result<()>) {
    transfer_with(verified, &options())
}

pub(crate) fn transfer_with(verified: &VerifiedBundle, options: &TransferOptions) -> (Arc<Recording>, Result<()>) {
    let recording = Arc::new(Recording::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    // A stream is read by a thread of the runtime.
    let _within = runtime.enter();
    let supply = verified.supply().expect("used once");
    let run = transfer::run(verified.head.contents.clone(), supply, recording.clone(), options);
    let done = runtime.block_on(run).map(drop);
    (recording, done)
}

pub(crate) fn options() -> TransferOptions {
    TransferOptions {
        jobs: 2.try_into().unwrap(),
        progress: Arc::new(Silent),
        cancel: CancellationToken::new(),
        keep_going: false,
    }
}

pub(crate) fn trust() -> Trust {
    Trust::parse(super::keys::allowed_signers().as_bytes(), "allowed_signers", false).unwrap()
}

#[async_trait]
impl Destination for Recording {
    fn order(&self) -> Order {
        Order::Any
    }

    async fn prepare(&self, _: &Contents) -> Result<HashSet<BlobId>> {
        Ok(HashSet::new())
    }

    async fn blob_status(&self, _: &Contents, _: BlobId, _: RepositoryId) -> Result<BlobStatus> {
        Ok(BlobStatus::Absent)
    }

    async fn put_blob(&self, contents: &Contents, blob: BlobId, _: RepositoryId, body: &mut Body) -> Result<PutBlob> {
        let bytes: Vec<u8> =
            body.open().await?.try_fold(Vec::new(), async |all, part| Ok([&all, &part[..]].concat())).await?;
        match bytes.len() as u64 == contents.blob(blob).size {
            true => self.blobs.lock().unwrap().push(bytes),
            false => return Err(Error::registry("a short body without an error")),
        }
        Ok(PutBlob::Uploaded)
    }

    async fn mount_blob(&self, _: &Contents, _: BlobId, _: RepositoryId, _: RepositoryId) -> Result<MountOutcome> {
        Ok(MountOutcome::Done)
    }

    async fn read_back(&self, _: &Contents, _: BlobId, _: RepositoryId) -> Result<Chunks> {
        unreachable!("a link is never refused here")
    }

    async fn put_manifest(&self, contents: &Contents, landing: ManifestId) -> Result<PutManifest> {
        let (bytes, _) = contents.documents.get(contents.manifest(landing).document)?;
        self.landed.lock().unwrap().push(bytes.to_vec());
        Ok(PutManifest::Done)
    }

    async fn commit(&self, _: &Contents) -> Result<()> {
        *self.committed.lock().unwrap() = true;
        Ok(())
    }
}
