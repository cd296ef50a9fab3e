//! Manifests and indexes: the exact bytes beside what was read from them.
//!
//! A document is parsed to know what it refers to and never written again: its bytes are its identity.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;

use super::{Digest, DocumentKind, MediaType, Platform, json};
use crate::error::{Error, Result};

/// The largest manifest or index that is read, in bytes; registries hold to the same 4 MiB.
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// A reference to content by digest (image-spec, descriptor.md); unknown fields are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: MediaType,
    /// Of its exact bytes.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// On the children of an index.
    #[serde(default)]
    pub platform: Option<Box<Platform>>,
    /// On the children of an index and in referrers.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// Free text by key.
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// What a document refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// Manifests, other indexes, and now and then a blob.
    Index {
        /// In the order of the document.
        children: Vec<Descriptor>,
    },
    /// A config and layers.
    Manifest {
        /// The config, of any media type.
        config: Descriptor,
        /// In the order of the document.
        layers: Vec<Descriptor>,
    },
}

/// A manifest or an index.
#[derive(Debug, Clone)]
pub struct Document {
    bytes: Bytes,
    digest: Digest,
    media_type: MediaType,
    view: View,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
}

impl Document {
    /// Reads `bytes`, said to be of the media type `declared` (by a descriptor, or by a registry's `Content-Type`
    /// header, which may say something general such as `application/json`).
    ///
    /// # Errors
    /// `Refused` for schema 1 and unknown document types; `Damaged` for everything that is not strict: more than
    /// [`MAX_DOCUMENT`] bytes, [`json`] faults, `manifests` beside `layers` or `config`, a media type inside that
    /// is not the declared one, digests that are not SHA-256.
    pub fn parse(bytes: Bytes, declared: &MediaType) -> Result<Self> {
        let digest = Digest::of(&bytes);
        Self::parse_known(bytes, declared, digest)
    }

    /// As [`Document::parse`], for bytes whose digest the caller has computed already.
    pub fn parse_known(bytes: Bytes, declared: &MediaType, digest: Digest) -> Result<Self> {
        let fault =
            |what: String| Error::damaged(format!("{digest} is not a manifest or index that can be carried: {what}"));
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(fault(format!("{} bytes are more than {MAX_DOCUMENT}", bytes.len())));
        }
        if declared.is_schema1() {
            return Err(schema1(digest));
        }
        let raw: Raw = json::from_slice(&bytes).map_err(|e| fault(e.to_string()))?;
        let other_type = raw.other_type(declared);
        match (raw.schema_version, &other_type) {
            (Some(2), _) => {}
            (Some(1), _) => return Err(schema1(digest)),
            (Some(other), _) => return Err(fault(format!("schemaVersion is {other}, not 2"))),
            // Other types need no schemaVersion, such as the artifact manifests of ORAS: the error names the type.
            (None, Some(other)) => return Err(not_carried(digest, other)),
            (None, None) => return Err(fault("missing field `schemaVersion`".into())),
        }
        let [config_lacks, layers_lacks] = [raw.config.lacks("config"), raw.layers.lacks("layers")];
        let view = match (raw.manifests, raw.config, raw.layers) {
            (Field::Is(children), Field::Missing | Field::Null, Field::Missing | Field::Null) => {
                View::Index { children }
            }
            (Field::Missing | Field::Null, Field::Is(config), Field::Is(layers)) => View::Manifest { config, layers },
            (Field::Is(_), ..) => return Err(fault("it has manifests beside config or layers".into())),
            (_, Field::Is(_), _) => {
                return Err(fault(format!("it has only one of config and layers: {layers_lacks}")));
            }
            (_, _, Field::Is(_)) => {
                return Err(fault(format!("it has only one of config and layers: {config_lacks}")));
            }
            (manifests, ..) => {
                let lacks = match (declared.document_kind(), other_type) {
                    (_, Some(other)) => return Err(not_carried(digest, &other)),
                    (Some(DocumentKind::Index), _) => manifests.lacks("manifests"),
                    (Some(DocumentKind::Manifest), _) => format!("{config_lacks}, {layers_lacks}"),
                    (None, None) => format!("{}, {config_lacks}, {layers_lacks}", manifests.lacks("manifests")),
                };
                return Err(Error::refused(format!("{digest} has neither manifests nor config and layers: {lacks}")));
            }
        };
        let kind = match view {
            View::Index { .. } => DocumentKind::Index,
            View::Manifest { .. } => DocumentKind::Manifest,
        };
        let media_type = match (raw.media_type, declared.document_kind()) {
            (Some(inner), Some(_)) if inner != *declared => {
                return Err(fault(format!("it says {inner} inside, and is said to be {declared}")));
            }
            (Some(inner), _) => inner,
            (None, Some(_)) => declared.clone(),
            (None, None) => MediaType::new(match kind {
                DocumentKind::Index => MediaType::OCI_INDEX,
                DocumentKind::Manifest => MediaType::OCI_MANIFEST,
            }),
        };
        match media_type.document_kind() {
            Some(found) if found == kind => {}
            Some(_) => return Err(fault(format!("its fields are not those of {media_type}"))),
            None => return Err(not_carried(digest, &media_type)),
        }
        Ok(Document { bytes, digest, media_type, view, subject: raw.subject, artifact_type: raw.artifact_type })
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Of the exact bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// What it is served as.
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// What it refers to.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// What it is about, if it is a referrer. The subject need not exist anywhere.
    pub fn subject(&self) -> Option<&Descriptor> {
        self.subject.as_ref()
    }

    /// What sort of artifact it is, if it says so.
    pub fn artifact_type(&self) -> Option<&str> {
        self.artifact_type.as_deref()
    }
}

fn schema1(digest: Digest) -> Error {
    Error::refused(format!("{digest} is a Docker schema 1 manifest, which cannot be carried with its digest unchanged"))
        .hint("push the image to its registry again with a current client, which writes schema 2 or OCI")
}

fn not_carried(digest: Digest, media_type: &MediaType) -> Error {
    Error::refused(format!("{digest} is of media type {media_type}, which is not carried")).hint(
        "OCI manifests and indexes and Docker schema 2 are carried: leave it out, or have it pushed as one of these",
    )
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    schema_version: Option<u32>,
    #[serde(default)]
    media_type: Option<MediaType>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    manifests: Field<Vec<Descriptor>>,
    #[serde(default)]
    config: Field<Descriptor>,
    #[serde(default)]
    layers: Field<Vec<Descriptor>>,
    #[serde(default)]
    subject: Option<Descriptor>,
}

impl Raw {
    /// The type that the document has by its own account or else by that of who serves it, if it is one that is not
    /// carried. `application/json` and its like are no types of documents.
    fn other_type(&self, declared: &MediaType) -> Option<MediaType> {
        let own = self.media_type.as_ref().unwrap_or(declared);
        let general = ["", "application/json", "application/octet-stream", "text/plain"].contains(&own.as_str());
        (declared.document_kind().is_none() && own.document_kind().is_none() && !general).then(|| own.clone())
    }
}

/// A field that may be missing or null, which messages tell apart.
#[derive(Default)]
enum Field<T> {
    #[default]
    Missing,
    Null,
    Is(T),
}

impl<T> Field<T> {
    /// Why there is no value, for a message.
    fn lacks(&self, name: &str) -> String {
        let what = if matches!(self, Field::Null) { "null" } else { "missing" };
        format!("{name} is {what}")
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Field::Null, Field::Is))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use rstest::rstest;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    const ORAS: &str = "application/vnd.cncf.oras.artifact.manifest.v1+json";

    fn parse(text: &str, declared: &str) -> Result<Document> {
        let config = format!("{{'mediaType':'c','digest':'{D}','size':0}}");
        let text = text.replace("@C", &config).replace("@O", ORAS).replace('\'', "\"").replace("@D", D);
        Document::parse(Bytes::from(text), &MediaType::new(declared))
    }

    #[test]
    fn bytes_are_kept_to_the_letter_and_the_view_is_read() {
        let text = "{'schemaVersion':2,\n  'config':{'mediaType':'c','digest':'@D','size':0,'x':[1]}, 'layers':[], 'unknown': {}}";
        let document = parse(text, "application/json").unwrap();
        assert_eq!(document.media_type().as_str(), MediaType::OCI_MANIFEST);
        assert_eq!(document.digest(), Digest::of(document.bytes()));
        assert!(document.bytes().ends_with(b"'unknown': {}}".map(|c| if c == b'\'' { b'"' } else { c }).as_slice()));
        let View::Manifest { config, layers } = document.view() else { panic!("not a manifest") };
        assert_eq!((config.size, layers.len()), (0, 0));
    }

    #[rstest]
    #[case("{'schemaVersion':1}", MediaType::OCI_MANIFEST, Kind::Refused, "schema 1")]
    #[case("{'schemaVersion':2}", MediaType::OCI_MANIFEST, Kind::Refused, "neither")]
    #[case("{'schemaVersion':2,'config':@C}", MediaType::OCI_MANIFEST, Kind::Damaged, "layers is missing")]
    #[case("{'schemaVersion':2,'config':@C,'layers':null}", MediaType::OCI_MANIFEST, Kind::Damaged, "layers is null")]
    #[case("{'schemaVersion':2,'layers':[]}", MediaType::OCI_MANIFEST, Kind::Damaged, "config is missing")]
    #[case("{'schemaVersion':2,'manifests':null}", MediaType::OCI_INDEX, Kind::Refused, "manifests is null")]
    #[case("{'artifactType':'x/y','blobs':[]}", ORAS, Kind::Refused, ORAS)]
    #[case("{'mediaType':'@O','blobs':[]}", "application/json", Kind::Refused, ORAS)]
    #[case("{'schemaVersion':2,'mediaType':'@O','blobs':[]}", "application/json", Kind::Refused, ORAS)]
    #[case("{'mediaType':'@O','blobs':[]}", MediaType::OCI_MANIFEST, Kind::Damaged, "missing field")]
    #[case("{}", "application/json", Kind::Damaged, "missing field")]
    #[case("{'schemaVersion':2,'manifests':[],'layers':[]}", MediaType::OCI_INDEX, Kind::Damaged, "beside")]
    #[case("{'schemaVersion':2,'layers':[]}", MediaType::OCI_MANIFEST, Kind::Damaged, "only one")]
    #[case("{'schemaVersion':2,'manifests':[]}", MediaType::OCI_MANIFEST, Kind::Damaged, "not those of")]
    #[case(
        "{'schemaVersion':2,'mediaType':'application/vnd.oci.image.index.v1+json','manifests':[]}",
        MediaType::DOCKER_LIST,
        Kind::Damaged,
        "inside"
    )]
    #[case(
        "{'schemaVersion':2,'manifests':[{'mediaType':'x','digest':'sha512:00','size':1}]}",
        MediaType::OCI_INDEX,
        Kind::Damaged,
        "sha512"
    )]
    #[case(
        "{'schemaVersion':2,'manifests':[{'mediaType':'x','digest':'@D','size':-1}]}",
        MediaType::OCI_INDEX,
        Kind::Damaged,
        "invalid value"
    )]
    #[case("not json", MediaType::OCI_INDEX, Kind::Damaged, "expected")]
    fn what_is_not_strict_is_refused_with_its_reason(
        #[case] text: &str,
        #[case] declared: &str,
        #[case] kind: Kind,
        #[case] reason: &str,
    ) {
        let error = parse(text, declared).expect_err(text);
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.chain().contains(reason), "{error:?}");
    }
}
