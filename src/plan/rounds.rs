//! Reading documents, many at once, round by round.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};

use super::referrer::Referrer;
use super::{Draft, PlannedImage, Platforms, REFERRER, RequestedImage};
use crate::content::{Allowance, NamedImage, Reason, SourceRepository};
use crate::error::{Error, Failure, Kind, Result};
use crate::oci::{Digest, Document, MediaType, Name, Reference, Selector, View, embedded};

/// A document to read.
pub(super) struct DocumentRequest {
    /// Where it belongs.
    pub(super) origin: SourceRepository,
    /// Where it is read instead, if it could not be read there.
    pub(super) at: Option<SourceRepository>,
    pub(super) selector: Selector,
    pub(super) purpose: Purpose,
    /// Of the image that it is read for.
    pub(super) allowance: Arc<Allowance>,
}

/// What a document is read for.
#[derive(Clone)]
pub(super) enum Purpose {
    /// It is what a reference means, or the platform of it that was chosen.
    Image(Arc<Asked>),
    /// It is below another document, which says that it is of this type.
    Child(MediaType),
    /// It refers to another document and lands beside it: under its tag, or by digest.
    Referrer(Arc<Referrer>),
}

/// An image that was asked for.
pub(super) struct Asked {
    reference: Reference,
    /// Its place among the images that were asked for.
    position: usize,
    /// Whether it was found in a list of tags.
    listed: bool,
    /// Whether no platform is to be chosen any more.
    chosen: bool,
}

/// Where documents can be read, and where that was tried.
#[derive(Default)]
pub(super) struct Attempts {
    /// For each manifest that was chosen from an index: where the index was read.
    indexes: HashMap<Digest, BTreeSet<SourceRepository>>,
    /// For each document that could not be read: where that was tried.
    tried: HashMap<Digest, BTreeSet<SourceRepository>>,
    /// The types of children that could not be read.
    types: HashMap<Digest, MediaType>,
    /// Chosen manifests that could not be read, with the last reason.
    unread: Vec<(DocumentRequest, Error)>,
}

impl Purpose {
    /// The document as its index has it, if its bytes leave open what it is and the registry serves it as something else.
    fn retyped(&self, document: &Document) -> Option<Document> {
        match self {
            Purpose::Child(media_type) if media_type != document.media_type() => {
                Document::parse_known(document.bytes().clone(), media_type, document.digest()).ok()
            }
            _ => None,
        }
    }
}

impl Draft<'_> {
    pub(super) async fn read_images(&mut self, images: &[RequestedImage]) -> Result<()> {
        let wanted = images.iter().enumerate().map(|(position, RequestedImage { reference, pinned, listed })| {
            let origin = SourceRepository::of(reference);
            let selector = pinned.map(Selector::Digest).or_else(|| reference.selector.clone());
            let selector =
                selector.ok_or_else(|| Error::usage(format!("{reference} names a repository, not an image")))?;
            let (reference, listed) = (reference.clone(), *listed);
            let asked = Asked { reference, position, listed, chosen: pinned.is_some() };
            let allowance = Allowance::new(self.wishes.max_requests);
            Ok(DocumentRequest { origin, at: None, selector, purpose: Purpose::Image(Arc::new(asked)), allowance })
        });
        self.read(wanted.collect::<Result<_>>()?).await
    }

    /// Reads `wanted`, what is below it, and so on. What one registry or repository does not have is read from the others
    /// that have the index which names it.
    pub(super) async fn read(&mut self, mut wanted: Vec<DocumentRequest>) -> Result<()> {
        while !wanted.is_empty() {
            self.read_rounds(wanted).await?;
            wanted = self.elsewhere();
            if wanted.is_empty() {
                wanted = self.use_embedded()?;
            }
        }
        for (wanted, error) in std::mem::take(&mut self.attempts.unread) {
            if let Purpose::Image(asked) = &wanted.purpose {
                self.failures.push(Failure { image: asked.reference.to_string(), error });
            }
        }
        Ok(())
    }

    /// What is wanted several times is read once a round.
    async fn read_rounds(&mut self, mut wanted: Vec<DocumentRequest>) -> Result<()> {
        while !wanted.is_empty() {
            let catalog = self.catalog;
            let mut grouped: BTreeMap<(SourceRepository, Selector), Vec<DocumentRequest>> = BTreeMap::new();
            for wanted in wanted {
                let at = wanted.at.as_ref().unwrap_or(&wanted.origin).clone();
                grouped.entry((at, wanted.selector.clone())).or_default().push(wanted);
            }
            let mut reading = stream::iter(grouped)
                .map(async |((SourceRepository { host, repository }, selector), group)| {
                    // What several images need is paid for by one that can.
                    let payer = group.iter().find(|wanted| !wanted.allowance.is_spent()).unwrap_or(&group[0]);
                    let reading = catalog.document(&host, &repository, &selector);
                    let read = payer.allowance.pays_for(reading).await;
                    (group, read)
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

    /// What could not be read, at the next place that has the index which names it.
    fn elsewhere(&mut self) -> Vec<DocumentRequest> {
        let mut wanted = Vec::new();
        if !self.broken.is_empty() {
            let mut again = HashSet::new();
            for PlannedImage { image, origin, allowance, .. } in &self.images {
                if allowance.is_spent() {
                    continue;
                }
                let reached = self.reached(image.document).into_iter();
                for digest in reached.filter(|digest| self.broken.contains_key(digest)) {
                    let tried = self.attempts.tried.entry(digest).or_default();
                    if !tried.contains(origin) && again.insert(digest) {
                        wanted.extend(
                            self.attempts
                                .types
                                .get(&digest)
                                .map(|media_type| child(origin, digest, media_type, allowance)),
                        );
                    }
                }
            }
        }
        let Attempts { indexes, tried, unread, .. } = &mut self.attempts;
        for (before, error) in std::mem::take(unread) {
            let other = before.selector.digest().and_then(|digest| {
                let tried = tried.get(&digest)?;
                indexes.get(&digest)?.iter().find(|origin| !tried.contains(origin))
            });
            match other {
                Some(other) => wanted.push(DocumentRequest { at: Some(other.clone()), ..before }),
                None => unread.push((before, error)),
            }
        }
        wanted
    }

    /// Takes children that no registry serves and that their index embeds; returns what is below them.
    fn use_embedded(&mut self) -> Result<Vec<DocumentRequest>> {
        if self.broken.is_empty() {
            return Ok(Vec::new());
        }
        let is_broken = |digest: &Digest| self.broken.contains_key(digest);
        let parents = self.below.iter().filter(|(_, below)| below.iter().any(is_broken)).map(|(parent, _)| *parent);
        let parents: Vec<Digest> = parents.filter(|parent| self.builder.has(*parent)).collect();
        let mut next = Vec::new();
        for parent in parents {
            let found = embedded(&self.builder.bytes(parent)?, |digest| self.broken.contains_key(&digest));
            if found.is_empty() {
                continue;
            }
            let reaches = |planned: &&PlannedImage| self.reached(planned.image.document).contains(&parent);
            let Some(PlannedImage { origin, allowance, .. }) = self.images.iter().find(reaches).cloned() else {
                continue;
            };
            for (digest, bytes) in found {
                let Some(media_type) = self.attempts.types.get(&digest).cloned() else { continue };
                if let Ok(document) = Document::parse_known(bytes, &media_type, digest) {
                    self.use_document(&child(&origin, digest, &media_type, &allowance), &document, &mut next)?;
                }
            }
        }
        Ok(next)
    }

    fn use_document(
        &mut self,
        wanted: &DocumentRequest,
        document: &Document,
        next: &mut Vec<DocumentRequest>,
    ) -> Result<()> {
        let (origin, allowance) = (&wanted.origin, &wanted.allowance);
        let retyped = wanted.purpose.retyped(document);
        let document = retyped.as_ref().unwrap_or(document);
        match &wanted.purpose {
            Purpose::Image(asked) => {
                let Asked { reference, position, listed, chosen } = &**asked;
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
                            let (reference, position, listed) = (reference.clone(), *position, *listed);
                            let asked = Asked { reference, position, listed, chosen: true };
                            let selector = Selector::Digest(child.digest);
                            self.attempts.indexes.entry(child.digest).or_default().insert(origin.clone());
                            let purpose = Purpose::Image(Arc::new(asked));
                            let (origin, allowance) = (origin.clone(), allowance.clone());
                            next.push(DocumentRequest { origin, at: None, selector, purpose, allowance });
                            return Ok(());
                        }
                        Err(error) => {
                            self.failures.push(Failure { image: reference.to_string(), error });
                            return Ok(());
                        }
                    }
                }
                let name = self.wishes.names.name(reference, document.digest())?;
                self.name(planned(name, reference, document, wanted, *position));
            }
            Purpose::Child(_) => drop(self.broken.remove(&document.digest())),
            // GitLab reads the tag sha256-<hex> as the digest (oras-project/oras-go issue 1396): nothing lists itself.
            Purpose::Referrer(referrer) if referrer.is_itself(document.digest()) => return Ok(()),
            Purpose::Referrer(referrer) => {
                let reference = Reference {
                    host: origin.host.clone(),
                    repository: origin.repository.clone(),
                    selector: Some(wanted.selector.clone()),
                };
                // It is found by this very name.
                let name = self.wishes.names.policy.name(&reference, document.digest())?;
                self.referrers.insert(name.clone(), referrer.clone());
                self.name(planned(name, &reference, document, wanted, REFERRER));
            }
        }
        let unread = self.take(document)?;
        next.extend(unread.into_iter().map(|(digest, media_type)| child(origin, digest, &media_type, allowance)));
        Ok(())
    }

    fn note_failure(&mut self, wanted: DocumentRequest, error: Error) -> Result<()> {
        if error.kind() == Kind::Interrupted {
            return Err(error);
        }
        let is_spent = wanted.allowance.is_spent();
        // Another image may still read it there.
        if let Selector::Digest(digest) = &wanted.selector
            && !is_spent
        {
            let at = wanted.at.as_ref().unwrap_or(&wanted.origin);
            self.attempts.tried.entry(*digest).or_default().insert(at.clone());
        }
        let is_gone = error.kind() == Kind::NotFound;
        match (&wanted.purpose, &wanted.selector) {
            (Purpose::Image(_), Selector::Digest(digest)) if self.attempts.indexes.contains_key(digest) => {
                let error = if is_gone { gone(&error, GONE_CHILD, INCOMPLETE) } else { error };
                self.attempts.unread.push((wanted, error));
            }
            (Purpose::Image(asked), _) => {
                let error = if is_gone && asked.listed { gone(&error, GONE_TAG, DELETED) } else { error };
                self.failures.push(Failure { image: asked.reference.to_string(), error });
            }
            (Purpose::Child(media_type), Selector::Digest(digest)) => {
                self.attempts.types.insert(*digest, media_type.clone());
                let error = if is_gone { gone(&error, GONE_CHILD, INCOMPLETE) } else { error };
                self.broken.entry(*digest).or_insert(error);
            }
            // By digest only.
            (Purpose::Child(_), _) => {}
            (Purpose::Referrer(referrer), _) if is_gone => {
                if referrer.listed {
                    self.warn(format!("{referrer} was listed and is gone: it is not carried"));
                }
            }
            // The image fails as a whole.
            (Purpose::Referrer(_), _) if is_spent => {}
            (Purpose::Referrer(referrer), _) => self.failures.push(referrer.failure(&error)),
        }
        Ok(())
    }

    /// Foreign layers are carried where a registry holds them, and absent where none does.
    pub(super) async fn look_for_foreign_layers(&mut self) -> Result<()> {
        let catalog = self.catalog;
        let by_document = std::mem::take(&mut self.foreign);
        let mut foreign = BTreeMap::new();
        if !by_document.is_empty() {
            for PlannedImage { image, origin, .. } in &self.images {
                let layers = self.reached(image.document).into_iter().filter_map(|digest| by_document.get(&digest));
                let layers = layers.flatten().map(|layer| ((layer.digest, origin), layer));
                foreign.extend(layers);
            }
        }
        let mut asking = stream::iter(foreign)
            .map(async |((digest, origin), layer)| {
                (catalog.has_blob(&origin.host, &origin.repository, digest).await, layer)
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

fn planned(
    name: Name,
    reference: &Reference,
    document: &Document,
    wanted: &DocumentRequest,
    position: usize,
) -> PlannedImage {
    let image = NamedImage { name, source: reference.to_string(), document: document.digest() };
    PlannedImage { image, origin: wanted.origin.clone(), position, allowance: wanted.allowance.clone() }
}

fn child(
    origin: &SourceRepository,
    digest: Digest,
    media_type: &MediaType,
    allowance: &Arc<Allowance>,
) -> DocumentRequest {
    let purpose = Purpose::Child(media_type.clone());
    let (origin, allowance) = (origin.clone(), allowance.clone());
    DocumentRequest { origin, at: None, selector: Selector::Digest(digest), purpose, allowance }
}

/// The error for what is not there although something names it: that is no mistake in spelling.
fn gone(error: &Error, what: &str, hint: &str) -> Error {
    Error::not_found(format!("{what}: {}", error.chain())).hint(hint)
}

const GONE_CHILD: &str = "a manifest that its index lists is gone";
const GONE_TAG: &str = "the tag was listed a moment ago and is gone now";

/// What to do about an index whose manifests are not all there.
const INCOMPLETE: &str = "it was deleted after the index was pushed, or never pushed: push the image again, take it \
from another registry, choose another platform (--platform), or leave the image out (--keep-going)";
/// What to do about a tag that was deleted.
const DELETED: &str = "tags are deleted while they are read: run the same command again, which lists them anew, or leave \
such tags out with --keep-going";
