//! Bytes of an open file, as chunks.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use rustix::buffer::spare_capacity;
use rustix::fs::Advice;
use rustix::io::Errno;

use crate::content::Chunks;
use crate::error::{Error, Result};
use crate::oci::{Digest, Hasher};

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
        stream::unfold(Some(self), |state| async move {
            let mut reading = state?;
            if reading.offset >= reading.end {
                return None;
            }
            // Reading never waits, so without this one blob would keep its thread from every other.
            tokio::task::yield_now().await;
            match reading.next() {
                Ok(chunk) => Some((Ok(chunk), Some(reading))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    /// Whether what is left has this digest; nobody believes the answer once `go_on` says no.
    pub(crate) fn has(self, digest: Digest, go_on: impl Fn() -> bool) -> Result<bool> {
        Ok(self.hashed(go_on)?.finish() == digest)
    }

    /// What is left, taken in; less of it once `go_on` says no.
    pub(crate) fn hashed(mut self, go_on: impl Fn() -> bool) -> Result<Hasher> {
        let mut hasher = Hasher::default();
        while self.offset < self.end && go_on() {
            hasher.update(&self.next()?);
        }
        Ok(hasher)
    }
}

impl Reading {
    /// The next chunk; there must be one.
    fn next(&mut self) -> Result<Bytes> {
        let wanted = CHUNK.min(usize::try_from(self.end - self.offset).unwrap_or(CHUNK));
        let mut chunk: Vec<u8> = Vec::with_capacity(wanted);
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

/// How much is read at once. It fits the processor's cache: hashed as it comes, 64 to 256 KiB made 1.2 GB/s where 512 KiB
/// to 4 MiB made 0.9.
const CHUNK: usize = 256 << 10;

/// A file from some offset on, whatever others read in it.
pub(crate) struct ReadFrom {
    /// The file.
    pub(crate) file: Arc<File>,
    /// Where the next byte is.
    pub(crate) offset: u64,
}

impl Read for ReadFrom {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
