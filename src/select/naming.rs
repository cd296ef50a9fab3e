//! Under which name an image lands. Chosen at export, sealed, and never changed by an import.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::str::FromStr;

use crate::content::SourceRepository;
use crate::error::{Error, Result};
use crate::oci::{Digest, Host, Name, Reference, Repository, Selector};

/// The three ways to make a name out of a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NamePolicy {
    /// `registry.example.com/ns/app:1` lands as `ns/app:1`.
    #[default]
    Path,
    /// `registry.example.com/ns/app:1` lands as `registry.example.com/ns/app:1`.
    Scoped,
    /// `registry.example.com/ns/app:1` lands as `app:1`.
    Base,
}

/// How a run makes its names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Out of which part of the reference.
    pub policy: NamePolicy,
    /// What is put behind every tag; may be empty.
    pub suffix: String,
    /// Whether names are directories, where a suffix can stand behind a digest, too: `app@sha256:...-mirror`.
    pub in_directories: bool,
}

impl From<NamePolicy> for Names {
    fn from(way: NamePolicy) -> Self {
        Names { policy: way, ..Names::default() }
    }
}

impl Names {
    /// The name for `reference`, whose manifest or index is `digest`.
    ///
    /// # Errors
    /// `Usage` when a suffix is wanted and cannot be put behind the image, or would not be part of a tag.
    pub fn name(&self, reference: &Reference, digest: Digest) -> Result<Name> {
        let name = self.policy.name(reference, digest)?;
        let suffix = &self.suffix;
        match name {
            _ if suffix.is_empty() => Ok(name),
            Name::Tagged(repository, tag) => {
                let tag = format!("{tag}{suffix}").parse().map_err(|e| {
                    Error::usage(format!("{suffix:?} cannot stand behind the tag of {reference}")).caused_by(e)
                })?;
                Ok(Name::Tagged(repository, tag))
            }
            Name::Digested(..) if self.in_directories => Ok(name),
            Name::Digested(..) => Err(no_tag(suffix, reference)),
        }
    }

    /// The name for an image that lies in a directory of a tree of `skopeo sync --dest dir`; `path` is its path below
    /// the tree, such as `registry.example.com:5000/ns/app:1`. It is kept, but for [`NamePolicy::Base`]. Where the directory
    /// says neither tag nor digest, the tag is `latest`.
    ///
    /// # Errors
    /// `Usage` when the path cannot be a name.
    pub fn in_tree(&self, path: &str) -> Result<Name> {
        let (folders, last) = path.rsplit_once('/').map_or((None, path), |(folders, last)| (Some(folders), last));
        let (base, mark) = last.find([':', '@']).map_or((last, ":latest"), |at| last.split_at(at));
        let suffix = match mark.starts_with('@') {
            true if !self.suffix.is_empty() && !self.in_directories => return Err(no_tag(&self.suffix, path)),
            true => "",
            false => &self.suffix,
        };
        let folders = folders.filter(|_| self.policy != NamePolicy::Base).map(|folders| path_of(folders) + "/");
        format!("{}{base}{mark}{suffix}", folders.unwrap_or_default()).parse().map_err(|e| {
            Error::usage(format!("the directory {path} cannot be the name of an image"))
                .caused_by(e)
                .hint("rename it to PATH:TAG, in lower case")
        })
    }

    /// Where skopeo sync puts an image that lands as `name` below a directory: the same, but a registry that stands in
    /// front keeps its port as it is written.
    pub fn directory(&self, reference: &Reference, name: &Name) -> String {
        let directory = match (self.policy, name) {
            (NamePolicy::Scoped, Name::Tagged(_, tag)) => format!("{}/{}:{tag}", reference.host, reference.repository),
            (NamePolicy::Scoped, Name::Digested(_, digest)) => {
                format!("{}/{}@{digest}", reference.host, reference.repository)
            }
            _ => name.to_string(),
        };
        directory + self.behind_digest(name)
    }

    /// What stands behind the directory of an image, beside its name: a name with a digest cannot hold a suffix.
    pub fn behind_digest(&self, name: &Name) -> &str {
        match name {
            Name::Digested(..) => &self.suffix,
            Name::Tagged(..) => "",
        }
    }
}

impl NamePolicy {
    /// The name for `reference`, whose manifest or index is `digest`.
    pub fn name(self, reference: &Reference, digest: Digest) -> Result<Name> {
        let repository = match self {
            NamePolicy::Path => reference.repository.clone(),
            NamePolicy::Base => reference.repository.base(),
            NamePolicy::Scoped => scoped(&reference.host, &reference.repository)?,
        };
        Ok(match reference.selector.as_ref().and_then(Selector::tag) {
            Some(tag) => Name::Tagged(repository, tag.clone()),
            None => Name::Digested(repository, digest),
        })
    }

    /// What keeps images of two repositories apart that have one name: a hint for the run that was named so.
    pub(crate) fn apart(self, one: &SourceRepository, other: &SourceRepository) -> &'static str {
        match self {
            NamePolicy::Path | NamePolicy::Base if one != other => {
                "use --scoped, which keeps the registry in the name, or leave one of them out"
            }
            NamePolicy::Path | NamePolicy::Base | NamePolicy::Scoped => {
                "leave one of them out: a name stands for one image"
            }
        }
    }
}

impl fmt::Display for NamePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NamePolicy::Path => "path",
            NamePolicy::Scoped => "scoped",
            NamePolicy::Base => "base",
        })
    }
}

impl FromStr for NamePolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "path" => Ok(NamePolicy::Path),
            "scoped" => Ok(NamePolicy::Scoped),
            "base" => Ok(NamePolicy::Base),
            _ => Err(format!("{text:?} is none of path, scoped, base")),
        }
    }
}

/// Refuses sources that have one name and different digests; the same digest under one name is one image. Each source
/// comes with the repository that holds it.
///
/// # Errors
/// `Usage`, naming both sources and the name.
pub fn check_collisions<'a>(
    named: impl IntoIterator<Item = (Name, Digest, SourceRepository, &'a str)>,
    way: NamePolicy,
) -> Result<()> {
    let mut seen: BTreeMap<Name, (Digest, SourceRepository, &str)> = BTreeMap::new();
    for (name, digest, origin, source) in named {
        match seen.entry(name) {
            Entry::Vacant(new) => drop(new.insert((digest, origin, source))),
            Entry::Occupied(known) if known.get().0 == digest => {}
            Entry::Occupied(known) => {
                let (_, other, first) = known.get();
                return Err(collision(known.key(), first, source).hint(way.apart(&origin, other)));
            }
        }
    }
    Ok(())
}

/// The error for two sources with different digests that would land on one name.
pub(crate) fn collision(name: &Name, one: &str, other: &str) -> Error {
    Error::usage(format!("{one} and {other} are different images and would both land as {name}"))
}

fn no_tag(suffix: &str, image: impl fmt::Display) -> Error {
    Error::usage(format!("{suffix:?} cannot stand behind {image}: it has no tag"))
        .hint("carry what is named by digest in a run of its own, without a suffix")
}

/// A host, written so that it fits into a repository path: lower case, a port after `_`, an IPv6 address as its eight
/// groups joined by `_`.
fn as_path(host: &Host) -> String {
    let name = match host.name().parse::<std::net::Ipv6Addr>() {
        Ok(address) => address.segments().map(|group| format!("{group:x}")).join("_"),
        Err(_) => host.name().to_ascii_lowercase(),
    };
    let port = host.port().map(|port| format!("_{port}")).unwrap_or_default();
    format!("{name}{port}")
}

/// Folders of a tree; the first may be a registry.
fn path_of(folders: &str) -> String {
    let (first, rest) = folders.split_once('/').map_or((folders, None), |(first, rest)| (first, Some(rest)));
    let first = first.parse::<Host>().map_or_else(|_| first.to_owned(), |host| as_path(&host));
    rest.map_or_else(|| first.clone(), |rest| format!("{first}/{rest}"))
}

/// The host in front.
fn scoped(host: &Host, repository: &Repository) -> Result<Repository> {
    format!("{}/{repository}", as_path(host)).parse().map_err(|e| {
        Error::usage(format!("{host}/{repository} cannot be named with its registry in front"))
            .caused_by(e)
            .hint("use --names path")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(NamePolicy::Path, "registry.example.com/ns/app:1", "ns/app:1")]
    #[case(NamePolicy::Scoped, "registry.example.com/ns/app:1", "registry.example.com/ns/app:1")]
    #[case(NamePolicy::Base, "registry.example.com/ns/app:1", "app:1")]
    #[case(NamePolicy::Path, "busybox:1", "library/busybox:1")]
    #[case(NamePolicy::Scoped, "busybox:1", "docker.io/library/busybox:1")]
    #[case(NamePolicy::Scoped, "HOST.example:5000/ns/app:1", "host.example_5000/ns/app:1")]
    #[case(NamePolicy::Scoped, "127.0.0.1:5000/ns/app:1", "127.0.0.1_5000/ns/app:1")]
    #[case(NamePolicy::Scoped, "[::1]:5000/app:1", "0_0_0_0_0_0_0_1_5000/app:1")]
    fn names_follow_the_chosen_way(#[case] naming: NamePolicy, #[case] reference: &str, #[case] expected: &str) {
        let name = naming.name(&reference.parse().unwrap(), Digest::of(b"")).unwrap();
        assert_eq!(name.to_string(), expected);
        assert_eq!(expected.parse::<Name>().unwrap(), name);
    }

    #[test]
    fn a_suffix_stands_behind_tags_only() {
        let digest = Digest::of(b"x");
        let names = Names { policy: NamePolicy::Base, suffix: "-mirror".into(), ..Names::default() };
        let name = |text: &str| names.name(&text.parse().unwrap(), digest);
        assert_eq!(name("h.io/ns/app:1").unwrap().to_string(), "app:1-mirror");
        assert!(name(&format!("h.io/ns/app@{digest}")).expect_err("no tag").chain().contains("no tag"));
        let in_directories = Names { in_directories: true, ..names.clone() };
        let pinned: Reference = format!("h.io/ns/app@{digest}").parse().unwrap();
        let named = in_directories.name(&pinned, digest).unwrap();
        assert_eq!(in_directories.directory(&pinned, &named), format!("app@{digest}-mirror"));
        assert!(Names { suffix: "/x".into(), ..names }.name(&"h.io/a:1".parse().unwrap(), digest).is_err());
    }

    #[rstest]
    #[case("app:1", "app:1", "app:1")]
    #[case("ns/app:1", "ns/app:1", "app:1")]
    #[case("registry.example.com/ns/app:1", "registry.example.com/ns/app:1", "app:1")]
    #[case("127.0.0.1:5000/ns/app:1", "127.0.0.1_5000/ns/app:1", "app:1")]
    #[case("[::1]:5000/app:1", "0_0_0_0_0_0_0_1_5000/app:1", "app:1")]
    #[case("HOST.example/app:1", "host.example/app:1", "app:1")]
    #[case("ns/app", "ns/app:latest", "app:latest")]
    fn a_directory_is_a_name(#[case] path: &str, #[case] kept: &str, #[case] base: &str) {
        for (way, expected) in [(NamePolicy::Path, kept), (NamePolicy::Scoped, kept), (NamePolicy::Base, base)] {
            assert_eq!(Names::from(way).in_tree(path).unwrap().to_string(), expected, "{way:?}");
        }
        let names = Names { suffix: "-m".into(), ..Names::default() };
        assert_eq!(names.in_tree(path).unwrap().to_string(), format!("{kept}-m"));
    }

    #[test]
    fn a_directory_that_is_no_name_is_refused() {
        let digest = Digest::of(b"x");
        let names = Names::default();
        assert_eq!(names.in_tree(&format!("ns/app@{digest}")).unwrap().to_string(), format!("ns/app@{digest}"));
        for path in ["App:1", "ns/a b:1", "app:", "app:1:2", "app@sha256:00", "", "ns/"] {
            assert!(names.in_tree(path).is_err(), "{path}");
        }
        assert!(Names { suffix: "-m".into(), ..names }.in_tree(&format!("app@{digest}")).is_err());
    }

    #[rstest]
    #[case(NamePolicy::Scoped, "127.0.0.1:5000/ns/app:1", "127.0.0.1:5000/ns/app:1-m")]
    #[case(NamePolicy::Path, "127.0.0.1:5000/ns/app:1", "ns/app:1-m")]
    #[case(NamePolicy::Base, "127.0.0.1:5000/ns/app:1", "app:1-m")]
    fn a_tree_keeps_the_port_as_it_is_written(#[case] way: NamePolicy, #[case] text: &str, #[case] expected: &str) {
        let (names, reference) =
            (Names { policy: way, suffix: "-m".into(), ..Names::default() }, text.parse().unwrap());
        let name = names.name(&reference, Digest::of(b"")).unwrap();
        assert_eq!(names.directory(&reference, &name), expected);
    }

    #[test]
    fn what_has_no_tag_is_named_by_digest() {
        let digest = Digest::of(b"x");
        let reference: Reference = format!("h.io/ns/app@{digest}").parse().unwrap();
        assert_eq!(NamePolicy::Path.name(&reference, digest).unwrap().to_string(), format!("ns/app@{digest}"));
    }

    #[test]
    fn two_images_on_one_name_are_refused_naming_both() {
        let name: Name = "ns/app:1".parse().unwrap();
        let origin =
            |host: &str| SourceRepository { host: host.parse().unwrap(), repository: "ns/app".parse().unwrap() };
        let [one, other] = [b"one", b"two"].map(|bytes| Digest::of(bytes));
        let check = |digests: [Digest; 2], hosts: [&str; 2], way| {
            let sources = ["a.io/ns/app:1", "b.io/ns/app:1"];
            let named = [0, 1].map(|n| (name.clone(), digests[n], origin(hosts[n]), sources[n]));
            check_collisions(named, way)
        };
        let error = check([one, other], ["a.io", "b.io"], NamePolicy::Path).expect_err("two images");
        assert!(error.chain().contains("a.io/ns/app:1") && error.chain().contains("b.io/ns/app:1"), "{error:?}");
        assert!(error.hints()[0].contains("use --scoped"), "{error:?}");
        for (hosts, way) in [(["a.io", "b.io"], NamePolicy::Scoped), (["a.io", "a.io"], NamePolicy::Path)] {
            let error = check([one, other], hosts, way).expect_err("two images");
            assert!(!error.hints()[0].contains("--scoped"), "it helps nothing: {error:?}");
        }
        check([one, one], ["a.io", "b.io"], NamePolicy::Path).expect("one image from two registries");
    }
}
