//! From a source in any order to a destination in any order: several blobs at once.

use std::sync::Arc;

use super::Job;
use crate::error::Result;
use crate::place::{BlobId, Source};

pub(super) async fn run(job: &Job, source: Arc<dyn Source>) -> Result<()> {
    job.each(job.contents.blob_ids(), |job, id| move_blob(job, source.clone(), id)).await
}

async fn move_blob(job: Job, source: Arc<dyn Source>, id: BlobId) -> Result<()> {
    let satisfied = job.there.contains(&id) || {
        let presence = job.presence(id).await?;
        job.is_satisfied(id, presence).await?
    };
    if satisfied {
        job.already_there(id);
    } else {
        job.put(id, job.first_scope(id), &mut job.reopenable(&source, id)).await?;
        if job.has_failed(id) {
            return Ok(());
        }
    }
    for scope in job.link_others(id).await? {
        job.put(id, scope, &mut job.reopenable(&source, id)).await?;
    }
    Ok(())
}
