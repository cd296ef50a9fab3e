//! Entries of lists of tags that are no tags, and the warnings about them.

use crate::oci::{Host, Repository};
use crate::progress::{Event, Progress};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Entries of a list that are no tags.
#[derive(Debug, Default)]
pub(crate) struct Skipped {
    pub(crate) count: usize,
    /// The first ones, fit for a message.
    pub(crate) shown: Vec<String>,
}

impl Skipped {
    pub(crate) fn add(&mut self, shown: String) {
        self.count += 1;
        if self.shown.len() < SHOWN_ENTRIES {
            self.shown.push(shown);
        }
    }
}

/// The repositories about which a warning was given: one each, and for a few only.
#[derive(Debug, Default)]
pub(crate) struct Warned(Mutex<HashSet<(Host, Repository)>>);

impl Warned {
    /// Warns of `skipped` entries, once for each repository and for at most [`MAX_WARNED`] repositories.
    pub(crate) fn warn(&self, host: &Host, repository: &Repository, skipped: &Skipped, progress: &dyn Progress) {
        if skipped.count == 0 {
            return;
        }
        let known = {
            let mut warned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if warned.len() > MAX_WARNED || !warned.insert((host.clone(), repository.clone())) {
                return;
            }
            warned.len()
        };
        if known > MAX_WARNED {
            progress.event(Event::Warning("more repositories list entries that are not tags; these are skipped, too"));
            return;
        }
        let shown = skipped.shown.join(", ");
        let more = match skipped.count - skipped.shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        progress.event(Event::Warning(&format!(
            "{host}/{repository} lists entries that are not tags, which are skipped: {shown}{more}"
        )));
    }
}

/// How many entries a warning names.
pub(crate) const SHOWN_ENTRIES: usize = 5;
/// How many repositories are warned about, one warning each.
const MAX_WARNED: usize = 20;
