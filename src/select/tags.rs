//! Which tags of a repository: globs, regular expressions, the newest versions.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::thread;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use regex::bytes::{Regex, RegexBuilder};

use super::MAX_IMAGES;
use super::constraint::version;
use super::re2;
use crate::content::Tags;
use crate::error::{Error, Result};
use crate::oci::Tag;

/// What is kept of the tags of every repository that is listed. By default everything.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    include: Option<GlobSet>,
    exclude: Option<GlobSet>,
    latest: Option<NonZeroUsize>,
}

/// A regular expression over tags as skopeo's `images-by-tag-regex` has it: RE2's grammar, found anywhere in the tag.
#[derive(Debug, Clone)]
pub struct TagRegex {
    text: String,
    regex: Regex,
}

impl Filter {
    /// Keeps tags that one of `include` matches (no glob: all), that none of `exclude` matches, and of these the
    /// `latest` highest versions.
    ///
    /// # Errors
    /// `Usage` for a glob that is none.
    pub fn new(include: &[String], exclude: &[String], latest: Option<NonZeroUsize>) -> Result<Filter> {
        let set = |globs: &[String]| -> Result<Option<GlobSet>> {
            let mut builder = GlobSetBuilder::new();
            for glob in globs {
                let fault = |e: globset::Error| {
                    let message = format!("{glob:?} is not a pattern for tags: {}", e.kind());
                    Error::usage(message).hint("* is any text, ? one character, [0-9] one of several, {a,b} one of two")
                };
                builder.add(GlobBuilder::new(glob).build().map_err(fault)?);
            }
            let set = builder.build().map_err(|e| Error::usage("these patterns are too large").caused_by(e))?;
            Ok((!globs.is_empty()).then_some(set))
        };
        Ok(Filter { include: set(include)?, exclude: set(exclude)?, latest })
    }

    /// What is kept of the tags that are wanted, in the same order; of more than [`MAX_IMAGES`] one more than those.
    pub(crate) fn keep(&self, tags: &Tags, is_wanted: impl Fn(&Tag) -> bool) -> Vec<Tag> {
        let chosen = || {
            tags.iter().filter(|tag| {
                self.include.as_ref().is_none_or(|globs| globs.is_match(tag.as_str()))
                    && !self.exclude.as_ref().is_some_and(|globs| globs.is_match(tag.as_str()))
                    && is_wanted(tag)
            })
        };
        let Some(latest) = self.latest else { return chosen().take(MAX_IMAGES + 1).collect() };
        // Tags for one version (2, 2.0 and 2.0.0) count once and stay together.
        let mut newest = BTreeSet::new();
        for version in chosen().filter_map(|tag| version(tag.as_str())) {
            newest.insert(version);
            if newest.len() > latest.get() {
                newest.pop_first();
            }
        }
        let is_newest = |tag: &Tag| version(tag.as_str()).is_some_and(|version| newest.contains(&version));
        chosen().filter(is_newest).take(MAX_IMAGES + 1).collect()
    }
}

impl TagRegex {
    /// Reads one.
    ///
    /// # Errors
    /// `Usage` with what is wrong in it.
    pub fn new(text: &str) -> Result<TagRegex> {
        let compile = || -> Result<Regex, String> {
            let mut builder = RegexBuilder::new(&re2::translated(text)?);
            builder.unicode(false).nest_limit(MAX_NESTING).size_limit(MAX_PROGRAM);
            builder.build().map_err(|_| "it is too large".to_owned())
        };
        // Compilers go down into what is nested, and RE2 lets a thousand groups be.
        let compiled = thread::scope(|scope| {
            let spawned = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, compile);
            let thread = spawned.map_err(|e| Error::io("cannot start a thread", e))?;
            Ok::<_, Error>(thread.join().unwrap_or_else(|_| Err("it cannot be compiled".to_owned())))
        })?;
        let fault =
            |why| Error::usage(format!("{text:?} is not a regular expression")).caused_by(std::io::Error::other(why));
        Ok(TagRegex { text: text.to_owned(), regex: compiled.map_err(fault)? })
    }

    /// The expression as it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn matches(&self, tag: &Tag) -> bool {
        self.regex.is_match(tag.as_str().as_bytes())
    }
}

/// Of groups and repetitions in the translation of an expression; RE2's own limit is checked before.
const MAX_NESTING: u32 = 4000;
/// Bytes of address space; what is not used of it takes no memory.
const STACK: usize = 64 << 20;
/// Bytes of a compiled expression.
const MAX_PROGRAM: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn tags(text: &str) -> Tags {
        text.split_whitespace().map(|tag| tag.parse().expect("a tag")).collect()
    }

    fn kept(include: &[&str], exclude: &[&str], latest: usize, from: &str) -> String {
        let owned = |globs: &[&str]| globs.iter().map(|&glob| glob.to_owned()).collect::<Vec<_>>();
        let filter = Filter::new(&owned(include), &owned(exclude), NonZeroUsize::new(latest)).expect("a filter");
        filter.keep(&tags(from), |_| true).iter().map(Tag::as_str).collect::<Vec<_>>().join(" ")
    }

    #[rstest]
    #[case::all(&[], &[], "latest 1 1-alpine 2.0", "latest 1 1-alpine 2.0")]
    #[case::included(&["1*"], &[], "latest 1 1-alpine 2.0 21", "1 1-alpine")]
    #[case::any_of_several(&["1*", "latest"], &[], "latest 1 2.0", "latest 1")]
    #[case::excluded(&[], &["*-alpine"], "latest 1 1-alpine", "latest 1")]
    #[case::exclusion_wins(&["1*"], &["*-alpine", "*-rc?"], "1 1-alpine 1-rc1 2", "1")]
    #[case::whole_tags_only(&["1"], &[], "1 1.0 21", "1")]
    #[case::classes_and_choices(&["v[0-9].{0,1}"], &[], "v1.0 v2.1 v3.2 va.0", "v1.0 v2.1")]
    fn globs_choose_tags(#[case] include: &[&str], #[case] exclude: &[&str], #[case] from: &str, #[case] to: &str) {
        assert_eq!(kept(include, exclude, 0, from), to);
    }

    #[rstest]
    #[case::by_number_not_by_text(2, "1.9.0 1.10.0 1.2.0", "1.9.0 1.10.0")]
    #[case::other_tags_do_not_count(2, "latest 1.1.0 edge v1.2.0 sha256-00.sig 1.0.0", "1.1.0 v1.2.0")]
    #[case::prereleases_are_lower(1, "2.0.0-rc.1 2.0.0 2.0.0-rc.2", "2.0.0")]
    #[case::tags_of_one_version_count_once(2, "2 1.2 2.0 1.2.0 1", "2 1.2 2.0 1.2.0")]
    #[case::all_if_there_are_fewer(9, "1.0.0 x", "1.0.0")]
    #[case::none_if_there_are_none(1, "latest", "")]
    fn the_latest_are_the_highest_versions(#[case] latest: usize, #[case] from: &str, #[case] to: &str) {
        assert_eq!(kept(&[], &[], latest, from), to);
    }

    #[test]
    fn a_glob_that_is_none_is_named() {
        let error = Filter::new(&["[1".to_owned()], &[], None).expect_err("not a glob");
        assert!(error.chain().contains("[1"), "{}", error.chain());
    }

    #[rstest]
    #[case::anywhere(r"13", "1.13.2", true)]
    #[case::anchored(r"^1\.13\.[12]-alpine-perl$", "1.13.1-alpine-perl", true)]
    #[case::anchored_misses(r"^1\.13\.[12]-alpine-perl$", "1.13.1-alpine-perl2", false)]
    #[case::case_matters(r"Alpine", "1-alpine", false)]
    #[case::case_folded(r"(?i)Alpine", "1-alpine", true)]
    #[case::quoted(r"^\Q1.2\E$", "1.2", true)]
    #[case::quoted_dot(r"^\Q1.2\E$", "1x2", false)]
    #[case::ampersands_are_characters(r"^[a&&b]$", "a", true)]
    #[case::a_bracket_in_a_class(r"^[[a]$", "a", true)]
    #[case::posix_class(r"^[[:digit:]]+$", "123", true)]
    #[case::posix_class_misses(r"^[[:digit:]]+$", "12a", false)]
    #[case::bracket_first(r"^[]a]$", "a", true)]
    #[case::not_bracket_first(r"^[^]a]$", "b", true)]
    #[case::hyphen_last(r"^[a-]+$", "a-", true)]
    fn expressions_mean_what_re2_means(#[case] expression: &str, #[case] tag: &str, #[case] expected: bool) {
        let regex = TagRegex::new(expression).expect("an expression");
        assert_eq!(regex.matches(&tag.parse().expect("a tag")), expected);
    }

    #[test]
    fn an_expression_that_is_none_is_refused() {
        for text in ["[", "(", "*", "a{2,1}", "[b-a]", r"\"] {
            assert!(TagRegex::new(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_expression_panics(text in "\\PC{0,30}") {
            let _ = TagRegex::new(&text);
            let _ = Filter::new(std::slice::from_ref(&text), &[], None);
        }

        #[test]
        fn no_class_panics(text in r"[\[\]\\^:QE&~a-]{0,16}") {
            let _ = TagRegex::new(&text);
        }
    }
}
