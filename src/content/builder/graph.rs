//! What documents refer to. Descriptors that are equal are kept once: images share most of their layers.

use std::collections::HashMap;

use crate::content::contents::{BlobKind, MAX_EDGES};
use crate::error::{Error, Result};
use crate::oci::{Descriptor, Digest, Document, MAX_DOCUMENT, MediaType, View};

/// Documents, and the descriptors in them.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    nodes: HashMap<Digest, Node>,
    edges: Vec<Edge>,
    /// The first edge with these eight bytes at the beginning of its digest. Others that begin so are kept each time.
    known: HashMap<[u8; 8], u32>,
    /// References in all.
    count: usize,
}

/// A document.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) media_type: MediaType,
    pub(crate) size: u64,
    /// Indexes into [`Graph::edges`].
    edges: Vec<u32>,
}

/// A descriptor in a document: 56 bytes, beside 4 for each reference to it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) target: Target,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Document(Box<MediaType>),
    Blob(BlobKind),
}

impl Node {
    /// How many references it has.
    pub(crate) fn len(&self) -> usize {
        self.edges.len()
    }
}

impl Graph {
    pub(crate) fn has(&self, digest: Digest) -> bool {
        self.nodes.contains_key(&digest)
    }

    pub(crate) fn get(&self, digest: Digest) -> Option<&Node> {
        self.nodes.get(&digest)
    }

    /// What `node` refers to, in its order.
    pub(crate) fn edges<'g>(&'g self, node: &'g Node) -> impl DoubleEndedIterator<Item = &'g Edge> {
        node.edges.iter().map(|edge| &self.edges[*edge as usize])
    }

    /// What the document `digest` refers to; nothing if it is not there.
    pub(crate) fn edges_of(&self, digest: Digest) -> impl Iterator<Item = &Edge> {
        self.get(digest).into_iter().flat_map(|node| self.edges(node))
    }

    /// Takes a document that is not there.
    ///
    /// # Errors
    /// `Refused` when there are more than [`MAX_EDGES`] references.
    pub(crate) fn insert(&mut self, document: &Document) -> Result<()> {
        let blob = |descriptor: &Descriptor, kind| Edge {
            digest: descriptor.digest,
            size: descriptor.size,
            target: Target::Blob(kind),
        };
        let edges: Vec<u32> = match document.view() {
            View::Index { children } => {
                self.make_room(children.len())?;
                let edge = |child: &Descriptor| match child.media_type.document_kind() {
                    Some(_) => Edge {
                        digest: child.digest,
                        size: child.size,
                        target: Target::Document(Box::new(child.media_type.clone())),
                    },
                    None => blob(child, BlobKind::Layer),
                };
                children.iter().map(|child| self.intern(edge(child))).collect()
            }
            View::Manifest { config, layers } => {
                self.make_room(1 + layers.len())?;
                let kind = if config.size <= MAX_DOCUMENT { BlobKind::Config } else { BlobKind::Layer };
                let layers = layers.iter().map(|layer| blob(layer, BlobKind::Layer));
                std::iter::once(blob(config, kind)).chain(layers).map(|edge| self.intern(edge)).collect()
            }
        };
        let node = Node { media_type: document.media_type().clone(), size: document.size(), edges };
        self.nodes.insert(document.digest(), node);
        Ok(())
    }

    fn make_room(&mut self, references: usize) -> Result<()> {
        self.count += references;
        if self.count > MAX_EDGES { Err(too_many_edges()) } else { Ok(()) }
    }

    fn intern(&mut self, edge: Edge) -> u32 {
        let next = self.edges.len() as u32;
        let known = *self.known.entry(edge.digest.start()).or_insert(next);
        if self.edges.get(known as usize) == Some(&edge) {
            return known;
        }
        self.edges.push(edge);
        next
    }
}

pub(crate) fn too_many_edges() -> Error {
    Error::refused(format!("the images have more than {MAX_EDGES} references in all"))
        .hint("carry them in several bundles")
}
