//! skopeo's directory transport: every image in a directory of its own, as `skopeo sync --dest dir` writes them.
//!
//! ```text
//! TREE/
//!   registry.example.com/ns/app:1/     the image's name below the tree, whatever it is
//!     version                          "Directory Transport Version: 1.1\n"
//!     manifest.json                    its manifest; its index when all platforms are carried
//!     <hex>.manifest.json              the manifests below an index
//!     <hex>                            configs and layers
//!     signature-1, <hex>.signature-1   signatures of manifest.json and of the manifests below it
//! ```
//!
//! A [`Tree`] is read: it is searched for images, gives out their documents, and is a
//! [`Source`](crate::content::Source) of their blobs. A [`DirDestination`] writes one, new or again and again.
//!
//! Nothing in such a tree vouches for a `manifest.json`: its digest is known only by reading it. All that it refers to
//! is checked against it. Media types are not stored, so they are told from the JSON.
//!
//! This module must not know of registries, of bundles, or of how names are chosen.

mod destination;
mod image;
pub(crate) mod image_file;
mod link;
pub(crate) mod locked_directory;
mod pool;
mod scan;
mod signatures;
mod tree;

#[cfg(test)]
mod tests;

pub use destination::{DirDestination, Placement};
pub use scan::Image;
pub use signatures::ImageSignatures;
pub use tree::Tree;
