//! Signatures, SBOMs and attestations: what refers to the images that are carried, and to the children of indexes.
//!
//! They are found in three ways: by the referrers API (distribution-spec 1.1), by the fallback tag `sha256-<hex>`
//! that clients keep on registries without it, and by cosign's tags `sha256-<hex>.sig`, `.att` and `.sbom`. Tags are
//! looked up in one listing of the repository; they are asked for one by one only where a registry refuses to list.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};

use super::referrer::{Referrer, WITHOUT};
use super::rounds::{DocumentRequest, Purpose};
use super::{Draft, PlannedImage, REFERRER, RequestedImage, Subject};
use crate::content::{NamedImage, SourceRepository};
use crate::error::{Failure, Kind, Result};
use crate::oci::{Digest, Reference, Selector, Tag};

impl Draft<'_> {
    /// Reads the referrers of everything that is planned, their referrers, and so on. `images` have been read.
    pub(super) async fn read_referrers(&mut self, images: &[RequestedImage]) -> Result<()> {
        let mut tags: HashMap<SourceRepository, Tags> = HashMap::new();
        let mut read: HashSet<Digest> = images.iter().filter_map(by_itself).collect();
        for _ in 0..MAX_DEPTH {
            let subjects = self.new_subjects();
            if subjects.is_empty() {
                break;
            }
            self.list_tags(&subjects, &mut tags).await?;
            // Where tags cannot be listed, four are asked for each subject: not of all subjects at once.
            let mut subjects = subjects.into_iter().peekable();
            while subjects.peek().is_some() {
                let some: Vec<Subject> = subjects.by_ref().take(AT_ONCE).collect();
                let mut wanted = Vec::new();
                for subject in &some {
                    let known = &tags[&subject.origin];
                    let listed = matches!(known, Tags::Listed(_));
                    let found = known.about(subject.digest).into_iter();
                    wanted.extend(found.map(|tag| wanted_of(Referrer::new(subject, Selector::Tag(tag), listed))));
                }
                wanted.extend(self.ask_for_referrers(some).await?.into_iter().map(wanted_of));
                wanted.retain(|wanted| read.insert(place(&wanted.origin, &wanted.selector)));
                self.read(wanted).await?;
            }
        }
        Ok(())
    }

    async fn list_tags(&self, subjects: &[Subject], known: &mut HashMap<SourceRepository, Tags>) -> Result<()> {
        let mut new: Vec<&SourceRepository> =
            subjects.iter().map(|subject| &subject.origin).filter(|o| !known.contains_key(o)).collect();
        new.sort();
        new.dedup();
        let listing = stream::iter(new).map(async |origin: &SourceRepository| {
            (origin.clone(), self.catalog.tags(&origin.host, &origin.repository).await)
        });
        let mut listing = listing.buffer_unordered(self.wishes.jobs.max(1));
        while let Some((origin, listed)) = listing.next().await {
            let tags = match listed {
                Ok(tags) => Tags::Listed(tags.iter().filter(|tag| tag.as_str().starts_with(PREFIX)).collect()),
                Err(error) if error.kind() == Kind::Interrupted => return Err(error),
                // What cannot be listed is asked for one by one; if the registry is gone, that will say so.
                Err(_) => Tags::Refused,
            };
            known.insert(origin, tags);
        }
        Ok(())
    }

    /// By the API; a registry without it has the fallback tag in its list of tags.
    ///
    /// The catalog takes an unusual answer of one repository as "no API" until another repository of that host returns a
    /// list. Then the subjects that got no list are asked for again, so that a fault in one repository is an error.
    async fn ask_for_referrers(&mut self, subjects: Vec<Subject>) -> Result<Vec<Referrer>> {
        let mut found = self.ask_once(subjects).await?;
        let hosts = &self.lists_referrers;
        let again: Vec<Subject> = self.without_list_of.extract_if(.., |s| hosts.contains(&s.origin.host)).collect();
        if !again.is_empty() {
            found.extend(self.ask_once(again).await?);
            let hosts = &self.lists_referrers;
            self.without_list_of.retain(|subject| !hosts.contains(&subject.origin.host));
        }
        Ok(found)
    }

    async fn ask_once(&mut self, subjects: Vec<Subject>) -> Result<Vec<Referrer>> {
        let catalog = self.catalog;
        let mut asking = stream::iter(subjects)
            .map(async |subject: Subject| {
                let SourceRepository { host, repository } = &subject.origin;
                let asking = catalog.referrers(host, repository, subject.digest);
                let answer = subject.allowance.pays_for(asking).await;
                (subject, answer)
            })
            .buffer_unordered(self.wishes.jobs.max(1));
        let mut found = Vec::new();
        while let Some((subject, answer)) = asking.next().await {
            match answer {
                // Each of them takes a request at least: a tree without end is not kept in memory.
                Ok(Some(listed)) if subject.allowance.check(listed.len() as u64).is_err() => {}
                Ok(Some(listed)) => {
                    found.extend(listed.into_iter().map(|descriptor| {
                        Referrer::new(&subject, Selector::Digest(descriptor.digest), true).of_type(descriptor)
                    }));
                    self.lists_referrers.insert(subject.origin.host);
                }
                Ok(None) => self.without_list_of.push(subject),
                Err(error) if error.kind() == Kind::Interrupted => return Err(error),
                // The image fails as a whole.
                Err(_) if subject.allowance.is_spent() => {}
                Err(error) => {
                    let SourceRepository { host, repository } = &subject.origin;
                    let image = format!("the referrers of {} ({host}/{repository}@{})", subject.image, subject.digest);
                    self.failures.push(Failure { image, error: error.hint(WITHOUT) });
                }
            }
        }
        Ok(found)
    }

    /// What is carried of a list of referrers (an index under a fallback tag), some of which are gone: the others by
    /// digest, without the list. An import lists them again where the registry has no API. Nothing if it is no such
    /// list, or something else is wrong with it.
    pub(super) fn without_list(&mut self, list: &PlannedImage) -> Option<Vec<PlannedImage>> {
        let PlannedImage { image, origin, allowance, .. } = list;
        self.referrers.get(&image.name)?;
        let suffix = image.name.tag()?.as_str().strip_prefix("sha256-")?;
        Digest::from_hex(suffix)?;
        let is_gone = |digest: &Digest| self.broken.get(digest).is_some_and(|error| error.kind() == Kind::NotFound);
        let children = self.below.get(&image.document)?;
        let broken = self.reached(image.document).into_iter().filter(|digest| self.broken.contains_key(digest));
        let gone: Vec<Digest> = broken.collect();
        if !gone.iter().all(|digest| is_gone(digest) && children.contains(digest)) {
            return None;
        }
        let left = children.iter().filter(|digest| self.builder.has(**digest));
        let named = left.map(|digest| {
            let (host, repository) = (origin.host.clone(), origin.repository.clone());
            let reference = Reference { host, repository, selector: Some(Selector::Digest(*digest)) };
            let name = self.wishes.names.policy.name(&reference, *digest).ok()?;
            let image = NamedImage { name, source: reference.to_string(), document: *digest };
            Some(PlannedImage { image, origin: origin.clone(), position: REFERRER, allowance: allowance.clone() })
        });
        let named = named.collect::<Option<Vec<_>>>()?;
        let count = gone.len();
        self.warn(format!(
            "{} lists {count} referrers that are gone ({}): the list is left out, and the others are carried by digest",
            image.source,
            gone.iter().take(3).map(Digest::to_string).collect::<Vec<_>>().join(", "),
        ));
        Some(named)
    }
}

/// The request for a referrer.
fn wanted_of(referrer: Referrer) -> DocumentRequest {
    let Referrer { origin, selector, allowance, .. } = &referrer;
    let (origin, selector, allowance) = (origin.clone(), selector.clone(), allowance.clone());
    DocumentRequest { origin, at: None, selector, purpose: Purpose::Referrer(Arc::new(referrer)), allowance }
}

/// An image that was read as what it is called, and would be found by that name once more.
fn by_itself(image: &RequestedImage) -> Option<Digest> {
    let reference = &image.reference;
    Some(place(&SourceRepository::of(reference), reference.selector.as_ref()?))
}

/// What stands for a place that was read: 32 bytes, where host, repository and selector take hundreds.
fn place(origin: &SourceRepository, selector: &Selector) -> Digest {
    Digest::of(format!("{}/{}{selector}", origin.host, origin.repository).as_bytes())
}

/// What is known of those tags of a repository that say something about a digest.
enum Tags {
    Listed(HashSet<Tag>),
    Refused,
}

impl Tags {
    /// The tags that say something about `digest`: those that are there, or all that could be.
    fn about(&self, digest: Digest) -> Vec<Tag> {
        let candidates = SUFFIXES.iter().map(|suffix| -> Tag {
            format!("sha256-{}{suffix}", digest.hex()).parse().expect("hex digits and a suffix are a tag")
        });
        match self {
            Tags::Listed(tags) => candidates.filter(|tag| tags.contains(tag)).collect(),
            Tags::Refused => candidates.collect(),
        }
    }
}

/// So many subjects are asked about before what refers to them is read.
const AT_ONCE: usize = 500;
/// Referrers of referrers of ...: an SBOM's signature is two deep.
const MAX_DEPTH: usize = 8;

/// How the tags begin that say something about a digest.
const PREFIX: &str = "sha256-";
/// The fallback tag of distribution-spec, and cosign's.
const SUFFIXES: [&str; 4] = ["", ".sig", ".att", ".sbom"];
