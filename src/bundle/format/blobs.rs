//! Blobs of a bundle directory, each opened from the root down without following a link.

use std::fs::File;

use super::head_reader;
use super::{ALGORITHM, BLOBS};
use crate::content::Chunks;
use crate::error::{Error, Result};
use crate::files::{Directory, Reading};
use crate::oci::Digest;

/// The bytes of a blob from `offset` on; the file must have exactly `size` bytes.
pub(crate) fn stream_blob(root: &Directory, digest: Digest, size: u64, offset: u64) -> Result<Chunks> {
    let reading =
        Reading { file: open_blob(root, digest, size)?, shown: shown_blob(root, digest).into(), offset, end: size };
    Ok(reading.stream())
}

/// Whether a blob's file has exactly these bytes: its digest is that of its content.
pub(crate) fn hash_blob(root: &Directory, digest: Digest, size: u64, go_on: impl Fn() -> bool) -> Result<bool> {
    let file = open_blob(root, digest, size)?;
    Reading { file, shown: shown_blob(root, digest).into(), offset: 0, end: size }.has(digest, go_on)
}

/// The error for a blob whose bytes are not what was sealed.
pub(crate) fn damaged_blob(root: &Directory, digest: Digest, what: &str) -> Error {
    head_reader::damaged(&shown_blob(root, digest), what)
}

/// Of a blob, below the bundle.
pub(crate) fn blob_path(digest: Digest) -> String {
    format!("{BLOBS}/{ALGORITHM}/{}", digest.hex())
}

pub(crate) fn blob_folder(root: &Directory) -> Result<Directory> {
    root.folder(BLOBS)?.folder(ALGORITHM)
}

pub(crate) fn open_blob(root: &Directory, digest: Digest, size: u64) -> Result<File> {
    let (file, found) = blob_folder(root)?.file(&digest.hex())?;
    if found != size {
        return Err(damaged_blob(root, digest, &format!("it has {found} of {size} bytes")));
    }
    Ok(file)
}

fn shown_blob(root: &Directory, digest: Digest) -> String {
    root.shown(blob_path(digest))
}
