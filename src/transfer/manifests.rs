//! Documents into place: children before parents, tags last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Job, order, resend};
use crate::content::{BlobId, Contents, ManifestId, RepositoryId};
use crate::error::{Error, Failure, Kind, Result};
use crate::oci::Name;
use crate::progress::Event;

/// Lands everything. With `keep_going`, what could not be put in place is returned, by name.
pub(super) async fn run(job: &Job) -> Result<Vec<Failure>> {
    let failed = Failed::default();
    for step in order::steps(&job.contents)? {
        job.each(step, |job, ids| land_in_turn(job, ids, failed.clone())).await?;
    }
    let failed = std::mem::take(&mut *failed.lock().unwrap_or_else(PoisonError::into_inner));
    let contents = &job.contents;
    let failures = contents.manifest_ids().filter_map(|id| {
        let image = &contents.images[contents.manifest(id).image? as usize];
        let error = failed.get(&id)?.flattened();
        Some(Failure { image: image.name.to_string(), error })
    });
    Ok(failures.collect())
}

/// The images that need a blob in a repository where it `fails`, each with one such blob.
pub(super) fn images_without(
    contents: &Contents,
    fails: impl Fn(BlobId, RepositoryId) -> bool,
) -> BTreeMap<Name, (BlobId, RepositoryId)> {
    images_that(contents, |id| {
        let landing = contents.manifest(id);
        let blob = landing.blobs.iter().copied().find(|blob| fails(*blob, landing.scope));
        blob.map(|blob| (blob, landing.scope))
    })
}

/// The images that need a landing that `fails` for a reason, each with one such reason.
pub(super) fn images_that<T: Copy>(contents: &Contents, fails: impl Fn(ManifestId) -> Option<T>) -> BTreeMap<Name, T> {
    let mut broken: BTreeMap<ManifestId, T> = BTreeMap::new();
    let mut images = BTreeMap::new();
    // A landing comes after everything that it needs.
    for id in contents.manifest_ids() {
        let landing = contents.manifest(id);
        let below = landing.after.iter().find_map(|before| broken.get(before).copied());
        if let Some(reason) = below.or_else(|| fails(id)) {
            broken.insert(id, reason);
            images.extend(landing.image.map(|image| (contents.images[image as usize].name.clone(), reason)));
        }
    }
    images
}

type Failed = Arc<Mutex<BTreeMap<ManifestId, Error>>>;

/// One document under its tags in one scope, one after the other: docker-registry 2.8 answers 500 to whoever looks at a
/// manifest while it is pushed under another tag.
async fn land_in_turn(job: Job, ids: Vec<ManifestId>, failed: Failed) -> Result<()> {
    for id in ids {
        land(&job, id, &failed).await?;
    }
    Ok(())
}

async fn land(job: &Job, id: ManifestId, failed: &Failed) -> Result<()> {
    let landing = job.contents.manifest(id);
    let note = |error: Error| drop(failed.lock().unwrap_or_else(PoisonError::into_inner).insert(id, error));
    let needed: BTreeSet<&ManifestId> = landing.after.iter().collect();
    let missing = {
        let failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
        needed.iter().find_map(|before| failed.get(before)).map(Error::flattened)
    };
    if let Some(error) = missing {
        note(error);
        return Ok(());
    }
    match resend::put_manifest(job, id).await {
        Ok(()) => {}
        Err(error) if job.keep_going && !matches!(error.kind(), Kind::Interrupted | Kind::Io) => {
            note(error);
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    if let Some(image) = landing.image {
        let name = &job.contents.images[image as usize].name;
        job.progress.event(Event::Landed { name, digest: landing.document });
    }
    Ok(())
}
