//! `--format`: sealift converts nothing, so all that a format can do is refuse what is of another one.

use std::collections::BTreeSet;
use std::fmt;

use crate::content::{Contents, ManifestId};
use crate::error::{Error, Result};
use crate::oci::MediaType;

/// A format of manifests and indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OCI image-spec.
    Oci,
    /// Docker, version 2, schema 2.
    DockerSchema2,
}

impl Format {
    fn has(self, media_type: &MediaType) -> bool {
        let types = match self {
            Format::Oci => [MediaType::OCI_INDEX, MediaType::OCI_MANIFEST],
            Format::DockerSchema2 => [MediaType::DOCKER_LIST, MediaType::DOCKER_MANIFEST],
        };
        types.contains(&media_type.as_str())
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Oci => "OCI",
            Format::DockerSchema2 => "Docker schema 2",
        })
    }
}

/// Refuses contents that would have to be converted.
///
/// # Errors
/// `Usage`, naming every image.
pub(crate) fn check(contents: &Contents, format: Option<Format>) -> Result<()> {
    let Some(format) = format else { return Ok(()) };
    let mut others: BTreeSet<ManifestId> = BTreeSet::new();
    let mut named = Vec::new();
    // A landing comes after everything that it needs.
    for id in contents.manifest_ids() {
        let landing = contents.manifest(id);
        let (_, media_type) = contents.documents.get(landing.document)?;
        if format.has(media_type) && !landing.after.iter().any(|below| others.contains(below)) {
            continue;
        }
        others.insert(id);
        if let Some(image) = landing.image {
            named.push(format!("\n  {} is {media_type}", contents.images[image as usize].source));
        }
    }
    if named.is_empty() {
        return Ok(());
    }
    named.sort();
    Err(Error::usage(format!("--format asks for {format}, and manifests are carried unchanged:{}", named.concat()))
        .hint("leave --format out, or convert the images first (skopeo copy --format): they get other digests then"))
}
