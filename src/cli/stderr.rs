//! The one way to stderr. Lines and a status that is redrawn in place share the terminal here, so that a line never
//! lands in the middle of the status; with `--progress json` every line is an object.

use std::io::{self, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::escape::{escape_controls, json_line};
use super::exit_code::exit_code;
use crate::error::{Error, Kind};
use crate::text::one_line;
use crate::text::secrets::redact;

/// How stderr is written to; chosen once, before anything is said.
pub(super) enum StderrMode {
    /// Lines, for people and logs.
    Lines,
    /// Lines above a status that is redrawn.
    Status(Status),
    /// One JSON object a line.
    Json,
}

/// A few lines at the bottom of a terminal.
pub(super) struct Status {
    /// Owns the terminal's lines on behalf of `bar`.
    _screen: MultiProgress,
    bar: ProgressBar,
    /// How many lines are drawn.
    height: Mutex<usize>,
}

/// Chooses, for the whole process.
pub(super) fn set_voice(voice: StderrMode) {
    // It is called once, by `main`.
    let _ = VOICE.set(voice);
}

/// A line, whatever strangers wrote into it.
pub(super) fn note(line: &str) {
    let line = &*redact(line);
    match voice() {
        StderrMode::Lines => write(&format!("{}\n", one_line(line, usize::MAX))),
        StderrMode::Status(status) => status.print(&one_line(line, usize::MAX)),
        StderrMode::Json => event(&json!({"event": "note", "text": line})),
    }
}

/// An event for programs; nothing for people.
pub(super) fn event(value: &Value) {
    if let StderrMode::Json = voice() {
        write(&format!("{}\n", json_line(value)));
    }
}

/// How a run went: an event for programs, lines for people.
pub(super) fn summary(value: Value, lines: &str) {
    clear_status();
    match voice() {
        StderrMode::Json => {
            let mut object = json!({"event": "summary"});
            if let (Value::Object(object), Value::Object(fields)) = (&mut object, value) {
                object.extend(fields);
            }
            event(&object);
        }
        _ => lines.lines().for_each(note),
    }
}

/// `error: ...` and `hint: ...` lines, or an event.
pub(super) fn print_error(error: &Error) {
    clear_status();
    // Secrets may have become known since the error was made.
    let (chain, hints) = (error.chain(), error.hints().iter().map(|hint| redact(hint)));
    let chain = redact(&chain);
    if let StderrMode::Json = voice() {
        return event(&json!({
            "event": "error", "kind": kind_name(error.kind()), "message": chain, "hints": Vec::from_iter(hints),
            "exitCode": exit_code(error.kind()),
        }));
    }
    let hints = hints.map(|hint| format!("hint: {hint}\n"));
    let text: String = std::iter::once(format!("error: {chain}\n")).chain(hints).collect();
    write(&escape_controls(&text));
}

/// Lines that are written as they are.
pub(super) fn print_plain(text: &str) {
    write(&escape_controls(text));
}

/// A `hint: ...` line beside an error that others have told.
pub(super) fn print_hint(hint: &str) {
    write(&escape_controls(&format!("hint: {hint}\n")));
}

/// Puts `lines` in the place of the status, if there is a place for one. They must be narrower than the terminal and
/// free of strangers' control characters.
pub(super) fn draw_status(lines: &[String]) {
    if let StderrMode::Status(status) = voice() {
        let mut height = status.lock();
        if *height == 0 {
            status.bar.reset();
        }
        // Lines are overwritten and never erased first, so that nothing flickers: none may be left over below.
        *height = lines.len().max(*height);
        let blanks = std::iter::repeat_n(" ", *height - lines.len());
        let all: Vec<&str> = lines.iter().map(String::as_str).chain(blanks).collect();
        // One call draws all lines in one write: nothing is seen half-drawn.
        status.bar.set_message(all.join("\n"));
    }
}

/// Takes the status away, so that what follows stands where it stood.
pub(super) fn clear_status() {
    if let StderrMode::Status(status) = voice() {
        let mut height = status.lock();
        if std::mem::take(&mut *height) > 0 {
            status.bar.finish_and_clear();
        }
    }
}

impl Status {
    pub(super) fn new() -> Self {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(DRAWS_A_SECOND));
        screen.set_move_cursor(true);
        let bar = screen.add(ProgressBar::no_length());
        bar.set_style(ProgressStyle::with_template("{msg}").expect("the template is valid"));
        Status { _screen: screen, bar, height: Mutex::new(0) }
    }

    fn print(&self, line: &str) {
        let height = self.lock();
        if *height > 0 { self.bar.println(line) } else { write(&format!("{line}\n")) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, usize> {
        self.height.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn voice() -> &'static StderrMode {
    VOICE.get().unwrap_or(&StderrMode::Lines)
}

fn write(text: &str) {
    // Nobody is left to tell if stderr is closed.
    let _ = io::stderr().write_all(text.as_bytes());
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Io => "io",
        Kind::Registry => "registry",
        Kind::NotFound => "not-found",
        Kind::Usage => "usage",
        Kind::Damaged => "damaged",
        Kind::Untrusted => "untrusted",
        Kind::Refused => "refused",
        Kind::Partial => "partial",
        Kind::Interrupted => "interrupted",
    }
}

static VOICE: OnceLock<StderrMode> = OnceLock::new();
const DRAWS_A_SECOND: u8 = 10;
