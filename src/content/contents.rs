//! What is moved: documents, blobs and landings, each once, in the one order that follows from the images.

use std::sync::Arc;

use super::documents::Documents;
use crate::error::Result;
use crate::oci::{Digest, Host, Name, Reference, Repository, Tag};

/// Indexes into [`Contents::blobs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(pub u32);

/// Indexes into [`Contents::landings`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManifestId(pub u32);

/// Indexes into [`Contents::scopes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryId(pub u32);

/// Indexes into [`Contents::origins`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceRepositoryId(pub u32);

/// Everything to move, once each. Made by a [`Builder`](crate::content::Builder) only, so that it is always whole and in order.
#[derive(Debug, Default)]
pub struct Contents {
    /// What was asked for, sorted by name.
    pub images: Vec<NamedImage>,
    /// The repositories in which something lands.
    pub scopes: Vec<Repository>,
    /// The repositories from which something can be fetched; empty when the source is not a registry.
    pub origins: Vec<SourceRepository>,
    /// The bytes of every manifest and index.
    pub documents: Arc<Documents>,
    /// Their order: of first appearance, an index before its children.
    pub document_order: Vec<Digest>,
    /// Configs, then layers, each in order of first appearance.
    pub blobs: Vec<Blob>,
    /// What is put in place, everything after what it needs.
    pub landings: Vec<PlannedManifest>,
    /// What is referred to and not carried, on purpose.
    pub absent: Vec<Absent>,
}

/// An image or referrer that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedImage {
    /// Where it lands.
    pub name: Name,
    /// Its reference where it came from.
    pub source: String,
    /// Its manifest or index.
    pub document: Digest,
}

/// A repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceRepository {
    /// The registry.
    pub host: Host,
    /// The repository.
    pub repository: Repository,
}

impl SourceRepository {
    /// The repository of a reference.
    pub fn of(reference: &Reference) -> Self {
        SourceRepository { host: reference.host.clone(), repository: reference.repository.clone() }
    }
}

/// Config or layer; they are ordered apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlobKind {
    /// A config of at most 4 MiB: verified before anything is written.
    Config,
    /// Everything else: verified as it streams.
    Layer,
}

/// Bytes that are opaque here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Of all its bytes.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Config or layer.
    pub kind: BlobKind,
    /// In which scopes it must be; at least one.
    pub wanted: Vec<RepositoryId>,
    /// Who holds it; empty when the source is not a registry.
    pub origins: Vec<SourceRepositoryId>,
}

/// A document to put in place in one scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedManifest {
    /// The document.
    pub document: Digest,
    /// Where.
    pub scope: RepositoryId,
    /// Under which tag; nothing for by digest only.
    pub tag: Option<Tag>,
    /// Index into [`Contents::images`] of the image that this completes; nothing for the children of an index.
    pub image: Option<u32>,
    /// The blobs that must be in the scope first.
    pub blobs: Vec<BlobId>,
    /// The documents that must be in the scope first.
    pub after: Vec<ManifestId>,
}

/// Something that is referred to and not carried.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absent {
    /// Its digest.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Why it is not carried.
    pub reason: Reason,
    /// The names of the images that refer to it.
    pub names: Vec<String>,
}

/// Why content is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum Reason {
    /// A platform that was not asked for.
    Platform,
    /// A layer that its registry does not hold (media types with `foreign` or `nondistributable`).
    Foreign,
    /// In an earlier bundle of the series.
    Base,
}

// By way of a text: a derived reader would take {"base":null} as well.
impl TryFrom<String> for Reason {
    type Error = String;

    fn try_from(text: String) -> Result<Reason, String> {
        let known = [Reason::Platform, Reason::Foreign, Reason::Base];
        known.into_iter().find(|reason| reason.to_string() == text).ok_or_else(|| {
            let start: String = text.chars().take(40).collect();
            format!("{start:?} is no reason: known are platform, foreign and base")
        })
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Reason::Platform => "platform",
            Reason::Foreign => "foreign",
            Reason::Base => "base",
        })
    }
}

/// How deep indexes may be nested in indexes.
pub const MAX_NESTING: usize = 8;
/// How many references (child, config, layer, each in each scope) all images together may have.
pub const MAX_EDGES: usize = 250_000;

impl Contents {
    /// A blob by its id.
    pub fn blob(&self, id: BlobId) -> &Blob {
        &self.blobs[id.0 as usize]
    }

    /// A landing by its id.
    pub fn manifest(&self, id: ManifestId) -> &PlannedManifest {
        &self.landings[id.0 as usize]
    }

    /// A scope by its id.
    pub fn scope(&self, id: RepositoryId) -> &Repository {
        &self.scopes[id.0 as usize]
    }

    /// An origin by its id.
    pub fn origin(&self, id: SourceRepositoryId) -> &SourceRepository {
        &self.origins[id.0 as usize]
    }

    /// Every blob's id in order.
    pub fn blob_ids(&self) -> impl DoubleEndedIterator<Item = BlobId> + use<> {
        (0..self.blobs.len() as u32).map(BlobId)
    }

    /// Every landing's id in order.
    pub fn manifest_ids(&self) -> impl DoubleEndedIterator<Item = ManifestId> + use<> {
        (0..self.landings.len() as u32).map(ManifestId)
    }

    /// The sizes of all blobs together, in bytes.
    pub fn blob_bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size).sum()
    }
}
