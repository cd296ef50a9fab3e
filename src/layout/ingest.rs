//! A file on its way into a layout: written and hashed under a temporary name, renamed when it is right.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{CWD, OFlags};
use tempfile::TempPath;

use crate::error::{Error, Result};
use crate::oci::{Digest, Hasher};

/// A blob that is being received. Dropping it removes what was written.
pub struct Ingest {
    path: TempPath,
    /// Open only while bytes arrive: a thousand waiting uploads must not hold a thousand descriptors.
    file: Option<File>,
    hasher: Hasher,
}

/// How the names of such files begin.
pub(super) const PREFIX: &str = ".upload-";

impl Ingest {
    pub(super) fn new(layout: &Path) -> Result<Self> {
        let file = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(layout)
            .map_err(|e| Error::io(format!("cannot create a file in {}", layout.display()), e))?;
        let (file, path) = file.into_parts();
        Ok(Ingest { path, file: Some(file), hasher: Hasher::default() })
    }

    /// Appends bytes. After a failure the ingest is of no further use.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let cannot = |e| Error::io("cannot write a blob into the layout", e);
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            options.append(true).custom_flags(OFlags::NOFOLLOW.bits() as i32);
            self.file = Some(options.open(&self.path).map_err(cannot)?);
        }
        let file = self.file.as_mut().expect("opened above");
        file.write_all(bytes).map_err(cannot)?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Bytes written so far.
    pub fn count(&self) -> u64 {
        self.hasher.count()
    }

    /// The digest of what was written so far.
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Closes the file until the next write.
    pub fn park(&mut self) {
        self.file = None;
    }

    pub(super) fn commit(self, blobs: &OwnedFd, expected: Digest) -> Result<u64> {
        let (count, found) = (self.count(), self.digest());
        if found != expected {
            return Err(Error::damaged(format!("the {count} bytes have the digest {found}, not {expected}"))
                .hint("send the blob again from its beginning"));
        }
        self.replace(blobs, &expected.hex())?;
        Ok(count)
    }

    /// Syncs and renames: after a crash either the old file is there or all of the new one.
    pub(super) fn replace(mut self, directory: &OwnedFd, name: &str) -> Result<()> {
        let cannot = |e: std::io::Error| Error::io(format!("cannot write {name} into the layout"), e);
        self.write(&[])?; // opens a parked file
        self.file.as_ref().expect("just opened").sync_data().map_err(cannot)?;
        rustix::fs::renameat(CWD, &*self.path, directory, name).map_err(|e| cannot(e.into()))?;
        // It has its place: nothing to remove any more.
        let _ = self.path.keep();
        rustix::fs::fsync(directory).map_err(|e| cannot(e.into()))
    }
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest").field("path", &self.path).field("count", &self.count()).finish_non_exhaustive()
    }
}
