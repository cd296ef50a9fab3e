//! The engine: moves planned content between places.
//!
//! First every blob, then the documents (children before parents), then the tags, then the destination's commit.
//! So nothing that refers to content appears before all of that content is verified and in place, and a bundle
//! that turns out to be damaged in its last layer leaves neither a manifest nor a tag behind.
//!
//! There are four ways to move blobs, by what the two places can do:
//!
//! | from \ to | any order | as planned |
//! |---|---|---|
//! | [`Source`] | `random`: several at once | `ordered`: one by one, small ones fetched ahead |
//! | [`SequentialSource`] | `pass`: in the medium's order, small ones overlap | `pass`: one by one |
//!
//! Which places these are is nothing that this module knows.

mod blobs;
pub(crate) mod manifests;
mod order;
pub(crate) mod planned_order;
pub(crate) mod random_access;
mod read_back;
mod resend;
pub(crate) mod sequential;
#[cfg(test)]
mod suite;

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

pub use read_back::read_back;
use resend::Resend;

use crate::content::{Blob, BlobId, Body, Contents, Destination, Order, RepositoryId, SequentialSource, Source};
use crate::error::{Error, Failure, Result};
use crate::progress::{Event, Progress};

/// Where blobs come from.
pub enum Input {
    /// A place that can be read in any order.
    Source(Arc<dyn Source>),
    /// A medium that decides the order.
    Pass(Box<dyn SequentialSource>),
}

/// How to run.
#[derive(Clone)]
pub struct TransferOptions {
    /// How many blobs or documents are in flight at once.
    pub jobs: NonZeroUsize,
    /// Who is told.
    pub progress: Arc<dyn Progress>,
    /// Stops the run between chunks.
    pub cancel: CancellationToken,
    /// Goes past blobs and documents that fail: the images that need them are left out, the rest is finished.
    pub keep_going: bool,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Blobs whose bytes were moved.
    pub moved: u64,
    /// Their sizes together, in bytes.
    pub moved_bytes: u64,
    /// Blobs that were there already.
    pub already: u64,
    /// Times a blob was linked (mounted) into one more scope instead of being sent again.
    pub linked: u64,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// What was done.
    pub summary: Summary,
    /// With `keep_going`: the images that are not in place, by name, with the reason.
    pub failures: Vec<Failure>,
}

/// Moves everything in `contents` and commits.
///
/// # Errors
/// The first failure, or the worst of those that happened at the same time; the destination is then not committed.
/// With `keep_going` only what stops everything, or when no image is left.
pub async fn run(
    contents: Arc<Contents>,
    supply: Input,
    destination: Arc<dyn Destination>,
    options: &TransferOptions,
) -> Result<Outcome> {
    // A token of its own: a failure in one task stops the others, not the caller's next run.
    let cancel = options.cancel.child_token();
    let to = destination.clone();
    let whole_run = async {
        let there = destination.prepare(&contents).await?;
        options.progress.event(Event::Planned {
            images: contents.images.len(),
            blobs: contents.blobs.len(),
            bytes: contents.blob_bytes(),
        });
        let destination_leaves_out = destination.can_skip_images();
        let resend = Arc::new(Resend::new(&supply, contents.clone()));
        let job = Job {
            contents,
            destination,
            there: Arc::new(there),
            jobs: options.jobs.get(),
            progress: options.progress.clone(),
            cancel: cancel.clone(),
            tally: Arc::default(),
            keep_going: options.keep_going && destination_leaves_out,
            failed: Arc::default(),
            resend,
        };
        match (supply, job.destination.order()) {
            (Input::Source(source), Order::Any) => random_access::run(&job, source).await?,
            (Input::Source(source), Order::AsPlanned) => planned_order::run(&job, source).await?,
            (Input::Pass(pass), Order::Any) => sequential::to_any_order(&job, pass).await?,
            (Input::Pass(pass), Order::AsPlanned) => sequential::to_planned_order(&job, pass).await?,
        }
        let asked = job.contents.images.len().max(1);
        let (job, mut failures) = job.without_failed()?;
        if !failures.is_empty() {
            job.destination.replan(&job.contents, &failures).await?;
        }
        failures.extend(manifests::run(&job).await?);
        let unconfirmed = job.destination.confirm(&job.contents).await?;
        if !job.keep_going && !unconfirmed.is_empty() {
            return Err(Failure::report(unconfirmed, asked));
        }
        failures.extend(unconfirmed);
        let mut named = HashSet::new();
        failures.retain(|failure| named.insert(failure.image.clone()));
        if failures.len() >= asked {
            return Err(Failure::report(failures, asked));
        }
        job.destination.commit(&job.contents).await?;
        Ok(Outcome { summary: job.tally.summary(), failures })
    };
    let done = tokio::select! {
        biased;
        () = options.cancel.cancelled() => { cancel.cancel(); Err(Error::interrupted()) }
        done = whole_run => done,
    };
    if done.is_err() {
        to.abort().await;
    }
    done
}

/// What every task of a run shares. Cheap to clone.
#[derive(Clone)]
struct Job {
    contents: Arc<Contents>,
    destination: Arc<dyn Destination>,
    /// Left by an earlier run and re-hashed by the destination.
    there: Arc<HashSet<BlobId>>,
    jobs: usize,
    progress: Arc<dyn Progress>,
    cancel: CancellationToken,
    tally: Arc<Tally>,
    keep_going: bool,
    /// With `keep_going`: the blobs that failed, each in one repository.
    failed: Arc<Mutex<BTreeMap<(BlobId, RepositoryId), Error>>>,
    /// For blobs that the destination turns out to lack.
    resend: Arc<Resend>,
}

impl Job {
    fn blob(&self, id: BlobId) -> &Blob {
        self.contents.blob(id)
    }

    /// The repository into which the bytes go if it accepts them; the blob is linked into the others from there.
    fn first_scope(&self, id: BlobId) -> RepositoryId {
        *self.blob(id).wanted.first().expect("the builder lists no blob that is wanted nowhere")
    }

    fn reopenable(&self, source: &Arc<dyn Source>, id: BlobId) -> Body {
        Body::reopenable(source.clone(), self.contents.clone(), id, self.progress.clone(), self.cancel.clone())
    }

    /// The job for the images whose blobs are all in their repository, and the others with the reason.
    fn without_failed(self) -> Result<(Job, Vec<Failure>)> {
        let failed = std::mem::take(&mut *self.failed.lock().unwrap_or_else(PoisonError::into_inner));
        if failed.is_empty() {
            return Ok((self, Vec::new()));
        }
        let broken = manifests::images_without(&self.contents, |blob, scope| failed.contains_key(&(blob, scope)));
        let failures: Vec<Failure> = broken
            .iter()
            .map(|(name, blob)| Failure { image: name.to_string(), error: failed[blob].flattened() })
            .collect();
        let contents = self.contents.only(|image| !broken.contains_key(&image.name))?;
        if contents.images.is_empty() {
            return Err(Failure::report(failures, self.contents.images.len()));
        }
        Ok((Job { contents: Arc::new(contents), ..self }, failures))
    }

    /// Does `work` for every item, so many at once. The first failure stops the rest; the worst one is returned.
    async fn each<T, F>(&self, items: impl IntoIterator<Item = T>, work: impl Fn(Job, T) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let mut tasks = Tasks::new(self.cancel.clone());
        for item in items {
            while tasks.len() >= self.jobs && !tasks.failed() {
                tasks.join_one().await;
            }
            if tasks.failed() {
                break;
            }
            tasks.spawn(work(self.clone(), item));
        }
        tasks.finish().await
    }
}

/// Tasks of one run that fail together.
struct Tasks {
    set: JoinSet<Result<()>>,
    cancel: CancellationToken,
    failure: Option<Error>,
}

impl Tasks {
    fn new(cancel: CancellationToken) -> Self {
        Tasks { set: JoinSet::new(), cancel, failure: None }
    }

    /// Frees what tasks that have ended hold, and waits while [`MAX_TASKS`] have not ended: each takes some 2 KiB. To be
    /// called before anything is taken that a task may wait for.
    async fn room(&mut self) {
        while let Some(joined) = self.set.try_join_next() {
            self.note(joined);
        }
        while self.len() >= MAX_TASKS {
            self.join_one().await;
        }
    }

    fn spawn(&mut self, work: impl Future<Output = Result<()>> + Send + 'static) {
        let cancel = self.cancel.clone();
        self.set.spawn(async move {
            let done = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Error::interrupted()),
                done = work => done,
            };
            if done.is_err() {
                // Whoever feeds these tasks learns of it between two chunks, not when it has read everything.
                cancel.cancel();
            }
            done
        });
    }

    fn len(&self) -> usize {
        self.set.len()
    }

    fn failed(&self) -> bool {
        self.failure.is_some() || self.cancel.is_cancelled()
    }

    /// Waits for one task to end; `false` if there is none.
    async fn join_one(&mut self) -> bool {
        let Some(joined) = self.set.join_next().await else { return false };
        self.note(joined);
        true
    }

    /// Keeps the worst failure; the first one stops the others.
    fn note(&mut self, joined: std::result::Result<Result<()>, JoinError>) {
        let done = joined.unwrap_or_else(|e| match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::interrupted()),
        });
        if let Err(error) = done {
            self.cancel.cancel();
            self.failure = Some(match self.failure.take() {
                Some(earlier) => earlier.worst(error),
                None => error,
            });
        }
    }

    async fn finish(mut self) -> Result<()> {
        while self.join_one().await {}
        match self.failure {
            Some(error) => Err(error),
            None if self.cancel.is_cancelled() => Err(Error::interrupted()),
            None => Ok(()),
        }
    }
}

/// Tasks of one run that have not ended, those included that wait for their turn.
const MAX_TASKS: usize = 512;

#[derive(Default)]
struct Tally {
    moved: AtomicU64,
    moved_bytes: AtomicU64,
    already: AtomicU64,
    linked: AtomicU64,
}

impl Tally {
    fn summary(&self) -> Summary {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Summary {
            moved: read(&self.moved),
            moved_bytes: read(&self.moved_bytes),
            already: read(&self.already),
            linked: read(&self.linked),
        }
    }
}
