//! The secrets of this run, and texts without them.
//!
//! Servers repeat what they were sent, as it is or encoded, in the bodies and headers that messages quote. Whoever makes
//! a secret enters it here; [`redact`] takes every secret out of a text that is shown. It finds a secret as it is, in
//! base64 (alone and as `user:password`), percent-encoded, with the escapes of JSON, Rust and HTML, and in mixtures of
//! these.
//!
//! A secret of fewer than 4 bytes is looked for only together with its user (`bob:abc`, and the base64 of that), one of
//! fewer than 8 bytes only where letters and digits end: as a part of other words it would make texts unreadable.
//!
//! The registry is one for the process, because errors are made in every module.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::spelling;

/// Enters a password or another secret that does not change in a run.
pub fn remember(secret: &str) {
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    known.add(secret);
    known.add_encoded(secret);
}

/// Enters the password of a user.
pub fn remember_login(user: &str, password: &str) {
    let pair = Zeroizing::new(format!("{user}:{password}"));
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    known.add(password);
    known.add_encoded(password);
    if password.len() < SHORT {
        known.add(&pair);
    }
    known.add_encoded(&pair);
}

/// Enters a token, of which there may be many: the last 256 are remembered.
pub fn remember_token(token: &str) {
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    // The parts of a JSON web token; its head is the same in all of them.
    let parts = token.split('.').filter(|part| part.len() >= LONG_PART);
    for part in std::iter::once(token).chain(parts) {
        known.add_token(part);
    }
}

/// Enters the logins in front of hosts (`user:password@host`) in what a person typed or wrote into a file, each with its
/// parts: messages may show a text in parts that `/`, `@`, `:`, `?` or `#` end. At most 1000 words of a text that may be
/// such logins are looked at.
pub fn remember_logins_in(text: &str) {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
    let words = words.filter(|word| word.contains(':') && word.contains('@')).take(MOST_WORDS);
    for (user, password) in words.filter_map(|word| super::login_in(word)?.split_once(':')) {
        remember_login(user, password);
        password.split(['/', '@', ':', '?', '#']).for_each(remember);
    }
}

/// The text with `***` in the place of every known secret.
pub fn redact(text: &str) -> Cow<'_, str> {
    KNOWN.read().unwrap_or_else(PoisonError::into_inner).redact(text)
}

static KNOWN: RwLock<Known> = RwLock::new(Known::new());

struct Known {
    needles: Vec<Needle>,
    tokens: VecDeque<Needle>,
    /// First bytes of needles.
    first: [bool; 256],
}

/// A text to look for.
struct Needle {
    text: Zeroizing<String>,
    /// Whether letters and digits that follow belong to it, too.
    is_open: bool,
}

impl Known {
    const fn new() -> Self {
        Known { needles: Vec::new(), tokens: VecDeque::new(), first: [false; 256] }
    }

    fn add(&mut self, secret: &str) {
        if secret.len() >= SHORT {
            self.push(Needle { text: Zeroizing::new(secret.to_owned()), is_open: false });
        }
    }

    fn add_encoded(&mut self, secret: &str) {
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            if secret.len() >= SHORT {
                self.push(Needle { text: Zeroizing::new(engine.encode(secret)), is_open: true });
            }
        }
    }

    fn push(&mut self, needle: Needle) {
        if !self.needles.iter().any(|known| known.text == needle.text) {
            self.note_first(&needle);
            self.needles.push(needle);
        }
    }

    /// The beginning of a token is enough to find it.
    fn add_token(&mut self, token: &str) {
        let end = token.char_indices().nth(TOKEN_START).map_or(token.len(), |(end, _)| end);
        let needle = Needle { text: Zeroizing::new(token[..end].to_owned()), is_open: true };
        if end < SHORT || self.tokens.iter().any(|known| known.text == needle.text) {
            return;
        }
        if self.tokens.len() == MOST_TOKENS {
            self.tokens.pop_front();
        }
        self.note_first(&needle);
        self.tokens.push_back(needle);
    }

    fn note_first(&mut self, needle: &Needle) {
        self.first[usize::from(needle.text.as_bytes()[0])] = true;
    }

    fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let (mut redacted, mut done) = (String::new(), 0);
        if self.needles.is_empty() && self.tokens.is_empty() {
            return Cow::Borrowed(text);
        }
        for (at, c) in text.char_indices() {
            let byte = text.as_bytes()[at];
            if at < done || !(self.first[usize::from(byte)] || spelling::may_begin_with(c)) {
                continue;
            }
            let needles = self.needles.iter().chain(&self.tokens);
            if let Some(end) = needles.filter_map(|needle| needle.end_in(text, at)).max() {
                redacted.push_str(&text[done..at]);
                redacted.push_str(MARK);
                done = end;
            }
        }
        if done == 0 { Cow::Borrowed(text) } else { Cow::Owned(redacted + &text[done..]) }
    }
}

impl Needle {
    /// Where the needle ends that begins at `at`, if it stands there.
    fn end_in(&self, text: &str, at: usize) -> Option<usize> {
        let end = spelling::end_of(text, at, &self.text)?;
        if self.is_open {
            let rest = &text[end..];
            return Some(end + rest.find(|c: char| !is_token_char(c)).unwrap_or(rest.len()));
        }
        let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let ends = |neighbour: bool| self.text.len() >= MIDDLING || !neighbour;
        let before = is_word(text[..at].chars().next_back()) && !spelling::ends_with_escape(&text[..at]);
        (ends(before) && ends(is_word(text[end..].chars().next()))).then_some(end)
    }
}

/// What base64 and tokens are made of (RFC 9110, section 11.2), and the escape of `=` in a URL.
fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '+' | '/' | '=' | '%')
}

const MARK: &str = "***";
/// What has fewer bytes is not looked for.
const SHORT: usize = 4;
/// What has fewer bytes is looked for as a whole word.
const MIDDLING: usize = 8;
/// A part of a token with so many bytes is none by chance.
const LONG_PART: usize = 16;
/// Of a token so many characters are compared.
const TOKEN_START: usize = 200;
const MOST_TOKENS: usize = 256;
const MOST_WORDS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn known(secrets: &[&str]) -> Known {
        let mut known = Known::new();
        for secret in secrets {
            known.add(secret);
            known.add_encoded(secret);
        }
        known
    }

    #[test]
    fn a_secret_is_found_in_every_spelling() {
        let known = known(&["p\u{f6}s/s \"w\\rd"]);
        for text in [
            "p\u{f6}s/s \"w\\rd",
            r#"p\u00f6s\/s \"w\\rd"#,
            r#"p\\u00f6s\\/s \\\"w\\\\rd"#,
            r#"p\u{f6}s/s \"w\\rd"#,
            "p%C3%B6s%2Fs%20%22w%5Crd",
            "p%c3%b6s/s+%22w%5crd",
            "p%25C3%25B6s%252Fs%2520%2522w%255Crd",
            "p&#246;s/s &quot;w\\rd",
            "p&#xF6;s&#x2f;s &#34;w&#92;rd",
            "cMO2cy9zICJ3XHJk",
        ] {
            assert_eq!(known.redact(&format!("<{text}>")), "<***>", "{text}");
        }
        assert_eq!(known.redact("p\u{f6}s/s \"w"), "p\u{f6}s/s \"w");
    }

    #[test]
    fn base64_is_found_in_both_alphabets_with_and_without_padding() {
        let known = known(&["user:\u{fe}\u{ff}?>~~"]);
        for text in ["dXNlcjrDvsO/Pz5+fg==", "dXNlcjrDvsO_Pz5-fg", "dXNlcjrDvsO%2FPz5%2Bfg%3D%3D"] {
            assert_eq!(known.redact(&format!("Basic  {text}, no")), "Basic  ***, no", "{text}");
        }
    }

    #[test]
    fn a_middling_secret_is_found_as_a_word_and_a_short_one_not_at_all() {
        let known = known(&["1234", "abc"]);
        for (text, expected) in [
            ("sha256:ab1234", "sha256:ab1234"),
            ("bob:1234@h", "bob:***@h"),
            ("bob%3A1234%0a", "bob%3A***%0a"),
            ("no\\n1234", "no\\n***"),
            ("1234", "***"),
            ("abc", "abc"),
        ] {
            assert_eq!(known.redact(text), expected);
        }
    }

    #[test]
    fn a_token_is_found_by_its_beginning_and_its_parts() {
        let mut known = Known::new();
        let token = format!("eyJhbGciOiJSUzI1NiJ9.{}.{}", "claims".repeat(100), "signature".repeat(30));
        for part in std::iter::once(token.as_str()).chain(token.split('.').filter(|part| part.len() >= LONG_PART)) {
            known.add_token(part);
        }
        assert_eq!(known.redact(&format!("Bearer {token}, no")), "Bearer ***, no");
        assert_eq!(known.redact(&format!("bad signature {}", "signature".repeat(30))), "bad signature ***");
        for number in 0..2 * MOST_TOKENS {
            known.add_token(&format!("token-{number}"));
        }
        assert!(known.tokens.len() <= MOST_TOKENS);
    }

    #[test]
    fn the_longest_secret_wins_and_nothing_else_changes() {
        let known = known(&["secret-one", "secret-one-and-more"]);
        let text = "\u{1f6a2} secret-one secret-one-and-more secret-on%";
        assert_eq!(known.redact(text), "\u{1f6a2} *** *** secret-on%");
        assert!(matches!(known.redact("nothing"), Cow::Borrowed("nothing")));
    }
}
