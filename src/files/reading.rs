//! Bytes of an open file, as chunks.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use rustix::buffer::spare_capacity;
use rustix::fs::Advice;
use rustix::io::Errno;

use super::{Answer, READERS};
use crate::error::{Error, Result};
use crate::oci::{Digest, Hasher};
use crate::place::Chunks;

/// Bytes of an open file.
pub(crate) struct Reading {
    pub(crate) file: File,
    /// For messages.
    pub(crate) shown: Arc<str>,
    /// The next byte.
    pub(crate) offset: u64,
    /// Where to stop.
    pub(crate) end: u64,
}

impl Reading {
    pub(crate) fn stream(self) -> Chunks {
        // Advice only: a medium that knows nothing of it still reads.
        let _ = rustix::fs::fadvise(
            &self.file,
            self.offset,
            std::num::NonZeroU64::new(self.end.saturating_sub(self.offset)),
            Advice::Sequential,
        );
        // While a piece is hashed the next one is read.
        stream::unfold(self.begin(), |pending| async move {
            let read = match pending? {
                Ok(answer) => answer.wait().await.and_then(|read| read),
                Err(error) => Err(error),
            };
            match read {
                Ok((chunk, reading)) => Some((Ok(chunk), reading.begin())),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    /// Begins to read the next piece on a thread that may wait for minutes; nothing at the end.
    fn begin(mut self) -> Option<Result<Pending>> {
        if self.offset >= self.end {
            return None;
        }
        let buffer = self.buffer();
        Some(READERS.start(move || self.next(buffer).map(|chunk| (chunk, self))))
    }

    /// Whether what is left has this digest; nobody believes the answer once `go_on` says no.
    pub(crate) fn has(self, digest: Digest, go_on: impl Fn() -> bool) -> Result<bool> {
        Ok(self.hashed(go_on)?.finish() == digest)
    }

    /// What is left, taken in; less of it once `go_on` says no.
    pub(crate) fn hashed(mut self, go_on: impl Fn() -> bool) -> Result<Hasher> {
        let mut hasher = Hasher::default();
        while self.offset < self.end && go_on() {
            let buffer = self.buffer();
            hasher.update(&self.next(buffer)?);
        }
        Ok(hasher)
    }
}

impl Reading {
    /// For the next chunk. It is made by the thread that will free it: the allocator gives memory back to the kernel, and
    /// fetches it again, when one thread allocates what another one frees.
    fn buffer(&self) -> Vec<u8> {
        Vec::with_capacity(self.wanted())
    }

    /// Bytes of the next chunk.
    fn wanted(&self) -> usize {
        CHUNK.min(usize::try_from(self.end - self.offset).unwrap_or(CHUNK))
    }

    /// The next chunk; there must be one.
    fn next(&mut self, mut chunk: Vec<u8>) -> Result<Bytes> {
        let wanted = self.wanted();
        loop {
            match rustix::io::pread(&self.file, spare_capacity(&mut chunk), self.offset) {
                Ok(0) => {
                    return Err(Error::damaged(format!("{} became shorter while it was read", self.shown))
                        .hint("something else writes to it: let that end, then try again"));
                }
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(e) => {
                    let what = format!("cannot read {} at byte {}", self.shown, self.offset);
                    return Err(Error::io(what, e.into())
                        .hint("the medium may be failing: copy everything to another one, or ask for it again"));
                }
            }
        }
        // An allocation may be larger than asked for.
        chunk.truncate(wanted);
        self.offset += chunk.len() as u64;
        Ok(Bytes::from(chunk))
    }
}

/// A piece that is being read, and what reads the next one.
type Pending = Answer<Result<(Bytes, Reading)>>;

/// How much is read at once. It fits the processor's cache: hashed as it comes, 64 to 256 KiB made 1.2 GB/s where 512 KiB
/// to 4 MiB made 0.9.
const CHUNK: usize = 256 << 10;
