//! One blob on its way into every repository that needs it.
//!
//! With `keep_going` a failure is recorded for the blob in one repository. The other repositories still get the blob:
//! from the same body while it can be opened, else from a repository that has it.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use futures_util::{FutureExt, StreamExt, stream};

use super::{Job, manifests};
use crate::content::{Blob, BlobId, BlobStatus, Body, MountOutcome, PutBlob, RepositoryId};
use crate::error::{Error, Kind, Result};
use crate::progress::{Event, TransferKind};

/// Where a blob is, and where it is still needed. A repository in which it failed is in neither.
#[derive(Debug, Default)]
pub(super) struct Locations {
    /// A repository that has the blob.
    stored: Option<RepositoryId>,
    /// The repositories that lack it, or may lack it, in the order of the plan.
    missing: Vec<RepositoryId>,
}

impl Locations {
    /// Nothing was asked yet.
    pub(super) fn unknown(blob: &Blob) -> Self {
        Locations { stored: None, missing: blob.wanted.clone() }
    }

    /// An earlier run left the blob in its first repository.
    pub(super) fn left_in_first(blob: &Blob) -> Self {
        Locations { stored: blob.wanted.first().copied(), missing: blob.wanted[1..].to_vec() }
    }

    /// A repository that has the blob.
    pub(super) fn stored(&self) -> Option<RepositoryId> {
        self.stored
    }

    /// Whether the blob failed in every repository.
    pub(super) fn is_given_up(&self) -> bool {
        self.stored.is_none() && self.missing.is_empty()
    }
}

/// What came of storing a blob in one repository.
enum Put {
    Stored,
    /// With `keep_going`. The reason is recorded for this repository.
    Failed {
        reason: Error,
        /// The bytes could not be read, or were wrong: no other repository would get them either.
        unreadable: bool,
    },
}

impl Job {
    /// Asks every repository that needs the blob whether it has it, several at once.
    pub(super) async fn locate(&self, id: BlobId) -> Result<Locations> {
        let ask = |scope| async move { (scope, self.destination.blob_status(&self.contents, id, scope).await) };
        let asked: Vec<_> = self.blob(id).wanted.iter().map(|scope| ask(*scope).boxed()).collect();
        let mut answers = stream::iter(asked).buffered(self.jobs);
        let mut locations = Locations::default();
        while let Some((scope, answer)) = answers.next().await {
            match answer {
                Ok(BlobStatus::Present) => drop(locations.stored.get_or_insert(scope)),
                Ok(BlobStatus::Elsewhere(from)) => {
                    locations.stored.get_or_insert(from);
                    locations.missing.push(scope);
                }
                Ok(BlobStatus::Absent | BlobStatus::Unknown) => locations.missing.push(scope),
                Err(error) => self.record_failure(id, scope, error)?,
            }
        }
        Ok(locations)
    }

    /// Whether the bytes need not be moved. Links the blob into its first repository if another one has it.
    pub(super) async fn is_satisfied(&self, id: BlobId, locations: &mut Locations) -> Result<bool> {
        let Some(from) = locations.stored else { return Ok(false) };
        let first = self.first_scope(id);
        if locations.missing.first() != Some(&first) {
            return Ok(true);
        }
        match self.destination.mount_blob(&self.contents, id, from, first).await {
            Ok(MountOutcome::Refused) => return Ok(false),
            Ok(MountOutcome::Done) => self.count_link(),
            Err(error) => self.record_failure(id, first, error)?,
        }
        locations.missing.remove(0);
        Ok(true)
    }

    /// Stores the bytes in the first repository that accepts them.
    pub(super) async fn put(&self, id: BlobId, locations: &mut Locations, body: &mut Body) -> Result<()> {
        while let Some(scope) = locations.missing.first().copied() {
            let put = self.put_into(id, scope, body).await?;
            locations.missing.remove(0);
            match put {
                Put::Stored => {
                    locations.stored = Some(scope);
                    return Ok(());
                }
                Put::Failed { reason, unreadable: true } => return self.give_up(id, locations, &reason),
                Put::Failed { reason, .. } if !body.can_be_opened() => {
                    let (digest, repository) = (body.digest(), self.contents.scope(scope));
                    let lost = format!("blob {digest} is read once, and was lost on its way to {repository}");
                    return self.give_up(id, locations, &reason.context(lost).hint(READ_AGAIN));
                }
                Put::Failed { .. } => {}
            }
        }
        Ok(())
    }

    /// Stores the bytes in this repository.
    pub(super) async fn put_there(&self, id: BlobId, scope: RepositoryId, body: &mut Body) -> Result<()> {
        self.put_into(id, scope, body).await.map(drop)
    }

    async fn put_into(&self, id: BlobId, scope: RepositoryId, body: &mut Body) -> Result<Put> {
        let (digest, size) = (body.digest(), body.size());
        self.progress.event(Event::BlobStarted { digest, size });
        match self.destination.put_blob(&self.contents, id, scope, body).await {
            Ok(PutBlob::AlreadyThere) => self.already_there(id),
            Ok(PutBlob::Uploaded) => {
                self.tally.moved.fetch_add(1, Ordering::Relaxed);
                self.tally.moved_bytes.fetch_add(size - body.resumed_from(), Ordering::Relaxed);
                self.progress.event(Event::BlobDone { digest, size, how: TransferKind::Moved });
            }
            Err(error) => {
                let unreadable = body.has_failed();
                let error = body.source_error().unwrap_or(error);
                // A medium that cannot be written will not take the next blob either.
                if error.kind() == Kind::Io && !unreadable {
                    return Err(error);
                }
                let reason = error.flattened();
                self.record_failure(id, scope, error)?;
                return Ok(Put::Failed { reason, unreadable });
            }
        }
        Ok(Put::Stored)
    }

    /// The bytes cannot be had: the blob fails wherever it is missing, unless it can be linked from where it is.
    pub(super) fn give_up(&self, id: BlobId, locations: &mut Locations, reason: &Error) -> Result<()> {
        if locations.stored.is_some() {
            return Ok(());
        }
        for scope in std::mem::take(&mut locations.missing) {
            self.record_failure(id, scope, reason.flattened())?;
        }
        Ok(())
    }

    /// The bytes could not be read before they were sent anywhere.
    pub(super) fn could_not_read(&self, id: BlobId, locations: &mut Locations, error: Error) -> Result<()> {
        if locations.missing.is_empty() {
            return Ok(());
        }
        let scope = locations.missing.remove(0);
        let reason = error.flattened();
        self.record_failure(id, scope, error)?;
        self.give_up(id, locations, &reason)
    }

    /// Links the blob from a repository that has it into those that lack it. Returns the repositories that refused.
    pub(super) async fn link_others(&self, id: BlobId, locations: &Locations) -> Result<Vec<RepositoryId>> {
        let Some(from) = locations.stored else { return Ok(Vec::new()) };
        let link = |scope| async move { (scope, self.destination.mount_blob(&self.contents, id, from, scope).await) };
        let asked: Vec<_> = locations.missing.iter().map(|scope| link(*scope).boxed()).collect();
        let mut refused = Vec::new();
        let mut linking = stream::iter(asked).buffered(self.jobs);
        while let Some((scope, linked)) = linking.next().await {
            match linked {
                Ok(MountOutcome::Done) => self.count_link(),
                Ok(MountOutcome::Refused) => refused.push(scope),
                Err(error) => self.record_failure(id, scope, error)?,
            }
        }
        Ok(refused)
    }

    /// With `keep_going` the failure is recorded, and does not end the run.
    pub(super) fn record_failure(&self, id: BlobId, scope: RepositoryId, error: Error) -> Result<()> {
        if error.kind() == Kind::Interrupted {
            return Err(error);
        }
        if !self.keep_going {
            return Err(self.for_images(id, error));
        }
        self.progress.event(Event::BlobFailed { digest: self.blob(id).digest });
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).entry((id, scope)).or_insert(error);
        Ok(())
    }

    /// A person knows images, not blobs.
    fn for_images(&self, id: BlobId, error: Error) -> Error {
        let images = manifests::images_without(&self.contents, |blob, _| blob == id);
        match images.keys().next() {
            Some(name) if images.len() == 1 => error.context(name.to_string()),
            Some(name) => error.context(format!("{name} and {} more", images.len() - 1)),
            None => error,
        }
    }

    pub(super) fn already_there(&self, id: BlobId) {
        let blob = self.blob(id);
        self.tally.already.fetch_add(1, Ordering::Relaxed);
        self.progress.event(Event::BlobDone { digest: blob.digest, size: blob.size, how: TransferKind::AlreadyThere });
    }

    fn count_link(&self) {
        self.tally.linked.fetch_add(1, Ordering::Relaxed);
    }
}

const READ_AGAIN: &str =
    "a bundle in a directory or a .tar is read again where that is needed; a pipe or a .tar.zst is not";
