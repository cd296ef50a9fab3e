//! How a registry accepts blobs, as far as this run has found out.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The rules of one registry. The first ones are those of the specification.
#[derive(Debug)]
pub(crate) struct UploadRules {
    /// Blobs of at least so many bytes are sent in pieces.
    pieces_from: AtomicU64,
    /// The largest piece, in bytes.
    piece: AtomicUsize,
    mounts: AtomicBool,
    own_mounts: AtomicBool,
}

/// From where a blob is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MountFrom {
    /// From another repository.
    Another,
    /// From the repository itself, which asks whether it has the blob.
    Itself,
}

impl UploadRules {
    /// Whether a blob of `size` bytes is sent in pieces.
    pub(crate) fn wants_pieces(&self, size: u64) -> bool {
        size >= self.pieces_from.load(Ordering::Relaxed)
    }

    /// Blobs of at least `size` bytes are sent in pieces from now on.
    pub(crate) fn send_pieces_from(&self, size: u64) {
        self.pieces_from.fetch_min(size, Ordering::Relaxed);
    }

    /// Blobs are sent by one PUT again.
    pub(crate) fn send_whole(&self) {
        self.pieces_from.store(u64::MAX, Ordering::Relaxed);
    }

    /// The largest piece, in bytes.
    pub(crate) fn piece(&self) -> usize {
        self.piece.load(Ordering::Relaxed)
    }

    /// Pieces of more than `size` bytes are refused.
    pub(crate) fn limit_piece(&self, size: usize) {
        self.piece.fetch_min(size, Ordering::Relaxed);
    }

    /// Whether blobs are mounted.
    pub(crate) fn mounts(&self, from: MountFrom) -> bool {
        self.mount_flag(from).load(Ordering::Relaxed)
    }

    /// No blob is mounted any more.
    pub(crate) fn stop_mounts(&self, from: MountFrom) {
        self.mount_flag(from).store(false, Ordering::Relaxed);
    }

    fn mount_flag(&self, from: MountFrom) -> &AtomicBool {
        match from {
            MountFrom::Another => &self.mounts,
            MountFrom::Itself => &self.own_mounts,
        }
    }
}

impl Default for UploadRules {
    fn default() -> Self {
        UploadRules {
            pieces_from: AtomicU64::new(u64::MAX),
            piece: AtomicUsize::new(PIECE),
            mounts: AtomicBool::new(true),
            own_mounts: AtomicBool::new(true),
        }
    }
}

/// The size of a piece, 8 MiB. A larger one, which a registry can ask for, goes through a temporary file.
pub(crate) const PIECE: usize = 8 << 20;
/// The largest piece that a registry can ask for, 64 MiB.
pub(crate) const MAX_PIECE: usize = 64 << 20;
