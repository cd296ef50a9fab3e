//! Where content is (a [`Reference`]) and where it lands (a [`Name`]).
//!
//! The grammar is that of distribution-spec ("Pulling manifests") and of the `reference` package that docker,
//! podman and skopeo share, with IPv6 hosts. What a person types is normalised as docker does:
//! `busybox` is `docker.io/library/busybox`.

use std::fmt;
use std::str::FromStr;

use super::Digest;
use crate::text::{one_line, without_login};

/// A registry's host name or address, with its port if one was given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(String);

/// A repository path: `library/busybox`; lower case, at most 255 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository(String);

/// A tag: at most 128 characters of `[A-Za-z0-9_.-]`, not beginning with `.` or `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

/// Which of a repository's manifests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// What the tag points to now.
    Tag(Tag),
    /// Exactly this one.
    Digest(Digest),
    /// Exactly this one, known by this tag (`repository:tag@digest`).
    Pinned(Tag, Digest),
}

/// What a person asks for: a registry, a repository, and perhaps which of its manifests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Whom to ask.
    pub host: Host,
    /// For what.
    pub repository: Repository,
    /// Nothing means every tag.
    pub selector: Option<Selector>,
}

/// The name under which an image lands: `path:tag`, or `path@digest` for what has no tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// `path:tag`
    Tagged(Repository, Tag),
    /// `path@sha256:...`
    Digested(Repository, Digest),
}

/// A text that is not in the grammar; says which part and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReferenceFault(String);

impl Tag {
    /// The manifest whose referrers an index lists that is kept under this tag, where there is no API for them:
    /// `sha256-<hex>` (distribution-spec, "Referrers Tag Schema"). An image under its own digest is no list: oc-mirror
    /// makes such tags (openshift/oc-mirror#981), and GitLab takes the tag for the digest (oras-project/oras-go#1396).
    pub fn referrers_of(&self, index: Digest) -> Option<Digest> {
        self.0.strip_prefix("sha256-").and_then(Digest::from_hex).filter(|subject| *subject != index)
    }
}

impl Host {
    /// Docker Hub's name in references; its registry answers at another host.
    pub const DOCKER_HUB: &'static str = "docker.io";

    /// Where its registry answers: at its own name, but for Docker Hub.
    pub fn contacted(&self) -> &str {
        match self.as_str() {
            // The second is what its login is kept under.
            Host::DOCKER_HUB | "index.docker.io" => "registry-1.docker.io",
            host => host,
        }
    }

    /// The part before the port, without an IPv6 address's brackets.
    pub fn name(&self) -> &str {
        match self.0.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or(rest),
            None => self.0.split(':').next().unwrap_or(&self.0),
        }
    }

    /// The port, if one was given.
    pub fn port(&self) -> Option<&str> {
        let after_name = self.0.rsplit(']').next().unwrap_or(&self.0);
        after_name.split_once(':').map(|(_, port)| port)
    }

    /// Whether it is this machine itself, by name or address.
    pub fn is_loopback(&self) -> bool {
        let name = self.name();
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// As text, with the port.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Repository {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `prefix/self`, if that is still a repository path.
    pub fn below(&self, prefix: &Repository) -> Result<Repository, ReferenceFault> {
        format!("{prefix}/{self}").parse()
    }

    /// The last component.
    pub fn base(&self) -> Repository {
        Repository(self.0.rsplit('/').next().unwrap_or(&self.0).to_owned())
    }
}

impl Tag {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Selector {
    /// What is asked of a registry: the digest where one is known.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Selector::Tag(_) => None,
            Selector::Digest(digest) | Selector::Pinned(_, digest) => Some(*digest),
        }
    }

    /// The tag under which it is known, if any.
    pub fn tag(&self) -> Option<&Tag> {
        match self {
            Selector::Tag(tag) | Selector::Pinned(tag, _) => Some(tag),
            Selector::Digest(_) => None,
        }
    }
}

impl Reference {
    /// The same repository with another selector.
    pub fn with(&self, selector: Selector) -> Reference {
        Reference { selector: Some(selector), ..self.clone() }
    }

    /// Whether this index, found under the reference, is a list of referrers: what it names are no platforms.
    pub fn lists_referrers(&self, index: Digest) -> bool {
        self.selector.as_ref().and_then(Selector::tag).is_some_and(|tag| tag.referrers_of(index).is_some())
    }
}

impl Name {
    /// Where it lands.
    pub fn repository(&self) -> &Repository {
        match self {
            Name::Tagged(repository, _) | Name::Digested(repository, _) => repository,
        }
    }

    /// Its tag, if it has one.
    pub fn tag(&self) -> Option<&Tag> {
        match self {
            Name::Tagged(_, tag) => Some(tag),
            Name::Digested(..) => None,
        }
    }
}

impl FromStr for Host {
    type Err = ReferenceFault;

    fn from_str(text: &str) -> Result<Self, ReferenceFault> {
        let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, rest)) => {
                if address.parse::<std::net::Ipv6Addr>().is_err() {
                    return fault(text, "registry host", "the brackets do not hold an IPv6 address");
                }
                match rest {
                    "" => (None, None),
                    _ => match rest.strip_prefix(':') {
                        Some(port) => (None, Some(port)),
                        None => return fault(text, "registry host", "after the brackets only :PORT may follow"),
                    },
                }
            }
            None => match text.split_once(':') {
                Some((name, port)) => (Some(name), Some(port)),
                None => (Some(text), None),
            },
        };
        if let Some(name) = name {
            let label = |label: &str| {
                !label.is_empty()
                    && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            };
            if name.len() > 253 || !name.split('.').all(label) {
                return fault(text, "registry host", "a host is letters, digits, hyphens and dots");
            }
        }
        if let Some(port) = port
            && (port.is_empty() || !port.bytes().all(|c| c.is_ascii_digit()) || port.parse::<u16>().is_err())
        {
            return fault(text, "registry host", "a port is a number up to 65535");
        }
        Ok(Host(text.to_owned()))
    }
}

impl FromStr for Repository {
    type Err = ReferenceFault;

    fn from_str(text: &str) -> Result<Self, ReferenceFault> {
        if text.is_empty() {
            return fault(text, "repository path", "it is empty");
        }
        if text.len() > MAX_REPOSITORY {
            return fault(text, "repository path", "it is longer than 255 characters");
        }
        if text.bytes().any(|c| c.is_ascii_uppercase()) {
            return fault(text, "repository path", "a repository path is lower case");
        }
        if !text.split('/').all(is_component) {
            return fault(
                text,
                "repository path",
                "between slashes stand lower-case letters and digits, joined by one '.', one or two '_', or hyphens",
            );
        }
        Ok(Repository(text.to_owned()))
    }
}

impl FromStr for Tag {
    type Err = ReferenceFault;

    fn from_str(text: &str) -> Result<Self, ReferenceFault> {
        let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        let valid = text.len() <= MAX_TAG
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|c| word(c) || c == b'.' || c == b'-');
        if !valid {
            return fault(
                text,
                "tag",
                "a tag is up to 128 letters, digits, '_', '.' and '-', and begins with neither '.' nor '-'",
            );
        }
        Ok(Tag(text.to_owned()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceFault;

    fn from_str(text: &str) -> Result<Self, ReferenceFault> {
        let rest = text.strip_prefix("docker://").unwrap_or(text);
        if let Some((scheme, rest)) = rest.split_once("://") {
            let scheme = one_line(scheme, LONGEST_SCHEME);
            return fault(text, "reference", &format!("leave {scheme}:// out, as in {}", clip(rest)));
        }
        if without_login(rest) != rest {
            return Err(ReferenceFault(format!(
                "the login in front of {} has no place there: use sealift login HOST, or --creds",
                clip(text)
            )));
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse::<Digest>().map_err(|e| ReferenceFault(format!("{}: {e}", clip(text))))?;
                (rest, Some(digest))
            }
            None => (rest, None),
        };
        // A tag's colon comes after the last slash; any other belongs to a port.
        let path_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (path, tag) = match rest[path_start..].find(':') {
            Some(colon) => (&rest[..path_start + colon], Some(rest[path_start + colon + 1..].parse::<Tag>()?)),
            None => (rest, None),
        };
        let (host, path) = match path.split_once('/') {
            Some((first, path)) if looks_like_host(first) => (first, path),
            _ => (Host::DOCKER_HUB, path),
        };
        let host = if host == "index.docker.io" { Host::DOCKER_HUB } else { host };
        let repository: Repository = if host == Host::DOCKER_HUB && !path.contains('/') {
            format!("library/{}", path.parse::<Repository>()?).parse()?
        } else {
            path.parse()?
        };
        let selector = match (tag, digest) {
            (None, None) => None,
            (Some(tag), None) => Some(Selector::Tag(tag)),
            (None, Some(digest)) => Some(Selector::Digest(digest)),
            (Some(tag), Some(digest)) => Some(Selector::Pinned(tag, digest)),
        };
        Ok(Reference { host: host.parse()?, repository, selector })
    }
}

impl FromStr for Name {
    type Err = ReferenceFault;

    fn from_str(text: &str) -> Result<Self, ReferenceFault> {
        if let Some((path, digest)) = text.split_once('@') {
            let digest = digest.parse::<Digest>().map_err(|e| ReferenceFault(format!("{}: {e}", clip(text))))?;
            return Ok(Name::Digested(path.parse()?, digest));
        }
        match text.split_once(':') {
            Some((path, tag)) => Ok(Name::Tagged(path.parse()?, tag.parse()?)),
            None => fault(text, "name", "a name is path:tag or path@digest"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Selector {
    /// As it follows the repository: `:tag`, `@digest` or both.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Tag(tag) => write!(f, ":{tag}"),
            Selector::Digest(digest) => write!(f, "@{digest}"),
            Selector::Pinned(tag, digest) => write!(f, ":{tag}@{digest}"),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        match &self.selector {
            Some(selector) => write!(f, "{selector}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Tagged(repository, tag) => write!(f, "{repository}:{tag}"),
            Name::Digested(repository, digest) => write!(f, "{repository}@{digest}"),
        }
    }
}

const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;
/// Of what stands before `://`, in bytes, in a message.
const LONGEST_SCHEME: usize = 40;

/// Docker's rule: a first component with a dot, a colon or an upper-case letter, or `localhost`, is a host.
fn looks_like_host(component: &str) -> bool {
    component == "localhost"
        || component.starts_with('[')
        || component.contains(['.', ':'])
        || component.bytes().any(|c| c.is_ascii_uppercase())
}

/// distribution-spec: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    component.starts_with(alphanumeric)
        && component.ends_with(alphanumeric)
        && component
            .split(alphanumeric)
            .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|c| c == b'-'))
}

fn fault<T>(text: &str, part: &str, why: &str) -> Result<T, ReferenceFault> {
    Err(ReferenceFault(format!("{} is not a {part}: {why}", clip(text))))
}

/// Untrusted text is quoted, escaped, kept short, and shown without a login.
fn clip(text: &str) -> String {
    format!("{:?}", without_login(text).chars().take(300).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn faults_repeat_nothing_that_acts_on_a_terminal() {
        for text in ["a\n\u{1b}://b", "a\n:\u{202e}", "\u{9b}@sha256:\n", "[\n"] {
            let fault = text.parse::<Reference>().expect_err(text).to_string();
            assert!(!fault.contains(crate::text::is_hidden), "{fault:?}");
        }
    }

    #[rstest]
    #[case("busybox", "docker.io/library/busybox")]
    #[case("busybox:1", "docker.io/library/busybox:1")]
    #[case("docker.io/busybox:1", "docker.io/library/busybox:1")]
    #[case("index.docker.io/me/app", "docker.io/me/app")]
    #[case("me/app:v1", "docker.io/me/app:v1")]
    #[case("docker://quay.io/ns/app:1", "quay.io/ns/app:1")]
    #[case("localhost/app", "localhost/app")]
    #[case("127.0.0.1:5000/ns/app", "127.0.0.1:5000/ns/app")]
    #[case("[::1]:5000/ns/app:1", "[::1]:5000/ns/app:1")]
    #[case("REG.example/app", "REG.example/app")]
    #[case("h.io/a__b/c---d/e_f.g:T-1_.x", "h.io/a__b/c---d/e_f.g:T-1_.x")]
    fn references_are_normalised_as_docker_does(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(text.parse::<Reference>().unwrap().to_string(), expected);
    }

    #[test]
    fn digests_pin() {
        let pinned: Reference = format!("h.io/app:1@{D}").parse().unwrap();
        assert_eq!(pinned.to_string(), format!("h.io/app:1@{D}"));
        assert!(matches!(pinned.selector, Some(Selector::Pinned(..))));
        assert!(format!("h.io/app@{D}").parse::<Reference>().unwrap().selector.unwrap().tag().is_none());
    }

    #[rstest]
    #[case("")]
    #[case("h.io/")]
    #[case("h.io/App")]
    #[case("h.io/a//b")]
    #[case("h.io/a:")]
    #[case("h.io/a:-x")]
    #[case("h.io/../etc")]
    #[case("h.io/a_-b")]
    #[case("h.io/a___b")]
    #[case("h.io/a..b")]
    #[case("h.io:99999/a")]
    #[case("[::zz]:1/a")]
    #[case("h.io/a@sha512:00")]
    #[case("h.io/a@sha256:00")]
    #[case("-h.io/a")]
    #[case("h.io/a b")]
    fn what_is_not_in_the_grammar_is_refused(#[case] text: &str) {
        assert!(text.parse::<Reference>().is_err(), "{text}");
    }

    #[rstest]
    #[case("ns/app:1", true)]
    #[case("127.0.0.1_5000/ns/app:1", true)]
    #[case("ns/app", false)]
    #[case("ns/app:1:2", false)]
    #[case("/ns/app:1", false)]
    #[case("ns/app:1\u{1b}[2J", false)]
    fn names_have_a_tag_or_a_digest(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(text.parse::<Name>().is_ok(), valid, "{text}");
        assert!(format!("ns/app@{D}").parse::<Name>().is_ok());
    }

    #[test]
    fn paths_end_at_255_and_tags_at_128_characters() {
        assert!("a".repeat(255).parse::<Repository>().is_ok());
        assert!("a".repeat(256).parse::<Repository>().is_err());
        assert!("t".repeat(128).parse::<Tag>().is_ok());
        assert!("t".repeat(129).parse::<Tag>().is_err());
    }

    #[test]
    fn loopback_is_known_by_name_and_address() {
        for (text, loopback) in [
            ("localhost:5000", true),
            ("127.8.0.1", true),
            ("[::1]:5000", true),
            ("localhost.example", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(text.parse::<Host>().unwrap().is_loopback(), loopback, "{text}");
        }
    }
}
