//! How a run went, the same for every command that moves images.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::listing::Totals;
use super::output::human_size;
use super::progress::count;
use crate::content::Contents;
use crate::error::{Failure, Result};
use crate::transfer::Summary;

/// What is in place: everything, but for what failed.
pub(super) fn landed(contents: &Arc<Contents>, failures: &[Failure]) -> Result<Arc<Contents>> {
    if failures.is_empty() {
        return Ok(contents.clone());
    }
    let failed: HashSet<&str> = failures.iter().map(|failure| failure.image.as_str()).collect();
    contents.only(|image| !failed.contains(image.name.to_string().as_str())).map(Arc::new)
}

pub(super) struct RunSummary {
    pub(super) summary: Summary,
    /// Of what is in place.
    pub(super) totals: Totals,
    /// From the command's start.
    pub(super) seconds: f64,
}

impl RunSummary {
    /// The fields of the event `summary`; `moved` is the command's word for that.
    pub(super) fn json(&self, moved: &str, failures: usize) -> Value {
        let mut value = self.totals.json();
        value["failures"] = json!(failures);
        self.add_to(&mut value, moved);
        value
    }

    /// `{"sent": {"blobs": 2, "bytes": 123}, ...}`
    pub(super) fn add_to(&self, value: &mut Value, moved: &str) {
        let summary = self.summary;
        value[moved] = json!({"blobs": summary.moved, "bytes": summary.moved_bytes});
        value["alreadyThere"] = json!(summary.already);
        value["mounted"] = json!(summary.linked);
        value["seconds"] = json!((self.seconds * 1000.0).round() / 1000.0);
    }

    /// For people, in two lines that begin with `what`.
    pub(super) fn lines(&self, what: &str, moved: &str) -> String {
        let summary = self.summary;
        let mut parts =
            vec![format!("{} {moved} ({})", count(summary.moved as usize, "blob"), human_size(summary.moved_bytes))];
        if summary.already > 0 {
            parts.push(format!("{} there already", summary.already));
        }
        // Only a registry mounts: in a bundle each blob is there once in any case.
        if summary.linked > 0 && moved != "fetched" {
            parts.push(format!("{} mounted", summary.linked));
        }
        parts.push(format!("{} saved by sharing", human_size(self.totals.saved)));
        format!("{what}: {}, in {:.1} s\n  {}\n", self.totals.images(), self.seconds, parts.join(", "))
    }
}
