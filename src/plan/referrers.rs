//! Signatures, SBOMs and attestations: what refers to the images that are carried, and to the children of indexes.
//!
//! They are found in three ways: by the referrers API (distribution-spec 1.1), by the fallback tag `sha256-<hex>`
//! that clients keep on registries without it, and by cosign's tags `sha256-<hex>.sig`, `.att` and `.sbom`. Tags are
//! looked up in one listing of the repository; they are asked for one by one only where a registry refuses to list.

use std::collections::{HashMap, HashSet};

use futures_util::stream::{self, StreamExt};

use super::rounds::{Purpose, Wanted};
use super::{Draft, Image};
use crate::error::{Failure, Kind, Result};
use crate::oci::{Digest, Host, Selector, Tag};
use crate::place::Origin;

impl Draft<'_> {
    /// Reads the referrers of everything that is planned, their referrers, and so on. `images` have been read.
    pub(super) async fn read_referrers(&mut self, images: &[Image]) -> Result<()> {
        let mut tags: HashMap<Origin, Tags> = HashMap::new();
        let mut without_api: HashSet<Host> = HashSet::new();
        let mut read: HashSet<(Origin, Selector)> = images.iter().filter_map(by_itself).collect();
        for _ in 0..MAX_DEPTH {
            let subjects = self.new_subjects();
            if subjects.is_empty() {
                break;
            }
            self.list_tags(&subjects, &mut tags).await?;
            let mut wanted = Vec::new();
            for (origin, digest) in &subjects {
                let selectors = tags[origin].about(*digest).into_iter().map(|tag| (origin.clone(), Selector::Tag(tag)));
                wanted.extend(selectors);
            }
            wanted.extend(self.ask_for_referrers(subjects, &mut without_api).await);
            wanted.retain(|wanted| read.insert(wanted.clone()));
            let optional = |origin: &Origin| matches!(tags[origin], Tags::Refused);
            let wanted = wanted
                .into_iter()
                .map(|(origin, selector)| {
                    let purpose = if optional(&origin) { Purpose::PerhapsReferrer } else { Purpose::Referrer };
                    Wanted { origin, selector, purpose }
                })
                .collect();
            self.read(wanted).await?;
        }
        Ok(())
    }

    async fn list_tags(&self, subjects: &[(Origin, Digest)], known: &mut HashMap<Origin, Tags>) -> Result<()> {
        let mut new: Vec<&Origin> =
            subjects.iter().map(|(origin, _)| origin).filter(|o| !known.contains_key(o)).collect();
        new.sort();
        new.dedup();
        let listing = stream::iter(new)
            .map(async |origin: &Origin| (origin.clone(), self.catalog.tags(&origin.host, &origin.repository).await));
        let mut listing = listing.buffer_unordered(self.wishes.jobs.max(1));
        while let Some((origin, listed)) = listing.next().await {
            let tags = match listed {
                Ok(tags) => Tags::Listed(tags.into_iter().collect()),
                Err(error) if error.kind() == Kind::Interrupted => return Err(error),
                // What cannot be listed is asked for one by one; if the registry is gone, that will say so.
                Err(_) => Tags::Refused,
            };
            known.insert(origin, tags);
        }
        Ok(())
    }

    /// By the API, unless the host does not know it: then the fallback tag is in the list of tags.
    async fn ask_for_referrers(
        &mut self,
        subjects: Vec<(Origin, Digest)>,
        without_api: &mut HashSet<Host>,
    ) -> Vec<(Origin, Selector)> {
        let mut found = Vec::new();
        let mut by_host: HashMap<Host, Vec<(Origin, Digest)>> = HashMap::new();
        for (origin, digest) in subjects {
            by_host.entry(origin.host.clone()).or_default().push((origin, digest));
        }
        for (host, subjects) in by_host {
            let mut subjects = subjects.into_iter();
            // One question tells whether the host knows the API at all.
            let first: Vec<_> = subjects.by_ref().take(1).collect();
            for batch in [first, subjects.collect()] {
                if without_api.contains(&host) {
                    break;
                }
                let asking = stream::iter(batch).map(async |(origin, digest): (Origin, Digest)| {
                    let answer = self.catalog.referrers(&origin.host, &origin.repository, digest).await;
                    (origin, digest, answer)
                });
                let answers: Vec<_> = asking.buffer_unordered(self.wishes.jobs.max(1)).collect().await;
                for (origin, digest, answer) in answers {
                    match answer {
                        Ok(Some(referrers)) => {
                            found.extend(referrers.iter().map(|r| (origin.clone(), Selector::Digest(r.digest))));
                        }
                        Ok(None) => drop(without_api.insert(host.clone())),
                        Err(error) => {
                            let image = format!("referrers of {}/{}@{digest}", origin.host, origin.repository);
                            self.failures.push(Failure { image, error });
                        }
                    }
                }
            }
        }
        found
    }
}

/// An image that was read as what it is called, and would be found by that name once more.
fn by_itself(image: &Image) -> Option<(Origin, Selector)> {
    let reference = &image.reference;
    Some((Origin::of(reference), reference.selector.clone()?))
}

/// What is known of a repository's tags.
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

/// Referrers of referrers of ...: an SBOM's signature is two deep.
const MAX_DEPTH: usize = 8;

/// The fallback tag of distribution-spec, and cosign's.
const SUFFIXES: [&str; 4] = ["", ".sig", ".att", ".sbom"];
