//! What is in a plan or a bundle, as a table for people and as JSON for programs.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::output::human_size;
use super::progress::count;
use crate::error::Result;
use crate::oci::{Document, View};
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

fn rows(contents: &Contents) -> Result<Vec<Row>> {
    let mut rows = Vec::with_capacity(contents.images.len());
    for id in contents.landing_ids() {
        let Some(image) = contents.landing(id).image else { continue };
        let image = &contents.images[image as usize];
        let (bytes, media_type) = contents.documents.get(image.document)?;
        let document = Document::parse_known(bytes, media_type, image.document)?;
        let platforms = match document.view() {
            View::Index { children } => {
                children.iter().filter_map(|child| child.platform.as_ref()).map(ToString::to_string).collect()
            }
            View::Manifest { .. } => Vec::new(),
        };
        let blobs = blobs_below(contents, id);
        rows.push(Row {
            name: image.name.to_string(),
            source: image.source.clone(),
            digest: image.document.to_string(),
            media_type: media_type.to_string(),
            artifact_type: document.artifact_type().map(str::to_owned),
            subject: document.subject().map(|subject| subject.digest.to_string()),
            size: blobs.iter().map(|blob| contents.blob(*blob).size).sum(),
            platforms,
        });
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rows)
}

/// The blobs at and below a landing. Each landing is visited once: there can be very many ways down to it.
fn blobs_below(contents: &Contents, top: LandingId) -> BTreeSet<BlobId> {
    let (mut blobs, mut seen, mut stack) = (BTreeSet::new(), BTreeSet::from([top]), vec![top]);
    while let Some(id) = stack.pop() {
        let landing = contents.landing(id);
        blobs.extend(&landing.blobs);
        stack.extend(landing.after.iter().filter(|below| seen.insert(**below)));
    }
    blobs
}

fn short(digest: &str) -> &str {
    digest.get("sha256:".len().."sha256:".len() + 12).unwrap_or(digest)
}
