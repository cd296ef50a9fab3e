//! What a person should know of a plan although nothing failed: what is left out of it, and what some registries refuse.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Platforms;
use crate::content::{Contents, Reason};
use crate::error::Result;
use crate::oci::{Descriptor, Digest, Document, View};

/// Returns a line for each thing to know of `contents`, which were planned with `platforms`.
///
/// # Errors
/// `Io` when a document cannot be read again.
pub fn notes(contents: &Contents, platforms: &Platforms) -> Result<Vec<String>> {
    let mut notes: Vec<String> = foreign_layers(contents).into_iter().collect();
    let mut found = Found::default();
    let mut names: HashMap<Digest, Vec<String>> = HashMap::new();
    for image in &contents.images {
        names.entry(image.document).or_default().push(image.name.to_string());
    }
    for digest in &contents.document_order {
        let (bytes, media_type) = contents.documents.get(*digest)?;
        let document = Document::parse_known(bytes, media_type, *digest)?;
        // What is below an index is shown by its digest.
        let shown = names.get(digest).cloned().unwrap_or_else(|| vec![digest.to_string()]);
        found.look(&document, &shown, platforms);
    }
    notes.extend(found.missing);
    let both = [
        (found.blobs, "an index that lists blobs beside manifests, as buildkit's caches are"),
        (found.numbers, "an annotation that is not a text"),
    ];
    for (images, what) in both {
        if !images.is_empty() {
            notes.push(format!("{}: some registries refuse {what}", some(&images)));
        }
    }
    Ok(notes)
}

/// One line for all foreign layers that are left out.
fn foreign_layers(contents: &Contents) -> Option<String> {
    let layers: Vec<_> = contents.absent.iter().filter(|absent| absent.reason == Reason::Foreign).collect();
    if layers.is_empty() {
        return None;
    }
    let of = |(digest, names): (Digest, &[String])| format!("{digest} of {}", some(names));
    let shown: Vec<String> = layers.iter().map(|layer| of((layer.digest, layer.names.as_slice()))).collect();
    let (count, what) = (layers.len(), if layers.len() == 1 { "foreign layer is" } else { "foreign layers are" });
    Some(format!("{count} {what} left out, because the source does not hold the bytes: {}", some(&shown)))
}

/// The line for attestations that stay behind with the indexes whose place a single platform takes.
pub(super) fn attestations(images: &BTreeMap<String, usize>) -> Option<String> {
    let count: usize = images.values().sum();
    if count == 0 {
        return None;
    }
    let images: Vec<String> = images.keys().cloned().collect();
    let (what, them) = if count == 1 { ("attestation", "it") } else { ("attestations", "them") };
    Some(format!(
        "a single --platform leaves {count} {what} behind, which only the index lists ({}); to keep {them}, add \
         --platform-as index",
        some(&images)
    ))
}

/// The line for images of which the variant with zstd layers takes the place of their index.
pub(crate) fn zstd(images: &[String]) -> Option<String> {
    if images.is_empty() {
        return None;
    }
    Some(format!(
        "the index has gzip and zstd variants of the platform, and the zstd one is copied, as podman and skopeo choose \
         ({}); --all copies both",
        some(images)
    ))
}

#[derive(Default)]
struct Found {
    missing: Vec<String>,
    /// The names of indexes that list blobs.
    blobs: Vec<String>,
    /// The names of documents with annotations that are no texts.
    numbers: Vec<String>,
}

impl Found {
    fn look(&mut self, document: &Document, names: &[String], platforms: &Platforms) {
        if let View::Index { children } = document.view() {
            for wish in platforms.missing(children) {
                self.missing.extend(names.iter().map(|name| format!("{name} is not there for {wish}")));
            }
            let is_blob = |child: &Descriptor| child.media_type.document_kind().is_none();
            if children.iter().any(is_blob) {
                self.blobs.extend(names.iter().cloned());
            }
        }
        if has_other_annotations(document) {
            self.numbers.extend(names.iter().cloned());
        }
    }
}

/// Whether a value of the document's own annotations is no text. Those of descriptors are texts, or the document would
/// not have been read.
fn has_other_annotations(document: &Document) -> bool {
    #[derive(Deserialize)]
    struct Annotated {
        #[serde(default)]
        annotations: Option<IgnoredAny>,
    }
    #[derive(Deserialize)]
    struct Texts {
        #[serde(default, rename = "annotations")]
        _annotations: Option<BTreeMap<String, String>>,
    }
    let bytes = document.bytes();
    // Most documents have none.
    serde_json::from_slice::<Annotated>(bytes).is_ok_and(|found| found.annotations.is_some())
        && serde_json::from_slice::<Texts>(bytes).is_err()
}

/// `a, b, c and 4 more`
fn some(items: &[String]) -> String {
    let shown = items.iter().take(MOST_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(MOST_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Names or digests in a line.
const MOST_SHOWN: usize = 5;
