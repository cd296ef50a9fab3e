//! Which platforms of an index are carried.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::oci::{Descriptor, Platform};

/// One platform as a person asks for it: `os/architecture[/variant][:os.version]`. Without a variant any variant fits,
/// without a version any version; a version also fits those that begin with its numbers (`10.0.20348` fits
/// `10.0.20348.1`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformFilter(Platform);

/// Which platforms are carried.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Platforms {
    /// Every one, and the index unchanged.
    #[default]
    All,
    /// One, whose manifest takes the index's place: the name lands as that manifest.
    Only(PlatformFilter),
    /// Some, and the index unchanged: what is left out is absent.
    Index(Vec<PlatformFilter>),
    /// The first of these that the index has to the letter, as a machine would run it; else the first child without a
    /// platform. Of several such children, one that is marked as zstd. It takes the index's place.
    Best(Vec<Platform>),
}

impl Platforms {
    /// One platform lands as its own manifest unless `as_index`; several keep the index.
    pub fn new(mut wishes: Vec<PlatformFilter>, as_index: bool) -> Self {
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
                let fitting = best.iter().find_map(|wanted| best_of(children, |child| fits(&wanted, child)));
                let plain = || best_of(children, |child| complete(child).is_none());
                let asked = best.first().map_or_else(String::new, ToString::to_string);
                return fitting.or_else(plain).map(Some).ok_or_else(|| none_fits(&asked, children));
            }
        };
        let mut fitting: Vec<&Descriptor> = children.iter().filter(|child| wish.fits(child)).collect();
        // linux/arm64 means the one without a variant where there is one.
        if fitting.iter().any(|child| wish.is_variant_of(child)) {
            fitting.retain(|child| wish.is_variant_of(child));
        }
        match fitting.as_slice() {
            [] => Err(none_fits(&wish.to_string(), children)),
            [one, others @ ..] if others.iter().all(|other| other.digest == one.digest) => Ok(Some(one)),
            several => Err(several_fit(wish, several)),
        }
    }

    /// Whether `chosen`, which takes the place of its index, was preferred to another child of its platform because it is
    /// the one with zstd layers.
    pub fn prefers_zstd(&self, children: &[Descriptor], chosen: &Descriptor) -> bool {
        let is_other = |child: &&Descriptor| match (complete(child), complete(chosen)) {
            (Some(one), Some(other)) => one.is(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        matches!(self, Platforms::Best(_)) && is_zstd(chosen) && children.iter().filter(is_other).any(|c| !is_zstd(c))
    }

    /// How many attestations of `chosen`, which takes the place of its index, are left behind with the index.
    pub(super) fn attestations_of(children: &[Descriptor], chosen: &Descriptor) -> usize {
        let subject = chosen.digest.to_string();
        children.iter().filter(|child| about(child) == Some(subject.as_str())).count()
    }

    /// Which of several wishes no child fits, where others are carried. An index of something else than platforms
    /// lacks none.
    pub fn missing(&self, children: &[Descriptor]) -> Vec<&PlatformFilter> {
        let Platforms::Index(wishes) = self else { return Vec::new() };
        let missing: Vec<_> = wishes.iter().filter(|wish| !children.iter().any(|child| wish.fits(child))).collect();
        if missing.len() < wishes.len() { missing } else { Vec::new() }
    }

    /// The children that are carried, and those that are left out. What has no platform is carried; an attestation
    /// goes with the child that it is about.
    pub(super) fn sort<'a>(&self, children: &'a [Descriptor]) -> (Vec<&'a Descriptor>, Vec<&'a Descriptor>) {
        let Platforms::Index(wishes) = self else { return (children.iter().collect(), Vec::new()) };
        let fits = |child: &Descriptor| wishes.iter().any(|wish| wish.fits(child));
        children.iter().partition(|child| match (complete(child), about(child)) {
            (None, _) => true,
            (Some(_), Some(subject)) => children.iter().any(|other| other.digest.to_string() == subject && fits(other)),
            (Some(_), None) => fits(child),
        })
    }
}

impl PlatformFilter {
    fn fits(&self, child: &Descriptor) -> bool {
        child.platform.as_ref().is_some_and(|platform| {
            platform.os == self.0.os
                && platform.architecture == self.0.architecture
                && (self.0.variant.is_none() || platform.variant == self.0.variant)
                && self.0.os_version.as_ref().is_none_or(|asked| {
                    let rest = platform.os_version.as_ref().and_then(|version| version.strip_prefix(asked.as_str()));
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                })
        })
    }

    /// Whether the child has the variant that is asked for, or none where none is asked for.
    fn is_variant_of(&self, child: &Descriptor) -> bool {
        child.platform.as_ref().is_some_and(|platform| platform.is(&self.0))
    }
}

impl FromStr for PlatformFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word =
            |word: &str| !word.is_empty() && word.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c));
        let (platform, version) = text.split_once(':').map_or((text, None), |(before, after)| (before, Some(after)));
        let words: Vec<&str> = platform.split('/').collect();
        match words.as_slice() {
            [os, architecture, variant @ ..]
                if variant.len() <= 1 && words.iter().copied().chain(version).all(word) =>
            {
                let mut platform = Platform::new(os, architecture, variant.first().copied());
                platform.os_version = version.map(str::to_owned);
                Ok(PlatformFilter(platform))
            }
            _ => Err("a platform is OS/ARCHITECTURE[/VARIANT][:OS.VERSION], such as linux/amd64, linux/arm/v7 or \
                      windows/amd64:10.0.20348.1"
                .into()),
        }
    }
}

impl fmt::Display for PlatformFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The digest that a child is an attestation of, as buildkit notes it.
fn about(child: &Descriptor) -> Option<&str> {
    child.annotations.as_ref()?.get("vnd.docker.reference.digest").map(String::as_str)
}

/// The first child that fits, one that is marked as zstd before the others, as podman and skopeo choose.
fn best_of(children: &[Descriptor], fits: impl Fn(&Descriptor) -> bool) -> Option<&Descriptor> {
    let mut fitting = children.iter().filter(|child| fits(child));
    let first = fitting.next()?;
    Some(if is_zstd(first) { first } else { fitting.find(|child| is_zstd(child)).unwrap_or(first) })
}

/// Whether a child is marked as the variant with zstd layers (containers-image, "OCI1InstanceAnnotationCompressionZSTD").
fn is_zstd(child: &Descriptor) -> bool {
    let value = child.annotations.as_ref().and_then(|annotations| annotations.get(ZSTD));
    value.is_some_and(|value| value == "true")
}

const ZSTD: &str = "io.github.containers.compression.zstd";

/// The platform of a child, where it says all of it: `{}` says nothing.
fn complete(child: &Descriptor) -> Option<&Platform> {
    child.platform.as_deref().filter(|platform| platform.is_complete())
}

fn none_fits(asked: &str, children: &[Descriptor]) -> Error {
    Error::not_found(format!("there is no platform {asked} in the index; it has {}", has(children)))
        .hint("choose among those that it has, or carry all of them")
}

fn has<'a>(children: impl IntoIterator<Item = &'a Descriptor>) -> String {
    listed(children).unwrap_or_else(|| "none".into())
}

/// The error for several children of which one was to be chosen: Windows builds, or images for certain features.
fn several_fit(wish: &PlatformFilter, children: &[&Descriptor]) -> Error {
    let platforms: Vec<&Platform> = children.iter().filter_map(|child| child.platform.as_deref()).collect();
    let line = |child: &&Descriptor| {
        let platform = child.platform.as_ref().map(|platform| platform.quoted()).unwrap_or_default();
        format!("{platform}  {}", child.digest)
    };
    let told_apart = |one: &Platform| {
        let same = |other: &&&Platform| other.is(one) && other.os_version == one.os_version;
        platforms.iter().filter(same).count() == 1
    };
    let error = Error::usage(format!("the index has {} platforms that fit {wish}", children.len()))
        .list(children.iter().map(line));
    match platforms.iter().all(|platform| told_apart(platform)) {
        true => error.hint(format!("say which: --platform {}", has(children.iter().copied()))),
        false => error.hint(format!(
            "no option tells them apart: name one of them by its digest, such as REPOSITORY@{}",
            children[0].digest
        )),
    }
}

/// The platforms of children, without attestations; nothing if there are none. It may stand in a hint, so what is no
/// plain word is only counted.
pub(super) fn listed<'a>(children: impl IntoIterator<Item = &'a Descriptor>) -> Option<String> {
    let known = children.into_iter().filter_map(complete).filter(|platform| platform.os != "unknown");
    let (plain, others): (Vec<&Platform>, Vec<&Platform>) = known.partition(|platform| platform.is_plain());
    let mut platforms: Vec<String> = plain.iter().take(MOST_LISTED).map(ToString::to_string).collect();
    match plain.len() - platforms.len() + others.len() {
        0 => {}
        more => platforms.push(format!("and {more} more")),
    }
    (!platforms.is_empty()).then(|| platforms.join(", "))
}

/// Of platforms in a message: an index may have thousands.
const MOST_LISTED: usize = 24;

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
            platform: platform.map(|text| Box::new(text.parse::<PlatformFilter>().unwrap().0)),
            artifact_type: None,
            annotations: about
                .map(|about| BTreeMap::from([("vnd.docker.reference.digest".into(), about.digest.to_string())])),
        }
    }

    #[test]
    fn the_best_platform_is_the_first_that_is_there_to_the_letter() {
        let best = |texts: &[&str]| {
            Platforms::Best(texts.iter().map(|text| text.parse::<PlatformFilter>().unwrap().0).collect())
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

    #[test]
    fn of_gzip_and_zstd_for_one_platform_zstd_is_the_best() {
        let zstd = |seed: &str, platform: Option<&str>, value: &str| Descriptor {
            annotations: Some(BTreeMap::from([(ZSTD.to_owned(), value.to_owned())])),
            ..child(seed, platform, None)
        };
        let arm = zstd("arm", Some("linux/arm64"), "true");
        let [gzip, first, second] = [
            zstd("gzip", Some("linux/amd64"), "false"),
            zstd("first", Some("linux/amd64"), "true"),
            zstd("second", Some("linux/amd64"), "true"),
        ];
        let best = Platforms::Best(vec![Platform::new("linux", "amd64", None)]);
        let children = [arm.clone(), gzip.clone(), first.clone(), second.clone()];
        let chosen = best.choose_one(&children).unwrap().unwrap();
        assert_eq!(chosen, &first);
        assert!(best.prefers_zstd(&children, chosen));
        assert!(!best.prefers_zstd(&[arm, first.clone(), second], &first), "there is no other");
        assert!(!best.prefers_zstd(&children, &gzip));
        let plain = [child("gzip", None, None), zstd("zstd", None, "true")];
        assert_eq!(best.choose_one(&plain).unwrap(), Some(&plain[1]));
        assert!(best.prefers_zstd(&plain, &plain[1]));
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

    fn windows(version: &str) -> Descriptor {
        child(version, Some(&format!("windows/amd64:{version}")), None)
    }

    #[test]
    fn of_several_versions_of_windows_none_is_chosen_silently() {
        let children = [windows("10.0.17763.1"), windows("10.0.20348.1"), child("l", Some("linux/amd64"), None)];
        let several = only("windows/amd64").choose_one(&children).expect_err("two fit");
        for child in &children[..2] {
            assert!(several.chain().contains(&format!("{}", child.digest)), "{several:?}");
        }
        let expected = "say which: --platform windows/amd64:10.0.17763.1, windows/amd64:10.0.20348.1";
        assert_eq!(several.hints(), [expected]);
        for asked in ["windows/amd64:10.0.20348.1", "windows/amd64:10.0.20348"] {
            assert_eq!(only(asked).choose_one(&children).unwrap(), Some(&children[1]), "{asked}");
        }
        for asked in ["windows/amd64:10.0.2034", "windows/amd64:10.0.20348.1.1", "linux/amd64:1"] {
            only(asked).choose_one(&children).expect_err(asked);
        }
        let twice = [windows("10.0.17763.1"), windows("10.0.17763.1")];
        assert_eq!(only("windows/amd64").choose_one(&twice).unwrap(), Some(&twice[0]), "both are the same");
    }

    #[test]
    fn images_for_features_are_named_by_digest() {
        let plain = child("plain", Some("linux/amd64"), None);
        let mut nydus = child("nydus", Some("linux/amd64"), None);
        nydus.platform.as_mut().unwrap().os_features = vec!["nydus.remoteimage.v1".into()];
        let children = [plain.clone(), nydus.clone()];
        let several = only("linux/amd64").choose_one(&children).expect_err("two fit");
        assert!(several.chain().contains("linux/amd64+nydus.remoteimage.v1"), "{several:?}");
        assert!(several.hints()[0].contains("by its digest"), "{several:?}");
    }

    #[test]
    fn a_platform_that_says_nothing_is_none() {
        let mut empty = child("empty", None, None);
        empty.platform = Some(Box::default());
        let amd64 = child("a", Some("linux/amd64"), None);
        let children = [empty.clone(), amd64.clone(), child("b", Some("linux/arm64"), None)];
        let (kept, left_out) = Platforms::new(vec!["linux/amd64".parse().unwrap()], true).sort(&children);
        assert_eq!((kept, left_out), (vec![&empty, &amd64], vec![&children[2]]));
        let best = Platforms::Best(vec![Platform::new("linux", "s390x", None)]);
        assert_eq!(best.choose_one(&children).unwrap(), Some(&empty));
        assert!(best.choose_one(&children[1..]).expect_err("there is none").chain().contains("it has linux/amd64"));
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for text in ["linux", "linux/", "linux/amd64/v1/x", "linux/amd64:", "linux/amd64:1:2", "linux/am d64", ":1"] {
            text.parse::<PlatformFilter>().expect_err(text);
        }
        assert_eq!("linux/arm/v7:1.2".parse::<PlatformFilter>().unwrap().to_string(), "linux/arm/v7:1.2");
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
