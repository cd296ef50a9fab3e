//! Text and JSON without what may drive a terminal.

use std::fmt::Write as _;

use serde_json::Value;

use crate::text;

/// JSON in one line.
pub(super) fn json_line(value: &Value) -> String {
    escape_json(&value.to_string())
}

/// What may drive a terminal is escaped in JSON too; it stays the same JSON, because such characters are in strings
/// only.
pub(super) fn escape_json(text: &str) -> String {
    escape(text, |plain, c| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(plain, "\\u{unit:04x}");
        }
    })
}

/// Text of several lines, which are ours: what strangers wrote in it is on one line each ([`text::one_line`]).
/// Whatever else could drive the terminal becomes a visible escape, also if somebody forgot that.
pub(super) fn escape_controls(text: &str) -> String {
    escape(text, |plain, c| {
        let _ = write!(plain, "{}", c.escape_unicode());
    })
}

fn escape(text: &str, write: impl Fn(&mut String, char)) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if text::is_hidden(c) && c != '\n' { write(&mut plain, c) } else { plain.push(c) }
    }
    plain
}
