//! Progress as plain lines on stderr, readable in a log.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::output::{human_size, note};
use crate::progress::{Event, How, Progress};

/// One line every few seconds while bytes move; with `verbose` one for each blob and image.
pub(super) struct Plain {
    verbose: bool,
    state: Mutex<State>,
}

struct State {
    started: Instant,
    spoken: Instant,
    blobs: usize,
    blobs_done: usize,
    bytes: u64,
    bytes_done: u64,
}

impl Plain {
    pub(super) fn new(verbose: bool) -> Self {
        let now = Instant::now();
        let state = State { started: now, spoken: now, blobs: 0, blobs_done: 0, bytes: 0, bytes_done: 0 };
        Plain { verbose, state: Mutex::new(state) }
    }
}

impl Progress for Plain {
    fn event(&self, event: Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Planned { images, blobs, bytes } => {
                (state.blobs, state.bytes) = (blobs, bytes);
                note(&format!("{}, {}, {}", count(images, "image"), count(blobs, "blob"), human_size(bytes)));
            }
            Event::BlobStarted { .. } => {}
            Event::BlobBytes { bytes, .. } => {
                state.bytes_done += bytes;
                state.speak_now_and_then();
            }
            Event::BlobRewound { bytes, .. } => state.bytes_done = state.bytes_done.saturating_sub(bytes),
            Event::BlobDone { digest, size, how } => {
                state.blobs_done += 1;
                if how == How::AlreadyThere {
                    state.bytes_done += size;
                }
                if self.verbose {
                    let how = if how == How::AlreadyThere { "was there" } else { "done" };
                    note(&format!("blob {} {} {how}", digest.short(), human_size(size)));
                }
            }
            Event::Landed { name, digest } => {
                if self.verbose {
                    note(&format!("{name} {digest}"));
                }
            }
            Event::Retrying { what, after } => {
                note(&format!("{what}; trying again in {:.1} s", after.as_secs_f64()));
            }
            Event::Warning(text) => note(&format!("warning: {text}")),
        }
    }
}

impl State {
    fn speak_now_and_then(&mut self) {
        if self.spoken.elapsed() < PAUSE {
            return;
        }
        self.spoken = Instant::now();
        let rate = self.bytes_done as f64 / self.started.elapsed().as_secs_f64();
        let percent = (self.bytes_done * 100).checked_div(self.bytes).unwrap_or(100).min(100);
        note(&format!(
            "{percent:3} %  {} of {}  {}/{} blobs  {}/s",
            human_size(self.bytes_done),
            human_size(self.bytes),
            self.blobs_done,
            self.blobs,
            human_size(rate as u64)
        ));
    }
}

/// `1 image`, `2 images`.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

const PAUSE: Duration = Duration::from_secs(5);
