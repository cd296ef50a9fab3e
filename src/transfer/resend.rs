//! Blobs that a destination turns out to lack when a manifest is put: they are put again, and then the manifest.
//!
//! A registry may return 201 for a mount and not have the blob, or lose a blob. This costs no request as long as the
//! destination accepts every manifest.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Input, Job};
use crate::content::{BlobId, Body, Contents, ManifestId, MissingBlobs, PutManifest, RepositoryId, Source, verified};
use crate::error::{Error, Kind, Result};
use crate::oci::Digest;
use crate::progress::{Event, Silent};

/// The source of blobs that are put again.
pub(super) struct Resend {
    /// The source, if it can be read again, and the contents whose ids it uses.
    source: Option<(Arc<dyn Source>, Arc<Contents>)>,
    /// The blobs that were put again. Locked during each put: other manifests that lack the same blob wait.
    done: tokio::sync::Mutex<HashSet<(Digest, RepositoryId)>>,
}

impl Resend {
    pub(super) fn new(supply: &Input, contents: Arc<Contents>) -> Self {
        let source = match supply {
            Input::Source(source) => Some((source.clone(), contents)),
            Input::Pass(_) => None,
        };
        Resend { source, done: tokio::sync::Mutex::default() }
    }

    /// A body that reads the blob from the source; nothing if the source is read once.
    fn read_again(&self, job: &Job, digest: Digest) -> Option<Body> {
        let (source, contents) = self.source.as_ref()?;
        // Ids change when images are left out.
        let id = contents.blob_ids().find(|id| contents.blob(*id).digest == digest)?;
        Some(Body::reopenable(source.clone(), contents.clone(), id, Arc::new(Silent), job.cancel.clone()))
    }
}

/// Puts a manifest, and before another try the blobs that the destination lacks.
///
/// # Errors
/// Those of [`Destination::put_manifest`](crate::content::Destination::land); `Registry` if no source has a missing blob.
pub(super) async fn put_manifest(job: &Job, id: ManifestId) -> Result<()> {
    let mut tries = 0;
    loop {
        let missing = match job.destination.put_manifest(&job.contents, id).await? {
            PutManifest::Done => return Ok(()),
            PutManifest::BlobsMissing(missing) => missing,
        };
        tries += 1;
        if tries == MAX_TRIES {
            return Err(missing.error);
        }
        put_again(job, job.contents.manifest(id).scope, missing).await?;
    }
}

async fn put_again(job: &Job, scope: RepositoryId, MissingBlobs { blobs, error }: MissingBlobs) -> Result<()> {
    let mut done = job.resend.done.lock().await;
    for id in blobs {
        let digest = job.blob(id).digest;
        if done.contains(&(digest, scope)) {
            continue;
        }
        let what = format!("the destination does not have blob {digest} although it accepted it: uploading it again");
        job.progress.event(Event::Warning(&what));
        match job.resend.read_again(job, digest) {
            Some(mut body) => put_one(job, id, scope, &mut body).await?,
            None => put_from_elsewhere(job, id, scope, &error).await?,
        }
        done.insert((digest, scope));
    }
    Ok(())
}

/// Puts a blob of a sequential medium: reads it back from another scope of the destination.
async fn put_from_elsewhere(job: &Job, id: BlobId, scope: RepositoryId, refusal: &Error) -> Result<()> {
    let blob = job.blob(id);
    let digest = blob.digest;
    let mut last = refusal.flattened();
    for other in blob.wanted.iter().filter(|other| **other != scope) {
        let Ok(chunks) = job.destination.read_back(&job.contents, id, *other).await else { continue };
        let chunks = verified(chunks, digest, blob.size, job.cancel.clone(), move |what| {
            Error::registry(format!("blob {digest} was read back from its destination, and {what}"))
        });
        let mut body = Body::once(digest, blob.size, chunks, Arc::new(Silent), job.cancel.clone());
        match put_one(job, id, scope, &mut body).await {
            Err(error) if error.kind() != Kind::Interrupted => last = error,
            put => return put,
        }
    }
    Err(Error::registry(format!(
        "the destination does not have blob {digest}, and the medium cannot be read a second time"
    ))
    .caused_by(last)
    .hint("run the same command again: it uploads the blob from the medium"))
}

async fn put_one(job: &Job, id: BlobId, scope: RepositoryId, body: &mut Body) -> Result<()> {
    let put = job.destination.put_blob(&job.contents, id, scope, body).await;
    put.map_err(|error| body.source_error().unwrap_or(error))?;
    job.tally.moved.fetch_add(1, Ordering::Relaxed);
    job.tally.moved_bytes.fetch_add(body.size(), Ordering::Relaxed);
    Ok(())
}

/// A destination returns each missing blob once, so that more rounds find other blobs.
const MAX_TRIES: usize = 4;
