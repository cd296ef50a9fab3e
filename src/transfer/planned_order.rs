//! From a source in any order to a destination that takes blobs one by one as planned (a pipe, FAT).
//!
//! The head of the line streams straight through and needs no permit, so the line can always move. Behind it
//! small blobs are fetched ahead into memory, within a budget; large ones wait for their turn.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use super::Job;
use super::blobs::Locations;
use crate::content::{BlobId, Body, SMALL_BLOB, Source};
use crate::error::{Error, Result};

pub(super) async fn run(job: &Job, source: Arc<dyn Source>) -> Result<()> {
    let budget = Arc::new(Semaphore::new((AHEAD / UNIT) as usize));
    let mut waiting = job.contents.blob_ids().filter(|id| {
        let there = job.there.contains(id);
        if there {
            job.already_there(*id);
        }
        !there
    });
    let mut line: VecDeque<(BlobId, Option<Ahead>)> = VecDeque::new();
    let mut next = waiting.next();
    loop {
        while let Some(id) = next
            && line.len() < job.jobs
        {
            let ahead = match job.blob(id).size {
                // The head goes straight through.
                _ if line.is_empty() => None,
                size if size > SMALL_BLOB => None,
                size => match budget.clone().try_acquire_many_owned(units(size)) {
                    Ok(permit) => Some(fetch_ahead(job, source.clone(), id, permit)),
                    Err(_) => break,
                },
            };
            line.push_back((id, ahead));
            next = waiting.next();
        }
        let Some((id, ahead)) = line.pop_front() else { break };
        let mut locations = Locations::unknown(job.blob(id));
        match ahead {
            None => job.put(id, &mut locations, &mut job.reopenable(&source, id)).await?,
            Some(ahead) => match ahead.await.map_err(|e| Error::interrupted().caused_by(e))? {
                Ok((bytes, _permit)) => {
                    let mut body = Body::whole(job.blob(id).digest, bytes, job.progress.clone(), job.cancel.clone());
                    job.put(id, &mut locations, &mut body).await?;
                }
                Err(error) => job.could_not_read(id, &mut locations, error)?,
            },
        }
        for scope in job.link_others(id, &locations).await? {
            job.put_there(id, scope, &mut job.reopenable(&source, id)).await?;
        }
    }
    Ok(())
}

/// A small blob, verified, with its share of the budget.
type Ahead = AbortOnDropHandle<Result<(Bytes, OwnedSemaphorePermit)>>;

/// Memory for blobs fetched ahead, 16 MiB.
const AHEAD: u64 = 16 << 20;
/// What one permit of the budget stands for; the smallest blob takes one.
const UNIT: u64 = 64 << 10;

fn units(size: u64) -> u32 {
    size.div_ceil(UNIT).max(1) as u32
}

fn fetch_ahead(job: &Job, source: Arc<dyn Source>, id: BlobId, permit: OwnedSemaphorePermit) -> Ahead {
    let job = job.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        let blob = job.blob(id);
        let chunks = source.open(&job.contents, id, 0).await?;
        let contents = job.contents.clone();
        let mut chunks = crate::content::verified(chunks, blob.digest, blob.size, job.cancel.clone(), move |what| {
            source.mismatch(&contents, id, what)
        });
        let mut bytes = Vec::with_capacity(blob.size as usize);
        while let Some(chunk) = chunks.try_next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok((Bytes::from(bytes), permit))
    }))
}
