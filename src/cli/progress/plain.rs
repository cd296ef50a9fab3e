//! Plain lines, readable in a log: one every few seconds while bytes move.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::line;
use super::tally::{Tally, clock};
use crate::cli::output::human_size;
use crate::cli::stderr::note;
use crate::progress::{Event, Progress};

/// With `verbose` a line for each blob and image too.
pub(crate) struct Plain {
    verbose: bool,
    state: Mutex<State>,
}

struct State {
    tally: Tally,
    spoken: Instant,
}

impl Plain {
    pub(crate) fn new(verbose: bool) -> Self {
        let now = Instant::now();
        Plain { verbose, state: Mutex::new(State { tally: Tally::new(now), spoken: now }) }
    }
}

impl Progress for Plain {
    fn event(&self, event: Event<'_>) {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tally.take(&event, now);
        if let Some(line) = line(&event, self.verbose) {
            note(&line);
        }
        if matches!(event, Event::BlobBytes { .. }) && now.duration_since(state.spoken) >= PAUSE {
            state.spoken = now;
            note(&state_line(&state.tally, now));
        }
    }
}

/// ` 45 %  1.2 GiB of 2.7 GiB  3/7 blobs  12.0 MiB/s  2:08 left`
fn state_line(tally: &Tally, now: Instant) -> String {
    let left = tally.left(now).map(|left| format!("  {} left", clock(left))).unwrap_or_default();
    format!(
        "{:3} %  {} of {}  {}/{} blobs  {}/s{left}",
        tally.percent(),
        human_size(tally.bytes_done),
        human_size(tally.bytes),
        tally.blobs_done,
        tally.blobs,
        human_size(tally.rate(now)),
    )
}

const PAUSE: Duration = Duration::from_secs(5);
