//! A server's own words, fit for a message: bounded, escaped, and without what lets one in.

use crate::text::is_hidden;
use crate::text::secrets::redact;

/// Untrusted text for a message: escaped, and at most 300 characters.
pub(crate) fn clip(text: &str) -> String {
    let mut clipped = String::new();
    for (count, c) in redact(text.trim()).chars().enumerate() {
        if count == MAX_SAID {
            clipped.push('…');
            break;
        }
        match is_hidden(c) {
            true => clipped.extend(c.escape_unicode()),
            false => clipped.push(c),
        }
    }
    clipped
}

/// The registry's own words (distribution-spec, "Error Codes"), or the first line of a plain answer. Known secrets are
/// taken out before the words are cut to their length, which could leave a part of one.
pub(crate) fn said(body: &[u8]) -> String {
    clip(&message(body))
}

/// The same as it stands in a message: in quotes, since these are not our words. Empty if there are none.
pub(crate) fn quoted(body: &[u8]) -> String {
    let said = said(body);
    // Of a web page only the title is quoted.
    match said.is_empty() || String::from_utf8_lossy(body).trim_start().starts_with('<') {
        true => said,
        false => format!("\"{}\"", said.replace('"', "\\\"")),
    }
}

/// The same at full length.
pub(crate) fn message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
        #[serde(default)]
        detail: serde_json::Value,
    }
    if let Ok(Errors { errors }) = serde_json::from_slice::<Errors>(body) {
        let told = errors.iter().take(3).map(|one| match &one.detail {
            serde_json::Value::Null => format!("{} {}", one.code, one.message),
            detail => format!("{} {} {detail}", one.code, one.message),
        });
        return discreet(&redact(&told.collect::<Vec<_>>().join("; ")));
    }
    let text = String::from_utf8_lossy(body);
    let text = redact(&text);
    match text.trim_start().starts_with('<') {
        // A proxy's web page.
        true => title(body).map(|title| format!("web page \"{title}\"")).unwrap_or_default(),
        false => discreet(text.lines().next().unwrap_or_default()),
    }
}

/// The title of a web page, on one line.
pub(crate) fn title(page: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&page[..page.len().min(MAX_PAGE)]);
    let text = redact(&text);
    // Only ASCII letters change, so that offsets stay.
    let lower = text.to_ascii_lowercase();
    let (_, after) = lower.split_once("<title")?;
    let start = lower.len() - after.len() + after.find('>')? + 1;
    let end = start + lower[start..].find("</title")?;
    let words: Vec<&str> = text[start..end].split_whitespace().collect();
    (!words.is_empty()).then(|| clip(&discreet(&words.join(" "))))
}

/// Without what lets one in: servers repeat what they were asked, with the queries of URLs (signatures, upload states)
/// and with tokens.
fn discreet(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let Some(mark) = MARKS.iter().find(|mark| begins(rest, mark.text)) else {
            shown.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        };
        let after = &rest[mark.text.len()..];
        let end = after.find(ends_a_word).map_or(rest.len(), |end| mark.text.len() + end);
        shown.push_str(&rest[..mark.kept]);
        match (mark.hides)(&rest[mark.text.len()..end]) {
            true => shown.push('\u{2026}'),
            false => shown.push_str(&rest[mark.kept..end]),
        }
        rest = &rest[end..];
    }
    shown
}

fn begins(text: &str, mark: &str) -> bool {
    text.get(..mark.len()).is_some_and(|start| start.eq_ignore_ascii_case(mark))
}

fn ends_a_word(c: char) -> bool {
    c.is_whitespace() || "\"'<>(){}[],;\\".contains(c)
}

/// Something that a secret may follow.
struct Mark {
    text: &'static str,
    /// How much of it is shown.
    kept: usize,
    /// Whether a word that follows it is a secret.
    hides: fn(&str) -> bool,
}

const MARKS: [Mark; 4] = [
    Mark { text: "?", kept: 1, hides: |word| word.contains('=') },
    Mark { text: "bearer ", kept: 7, hides: is_no_plain_word },
    Mark { text: "basic ", kept: 6, hides: is_no_plain_word },
    // The beginning of every JSON web token.
    Mark { text: "eyJ", kept: 0, hides: |word| !word.is_empty() },
];

/// `basic auth` are plain words.
fn is_no_plain_word(word: &str) -> bool {
    word.len() > 15 || word.contains(|c: char| !c.is_ascii_lowercase())
}

const MAX_SAID: usize = 300;
/// How much of a web page is searched for its title, 64 KiB.
const MAX_PAGE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_one_in_is_not_repeated() {
        for (words, shown) in [
            ("GET /u/1?_state=planted&x=1 failed", "GET /u/1?\u{2026} failed"),
            (r#"{"url":"https://s3/x?sig=planted"}"#, "{\"url\":\"https://s3/x?\u{2026}\"}"),
            ("token eyJplanted.eyJplanted.x-_ is old", "token \u{2026} is old"),
            ("got Authorization: Bearer Planted1, sorry", "got Authorization: Bearer \u{2026}, sorry"),
            ("BASIC planted==", "BASIC \u{2026}"),
            ("no basic auth credentials", "no basic auth credentials"),
            ("really? no", "really? no"),
            ("tr\u{e8}s \u{1f6a2} bearer", "tr\u{e8}s \u{1f6a2} bearer"),
        ] {
            assert_eq!(said(words.as_bytes()), shown);
        }
    }

    #[test]
    fn the_registrys_own_words_are_shown_escaped_and_short() {
        let body =
            br#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown\u001b[2J","detail":{"d":1}}]}"#;
        assert_eq!(said(body), "MANIFEST_BLOB_UNKNOWN blob unknown\\u{1b}[2J {\"d\":1}");
        assert_eq!(said(b"<html>gateway</html>"), "");
        assert_eq!(said(b"<html><title>Access\n denied</title>"), "web page \"Access denied\"");
        assert_eq!(said(b"slow down\nplease"), "slow down");
        assert_eq!(said("x".repeat(1000).as_bytes()).chars().count(), MAX_SAID + 1);
    }
}
