//! What keeps a host from being asked too much: how many requests are under way, when the next may begin, and how many
//! bytes pass a second.
//!
//! Knows no request. Everyone who asks a host goes through its one [`Gate`], so that all slow down when one is told to.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::retry;

/// One host's gate.
///
/// At most `limit` requests of each [`Lane`] are under way. A refusal for being too many (429, 503) halves the limit and
/// closes the gate for everyone for as long as the server asks for; each `limit` answers after that raise it by one
/// (additive increase, multiplicative decrease, as TCP does it).
#[derive(Debug)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Notify,
    most: usize,
    /// The pause after a refusal that names none; each further one is twice as long.
    pause: Duration,
}

/// Which requests are counted together. A request with a body may wait for what it reads, so whoever reads must never
/// wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// GET and HEAD.
    Read,
    /// What may have a body.
    Write,
}

/// Whether a request waits for others to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// In line.
    Waits,
    /// It goes on with what someone holding a place elsewhere is waiting for: only a pause keeps it.
    GoesOn,
}

/// Leave to have a request under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Arc<Gate>,
    lane: Lane,
    begun: Instant,
}

#[derive(Debug)]
struct State {
    limit: usize,
    under_way: [usize; 2],
    /// Answers since the limit was last changed.
    answers: usize,
    closed_until: Option<Instant>,
    /// When the limit was last halved: requests that were under way then say nothing new.
    shrunk: Option<Instant>,
    /// Refusals in a row.
    strikes: u32,
}

impl Gate {
    /// For at most `most` requests of a lane; `pause` follows a refusal that names none.
    pub(super) fn new(most: usize, pause: Duration) -> Self {
        let most = most.max(1);
        let state = State { limit: most, under_way: [0; 2], answers: 0, closed_until: None, shrunk: None, strikes: 0 };
        Gate { state: Mutex::new(state), changed: Notify::new(), most, pause }
    }

    /// Waits until a request may begin.
    pub(super) async fn enter(self: &Arc<Self>, lane: Lane, turn: Turn) -> Permit {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Before looking, so that nothing is missed in between.
            changed.as_mut().enable();
            let closed_until = {
                let mut state = self.state();
                let now = Instant::now();
                match state.closed_until {
                    Some(until) if until > now => Some(until),
                    _ if turn == Turn::GoesOn || state.under_way[lane as usize] < state.limit => {
                        state.under_way[lane as usize] += 1;
                        return Permit { gate: self.clone(), lane, begun: now };
                    }
                    _ => None,
                }
            };
            match closed_until {
                Some(until) => sleep_until(until).await,
                None => changed.await,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The host answered as it should, whatever it said.
    pub(super) fn answered(&self) {
        let mut state = self.gate.state();
        state.strikes = 0;
        state.answers += 1;
        if state.limit < self.gate.most && state.answers >= state.limit {
            state.limit += 1;
            state.answers = 0;
            tracing::debug!(limit = state.limit, "more requests at once");
            drop(state);
            self.gate.changed.notify_waiters();
        }
    }

    /// The host has had too much; `asked` is the pause that it wants.
    pub(super) fn refused(&self, asked: Option<Duration>) {
        let mut state = self.gate.state();
        let now = Instant::now();
        if state.shrunk.is_none_or(|shrunk| self.begun > shrunk) {
            state.limit = (state.limit / 2).max(1);
            state.answers = 0;
            state.shrunk = Some(now);
            state.strikes += 1;
        }
        let own = self.gate.pause.saturating_mul(1 << state.strikes.saturating_sub(1).min(16)).min(MAX_PAUSE);
        // Whoever is told to wait for longer gives up, and so may the others, each at once.
        if asked.is_none_or(|asked| asked <= retry::MAX_ASKED) {
            let until = now + asked.unwrap_or(own);
            state.closed_until = Some(state.closed_until.map_or(until, |already| already.max(until)));
        }
        tracing::debug!(limit = state.limit, ?asked, "fewer requests at once");
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.state().under_way[self.lane as usize] -= 1;
        self.gate.changed.notify_waiters();
    }
}

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
    pub(super) async fn take(&self, bytes: usize) {
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

/// Pauses of our own end their growth here.
const MAX_PAUSE: Duration = Duration::from_secs(30);
const BURST: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    const STEP: Duration = Duration::from_millis(100);

    async fn enters(gate: &Arc<Gate>, lane: Lane) -> Option<Permit> {
        timeout(Duration::from_millis(5), gate.enter(lane, Turn::Waits)).await.ok()
    }

    /// Whether so many steps have passed on the test's clock, which counts milliseconds.
    fn took(since: Instant, steps: u32) -> bool {
        let milliseconds = since.elapsed().as_millis();
        (u128::from(steps) * STEP.as_millis()..=u128::from(steps) * STEP.as_millis() + 1).contains(&milliseconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_halves_what_is_under_way_once_and_answers_raise_it_again() {
        let gate = Arc::new(Gate::new(8, STEP));
        let mut permits = Vec::new();
        for _ in 0..8 {
            permits.push(gate.enter(Lane::Read, Turn::Waits).await);
        }
        assert!(enters(&gate, Lane::Read).await.is_none());
        // All eight are refused: that is one piece of news.
        permits.iter().for_each(|permit| permit.refused(None));
        drop(permits);
        assert_eq!(gate.state().limit, 4);
        assert!(enters(&gate, Lane::Read).await.is_none(), "the gate is closed");
        sleep(STEP).await;
        for expected in [4, 4, 4, 5, 5, 5, 5, 5, 6] {
            let permit = enters(&gate, Lane::Read).await.expect("the gate is open");
            permit.answered();
            assert_eq!(gate.state().limit, expected);
        }
        for _ in 0..100 {
            enters(&gate, Lane::Write).await.expect("open").answered();
        }
        assert_eq!(gate.state().limit, 8);
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_that_is_asked_for_holds_for_everyone_and_our_own_grows() {
        let gate = Arc::new(Gate::new(2, STEP));
        gate.enter(Lane::Read, Turn::Waits).await.refused(Some(5 * STEP));
        let before = Instant::now();
        let (one, two) = tokio::join!(gate.enter(Lane::Read, Turn::Waits), gate.enter(Lane::Write, Turn::GoesOn));
        assert!(took(before, 5), "{:?}", before.elapsed());
        drop((one, two));
        for pause in [2, 4, 8] {
            gate.enter(Lane::Read, Turn::Waits).await.refused(None);
            let before = Instant::now();
            drop(gate.enter(Lane::Read, Turn::Waits).await);
            assert!(took(before, pause), "{:?}", before.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_and_what_writes_do_not_wait_for_readers() {
        let gate = Arc::new(Gate::new(1, STEP));
        let reader = gate.enter(Lane::Read, Turn::Waits).await;
        assert!(enters(&gate, Lane::Read).await.is_none());
        assert!(enters(&gate, Lane::Write).await.is_some());
        assert!(timeout(STEP, gate.enter(Lane::Read, Turn::GoesOn)).await.is_ok());
        let (waited, ()) = tokio::join!(timeout(STEP, gate.enter(Lane::Read, Turn::Waits)), async { drop(reader) });
        assert!(waited.is_ok(), "the next one enters when one leaves");
    }

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
