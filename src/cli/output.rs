//! Words on the terminal: errors, sizes, and the guard that keeps control characters of strangers off it.

use std::fmt::Write as _;
use std::io::{self, Write};

use crate::error::{Error, Result};

/// `error: ...` and `hint: ...` lines on stderr.
pub(super) fn print_error(error: &Error) {
    let mut text = format!("error: {}\n", error.chain());
    for hint in error.hints() {
        let _ = writeln!(text, "hint: {hint}");
    }
    if let Some((end, _)) = text.char_indices().nth(LONGEST_ERROR) {
        text.truncate(end);
        text.push_str("...\n");
    }
    // Nobody is left to tell if stderr is closed.
    let _ = io::stderr().write_all(escape_controls(&text).as_bytes());
}

/// In characters: what goes wrong with a stranger's content may repeat that content.
const LONGEST_ERROR: usize = 16 << 10;

/// A line on stderr.
pub(super) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{}", escape_controls(line));
}

/// Data on stdout, as it is.
pub(super) fn print_data(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|e| Error::io("cannot write to stdout", e))
}

/// Whether the reader of stdout went away (`| head`), which is no failure.
pub(super) fn is_broken_pipe(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|source| source.kind() == io::ErrorKind::BrokenPipe)
        && error.to_string().contains("stdout")
}

/// Control characters other than line feeds, and characters that reorder text, become visible escapes: text from a
/// bundle or a server must not drive the terminal.
pub(super) fn escape_controls(text: &str) -> String {
    escape(text, |plain, c| plain.extend(c.escape_unicode()))
}

/// The same for a JSON text, which stays the same JSON: what it escapes can only stand inside of strings.
pub(super) fn escape_json(text: &str) -> String {
    // All of these are below U+10000: one escape each.
    escape(text, |plain, c| *plain += &format!("\\u{:04x}", u32::from(c)))
}

fn escape(text: &str, put: impl Fn(&mut String, char)) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if (c.is_control() && c != '\n') || reorders {
            put(&mut plain, c);
        } else {
            plain.push(c);
        }
    }
    plain
}

/// A size for people, in powers of 1024.
pub(super) fn human_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1023.95 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// Diagnostics for `-vv`; never secrets, which types keep out of every message.
pub(super) fn init_tracing(verbose: u8) {
    if verbose >= 2 {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::new("sealift=debug"))
            .with_writer(io::stderr)
            .with_ansi(false)
            .init();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_strangers_do_not_reach_the_terminal() {
        assert_eq!(escape_json("{\"a\": \"\u{9b}2J\u{202e}\"}\n"), "{\"a\": \"\\u009b2J\\u202e\"}\n");
        assert_eq!(escape_controls("a\u{1b}[2Jb\r\nc\u{202e}"), "a\\u{1b}[2Jb\\u{d}\nc\\u{202e}");
    }

    #[test]
    fn sizes_are_readable() {
        let texts = [0, 1023, 1024, 1 << 20, 5 << 30].map(human_size);
        assert_eq!(texts, ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "5.0 GiB"]);
    }
}
