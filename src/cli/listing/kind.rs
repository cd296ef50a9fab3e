//! What a person would call a thing, by its tag or its type.

use crate::oci::{Digest, Document, Name, View};

/// By the tag that its makers give it (cosign's, and the list that distribution-spec calls the referrers tag).
pub(super) fn by_tag(name: &Name) -> Option<&'static str> {
    let rest = name.tag()?.as_str().strip_prefix("sha256-")?;
    let (hex, suffix) = rest.split_once('.').unwrap_or((rest, ""));
    Digest::from_hex(hex)?;
    BY_SUFFIX.iter().find(|(known, _)| *known == suffix).map(|(_, what)| *what)
}

/// By its artifact type, or that of its config.
pub(super) fn by_type(document: &Document) -> &'static str {
    let (config, plain) = match document.view() {
        View::Index { .. } => (None, "index"),
        View::Manifest { config, .. } => (Some(config.media_type.as_str()), "image"),
    };
    let declared = document.artifact_type();
    let known = declared.or(config).and_then(of_type);
    known.unwrap_or(if declared.is_some() && config.is_some() { ARTIFACT } else { plain })
}

/// What an artifact type means, as far as it is known.
pub(super) fn of_type(text: &str) -> Option<&'static str> {
    let text = text.to_ascii_lowercase();
    BY_TYPE.iter().find(|(part, _)| text.contains(part)).map(|(_, what)| *what)
}

/// The list of referrers that is kept under a tag.
pub(super) const LIST: &str = "referrers";
/// What has an artifact type and is nothing that is known.
pub(super) const ARTIFACT: &str = "artifact";

const BY_SUFFIX: [(&str, &str); 4] = [("", LIST), ("sig", "signature"), ("att", "attestation"), ("sbom", "SBOM")];

/// Parts of artifact types and config types, and what they mean.
const BY_TYPE: [(&str, &str); 10] = [
    ("spdx", "SBOM"),
    ("cyclonedx", "SBOM"),
    ("sbom", "SBOM"),
    ("in-toto", "attestation"),
    ("slsa", "attestation"),
    ("attestation", "attestation"),
    ("signature", "signature"),
    ("notary", "signature"),
    ("sigstore", "signature"),
    ("helm", "Helm chart"),
];
