//! Text that others wrote, made safe to show: on one line, of bounded length, with nothing in it that acts on a
//! terminal or makes it show something else than there is.
//!
//! Every [`Error`](crate::Error) sends what it is told through [`one_line`], so that no place has to think of it.

pub mod secrets;
mod spelling;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

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

/// `text` without the login that someone put in front of a host (`user:password@host`, with or without `scheme://`), so
/// that no message repeats it. What only has a digest behind its `@`, right or misspelt, is left alone.
pub fn without_login(text: &str) -> Cow<'_, str> {
    match login_range(text) {
        Some(login) => Cow::Owned(format!("{}{}", &text[..login.start], &text[login.end + 1..])),
        None => Cow::Borrowed(text),
    }
}

/// The login in front of a host, as [`without_login`] takes it out.
fn login_in(text: &str) -> Option<&str> {
    login_range(text).map(|login| &text[login])
}

fn login_range(text: &str) -> Option<Range<usize>> {
    let start = text.find("://").map_or(0, |at| at + 3);
    let rest = &text[start..];
    let (mut login, mut host) = rest.rsplit_once('@')?;
    if is_like_a_digest(host) {
        // `user:password@host/path@digest`
        (login, host) = (login.rsplit_once('@')?.0, "/");
    }
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    // `localhost:5000/app@latest` is no login, nor is `ns/app:1@latest`.
    let port = || password.split('/').next().is_some_and(|port| port.parse::<u16>().is_ok());
    let names = start == 0 && (user.contains('/') || login.contains('/') && port());
    let is_host = host.contains(['/', ':']) || is_like_a_host(host);
    (!names || is_host).then_some(start..start + login.len())
}

/// Whether it looks like the name of a machine, and not like a tag.
fn is_like_a_host(text: &str) -> bool {
    let last = text.rsplit_once('.').map_or("", |(_, last)| last);
    text == "localhost"
        || last.starts_with(|c: char| c.is_ascii_alphabetic())
        || text.parse::<std::net::Ipv4Addr>().is_ok()
}

fn is_like_a_digest(text: &str) -> bool {
    let hex = |encoded: &str| encoded.len() >= 32 && encoded.bytes().all(|c| c.is_ascii_hexdigit());
    text.split_once(':').is_some_and(|(algorithm, encoded)| algorithm.starts_with("sha") || hex(encoded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_taken_out() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for host in ["reg.local:5000", "reg.local/app:1", "reg/a/b", "[::1]:5000/a"] {
            for login in ["robot:s3cret", "robot:12345", "robot:a/b@c:d", "s3cret"] {
                for scheme in ["", "http://", "docker://"] {
                    assert_eq!(without_login(&format!("{scheme}{login}@{host}")), format!("{scheme}{host}"));
                }
                assert_eq!(without_login(&format!("{login}@{host}@{digest}")), format!("{host}@{digest}"));
            }
        }
        for text in ["ns/robot:s3cret@reg.local", "robot:12/s3cret@10.0.0.1", "/robot:s3cret@localhost"] {
            assert!(!without_login(text).contains("s3cret"), "{text}");
        }
        for text in [
            "reg.local/app:1",
            "app:1",
            "localhost:5000/app@1.35",
            "app@latest",
            "ns/app:1@latest",
            "localhost:5000/app@latest",
        ] {
            let kept = if text == "app@latest" { "latest" } else { text };
            assert_eq!(without_login(text), kept);
        }
        for text in [
            format!("app:1@{digest}"),
            "reg.local:5000/app:1@sha256:short".into(),
            format!("app@md5:{}", "0".repeat(32)),
        ] {
            assert_eq!(without_login(&text), text);
        }
    }

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
