//! From a source in any order to a destination in any order: several blobs at once.
//!
//! A blob that many images share is linked into as many scopes. That takes as long as moving a large one and moves
//! nothing, so it holds no place among those who move: a slow line is never idle for it.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::blobs::Locations;
use super::{Job, Tasks};
use crate::content::{BlobId, Source};
use crate::error::Result;

pub(super) async fn run(job: &Job, source: Arc<dyn Source>) -> Result<()> {
    let places = Places { moving: Arc::new(Semaphore::new(job.jobs)), linking: Arc::new(Semaphore::new(1)) };
    let mut tasks = Tasks::new(job.cancel.clone());
    for id in job.contents.blob_ids() {
        tasks.room().await;
        // Taken here, so that blobs begin in the order in which they lie.
        let place = places.moving.clone().acquire_owned().await.expect("never closed");
        if tasks.failed() {
            break;
        }
        let (job, source, places) = (job.clone(), source.clone(), places.clone());
        tasks.spawn(async move {
            // The next blob must not begin between the end of the place and the end of the run.
            let moved = move_blob(&job, &source, id).await.inspect_err(|_| job.cancel.cancel());
            drop(place);
            let locations = moved?;
            link_others(&job, &source, id, &locations, &places).await
        });
    }
    tasks.finish().await
}

/// Who may be at work at once.
#[derive(Clone)]
struct Places {
    moving: Arc<Semaphore>,
    /// One blob at a time, into several scopes at once.
    linking: Arc<Semaphore>,
}

async fn move_blob(job: &Job, source: &Arc<dyn Source>, id: BlobId) -> Result<Locations> {
    let known = job.there.contains(&id);
    let mut locations = if known { Locations::left_in_first(job.blob(id)) } else { job.locate(id).await? };
    if job.is_satisfied(id, &mut locations).await? {
        job.already_there(id);
    } else {
        job.put(id, &mut locations, &mut job.reopenable(source, id)).await?;
    }
    Ok(locations)
}

async fn link_others(
    job: &Job,
    source: &Arc<dyn Source>,
    id: BlobId,
    locations: &Locations,
    places: &Places,
) -> Result<()> {
    let refused = {
        let _place = places.linking.acquire().await.expect("never closed");
        job.link_others(id, locations).await?
    };
    for scope in refused {
        let _place = places.moving.acquire().await.expect("never closed");
        job.put_there(id, scope, &mut job.reopenable(source, id)).await?;
    }
    Ok(())
}
