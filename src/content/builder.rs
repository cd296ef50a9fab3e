//! Works out [`Contents`] from documents and images: each thing once, checked, in the one order.

mod fit;
mod graph;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
pub use fit::{Fit, Misfit};
use graph::{Edge, Graph, Node, Target, too_many_edges};

use super::contents::{
    Absent, Blob, BlobId, BlobKind, Contents, MAX_EDGES, MAX_NESTING, ManifestId, NamedImage, PlannedManifest,
    RepositoryId, SourceRepository, SourceRepositoryId,
};
use super::documents::Documents;
use crate::error::{Error, Result};
use crate::oci::{Digest, Document, MediaType, Name, Repository};

/// Collects documents and images, then works out [`Contents`].
#[derive(Debug, Default)]
pub struct Builder {
    documents: Documents,
    graph: Graph,
    images: Vec<(NamedImage, Option<SourceRepository>)>,
    absent: Vec<Absent>,
}

impl Builder {
    /// Whether the document is there already.
    pub fn has(&self, digest: Digest) -> bool {
        self.graph.has(digest)
    }

    /// The exact bytes of a document that was taken.
    ///
    /// # Errors
    /// `NotFound` if it was not; `Io` when it cannot be read again.
    pub fn bytes(&self, digest: Digest) -> Result<Bytes> {
        self.documents.get(digest).map(|(bytes, _)| bytes)
    }

    /// Takes a document; its children are to follow, in any order.
    pub fn document(&mut self, document: &Document) -> Result<()> {
        self.refer(document)?;
        self.documents.insert(document)
    }

    /// Takes what a document refers to, and not its bytes, which the caller keeps.
    pub(crate) fn refer(&mut self, document: &Document) -> Result<()> {
        if self.has(document.digest()) { Ok(()) } else { self.graph.insert(document) }
    }

    /// A document that is there.
    ///
    /// # Errors
    /// `NotFound` when it is not, `Io` when it cannot be read again.
    pub fn read(&self, digest: Digest) -> Result<Document> {
        let (bytes, media_type) = self.documents.get(digest)?;
        Document::parse_known(bytes, media_type, digest)
    }

    /// The documents at and below one, those that are there, each once.
    pub fn reached(&self, document: Digest) -> HashSet<Digest> {
        let mut reached = HashSet::new();
        let mut stack = vec![document];
        while let Some(digest) = stack.pop() {
            if self.has(digest) && reached.insert(digest) {
                let below = self.graph.edges_of(digest).filter(|edge| matches!(edge.target, Target::Document(_)));
                stack.extend(below.map(|edge| edge.digest));
            }
        }
        reached
    }

    /// Takes an image: its document is to be given too, before or after.
    pub fn image(&mut self, image: NamedImage, origin: Option<SourceRepository>) {
        self.images.push((image, origin));
    }

    /// Takes note of content that is left out on purpose.
    pub fn absent(&mut self, absent: Absent) {
        self.absent.push(absent);
    }

    /// Works out what to move. Documents that belong to no image are left out.
    ///
    /// # Errors
    /// `Damaged` when a document is missing, one digest has two sizes or two media types or is a document here and
    /// a blob there, one name is there twice, indexes are nested deeper than [`MAX_NESTING`], there are more than
    /// [`MAX_EDGES`] references, or something is absent and there.
    pub fn finish(mut self) -> Result<Contents> {
        self.images.sort_by_cached_key(|(image, _)| image.name.to_string());
        if let Some(twice) = self.images.windows(2).find(|pair| pair[0].0.name == pair[1].0.name) {
            return Err(Error::damaged(format!(
                "the name {} is there twice: for {} and for {}",
                twice[0].0.name, twice[0].0.source, twice[1].0.source
            )));
        }
        let absent = self.absent_by_digest()?;
        let mut draft = Draft::new(&self.graph, &absent);
        for (image, _) in &self.images {
            draft.order_documents(image)?;
        }
        draft.order_blobs(&self.images)?;
        for (number, (image, origin)) in self.images.iter().enumerate() {
            draft.land_image(number as u32, image, origin.as_ref())?;
        }
        let mut contents = draft.contents;
        contents.documents = Arc::new(self.documents);
        contents.images = self.images.into_iter().map(|(image, _)| image).collect();
        contents.absent = self.absent;
        Ok(contents)
    }

    fn absent_by_digest(&self) -> Result<BTreeMap<Digest, u64>> {
        let mut absent = BTreeMap::new();
        for item in &self.absent {
            if self.has(item.digest) {
                return Err(Error::damaged(format!("{} is listed as absent and is there", item.digest)));
            }
            if absent.insert(item.digest, item.size).is_some() {
                return Err(Error::damaged(format!("{} is listed as absent twice", item.digest)));
            }
        }
        Ok(absent)
    }
}

/// Contents in the making.
struct Draft<'a> {
    graph: &'a Graph,
    absent: &'a BTreeMap<Digest, u64>,
    contents: Contents,
    /// How many levels of documents there are from this one down; 1 while that is being found out.
    heights: HashMap<Digest, usize>,
    blobs: HashMap<Digest, BlobId>,
    scopes: HashMap<Repository, RepositoryId>,
    origins: HashMap<SourceRepository, SourceRepositoryId>,
    untagged: HashMap<(Digest, RepositoryId), ManifestId>,
    with_origin: HashSet<(Digest, SourceRepositoryId)>,
    edges: usize,
}

enum Step {
    Enter(Digest),
    Leave(Digest),
}

impl<'a> Draft<'a> {
    fn new(graph: &'a Graph, absent: &'a BTreeMap<Digest, u64>) -> Self {
        Draft {
            graph,
            absent,
            contents: Contents::default(),
            heights: HashMap::new(),
            blobs: HashMap::new(),
            scopes: HashMap::new(),
            origins: HashMap::new(),
            untagged: HashMap::new(),
            with_origin: HashSet::new(),
            edges: 0,
        }
    }

    fn node(&self, digest: Digest) -> Result<&'a Node> {
        self.graph.get(digest).ok_or_else(|| Error::damaged(Misfit::Missing(digest).to_string()))
    }

    /// Depth first, an index before its children, each document once; checks what descriptors say of documents.
    fn order_documents(&mut self, image: &NamedImage) -> Result<()> {
        let broken = |e: Error| e.context(not_whole(&[&image.name]));
        // A stack of our own: the depth is a stranger's choice until it is checked.
        let mut stack = vec![Step::Enter(image.document)];
        while let Some(step) = stack.pop() {
            match step {
                Step::Enter(digest) if self.heights.contains_key(&digest) => {}
                Step::Enter(digest) => {
                    let node = self.node(digest).map_err(broken)?;
                    self.heights.insert(digest, 1);
                    self.contents.document_order.push(digest);
                    stack.push(Step::Leave(digest));
                    for edge in self.graph.edges(node).rev() {
                        let Target::Document(media_type) = &edge.target else { continue };
                        if self.is_absent(edge).map_err(broken)? {
                            continue;
                        }
                        self.check_document(edge, media_type, digest).map_err(broken)?;
                        stack.push(Step::Enter(edge.digest));
                    }
                }
                Step::Leave(digest) => {
                    let below = self.graph.edges_of(digest).filter_map(|edge| match edge.target {
                        Target::Document(_) => self.heights.get(&edge.digest).copied(),
                        Target::Blob(_) => None,
                    });
                    let height = 1 + below.max().unwrap_or(0);
                    if height > MAX_NESTING {
                        return Err(Error::damaged(format!(
                            "{}: indexes are nested deeper than {MAX_NESTING}",
                            image.name
                        )));
                    }
                    self.heights.insert(digest, height);
                }
            }
        }
        Ok(())
    }

    fn check_document(&self, edge: &Edge, media_type: &MediaType, parent: Digest) -> Result<()> {
        let child = self.node(edge.digest)?;
        fit::check_document(parent, edge, media_type, child).map_err(|misfit| Error::damaged(misfit.to_string()))
    }

    fn order_blobs(&mut self, images: &[(NamedImage, Option<SourceRepository>)]) -> Result<()> {
        for wanted in [BlobKind::Config, BlobKind::Layer] {
            for digest in self.contents.document_order.clone() {
                for edge in self.graph.edges(self.node(digest)?) {
                    if matches!(edge.target, Target::Blob(kind) if kind == wanted) {
                        self.order_blob(edge, wanted).map_err(|e| {
                            let names = self.needing(edge.digest, images);
                            e.context(not_whole(&names))
                        })?;
                    }
                }
            }
        }
        Ok(())
    }

    fn order_blob(&mut self, edge: &Edge, kind: BlobKind) -> Result<()> {
        if self.is_absent(edge)? {
            return Ok(());
        }
        // One that no image needs is no part of the contents.
        if self.heights.contains_key(&edge.digest) {
            return Err(Error::damaged(format!("{} is a manifest in one place and a blob in another", edge.digest)));
        }
        if let Some(known) = self.blobs.get(&edge.digest) {
            return check_size(edge, self.contents.blob(*known).size);
        }
        self.blobs.insert(edge.digest, BlobId(self.contents.blobs.len() as u32));
        let (wanted, origins) = (Vec::new(), Vec::new());
        self.contents.blobs.push(Blob { digest: edge.digest, size: edge.size, kind, wanted, origins });
        Ok(())
    }

    /// The images that need what a digest names, for messages.
    fn needing<'i>(&self, digest: Digest, images: &'i [(NamedImage, Option<SourceRepository>)]) -> Vec<&'i Name> {
        let mut needing = HashSet::from([digest]);
        // As often as documents are nested: those that lead to it, those that lead to these, and so on.
        loop {
            let leads = |document: &&Digest| self.graph.edges_of(**document).any(|edge| needing.contains(&edge.digest));
            let found: Vec<Digest> = self.contents.document_order.iter().filter(leads).copied().collect();
            let before = needing.len();
            needing.extend(found);
            if needing.len() == before {
                break;
            }
        }
        images.iter().filter(|(image, _)| needing.contains(&image.document)).map(|(image, _)| &image.name).collect()
    }

    fn land_image(&mut self, number: u32, image: &NamedImage, origin: Option<&SourceRepository>) -> Result<()> {
        let scope = intern(&mut self.scopes, &mut self.contents.scopes, image.name.repository(), RepositoryId);
        if let Some(origin) = origin {
            let origin = intern(&mut self.origins, &mut self.contents.origins, origin, SourceRepositoryId);
            self.add_origin(image.document, origin)?;
        }
        let landing = match &image.name {
            Name::Digested(_, digest) => {
                if *digest != image.document {
                    return Err(Error::damaged(format!("{} is the name of {}", image.name, image.document)));
                }
                self.plan_manifest(image.document, scope)?
            }
            Name::Tagged(_, tag) => {
                let landing = self.draft_landing(image.document, scope)?;
                self.push_landing(PlannedManifest { tag: Some(tag.clone()), ..landing })
            }
        };
        self.contents.landings[landing.0 as usize].image = Some(number);
        Ok(())
    }

    /// The landing of a document by digest, after everything below it.
    fn plan_manifest(&mut self, digest: Digest, scope: RepositoryId) -> Result<ManifestId> {
        if let Some(known) = self.untagged.get(&(digest, scope)) {
            return Ok(*known);
        }
        let landing = self.draft_landing(digest, scope)?;
        let id = self.push_landing(landing);
        self.untagged.insert((digest, scope), id);
        Ok(id)
    }

    // Recursion is bounded: `order_documents` has refused what is nested deeper than MAX_NESTING.
    fn draft_landing(&mut self, digest: Digest, scope: RepositoryId) -> Result<PlannedManifest> {
        let node = self.node(digest)?;
        self.edges += node.len();
        if self.edges > MAX_EDGES {
            return Err(too_many_edges());
        }
        let mut landing =
            PlannedManifest { document: digest, scope, tag: None, image: None, blobs: Vec::new(), after: Vec::new() };
        for edge in self.graph.edges(node) {
            if self.absent.contains_key(&edge.digest) {
                continue;
            }
            match edge.target {
                Target::Document(_) => landing.after.push(self.plan_manifest(edge.digest, scope)?),
                Target::Blob(_) => {
                    let blob = self.blobs[&edge.digest];
                    landing.blobs.push(blob);
                    let wanted = &mut self.contents.blobs[blob.0 as usize].wanted;
                    // Images are sorted by name, so those of one scope follow one another: looking at the last is
                    // enough. (Looking at all would take hours where one layer is wanted in very many scopes.)
                    if wanted.last() != Some(&scope) {
                        wanted.push(scope);
                    }
                }
            }
        }
        Ok(landing)
    }

    fn push_landing(&mut self, landing: PlannedManifest) -> ManifestId {
        self.contents.landings.push(landing);
        ManifestId(self.contents.landings.len() as u32 - 1)
    }

    /// Notes that everything below `digest` can be fetched from `origin`.
    fn add_origin(&mut self, digest: Digest, origin: SourceRepositoryId) -> Result<()> {
        let mut stack = vec![digest];
        while let Some(digest) = stack.pop() {
            if !self.with_origin.insert((digest, origin)) {
                continue;
            }
            for edge in self.graph.edges(self.node(digest)?) {
                match edge.target {
                    _ if self.absent.contains_key(&edge.digest) => {}
                    Target::Document(_) => stack.push(edge.digest),
                    Target::Blob(_) => {
                        let origins = &mut self.contents.blobs[self.blobs[&edge.digest].0 as usize].origins;
                        if !origins.contains(&origin) {
                            origins.push(origin);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn is_absent(&self, edge: &Edge) -> Result<bool> {
        match self.absent.get(&edge.digest) {
            Some(size) => check_size(edge, *size).map(|()| true),
            None => Ok(false),
        }
    }
}

/// `a:1, b:1, c:1 and 4 more are not whole`
fn not_whole(names: &[&Name]) -> String {
    let shown: Vec<String> = names.iter().take(3).map(ToString::to_string).collect();
    match names.len().saturating_sub(3) {
        0 if names.len() == 1 => format!("{} is not whole", shown[0]),
        0 => format!("{} are not whole", shown.join(", ")),
        more => format!("{} and {more} more are not whole", shown.join(", ")),
    }
}

fn check_size(edge: &Edge, size: u64) -> Result<()> {
    if edge.size == size {
        return Ok(());
    }
    Err(Error::damaged(format!("{} has two sizes: {} bytes and {size} bytes", edge.digest, edge.size)))
}

fn intern<T: Clone + Eq + std::hash::Hash, I: Copy>(
    known: &mut HashMap<T, I>,
    list: &mut Vec<T>,
    value: &T,
    id: impl Fn(u32) -> I,
) -> I {
    *known.entry(value.clone()).or_insert_with(|| {
        list.push(value.clone());
        id(list.len() as u32 - 1)
    })
}

impl Contents {
    /// What is left when only the images that `keep` picks are moved.
    pub fn only(&self, keep: impl Fn(&NamedImage) -> bool) -> Result<Contents> {
        let mut builder = Builder::default();
        for digest in &self.document_order {
            let (bytes, media_type) = self.documents.get(*digest)?;
            builder.refer(&Document::parse_known(bytes, media_type, *digest)?)?;
        }
        let kept: Vec<&NamedImage> = self.images.iter().filter(|image| keep(image)).collect();
        let names: HashSet<String> = kept.iter().map(|image| image.name.to_string()).collect();
        for image in kept {
            builder.image(image.clone(), None);
        }
        for absent in &self.absent {
            let names: Vec<String> = absent.names.iter().filter(|name| names.contains(*name)).cloned().collect();
            if !names.is_empty() {
                builder.absent(Absent { names, ..absent.clone() });
            }
        }
        let contents = builder.finish()?;
        Ok(Contents { documents: self.documents.clone(), ..contents })
    }
}

#[cfg(test)]
mod tests;
