//! From single images to everything that must be carried for them: every document and blob once, with sizes.
//!
//! Documents are read in rounds: the images, then the children of their indexes, then what refers to them
//! (`referrers`), and so on until nothing new is found. What is left out on purpose (`platform`, foreign layers)
//! is noted as absent. What a tree of directories holds is read there at once ([`from_tree`]).

mod advice;
mod finish;
mod notes;
mod platform;
mod referrer;
mod referrers;
mod rounds;
mod tree;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub use notes::notes;
pub(crate) use notes::zstd;
pub use platform::{PlatformFilter, Platforms};
use referrer::Referrer;
use rounds::Attempts;
pub use tree::{SignaturePolicy, from_tree};

use crate::containers::Rules;
use crate::content::{Allowance, Builder, Catalog, Contents, NamedImage, PlannedManifest, Reason, SourceRepository};
use crate::error::{Error, Failure, Result};
use crate::oci::{Descriptor, Digest, Document, Host, MediaType, Name, Reference, Selector, View};
use crate::select::Selection;
use crate::select::naming::{Names, check_collisions, collision};

/// How to plan.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// Under which names images land.
    pub names: Names,
    /// Which platforms of an index are carried.
    pub platforms: Platforms,
    /// Whether signatures, SBOMs and attestations come along.
    pub referrers: bool,
    /// Whether images that cannot be read are left out instead of stopping everything.
    pub keep_going: bool,
    /// How many documents are asked for at once.
    pub jobs: usize,
    /// How many requests may be made to read one image and what refers to it. Default: [`MAX_REQUESTS`].
    pub max_requests: u64,
    /// Whose options errors advise.
    pub command: CallingCommand,
    /// What is checked of images before they are read.
    pub rules: Rules,
}

/// The command that plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallingCommand {
    /// `sealift export`
    Export,
    /// `sealift sync`
    Sync,
}

impl Default for PlanOptions {
    fn default() -> Self {
        PlanOptions {
            names: Names::default(),
            platforms: Platforms::All,
            referrers: true,
            keep_going: false,
            jobs: 6,
            max_requests: MAX_REQUESTS,
            command: CallingCommand::Export,
            rules: Rules::default(),
        }
    }
}

/// An image to carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedImage {
    /// As it was asked for; it has a selector. Its name is made of this.
    pub reference: Reference,
    /// The very manifest or index that is to land, if that is known already: then no platform is chosen any more.
    pub pinned: Option<Digest>,
    /// Whether it comes from a list of tags: nobody has misspelt it.
    pub listed: bool,
}

impl RequestedImage {
    /// `images` as `selection` asks for them: by name, or by a list of tags.
    pub fn of_selection(selection: &Selection, images: Vec<Reference>) -> Vec<RequestedImage> {
        let named = selection.named();
        let image = |reference| {
            let listed = !named.contains(&reference);
            RequestedImage { reference, pinned: None, listed }
        };
        images.into_iter().map(image).collect()
    }
}

impl From<Reference> for RequestedImage {
    fn from(reference: Reference) -> Self {
        RequestedImage { reference, pinned: None, listed: false }
    }
}

/// What was planned, and what had to be left out of it.
#[derive(Debug)]
pub struct Plan {
    /// What to move.
    pub contents: Contents,
    /// With `keep_going`: images that cannot be carried, with the reason, sorted.
    pub failures: Vec<Failure>,
    /// What a person should know, and that stops nothing, beside what [`notes()`] finds in the contents.
    pub warnings: Vec<String>,
}

/// Reads what must be read of `images` and works out the [`Contents`].
///
/// # Errors
/// `Usage` when two different images would land on one name, before anything is fetched if both digests are known. When
/// images cannot be read or are not whole, one error that names all of them; with `keep_going` they are failures of the
/// plan.
pub async fn plan(catalog: &dyn Catalog, images: &[RequestedImage], wishes: &PlanOptions) -> Result<Plan> {
    check_names(images.iter().map(|image| (&image.reference, image.pinned)), &wishes.names)?;
    let mut draft = Draft::new(catalog, wishes);
    draft.read_images(images).await?;
    draft.check_collisions()?;
    if wishes.referrers {
        draft.read_referrers(images).await?;
    }
    draft.finish(images.len()).await
}

/// Warnings about signatures of `images` that lie beside their registry and are not carried.
pub fn left_behind(contents: &Contents, images: &[RequestedImage], rules: &Rules) -> Vec<String> {
    if rules.stores.is_empty() {
        return Vec::new();
    }
    let named = contents.landings.iter().filter_map(|landing| Some((landing, landing.image?)));
    let landed: HashMap<&str, &PlannedManifest> =
        named.map(|(landing, image)| (contents.images[image as usize].source.as_str(), landing)).collect();
    let asked = images.iter().map(|image| &image.reference);
    rules.left_behind(asked.filter_map(|image| {
        let mut stack = vec![*landed.get(image.to_string().as_str())?];
        let mut manifests = Vec::new();
        while let Some(landing) = stack.pop() {
            if !manifests.contains(&landing.document) {
                manifests.push(landing.document);
                stack.extend(landing.after.iter().map(|id| contents.manifest(*id)));
            }
        }
        Some((image, manifests))
    }))
}

/// A plan in the making.
struct Draft<'a> {
    catalog: &'a dyn Catalog,
    wishes: &'a PlanOptions,
    builder: Builder,
    /// What is to land, each name once, in the order in which it was found.
    images: Vec<PlannedImage>,
    /// Where in `images` a name is.
    names: HashMap<Name, usize>,
    /// Pairs of images that were asked for, are different and have one name.
    collisions: Vec<(PlannedImage, PlannedImage)>,
    /// The documents and left-out things below each document, to know which image something belongs to.
    below: HashMap<Digest, Vec<Digest>>,
    /// Documents that were asked for or are there.
    known: HashSet<Digest>,
    /// Documents that can have referrers, with where they were or are being asked for: one document in two
    /// repositories can have others in each.
    asked_about: HashSet<(SourceRepository, Digest)>,
    left_out: HashMap<Digest, (u64, Reason)>,
    /// The foreign layers of each manifest.
    foreign: HashMap<Digest, Vec<Descriptor>>,
    /// Layers that are not foreign.
    ordinary: HashSet<Digest>,
    /// Documents below an image that cannot be read.
    broken: HashMap<Digest, Error>,
    attempts: Attempts,
    /// What was named because it refers to something else.
    referrers: HashMap<Name, Arc<Referrer>>,
    /// Hosts that have returned a list of referrers.
    lists_referrers: HashSet<Host>,
    /// Documents for which no list of referrers was returned.
    without_list_of: Vec<Subject>,
    failures: Vec<Failure>,
    /// How many attestations are left behind with an index, by the position of the image.
    attestations: HashMap<usize, usize>,
    warnings: Vec<String>,
    /// Warnings beyond [`MAX_WARNINGS`].
    more_warnings: usize,
}

/// A document that can have referrers.
struct Subject {
    origin: SourceRepository,
    digest: Digest,
    /// The reference of an image that it belongs to.
    image: Arc<str>,
    allowance: Arc<Allowance>,
}

/// Something that is to land.
#[derive(Clone)]
struct PlannedImage {
    image: NamedImage,
    origin: SourceRepository,
    /// Its place among the images that were asked for; [`REFERRER`] if nobody asked for it.
    position: usize,
    /// Of the image that was asked for.
    allowance: Arc<Allowance>,
}

/// The position of what was found because it refers to an image.
const REFERRER: usize = usize::MAX;

impl<'a> Draft<'a> {
    fn new(catalog: &'a dyn Catalog, wishes: &'a PlanOptions) -> Self {
        Draft {
            catalog,
            wishes,
            builder: Builder::default(),
            images: Vec::new(),
            names: HashMap::new(),
            collisions: Vec::new(),
            below: HashMap::new(),
            known: HashSet::new(),
            asked_about: HashSet::new(),
            left_out: HashMap::new(),
            foreign: HashMap::new(),
            ordinary: HashSet::new(),
            broken: HashMap::new(),
            attempts: Attempts::default(),
            referrers: HashMap::new(),
            failures: Vec::new(),
            lists_referrers: HashSet::new(),
            without_list_of: Vec::new(),
            attestations: HashMap::new(),
            warnings: Vec::new(),
            more_warnings: 0,
        }
    }

    /// Takes a document and notes what it leads to; returns the children to read.
    fn take(&mut self, document: &Document) -> Result<Vec<(Digest, MediaType)>> {
        self.known.insert(document.digest());
        if self.builder.has(document.digest()) {
            return Ok(Vec::new());
        }
        self.builder.document(document)?;
        let mut below = Vec::new();
        let mut unread = Vec::new();
        match document.view() {
            View::Index { children } => {
                let (kept, left_out) = self.wishes.platforms.sort(children);
                for child in left_out {
                    self.left_out.insert(child.digest, (child.size, Reason::Platform));
                    below.push(child.digest);
                }
                for child in kept.into_iter().filter(|child| child.media_type.document_kind().is_some()) {
                    below.push(child.digest);
                    if self.known.insert(child.digest) {
                        unread.push((child.digest, child.media_type.clone()));
                    }
                }
            }
            View::Manifest { layers, .. } => {
                let (foreign, ordinary): (Vec<_>, Vec<_>) =
                    layers.iter().partition(|layer| layer.media_type.is_foreign());
                self.ordinary.extend(ordinary.iter().map(|layer| layer.digest));
                below.extend(foreign.iter().map(|layer| layer.digest));
                if !foreign.is_empty() {
                    self.foreign.insert(document.digest(), foreign.into_iter().cloned().collect());
                }
            }
        }
        self.below.insert(document.digest(), below);
        Ok(unread)
    }

    /// Notes that a document is to land under a name. One image may be asked for in several ways, and what was asked for
    /// may be found a second time as a referrer: the first position counts, whatever is read first.
    fn name(&mut self, new: PlannedImage) {
        let Some(at) = self.names.get(&new.image.name).copied() else {
            self.names.insert(new.image.name.clone(), self.images.len());
            self.images.push(new);
            return;
        };
        let known = &mut self.images[at];
        let order = |planned: &PlannedImage| (planned.position, planned.image.source.clone());
        let second = if order(&new) < order(known) { std::mem::replace(known, new) } else { new };
        let first = &self.images[at];
        if first.image.document == second.image.document {
            return;
        }
        if second.position != REFERRER {
            self.collisions.push((first.clone(), second));
            return;
        }
        let error = self.collision(first, &second);
        self.failures.push(Failure { image: second.image.source, error });
    }

    /// # Errors
    /// `Usage` when different images that were asked for have one name: the first pair of them.
    fn check_collisions(&self) -> Result<()> {
        let order = |(_, second): &&(PlannedImage, PlannedImage)| second.position;
        match self.collisions.iter().min_by_key(order) {
            None => Ok(()),
            Some((first, second)) => Err(self.collision(first, second)),
        }
    }

    fn collision(&self, first: &PlannedImage, second: &PlannedImage) -> Error {
        collision(&second.image.name, &first.image.source, &second.image.source)
            .hint(self.wishes.names.policy.apart(&first.origin, &second.origin))
    }

    fn warn(&mut self, warning: String) {
        match self.warnings.len() < MAX_WARNINGS {
            true => self.warnings.push(warning),
            false => self.more_warnings += 1,
        }
    }

    /// Documents that can have referrers, with where to ask, that have not been asked about yet.
    fn new_subjects(&mut self) -> Vec<Subject> {
        let mut subjects = Vec::new();
        for PlannedImage { image, origin, allowance, .. } in &self.images {
            // What is below was looked at together with the image.
            if self.asked_about.contains(&(origin.clone(), image.document)) {
                continue;
            }
            let mut reached: Vec<Digest> = self.reached(image.document).into_iter().collect();
            reached.sort_unstable();
            let documents = reached.into_iter().filter(|digest| self.builder.has(*digest));
            let source: Arc<str> = image.source.as_str().into();
            subjects.extend(documents.map(|digest| {
                let (origin, image, allowance) = (origin.clone(), source.clone(), allowance.clone());
                Subject { origin, digest, image, allowance }
            }));
        }
        subjects.retain(|subject| self.asked_about.insert((subject.origin.clone(), subject.digest)));
        subjects
    }

    /// Everything at and below a document, each once.
    fn reached(&self, document: Digest) -> HashSet<Digest> {
        let mut reached = HashSet::new();
        let mut stack = vec![document];
        while let Some(digest) = stack.pop() {
            if reached.insert(digest) {
                stack.extend(self.below.get(&digest).into_iter().flatten());
            }
        }
        reached
    }
}

/// Refuses different images that would land on one name, as far as their digests are known: the rest is told when they
/// are read. Each reference may come with the digest of what is to land.
///
/// # Errors
/// `Usage`, naming both; also when a reference cannot be a name.
pub fn check_names<'a>(images: impl IntoIterator<Item = (&'a Reference, Option<Digest>)>, names: &Names) -> Result<()> {
    let mut named = Vec::new();
    for (reference, pinned) in images {
        let digest = pinned.or_else(|| reference.selector.as_ref().and_then(Selector::digest));
        // A tag's name does not depend on the digest.
        let name = names.name(reference, digest.unwrap_or_else(|| Digest::of(b"")))?;
        if let Some(digest) = digest {
            named.push((name, digest, SourceRepository::of(reference), reference.to_string()));
        }
    }
    let named = named.iter().map(|(name, digest, origin, source)| (name.clone(), *digest, origin.clone(), &**source));
    check_collisions(named, names.policy)
}

/// Requests for one image: very many signatures are hundreds.
pub const MAX_REQUESTS: u64 = 10_000;
/// How many warnings are given one by one.
const MAX_WARNINGS: usize = 20;

#[cfg(test)]
mod tests;
