//! OpenSSH's pattern-lists: comma-separated, `*` and `?` as wildcards, `!` in front to exclude.
//!
//! As `ssh_config(5)` describes them under PATTERNS: one excluding match refuses, else one match is enough.
//! Letters are not folded and blanks are not trimmed.

/// Whether `text` is let in by `list`.
pub(super) fn list_matches(list: &[u8], text: &[u8]) -> bool {
    let mut found = false;
    for entry in list.split(|byte| *byte == b',') {
        let (excludes, pattern) = match entry {
            [b'!', pattern @ ..] => (true, pattern),
            pattern => (false, pattern),
        };
        // OpenSSH gives up on the whole list at an entry that does not fit its buffer.
        if pattern.len() >= ENTRY_LIMIT {
            return false;
        }
        if !entry.is_empty() && matches(pattern, text) {
            if excludes {
                return false;
            }
            found = true;
        }
    }
    found
}

/// Whether anyone at all could be meant by a list of principals: some entry, taken as a name itself, is let in.
pub(super) fn names_somebody(list: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|entry| !entry.is_empty() && entry[0] != b'!' && list_matches(list, entry))
}

/// One pattern against the whole of `text`. Linear in memory, at worst the product of the lengths in time.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    // Where to go on if the characters after the last `*` do not fit: after that star, one character later.
    let mut retry: Option<(usize, usize)> = None;
    while at_text < text.len() {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                retry = Some((at_pattern + 1, at_text));
                at_pattern += 1;
            }
            Some(&wanted) if wanted == b'?' || wanted == text[at_text] => {
                at_pattern += 1;
                at_text += 1;
            }
            _ => match retry {
                Some((after_star, from)) => {
                    retry = Some((after_star, from + 1));
                    at_pattern = after_star;
                    at_text = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at_pattern..].iter().all(|byte| *byte == b'*')
}

/// The longest entry that OpenSSH considers is one byte shorter.
const ENTRY_LIMIT: usize = 1023;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_as_in_openssh() {
        let cases: [(&str, &str, bool); 18] = [
            ("sealift-bundle", "sealift-bundle", true),
            ("sealift-*", "sealift-bundle", true),
            ("*", "sealift-bundle", true),
            ("*-bundle", "sealift-bundle", true),
            ("s*-b*e", "sealift-bundle", true),
            ("sealift-bundl?", "sealift-bundle", true),
            ("sealift-bundle?", "sealift-bundle", false),
            ("sealift-bundle*", "sealift-bundle", true),
            ("Sealift-Bundle", "sealift-bundle", false),
            ("git", "sealift-bundle", false),
            ("git,sealift-bundle", "sealift-bundle", true),
            ("git, sealift-bundle", "sealift-bundle", false),
            ("*,!sealift-bundle", "sealift-bundle", false),
            ("!sealift-bundle,*", "sealift-bundle", false),
            ("!git,*", "sealift-bundle", true),
            ("!git", "sealift-bundle", false),
            ("", "sealift-bundle", false),
            ("*a*b*c*", "xxaxxbxxbxx", false),
        ];
        for (list, text, expected) in cases {
            assert_eq!(list_matches(list.as_bytes(), text.as_bytes()), expected, "{list} against {text}");
        }
    }

    #[test]
    fn an_entry_too_long_for_openssh_spoils_the_list() {
        let list = format!("a,{}", "x".repeat(1023));
        assert!(!list_matches(list.as_bytes(), b"a"));
        let list = format!("a,{}", "x".repeat(1022));
        assert!(list_matches(list.as_bytes(), b"a"));
    }

    #[test]
    fn a_list_that_only_excludes_names_nobody() {
        assert!(names_somebody(b"alice"));
        assert!(names_somebody(b"*@example.com,!bob@example.com"));
        assert!(!names_somebody(b"!alice"));
        assert!(!names_somebody(b"alice,!alice"));
        assert!(!names_somebody(b","));
    }
}
