//! What to carry: references as people write them, lists of them (`list`), skopeo's YAML (`yaml`), and which tags of
//! a repository (`tags`, `constraint`), made into single images.
//!
//! Knows no place but the [`Catalog`] that it asks for tags. What a file says about a registry (logins, certificates) is
//! handed on as data: see [`Registry`].

mod constraint;
mod list;
#[cfg(feature = "program")]
pub mod naming;
mod re2;
mod tags;
mod yaml;

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::path::PathBuf;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

pub use constraint::{Constraint, ConstraintFault, version};
pub use tags::{Filter, TagRegex};

use crate::content::{Catalog, NamedImage};
use crate::credentials::Credential;
use crate::error::{Error, Failure, Kind, Result};
use crate::oci::{Host, Reference, Repository, Selector, Tag};
use crate::text::secrets;

/// What is asked for, and how the registries are to be spoken to that it comes from.
#[derive(Debug, Default)]
pub struct Selection {
    /// In the order in which it was written.
    pub wanted: Vec<RepositorySelection>,
    /// What files say about registries, each registry once in a file.
    pub registries: Vec<Registry>,
    /// Entries of files that cannot be used, each with file, line and key.
    pub failures: Vec<Failure>,
    /// What stops nothing: registries of files that list no image, further documents.
    pub warnings: Vec<String>,
}

/// Images of one repository.
#[derive(Debug, Clone)]
pub struct RepositorySelection {
    /// Whom to ask.
    pub host: Host,
    /// For what.
    pub repository: Repository,
    /// Which of its images.
    pub which: TagRule,
}

/// Which images of a repository.
#[derive(Debug, Clone)]
pub enum TagRule {
    /// Exactly this one: a tag or a digest.
    One(Selector),
    /// Every tag.
    Every,
    /// The tags in which this is found.
    Regex(TagRegex),
    /// The tags that are versions and fit.
    Versions(Constraint),
}

/// What skopeo's YAML says about a registry.
#[derive(Debug, Clone)]
pub struct Registry {
    /// Which one.
    pub host: Host,
    /// Where it is written, for messages: the file and the line.
    pub origin: String,
    /// `credentials`: whom it is to be asked as. Never shown.
    pub credential: Option<Credential>,
    /// `tls-verify`: whether it must prove who it is.
    pub tls_verify: Option<bool>,
    /// `cert-dir`: where its certificate authorities (`*.crt`) and our certificates (`*.cert`, `*.key`) are.
    pub cert_dir: Option<PathBuf>,
}

/// Single images, and what had to be left out.
#[derive(Debug, Default)]
pub struct Expanded {
    /// Each once, in the order of the selection; all have a selector.
    pub images: Vec<Reference>,
    /// Entries that cannot be used, and repositories that cannot be listed.
    pub failures: Vec<Failure>,
    /// Repositories without tags, and those of which no tag is what was asked for.
    pub empty: Vec<Failure>,
}

/// What became of an entry.
enum Found {
    Images(Vec<Reference>),
    /// Nothing, with the reason.
    Nothing(Error),
}

impl Selection {
    /// Reads a list, one reference a line. `origin` is the file's name for messages.
    ///
    /// # Errors
    /// `Usage`, with file and line.
    pub fn from_list(text: &str, origin: &str) -> Result<Selection> {
        check_size(text, origin)?;
        secrets::remember_logins_in(text);
        Ok(Selection { wanted: list::parse(text, origin)?, ..Selection::default() })
    }

    /// Reads the YAML of `skopeo sync --src yaml`, see skopeo-sync(1).
    ///
    /// # Errors
    /// `Usage`, with file, line and key. Values below `credentials` are never repeated.
    pub fn from_yaml(text: &str, origin: &str) -> Result<Selection> {
        check_size(text, origin)?;
        secrets::remember_logins_in(text);
        yaml::parse(text, origin)
    }

    /// Adds what `other` asks for.
    ///
    /// # Errors
    /// `Usage` when both say something about one registry.
    pub fn add(&mut self, other: Selection) -> Result<()> {
        for registry in &other.registries {
            if let Some(known) = self.registries.iter().find(|known| known.host == registry.host) {
                return Err(Error::usage(format!(
                    "{} and {} both say how to speak to {}",
                    known.origin, registry.origin, registry.host
                ))
                .hint("say it in one file, or export them one after the other"));
            }
        }
        self.wanted.extend(other.wanted);
        self.registries.extend(other.registries);
        self.failures.extend(other.failures);
        self.warnings.extend(other.warnings);
        Ok(())
    }

    /// The images that are named one by one; others come from lists of tags.
    pub fn named(&self) -> HashSet<Reference> {
        let named = self.wanted.iter().filter_map(|wanted| match &wanted.which {
            TagRule::One(selector) => {
                let (host, repository) = (wanted.host.clone(), wanted.repository.clone());
                Some(Reference { host, repository, selector: Some(selector.clone()) })
            }
            TagRule::Every | TagRule::Regex(_) | TagRule::Versions(_) => None,
        });
        named.collect()
    }

    /// All that it asks for, as JSON: equal for selections that ask for the same in the same order.
    pub fn to_json(&self) -> Value {
        let wanted = self.wanted.iter().map(|RepositorySelection { host, repository, which }| {
            let (kind, text) = match which {
                TagRule::One(selector) => ("one", selector.to_string()),
                TagRule::Every => ("every", String::new()),
                TagRule::Regex(regex) => ("regex", regex.as_str().to_owned()),
                TagRule::Versions(constraint) => ("versions", constraint.to_string()),
            };
            json!({"repository": format!("{host}/{repository}"), kind: text})
        });
        let unusable = self.failures.iter().map(|failure| failure.image.as_str());
        json!({"wanted": wanted.collect::<Vec<_>>(), "unusable": unusable.collect::<Vec<_>>()})
    }

    /// Whether all of `images` come from repositories that it asks for.
    pub fn covers<'a>(&self, images: impl IntoIterator<Item = &'a NamedImage>) -> bool {
        let asked: HashSet<(&Host, &Repository)> =
            self.wanted.iter().map(|wanted| (&wanted.host, &wanted.repository)).collect();
        images.into_iter().all(|image| {
            image.source.parse::<Reference>().is_ok_and(|source| asked.contains(&(&source.host, &source.repository)))
        })
    }

    /// Itself if every entry can be used.
    ///
    /// # Errors
    /// `Usage`, naming all that cannot.
    pub fn into_valid(self) -> Result<Selection> {
        match &self.failures[..] {
            [] => Ok(self),
            [one] => Err(one.error.flattened()),
            several => {
                let lines: String = several.iter().map(|failure| format!("\n  {}", failure.error.chain())).collect();
                let error = Error::usage(format!("{} entries cannot be used:{lines}", several.len()));
                Err(several.iter().flat_map(|failure| failure.error.hints()).fold(error, |error, hint| {
                    if error.hints().contains(hint) { error } else { error.hint(hint.clone()) }
                }))
            }
        }
    }
}

impl From<Reference> for RepositorySelection {
    fn from(reference: Reference) -> Self {
        let which = reference.selector.map_or(TagRule::Every, TagRule::One);
        RepositorySelection { host: reference.host, repository: reference.repository, which }
    }
}

impl fmt::Display for RepositorySelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        match &self.which {
            TagRule::One(selector) => write!(f, "{selector}"),
            TagRule::Every | TagRule::Regex(_) | TagRule::Versions(_) => Ok(()),
        }
    }
}

/// Makes every repository into those of its tags that are wanted and that `filter` keeps, and drops what is there twice.
/// Images that are named one by one are not filtered. The order stays.
///
/// # Errors
/// Only when the run is stopped; repositories that fail, and entries that could not be read, are in the result.
pub async fn expand(catalog: &dyn Catalog, selection: &Selection, filter: &Filter) -> Result<Expanded> {
    let mut listings = stream::iter(&selection.wanted)
        .map(async |wanted| (wanted, expand_one(catalog, wanted, filter).await))
        .buffered(LISTINGS);
    let unusable = |failure: &Failure| Failure { image: failure.image.clone(), error: failure.error.flattened() };
    let mut expanded = Expanded { failures: selection.failures.iter().map(unusable).collect(), ..Expanded::default() };
    let mut seen = BTreeSet::new();
    while let Some((wanted, images)) = listings.next().await {
        match images {
            Ok(Found::Nothing(error)) => expanded.empty.push(Failure { image: wanted.to_string(), error }),
            Ok(Found::Images(images)) if expanded.images.len() + images.len() > MAX_IMAGES => {
                return Err(too_many(wanted));
            }
            Ok(Found::Images(images)) => {
                expanded.images.extend(images.into_iter().filter(|image| seen.insert(image.clone())))
            }
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            Err(error) => expanded.failures.push(Failure { image: wanted.to_string(), error }),
        }
    }
    Ok(expanded)
}

/// The largest list or YAML file that is read, 16 MiB.
pub const MAX_FILE: usize = 16 << 20;

/// The most images of one run: as many as a bundle may have.
pub const MAX_IMAGES: usize = 50_000;

fn too_many(wanted: &RepositorySelection) -> Error {
    Error::usage(format!("with {wanted} there are more than {MAX_IMAGES} images to carry"))
        .hint("choose among the tags (--include, --exclude, --latest, or rules in a YAML file), or carry them in several runs")
}

/// How many tag listings are asked for at once.
const LISTINGS: usize = 4;

fn check_size(text: &str, origin: &str) -> Result<()> {
    if text.len() > MAX_FILE {
        return Err(Error::usage(format!("{origin} is larger than {} MiB", MAX_FILE >> 20)));
    }
    Ok(())
}

async fn expand_one(catalog: &dyn Catalog, wanted: &RepositorySelection, filter: &Filter) -> Result<Found> {
    let image = |selector| Reference {
        host: wanted.host.clone(),
        repository: wanted.repository.clone(),
        selector: Some(selector),
    };
    if let TagRule::One(selector) = &wanted.which {
        return Ok(Found::Images(vec![image(selector.clone())]));
    }
    let tags = catalog.tags(&wanted.host, &wanted.repository).await?;
    if tags.is_empty() {
        let error = Error::not_found(format!("the repository {wanted} has no tags"));
        return Ok(Found::Nothing(error.hint("name an image by digest (REPOSITORY@sha256:...) if it has none")));
    }
    let all = tags.len();
    let fits = |tag: &Tag| match &wanted.which {
        TagRule::One(_) | TagRule::Every => true,
        TagRule::Regex(regex) => regex.matches(tag),
        TagRule::Versions(constraint) => version(tag.as_str()).is_some_and(|version| constraint.matches(&version)),
    };
    let kept = filter.keep(&tags, fits);
    if kept.len() > MAX_IMAGES {
        return Err(too_many(wanted));
    }
    if kept.is_empty() {
        let error = Error::not_found(format!("none of the {all} tags of {wanted} is what was asked for"));
        return Ok(Found::Nothing(error.hint(
            "look at --include, --exclude and --latest, and at the expression or constraint in the file, if any",
        )));
    }
    Ok(Found::Images(kept.into_iter().map(|tag| image(Selector::Tag(tag))).collect()))
}
