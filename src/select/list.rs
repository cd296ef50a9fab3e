//! Plain lists of references.

use super::RepositorySelection;
use crate::error::{Error, Result};
use crate::oci::Reference;

/// One reference a line, `#` begins a comment, blank lines do not count. `origin` is the file's name for messages.
///
/// # Errors
/// `Usage`, with file and line.
pub(crate) fn parse(text: &str, origin: &str) -> Result<Vec<RepositorySelection>> {
    let mut wanted = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let reference: Reference = line.parse().map_err(|e| {
            Error::usage(format!("{origin}, line {}", number + 1))
                .caused_by(e)
                .hint("a list has one image reference a line, such as registry.example.com/ns/app:1")
        })?;
        wanted.push(reference.into());
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_list_has_one_reference_a_line_with_comments() {
        let text = "\u{feff}# our images\r\nh.io/ns/app:1  # the old one\r\n\n  busybox\n";
        let list: Vec<String> = parse(text, "list.txt").unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(list, ["h.io/ns/app:1", "docker.io/library/busybox"]);
    }

    #[test]
    fn a_bad_line_is_named_by_file_and_number() {
        let error = parse("h.io/a:1\n\nh.io/UPPER:1\n", "list.txt").expect_err("must fail");
        assert!(error.chain().starts_with("list.txt, line 3"), "{}", error.chain());
    }

    proptest! {
        #[test]
        fn no_list_panics(text in "(\\PC{0,20}\n?){0,4}") {
            let _ = parse(&text, "list.txt");
        }
    }
}
