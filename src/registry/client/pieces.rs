//! The chunks of a blob, gathered into pieces of the size that a registry takes. A piece is kept until the registry has
//! accepted it: in memory up to [`PIECE`] bytes, in a temporary file beyond.
//!
//! [`Buffers`] bounds what all uploads of a run keep together. An upload takes its part after the first chunk of a piece
//! has come, and gives it back when the piece is accepted. It waits for no other upload meanwhile: what it needs then is
//! the rest of a stream that has begun, and the registry.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::exchange;
use super::upload_rules::PIECE;
use crate::content::Chunks;
use crate::error::{Error, Result};
use crate::files::Reading;
use crate::registry::http::buffers::{Buffers, UNIT};

/// A piece of a blob, which can be sent more than once.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    Memory(Bytes),
    Spooled { file: Arc<File>, start: u64, len: usize },
}

impl Piece {
    pub(crate) fn len(&self) -> usize {
        match self {
            Piece::Memory(bytes) => bytes.len(),
            Piece::Spooled { len, .. } => *len,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The piece without its first `accepted` bytes.
    pub(crate) fn after(self, accepted: usize) -> Piece {
        match self {
            Piece::Memory(bytes) => Piece::Memory(bytes.slice(accepted..)),
            Piece::Spooled { file, start, len } => {
                Piece::Spooled { file, start: start + accepted as u64, len: len - accepted }
            }
        }
    }

    /// Its bytes.
    pub(crate) fn chunks(&self) -> Chunks {
        match self {
            Piece::Memory(bytes) => exchange::sliced(bytes.clone()),
            Piece::Spooled { file, start, len } => match file.try_clone() {
                Ok(file) => {
                    let end = start + *len as u64;
                    Reading { file, shown: "the temporary file of pieces".into(), offset: *start, end }.stream()
                }
                Err(e) => stream::iter([Err(Error::temporary_file(OF_PIECES, e))]).boxed(),
            },
        }
    }
}

/// Chunks, gathered into pieces.
pub(crate) struct Pieces {
    chunks: Chunks,
    /// What comes next, before `later` and `chunks`.
    rest: Bytes,
    /// What was put back, the last first.
    later: Vec<Bytes>,
    spool: Option<Spool>,
    /// Bytes that are still to come, by the descriptor.
    left: u64,
    /// The size of a piece.
    step: usize,
    /// The smallest size of a piece that is not the last.
    floor: usize,
    buffers: Arc<Buffers>,
    /// The part of `buffers` that is taken.
    held: Option<OwnedSemaphorePermit>,
}

/// A temporary file. The bytes from `start` to `end` were put back.
struct Spool {
    file: Arc<File>,
    start: u64,
    end: u64,
}

impl Pieces {
    /// Pieces of `step` bytes of a blob of `size` bytes.
    pub(crate) fn new(chunks: Chunks, size: u64, step: usize, buffers: Arc<Buffers>) -> Self {
        Pieces {
            chunks,
            rest: Bytes::new(),
            later: Vec::new(),
            spool: None,
            left: size,
            step,
            floor: SMALLEST,
            buffers,
            held: None,
        }
    }

    /// The same where no piece but the last may have fewer than `least` bytes.
    pub(crate) fn at_least(self, least: usize) -> Self {
        Pieces { floor: least.max(SMALLEST), ..self }
    }

    /// The next piece, of the full size except for the last; empty at the end.
    pub(crate) async fn next(&mut self) -> Result<Piece> {
        let wanted = match self.left {
            0 => self.step,
            left => usize::try_from(left).unwrap_or(usize::MAX).min(self.step),
        };
        let is_spooled = self.spool.as_ref().is_some_and(|spool| spool.start < spool.end);
        if !is_spooled {
            if !self.pull().await? {
                return Ok(Piece::Memory(Bytes::new()));
            }
            // What is in memory already is cut without a copy.
            if self.rest.len() >= wanted {
                self.left = self.left.saturating_sub(wanted as u64);
                return Ok(Piece::Memory(self.rest.split_to(wanted)));
            }
        }
        let piece = match is_spooled || wanted > PIECE {
            true => self.spool(wanted).await?,
            false => Piece::Memory(self.gather(wanted).await?),
        };
        self.left = self.left.saturating_sub(piece.len() as u64);
        Ok(piece)
    }

    /// Takes back what was not accepted of the last piece.
    pub(crate) fn put_back(&mut self, piece: Piece) {
        self.left += piece.len() as u64;
        match (piece, &mut self.spool) {
            (Piece::Spooled { start, .. }, Some(spool)) => spool.start = start,
            (Piece::Memory(bytes), _) => self.later.push(std::mem::replace(&mut self.rest, bytes)),
            (Piece::Spooled { .. }, None) => unreachable!("a spooled piece is of this file"),
        }
    }

    /// Gives its part of the buffers back if nothing is in it any more: the last piece was accepted.
    pub(crate) fn accepted(&mut self) {
        let is_spooled = self.spool.as_ref().is_some_and(|spool| spool.start < spool.end);
        if !is_spooled && self.later.is_empty() && self.rest.len() < SMALLEST {
            self.held = None;
        }
    }

    /// Whether a piece of `len` bytes is to wait for more bytes.
    pub(crate) fn is_too_small(&self, len: usize) -> bool {
        len < self.floor && self.left > 0
    }

    /// Makes pieces smaller than `len`, which was too large for one, and returns their size; nothing if they are as small
    /// as they may be.
    pub(crate) fn shrink(&mut self, len: usize) -> Option<usize> {
        let now = self.step.min(len);
        if now <= self.floor {
            return None;
        }
        self.step = (now / 4).max(self.floor);
        Some(self.step)
    }

    /// Sees to it that `rest` has bytes; `false` at the end.
    async fn pull(&mut self) -> Result<bool> {
        while self.rest.is_empty() {
            self.rest = match self.later.pop() {
                Some(bytes) => bytes,
                None => match self.chunks.next().await {
                    Some(chunk) => chunk?,
                    None => return Ok(false),
                },
            };
        }
        Ok(true)
    }

    async fn gather(&mut self, wanted: usize) -> Result<Bytes> {
        self.hold(self.buffers.memory.clone(), wanted).await;
        let mut piece = BytesMut::with_capacity(wanted);
        while piece.len() < wanted && self.pull().await? {
            let take = self.rest.len().min(wanted - piece.len());
            piece.extend_from_slice(&self.rest.split_to(take));
        }
        Ok(piece.freeze())
    }

    async fn spool(&mut self, wanted: usize) -> Result<Piece> {
        self.hold(self.buffers.spooled.clone(), self.step).await;
        let mut spool = match self.spool.take() {
            Some(spool) if spool.start < spool.end => spool,
            Some(spool) => Spool { start: 0, end: 0, ..spool },
            None => {
                // Unlinked at once: nobody else can open it and nothing is left behind.
                let file = tempfile::tempfile().map_err(|e| Error::temporary_file(OF_PIECES, e))?;
                Spool { file: Arc::new(file), start: 0, end: 0 }
            }
        };
        while spool.end - spool.start < wanted as u64 && self.pull().await? {
            let missing = wanted - (spool.end - spool.start) as usize;
            let bytes = self.rest.split_to(self.rest.len().min(missing));
            spool.file.write_all_at(&bytes, spool.end).map_err(|e| Error::temporary_file(OF_PIECES, e))?;
            spool.end += bytes.len() as u64;
        }
        let (file, start) = (spool.file.clone(), spool.start);
        let piece = Piece::Spooled { file, start, len: (spool.end - start) as usize };
        self.spool = Some(Spool { start: spool.end, ..spool });
        Ok(piece)
    }

    /// Waits for room for `size` bytes, unless some is held already.
    async fn hold(&mut self, room: Arc<Semaphore>, size: usize) {
        if self.held.is_none() {
            // At most MAX_PIECE bytes, or PIECE in memory: one upload always has room.
            let units = size.div_ceil(UNIT) as u32;
            self.held = Some(room.acquire_many_owned(units).await.expect("never closed"));
        }
    }
}

const OF_PIECES: &str = "pieces";
/// The smallest piece that is tried, 64 KiB.
const SMALLEST: usize = 64 << 10;
