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

use crate::error::Result;
use crate::place::Chunks;

/// The two time limits of a request with a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For a chunk to be taken by the connection.
    pub(super) chunk: Duration,
    /// For the answer, once the last chunk is taken.
    pub(super) answer: Duration,
}

/// Ends when the upload stalls.
pub(super) struct Watch {
    deadline: Arc<Mutex<Option<Instant>>>,
    limits: Limits,
}

/// `chunks`, and who watches them move; `start` is the limit for the first chunk to be asked for.
pub(super) fn watch(chunks: Chunks, start: Duration, limits: Limits) -> (Timed, Watch) {
    let deadline = Arc::new(Mutex::new(Some(Instant::now() + start)));
    (Timed { inner: chunks, deadline: deadline.clone(), limits }, Watch { deadline, limits })
}

impl Watch {
    /// Returns when a limit is passed; the request should be dropped then.
    pub(super) async fn stalled(self) {
        loop {
            let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
            match deadline {
                Some(deadline) if Instant::now() >= deadline => return,
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                // Our own source is slow; look again later.
                None => tokio::time::sleep(self.limits.chunk).await,
            }
        }
    }
}

/// Chunks that note when they are handed on.
pub(super) struct Timed {
    inner: Chunks,
    deadline: Arc<Mutex<Option<Instant>>>,
    limits: Limits,
}

impl Stream for Timed {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let this = self.get_mut();
        let next = this.inner.as_mut().poll_next(context);
        let limit = match &next {
            Poll::Pending => None,
            Poll::Ready(Some(_)) => Some(this.limits.chunk),
            Poll::Ready(None) => Some(this.limits.answer),
        };
        *this.deadline.lock().unwrap_or_else(PoisonError::into_inner) = limit.map(|limit| Instant::now() + limit);
        next
    }
}
