//! How many requests may be made for one image. A registry decides how many manifests and lists belong to an image, so
//! that one which lists referrers without end must not hold a run.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// The requests that are made for one image. A request is counted by the place that sends it ([`Allowance::take`]), for
/// the image of the task that asks for it ([`Allowance::pays_for`]).
#[derive(Debug)]
pub struct Allowance {
    limit: u64,
    used: AtomicU64,
}

impl Allowance {
    /// An allowance of `limit` requests.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Allowance { limit, used: AtomicU64::new(0) })
    }

    /// Runs `work`, whose requests are counted here.
    pub async fn pays_for<T>(self: &Arc<Self>, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self.clone(), work).await
    }

    /// Counts one request of the present task. Nothing is counted outside [`Allowance::pays_for`].
    ///
    /// # Errors
    /// `Registry` if the image has had all its requests.
    pub fn take() -> Result<()> {
        CURRENT.try_with(|allowance| allowance.count(1)).unwrap_or(Ok(()))
    }

    /// Refuses `more` requests that are too many, before any of them is made.
    ///
    /// # Errors
    /// As [`Allowance::take`]; then no other request is allowed either.
    pub fn check(&self, more: u64) -> Result<()> {
        match self.used.load(Ordering::Relaxed).saturating_add(more) > self.limit {
            true => self.count(self.limit.saturating_add(1)),
            false => Ok(()),
        }
    }

    /// Whether the image has asked for more requests than it may have.
    pub fn is_spent(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.limit
    }

    /// That it is spent.
    pub fn error(&self) -> Error {
        Error::registry(format!("it takes more than {} requests to read it and what refers to it", self.limit)).hint(
            "its registry lists very many signatures, SBOMs and attestations, perhaps without end: carry the image \
             without them (--no-referrers; sync: leave --referrers out), or allow more (--max-requests-per-image N)",
        )
    }

    fn count(&self, requests: u64) -> Result<()> {
        let add = |used: u64| Some(used.saturating_add(requests));
        let before = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).unwrap_or_default();
        if before.saturating_add(requests) > self.limit { Err(self.error()) } else { Ok(()) }
    }
}

tokio::task_local! {
    static CURRENT: Arc<Allowance>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_count_for_the_image_that_they_are_made_for() {
        let (one, other) = (Allowance::new(2), Allowance::new(1));
        assert!(Allowance::take().is_ok(), "nobody pays");
        let three = async { [Allowance::take().is_ok(), Allowance::take().is_ok(), Allowance::take().is_ok()] };
        assert_eq!(one.pays_for(three).await, [true, true, false]);
        assert!(one.is_spent() && !other.is_spent());
        assert!(other.check(1).is_ok() && other.pays_for(async { Allowance::take() }).await.is_ok());
        assert!(other.check(1).is_err() && other.is_spent());
    }
}
