//! From a medium that decides the order itself.
//!
//! To a destination in any order: small blobs are read whole and sent while the medium goes on; one large blob at
//! a time streams from the medium to the destination. Permits are taken in the medium's order only. Whether the
//! destination has a blob already is asked ahead of the reader, who then skips it; where it says so only when it is sent
//! the blob, a small one has been read by then.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::blobs::Locations;
use super::{Job, Tasks};
use crate::content::{BlobId, Body, Chunks, Mismatch, SMALL_BLOB, SequentialSource, verified};
use crate::error::{Error, Result};

pub(super) async fn to_any_order(job: &Job, mut pass: Box<dyn SequentialSource>) -> Result<()> {
    let mismatch = pass.mismatch();
    let mut answers = Answers::ask_ahead(job);
    let small = Arc::new(Semaphore::new(job.jobs.min(SMALL_AT_ONCE)));
    let mut tasks = Tasks::new(job.cancel.clone());
    let read = async {
        let mut missing: Vec<bool> = vec![true; job.contents.blobs.len()];
        while let Some((id, chunks)) = pass.next(&job.contents).await? {
            if !std::mem::take(&mut missing[id.0 as usize]) {
                return Err(mismatch(job.blob(id), "it comes a second time"));
            }
            tasks.room().await;
            let known = job.there.contains(&id);
            let mut locations = if known { Locations::left_in_first(job.blob(id)) } else { answers.of(id).await? };
            if locations.is_given_up() {
                drop(chunks);
            } else if job.is_satisfied(id, &mut locations).await? {
                drop(chunks);
                job.already_there(id);
                let job = job.clone();
                tasks.spawn(async move { link_others(&job, id, &locations, None).await });
            } else {
                let chunks = checked(job, &mismatch, id, chunks);
                if job.blob(id).size <= SMALL_BLOB {
                    // Taken before the bytes are read: this bounds memory, in the medium's order.
                    let permit = small.clone().acquire_owned().await.expect("never closed");
                    let bytes = match collect(chunks, job.blob(id).size).await {
                        Ok(bytes) => Some(bytes),
                        Err(error) => {
                            job.could_not_read(id, &mut locations, error)?;
                            None
                        }
                    };
                    let job = job.clone();
                    tasks.spawn(async move {
                        let _permit = permit;
                        if let Some(bytes) = &bytes {
                            let put = job.put(id, &mut locations, &mut whole(&job, id, bytes.clone())).await;
                            // Before the permit is free: the next blob must not begin.
                            put.inspect_err(|_| job.cancel.cancel())?;
                        }
                        link_others(&job, id, &locations, bytes).await
                    });
                } else {
                    job.put(id, &mut locations, &mut once(job, id, chunks)).await?;
                    let job = job.clone();
                    tasks.spawn(async move { link_others(&job, id, &locations, None).await });
                }
            }
            if tasks.failed() {
                break;
            }
        }
        match missing.iter().position(|missing| *missing) {
            Some(first) if !tasks.failed() => Err(mismatch(&job.contents.blobs[first], "the medium ends before it")),
            _ => Ok(()),
        }
    }
    .await;
    if read.is_err() {
        job.cancel.cancel();
    }
    match (read, tasks.finish().await) {
        (Ok(()), sent) => sent,
        (Err(read), Ok(())) => Err(read),
        (Err(read), Err(sent)) => Err(read.worst(sent)),
    }
}

pub(super) async fn to_planned_order(job: &Job, mut pass: Box<dyn SequentialSource>) -> Result<()> {
    let mismatch = pass.mismatch();
    let mut expected = job.contents.blob_ids();
    while let Some((id, chunks)) = pass.next(&job.contents).await? {
        if expected.next() != Some(id) {
            return Err(mismatch(job.blob(id), "it is not next in the planned order"));
        }
        let locations = if job.there.contains(&id) {
            drop(chunks);
            job.already_there(id);
            Locations::left_in_first(job.blob(id))
        } else {
            let mut locations = Locations::unknown(job.blob(id));
            let chunks = checked(job, &mismatch, id, chunks);
            job.put(id, &mut locations, &mut once(job, id, chunks)).await?;
            locations
        };
        link_others(job, id, &locations, None).await?;
    }
    match expected.next() {
        Some(id) => Err(mismatch(job.blob(id), "the medium ends before it")),
        None => Ok(()),
    }
}

/// Links the blob into its other repositories. Where that is refused the bytes are sent from memory, or read back from
/// the destination, never from the medium.
async fn link_others(job: &Job, id: BlobId, locations: &Locations, bytes: Option<Bytes>) -> Result<()> {
    for scope in job.link_others(id, locations).await? {
        let body = match &bytes {
            Some(bytes) => Ok(whole(job, id, bytes.clone())),
            None => read_back(job, id, locations).await,
        };
        match body {
            Ok(mut body) => job.put_there(id, scope, &mut body).await?,
            Err(error) => job.record_failure(id, scope, error)?,
        }
    }
    Ok(())
}

async fn read_back(job: &Job, id: BlobId, locations: &Locations) -> Result<Body> {
    let from = locations.stored().expect("only what is stored is linked");
    let chunks = job.destination.read_back(&job.contents, id, from).await?;
    let blob = job.blob(id);
    let digest = blob.digest;
    let chunks = verified(chunks, digest, blob.size, job.cancel.clone(), move |what| {
        Error::registry(format!("blob {digest} was read back from its destination, and {what}"))
    });
    Ok(once(job, id, chunks))
}

fn once(job: &Job, id: BlobId, chunks: Chunks) -> Body {
    let blob = job.blob(id);
    Body::once(blob.digest, blob.size, chunks, job.progress.clone(), job.cancel.clone())
}

fn whole(job: &Job, id: BlobId, bytes: Bytes) -> Body {
    Body::whole(job.blob(id).digest, bytes, job.progress.clone(), job.cancel.clone())
}

fn checked(job: &Job, mismatch: &Mismatch, id: BlobId, chunks: Chunks) -> Chunks {
    let (blob, mismatch) = (job.blob(id).clone(), mismatch.clone());
    verified(chunks, blob.digest, blob.size, job.cancel.clone(), move |what| mismatch(&blob, what))
}

async fn collect(mut chunks: Chunks, size: u64) -> Result<Bytes> {
    let mut bytes = Vec::with_capacity(size as usize);
    while let Some(chunk) = chunks.try_next().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(Bytes::from(bytes))
}

/// Answers to "does the destination have it", asked some way ahead of the reader.
struct Answers {
    answers: mpsc::Receiver<(BlobId, Result<Locations>)>,
    early: HashMap<BlobId, Result<Locations>>,
    _asking: AbortOnDropHandle<()>,
}

impl Answers {
    fn ask_ahead(job: &Job) -> Self {
        let (sender, answers) = mpsc::channel(AHEAD);
        let job = job.clone();
        let asking = tokio::spawn(async move {
            let ids: Vec<BlobId> = job.contents.blob_ids().filter(|id| !job.there.contains(id)).collect();
            let ask = |id| {
                let job = job.clone();
                async move { (id, job.locate(id).await) }
            };
            let mut asked = stream::iter(ids).map(ask).buffered(job.jobs);
            while let Some(answer) = asked.next().await {
                if sender.send(answer).await.is_err() {
                    return;
                }
            }
        });
        Answers { answers, early: HashMap::new(), _asking: AbortOnDropHandle::new(asking) }
    }

    async fn of(&mut self, id: BlobId) -> Result<Locations> {
        if let Some(answer) = self.early.remove(&id) {
            return answer;
        }
        while let Some((answered, answer)) = self.answers.recv().await {
            if answered == id {
                return answer;
            }
            self.early.insert(answered, answer);
        }
        Err(Error::interrupted())
    }
}

/// How many small blobs are in memory at once: 24 MiB.
const SMALL_AT_ONCE: usize = 6;
/// How many answers may wait for the reader.
const AHEAD: usize = 64;
