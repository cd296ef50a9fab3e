//! From a source in any order to a destination in any order: several blobs at once.

use std::sync::Arc;

use super::{Job, Presences};
use crate::error::Result;
use crate::place::{BlobId, Source};

pub(super) async fn run(job: &Job, source: Arc<dyn Source>) -> Result<()> {
    job.each(job.contents.blob_ids(), |job, id| move_blob(job, source.clone(), id)).await
}

async fn move_blob(job: Job, source: Arc<dyn Source>, id: BlobId) -> Result<()> {
    let known = job.there.contains(&id);
    let presences = if known { Presences::unknown(job.blob(id)) } else { job.presence(id).await? };
    if known || job.is_satisfied(id, &presences).await? {
        job.already_there(id);
    } else {
        job.put(id, job.first_scope(id), &mut job.reopenable(&source, id)).await?;
        if job.has_failed(id) {
            return Ok(());
        }
    }
    for scope in job.link_others(id, &presences).await? {
        job.put(id, scope, &mut job.reopenable(&source, id)).await?;
    }
    Ok(())
}
