//! What keeps a host from being asked too much: how many requests are under way, when the next may begin, and how many
//! bytes pass a second.
//!
//! Knows no request. Everyone who asks a host goes through its one [`ConcurrencyLimiter`], so that all slow down when one is told to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::retry;

/// One host's gate.
///
/// At most `limit` requests of each [`Direction`] are under way. A refusal for being too many (429, 503) halves the limit and
/// closes the gate for everyone for as long as the server asks for; each `limit` answers after that raise it by one
/// (additive increase, multiplicative decrease, as TCP does it).
#[derive(Debug)]
pub(crate) struct ConcurrencyLimiter {
    state: Mutex<State>,
    changed: Notify,
    most: usize,
    /// The pause after a refusal that names none; each further one is twice as long.
    pause: Duration,
}

/// Which requests are counted together. A request with a body may wait for what it reads, so whoever reads must never
/// wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// GET and HEAD.
    Read,
    /// What may have a body.
    Write,
}

/// Whether a request waits for others to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// In line.
    Waits,
    /// It goes on with what someone holding a place elsewhere is waiting for: only a pause keeps it.
    GoesOn,
}

/// Leave to have a request under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Arc<ConcurrencyLimiter>,
    lane: Direction,
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

impl ConcurrencyLimiter {
    /// For at most `most` requests of a lane; `pause` follows a refusal that names none.
    pub(crate) fn new(most: usize, pause: Duration) -> Self {
        let most = most.max(1);
        let state = State { limit: most, under_way: [0; 2], answers: 0, closed_until: None, shrunk: None, strikes: 0 };
        ConcurrencyLimiter { state: Mutex::new(state), changed: Notify::new(), most, pause }
    }

    /// Waits until a request may begin.
    pub(crate) async fn enter(self: &Arc<Self>, lane: Direction, turn: Priority) -> Permit {
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
                    _ if turn == Priority::GoesOn || state.under_way[lane as usize] < state.limit => {
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
    pub(crate) fn answered(&self) {
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
    pub(crate) fn refused(&self, asked: Option<Duration>) {
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

/// Pauses of our own end their growth here.
const MAX_PAUSE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{sleep, timeout};

    const STEP: Duration = Duration::from_millis(100);

    async fn enters(gate: &Arc<ConcurrencyLimiter>, lane: Direction) -> Option<Permit> {
        timeout(Duration::from_millis(5), gate.enter(lane, Priority::Waits)).await.ok()
    }

    /// Whether so many steps have passed on the test's clock, which counts milliseconds.
    fn took(since: Instant, steps: u32) -> bool {
        let milliseconds = since.elapsed().as_millis();
        (u128::from(steps) * STEP.as_millis()..=u128::from(steps) * STEP.as_millis() + 1).contains(&milliseconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_halves_what_is_under_way_once_and_answers_raise_it_again() {
        let gate = Arc::new(ConcurrencyLimiter::new(8, STEP));
        let mut permits = Vec::new();
        for _ in 0..8 {
            permits.push(gate.enter(Direction::Read, Priority::Waits).await);
        }
        assert!(enters(&gate, Direction::Read).await.is_none());
        // All eight are refused: that is one piece of news.
        permits.iter().for_each(|permit| permit.refused(None));
        drop(permits);
        assert_eq!(gate.state().limit, 4);
        assert!(enters(&gate, Direction::Read).await.is_none(), "the gate is closed");
        sleep(STEP).await;
        for expected in [4, 4, 4, 5, 5, 5, 5, 5, 6] {
            let permit = enters(&gate, Direction::Read).await.expect("the gate is open");
            permit.answered();
            assert_eq!(gate.state().limit, expected);
        }
        for _ in 0..100 {
            enters(&gate, Direction::Write).await.expect("open").answered();
        }
        assert_eq!(gate.state().limit, 8);
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_that_is_asked_for_holds_for_everyone_and_our_own_grows() {
        let gate = Arc::new(ConcurrencyLimiter::new(2, STEP));
        gate.enter(Direction::Read, Priority::Waits).await.refused(Some(5 * STEP));
        let before = Instant::now();
        let (one, two) =
            tokio::join!(gate.enter(Direction::Read, Priority::Waits), gate.enter(Direction::Write, Priority::GoesOn));
        assert!(took(before, 5), "{:?}", before.elapsed());
        drop((one, two));
        for pause in [2, 4, 8] {
            gate.enter(Direction::Read, Priority::Waits).await.refused(None);
            let before = Instant::now();
            drop(gate.enter(Direction::Read, Priority::Waits).await);
            assert!(took(before, pause), "{:?}", before.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_and_what_writes_do_not_wait_for_readers() {
        let gate = Arc::new(ConcurrencyLimiter::new(1, STEP));
        let reader = gate.enter(Direction::Read, Priority::Waits).await;
        assert!(enters(&gate, Direction::Read).await.is_none());
        assert!(enters(&gate, Direction::Write).await.is_some());
        assert!(timeout(STEP, gate.enter(Direction::Read, Priority::GoesOn)).await.is_ok());
        let (waited, ()) =
            tokio::join!(timeout(STEP, gate.enter(Direction::Read, Priority::Waits)), async { drop(reader) });
        assert!(waited.is_ok(), "the next one enters when one leaves");
    }
}
