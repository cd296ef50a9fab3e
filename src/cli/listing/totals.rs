//! How much there is, of a plan or a bundle.

use serde_json::{Value, json};

use super::{ConfigPlatforms, Row, rows};
use crate::cli::output::human_size;
use crate::cli::progress::count;
use crate::content::Contents;
use crate::error::Result;

/// How much there is.
pub(crate) struct Totals {
    /// Everything that has a name.
    named: usize,
    /// Those that are about another one.
    referrers: usize,
    documents: usize,
    blobs: usize,
    bytes: u64,
    /// What it would be more if every image were stored by itself, in bytes.
    pub(crate) saved: u64,
}

impl Totals {
    pub(crate) fn of(contents: &Contents) -> Result<Self> {
        Ok(Totals::of_rows(contents, &rows(contents, &ConfigPlatforms::default())?))
    }

    pub(super) fn of_rows(contents: &Contents, rows: &[Row]) -> Self {
        let bytes = contents.blob_bytes();
        let alone: u64 = rows.iter().map(|row| row.size).sum();
        Totals {
            named: rows.len(),
            referrers: rows.iter().filter(|row| row.about.is_some()).count(),
            documents: contents.document_order.len(),
            blobs: contents.blobs.len(),
            bytes,
            saved: alone.saturating_sub(bytes),
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "images": self.named, "referrers": self.referrers, "documents": self.documents, "blobs": self.blobs,
            "bytes": self.bytes, "bytesSavedBySharing": self.saved,
        })
    }

    /// What is there for its own sake.
    pub(crate) fn asked(&self) -> usize {
        self.named - self.referrers
    }

    /// `3 images and 4 referrers`
    pub(crate) fn images(&self) -> String {
        let images = count(self.asked(), "image");
        if self.referrers == 0 { images } else { format!("{images} and {}", count(self.referrers, "referrer")) }
    }
}

impl std::fmt::Display for Totals {
    /// `3 images and 4 referrers, 10 manifests, 25 blobs, 1.2 GiB (1.8 GiB more without sharing)`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (manifests, blobs) = (count(self.documents, "manifest"), count(self.blobs, "blob"));
        write!(f, "{}, {manifests}, {blobs}, {}", self.images(), human_size(self.bytes))?;
        if self.saved == 0 { Ok(()) } else { write!(f, " ({} more without sharing)", human_size(self.saved)) }
    }
}
