//! Which images can be among one set of contents: told for each of them, so that the others can be carried.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use super::Builder;
use super::graph::{Edge, Graph, Node, Target};
use crate::content::contents::MAX_NESTING;
use crate::oci::{Digest, MediaType};

/// Why an image cannot be among the contents. Images are given by their position in the list that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misfit {
    /// A manifest or index that it refers to is not there.
    Missing(Digest),
    /// An index gives a manifest another size (in bytes) than it has.
    Size {
        /// The index.
        parent: Digest,
        /// The manifest.
        child: Digest,
        /// By the index.
        said: u64,
        /// What it has.
        found: u64,
    },
    /// An index gives a manifest another media type than it has.
    Type {
        /// The index.
        parent: Digest,
        /// The manifest.
        child: Digest,
        /// By the index.
        said: MediaType,
        /// What it has.
        found: MediaType,
    },
    /// Two descriptors give one blob, or something that is left out, two sizes in bytes.
    TwoSizes {
        /// Of the blob.
        digest: Digest,
        /// By this image.
        here: u64,
        /// By the image `other`, which may be this one.
        there: u64,
        /// The image with the other size.
        other: usize,
    },
    /// A layer or config of this image is a manifest or index of the image `other`, which may be this one.
    TwoRoles {
        /// Of both.
        digest: Digest,
        /// The image of which it is a document.
        other: usize,
    },
    /// Indexes are nested deeper than [`MAX_NESTING`].
    TooDeep,
}

/// What was found about a list of images.
#[derive(Debug, Default)]
pub struct Fit {
    /// The images that cannot be carried, by their position.
    pub misfits: BTreeMap<usize, Misfit>,
    /// Of everything but documents that the other images refer to, in bytes.
    sizes: HashMap<Digest, (u64, usize)>,
}

impl Fit {
    /// The size in bytes that the images give something that is no document, or is left out.
    pub fn size(&self, digest: Digest) -> Option<u64> {
        self.sizes.get(&digest).map(|(size, _)| *size)
    }
}

impl Builder {
    /// Checks the documents of `images`, and that each image agrees with those before it. `left_out` says what is not
    /// carried on purpose. [`Builder::finish`] takes the images that are no misfits.
    pub fn fit(&self, images: &[Digest], left_out: impl Fn(Digest) -> bool) -> Fit {
        let (levels, unsound, carried) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut check = Check { graph: &self.graph, left_out, levels, unsound, carried };
        let mut fit = Fit::default();
        for (position, document) in images.iter().enumerate() {
            match check.documents(*document, 1) {
                Ok(_) => check.carry(*document, position),
                Err(misfit) => drop(fit.misfits.insert(position, misfit)),
            }
        }
        let mut checked = HashSet::new();
        for (position, document) in images.iter().enumerate() {
            if fit.misfits.contains_key(&position) {
                continue;
            }
            match check.blobs(*document, position, &fit.sizes, &checked) {
                Ok(found) => {
                    checked.extend(found.documents);
                    let sizes = found.sizes.into_iter();
                    fit.sizes.extend(sizes.map(|(digest, size)| (digest, (size, position))));
                }
                Err(misfit) => drop(fit.misfits.insert(position, misfit)),
            }
        }
        fit
    }
}

struct Check<'a, F> {
    graph: &'a Graph,
    left_out: F,
    /// Of documents that are right with all below: how many levels there are.
    levels: HashMap<Digest, usize>,
    unsound: HashMap<Digest, Misfit>,
    /// The documents of images that are right, with the first such image.
    carried: HashMap<Digest, usize>,
}

/// What an image refers to for the first time.
#[derive(Default)]
struct Found {
    documents: HashSet<Digest>,
    /// Of what is no document or is left out.
    sizes: HashMap<Digest, u64>,
}

impl<F: Fn(Digest) -> bool> Check<'_, F> {
    /// Checks what descriptors say of the documents at and below one; returns its levels. Recursion ends at
    /// [`MAX_NESTING`].
    fn documents(&mut self, document: Digest, depth: usize) -> Result<usize, Misfit> {
        if let Some(levels) = self.levels.get(&document) {
            return if depth - 1 + levels <= MAX_NESTING { Ok(*levels) } else { Err(Misfit::TooDeep) };
        }
        if let Some(misfit) = self.unsound.get(&document) {
            return Err(misfit.clone());
        }
        if depth > MAX_NESTING {
            return Err(Misfit::TooDeep);
        }
        let levels = self.below(document, depth);
        match &levels {
            Ok(levels) => drop(self.levels.insert(document, *levels)),
            // Another image may reach it in fewer levels.
            Err(Misfit::TooDeep) => {}
            Err(misfit) => drop(self.unsound.insert(document, misfit.clone())),
        }
        levels
    }

    fn below(&mut self, document: Digest, depth: usize) -> Result<usize, Misfit> {
        let graph = self.graph;
        let node = graph.get(document).ok_or(Misfit::Missing(document))?;
        let mut levels = 1;
        for edge in graph.edges(node) {
            let Target::Document(said) = &edge.target else { continue };
            if (self.left_out)(edge.digest) {
                continue;
            }
            let child = graph.get(edge.digest).ok_or(Misfit::Missing(edge.digest))?;
            check_document(document, edge, said, child)?;
            levels = levels.max(1 + self.documents(edge.digest, depth + 1)?);
        }
        Ok(levels)
    }

    /// Notes that an image's documents are carried.
    fn carry(&mut self, document: Digest, image: usize) {
        let mut stack = vec![document];
        while let Some(digest) = stack.pop() {
            if self.carried.contains_key(&digest) {
                continue;
            }
            self.carried.insert(digest, image);
            for edge in self.graph.edges_of(digest) {
                if matches!(edge.target, Target::Document(_)) && !(self.left_out)(edge.digest) {
                    stack.push(edge.digest);
                }
            }
        }
    }

    /// Checks what the image says of everything else: against the images before it, and that it is no document.
    fn blobs(
        &self,
        document: Digest,
        image: usize,
        known: &HashMap<Digest, (u64, usize)>,
        checked: &HashSet<Digest>,
    ) -> Result<Found, Misfit> {
        let mut found = Found::default();
        let mut stack = vec![document];
        while let Some(digest) = stack.pop() {
            if checked.contains(&digest) || !found.documents.insert(digest) {
                continue;
            }
            for edge in self.graph.edges_of(digest) {
                match edge.target {
                    Target::Document(_) if !(self.left_out)(edge.digest) => {
                        stack.push(edge.digest);
                        continue;
                    }
                    Target::Document(_) => {}
                    Target::Blob(_) => {
                        if let Some(other) = self.carried.get(&edge.digest) {
                            return Err(Misfit::TwoRoles { digest: edge.digest, other: *other });
                        }
                    }
                }
                let own = found.sizes.get(&edge.digest).map(|size| (*size, image));
                match own.or_else(|| known.get(&edge.digest).copied()) {
                    None => drop(found.sizes.insert(edge.digest, edge.size)),
                    Some((size, _)) if size == edge.size => {}
                    Some((there, other)) => {
                        return Err(Misfit::TwoSizes { digest: edge.digest, here: edge.size, there, other });
                    }
                }
            }
        }
        Ok(found)
    }
}

/// Compares what `parent` says of a document with the document.
pub(crate) fn check_document(parent: Digest, edge: &Edge, said: &MediaType, child: &Node) -> Result<(), Misfit> {
    if edge.size != child.size {
        return Err(Misfit::Size { parent, child: edge.digest, said: edge.size, found: child.size });
    }
    if *said != child.media_type {
        let (said, found) = (said.clone(), child.media_type.clone());
        return Err(Misfit::Type { parent, child: edge.digest, said, found });
    }
    Ok(())
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misfit::Missing(digest) => write!(f, "manifest {digest} is missing"),
            Misfit::Size { child: digest, said: one, found: other, .. }
            | Misfit::TwoSizes { digest, here: one, there: other, .. } => {
                write!(f, "{digest} has two sizes: {one} bytes and {other} bytes")
            }
            Misfit::Type { parent, child, said, found } => {
                write!(f, "{child} is said to be {said} by {parent}, and is {found}")
            }
            Misfit::TwoRoles { digest, .. } => {
                write!(f, "{digest} is a manifest in one place and a blob in another")
            }
            Misfit::TooDeep => write!(f, "indexes are nested deeper than {MAX_NESTING}"),
        }
    }
}
