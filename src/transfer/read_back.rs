//! Reads everything back from a destination after it was pushed, and compares it with what was planned.
//!
//! A registry may acknowledge what it does not store. Nothing but reading it again tells.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;

use super::{Tasks, TransferOptions, manifests};
use crate::content::{BlobId, Contents, Destination, ManifestId, RepositoryId, verified};
use crate::error::{Error, Failure, Kind, Result};
use crate::progress::Event;

/// Fetches every blob from each repository that needs it, and every manifest, tag and index, and compares them by digest.
/// Blobs stream by: memory does not depend on their size. With `keep_going` the images that are not as they were pushed are
/// returned.
///
/// # Errors
/// `Registry` or `NotFound` for the first blob or manifest that is missing or different. With `keep_going` only when all
/// images fail.
pub async fn read_back(
    contents: &Arc<Contents>,
    destination: &Arc<dyn Destination>,
    options: &TransferOptions,
) -> Result<Vec<Failure>> {
    let work = Work {
        contents: contents.clone(),
        destination: destination.clone(),
        options: options.clone(),
        failed: Arc::default(),
    };
    let blobs = contents.blob_ids().flat_map(|id| contents.blob(id).wanted.iter().map(move |scope| (id, *scope)));
    let items: Vec<Item> = blobs.map(Item::Blob).chain(contents.manifest_ids().map(Item::Landing)).collect();
    options.progress.event(work.begins());
    let mut tasks = Tasks::new(options.cancel.child_token());
    for item in items {
        while tasks.len() >= options.jobs.get() && !tasks.failed() {
            tasks.join_one().await;
        }
        if tasks.failed() {
            break;
        }
        tasks.spawn(work.clone().check(item));
    }
    tasks.finish().await?;
    let failed = std::mem::take(&mut *work.failed.lock().unwrap_or_else(PoisonError::into_inner));
    let broken = manifests::images_that(contents, |id| {
        let scope = contents.manifest(id).scope;
        let blobs = contents.manifest(id).blobs.iter().map(|blob| Item::Blob((*blob, scope)));
        blobs.chain([Item::Landing(id)]).find(|item| failed.contains_key(item))
    });
    let failures = broken.iter();
    let failures = failures.map(|(name, item)| Failure { image: name.to_string(), error: failed[item].flattened() });
    Ok(failures.collect())
}

/// What is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    /// A blob of a repository.
    Blob((BlobId, RepositoryId)),
    /// A manifest, perhaps under a tag.
    Landing(ManifestId),
}

#[derive(Clone)]
struct Work {
    contents: Arc<Contents>,
    destination: Arc<dyn Destination>,
    options: TransferOptions,
    failed: Arc<Mutex<BTreeMap<Item, Error>>>,
}

impl Work {
    fn begins(&self) -> Event<'static> {
        let read =
            self.contents.blob_ids().map(|id| self.contents.blob(id)).map(|blob| (blob.wanted.len() as u64, blob));
        let (blobs, bytes) = read.fold((0, 0), |(blobs, bytes): (u64, u64), (times, blob)| {
            (blobs + times, bytes.saturating_add(blob.size.saturating_mul(times)))
        });
        Event::ReadBack { blobs, bytes }
    }

    async fn check(self, item: Item) -> Result<()> {
        let checked = match item {
            Item::Blob((blob, scope)) => self.blob(blob, scope).await,
            Item::Landing(id) => self.destination.check_landed(&self.contents, id).await,
        };
        match checked {
            Err(error) if self.options.keep_going && error.kind() != Kind::Interrupted => {
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).insert(item, error);
                Ok(())
            }
            checked => checked,
        }
    }

    async fn blob(&self, id: BlobId, scope: RepositoryId) -> Result<()> {
        let (digest, size) = (self.contents.blob(id).digest, self.contents.blob(id).size);
        let repository = self.contents.scope(scope).to_string();
        let missing = format!("blob {digest} was pushed to {repository} and cannot be read back");
        let chunks = self.destination.read_back(&self.contents, id, scope).await;
        let chunks = chunks.map_err(|error| match error.kind() {
            // Its hints are about what was never there.
            Kind::NotFound => Error::new(Kind::NotFound, &missing).caused_by(error.flattened()).hint(REPAIR),
            _ => error.context(&missing),
        })?;
        let mut chunks = verified(chunks, digest, size, self.options.cancel.clone(), move |what| {
            Error::registry(format!("blob {digest} was pushed to {repository}, and is different there: {what}"))
                .hint(REPAIR)
        });
        while let Some(chunk) = chunks.next().await {
            chunk?;
        }
        Ok(())
    }
}

/// The registry says that it has the blob, and so no import sends it.
const REPAIR: &str = "the registry acknowledged this blob: look into its log and storage, have it deleted there, then \
import again";
