//! Reading documents, many at once, round by round.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};

use super::{Draft, Image, Planned, Platforms, REFERRER};
use crate::error::{Error, Failure, Kind, Result};
use crate::oci::{Digest, Document, Name, Reference, Selector, View};
use crate::place::{Named, Origin, Reason};

/// A document to read.
pub(super) struct Wanted {
    pub(super) origin: Origin,
    pub(super) selector: Selector,
    pub(super) purpose: Purpose,
}

/// What a document is read for.
pub(super) enum Purpose {
    /// It is what a reference means, or the platform of it that was chosen.
    Image { reference: Arc<Reference>, position: usize, chosen: bool },
    /// It is below another document.
    Child,
    /// It refers to another document and lands beside it: under its tag, or by digest.
    Referrer,
    /// The same, if it exists.
    PerhapsReferrer,
}

impl Draft<'_> {
    pub(super) async fn read_images(&mut self, images: &[Image]) -> Result<()> {
        let wanted = images.iter().enumerate().map(|(position, Image { reference, pinned })| {
            let origin = Origin::of(reference);
            let selector = pinned.map(Selector::Digest).or_else(|| reference.selector.clone());
            let selector =
                selector.ok_or_else(|| Error::usage(format!("{reference} names a repository, not an image")))?;
            let reference = Arc::new(reference.clone());
            let purpose = Purpose::Image { reference, position, chosen: pinned.is_some() };
            Ok(Wanted { origin, selector, purpose })
        });
        self.read(wanted.collect::<Result<_>>()?).await
    }

    /// Reads `wanted`, what is below it, and so on. What is wanted several times is read once a round.
    pub(super) async fn read(&mut self, mut wanted: Vec<Wanted>) -> Result<()> {
        while !wanted.is_empty() {
            let catalog = self.catalog;
            let mut grouped: BTreeMap<(Origin, Selector), Vec<Wanted>> = BTreeMap::new();
            for wanted in wanted {
                grouped.entry((wanted.origin.clone(), wanted.selector.clone())).or_default().push(wanted);
            }
            let mut reading = stream::iter(grouped)
                .map(async |((Origin { host, repository }, selector), group)| {
                    (group, catalog.document(&host, &repository, &selector).await)
                })
                .buffer_unordered(self.wishes.jobs.max(1));
            let mut next = Vec::new();
            while let Some((group, read)) = reading.next().await {
                for wanted in group {
                    match &read {
                        Ok(document) => self.use_document(&wanted, document, &mut next)?,
                        Err(error) => self.note_failure(wanted, error.flattened())?,
                    }
                }
            }
            wanted = next;
        }
        Ok(())
    }

    fn use_document(&mut self, wanted: &Wanted, document: &Document, next: &mut Vec<Wanted>) -> Result<()> {
        let origin = &wanted.origin;
        match &wanted.purpose {
            Purpose::Image { reference, position, chosen } => {
                let whole = *chosen || reference.lists_referrers(document.digest());
                if let (false, View::Index { children }) = (whole, document.view()) {
                    match self.wishes.platforms.choose_one(children) {
                        Ok(None) => {}
                        Ok(Some(child)) => {
                            // Who asked for what this machine runs did not ask for attestations.
                            if let Platforms::Only(_) = self.wishes.platforms {
                                let count = self.attestations.entry(*position).or_default();
                                *count += Platforms::attestations_of(children, child);
                            }
                            let (reference, position) = (reference.clone(), *position);
                            let purpose = Purpose::Image { reference, position, chosen: true };
                            let selector = Selector::Digest(child.digest);
                            next.push(Wanted { origin: origin.clone(), selector, purpose });
                            return Ok(());
                        }
                        Err(error) => {
                            self.failures.push(Failure { image: reference.to_string(), error });
                            return Ok(());
                        }
                    }
                }
                let name = self.wishes.names.name(reference, document.digest())?;
                self.name(planned(name, reference, document, origin, *position));
            }
            Purpose::Child => {}
            Purpose::Referrer | Purpose::PerhapsReferrer => {
                let reference = Reference {
                    host: origin.host.clone(),
                    repository: origin.repository.clone(),
                    selector: Some(wanted.selector.clone()),
                };
                // It is found by this very name.
                let name = self.wishes.names.way.name(&reference, document.digest())?;
                self.name(planned(name, &reference, document, origin, REFERRER));
            }
        }
        let unread = self.take(origin, document)?;
        next.extend(unread.into_iter().map(|digest: Digest| Wanted {
            origin: origin.clone(),
            selector: Selector::Digest(digest),
            purpose: Purpose::Child,
        }));
        Ok(())
    }

    fn note_failure(&mut self, wanted: Wanted, error: Error) -> Result<()> {
        if error.kind() == Kind::Interrupted {
            return Err(error);
        }
        match (wanted.purpose, wanted.selector) {
            (Purpose::Image { reference, .. }, _) => {
                self.failures.push(Failure { image: reference.to_string(), error });
            }
            (Purpose::PerhapsReferrer, _) if error.kind() == Kind::NotFound => {}
            (Purpose::Child, Selector::Digest(digest)) => {
                self.broken.insert(digest, error);
            }
            (_, selector) => {
                let image = format!("{}/{}{selector}", wanted.origin.host, wanted.origin.repository);
                self.failures.push(Failure { image, error });
            }
        }
        Ok(())
    }

    /// Foreign layers are carried where a registry holds them, and absent where none does.
    pub(super) async fn look_for_foreign_layers(&mut self) -> Result<()> {
        let catalog = self.catalog;
        let mut foreign = std::mem::take(&mut self.foreign);
        foreign.sort_by(|(a, one), (b, other)| (one.digest, a).cmp(&(other.digest, b)));
        foreign.dedup_by(|(a, one), (b, other)| one.digest == other.digest && a == b);
        let mut asking = stream::iter(foreign)
            .map(async |(origin, layer)| {
                (catalog.has_blob(&origin.host, &origin.repository, layer.digest).await, layer)
            })
            .buffer_unordered(self.wishes.jobs.max(1));
        // One digest may be there in one repository and not in another, or be an ordinary layer of another image.
        let mut held: HashSet<Digest> = std::mem::take(&mut self.ordinary);
        let mut failed = HashMap::new();
        while let Some((has, layer)) = asking.next().await {
            match has {
                Ok(true) => drop(held.insert(layer.digest)),
                Ok(false) => drop(self.left_out.insert(layer.digest, (layer.size, Reason::Foreign))),
                Err(error) if error.kind() == Kind::Interrupted => return Err(error),
                Err(error) => drop(failed.insert(layer.digest, error)),
            }
        }
        self.left_out.retain(|digest, _| !held.contains(digest) && !failed.contains_key(digest));
        self.broken.extend(failed.into_iter().filter(|(digest, _)| !held.contains(digest)));
        Ok(())
    }
}

fn planned(name: Name, reference: &Reference, document: &Document, origin: &Origin, position: usize) -> Planned {
    let image = Named { name, source: reference.to_string(), document: document.digest() };
    Planned { image, origin: origin.clone(), position }
}
