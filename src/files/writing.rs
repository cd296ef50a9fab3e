//! Files and directories that are made.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::Directory;
use crate::error::{Error, Result};

/// A directory in `parent`, made unless it is there.
pub(crate) fn make_folder(parent: &Directory, name: &str) -> Result<Directory> {
    match rustix::fs::mkdirat(parent.fd(), name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(parent.failed("make the directory", name, e)),
    }
    parent.folder(name)
}

/// A new file for reading and writing; nothing may be there.
pub(crate) fn create(folder: &Directory, name: &str) -> Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder.fd(), name, flags, Mode::from_raw_mode(0o644))
        .map(File::from)
        .map_err(|e| folder.failed("create", name, e))
}

/// A new file with these bytes.
pub(crate) fn write_new(folder: &Directory, name: &str, bytes: &[u8]) -> Result<()> {
    create(folder, name)?.write_all(bytes).map_err(|e| Error::io(format!("cannot write {}", folder.shown(name)), e))
}

/// Removes a file, if it is there.
pub(crate) fn remove(folder: &Directory, name: impl AsRef<OsStr>) -> Result<()> {
    match rustix::fs::unlinkat(folder.fd(), name.as_ref(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(Error::io(format!("cannot remove {}", folder.shown(name)), e.into())),
    }
}

/// Whether an open directory or file is what `stat` was made of.
pub(crate) fn is_same(file: &File, stat: &Stat) -> bool {
    rustix::fs::fstat(file).is_ok_and(|own| (own.st_dev, own.st_ino) == (stat.st_dev, stat.st_ino))
}

/// Smaller pieces (128 KiB) are gathered before they are written. Of each blob there are two: one is written while the
/// next is gathered.
pub(crate) const BUFFER: usize = 128 << 10;
/// After so many bytes (64 MiB) writing to the medium is started.
pub(crate) const FLUSH: u64 = 64 << 20;
/// What is left at the end of a file or blob is worth it from so many bytes (1 MiB) on.
pub(crate) const WORTH_FLUSHING: u64 = 1 << 20;
