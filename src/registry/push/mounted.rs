//! Blobs for whose mount a registry returned 201. If it does not find them for a manifest, they are uploaded.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::oci::{Digest, Repository};

/// The state of mounted and missing blobs, by a hash of repository and digest: a run may mount 250,000 blobs. A collision
/// costs one needless upload.
#[derive(Debug, Default)]
pub(crate) struct Mounted {
    hasher: RandomState,
    known: Mutex<HashMap<u64, State>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The registry returned 201 for a mount.
    Mounted,
    /// The registry refused a manifest for it.
    Missing,
    /// It was uploaded after that.
    SentAgain,
}

impl Mounted {
    /// Notes a mount.
    pub(crate) fn note(&self, repository: &Repository, digest: Digest) {
        self.known().entry(self.key(repository, digest)).or_insert(State::Mounted);
    }

    /// Notes that the registry does not find it. Returns whether to upload it: `true` until it was uploaded once.
    pub(crate) fn note_missing(&self, repository: &Repository, digest: Digest) -> bool {
        let mut known = self.known();
        let state = known.entry(self.key(repository, digest)).or_insert(State::Missing);
        if *state == State::Mounted {
            *state = State::Missing;
        }
        *state == State::Missing
    }

    /// Notes that it was uploaded.
    pub(crate) fn note_sent(&self, repository: &Repository, digest: Digest) {
        if let Some(state) = self.known().get_mut(&self.key(repository, digest)) {
            *state = State::SentAgain;
        }
    }

    /// Whether it was mounted and not uploaded.
    pub(crate) fn is_mounted(&self, repository: &Repository, digest: Digest) -> bool {
        self.state(repository, digest) == Some(State::Mounted)
    }

    /// Whether the registry refused a manifest for it, and it was not uploaded since.
    pub(crate) fn is_missing(&self, repository: &Repository, digest: Digest) -> bool {
        self.state(repository, digest) == Some(State::Missing)
    }

    fn state(&self, repository: &Repository, digest: Digest) -> Option<State> {
        self.known().get(&self.key(repository, digest)).copied()
    }

    fn key(&self, repository: &Repository, digest: Digest) -> u64 {
        self.hasher.hash_one((repository, digest))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u64, State>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_blob_is_sent_once() {
        let (mounted, repository, digest) = (Mounted::default(), "a/b".parse().unwrap(), Digest::of(b"x"));
        mounted.note(&repository, digest);
        assert!(mounted.is_mounted(&repository, digest) && !mounted.is_missing(&repository, digest));
        assert!(mounted.note_missing(&repository, digest) && mounted.is_missing(&repository, digest));
        mounted.note_sent(&repository, digest);
        assert!(!mounted.note_missing(&repository, digest) && !mounted.is_missing(&repository, digest));
        assert!(mounted.note_missing(&repository, Digest::of(b"never mounted")));
    }
}
