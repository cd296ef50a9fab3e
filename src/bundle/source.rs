//! Blobs of a bundle as streams, each opened from the root down without following a link.

use std::fs::File;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use rustix::buffer::spare_capacity;
use rustix::fs::Advice;
use rustix::io::Errno;

use super::carrier;
use super::files::Folder;
use super::reader::{Bundle, Form};
use super::{ALGORITHM, BLOBS};
use crate::error::{Error, Result};
use crate::oci::{Digest, Hasher};
use crate::place::{BlobId, Chunks, Contents, Source};

#[async_trait]
impl Source for Bundle {
    async fn open(&self, contents: &Contents, blob: BlobId, offset: u64) -> Result<Chunks> {
        match &self.form {
            Form::Directory(root) => {
                let blob = contents.blob(blob);
                stream_blob(root, blob.digest, blob.size, offset)
            }
            Form::Archive(archive) => archive.stream(contents, blob, offset),
        }
    }

    fn mismatch(&self, contents: &Contents, blob: BlobId, what: &str) -> Error {
        let digest = contents.blob(blob).digest;
        match &self.form {
            Form::Directory(root) => damaged_blob(root, digest, what),
            Form::Archive(archive) => carrier::damaged(&archive.shown(&blob_path(digest)), what),
        }
    }
}

/// The bytes of a blob from `offset` on; the file must have exactly `size` bytes.
pub(super) fn stream_blob(root: &Folder, digest: Digest, size: u64, offset: u64) -> Result<Chunks> {
    let reading =
        Reading { file: open_blob(root, digest, size)?, shown: shown_blob(root, digest).into(), offset, end: size };
    Ok(reading.stream())
}

/// Bytes of an open file.
pub(super) struct Reading {
    pub(super) file: File,
    /// For messages.
    pub(super) shown: Arc<str>,
    /// The next byte.
    pub(super) offset: u64,
    /// Where to stop.
    pub(super) end: u64,
}

impl Reading {
    pub(super) fn stream(self) -> Chunks {
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
    pub(super) fn has(mut self, digest: Digest, go_on: impl Fn() -> bool) -> Result<bool> {
        let mut hasher = Hasher::default();
        while self.offset < self.end && go_on() {
            hasher.update(&self.next()?);
        }
        Ok(hasher.finish() == digest)
    }
}

/// Whether a blob's file has exactly these bytes: its digest is that of its content.
pub(super) fn hash_blob(root: &Folder, digest: Digest, size: u64, go_on: impl Fn() -> bool) -> Result<bool> {
    let file = open_blob(root, digest, size)?;
    Reading { file, shown: shown_blob(root, digest).into(), offset: 0, end: size }.has(digest, go_on)
}

/// The error for a blob whose bytes are not what was sealed.
pub(super) fn damaged_blob(root: &Folder, digest: Digest, what: &str) -> Error {
    carrier::damaged(&shown_blob(root, digest), what)
}

/// Of a blob, below the bundle.
pub(super) fn blob_path(digest: Digest) -> String {
    format!("{BLOBS}/{ALGORITHM}/{}", digest.hex())
}

pub(super) fn blob_folder(root: &Folder) -> Result<Folder> {
    root.folder(BLOBS)?.folder(ALGORITHM)
}

pub(super) fn open_blob(root: &Folder, digest: Digest, size: u64) -> Result<File> {
    let (file, found) = blob_folder(root)?.file(&digest.hex())?;
    if found != size {
        return Err(damaged_blob(root, digest, &format!("it has {found} of {size} bytes")));
    }
    Ok(file)
}

fn shown_blob(root: &Folder, digest: Digest) -> String {
    root.shown(blob_path(digest))
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
                        .hint("something else writes to the bundle: let it end, then try again"));
                }
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(e) => {
                    let what = format!("cannot read {} at byte {}", self.shown, self.offset);
                    return Err(Error::io(what, e.into())
                        .hint("the medium may be failing: copy the bundle to another one, or ask for it again"));
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
