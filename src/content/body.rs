//! A blob on its way: hashed and counted in the read that sends it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::contents::{BlobId, Contents};
use super::{Chunks, Source};
use crate::error::{Error, Result};
use crate::oci::{Digest, Hasher};
use crate::progress::{Event, Progress};

/// What a destination is given for a blob. Every stream that it opens withholds its last chunk until size and
/// digest are right, so that a wrong blob can never be complete anywhere.
pub struct Body {
    digest: Digest,
    size: u64,
    supply: BodySource,
    blame: Arc<Mutex<Option<Error>>>,
    mismatch: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
    passed: Arc<AtomicU64>,
    /// Bytes of the last opening that the destination had already.
    resumed_from: u64,
    progress: Arc<dyn Progress>,
    cancel: CancellationToken,
}

enum BodySource {
    Source { source: Arc<dyn Source>, contents: Arc<Contents>, blob: BlobId },
    Whole(Bytes),
    Once(Option<Chunks>),
}

impl Body {
    /// A body that can be read again and again.
    pub fn reopenable(
        source: Arc<dyn Source>,
        contents: Arc<Contents>,
        blob: BlobId,
        progress: Arc<dyn Progress>,
        cancel: CancellationToken,
    ) -> Self {
        let (digest, size) = (contents.blob(blob).digest, contents.blob(blob).size);
        Body::new(digest, size, BodySource::Source { source, contents, blob }, progress, cancel)
    }

    /// A small blob that is in memory and verified.
    pub fn whole(digest: Digest, bytes: Bytes, progress: Arc<dyn Progress>, cancel: CancellationToken) -> Self {
        Body::new(digest, bytes.len() as u64, BodySource::Whole(bytes), progress, cancel)
    }

    /// A body that can be read once. `chunks` must be [`verified`] already.
    pub fn once(
        digest: Digest,
        size: u64,
        chunks: Chunks,
        progress: Arc<dyn Progress>,
        cancel: CancellationToken,
    ) -> Self {
        Body::new(digest, size, BodySource::Once(Some(chunks)), progress, cancel)
    }

    fn new(
        digest: Digest,
        size: u64,
        supply: BodySource,
        progress: Arc<dyn Progress>,
        cancel: CancellationToken,
    ) -> Self {
        let (blame, wrong, failed, passed) = (Arc::default(), Arc::default(), Arc::default(), Arc::default());
        Body { digest, size, supply, blame, mismatch: wrong, failed, passed, resumed_from: 0, progress, cancel }
    }

    /// Of all bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether it can be opened more than once.
    pub fn replayable(&self) -> bool {
        !matches!(self.supply, BodySource::Once(_))
    }

    /// Whether [`Body::open`] can return the bytes, perhaps for the first time.
    pub fn can_be_opened(&self) -> bool {
        !matches!(self.supply, BodySource::Once(None))
    }

    /// The bytes from the beginning.
    pub async fn open(&mut self) -> Result<Chunks> {
        self.open_after(Hasher::default()).await
    }

    /// The bytes after those that `before` has taken in: the destination has them from an earlier run. They are
    /// verified with the rest, so that what was left wrong is found at the end ([`Body::has_mismatch`]).
    pub async fn open_after(&mut self, before: Hasher) -> Result<Chunks> {
        self.resumed_from = before.count();
        self.mismatch.store(false, Ordering::Relaxed);
        self.failed.store(false, Ordering::Relaxed);
        let passed = self.passed.swap(self.resumed_from, Ordering::Relaxed);
        if passed > 0 {
            self.progress.event(Event::BlobRewound { digest: self.digest, bytes: passed });
        }
        if self.resumed_from > 0 {
            self.progress.event(Event::BlobBytes { digest: self.digest, bytes: self.resumed_from });
        }
        let chunks = match &mut self.supply {
            BodySource::Whole(bytes) => {
                let rest = bytes.slice(usize::try_from(self.resumed_from).unwrap_or(usize::MAX).min(bytes.len())..);
                stream::iter((!rest.is_empty()).then_some(Ok(rest))).boxed()
            }
            BodySource::Once(_) if self.resumed_from > 0 => {
                return Err(Error::registry(format!(
                    "blob {} comes in a stream, from its beginning only",
                    self.digest
                )));
            }
            BodySource::Once(chunks) => chunks.take().ok_or_else(|| {
                Error::registry(format!("blob {} cannot be sent a second time from a stream", self.digest))
                    .hint("run the same command again: what has landed is not sent again")
            })?,
            BodySource::Source { source, contents, blob } => {
                let opened = source.open(contents, *blob, self.resumed_from).await;
                let chunks = opened.inspect_err(|_| self.failed.store(true, Ordering::Relaxed))?;
                let (source, contents, blob, wrong) = (source.clone(), contents.clone(), *blob, self.mismatch.clone());
                verified_after(before, chunks, self.digest, self.size, self.cancel.clone(), move |what| {
                    wrong.store(true, Ordering::Relaxed);
                    source.mismatch(&contents, blob, what)
                })
            }
        };
        let mut watched = Watched {
            inner: chunks,
            digest: self.digest,
            passed: self.passed.clone(),
            blame: self.blame.clone(),
            failed: self.failed.clone(),
            progress: self.progress.clone(),
        }
        .boxed();
        if self.size == 0 {
            // Nobody has a reason to read an empty body, and not reading it would leave it unverified.
            while watched.try_next().await?.is_some() {}
            return Ok(stream::empty().boxed());
        }
        Ok(watched)
    }

    /// Whether all bytes of the last opening were handed on.
    pub fn is_read_to_the_end(&self) -> bool {
        self.passed.load(Ordering::Relaxed) >= self.size
    }

    /// Whether bytes of the last opening were handed on.
    pub fn has_moved(&self) -> bool {
        self.passed.load(Ordering::Relaxed) > self.resumed_from
    }

    /// How many bytes of the last opening the destination had already.
    pub fn resumed_from(&self) -> u64 {
        self.resumed_from
    }

    /// Whether size or digest of what was opened were not those of the plan.
    pub fn has_mismatch(&self) -> bool {
        self.mismatch.load(Ordering::Relaxed)
    }

    /// Whether what was opened last could not be read to its end, or was wrong, whoever has taken the reason since.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// The failure of the body itself, if that is why sending it failed: the destination is not at fault, and
    /// sending it again would not help.
    pub fn source_error(&self) -> Option<Error> {
        self.blame.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// `chunks`, with the last one withheld until all of them together have the size (bytes) and the digest.
/// `mismatch` makes the error from what is wrong.
pub fn verified(
    chunks: Chunks,
    digest: Digest,
    size: u64,
    cancel: CancellationToken,
    mismatch: impl Fn(&str) -> Error + Send + 'static,
) -> Chunks {
    verified_after(Hasher::default(), chunks, digest, size, cancel, mismatch)
}

/// The same for the bytes after those that `before` has taken in.
fn verified_after(
    before: Hasher,
    chunks: Chunks,
    digest: Digest,
    size: u64,
    cancel: CancellationToken,
    mismatch: impl Fn(&str) -> Error + Send + 'static,
) -> Chunks {
    let mismatch = Box::new(mismatch);
    Verified { inner: chunks, digest, size, cancel, mismatch, hasher: Some(before), held: None }.boxed()
}

struct Verified {
    inner: Chunks,
    digest: Digest,
    size: u64,
    cancel: CancellationToken,
    mismatch: Box<dyn Fn(&str) -> Error + Send>,
    /// Taken at the end, or at the first failure: then nothing more comes.
    hasher: Option<Hasher>,
    held: Option<Bytes>,
}

impl Verified {
    fn fail(&mut self, error: Error) -> Poll<Option<Result<Bytes>>> {
        self.hasher = None;
        self.held = None;
        Poll::Ready(Some(Err(error)))
    }

    fn finish(&mut self, hasher: Hasher) -> Poll<Option<Result<Bytes>>> {
        let count = hasher.count();
        if count != self.size {
            return self.fail((self.mismatch)(&format!("it ends after {count} of {} bytes", self.size)));
        }
        let found = hasher.finish();
        if found != self.digest {
            return self.fail((self.mismatch)(&format!("its bytes have the digest {found}")));
        }
        Poll::Ready(self.held.take().map(Ok))
    }
}

impl Stream for Verified {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let this = self.get_mut();
        while let Some(hasher) = this.hasher.as_mut() {
            if this.cancel.is_cancelled() {
                return this.fail(Error::interrupted());
            }
            match this.inner.as_mut().poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(chunk))) => {
                    hasher.update(&chunk);
                    if hasher.count() > this.size {
                        let error = (this.mismatch)(&format!("it is longer than {} bytes", this.size));
                        return this.fail(error);
                    }
                    if !chunk.is_empty()
                        && let Some(ready) = this.held.replace(chunk)
                    {
                        return Poll::Ready(Some(Ok(ready)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return this.fail(error),
                Poll::Ready(None) => {
                    let hasher = this.hasher.take().expect("the loop holds it");
                    return this.finish(hasher);
                }
            }
        }
        Poll::Ready(None)
    }
}

/// Reports what passes and keeps the body's own failure apart from the destination's.
struct Watched {
    inner: Chunks,
    digest: Digest,
    passed: Arc<AtomicU64>,
    blame: Arc<Mutex<Option<Error>>>,
    failed: Arc<AtomicBool>,
    progress: Arc<dyn Progress>,
}

impl Stream for Watched {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let this = self.get_mut();
        let next = std::task::ready!(this.inner.as_mut().poll_next(context));
        Poll::Ready(match next {
            Some(Ok(chunk)) => {
                this.passed.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                this.progress.event(Event::BlobBytes { digest: this.digest, bytes: chunk.len() as u64 });
                Some(Ok(chunk))
            }
            Some(Err(error)) => {
                this.failed.store(true, Ordering::Relaxed);
                let copy = error.flattened();
                *this.blame.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Some(Err(copy))
            }
            None => None,
        })
    }
}
