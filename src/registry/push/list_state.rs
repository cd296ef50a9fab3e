//! What a run knows about the lists of referrers that it writes.

use crate::oci::{Digest, Repository};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// What this run did about lists of referrers. A list is known by its repository and its subject.
pub(crate) struct Lists {
    pub(crate) state: Mutex<State>,
    /// Large lists are merged one at a time: each takes several times its size.
    pub(crate) large: Semaphore,
}

#[derive(Default)]
pub(crate) struct State {
    /// Lists that were written and not read since.
    pub(crate) written: BTreeMap<(Repository, Digest), Wanted>,
    /// Lists that have the bytes that were carried.
    pub(crate) as_carried: HashSet<(Repository, Digest)>,
    /// The longest time from reading a list until it was written.
    pub(crate) slowest: Duration,
}

impl State {
    pub(crate) fn note_written(&mut self, key: (Repository, Digest), wanted: Wanted) {
        let known = self.written.entry(key).or_default();
        known.list = known.list.or(wanted.list);
        known.referrers.extend(wanted.referrers);
    }
}

/// What a list must hold, by the digests of documents that are carried.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// A list with its entries.
    pub(crate) list: Option<Digest>,
    /// Manifests with the subject of the list.
    pub(crate) referrers: Vec<Digest>,
}

impl Default for Lists {
    fn default() -> Self {
        Lists { state: Mutex::default(), large: Semaphore::new(1) }
    }
}

impl Lists {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
