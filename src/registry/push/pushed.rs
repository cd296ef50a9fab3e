//! What this run has sent, so that nothing need be asked about what stands on it.
//!
//! A manifest is pushed after everything that it needs. So if a part of it was sent in this run, no earlier one can have
//! pushed it there, and only where all of it was found does it pay to ask for the manifest, too.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::content::{Contents, PlannedManifest};
use crate::oci::{Digest, Repository};

/// Blobs and documents, by the repository that they were sent to. (Ids change when images are left out.)
#[derive(Default)]
pub(crate) struct PushedContent(Mutex<HashSet<(Repository, Digest)>>);

impl PushedContent {
    /// Notes what was sent, and was not there.
    pub(crate) fn note(&self, repository: &Repository, digest: Digest) {
        self.known().insert((repository.clone(), digest));
    }

    /// Whether it was sent.
    pub(crate) fn has(&self, repository: &Repository, digest: Digest) -> bool {
        self.known().contains(&(repository.clone(), digest))
    }

    /// Whether a part of it is news in its repository.
    pub(crate) fn is_below(&self, contents: &Contents, landing: &PlannedManifest, repository: &Repository) -> bool {
        let known = self.known();
        let blobs = landing.blobs.iter().map(|id| contents.blob(*id).digest);
        let documents = landing.after.iter().map(|id| contents.manifest(*id).document);
        blobs.chain(documents).any(|digest| known.contains(&(repository.clone(), digest)))
    }

    fn known(&self) -> MutexGuard<'_, HashSet<(Repository, Digest)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
