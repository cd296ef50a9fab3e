//! Version constraints as skopeo's `images-by-semver` has them: the grammar of Masterminds/semver v3, on the versions
//! of the `semver` crate.
//!
//! A constraint is groups joined by `||`, one of which must hold; a group is comparisons joined by blanks or commas, all
//! of which must hold. What the library documents is followed; `!=`, `>`, `<` and `<=` before a bare wildcard, which
//! it does not document, are refused.

use std::fmt;

use semver::{BuildMetadata, Prerelease, Version};

/// Which versions are wanted: `>= 1.2, < 2 || ^3.1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    text: String,
    groups: Vec<Group>,
}

/// A text that is no constraint; says where and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConstraintFault(String);

impl Constraint {
    /// Reads one.
    ///
    /// # Errors
    /// Which part is wrong.
    pub fn parse(text: &str) -> Result<Constraint, ConstraintFault> {
        if text.len() > MAX_CONSTRAINT {
            return Err(ConstraintFault(format!("it is longer than {MAX_CONSTRAINT} characters")));
        }
        let groups = text.split("||").map(Group::parse).collect::<Result<_, _>>()?;
        Ok(Constraint { text: text.to_owned(), groups })
    }

    /// Whether a version is wanted. Pre-releases are only where a comparison of the same group has one.
    pub fn matches(&self, version: &Version) -> bool {
        self.groups.iter().any(|group| group.matches(version))
    }
}

/// The version that a tag stands for: `v` in front is passed over, `1` is 1.0.0, `1.2` is 1.2.0. Nothing if it is none.
pub fn version(tag: &str) -> Option<Version> {
    let written = Written::parse(tag).ok()?;
    (!written.wildcard).then_some(written.base)
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Comparisons all of which must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    comparisons: Vec<Comparison>,
    prereleases: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Comparison {
    operator: Operator,
    base: Version,
    given: Given,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    Less,
    AtLeast,
    AtMost,
    Tilde,
    Caret,
}

/// How much of a version is written before it ends or a wildcard comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Given {
    Nothing,
    Major,
    Minor,
    Patch,
}

/// A version as written, perhaps in part; what is missing is 0.
struct Written {
    base: Version,
    given: Given,
    wildcard: bool,
}

impl Group {
    fn parse(text: &str) -> Result<Group, ConstraintFault> {
        let mut comparisons = Vec::new();
        let mut rest = text.trim_start();
        if rest.is_empty() {
            return Err(ConstraintFault("a part of it is empty; * means any version".to_owned()));
        }
        loop {
            let (operator, after) = take_operator(rest);
            let (written, after) = take_version(after)?;
            // A range: `1.2 - 1.4`.
            let upper = after.trim_start().strip_prefix('-').filter(|upper| upper.starts_with(char::is_whitespace));
            rest = match upper {
                Some(upper) if operator.is_none() && after.starts_with(char::is_whitespace) => {
                    let (upper, after) = take_version(upper)?;
                    comparisons.push(Comparison::new(Operator::AtLeast, written)?);
                    comparisons.push(Comparison::new(Operator::AtMost, upper)?);
                    after
                }
                _ => {
                    comparisons.push(Comparison::new(operator.unwrap_or(Operator::Equal), written)?);
                    after
                }
            };
            let next = rest.trim_start();
            if next.is_empty() {
                break;
            }
            let separated = next.strip_prefix(',');
            if separated.is_none() && next.len() == rest.len() {
                return Err(ConstraintFault(format!("before {next:?} a blank or a comma is missing")));
            }
            rest = separated.unwrap_or(next).trim_start();
        }
        let prereleases = comparisons.iter().any(|comparison| !comparison.base.pre.is_empty());
        Ok(Group { comparisons, prereleases })
    }

    fn matches(&self, version: &Version) -> bool {
        (version.pre.is_empty() || self.prereleases)
            && self.comparisons.iter().all(|comparison| comparison.matches(version))
    }
}

impl Comparison {
    fn new(operator: Operator, written: Written) -> Result<Comparison, ConstraintFault> {
        let Written { base, given, .. } = written;
        let bounded = matches!(operator, Operator::NotEqual | Operator::Greater | Operator::Less | Operator::AtMost);
        if bounded && given == Given::Nothing {
            return Err(ConstraintFault("a comparison with any version at all says nothing".to_owned()));
        }
        Ok(Comparison { operator, base, given })
    }

    fn matches(&self, version: &Version) -> bool {
        let (base, given) = (&self.base, self.given);
        let major = |version: &Version| version.major;
        let minor = |version: &Version| (version.major, version.minor);
        let same_major = version.major == base.major;
        let same_minor = minor(version) == minor(base);
        let same_given = match given {
            Given::Nothing => true,
            Given::Major => same_major,
            Given::Minor => same_minor,
            Given::Patch => version == base,
        };
        match self.operator {
            Operator::Equal => version >= base && same_given,
            // `!= 1.2-rc` lets 1.2.0 pass.
            Operator::NotEqual if given == Given::Minor => !same_minor || version.pre != base.pre,
            Operator::NotEqual => !same_given,
            Operator::Greater => match given {
                Given::Major => major(version) > major(base),
                Given::Minor => minor(version) > minor(base),
                Given::Nothing | Given::Patch => version > base,
            },
            Operator::AtMost => match given {
                Given::Major => major(version) <= major(base),
                Given::Minor => minor(version) <= minor(base),
                Given::Nothing | Given::Patch => version <= base,
            },
            Operator::Less => version < base,
            Operator::AtLeast => version >= base,
            Operator::Tilde => {
                // The library makes `~0.0.0` mean any version.
                let any = given == Given::Patch && (base.major, base.minor, base.patch) == (0, 0, 0);
                let near = match given {
                    Given::Nothing => true,
                    Given::Major => same_major,
                    Given::Minor | Given::Patch => same_minor,
                };
                version >= base && (any || near)
            }
            Operator::Caret => {
                let compatible = match given {
                    Given::Nothing => true,
                    Given::Major => same_major,
                    _ if base.major > 0 => same_major,
                    Given::Minor => same_minor,
                    Given::Patch if base.minor > 0 => same_minor,
                    Given::Patch => same_minor && version.patch == base.patch,
                };
                version >= base && compatible
            }
        }
    }
}

impl Written {
    /// `v1.2.3-pre+build` and parts of it; `x`, `X` and `*` stand for any number.
    fn parse(text: &str) -> Result<Written, ConstraintFault> {
        let fault = |why: &str| ConstraintFault(format!("{text:?} is not a version: {why}"));
        let numbers = text.strip_prefix('v').unwrap_or(text);
        let (numbers, build) = numbers.split_once('+').map_or((numbers, None), |(a, b)| (a, Some(b)));
        let (numbers, pre) = numbers.split_once('-').map_or((numbers, None), |(a, b)| (a, Some(b)));
        if pre == Some("") || build == Some("") {
            return Err(fault("after - or + something must follow"));
        }
        let pre = Prerelease::new(pre.unwrap_or_default()).map_err(|e| fault(&e.to_string()))?;
        // Build metadata is checked and does not count.
        BuildMetadata::new(build.unwrap_or_default()).map_err(|e| fault(&e.to_string()))?;
        let parts: Vec<&str> = numbers.split('.').collect();
        if parts.len() > 3 {
            return Err(fault("it has more than three numbers"));
        }
        let mut values = [0; 3];
        let (mut given, mut wildcard) = (Given::Nothing, false);
        for ((part, value), reached) in parts.iter().zip(&mut values).zip([Given::Major, Given::Minor, Given::Patch]) {
            if ["x", "X", "*"].contains(part) {
                wildcard = true;
                continue;
            }
            if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(fault("it is numbers with dots between"));
            }
            let number = part.parse().map_err(|_| fault("a number is too large"))?;
            // What follows a wildcard does not count.
            if !wildcard {
                *value = number;
                given = reached;
            }
        }
        let [major, minor, patch] = values;
        Ok(Written { base: Version { pre, ..Version::new(major, minor, patch) }, given, wildcard })
    }
}

fn take_operator(text: &str) -> (Option<Operator>, &str) {
    let found = OPERATORS.iter().find_map(|(sign, operator)| Some((*operator, text.strip_prefix(sign)?)));
    found.map_or((None, text), |(operator, rest)| (Some(operator), rest))
}

fn take_version(text: &str) -> Result<(Written, &str), ConstraintFault> {
    let text = text.trim_start();
    let in_version = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '*' | '+' | '-');
    let end = text.find(|c| !in_version(c)).unwrap_or(text.len());
    let (version, rest) = text.split_at(end);
    if version.is_empty() {
        return Err(ConstraintFault(format!("a version is missing before {text:?}")));
    }
    Ok((Written::parse(version)?, rest))
}

/// The longest constraint that is read.
const MAX_CONSTRAINT: usize = 4096;

/// Longer signs before those that they begin with.
const OPERATORS: [(&str, Operator); 11] = [
    ("!=", Operator::NotEqual),
    (">=", Operator::AtLeast),
    ("=>", Operator::AtLeast),
    ("<=", Operator::AtMost),
    ("=<", Operator::AtMost),
    ("~>", Operator::Tilde),
    ("=", Operator::Equal),
    (">", Operator::Greater),
    ("<", Operator::Less),
    ("~", Operator::Tilde),
    ("^", Operator::Caret),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A constraint, the versions that it wants, and those that it does not.
    const TABLE: &[(&str, &str, &str)] = &[
        // Basic comparisons.
        ("=1.2.3", "1.2.3 v1.2.3", "1.2.4 1.2.2 2.2.3 1.2.3-rc.1"),
        ("1.2.3", "1.2.3", "1.2.4"),
        ("= 1.2.3", "1.2.3", "1.2.4"),
        ("v1.2.3", "1.2.3 v1.2.3", "1.2.4"),
        ("1.2.3+build.7", "1.2.3", "1.2.4"),
        ("!=1.2.3", "1.2.4 0.1.0 2", "1.2.3 2.0.0-rc.1"),
        (">1.2.3", "1.2.4 1.3 2", "1.2.3 1.2.2 1.2.4-rc.1"),
        ("<1.2.3", "1.2.2 1 0.9", "1.2.3 1.2.4 1.2.3-rc.1"),
        (">=1.2.3", "1.2.3 1.2.4 9", "1.2.2 1.2.3-rc.1 1.3.0-rc.1"),
        ("=>1.2.3", "1.2.3 9", "1.2.2"),
        ("<=1.2.3", "1.2.3 0.1", "1.2.4 2"),
        ("=<1.2.3", "1.2.3 0.1", "1.2.4"),
        // Versions in part.
        ("1", "1.0.0 1.9.9 1.4", "0.9.9 2.0.0"),
        ("1.2", "1.2.0 1.2.9", "1.3.0 1.1.9"),
        ("=1.2", "1.2.0 1.2.9", "1.3.0"),
        ("!=4.1", "4.2.0 5.1.0", "4.1.0 4.1.1 5.1.0-alpha.1"),
        ("!=4", "3.9.9 5.0.0", "4.0.0 4.9.9"),
        (">11", "12.0.0 12.1.1", "11.0.0 11.1.0"),
        (">11.1", "11.2.0 11.2.1 12", "11.1.0 11.1.1 11.0.9"),
        (">0", "1 1.0.0", "0 0.5.0 0.0.1-alpha"),
        (">=11", "11.0.0 11.1.2 12", "10.9.9"),
        (">=11.1", "11.1.0 11.1.2", "11.0.2"),
        ("<11", "10.9.9 0.1.0", "11.0.0 11.1.0"),
        ("<1.1", "1.0.9 0.1.0", "1.1.0 1.1.1"),
        ("<=11", "11.2.3 1.2.3", "12.0.0 12.2.3"),
        ("<=1.1", "1.1.0 1.1.1 0.1.0", "1.2.0 1.2.3 2"),
        // And, or.
        (">= 1.2, < 3.0.0 || >= 4.2.3", "1.2.0 2.9.9 4.2.3 5", "1.1.9 3.0.0 4.2.2"),
        (">= 1.2 < 3.0.0 || >= 4.2.3", "1.2.0 2.9.9 4.2.3 5", "1.1.9 3.0.0 4.2.2"),
        (">=1.1,<2,!=1.2.3||>3", "1.1.0 1.2.4 4.1.2", "1.2.3 2.0.0 3.0.0 3.1.2"),
        (">=1.1   <2   != 1.2.3", "1.1.0 1.9.9", "1.2.3 2.0.0"),
        (">=1.1 , <2", "1.5", "2.1 1.0"),
        ("1.1 || 1.3", "1.1.5 1.3.0", "1.2.0"),
        ("12.3.34 ~12.3", "12.3.34", "12.3.35"),
        // Ranges with a hyphen.
        ("1.2 - 1.4.5", "1.2.0 1.4.5 1.3.9", "1.1.9 1.4.6"),
        ("2.3.4 - 4.5", "2.3.4 4.5.0 4.5.9", "2.3.3 4.6.0"),
        ("2 - 3", "2.0.0 3.0.0 3.9.9", "1.9.9 4.0.0"),
        ("1 - 2 || 4 - 5", "1.5 4.5", "3.0.0 6.0.0"),
        ("1 - 5 != 3", "2.0.0 4.0.0", "3.0.0 3.1.0 6.0.0"),
        ("1 - 5, 2 - 3", "2.5.0", "1.5.0 4.0.0"),
        // Not a range: a pre-release.
        ("1.1-3", "1.1.0-3 1.1.0", "1.1.0-2 4.3.2"),
        // Wildcards.
        ("*", "0.0.0 1.2.3 45.0", "1.2.3-rc.1"),
        ("x", "0.0.0 1.2.3", "1.2.3-rc.1"),
        ("1.2.x", "1.2.0 1.2.9", "1.3.0 1.1.9"),
        ("1.2.X", "1.2.0 1.2.9", "1.3.0"),
        ("1.2.*", "1.2.0 1.2.9", "1.3.0"),
        ("1.x", "1.0.0 1.4", "2.0.0 0.9.0"),
        ("0.x.x", "0.1.2", "1.2.3"),
        (">=1.2.x", "1.2.0 9.0.0", "1.1.9"),
        ("<=2.x", "2.9.9 1.0", "3.0.0"),
        ("<=1.1.x", "1.1.500", "1.2.0"),
        ("<1.1.x", "1.0.500", "1.1.0 1.2.1"),
        (">1.x", "2.0.0", "1.9.9"),
        ("!=4.x", "5.1.0", "4.1.0"),
        ("!=4.2.x", "4.1.0", "4.2.3"),
        (">=*", "0.0.1 9.9.9", "1.0.0-rc.1"),
        // Tilde.
        ("~1.2.3", "1.2.3 1.2.9", "1.2.2 1.3.0"),
        ("~>1.2.3", "1.2.3 1.2.9", "1.3.0"),
        ("~1", "1.0.0 1.9.9", "2.0.0"),
        ("~2.3", "2.3.0 2.3.9", "2.4.0 2.2.9"),
        ("~1.2.x", "1.2.0 1.2.9", "1.3.0"),
        ("~1.x", "1.0.0 1.9", "2.0.0"),
        ("~*", "2.1.1 0.0.1", "2.1.1-rc.1"),
        ("~0.0.0", "1.2.3 0.0.1", "1.2.3-rc.1"),
        // Caret.
        ("^1.2.3", "1.2.3 1.8.9", "1.2.2 2.0.0"),
        ("^1.2.x", "1.2.0 1.9.0", "1.1.9 2.0.0"),
        ("^2.3", "2.3.0 2.9.9", "2.2.9 3.0.0"),
        ("^2.x", "2.0.0 2.9.9", "3.0.0 1.9.9"),
        ("^0.2.3", "0.2.3 0.2.9", "0.2.2 0.3.0 1.2.3"),
        ("^0.2", "0.2.0 0.2.9", "0.3.0 1.2.0"),
        ("^0.0.3", "0.0.3", "0.0.4 0.1.3 1.0.3"),
        ("^0.0", "0.0.0 0.0.9", "0.1.0 1.0.4"),
        ("^0", "0.0.0 0.9.9", "1.0.0"),
        ("^*", "0.0.1 7.1.0", "7.1.0-rc.1"),
        // Pre-releases.
        (">=1.2.3-0", "1.2.3-alpha 1.2.3 1.3.0-beta.1", "1.2.2 1.2.2-alpha"),
        (">=1.2.3-BETA", "1.2.3-alpha", "1.2.3-ALPHA"),
        (">=1.2-0 <2", "1.5.0-rc.1 1.2.0-0 1.9.9", "2.0.0 1.1.0-rc.1"),
        (">=1.2 || >=2.0.0-0", "1.2.0 2.0.0-rc.1", "1.3.0-rc.1"),
        ("*-0", "1.2.3-alpha.1 1.2.3", ""),
        (">1.2.3-alpha.1", "1.2.3-alpha.2 1.2.3 1.3.3-alpha.2", "1.2.3-alpha.1"),
        ("<=1.1-a", "0.1.0-alpha 1.1.0-a", "1.2.0"),
        ("!=4.1-alpha", "4.1.0 4.2.0-alpha", "4.1.0-alpha 4.1.1-alpha"),
        ("~1.2.3-beta.2", "1.2.3-beta.4 1.2.4-beta.2 1.2.3", "1.2.3-beta.1 1.3.4-beta.2"),
        ("~1.1-alpha", "1.1.1-beta 1.1.0-alpha", "1.2.0-alpha"),
        ("^1.2.0-alpha.2", "1.2.0-alpha.2 1.2.1-alpha.1", "1.2.0-alpha.1 2.0.0"),
        ("^0.2.3-beta.2", "0.2.3-beta.4 0.2.4-beta.2", "0.3.4-beta.2"),
    ];

    #[test]
    fn constraints_mean_what_masterminds_documents() {
        for (text, wanted, unwanted) in TABLE {
            let constraint = Constraint::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            for (versions, expected) in [(wanted, true), (unwanted, false)] {
                for tag in versions.split_whitespace() {
                    let version = version(tag).unwrap_or_else(|| panic!("{tag} is a version"));
                    assert_eq!(constraint.matches(&version), expected, "{text:?} against {tag}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_constraint_is_refused() {
        let wrong = [
            "",
            " ",
            "||",
            ">=1 ||",
            "foo",
            ">= bar",
            "BAR >= 1.2.3",
            "12.3.4.1234",
            "12.3.34~ 1.2.3",
            ">=1<2",
            ">=",
            "1.2.3-",
            "1.2.3+",
            ">> 1",
            "1,,2",
            "1,",
            ">1 - 2",
            "1 -2",
            "1.2.3-01",
            "1..2",
            ".1",
            "V1",
            "!=*",
            "<=x",
            "1.2.3 && 2",
            "99999999999999999999",
            "~ ~1",
            "\u{e4}",
        ];
        for text in wrong {
            assert!(Constraint::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn tags_that_are_versions() {
        for (tag, expected) in [("v1.2.3", "1.2.3"), ("1.2", "1.2.0"), ("7", "7.0.0"), ("1.35-alpine", "1.35.0-alpine")]
        {
            assert_eq!(version(tag).map(|version| version.to_string()).as_deref(), Some(expected));
        }
        for tag in ["latest", "1.2.3.4", "1.x", "1_2", "", "v", "sha256-00", "1.2.3-01", "a1"] {
            assert_eq!(version(tag), None, "{tag}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = Constraint::parse(&text);
            let _ = version(&text);
        }

        #[test]
        fn nothing_like_a_constraint_panics(text in "[ ,|0-3.xv*<>=!~^+a-]{0,24}", tag in "v?[0-3](\\.[0-3]){0,2}(-[a1])?") {
            let version = version(&tag).expect("a version");
            if let Ok(constraint) = Constraint::parse(&text) {
                let _ = constraint.matches(&version);
            }
        }

        #[test]
        fn a_version_is_matched_by_itself(tag in "v?(0|[1-9][0-9]{0,3})(\\.(0|[1-9][0-9]{0,3})){0,2}(-[a-z]{1,5})?") {
            let version = version(&tag).expect("a version");
            for operator in ["", "=", ">=", "<=", "~", "^"] {
                let constraint = Constraint::parse(&format!("{operator}{tag}")).expect("a constraint");
                prop_assert!(constraint.matches(&version));
            }
        }
    }
}
