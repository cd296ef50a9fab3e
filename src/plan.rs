//! From single images to everything that must be carried for them: every document and blob once, with sizes.
//!
//! Documents are read in rounds: the images, then the children of their indexes, then what refers to them
//! ([`referrers`]), and so on until nothing new is found. What is left out on purpose ([`platform`], foreign layers)
//! is noted as absent. What a tree of directories holds is read there at once ([`from_tree`]).

mod platform;
mod referrers;
mod rounds;
mod tree;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub use platform::{PlatformWish, Platforms};
use referrers::Referrer;
use rounds::Attempts;
pub use tree::{Signatures, from_tree};

use crate::error::{Error, Failure, Result};
use crate::naming::{Names, check_collisions, collision};
use crate::oci::{Descriptor, Digest, Document, MediaType, Name, Reference, Selector, View};
use crate::place::{Absent, Builder, Catalog, Contents, Named, Origin, Reason};
use crate::selection::Selection;

/// How to plan.
#[derive(Debug, Clone)]
pub struct Wishes {
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
}

impl Default for Wishes {
    fn default() -> Self {
        Wishes { names: Names::default(), platforms: Platforms::All, referrers: true, keep_going: false, jobs: 6 }
    }
}

/// An image to carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// As it was asked for; it has a selector. Its name is made of this.
    pub reference: Reference,
    /// The very manifest or index that is to land, if that is known already: then no platform is chosen any more.
    pub pinned: Option<Digest>,
    /// Whether it comes from a list of tags: nobody has misspelt it.
    pub listed: bool,
}

impl Image {
    /// `images` as `selection` asks for them: by name, or by a list of tags.
    pub fn of_selection(selection: &Selection, images: Vec<Reference>) -> Vec<Image> {
        let named = selection.named();
        let image = |reference| {
            let listed = !named.contains(&reference);
            Image { reference, pinned: None, listed }
        };
        images.into_iter().map(image).collect()
    }
}

impl From<Reference> for Image {
    fn from(reference: Reference) -> Self {
        Image { reference, pinned: None, listed: false }
    }
}

/// What was planned, and what had to be left out of it.
#[derive(Debug)]
pub struct Plan {
    /// What to move.
    pub contents: Contents,
    /// With `keep_going`: images that cannot be carried, with the reason, sorted.
    pub failures: Vec<Failure>,
    /// What a person should know, and that stops nothing.
    pub warnings: Vec<String>,
}

/// Reads what must be read of `images` and works out the [`Contents`].
///
/// # Errors
/// `Usage` when two images would land on one name, before anything is fetched. When images cannot be read, one
/// error that names all of them; with `keep_going` they are failures of the plan.
pub async fn plan(catalog: &dyn Catalog, images: &[Image], wishes: &Wishes) -> Result<Plan> {
    check_names(images.iter().map(|image| &image.reference), &wishes.names)?;
    let mut draft = Draft::new(catalog, wishes);
    draft.read_images(images).await?;
    if wishes.referrers {
        draft.read_referrers(images).await?;
    }
    draft.finish(images.len()).await
}

/// A plan in the making.
struct Draft<'a> {
    catalog: &'a dyn Catalog,
    wishes: &'a Wishes,
    builder: Builder,
    /// What is to land, in the order in which it was found.
    images: Vec<(Named, Origin)>,
    names: HashMap<Name, (Digest, String)>,
    /// The documents and left-out things below each document, to know which image something belongs to.
    below: HashMap<Digest, Vec<Digest>>,
    /// Documents that were asked for or are there.
    known: HashSet<Digest>,
    /// Documents that can have referrers, with where they were or are being asked for: one document in two
    /// repositories can have others in each.
    asked_about: HashSet<(Origin, Digest)>,
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
    failures: Vec<Failure>,
    warnings: Vec<String>,
    /// Warnings beyond [`MAX_WARNINGS`].
    more_warnings: usize,
}

/// A document that can have referrers.
struct Subject {
    origin: Origin,
    digest: Digest,
    /// The reference of an image that it belongs to.
    image: Arc<str>,
}

impl<'a> Draft<'a> {
    fn new(catalog: &'a dyn Catalog, wishes: &'a Wishes) -> Self {
        Draft {
            catalog,
            wishes,
            builder: Builder::default(),
            images: Vec::new(),
            names: HashMap::new(),
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

    /// Notes that a document is to land under a name. What was asked for may be found a second time as a referrer.
    fn name(&mut self, name: Name, source: String, document: Digest, origin: &Origin) {
        match self.names.get(&name) {
            None => {
                self.names.insert(name.clone(), (document, source.clone()));
                self.images.push((Named { name, source, document }, origin.clone()));
            }
            Some((known, _)) if *known == document => {}
            Some((_, other)) => {
                let error = collision(&name, other, &source);
                self.failures.push(Failure { image: source, error });
            }
        }
    }

    async fn finish(mut self, asked: usize) -> Result<Plan> {
        self.look_for_foreign_layers().await?;
        let mut kept: Vec<(Named, Origin)> = Vec::with_capacity(self.images.len());
        let images = std::mem::take(&mut self.images);
        for (image, origin) in images {
            let Some(error) = self.reached(image.document).iter().find_map(|digest| self.broken.get(digest)) else {
                kept.push((image, origin));
                continue;
            };
            let error = error.flattened();
            match (self.without_list(&image, &origin), self.referrers.get(&image.name)) {
                (Some(others), _) => kept.extend(others),
                (None, Some(referrer)) => self.failures.push(referrer.failure(&error)),
                (None, None) => self.failures.push(Failure { image: image.source, error }),
            }
        }
        // What a list named may have been found by the API, too.
        let mut names = HashSet::new();
        kept.retain(|(image, _)| names.insert(image.name.clone()));
        if !self.failures.is_empty() && !self.wishes.keep_going {
            return Err(Failure::report(self.failures, asked));
        }
        for absent in self.absent(&kept) {
            self.builder.absent(absent);
        }
        for (image, origin) in kept {
            self.builder.image(image, Some(origin));
        }
        self.failures.sort_by(|a, b| a.image.cmp(&b.image));
        self.failures.dedup_by(|a, b| a.image == b.image);
        if self.more_warnings > 0 {
            self.warnings.push(format!("and {} more warnings of this sort", self.more_warnings));
        }
        Ok(Plan { contents: self.builder.finish()?, failures: self.failures, warnings: self.warnings })
    }

    fn warn(&mut self, warning: String) {
        match self.warnings.len() < MAX_WARNINGS {
            true => self.warnings.push(warning),
            false => self.more_warnings += 1,
        }
    }

    /// What is left out of the images that are carried, with their names.
    fn absent(&self, images: &[(Named, Origin)]) -> Vec<Absent> {
        let mut names: HashMap<Digest, Vec<String>> = HashMap::new();
        for (image, _) in images {
            for digest in self.reached(image.document) {
                if self.left_out.contains_key(&digest) && !self.builder.has(digest) {
                    names.entry(digest).or_default().push(image.name.to_string());
                }
            }
        }
        let mut absent: Vec<Absent> = names
            .into_iter()
            .map(|(digest, mut names)| {
                names.sort();
                let (size, reason) = self.left_out[&digest];
                Absent { digest, size, reason, names }
            })
            .collect();
        absent.sort_by_key(|absent| absent.digest);
        absent
    }

    /// Documents that can have referrers, with where to ask, that have not been asked about yet.
    fn new_subjects(&mut self) -> Vec<Subject> {
        let mut subjects = Vec::new();
        for (image, origin) in &self.images {
            // What is below was looked at together with the image.
            if self.asked_about.contains(&(origin.clone(), image.document)) {
                continue;
            }
            let mut reached: Vec<Digest> = self.reached(image.document).into_iter().collect();
            reached.sort_unstable();
            let documents = reached.into_iter().filter(|digest| self.builder.has(*digest));
            let source: Arc<str> = image.source.as_str().into();
            subjects.extend(documents.map(|digest| Subject { origin: origin.clone(), digest, image: source.clone() }));
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

/// Refuses references that would land on one name: what can be told before anything is fetched. Digests named by tag and
/// by digest cannot collide.
///
/// # Errors
/// `Usage`, naming both.
pub fn check_names<'a>(images: impl IntoIterator<Item = &'a Reference>, names: &Names) -> Result<()> {
    let mut named = Vec::new();
    for reference in images {
        let digest = reference.selector.as_ref().and_then(Selector::digest);
        // A tag's name does not depend on the digest.
        named.push((names.name(reference, digest.unwrap_or_else(|| Digest::of(b"")))?, reference));
    }
    check_collisions(named.iter().map(|(name, reference)| (name, *reference)))
}

/// How many warnings are given one by one.
const MAX_WARNINGS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::oci::{Descriptor, Host, Repository, Tag};
    use async_trait::async_trait;
    use bytes::Bytes;
    use std::collections::HashMap;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Memory {
        by_selector: HashMap<String, Document>,
        asked: Mutex<Vec<String>>,
    }

    impl Memory {
        fn with(mut self, repository: &str, selector: &str, document: &Document) -> Self {
            self.by_selector.insert(format!("{repository}{selector}"), document.clone());
            self.by_selector.insert(format!("{repository}@{}", document.digest()), document.clone());
            self
        }
    }

    #[async_trait]
    impl Catalog for Memory {
        async fn tags(&self, _: &Host, _: &Repository) -> Result<Vec<Tag>> {
            unreachable!("planning lists no tags")
        }
        async fn document(&self, _: &Host, repository: &Repository, selector: &Selector) -> Result<Document> {
            let key = format!("{repository}{selector}");
            self.asked.lock().unwrap().push(key.clone());
            self.by_selector.get(&key).cloned().ok_or_else(|| Error::not_found(format!("{key} is not there")))
        }
        async fn referrers(&self, _: &Host, _: &Repository, _: Digest) -> Result<Option<Vec<Descriptor>>> {
            unreachable!("not asked for")
        }
        async fn has_blob(&self, _: &Host, _: &Repository, _: Digest) -> Result<bool> {
            unreachable!("not asked for")
        }
    }

    fn manifest(seed: &str) -> Document {
        let digest = Digest::of(seed.as_bytes());
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{digest}","size":{}}},"layers":[]}}"#,
            seed.len()
        );
        Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_MANIFEST)).unwrap()
    }

    fn index(child: &Document) -> Document {
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{}","digest":"{}","size":{}}}]}}"#,
            child.media_type(),
            child.digest(),
            child.size()
        );
        Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_INDEX)).unwrap()
    }

    fn wishes() -> Wishes {
        Wishes { referrers: false, jobs: 2, ..Wishes::default() }
    }

    fn references(texts: &[&str]) -> Vec<Image> {
        texts.iter().map(|text| text.parse::<Reference>().unwrap().into()).collect()
    }

    #[tokio::test]
    async fn every_document_is_asked_for_once() {
        let (a, b) = (manifest("a"), manifest("b"));
        let list = index(&a);
        let memory =
            Memory::default().with("x", ":1", &list).with("x", "", &a).with("x", ":2", &list).with("x", ":3", &b);
        let contents =
            plan(&memory, &references(&["h.io/x:1", "h.io/x:2", "h.io/x:3"]), &wishes()).await.unwrap().contents;
        assert_eq!((contents.images.len(), contents.documents.len(), contents.blobs.len()), (3, 3, 2));
        let asked = memory.asked.lock().unwrap();
        assert_eq!(asked.iter().filter(|key| **key == format!("x@{}", a.digest())).count(), 1, "{asked:?}");
    }

    #[tokio::test]
    async fn a_pinned_image_keeps_its_name_and_is_asked_for_by_digest_once() {
        let a = manifest("a");
        let list = index(&a);
        let memory = Memory::default().with("x", ":1", &list).with("x", ":2", &list).with("x", "", &a);
        let mut images = references(&["h.io/x:1", "h.io/x:2"]);
        images.iter_mut().for_each(|image| image.pinned = Some(a.digest()));
        let contents = plan(&memory, &images, &wishes()).await.unwrap().contents;
        let landed: Vec<(String, Digest)> =
            contents.images.iter().map(|image| (image.name.to_string(), image.document)).collect();
        assert_eq!(landed, [("x:1".to_owned(), a.digest()), ("x:2".to_owned(), a.digest())]);
        assert_eq!(*memory.asked.lock().unwrap(), [format!("x@{}", a.digest())]);
    }

    #[tokio::test]
    async fn all_images_that_cannot_be_read_are_named() {
        let memory = Memory::default().with("x", ":1", &manifest("a"));
        let error =
            plan(&memory, &references(&["h.io/x:1", "h.io/x:2", "h.io/y:1"]), &wishes()).await.expect_err("two fail");
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.chain().contains("2 of 3"), "{}", error.chain());
        assert!(error.chain().contains("h.io/x:2") && error.chain().contains("h.io/y:1"));
    }

    #[tokio::test]
    async fn a_collision_is_refused_before_anything_is_fetched() {
        let memory = Memory::default();
        let error = plan(&memory, &references(&["a.io/x:1", "b.io/x:1"]), &wishes()).await.expect_err("collision");
        assert_eq!(error.kind(), Kind::Usage);
        assert!(memory.asked.lock().unwrap().is_empty());
    }
}
