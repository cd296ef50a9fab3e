//! Blobs of a bundle as streams, each opened from the root down without following a link.

use std::fs::File;

use async_trait::async_trait;

use super::carrier;
use super::files::{Folder, Reading};
use super::reader::{Bundle, Form};
use super::{ALGORITHM, BLOBS};
use crate::error::{Error, Result};
use crate::oci::Digest;
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
