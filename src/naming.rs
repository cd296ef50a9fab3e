//! Under which name an image lands. Chosen at export, sealed, and never changed by an import.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::oci::{Digest, Host, Name, Reference, Repository, Selector};
use crate::place::Origin;

/// The three ways to make a name out of a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Naming {
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
    pub way: Naming,
    /// What is put behind every tag; may be empty.
    pub suffix: String,
    /// Whether names are directories, where a suffix can stand behind a digest, too: `app@sha256:...-mirror`.
    pub in_directories: bool,
}

impl From<Naming> for Names {
    fn from(way: Naming) -> Self {
        Names { way, ..Names::default() }
    }
}

impl Names {
    /// The name for `reference`, whose manifest or index is `digest`.
    ///
    /// # Errors
    /// `Usage` when a suffix is wanted and cannot be put behind the image, or would not be part of a tag.
    pub fn name(&self, reference: &Reference, digest: Digest) -> Result<Name> {
        let name = self.way.name(reference, digest)?;
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
    /// the tree, such as `registry.example.com:5000/ns/app:1`. It is kept, but for [`Naming::Base`]. Where the directory
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
        let folders = folders.filter(|_| self.way != Naming::Base).map(|folders| path_of(folders) + "/");
        format!("{}{base}{mark}{suffix}", folders.unwrap_or_default()).parse().map_err(|e| {
            Error::usage(format!("the directory {path} cannot be the name of an image"))
                .caused_by(e)
                .hint("rename it to PATH:TAG, in lower case")
        })
    }

    /// Where skopeo sync puts an image that lands as `name` below a directory: the same, but a registry that stands in
    /// front keeps its port as it is written.
    pub fn directory(&self, reference: &Reference, name: &Name) -> String {
        let directory = match (self.way, name) {
            (Naming::Scoped, Name::Tagged(_, tag)) => format!("{}/{}:{tag}", reference.host, reference.repository),
            (Naming::Scoped, Name::Digested(_, digest)) => {
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

impl Naming {
    /// The name for `reference`, whose manifest or index is `digest`.
    pub fn name(self, reference: &Reference, digest: Digest) -> Result<Name> {
        let repository = match self {
            Naming::Path => reference.repository.clone(),
            Naming::Base => reference.repository.base(),
            Naming::Scoped => scoped(&reference.host, &reference.repository)?,
        };
        Ok(match reference.selector.as_ref().and_then(Selector::tag) {
            Some(tag) => Name::Tagged(repository, tag.clone()),
            None => Name::Digested(repository, digest),
        })
    }

    /// What keeps images of two repositories apart that have one name: a hint for the run that was named so.
    pub(crate) fn apart(self, one: &Origin, other: &Origin) -> &'static str {
        match self {
            Naming::Path | Naming::Base if one != other => {
                "use --scoped, which keeps the registry in the name, or leave one of them out"
            }
            Naming::Path | Naming::Base | Naming::Scoped => "leave one of them out: a name stands for one image",
        }
    }
}

impl fmt::Display for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Naming::Path => "path",
            Naming::Scoped => "scoped",
            Naming::Base => "base",
        })
    }
}

impl FromStr for Naming {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "path" => Ok(Naming::Path),
            "scoped" => Ok(Naming::Scoped),
            "base" => Ok(Naming::Base),
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
    named: impl IntoIterator<Item = (Name, Digest, Origin, &'a str)>,
    way: Naming,
) -> Result<()> {
    let mut seen: BTreeMap<Name, (Digest, Origin, &str)> = BTreeMap::new();
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
    #[case(Naming::Path, "registry.example.com/ns/app:1", "ns/app:1")]
    #[case(Naming::Scoped, "registry.example.com/ns/app:1", "registry.example.com/ns/app:1")]
    #[case(Naming::Base, "registry.example.com/ns/app:1", "app:1")]
    #[case(Naming::Path, "busybox:1", "library/busybox:1")]
    #[case(Naming::Scoped, "busybox:1", "docker.io/library/busybox:1")]
    #[case(Naming::Scoped, "HOST.example:5000/ns/app:1", "host.example_5000/ns/app:1")]
    #[case(Naming::Scoped, "127.0.0.1:5000/ns/app:1", "127.0.0.1_5000/ns/app:1")]
    #[case(Naming::Scoped, "[::1]:5000/app:1", "0_0_0_0_0_0_0_1_5000/app:1")]
    fn names_follow_the_chosen_way(#[case] naming: Naming, #[case] reference: &str, #[case] expected: &str) {
        let name = naming.name(&reference.parse().unwrap(), Digest::of(b"")).unwrap();
        assert_eq!(name.to_string(), expected);
        assert_eq!(expected.parse::<Name>().unwrap(), name);
    }

    #[test]
    fn a_suffix_stands_behind_tags_only() {
        let digest = Digest::of(b"x");
        let names = Names { way: Naming::Base, suffix: "-mirror".into(), ..Names::default() };
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
        for (way, expected) in [(Naming::Path, kept), (Naming::Scoped, kept), (Naming::Base, base)] {
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
    #[case(Naming::Scoped, "127.0.0.1:5000/ns/app:1", "127.0.0.1:5000/ns/app:1-m")]
    #[case(Naming::Path, "127.0.0.1:5000/ns/app:1", "ns/app:1-m")]
    #[case(Naming::Base, "127.0.0.1:5000/ns/app:1", "app:1-m")]
    fn a_tree_keeps_the_port_as_it_is_written(#[case] way: Naming, #[case] text: &str, #[case] expected: &str) {
        let (names, reference) = (Names { way, suffix: "-m".into(), ..Names::default() }, text.parse().unwrap());
        let name = names.name(&reference, Digest::of(b"")).unwrap();
        assert_eq!(names.directory(&reference, &name), expected);
    }

    #[test]
    fn what_has_no_tag_is_named_by_digest() {
        let digest = Digest::of(b"x");
        let reference: Reference = format!("h.io/ns/app@{digest}").parse().unwrap();
        assert_eq!(Naming::Path.name(&reference, digest).unwrap().to_string(), format!("ns/app@{digest}"));
    }

    #[test]
    fn two_images_on_one_name_are_refused_naming_both() {
        let name: Name = "ns/app:1".parse().unwrap();
        let origin = |host: &str| Origin { host: host.parse().unwrap(), repository: "ns/app".parse().unwrap() };
        let [one, other] = [b"one", b"two"].map(|bytes| Digest::of(bytes));
        let check = |digests: [Digest; 2], hosts: [&str; 2], way| {
            let sources = ["a.io/ns/app:1", "b.io/ns/app:1"];
            let named = [0, 1].map(|n| (name.clone(), digests[n], origin(hosts[n]), sources[n]));
            check_collisions(named, way)
        };
        let error = check([one, other], ["a.io", "b.io"], Naming::Path).expect_err("two images");
        assert!(error.chain().contains("a.io/ns/app:1") && error.chain().contains("b.io/ns/app:1"), "{error:?}");
        assert!(error.hints()[0].contains("use --scoped"), "{error:?}");
        for (hosts, way) in [(["a.io", "b.io"], Naming::Scoped), (["a.io", "a.io"], Naming::Path)] {
            let error = check([one, other], hosts, way).expect_err("two images");
            assert!(!error.hints()[0].contains("--scoped"), "it helps nothing: {error:?}");
        }
        check([one, one], ["a.io", "b.io"], Naming::Path).expect("one image from two registries");
    }
}
