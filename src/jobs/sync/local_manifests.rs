//! Documents that lie at the destination already, so that nobody has to be asked for them.
//!
//! A tree of directories that is written again holds most of its manifests. What has the digest that is wanted is what is
//! wanted, wherever it was read.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use async_trait::async_trait;

use super::TreeLayout;
use crate::content::{Catalog, NamedImage, ResolvedTag, Tags};
use crate::dir::{Image, Tree};
use crate::error::Result;
use crate::oci::{Descriptor, Digest, Document, Host, Repository, Selector, Tag, View};
use crate::plan;
use crate::select::naming::Names;

/// A catalog, and documents that are known without it.
pub(crate) struct LocalManifests<'a> {
    catalog: &'a dyn Catalog,
    known: HashMap<Digest, Document>,
    bytes: u64,
}

impl<'a> LocalManifests<'a> {
    /// Knows what the directories of `images` below `root` hold of them. What is not there, or not as it should be, is
    /// not known: writing the directory sees to that.
    pub(crate) fn new(catalog: &'a dyn Catalog, root: &Path, images: &[plan::RequestedImage], names: &Names) -> Self {
        let mut shelf = LocalManifests { catalog, known: HashMap::new(), bytes: 0 };
        let Ok(tree) = Tree::scan(root) else { return shelf };
        let directories: HashMap<&str, &Image> =
            tree.images().iter().map(|image| (image.suffix.as_str(), image)).collect();
        let layout = TreeLayout::new(names.clone());
        let mut looked_for = HashSet::new();
        for image in images {
            let Some(digest) = image.pinned.filter(|digest| looked_for.insert(*digest)) else { continue };
            let Ok(name) = names.name(&image.reference, digest) else { continue };
            let named = NamedImage { name, source: image.reference.to_string(), document: digest };
            if let Some(directory) = directories.get(layout.directory(&named).as_str()) {
                shelf.take(&tree, directory, digest);
            }
        }
        shelf
    }

    fn take(&mut self, tree: &Tree, directory: &Image, digest: Digest) {
        let Ok(document) = tree.document(directory) else { return };
        if document.digest() != digest {
            return;
        }
        let mut documents = vec![document];
        while let Some(document) = documents.pop() {
            if let View::Index { children } = document.view() {
                documents.extend(children.iter().filter_map(|child| tree.child(directory, child).ok()));
            }
            if self.bytes + document.size() > MAX_KNOWN || self.known.contains_key(&document.digest()) {
                continue;
            }
            self.bytes += document.size();
            self.known.insert(document.digest(), document);
        }
    }
}

#[async_trait]
impl Catalog for LocalManifests<'_> {
    async fn tags(&self, host: &Host, repository: &Repository) -> Result<Tags> {
        self.catalog.tags(host, repository).await
    }

    async fn document(&self, host: &Host, repository: &Repository, selector: &Selector) -> Result<Document> {
        match selector.digest().and_then(|digest| self.known.get(&digest)) {
            Some(known) => Ok(known.clone()),
            None => self.catalog.document(host, repository, selector).await,
        }
    }

    async fn resolve(&self, host: &Host, repository: &Repository, tag: &Tag) -> Result<Option<ResolvedTag>> {
        self.catalog.resolve(host, repository, tag).await
    }

    async fn referrers(&self, host: &Host, repository: &Repository, digest: Digest) -> Result<Option<Vec<Descriptor>>> {
        self.catalog.referrers(host, repository, digest).await
    }

    async fn has_blob(&self, host: &Host, repository: &Repository, digest: Digest) -> Result<bool> {
        self.catalog.has_blob(host, repository, digest).await
    }
}

/// Documents of 8 MiB together; whatever is more is asked for again.
const MAX_KNOWN: u64 = 8 << 20;
