//! What is in a plan or a bundle, as a table for people and as JSON for programs.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::{Value, json};

use super::output::human_size;
use super::progress::count;
use crate::error::Result;
use crate::oci::{Digest, Document, View};
use crate::place::{BlobId, Contents, LandingId};

/// One line an image, then totals.
pub(super) fn table(contents: &Contents) -> Result<String> {
    let rows = rows(contents)?;
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(4);
    let mut text = format!("{:width$}  {:>10}  {:12}  PLATFORMS\n", "NAME", "SIZE", "DIGEST");
    for row in &rows {
        let name = &row.name;
        let platforms = if row.platforms.is_empty() { "-".into() } else { row.platforms.join(",") };
        text += &format!("{name:width$}  {:>10}  {:12}  {platforms}\n", human_size(row.size), short(&row.digest));
        if !row.source.is_empty() {
            text += &format!("  from {}\n", row.source);
        }
    }
    text += &totals(contents);
    Ok(text)
}

/// `{"images": [...], "totals": {...}}`
pub(super) fn json(contents: &Contents) -> Result<Value> {
    let images: Vec<Value> = rows(contents)?
        .into_iter()
        .map(|row| {
            json!({
                "name": row.name, "source": row.source, "digest": row.digest, "mediaType": row.media_type,
                "artifactType": row.artifact_type, "subject": row.subject, "size": row.size, "platforms": row.platforms,
            })
        })
        .collect();
    let absent = serde_json::to_value(&contents.absent).unwrap_or_default();
    Ok(json!({
        "images": images,
        "absent": absent,
        "totals": {
            "images": contents.images.len(),
            "documents": contents.document_order.len(),
            "blobs": contents.blobs.len(),
            "bytes": contents.blob_bytes(),
        },
    }))
}

/// `3 images, 10 manifests and indexes, 25 blobs, 1.2 GiB`
pub(super) fn totals(contents: &Contents) -> String {
    format!(
        "{}, {}, {}, {}\n",
        count(contents.images.len(), "image"),
        count(contents.document_order.len(), "manifest"),
        count(contents.blobs.len(), "blob"),
        human_size(contents.blob_bytes())
    )
}

struct Row {
    name: String,
    source: String,
    digest: String,
    media_type: String,
    artifact_type: Option<String>,
    subject: Option<String>,
    /// Of its blobs, each once, in bytes; those that it shares with other images count in full.
    size: u64,
    platforms: Vec<String>,
}

/// What a document says of itself, its texts cut to what is shown.
struct Told {
    media_type: String,
    artifact_type: Option<String>,
    subject: Option<String>,
    platforms: Vec<String>,
}

fn rows(contents: &Contents) -> Result<Vec<Row>> {
    // Many names may stand for one large document: it is read once.
    let mut told = HashMap::new();
    let mut rows = Vec::with_capacity(contents.images.len());
    for id in contents.landing_ids() {
        let Some(image) = contents.landing(id).image else { continue };
        let image = &contents.images[image as usize];
        let told = match told.entry(image.document) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(tell(contents, image.document)?),
        };
        rows.push(Row {
            name: image.name.to_string(),
            source: image.source.clone(),
            digest: image.document.to_string(),
            media_type: told.media_type.clone(),
            artifact_type: told.artifact_type.clone(),
            subject: told.subject.clone(),
            size: blobs_below(contents, id).into_iter().map(|blob| contents.blob(blob).size).sum(),
            platforms: told.platforms.clone(),
        });
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rows)
}

fn tell(contents: &Contents, digest: Digest) -> Result<Told> {
    let (bytes, media_type) = contents.documents.get(digest)?;
    let document = Document::parse_known(bytes, media_type, digest)?;
    let platforms = match document.view() {
        View::Index { children } => children
            .iter()
            .filter_map(|child| child.platform.as_ref())
            .map(|platform| cut(&platform.to_string()))
            .collect(),
        View::Manifest { .. } => Vec::new(),
    };
    Ok(Told {
        media_type: media_type.to_string(),
        artifact_type: document.artifact_type().map(cut),
        subject: document.subject().map(|subject| subject.digest.to_string()),
        platforms,
    })
}

/// The blobs of a landing and of everything below it. Each landing is visited once: one that is reached in very many
/// ways would otherwise be visited in all of them.
fn blobs_below(contents: &Contents, top: LandingId) -> BTreeSet<BlobId> {
    let (mut blobs, mut seen, mut stack) = (BTreeSet::new(), HashSet::from([top]), vec![top]);
    while let Some(id) = stack.pop() {
        let landing = contents.landing(id);
        blobs.extend(&landing.blobs);
        stack.extend(landing.after.iter().filter(|below| seen.insert(**below)));
    }
    blobs
}

/// A text of a document, which may be as long as the document, at a length that can be shown.
fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Longer than any media type (RFC 6838: 255).
const SHOWN_CHARS: usize = 256;

fn short(digest: &str) -> &str {
    digest.get("sha256:".len().."sha256:".len() + 12).unwrap_or(digest)
}
