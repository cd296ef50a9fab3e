//! What a document is that a registry serves, where its `Content-Type` and its bytes do not agree.
//!
//! A `mediaType` inside the document is part of what its digest covers, so it holds. Docker's manifests and lists must have
//! one, and OCI's need not: image-spec before 1.1 had none. A registry that tells the two apart by that field alone, or
//! not at all, may serve a document as something else than it is, and a registry to which it is pushed as that refuses it.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Digest, Document, MediaType};
use crate::error::Result;

impl Document {
    /// Reads `bytes` that a registry serves as `content_type`; what the bytes prove is preferred to it.
    ///
    /// # Errors
    /// As [`Document::parse`].
    pub fn parse_served(bytes: Bytes, content_type: &MediaType, digest: Digest) -> Result<Document> {
        let proven = match content_type.document_kind() {
            Some(_) => Evidence::of(&bytes).and_then(|evidence| evidence.media_type(content_type)),
            None => None,
        };
        Self::parse_known(bytes, proven.as_ref().unwrap_or(content_type), digest)
    }
}

/// The fields that tell what a document is. Everything else about it is checked when it is parsed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Evidence {
    #[serde(default)]
    media_type: Option<MediaType>,
    #[serde(default)]
    config: Option<Typed>,
    #[serde(default)]
    manifests: Option<Vec<Typed>>,
    // OCI's alone.
    #[serde(default)]
    artifact_type: Option<IgnoredAny>,
    #[serde(default)]
    subject: Option<IgnoredAny>,
    #[serde(default)]
    annotations: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    media_type: MediaType,
}

impl Evidence {
    fn of(bytes: &[u8]) -> Option<Evidence> {
        // A list would be read as the fields in their order.
        bytes.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(bytes).ok()).flatten()
    }

    /// What the document is, if its bytes prove something else than what it is `served` as.
    fn media_type(self, served: &MediaType) -> Option<MediaType> {
        if let Some(stated) = self.media_type {
            // Anything else is refused by its name.
            return stated.document_kind().is_some().then_some(stated);
        }
        let oci = match served.as_str() {
            MediaType::DOCKER_MANIFEST => MediaType::OCI_MANIFEST,
            MediaType::DOCKER_LIST => MediaType::OCI_INDEX,
            // Docker's own types are never without the field.
            _ => return None,
        };
        let has_fields = self.artifact_type.is_some() || self.subject.is_some() || self.annotations.is_some();
        let has_config = self.config.is_some_and(|config| is_oci(&config.media_type));
        let has_children = self
            .manifests
            .is_some_and(|children| !children.is_empty() && children.iter().all(|child| is_oci(&child.media_type)));
        (has_fields || has_config || has_children).then(|| MediaType::new(oci))
    }
}

fn is_oci(media_type: &MediaType) -> bool {
    media_type.as_str().starts_with("application/vnd.oci.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use rstest::rstest;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

    fn served(text: &str, content_type: &str) -> Result<String> {
        let text = text.replace('\'', "\"").replace("@D", D);
        let bytes = Bytes::from(text);
        let digest = Digest::of(&bytes);
        let document = Document::parse_served(bytes, &MediaType::new(content_type), digest)?;
        Ok(document.media_type().to_string())
    }

    fn manifest(more: &str, config: &str) -> String {
        format!("{{'schemaVersion':2,{more}'config':{{'mediaType':'{config}','digest':'@D','size':0}},'layers':[]}}")
    }

    fn index(more: &str, child: &str) -> String {
        format!("{{'schemaVersion':2,{more}'manifests':[{{'mediaType':'{child}','digest':'@D','size':0}}]}}")
    }

    #[rstest]
    #[case::by_config(manifest("", OCI_CONFIG), MediaType::DOCKER_MANIFEST, MediaType::OCI_MANIFEST)]
    #[case::by_another_config(
        manifest("", "application/vnd.oci.empty.v1+json"),
        MediaType::DOCKER_MANIFEST,
        MediaType::OCI_MANIFEST
    )]
    #[case::by_a_field(manifest("'annotations':{},", "x/y"), MediaType::DOCKER_MANIFEST, MediaType::OCI_MANIFEST)]
    #[case::no_proof(manifest("", DOCKER_CONFIG), MediaType::DOCKER_MANIFEST, MediaType::DOCKER_MANIFEST)]
    #[case::not_docker(manifest("", DOCKER_CONFIG), MediaType::OCI_MANIFEST, MediaType::OCI_MANIFEST)]
    #[case::something_general(manifest("", OCI_CONFIG), "application/json", MediaType::OCI_MANIFEST)]
    #[case::by_children(index("", MediaType::OCI_MANIFEST), MediaType::DOCKER_LIST, MediaType::OCI_INDEX)]
    #[case::children_of_docker(index("", MediaType::DOCKER_MANIFEST), MediaType::DOCKER_LIST, MediaType::DOCKER_LIST)]
    fn without_a_media_type_inside_the_bytes_prove_what_they_are(
        #[case] text: String,
        #[case] content_type: &str,
        #[case] expected: &str,
    ) {
        assert_eq!(served(&text, content_type).unwrap(), expected);
    }

    #[rstest]
    #[case(MediaType::OCI_MANIFEST, MediaType::DOCKER_MANIFEST)]
    #[case(MediaType::DOCKER_MANIFEST, MediaType::OCI_MANIFEST)]
    #[case(MediaType::OCI_MANIFEST, MediaType::OCI_INDEX)]
    fn a_media_type_inside_holds(#[case] inside: &str, #[case] content_type: &str) {
        let text = manifest(&format!("'mediaType':'{inside}',"), OCI_CONFIG);
        assert_eq!(served(&text, content_type).unwrap(), inside);
    }

    #[test]
    fn what_is_not_strict_is_refused_all_the_same() {
        for text in [
            manifest("'mediaType':'application/vnd.oci.image.index.v1+json',", OCI_CONFIG),
            manifest("'manifests':[],", OCI_CONFIG),
            manifest("'annotations':{},'annotations':{},", OCI_CONFIG),
            "[2]".to_owned(),
        ] {
            let error = served(&text, MediaType::DOCKER_MANIFEST).expect_err(&text);
            assert_eq!(error.kind(), Kind::Damaged, "{error:?}");
        }
    }
}
