//! Which platforms of an index are carried.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::oci::{Descriptor, Platform};

/// One platform as a person asks for it: `os/architecture[/variant]`; without a variant any variant fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformWish(Platform);

/// Which platforms are carried.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Platforms {
    /// Every one, and the index unchanged.
    #[default]
    All,
    /// One, whose manifest takes the index's place: the name lands as that manifest.
    Only(PlatformWish),
    /// Some, and the index unchanged: what is left out is absent.
    Index(Vec<PlatformWish>),
    /// The first of these that the index has to the letter, as a machine would run it; else the first child without a
    /// platform. It takes the index's place.
    Best(Vec<Platform>),
}

impl Platforms {
    /// One platform lands as its own manifest unless `as_index`; several keep the index.
    pub fn new(mut wishes: Vec<PlatformWish>, as_index: bool) -> Self {
        match wishes.len() {
            0 => Platforms::All,
            1 if !as_index => Platforms::Only(wishes.remove(0)),
            _ => Platforms::Index(wishes),
        }
    }

    /// With [`Platforms::Only`] and [`Platforms::Best`], the child that takes its index's place.
    ///
    /// # Errors
    /// `NotFound` when no child fits, `Usage` when several do; both list what there is.
    pub fn choose_one<'a>(&self, children: &'a [Descriptor]) -> Result<Option<&'a Descriptor>> {
        let wish = match self {
            Platforms::All => return Ok(None),
            Platforms::Only(wish) => wish,
            Platforms::Index(wishes) => {
                if children.iter().any(|child| wishes.iter().any(|wish| wish.fits(child))) {
                    return Ok(None);
                }
                let asked: Vec<String> = wishes.iter().map(ToString::to_string).collect();
                return Err(none_fits(&asked.join(", "), children));
            }
            Platforms::Best(best) => {
                let fits = |wanted: &&Platform, child: &Descriptor| {
                    child.platform.as_ref().is_some_and(|platform| platform.is(wanted))
                };
                let fitting = best.iter().find_map(|wanted| children.iter().find(|child| fits(&wanted, child)));
                let plain = || children.iter().find(|child| child.platform.is_none());
                let asked = best.first().map_or_else(String::new, ToString::to_string);
                return fitting.or_else(plain).map(Some).ok_or_else(|| none_fits(&asked, children));
            }
        };
        let fitting: Vec<&Descriptor> = children.iter().filter(|child| wish.fits(child)).collect();
        // linux/arm64 means the one without a variant where there is one.
        let exact = fitting.iter().find(|child| child.platform.as_ref().is_some_and(|p| *p == wish.0));
        match (exact, fitting.as_slice()) {
            (Some(exact), _) => Ok(Some(exact)),
            (None, [one]) => Ok(Some(one)),
            (None, []) => Err(none_fits(&wish.to_string(), children)),
            (None, _) => Err(Error::usage(format!("the index has several platforms that fit {wish}"))
                .hint(format!("say which: --platform {}", listed(children.iter().filter(|child| wish.fits(child)))))),
        }
    }

    /// Which of several wishes no child fits, where others are carried. An index of something else than platforms
    /// lacks none.
    pub fn missing(&self, children: &[Descriptor]) -> Vec<&PlatformWish> {
        let Platforms::Index(wishes) = self else { return Vec::new() };
        let missing: Vec<_> = wishes.iter().filter(|wish| !children.iter().any(|child| wish.fits(child))).collect();
        if missing.len() < wishes.len() { missing } else { Vec::new() }
    }

    /// The children that are carried, and those that are left out. What has no platform is carried; an attestation
    /// goes with the child that it is about.
    pub(super) fn sort<'a>(&self, children: &'a [Descriptor]) -> (Vec<&'a Descriptor>, Vec<&'a Descriptor>) {
        let Platforms::Index(wishes) = self else { return (children.iter().collect(), Vec::new()) };
        let fits = |child: &Descriptor| wishes.iter().any(|wish| wish.fits(child));
        children.iter().partition(|child| match (&child.platform, about(child)) {
            (None, _) => true,
            (Some(_), Some(subject)) => children.iter().any(|other| other.digest.to_string() == subject && fits(other)),
            (Some(_), None) => fits(child),
        })
    }
}

impl PlatformWish {
    fn fits(&self, child: &Descriptor) -> bool {
        child.platform.as_ref().is_some_and(|platform| {
            platform.os == self.0.os
                && platform.architecture == self.0.architecture
                && (self.0.variant.is_none() || platform.variant == self.0.variant)
        })
    }
}

impl FromStr for PlatformWish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word =
            |word: &str| !word.is_empty() && word.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c));
        let words: Vec<&str> = text.split('/').collect();
        match words.as_slice() {
            [os, architecture, variant @ ..] if variant.len() <= 1 && words.iter().all(|text| word(text)) => {
                Ok(PlatformWish(Platform {
                    os: (*os).to_owned(),
                    architecture: (*architecture).to_owned(),
                    variant: variant.first().map(|variant| (*variant).to_owned()),
                }))
            }
            _ => Err("a platform is OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/amd64".into()),
        }
    }
}

impl fmt::Display for PlatformWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The digest that a child is an attestation of, as buildkit notes it.
fn about(child: &Descriptor) -> Option<&str> {
    child.annotations.as_ref()?.get("vnd.docker.reference.digest").map(String::as_str)
}

fn none_fits(asked: &str, children: &[Descriptor]) -> Error {
    Error::not_found(format!("there is no platform {asked} in the index; it has {}", listed(children)))
        .hint("choose among those that it has, or carry all of them")
}

fn listed<'a>(children: impl IntoIterator<Item = &'a Descriptor>) -> String {
    let platforms: Vec<String> = children
        .into_iter()
        .filter_map(|child| child.platform.as_ref())
        .filter(|platform| platform.os != "unknown")
        .map(ToString::to_string)
        .collect();
    if platforms.is_empty() { "none".into() } else { platforms.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Digest, MediaType};
    use std::collections::BTreeMap;

    fn child(seed: &str, platform: Option<&str>, about: Option<&Descriptor>) -> Descriptor {
        Descriptor {
            media_type: MediaType::new(MediaType::OCI_MANIFEST),
            digest: Digest::of(seed.as_bytes()),
            size: 1,
            platform: platform.map(|text| text.parse::<PlatformWish>().unwrap().0),
            artifact_type: None,
            annotations: about
                .map(|about| BTreeMap::from([("vnd.docker.reference.digest".into(), about.digest.to_string())])),
        }
    }

    #[test]
    fn the_best_platform_is_the_first_that_is_there_to_the_letter() {
        let best = |texts: &[&str]| {
            Platforms::Best(texts.iter().map(|text| text.parse::<PlatformWish>().unwrap().0).collect())
        };
        let [v7, v8] = ["linux/arm/v7", "linux/arm/v8"].map(|text| child(text, Some(text), None));
        let (amd64, none) = (child("amd64", Some("linux/amd64"), None), child("none", None, None));
        let all = [none.clone(), v7.clone(), v8.clone(), amd64.clone()];
        let chosen = |texts: &[&str]| best(texts).choose_one(&all).unwrap().unwrap().digest;
        assert_eq!(chosen(&["linux/amd64"]), amd64.digest);
        assert_eq!(chosen(&["linux/arm/v8", "linux/arm/v7", "linux/arm"]), v8.digest);
        assert_eq!(chosen(&["linux/arm/v6", "linux/arm"]), none.digest, "no other variant will do");
        let error = best(&["linux/s390x"]).choose_one(&all[1..]).expect_err("there is none");
        assert!(error.chain().contains("linux/s390x") && error.chain().contains("linux/arm/v7"), "{}", error.chain());
    }

    fn only(text: &str) -> Platforms {
        Platforms::new(vec![text.parse().unwrap()], false)
    }

    #[test]
    fn one_platform_is_its_own_manifest() {
        let children = [
            child("a", Some("linux/amd64"), None),
            child("v6", Some("linux/arm/v6"), None),
            child("v7", Some("linux/arm/v7"), None),
            child("v8", Some("linux/arm64/v8"), None),
        ];
        assert_eq!(only("linux/amd64").choose_one(&children).unwrap(), Some(&children[0]));
        assert_eq!(only("linux/arm64").choose_one(&children).unwrap(), Some(&children[3]));
        assert_eq!(only("linux/arm/v7").choose_one(&children).unwrap(), Some(&children[2]));
        let several = only("linux/arm").choose_one(&children).expect_err("ambiguous");
        assert!(several.hints()[0].contains("linux/arm/v6, linux/arm/v7"), "{several:?}");
        let none = only("windows/amd64").choose_one(&children).expect_err("not there");
        assert!(none.chain().contains("it has linux/amd64, linux/arm/v6"), "{none:?}");
    }

    #[test]
    fn several_platforms_keep_the_index_and_leave_the_rest_out() {
        let amd64 = child("a", Some("linux/amd64"), None);
        let arm64 = child("b", Some("linux/arm64"), None);
        let children = [
            amd64.clone(),
            arm64.clone(),
            child("attestation a", Some("unknown/unknown"), Some(&amd64)),
            child("attestation b", Some("unknown/unknown"), Some(&arm64)),
            child("no platform", None, None),
        ];
        let platforms = Platforms::new(vec!["linux/amd64".parse().unwrap()], true);
        assert_eq!(platforms.choose_one(&children).unwrap(), None);
        let (kept, left_out) = platforms.sort(&children);
        assert_eq!(kept, [&children[0], &children[2], &children[4]]);
        assert_eq!(left_out, [&children[1], &children[3]]);
    }
}
