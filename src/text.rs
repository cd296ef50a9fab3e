//! Text that others wrote, made safe to show: on one line, of bounded length, with nothing in it that acts on a
//! terminal or makes it show something else than there is.
//!
//! Every [`Error`](crate::Error) sends what it is told through [`one_line`], so that no place has to think of it.

use std::borrow::Cow;
use std::fmt::Write as _;

/// `text` with its control characters (line feeds too) and hidden characters as escapes, and with its middle left out
/// if it has more than `longest` bytes.
pub fn one_line(text: &str, longest: usize) -> Cow<'_, str> {
    let text = shortened(text, longest);
    if !text.contains(is_hidden) {
        return text;
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => plain.extend(c.escape_default()),
            c if is_hidden(c) => drop(write!(plain, "{}", c.escape_unicode())),
            c => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

/// Whether a terminal acts on it, or shows it as nothing or in another place: control characters, and marks of
/// direction, width and joining.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The beginning says what it is about, the end what is wrong with it.
fn shortened(text: &str, longest: usize) -> Cow<'_, str> {
    if text.len() <= longest {
        return Cow::Borrowed(text);
    }
    let boundary = |from: usize| (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let (front, back) = (boundary(longest / 4 * 3), boundary(text.len() - longest / 4));
    Cow::Owned(format!("{}[... {} bytes ...]{}", &text[..front], back - front, &text[back..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_it_acts_on_a_terminal_or_begins_a_line() {
        assert_eq!(one_line("a\r\nerror: b\t\u{1b}[2J\u{9b}", 100), r"a\r\nerror: b\t\u{1b}[2J\u{9b}");
        assert_eq!(one_line("x\u{202e}gnp.exe\u{e0041}", 100), r"x\u{202e}gnp.exe\u{e0041}");
        assert_eq!(one_line("größe {\"a\": '\\'}", 100), "größe {\"a\": '\\'}");
    }

    #[test]
    fn what_is_shown_once_is_shown_the_same_again() {
        let once = one_line("a\nb\u{7f}", 100).into_owned();
        assert_eq!(one_line(&once, 100), once);
    }

    #[test]
    fn long_texts_keep_both_ends() {
        let text = format!("begin{}end", "ö".repeat(10_000));
        let short = one_line(&text, 101);
        assert!(short.starts_with("begin") && short.ends_with("end") && short.len() < 200, "{short}");
        assert!(short.contains("bytes ..."), "{short}");
    }
}
