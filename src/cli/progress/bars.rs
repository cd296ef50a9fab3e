//! A status on a terminal: a line for the run, and one for each large blob under way.
//!
//! Events only count. A thread of its own draws, a few times a second, whatever happens meanwhile: so the draw rate
//! is bounded, a stall shows, and no event waits for the terminal.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::line;
use super::tally::{Moving, Tally, clock, percent};
use crate::cli::output::human_size;
use crate::cli::stderr::{draw_status, note};
use crate::progress::{Event, Progress};

pub(crate) struct Bars {
    verbose: bool,
    look: Look,
    tally: Mutex<Tally>,
}

impl Bars {
    pub(crate) fn start(verbose: bool) -> Arc<Self> {
        let bars =
            Arc::new(Bars { verbose, look: Look::of_environment(), tally: Mutex::new(Tally::new(Instant::now())) });
        let drawn = Arc::downgrade(&bars);
        // Ends with the run, or with the process.
        std::thread::spawn(move || draw_until_dropped(&drawn));
        bars
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Bars {
    fn event(&self, event: Event<'_>) {
        let line = line(&event, self.verbose);
        self.lock().take(&event, Instant::now());
        if let Some(line) = line {
            note(&line);
        }
    }
}

fn draw_until_dropped(bars: &Weak<Bars>) {
    loop {
        std::thread::sleep(PAUSE);
        let Some(bars) = bars.upgrade() else { return };
        let tally = bars.lock();
        if tally.blobs > 0 && !tally.is_over() {
            draw_status(&lines(&tally, Instant::now(), terminal_size(), bars.look));
        }
    }
}

/// The lines, each narrower than the terminal (columns, rows): the last column stays free, or some terminals wrap.
fn lines(tally: &Tally, now: Instant, (columns, rows): (usize, usize), look: Look) -> Vec<String> {
    let width = columns.saturating_sub(1).max(1);
    let mut lines = vec![run_line(tally, now, width, look)];
    let large = tally.moving.iter().filter(|blob| blob.size >= LARGE);
    // Half of the terminal stays for what was said.
    lines.extend(large.take((rows / 2).saturating_sub(1).min(MOST)).map(|blob| blob_line(blob, width, look)));
    lines
}

fn run_line(tally: &Tally, now: Instant, width: usize, look: Look) -> String {
    if tally.blobs_done >= tally.blobs {
        let text = format!("100 %  all blobs are there; {} of {} images in place", tally.landed, tally.images);
        return cut(text, width);
    }
    let left = tally.left(now).map_or("-:--".to_owned(), clock);
    // Numbers keep their width as they grow, so that the bar keeps its own.
    let total = human_size(tally.bytes);
    let text = format!(
        "{:>wide$} of {total}  {:>8}/s  {left:>4} left  {}/{} blobs",
        human_size(tally.bytes_done.min(tally.bytes)),
        human_size(tally.rate(now)),
        tally.blobs_done,
        tally.blobs,
        wide = total.len(),
    );
    with_bar(&format!("{:3} %", tally.percent()), &text, tally.bytes_done, tally.bytes, width, look)
}

fn blob_line(blob: &Moving, width: usize, look: Look) -> String {
    let (done, size) = (human_size(blob.done.min(blob.size)), human_size(blob.size));
    let text = format!("{done:>9} of {size:>9}  {}", blob.digest.short());
    with_bar(&format!("{:3} %", percent(blob.done, blob.size)), &text, blob.done, blob.size, width, look)
}

/// `before [####----] after`, the bar as wide as there is room, and no bar where there is none.
fn with_bar(before: &str, after: &str, done: u64, of: u64, width: usize, look: Look) -> String {
    let room = width.saturating_sub(before.len() + after.len() + 3).min(WIDEST_BAR);
    if room < NARROWEST_BAR {
        return cut(format!("{before}  {after}"), width);
    }
    let full = (percent(done, of) as usize * room) / 100;
    format!("{before} {}  {after}", look.bar(full, room - full))
}

/// Everything here is ASCII.
fn cut(mut text: String, width: usize) -> String {
    text.truncate(width);
    text
}

/// What the terminal can show, and what its user wants to see.
#[derive(Debug, Clone, Copy)]
struct Look {
    colours: bool,
    blocks: bool,
}

impl Look {
    fn of_environment() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(text).unwrap_or_default().to_uppercase();
        // https://no-color.org
        Look { colours: text("NO_COLOR").is_none(), blocks: locale.contains("UTF-8") || locale.contains("UTF8") }
    }

    fn bar(self, full: usize, rest: usize) -> String {
        let (done, left) = if self.blocks { ("━", "─") } else { ("#", "-") };
        let (done, left) = (done.repeat(full), left.repeat(rest));
        match self.colours {
            true => format!("\u{1b}[36m{done}\u{1b}[39m\u{1b}[2m{left}\u{1b}[22m"),
            false => format!("{done}{left}"),
        }
    }
}

fn terminal_size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

/// Blobs from this size on, 32 MiB, have a line of their own.
const LARGE: u64 = 32 << 20;
/// Lines for blobs at most.
const MOST: usize = 8;
const WIDEST_BAR: usize = 40;
const NARROWEST_BAR: usize = 5;
const PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;
    use rstest::rstest;

    #[rstest]
    fn no_line_reaches_the_last_column(#[values(1, 20, 40, 80, 200)] columns: usize, #[values(2, 24)] rows: usize) {
        let start = Instant::now();
        let mut tally = Tally::new(start);
        let planned = Event::Planned { images: 12_345, blobs: 123_456, bytes: 1023 << 40 };
        tally.take(&planned, start);
        for n in 0..20u8 {
            let digest = Digest::of(&[n]);
            tally.take(&Event::BlobStarted { digest, size: 1023 << 30 }, start);
            tally.take(&Event::BlobBytes { digest, bytes: 1023 << 20 }, start + Duration::from_secs(1));
        }
        let look = Look { colours: false, blocks: true };
        let drawn = lines(&tally, start + Duration::from_secs(2), (columns, rows), look);
        assert!(drawn.len() <= rows.max(2) / 2 && !drawn.is_empty(), "{drawn:#?}");
        for line in drawn {
            assert!(line.chars().count() < columns.max(2), "{line:?}");
        }
    }

    #[test]
    fn the_line_of_a_run_says_bytes_rate_time_left_and_blobs() {
        let start = Instant::now();
        let mut tally = Tally::new(start);
        tally.take(&Event::Planned { images: 1, blobs: 7, bytes: 300 << 20 }, start);
        let digest = Digest::of(b"x");
        tally.take(&Event::BlobStarted { digest, size: 300 << 20 }, start);
        tally.take(&Event::BlobBytes { digest, bytes: 60 << 20 }, start + Duration::from_secs(4));
        let look = Look { colours: false, blocks: false };
        let drawn = lines(&tally, start + Duration::from_secs(6), (80, 24), look);
        let expected = [
            " 20 % ###------------   60.0 MiB of 300.0 MiB  10.0 MiB/s  0:24 left  0/7 blobs".to_owned(),
            format!(" 20 % #######----------------------------   60.0 MiB of 300.0 MiB  {}", digest.short()),
        ];
        assert_eq!(drawn, expected);
    }
}
