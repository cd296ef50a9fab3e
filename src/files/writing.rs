//! Files and directories that are made, and a file that is there only when all of it is.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;

use rustix::fs::{Advice, AtFlags, FallocateFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::Folder;
use crate::error::{Error, Kind, Result};

/// A directory in `parent`, made unless it is there.
pub(crate) fn make_folder(parent: &Folder, name: &str) -> Result<Folder> {
    match rustix::fs::mkdirat(parent.fd(), name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(parent.failed("make the directory", name, e)),
    }
    parent.folder(name)
}

/// A new file for writing; nothing may be there.
pub(crate) fn create(folder: &Folder, name: &str) -> Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder.fd(), name, flags, Mode::from_raw_mode(0o644))
        .map(File::from)
        .map_err(|e| folder.failed("create", name, e))
}

/// A new file with these bytes.
pub(crate) fn write_new(folder: &Folder, name: &str, bytes: &[u8]) -> Result<()> {
    create(folder, name)?.write_all(bytes).map_err(|e| Error::io(format!("cannot write {}", folder.shown(name)), e))
}

/// Removes a file, if it is there.
pub(crate) fn remove(folder: &Folder, name: impl AsRef<OsStr>) -> Result<()> {
    match rustix::fs::unlinkat(folder.fd(), name.as_ref(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(Error::io(format!("cannot remove {}", folder.shown(name)), e.into())),
    }
}

/// Whether an open directory or file is what `stat` was made of.
pub(crate) fn is_same(file: &File, stat: &Stat) -> bool {
    rustix::fs::fstat(file).is_ok_and(|own| (own.st_dev, own.st_ino) == (stat.st_dev, stat.st_ino))
}

/// A file while it is written; goes away again unless it is finished.
#[derive(Debug)]
pub(crate) struct PartFile<'a> {
    folder: &'a Folder,
    /// While it is written.
    name: String,
    file: Option<File>,
    buffer: Vec<u8>,
    size: u64,
    written: u64,
    flushed: u64,
}

impl<'a> PartFile<'a> {
    /// Makes the file `name`, with room for `size` bytes where the medium can promise it.
    pub(crate) fn create(folder: &'a Folder, name: String, size: u64) -> Result<PartFile<'a>> {
        let file = create(folder, &name)?;
        let part = PartFile { folder, name, file: Some(file), buffer: Vec::new(), size, written: 0, flushed: 0 };
        if size >= PREALLOCATE
            && let Some(file) = &part.file
            && let Err(e @ (Errno::NOSPC | Errno::FBIG | Errno::DQUOT)) =
                rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, size)
        {
            return Err(part.failed(e.into()));
        }
        Ok(part)
    }

    /// Takes the next bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        if self.buffer.len() + bytes.len() < BUFFER {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.drain()?;
        if bytes.len() < BUFFER {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.write_out(bytes)
    }

    /// Gives the file its name, in place of what may have it. All of its bytes must have been written.
    pub(crate) fn finish(mut self, name: &str) -> Result<()> {
        self.drain()?;
        if self.written != self.size {
            return Err(Error::new(
                Kind::Io,
                format!("{} of {} bytes of {} were written", self.written, self.size, self.folder.shown(name)),
            ));
        }
        let fd = self.folder.fd();
        rustix::fs::renameat(&fd, &self.name, &fd, name).map_err(|e| self.failed(e.into()))?;
        self.file = None;
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.write_out(&buffer)?;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    fn write_out(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(file) = self.file.as_mut() else { return Ok(()) };
        if let Err(e) = file.write_all(bytes) {
            return Err(self.failed(e));
        }
        let out = self.written - self.buffer.len() as u64;
        // The last piece of a file does not wait for a next one.
        let enough = if out == self.size { WORTH_FLUSHING } else { FLUSH };
        if out - self.flushed >= enough {
            // Starts writing to the medium without waiting for it, and lets go of what is there already: a bundle
            // larger than memory would else be written in one long sync at the end.
            let _ = rustix::fs::fadvise(file, 0, None, Advice::DontNeed);
            self.flushed = out;
        }
        Ok(())
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::io(format!("cannot write {}", self.folder.shown(&self.name)), error)
    }
}

impl Drop for PartFile<'_> {
    fn drop(&mut self) {
        if self.file.is_some() {
            // If it stays, the next run removes it.
            let _ = rustix::fs::unlinkat(self.folder.fd(), &self.name, AtFlags::empty());
        }
    }
}

/// Files of at least this many bytes (1 MiB) get their room before they are written.
const PREALLOCATE: u64 = 1 << 20;
/// Smaller pieces (256 KiB) are gathered before they are written.
const BUFFER: usize = 256 << 10;
/// After so many bytes (64 MiB) writing to the medium is started.
const FLUSH: u64 = 64 << 20;
/// What is left at a file's end is worth it from so many bytes (1 MiB) on.
const WORTH_FLUSHING: u64 = 1 << 20;
