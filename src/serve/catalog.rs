//! Which repository has what: the names of the store by repository, and the documents that those reach.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::store::Store;
use crate::error::{Kind, Result};
use crate::layout::Listing;
use crate::oci::{Descriptor, Digest, Document, DocumentKind, MediaType, Name, Repository, Tag, View};

/// The names of a listing by repository.
#[derive(Debug, Default)]
pub(super) struct RepositoryCatalog {
    repositories: BTreeMap<Repository, Holdings>,
}

/// What is named in one repository.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    pub(super) tags: BTreeMap<Tag, Digest>,
    /// By tag or by digest.
    pub(super) documents: BTreeMap<Digest, Held>,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) media_type: MediaType,
    /// Whether a name says the digest itself.
    pub(super) by_digest: bool,
}

impl RepositoryCatalog {
    fn of(listing: &Listing) -> Self {
        let mut catalog = RepositoryCatalog::default();
        for image in &listing.images {
            let Descriptor { media_type, digest, .. } = &image.descriptor;
            let holdings = catalog.repositories.entry(image.name.repository().clone()).or_default();
            let held = holdings
                .documents
                .entry(*digest)
                .or_insert_with(|| Held { media_type: media_type.clone(), by_digest: false });
            match &image.name {
                Name::Tagged(_, tag) => {
                    holdings.tags.insert(tag.clone(), *digest);
                }
                Name::Digested(..) => held.by_digest = true,
            }
        }
        catalog
    }

    pub(super) fn get(&self, repository: &Repository) -> Option<&Holdings> {
        self.repositories.get(repository)
    }

    pub(super) fn repositories(&self) -> impl Iterator<Item = &str> {
        self.repositories.keys().map(Repository::as_str)
    }
}

/// The catalog as it is now, and what was learnt of documents (which never change).
#[derive(Default)]
pub(super) struct Library {
    catalog: Mutex<Option<(Arc<Listing>, Arc<RepositoryCatalog>)>>,
    nodes: Mutex<HashMap<Digest, Arc<Node>>>,
}

/// What other documents a document refers to.
pub(super) struct Node {
    children: Vec<Digest>,
    pub(super) subject: Option<Digest>,
}

impl Library {
    pub(super) fn catalog(&self, store: &dyn Store) -> Result<Arc<RepositoryCatalog>> {
        let listing = store.listing()?;
        let mut cached = self.catalog.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, catalog)) = &*cached
            && Arc::ptr_eq(known, &listing)
        {
            return Ok(catalog.clone());
        }
        let catalog = Arc::new(RepositoryCatalog::of(&listing));
        *cached = Some((listing, catalog.clone()));
        Ok(catalog)
    }

    /// The media type under which the repository has the document: of its own name, or an empty one for the child
    /// of an index that it has.
    pub(super) fn holds(&self, store: &dyn Store, holdings: &Holdings, wanted: Digest) -> Result<Option<MediaType>> {
        if let Some(held) = holdings.documents.get(&wanted) {
            return Ok(Some(held.media_type.clone()));
        }
        let indexes = holdings
            .documents
            .iter()
            .filter(|(_, held)| held.media_type.document_kind() == Some(DocumentKind::Index))
            .map(|(digest, _)| *digest)
            .collect();
        let mut found = false;
        self.walk(store, indexes, |digest, node| {
            found |= digest == wanted || node.children.contains(&wanted);
            !found
        })?;
        Ok(found.then(|| MediaType::new("")))
    }

    /// Every document of the repository with its node, in no particular order.
    pub(super) fn reachable(&self, store: &dyn Store, holdings: &Holdings) -> Result<Vec<(Digest, Arc<Node>)>> {
        let mut all = Vec::new();
        self.walk(store, holdings.documents.keys().copied().collect(), |digest, node| {
            all.push((digest, node.clone()));
            true
        })?;
        Ok(all)
    }

    /// Whether `index` reaches `wanted`.
    pub(super) fn reaches(&self, store: &dyn Store, index: Digest, wanted: Digest) -> Result<bool> {
        let mut found = false;
        self.walk(store, vec![index], |_, node| {
            found |= node.children.contains(&wanted);
            !found
        })?;
        Ok(found)
    }

    /// Visits documents and all below them, each once, until `visit` says no. Children that are not in the store
    /// (sparse indexes) or cannot be read are passed over.
    fn walk(
        &self,
        store: &dyn Store,
        mut open: Vec<Digest>,
        mut visit: impl FnMut(Digest, &Arc<Node>) -> bool,
    ) -> Result<()> {
        let mut seen: HashSet<Digest> = open.iter().copied().collect();
        while let Some(digest) = open.pop() {
            let Some(node) = self.node(store, digest)? else { continue };
            if !visit(digest, &node) {
                return Ok(());
            }
            open.extend(node.children.iter().copied().filter(|child| seen.insert(*child)));
        }
        Ok(())
    }

    fn node(&self, store: &dyn Store, digest: Digest) -> Result<Option<Arc<Node>>> {
        let nodes = || self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = nodes().get(&digest) {
            return Ok(Some(node.clone()));
        }
        let document = match store.document(digest, &MediaType::new("")) {
            Ok(document) => document,
            Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Damaged | Kind::Refused) => return Ok(None),
            Err(e) => return Err(e),
        };
        let node = Arc::new(Node::of(&document));
        let mut nodes = nodes();
        if nodes.len() >= MAX_NODES {
            nodes.clear();
        }
        nodes.insert(digest, node.clone());
        Ok(Some(node))
    }
}

impl Node {
    fn of(document: &Document) -> Self {
        let children = match document.view() {
            View::Manifest { .. } => Vec::new(),
            View::Index { children } => children
                .iter()
                .filter(|child| child.media_type.document_kind().is_some())
                .map(|child| child.digest)
                .collect(),
        };
        Node { children, subject: document.subject().map(|subject| subject.digest) }
    }
}

/// About 150 bytes each.
const MAX_NODES: usize = 50_000;
