//! A file while it is written: it gets its name when all of it is there.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{Advice, AtFlags, FallocateFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::Directory;
use super::own::{Permissions, is_own};
use super::reading::Reading;
use super::writers::Filling;
use super::writing::{BUFFER, FLUSH, WORTH_FLUSHING, create, remove};
use crate::error::{Error, Kind, Result};

/// Such a file. Unless it is finished it goes away again, or stays to be gone on with ([`PartFile::resume`]).
#[derive(Debug)]
pub(crate) struct PartFile {
    folder: Arc<Directory>,
    /// While it is written.
    name: String,
    /// Until it is finished.
    file: Option<File>,
    buffer: Vec<u8>,
    /// What it will have, in bytes.
    size: u64,
    /// Without the buffer.
    written: u64,
    flushed: u64,
    /// From how many bytes on it stays.
    worth: u64,
}

impl PartFile {
    /// Makes the file `name`, with room for `size` bytes where the medium can promise it. It goes away unless it is
    /// finished.
    pub(crate) fn create(folder: &Arc<Directory>, name: String, size: u64) -> Result<PartFile> {
        let file = create(folder, &name)?;
        PartFile::new(folder, name, file, size, u64::MAX)
    }

    /// Opens the file `name` if it is there and no one else can change it ([`is_own`]), or makes it in place of what has
    /// the name. It stays from [`WORTH`] bytes on, whatever comes: what is there is to be hashed, and gone on with or
    /// [started over](PartFile::start_over).
    pub(crate) fn resume(
        folder: &Arc<Directory>,
        name: String,
        size: u64,
        permissions: Permissions,
    ) -> Result<PartFile> {
        let own = |stat: &Stat| is_own(stat, permissions);
        if folder.look(OsStr::new(&name))?.as_ref().is_some_and(own) {
            let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(folder.fd(), &name, flags, Mode::empty());
            let file = File::from(opened.map_err(|e| folder.failed("open", &name, e))?);
            if rustix::fs::fstat(&file).as_ref().is_ok_and(own) {
                return PartFile::new(folder, name, file, size, WORTH);
            }
        }
        remove(folder, &name)?;
        let file = create(folder, &name)?;
        PartFile::new(folder, name, file, size, WORTH)
    }

    fn new(folder: &Arc<Directory>, name: String, file: File, size: u64, worth: u64) -> Result<PartFile> {
        let folder = folder.clone();
        let there = file.metadata().map_err(|e| Error::io(format!("cannot look at {}", folder.shown(&name)), e))?.len();
        let (file, buffer) = (Some(file), Vec::new());
        let part = PartFile { folder, name, file, buffer, size, written: there, flushed: there, worth };
        if size >= PREALLOCATE
            && let Some(file) = &part.file
            && let Err(e @ (Errno::NOSPC | Errno::FBIG | Errno::DQUOT)) =
                rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, size)
        {
            return Err(part.failed(e.into()));
        }
        Ok(part)
    }

    /// The bytes that are there, if that may be the beginning of what is wanted.
    pub(crate) fn left(&self) -> Result<Option<Reading>> {
        let file = self.file.as_ref().filter(|_| self.written > 0 && self.written <= self.size);
        let Some(file) = file else { return Ok(None) };
        let file = file.try_clone().map_err(|e| self.failed(e))?;
        Ok(Some(Reading { file, shown: self.folder.shown(&self.name).into(), offset: 0, end: self.written }))
    }

    /// What is there is no good: the next byte is the first.
    pub(crate) fn start_over(&mut self) -> Result<()> {
        self.buffer.clear();
        // Cutting it would give its room back.
        if std::mem::take(&mut self.written) == 0 {
            return Ok(());
        }
        self.flushed = 0;
        match &self.file {
            Some(file) => file.set_len(0).map_err(|e| self.failed(e)),
            None => Ok(()),
        }
    }

    /// Takes the next bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
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
        rustix::fs::renameat(&fd, &self.name, &fd, name)
            .map_err(|e| Error::io(format!("cannot rename {}", self.folder.shown(&self.name)), e.into()))?;
        self.file = None;
        Ok(())
    }

    /// What was written is not what is wanted: it goes away.
    pub(crate) fn give_up(mut self) {
        self.worth = u64::MAX;
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
        if let Err(e) = file.write_all_at(bytes, self.written) {
            return Err(self.failed(e));
        }
        self.written += bytes.len() as u64;
        // The last piece of a file does not wait for a next one.
        let enough = if self.written == self.size { WORTH_FLUSHING } else { FLUSH };
        if self.written - self.flushed >= enough {
            // Starts writing to the medium without waiting for it, and lets go of what is there already: a bundle
            // larger than memory would else be written in one long sync at the end.
            let _ = rustix::fs::fadvise(file, 0, None, Advice::DontNeed);
            self.flushed = self.written;
        }
        Ok(())
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::io(format!("cannot write {} at byte {}", self.folder.shown(&self.name), self.written), error)
    }
}

impl Filling for PartFile {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        PartFile::write(self, bytes)
    }

    fn start_over(&mut self) -> Result<()> {
        PartFile::start_over(self)
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if self.file.is_some() && self.written < self.worth {
            // If it stays, the next run removes it.
            let _ = rustix::fs::unlinkat(self.folder.fd(), &self.name, AtFlags::empty());
        }
    }
}

/// What an interrupted run leaves of a file is worth keeping from this size on, 4 MiB.
pub(crate) const WORTH: u64 = 4 << 20;
/// Files of at least this many bytes (1 MiB) get their room before they are written.
const PREALLOCATE: u64 = 1 << 20;
