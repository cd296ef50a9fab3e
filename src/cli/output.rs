//! Words on the terminal: errors, sizes, and the guard that keeps control characters of strangers off it.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};

use serde::Serialize;

use super::escape::escape_json;
use super::stderr;
pub(super) use super::stderr::{note, print_error, print_hint, print_plain};
use crate::error::{Error, Result};
use crate::text::secrets;

/// Data on stdout, as it is.
pub(super) fn print_data(text: &str) -> Result<()> {
    stderr::clear_status();
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

/// Data on stdout, as indented JSON.
pub(super) fn print_json(value: &impl Serialize) -> Result<()> {
    stderr::clear_status();
    let failed = |e| Error::io("cannot write to stdout", e);
    let mut stdout = BufWriter::new(io::stdout().lock());
    // Written as it is made: the text of 10,000 images would be several megabytes, twice.
    serde_json::to_writer_pretty(EscapedJson(&mut stdout), value).map_err(|e| failed(e.into()))?;
    stdout.write_all(b"\n").and_then(|()| stdout.flush()).map_err(failed)
}

/// JSON text on its way, written with [`escape_json`].
struct EscapedJson<W>(W);

impl<W: Write> Write for EscapedJson<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // serde_json writes whole texts, so no character is in two parts.
        let text = std::str::from_utf8(bytes).map_err(io::Error::other)?;
        self.0.write_all(escape_json(text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
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

/// Enters the secrets in the program's arguments into their registry: errors about arguments repeat them. These are
/// logins in front of hosts, and the values of options whose names say so, right or misspelt.
pub(super) fn remember_secrets(arguments: impl Iterator<Item = OsString>) {
    let mut is_secret = false;
    for argument in arguments {
        let argument = argument.to_string_lossy();
        secrets::remember_logins_in(&argument);
        let (option, value) = match argument.split_once('=').filter(|_| argument.starts_with("--")) {
            Some((option, value)) => (option, Some(value)),
            None => (&*argument, None),
        };
        let takes_value = !option.ends_with("-stdin") && !option.contains("no-");
        let names_secret =
            option.starts_with("--") && takes_value && SECRET_OPTIONS.iter().any(|part| option.contains(part));
        for value in value.filter(|_| names_secret).into_iter().chain(is_secret.then_some(&*argument)) {
            match value.split_once(':') {
                Some((user, password)) => secrets::remember_login(user, password),
                None => secrets::remember(value),
            }
        }
        is_secret = names_secret && value.is_none();
    }
}

/// Parts of the names of options that have a secret as their value.
const SECRET_OPTIONS: [&str; 4] = ["cred", "pass", "token", "secret"];

/// Diagnostics for `-vv`, without the secrets that are known.
pub(super) fn init_tracing(verbose: u8) {
    if verbose >= 2 {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::new("sealift=debug"))
            .with_writer(|| Redacting)
            .with_ansi(false)
            .init();
    }
}

/// Stderr without the secrets that are known. An event is one write.
struct Redacting;

impl Write for Redacting {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(secrets::redact(&String::from_utf8_lossy(buffer)).as_bytes())?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::escape::{escape_controls, json_line};
    use serde_json::Value;

    #[test]
    fn control_characters_of_strangers_do_not_reach_the_terminal() {
        assert_eq!(escape_json("{\"a\": \"\u{9b}2J\u{202e}\"}\n"), "{\"a\": \"\\u009b2J\\u202e\"}\n");
        assert_eq!(escape_controls("a\u{1b}[2Jb\r\nc\u{202e}"), "a\\u{1b}[2Jb\\u{d}\nc\\u{202e}");
    }

    #[test]
    fn json_with_control_characters_is_escaped_and_stays_the_same_json() {
        let value = serde_json::json!({"a\u{9b}2J": "b\u{202e}\n\u{1b}c\u{e0041}"});
        let line = json_line(&value);
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }

    #[test]
    fn json_that_is_written_as_it_is_made_is_escaped_too() {
        let value = serde_json::json!({"a\u{9b}2J": ["\u{202e}\n\u{1b}", {"\u{e0041}": "\u{1f6a2}\"x"}]});
        let mut written = Vec::new();
        serde_json::to_writer_pretty(EscapedJson(&mut written), &value).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), escape_json(&format!("{value:#}")));
    }

    #[test]
    fn sizes_are_readable() {
        let texts = [0, 1023, 1024, 1 << 20, 5 << 30].map(human_size);
        assert_eq!(texts, ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "5.0 GiB"]);
    }
}
