//! Media types, and which of them are documents that refer to other content.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A media type as it stands in a descriptor or a `Content-Type` header, without parameters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(transparent)]
pub struct MediaType(String);

/// The two shapes of document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DocumentKind {
    /// Refers to manifests (and other indexes): OCI image index, Docker manifest list.
    Index,
    /// Refers to a config and layers: OCI image manifest, Docker schema 2.
    Manifest,
}

impl MediaType {
    /// OCI image index.
    pub const OCI_INDEX: &'static str = "application/vnd.oci.image.index.v1+json";
    /// OCI image manifest.
    pub const OCI_MANIFEST: &'static str = "application/vnd.oci.image.manifest.v1+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &'static str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image manifest, version 2, schema 2.
    pub const DOCKER_MANIFEST: &'static str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker image manifest, version 2, schema 1, signed or not: recognised in order to be refused by name.
    pub const DOCKER_SCHEMA1: [&'static str; 2] = [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    ];

    /// Every media type under which a document can be asked for, for an `Accept` header.
    pub const DOCUMENTS: [&'static str; 4] =
        [Self::OCI_INDEX, Self::DOCKER_LIST, Self::OCI_MANIFEST, Self::DOCKER_MANIFEST];

    /// From a descriptor's field or a header's value; parameters (`; charset=utf-8`) are dropped.
    pub fn new(text: &str) -> Self {
        MediaType(text.split(';').next().unwrap_or_default().trim().to_owned())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The document's shape, or nothing for a blob.
    pub fn document_kind(&self) -> Option<DocumentKind> {
        match self.0.as_str() {
            Self::OCI_INDEX | Self::DOCKER_LIST => Some(DocumentKind::Index),
            Self::OCI_MANIFEST | Self::DOCKER_MANIFEST => Some(DocumentKind::Manifest),
            _ => None,
        }
    }

    /// Whether it is a layer that registries need not hold (image-spec, layer.md, "Non-Distributable Layers").
    pub fn is_foreign(&self) -> bool {
        self.0.contains("foreign") || self.0.contains("nondistributable")
    }

    /// Whether it is Docker's schema 1, which cannot be carried (its digest covers a part of its bytes only).
    pub fn is_schema1(&self) -> bool {
        Self::DOCKER_SCHEMA1.contains(&self.0.as_str())
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
