//! Where a run stands, counted from its events.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::oci::Digest;
use crate::progress::{Event, TransferKind};

/// Counts of the run that the last `Planned` began.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) images: usize,
    pub(super) landed: usize,
    pub(super) blobs: usize,
    pub(super) blobs_done: usize,
    pub(super) bytes: u64,
    pub(super) bytes_done: u64,
    /// Under way: in the order in which they began.
    pub(super) moving: Vec<Moving>,
    pace: Pace,
}

/// A blob under way.
#[derive(Debug)]
pub(super) struct Moving {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) done: u64,
}

impl Tally {
    pub(super) fn new(now: Instant) -> Self {
        Tally {
            images: 0,
            landed: 0,
            blobs: 0,
            blobs_done: 0,
            bytes: 0,
            bytes_done: 0,
            moving: Vec::new(),
            pace: Pace::new(now),
        }
    }

    pub(super) fn take(&mut self, event: &Event<'_>, now: Instant) {
        match *event {
            Event::Planned { images, blobs, bytes } => *self = Tally { images, blobs, bytes, ..Tally::new(now) },
            Event::BlobStarted { digest, size } => {
                self.end(digest);
                self.moving.push(Moving { digest, size, done: 0 });
            }
            Event::BlobBytes { digest, bytes } => {
                self.bytes_done += bytes;
                self.pace.record(now, bytes);
                if let Some(blob) = self.moving.iter_mut().find(|blob| blob.digest == digest) {
                    blob.done += bytes;
                }
            }
            Event::BlobRewound { digest, bytes } => {
                self.bytes_done = self.bytes_done.saturating_sub(bytes);
                if let Some(blob) = self.moving.iter_mut().find(|blob| blob.digest == digest) {
                    blob.done = blob.done.saturating_sub(bytes);
                }
            }
            Event::BlobDone { digest, size, how } => {
                self.blobs_done += 1;
                if how == TransferKind::AlreadyThere {
                    self.bytes_done += size;
                }
                self.end(digest);
            }
            Event::BlobFailed { digest } => self.end(digest),
            Event::Landed { .. } => self.landed += 1,
            Event::ReadBack { .. } | Event::Retrying { .. } | Event::Warning(_) => {}
        }
    }

    /// Whether everything is in place; what follows is not the status's business.
    pub(super) fn is_over(&self) -> bool {
        self.blobs_done >= self.blobs && self.landed >= self.images
    }

    /// Whole percents of the bytes, at most 100.
    pub(super) fn percent(&self) -> u64 {
        percent(self.bytes_done, self.bytes)
    }

    /// Bytes a second, lately.
    pub(super) fn rate(&self, now: Instant) -> u64 {
        self.pace.rate(now)
    }

    /// How long the rest takes at this rate; nothing if that cannot be known.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.bytes.saturating_sub(self.bytes_done);
        match self.rate(now) {
            _ if left == 0 => Some(Duration::ZERO),
            0 => None,
            rate => Some(Duration::from_secs(left.div_ceil(rate))).filter(|left| *left < LONGEST),
        }
    }

    fn end(&mut self, digest: Digest) {
        self.moving.retain(|blob| blob.digest != digest);
    }
}

pub(super) fn percent(done: u64, of: u64) -> u64 {
    (u128::from(done) * 100).checked_div(u128::from(of)).map_or(100, |percent| percent.min(100) as u64)
}

/// `0:09`, `12:34`, `1:02:03`
pub(super) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// The rate of the last few seconds: what was there already, or came before a stall, says nothing of what is to come.
#[derive(Debug)]
struct Pace {
    total: u64,
    /// Ever later, with the total at that time.
    samples: VecDeque<(Instant, u64)>,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Pace { total: 0, samples: VecDeque::from([(now, 0)]) }
    }

    fn record(&mut self, now: Instant, bytes: u64) {
        if self.samples.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= SAMPLE) {
            self.samples.push_back((now, self.total));
        }
        self.total += bytes;
        while self.samples.len() > 2 && now.saturating_duration_since(self.samples[1].0) >= WINDOW {
            self.samples.pop_front();
        }
    }

    fn rate(&self, now: Instant) -> u64 {
        let since = self.samples.iter().find(|(at, _)| now.saturating_duration_since(*at) <= WINDOW);
        let Some((at, before)) = since else { return 0 };
        let seconds = now.saturating_duration_since(*at).as_secs_f64().max(SAMPLE.as_secs_f64());
        ((self.total - before) as f64 / seconds) as u64
    }
}

const SAMPLE: Duration = Duration::from_millis(200);
const WINDOW: Duration = Duration::from_secs(10);
/// Beyond it a time left is no information.
const LONGEST: Duration = Duration::from_secs(100 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    #[test]
    fn what_was_there_already_counts_as_done_and_not_as_speed() {
        let start = Instant::now();
        let mut tally = Tally::new(start);
        tally.take(&Event::Planned { images: 1, blobs: 2, bytes: 2_000_000 }, start);
        tally.take(&Event::BlobDone { digest: digest("a"), size: 1_000_000, how: TransferKind::AlreadyThere }, start);
        tally.take(&Event::BlobStarted { digest: digest("b"), size: 1_000_000 }, start);
        for second in 1..=5 {
            let now = start + Duration::from_secs(second);
            tally.take(&Event::BlobBytes { digest: digest("b"), bytes: 100_000 }, now);
        }
        let now = start + Duration::from_secs(5);
        assert_eq!((tally.percent(), tally.rate(now)), (75, 100_000));
        assert_eq!(tally.left(now), Some(Duration::from_secs(5)));
        tally.take(&Event::BlobRewound { digest: digest("b"), bytes: 500_000 }, now);
        assert_eq!((tally.percent(), tally.moving[0].done), (50, 0));
    }

    #[test]
    fn a_stall_is_seen_in_the_rate() {
        let start = Instant::now();
        let mut tally = Tally::new(start);
        tally.take(&Event::Planned { images: 1, blobs: 1, bytes: 100 << 20 }, start);
        tally.take(&Event::BlobBytes { digest: digest("b"), bytes: 1 << 20 }, start + Duration::from_secs(1));
        let later = start + Duration::from_secs(60);
        assert_eq!((tally.rate(later), tally.left(later)), (0, None));
    }

    #[test]
    fn times_read_as_on_a_clock() {
        let texts = [0, 9, 754, 3723].map(|seconds| clock(Duration::from_secs(seconds)));
        assert_eq!(texts, ["0:00", "0:09", "12:34", "1:02:03"]);
    }
}
