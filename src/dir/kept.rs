//! What another place is asked for, answered from a tree where that holds it already.

use std::collections::HashMap;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;

use super::tree::{Image, Tree};
use crate::error::Result;
use crate::oci::{Descriptor, Digest, Document, DocumentKind, Host, MediaType, Repository, Selector, Tag};
use crate::place::{Catalog, Current};

/// A catalog in front of which a tree stands: a manifest that is asked for by its digest and lies in the tree, with the
/// right bytes, is not fetched. Everything else is asked of the place behind it.
pub struct Kept<'a> {
    behind: &'a dyn Catalog,
    /// Nothing when there is no tree, or none that can be read.
    tree: Option<Tree>,
    /// Which image has a `manifest.json` with this digest.
    tops: HashMap<Digest, Image>,
}

impl<'a> Kept<'a> {
    /// Looks through the tree at `path`. What cannot be read is as good as not there.
    pub fn new(path: &Path, behind: &'a dyn Catalog) -> Kept<'a> {
        let tree = Tree::scan(path).ok();
        let images = tree.iter().flat_map(|tree| tree.images().iter().map(move |image| (tree, image)));
        let tops =
            images.filter_map(|(tree, image)| Some((Digest::of(&tree.manifest(image).ok()?), image.clone()))).collect();
        Kept { behind, tree, tops }
    }

    fn find(&self, digest: Digest) -> Option<Document> {
        let tree = self.tree.as_ref()?;
        let bytes = match self.tops.get(&digest) {
            Some(image) => tree.manifest(image).ok()?,
            None => tree.instance(digest)?,
        };
        (Digest::of(&bytes) == digest).then(|| self_described(bytes, digest)).flatten()
    }
}

#[async_trait]
impl Catalog for Kept<'_> {
    async fn tags(&self, host: &Host, repository: &Repository) -> Result<Vec<Tag>> {
        self.behind.tags(host, repository).await
    }

    async fn document(&self, host: &Host, repository: &Repository, selector: &Selector) -> Result<Document> {
        match selector.digest().and_then(|digest| self.find(digest)) {
            Some(document) => Ok(document),
            None => self.behind.document(host, repository, selector).await,
        }
    }

    async fn current(&self, host: &Host, repository: &Repository, tag: &Tag) -> Result<Option<Current>> {
        self.behind.current(host, repository, tag).await
    }

    async fn referrers(&self, host: &Host, repository: &Repository, digest: Digest) -> Result<Option<Vec<Descriptor>>> {
        self.behind.referrers(host, repository, digest).await
    }

    async fn has_blob(&self, host: &Host, repository: &Repository, digest: Digest) -> Result<bool> {
        self.behind.has_blob(host, repository, digest).await
    }
}

/// The document, if it says itself of which media type it is: of the others only a registry knows.
fn self_described(bytes: Bytes, digest: Digest) -> Option<Document> {
    let document = Document::parse_known(bytes.clone(), &MediaType::new(""), digest).ok()?;
    let other = match (document.media_type().document_kind()?, document.media_type().as_str()) {
        (DocumentKind::Index, MediaType::OCI_INDEX) => MediaType::DOCKER_LIST,
        (DocumentKind::Index, _) => MediaType::OCI_INDEX,
        (DocumentKind::Manifest, MediaType::OCI_MANIFEST) => MediaType::DOCKER_MANIFEST,
        (DocumentKind::Manifest, _) => MediaType::OCI_MANIFEST,
    };
    // What says nothing of itself would be taken for anything.
    Document::parse_known(bytes, &MediaType::new(other), digest).is_err().then_some(document)
}
