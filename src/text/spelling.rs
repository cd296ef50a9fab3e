//! The ways in which programs write a character: as it is, percent-encoded (RFC 3986), with the escapes of JSON, Rust
//! and HTML. Each character of a text may be written in another way.

/// Where `needle` ends that begins at `at` in `text`, however it is written; nothing if it does not stand there. Where
/// several ways fit, the longest counts.
pub(super) fn end_of(text: &str, at: usize, needle: &str) -> Option<usize> {
    let (mut ends, mut next) = (vec![at], Vec::new());
    for c in needle.chars() {
        for at in ends.drain(..) {
            after(text, at, c, &mut next);
        }
        next.sort_unstable();
        next.dedup();
        if next.is_empty() {
            return None;
        }
        std::mem::swap(&mut ends, &mut next);
    }
    ends.into_iter().max()
}

/// Whether a character that stands for another may begin with this.
pub(super) fn may_begin_with(c: char) -> bool {
    matches!(c, '%' | '\\' | '&' | '+')
}

/// Whether the last character of a text belongs to an escape: `%3A`, `\n`, `\u003a`.
pub(super) fn ends_with_escape(text: &str) -> bool {
    let tail = |length: usize, mark: &str| {
        let start = text.len().checked_sub(length + mark.len());
        start.and_then(|start| text.get(start..)?.strip_prefix(mark))
    };
    let is_hex = |digits: &str| digits.bytes().all(|c| c.is_ascii_hexdigit());
    tail(2, "%").is_some_and(is_hex)
        || tail(4, "\\u").is_some_and(is_hex)
        || tail(1, "\\").is_some_and(|letter| matches!(letter, "n" | "r" | "t"))
}

/// Adds where the character `c` ends that is written at `at`, for each way in which it may be written there.
fn after(text: &str, at: usize, c: char, ends: &mut Vec<usize>) {
    let rest = &text[at..];
    match rest.chars().next() {
        Some('%') => after_percent(text, at, c, ends),
        Some('\\') => after_backslashes(text, at, c, ends),
        Some('&') => ends.extend(after_entity(rest, c).map(|length| at + length)),
        Some('+') if c == ' ' => ends.push(at + 1),
        _ => {}
    }
    if rest.starts_with(c) {
        ends.push(at + c.len_utf8());
    }
}

/// `%C3%B6`; encoded again `%25C3%25B6`.
fn after_percent(text: &str, at: usize, c: char, ends: &mut Vec<usize>) {
    let mut end = Some(at);
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        end = end.filter(|end| text[*end..].starts_with('%')).map(|end| end + 1);
        while let Some(at) = end
            && hex(text, at, 2) != Some(u32::from(byte))
        {
            end = text[at..].starts_with("25").then_some(at + 2);
        }
        end = end.map(|end| end + 2);
    }
    while let Some(at) = end {
        ends.push(at);
        // A percent sign that is encoded twice.
        end = (c == '%' && text[at..].starts_with("25")).then_some(at + 2);
    }
}

/// `\u00f6`, `\ud83d\udea2`, `\u{f6}`, `\"`, `\n`; in a string within a string with more backslashes.
fn after_backslashes(text: &str, at: usize, c: char, ends: &mut Vec<usize>) {
    let count = text[at..].bytes().take_while(|c| *c == b'\\').count();
    if c == '\\' {
        ends.extend([2, 4, 8].into_iter().filter(|length| *length <= count).map(|length| at + length));
    }
    let at = at + count;
    let rest = &text[at..];
    let letter = match c {
        '\n' => Some('n'),
        '\r' => Some('r'),
        '\t' => Some('t'),
        c => Some(c).filter(|c| !c.is_alphanumeric()),
    };
    if let Some(letter) = letter.filter(|letter| rest.starts_with(*letter)) {
        ends.push(at + letter.len_utf8());
    }
    if let Some(digits) = rest.strip_prefix("u{").and_then(|rest| rest.split_once('}')).map(|(digits, _)| digits)
        && u32::from_str_radix(digits, 16) == Ok(c.into())
    {
        ends.push(at + digits.len() + 3);
    }
    let mut units = [0; 2];
    let mut end = Some(at);
    for (number, unit) in c.encode_utf16(&mut units).iter().enumerate() {
        end = end.and_then(|end| {
            let backslashes = text[end..].bytes().take_while(|c| *c == b'\\').count();
            let start = end + if number == 0 { 0 } else { backslashes };
            let is_unit = text[start..].starts_with('u') && hex(text, start + 1, 4) == Some(u32::from(*unit));
            is_unit.then_some(start + 5)
        });
    }
    ends.extend(end);
}

/// The length of `&quot;`, `&#34;` or `&#x22;`, if that is `c`.
fn after_entity(rest: &str, c: char) -> Option<usize> {
    let end = rest.bytes().take(MAX_ENTITY).position(|c| c == b';')?;
    let name = &rest[1..end];
    let code = match name.strip_prefix('#') {
        Some(digits) => match digits.strip_prefix(['x', 'X']) {
            Some(digits) => u32::from_str_radix(digits, 16).ok()?,
            None => digits.parse().ok()?,
        },
        None => u32::from(ENTITIES.iter().find(|(known, _)| *known == name)?.1),
    };
    (code == u32::from(c)).then_some(end + 1)
}

fn hex(text: &str, at: usize, digits: usize) -> Option<u32> {
    let digits = text.get(at..at + digits)?;
    digits.bytes().all(|c| c.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

const ENTITIES: [(&str, char); 5] = [("quot", '"'), ("amp", '&'), ("lt", '<'), ("gt", '>'), ("apos", '\'')];
/// `&#1114111;`
const MAX_ENTITY: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_found_again(needle in "\\PC{1,20}", before in "\\PC{0,5}", after in "[a-z ]{0,5}") {
            let json = serde_json::to_string(&needle).expect("a string");
            let percent: String = needle.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let escaped: String = needle.chars().flat_map(char::escape_unicode).collect();
            for spelled in [needle.clone(), json[1..json.len() - 1].to_owned(), percent, escaped] {
                let text = format!("{before}{spelled}{after}");
                let end = end_of(&text, before.len(), &needle);
                prop_assert!(end >= Some(before.len() + spelled.len()), "{text:?}");
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in r#"(%|25|C3|\\|u|\{|\}|00f6|&|#|;|"|\PC){0,30}"#, needle in "\\PC{1,6}") {
            for (at, _) in text.char_indices() {
                let _ = (end_of(&text, at, &needle), ends_with_escape(&text[..at]));
            }
        }
    }

    #[test]
    fn an_escape_is_told_from_a_word() {
        for (text, expected) in [("a%3A", true), ("a\\n", true), ("a\\u003a", true), ("abc", false), ("\u{f6}", false)]
        {
            assert_eq!(ends_with_escape(text), expected, "{text}");
        }
    }
}
