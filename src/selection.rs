//! What to carry: references as people write them, and lists of them, made into single images.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::error::{Error, Result};
use crate::oci::{Reference, Selector};
use crate::place::Catalog;

/// Reads a list: one reference a line, `#` begins a comment, blank lines do not count. `origin` is the file's name
/// for messages.
///
/// # Errors
/// `Usage`, with file and line.
pub fn parse_list(text: &str, origin: &str) -> Result<Vec<Reference>> {
    if text.len() > MAX_LIST {
        return Err(Error::usage(format!("{origin} is larger than {} MiB", MAX_LIST >> 20)));
    }
    let mut references = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let reference = line.parse().map_err(|e| {
            Error::usage(format!("{origin}, line {}", number + 1))
                .caused_by(e)
                .hint("a list has one image reference a line, such as registry.example.com/ns/app:1")
        })?;
        references.push(reference);
    }
    Ok(references)
}

/// Makes every repository without a tag into its tags, and drops what is there twice. The order stays.
///
/// # Errors
/// `NotFound` for a repository without tags; what the catalog says when it cannot be listed.
pub async fn expand(catalog: &dyn Catalog, wanted: &[Reference]) -> Result<Vec<Reference>> {
    let expanded: Vec<Vec<Reference>> =
        stream::iter(wanted).map(|reference| expand_one(catalog, reference)).buffered(LISTINGS).try_collect().await?;
    let mut seen = BTreeSet::new();
    Ok(expanded.into_iter().flatten().filter(|reference| seen.insert(reference.clone())).collect())
}

/// The largest list that is read, 16 MiB.
pub const MAX_LIST: usize = 16 << 20;

/// How many tag listings are asked for at once.
const LISTINGS: usize = 4;

async fn expand_one(catalog: &dyn Catalog, reference: &Reference) -> Result<Vec<Reference>> {
    if reference.selector.is_some() {
        return Ok(vec![reference.clone()]);
    }
    let tags = catalog.tags(&reference.host, &reference.repository).await?;
    if tags.is_empty() {
        return Err(Error::not_found(format!("the repository {reference} has no tags"))
            .hint("name an image by digest (REPOSITORY@sha256:...) if it has none"));
    }
    Ok(tags.into_iter().map(|tag| reference.with(Selector::Tag(tag))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_one_reference_a_line_with_comments() {
        let text = "\u{feff}# our images\r\nh.io/ns/app:1  # the old one\r\n\n  busybox\n";
        let list: Vec<String> = parse_list(text, "list.txt").unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(list, ["h.io/ns/app:1", "docker.io/library/busybox"]);
    }

    #[test]
    fn a_bad_line_is_named_by_file_and_number() {
        let error = parse_list("h.io/a:1\n\nh.io/UPPER:1\n", "list.txt").expect_err("must fail");
        assert!(error.chain().starts_with("list.txt, line 3"), "{}", error.chain());
    }
}
