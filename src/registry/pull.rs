//! What is read from a registry: tags, manifests, referrers, blobs.

pub(crate) mod catalog;
pub(crate) mod documents;
pub(crate) mod download;
pub(crate) mod pages;
pub(crate) mod referrers;
pub(crate) mod resolve;
pub(crate) mod tags;
