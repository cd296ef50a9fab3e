//! What happens during a run, as events. Drawing them is the business of `cli`.

use std::time::Duration;

use crate::oci::{Digest, Name};

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// What will be moved is known: so many blobs of so many bytes in all, and so many images.
    Planned {
        /// Named images and referrers.
        images: usize,
        /// Blobs, each once.
        blobs: usize,
        /// Their sizes together.
        bytes: u64,
    },
    /// A blob begins to move.
    BlobStarted {
        /// Which.
        digest: Digest,
        /// In bytes.
        size: u64,
    },
    /// So many more bytes of a blob went by.
    BlobBytes {
        /// Which.
        digest: Digest,
        /// Since the last event.
        bytes: u64,
    },
    /// A blob starts over: the bytes counted so far for it do not count.
    BlobRewound {
        /// Which.
        digest: Digest,
        /// The bytes that are taken back.
        bytes: u64,
    },
    /// A blob is verified and at its destination.
    BlobDone {
        /// Which.
        digest: Digest,
        /// How it came there.
        how: TransferKind,
        /// In bytes.
        size: u64,
    },
    /// A blob cannot be read, or one repository does not accept it, and the run goes on. Another repository may still
    /// accept it.
    BlobFailed {
        /// Which.
        digest: Digest,
    },
    /// A named image or referrer is in place.
    Landed {
        /// Where.
        name: &'a Name,
        /// What.
        digest: Digest,
    },
    /// Everything landed, and is read back: so many blobs, each once for each repository, of so many bytes in all.
    ReadBack {
        /// Each once for each repository.
        blobs: u64,
        /// Their sizes together.
        bytes: u64,
    },
    /// A request failed and is tried again after a pause.
    Retrying {
        /// What failed, for a person; without secrets.
        what: &'a str,
        /// How long the pause is.
        after: Duration,
    },
    /// Something that a person should know, and that stops nothing.
    Warning(&'a str),
}

/// How a blob came to be at its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferKind {
    /// Its bytes were moved.
    Moved,
    /// It was there already, verified by whoever holds it.
    AlreadyThere,
}

/// Takes events. Called from many tasks; must not block for long.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);
}

/// Takes no notice.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event<'_>) {}
}
