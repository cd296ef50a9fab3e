//! How many bytes pass a second.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// So many bytes of bodies a second, both ways together, for everyone who shares it.
#[derive(Debug)]
pub struct Rate {
    per_second: f64,
    /// Up to when what has passed is paid for.
    paid_until: Mutex<Instant>,
}

impl Rate {
    /// So many bytes a second.
    pub fn new(per_second: NonZeroU64) -> Self {
        Rate { per_second: per_second.get() as f64, paid_until: Mutex::new(Instant::now()) }
    }

    /// Waits until `bytes` more may pass. A line that was idle for a moment may make up for a quarter of a second.
    pub(crate) async fn take(&self, bytes: usize) {
        let cost = Duration::from_secs_f64(bytes as f64 / self.per_second);
        let now = Instant::now();
        let until = {
            let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
            *paid_until = (*paid_until).max(now.checked_sub(BURST).unwrap_or(now)) + cost;
            *paid_until
        };
        if until > now {
            sleep(until - now).await;
        }
    }
}

const BURST: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_at_the_rate_whoever_sends_them() {
        let rate = Rate::new(NonZeroU64::new(10_000).expect("not zero"));
        let before = Instant::now();
        tokio::join!(
            async {
                for _ in 0..10 {
                    rate.take(500).await;
                }
            },
            rate.take(5000)
        );
        let took = before.elapsed().as_millis();
        assert!((700..=2000).contains(&took), "{took}");
    }
}
