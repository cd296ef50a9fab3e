//! Bundle to registry: verified, then pushed, names unchanged, digests unchanged.

mod base;

use std::collections::{BTreeSet, HashSet};
use std::str::FromStr;
use std::sync::Arc;

use globset::Glob;

use super::verify::{self, VerifiedBundle};
use crate::content::{Contents, Destination, Reason, Referrers};
use crate::error::{Error, Failure, Kind, Result};
use crate::oci::{Host, Name, Repository};
use crate::progress::Event;
use crate::registry::{Client, ExistingTags, RegistryDestination};
use crate::text::without_login;
use crate::transfer::{self, Outcome, TransferOptions};

/// Where to: `REGISTRY[/PREFIX]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportTarget {
    /// The registry.
    pub host: Host,
    /// What is put in front of every name.
    pub prefix: Option<Repository>,
}

impl FromStr for ImportTarget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let rest = text.strip_prefix("docker://").unwrap_or(text);
        if rest.contains("://") {
            return Err(Error::usage(format!("{:?} is a URL", without_login(text)))
                .hint("name the registry as HOST[:PORT][/PREFIX]"));
        }
        let (host, prefix) = match rest.split_once('/') {
            Some((host, "")) => (host, None),
            Some((host, prefix)) => (host, Some(prefix.trim_end_matches('/'))),
            None => (rest, None),
        };
        let fault = |e| {
            Error::usage(format!("{:?} is not REGISTRY[/PREFIX]", without_login(text)))
                .caused_by(e)
                .hint("write HOST[:PORT], such as registry.local:5000, and perhaps a path in lower case: HOST/mirror; the names of the images are in the bundle")
        };
        Ok(ImportTarget {
            host: host.parse().map_err(fault)?,
            prefix: prefix.map(str::parse).transpose().map_err(fault)?,
        })
    }
}

impl ImportTarget {
    /// The reference under which `name` lands.
    ///
    /// # Errors
    /// `Usage` when the prefix makes the path longer than a registry takes.
    pub fn reference(&self, name: &Name) -> Result<String> {
        let host = &self.host;
        match &self.prefix {
            None => Ok(format!("{host}/{name}")),
            Some(prefix) => match name.repository().below(prefix) {
                Ok(_) => Ok(format!("{host}/{prefix}/{name}")),
                Err(e) => Err(Error::usage(format!("{name} cannot land below {prefix}"))
                    .caused_by(e)
                    .hint("choose a shorter prefix")),
            },
        }
    }
}

/// Every name of the bundle beside the reference under which it lands, sorted by name.
pub fn destination_names<'a>(contents: &'a Contents, target: &ImportTarget) -> Result<Vec<(&'a Name, String)>> {
    contents.images.iter().map(|image| Ok((&image.name, target.reference(&image.name)?))).collect()
}

/// How to import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportOptions {
    /// When layers are verified.
    pub layers: LayerCheck,
    /// What is done about tags that are there with other content.
    pub tags: ExistingTags,
    /// What is fetched again at the end.
    pub proof: Proof,
}

/// What is fetched again, and compared by digest, after it was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The manifest of every tag that was pushed.
    Tags,
    /// Every blob and every manifest in each repository, also those that were there already (`--read-back`).
    Everything,
}

/// When layers are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerCheck {
    /// Each in the read that sends it.
    AsTheyAreSent,
    /// All of them before the first writing request, and again as they are sent.
    First,
}

/// What is left of `contents` when only the names that one of `patterns` matches land, and what refers to them. A
/// pattern (`*` and `?` match any characters, `{a,b}` either) must match the whole name, `path:tag` or `path@digest`,
/// or its path: then every tag lands.
///
/// # Errors
/// `Usage` for what is not a pattern, and when one of them matches no name.
pub fn only(contents: &Contents, patterns: &[String]) -> Result<Contents> {
    let names: Vec<(String, &str)> =
        contents.images.iter().map(|image| (image.name.to_string(), image.name.repository().as_str())).collect();
    let mut matched = BTreeSet::new();
    for pattern in patterns {
        let glob =
            Glob::new(pattern).map_err(|e| Error::usage(format!("{pattern:?} is not a pattern")).caused_by(e))?;
        let glob = glob.compile_matcher();
        let hit = |(name, repository): &(String, &str)| glob.is_match(name) || glob.is_match(repository);
        let hits: Vec<u32> = (0..).zip(&names).filter(|(_, names)| hit(names)).map(|(number, _)| number).collect();
        if hits.is_empty() {
            return Err(nothing_matches(pattern, contents));
        }
        matched.extend(hits);
    }
    let chosen = Referrers::of(contents)?.with_referrers(matched);
    let chosen: HashSet<&Name> = chosen.iter().map(|image| &contents.images[*image as usize].name).collect();
    contents.only(|image| chosen.contains(&image.name))
}

fn nothing_matches(pattern: &str, contents: &Contents) -> Error {
    let example = contents.images.first().map_or_else(String::new, |image| format!(", such as {}", image.name));
    Error::usage(format!("no name in the bundle matches {pattern:?}")).hint(format!(
        "a pattern must match a whole name{example}, or all of its path; sealift inspect lists the names"
    ))
}

/// What whoever imports `contents` should know before anything is sent.
pub fn warnings(contents: &Contents) -> Vec<&'static str> {
    let left_out = |reason| contents.absent.iter().any(|absent| absent.reason == reason);
    let meanings = [(Reason::Platform, SPARSE), (Reason::Foreign, FOREIGN)].into_iter();
    meanings.filter(|(reason, _)| left_out(*reason)).map(|(_, meaning)| meaning).collect()
}

/// Pushes `contents`, all of the bundle or what [`only`] leaves of it: blobs, then manifests, then tags, each
/// verified in the read that sends it.
///
/// # Errors
/// `Damaged` for bytes that are not what was sealed: then no manifest and no tag has been pushed. `Registry` when
/// the registry refuses; the same call again goes on.
pub async fn import(
    client: &Client,
    verified: &VerifiedBundle,
    contents: Arc<Contents>,
    target: &ImportTarget,
    manner: ImportOptions,
    options: &TransferOptions,
) -> Result<Outcome> {
    destination_names(&contents, target)?;
    base::check(client, &contents, &verified.head.base, target, options.jobs.get()).await?;
    if manner.layers == LayerCheck::First {
        // A stream cannot be read twice: to be said before it is read once.
        verified.bundle()?;
        verify::layers(verified, options).await?;
    }
    let meanings = warnings(&contents);
    for meaning in &meanings {
        options.progress.event(Event::Warning(meaning));
    }
    let destination = RegistryDestination::new(client, &target.host, target.prefix.clone())
        .existing_tags(manner.tags)
        .keep_going(options.keep_going);
    let explained = |error: Error| match error.kind() {
        Kind::Registry => meanings.iter().fold(error, |error, meaning| error.hint(*meaning)),
        _ => error,
    };
    let destination: Arc<dyn Destination> = Arc::new(destination);
    let moved = transfer::run(contents.clone(), verified.supply()?, destination.clone(), options).await;
    let Outcome { summary, mut failures } = moved.map_err(explained)?;
    if manner.proof == Proof::Everything {
        let failed: HashSet<String> = failures.iter().map(|failure| failure.image.clone()).collect();
        let landed = contents.only(|image| !failed.contains(&image.name.to_string()))?;
        failures.extend(transfer::read_back(&Arc::new(landed), &destination, options).await?);
        if !failures.is_empty() && failures.len() >= contents.images.len() {
            return Err(Failure::report(failures, contents.images.len()));
        }
    }
    let explain = |failure: Failure| Failure { error: explained(failure.error), ..failure };
    Ok(Outcome { summary, failures: failures.into_iter().map(explain).collect() })
}

/// What happens to an index some of whose platforms were left behind.
const SPARSE: &str = "the bundle leaves platforms out of an index, and some registries (distribution before 3, for one) \
refuse an index whose manifests are not all there; then export again with a single --platform, which lands as its own \
manifest, or without --platform";

/// What happens to an image some of whose layers its registry did not hold.
const FOREIGN: &str = "the bundle is without foreign layers, which their registry did not hold: whoever runs these \
images fetches them from the addresses in the manifest, and some registries (distribution, unless \
validation.manifests.urls allows those addresses) refuse such an image; to carry them, push the layers to the \
registry first (dockerd: allow-nondistributable-artifacts), then export again";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_registry_and_perhaps_a_prefix() {
        let target: ImportTarget = "reg.local:5000/mirror/a/".parse().unwrap();
        assert_eq!(target.reference(&"ns/app:1".parse().unwrap()).unwrap(), "reg.local:5000/mirror/a/ns/app:1");
        let target: ImportTarget = "docker://[::1]:5000".parse().unwrap();
        assert_eq!(target.reference(&"ns/app:1".parse().unwrap()).unwrap(), "[::1]:5000/ns/app:1");
        for text in ["", "https://reg.local", "reg.local/UPPER", "reg local", "reg.local:99999"] {
            assert!(text.parse::<ImportTarget>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_too_long_below_its_prefix_is_refused_before_anything_is_sent() {
        let target: ImportTarget = format!("reg.local/{}", "p".repeat(200)).parse().unwrap();
        assert!(target.reference(&format!("{}:1", "n".repeat(60)).parse().unwrap()).is_err());
    }
}
