//! Notices an upload that no longer moves.
//!
//! A total timeout would end large uploads and reqwest's read timeout runs while the body is still being sent, so
//! the time is taken here: only while the connection holds the chunk, never while we wait for our own source.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::Instant;

use crate::content::Chunks;
use crate::error::Result;

/// The two time limits of a request with a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// For a chunk to be taken by the connection.
    pub(crate) chunk: Duration,
    /// For the answer, once the last chunk is taken.
    pub(crate) answer: Duration,
}

/// Ends when the upload stalls.
pub(crate) struct Watch {
    waiting: Arc<Mutex<Waiting>>,
    limits: Limits,
}

/// The time limit that applies now, and when it ends.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    limit: Duration,
    /// Nothing while our own source is asked for a chunk.
    until: Option<Instant>,
}

/// `chunks`, which are `size` bytes, and who watches them move; `start` is the limit for the first chunk to be asked for.
pub(crate) fn watch(chunks: Chunks, size: u64, start: Duration, limits: Limits) -> (Timed, Watch) {
    let waiting = Arc::new(Mutex::new(Waiting { limit: start, until: Some(Instant::now() + start) }));
    (Timed { inner: chunks, left: size, waiting: waiting.clone(), limits }, Watch { waiting, limits })
}

impl Watch {
    /// Returns the limit that has passed; the request should be dropped then.
    pub(crate) async fn stalled(self) -> Duration {
        loop {
            let Waiting { limit, until } = *self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            match until {
                Some(until) if Instant::now() >= until => return limit,
                Some(until) => tokio::time::sleep_until(until).await,
                // Our own source is slow; look again later.
                None => tokio::time::sleep(self.limits.chunk).await,
            }
        }
    }
}

/// Chunks that note when they are handed on.
pub(crate) struct Timed {
    inner: Chunks,
    /// Bytes that are still to come.
    left: u64,
    waiting: Arc<Mutex<Waiting>>,
    limits: Limits,
}

impl Stream for Timed {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let this = self.get_mut();
        let next = this.inner.as_mut().poll_next(context);
        if let Poll::Ready(Some(Ok(chunk))) = &next {
            this.left = this.left.saturating_sub(chunk.len() as u64);
        }
        let limit = match &next {
            Poll::Pending => None,
            // hyper asks for no chunk after the last one of a body whose length it knows.
            Poll::Ready(Some(_)) if this.left > 0 => Some(this.limits.chunk),
            Poll::Ready(_) => Some(this.limits.answer),
        };
        let waiting =
            Waiting { limit: limit.unwrap_or(this.limits.chunk), until: limit.map(|limit| Instant::now() + limit) };
        *this.waiting.lock().unwrap_or_else(PoisonError::into_inner) = waiting;
        next
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};

    use super::*;

    #[tokio::test]
    async fn the_limit_for_the_answer_applies_from_the_last_byte_on() {
        let chunks = stream::iter([Ok(Bytes::from_static(b"abc")), Ok(Bytes::from_static(b"def"))]).boxed();
        let [start, chunk, answer] = [70, 60, 600].map(Duration::from_secs);
        let (mut timed, watch) = watch(chunks, 6, start, Limits { chunk, answer });
        let limit = || watch.waiting.lock().expect("not poisoned").limit;
        assert_eq!(limit(), start);
        for expected in [chunk, answer] {
            timed.next().await.expect("a chunk").expect("bytes");
            assert_eq!(limit(), expected);
        }
    }
}
