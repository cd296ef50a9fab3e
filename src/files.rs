//! Directories and files of a place that strangers may have written, opened one step at a time from a held directory,
//! without following a link; and their bytes as chunks.
//!
//! What is opened is first looked at: opening a device or a pipe can already do something. After opening it is
//! looked at again, so that an exchange in between is noticed.

#[cfg(feature = "program")]
mod exposure;
mod lock;
mod names;
mod own;
mod part;
pub(crate) mod reading;
mod stamp;
mod threads;
mod writers;
mod writing;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

#[cfg(feature = "program")]
pub(crate) use exposure::{Exposure, exposure};
pub(crate) use lock::{Lock, LockedBy};
pub(crate) use names::why_refused;
pub(crate) use own::{
    OwnDirectory, OwnFile, Permissions, Publish, create_anew, is_own, own_file, own_folder, publish, umask,
};
pub(crate) use part::{PartFile, WORTH};
pub(crate) use reading::Reading;
pub(crate) use stamp::Stamp;
pub(crate) use threads::{HASHERS, StopOnDrop, blocking};
pub(crate) use writers::{Filling, WRITERS, Writer};
pub(crate) use writing::{BUFFER, FLUSH, WORTH_FLUSHING, create, is_same, make_folder, remove, write_new};

use crate::error::{Error, Result};
use crate::text::is_hidden;

/// An open directory, and the path by which people know it.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

/// A name in a directory and what it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DirectoryEntry {
    pub(crate) name: OsString,
    pub(crate) kind: FileType,
    /// In bytes, of a regular file.
    pub(crate) size: u64,
}

impl Directory {
    /// Opens the directory that a person named; links on the way are theirs.
    pub(crate) fn open(path: &Path) -> Result<Directory> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|e| Error::io(format!("cannot open the directory {}", show(path.as_os_str())), e.into()))?;
        Ok(Directory { fd, path: path.to_owned() })
    }

    /// Opens a directory in this one.
    pub(crate) fn folder(&self, name: &str) -> Result<Directory> {
        match self.look(OsStr::new(name))?.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Some(FileType::Directory) => {}
            Some(kind) => return Err(self.wrong_kind(OsStr::new(name), kind, "a directory")),
            None => return Err(self.missing(name)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty()).map_err(|e| self.failed("open", name, e))?;
        Ok(Directory { fd, path: self.path.join(name) })
    }

    /// Opens a directory below this one by its path, whose parts are separated by `/`; nothing between them names this
    /// one itself.
    pub(crate) fn below(&self, path: &str) -> Result<Directory> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let first = match parts.next() {
            Some(part) => self.folder(part)?,
            None => {
                let fd = rustix::io::fcntl_dupfd_cloexec(&self.fd, 0).map_err(|e| self.failed("open", "", e))?;
                Directory { fd, path: self.path.clone() }
            }
        };
        parts.try_fold(first, |folder, part| folder.folder(part))
    }

    /// Opens a regular file in this directory for reading, with its size in bytes.
    pub(crate) fn file(&self, name: &str) -> Result<(File, u64)> {
        let regular = |stat: &Stat| match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(stat.st_size as u64),
            kind => Err(self.wrong_kind(OsStr::new(name), kind, "a regular file")),
        };
        regular(&self.look(OsStr::new(name))?.ok_or_else(|| self.missing(name))?)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty()).map_err(|e| self.failed("open", name, e))?;
        let size = regular(&rustix::fs::fstat(&fd).map_err(|e| self.failed("open", name, e))?)?;
        Ok((File::from(fd), size))
    }

    /// All bytes of a file of at most `limit` bytes. The limit is checked before anything is read.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Bytes> {
        let (file, size) = self.file(name)?;
        if size > limit {
            return Err(Error::damaged(format!("{} has {size} bytes, more than {limit}", self.shown(name))));
        }
        let mut bytes = vec![0; size as usize];
        read_exact_at(&file, &mut bytes, 0).map_err(|e| self.read_failed(name, 0, e))?;
        Ok(Bytes::from(bytes))
    }

    /// What is in it, sorted by name; an error when there is more than `limit`.
    pub(crate) fn entries(&self, limit: usize) -> Result<Vec<DirectoryEntry>> {
        let failed = |e: Errno| Error::io(format!("cannot list {}", show(self.path.as_os_str())), e.into());
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(failed)? {
            let name = OsString::from_vec(entry.map_err(failed)?.file_name().to_bytes().to_vec());
            if name == "." || name == ".." {
                continue;
            }
            if entries.len() == limit {
                return Err(Error::damaged(format!("{} has more than {limit} entries", show(self.path.as_os_str()))));
            }
            let Some(stat) = self.look(&name)? else { continue };
            entries.push(DirectoryEntry {
                name,
                kind: FileType::from_raw_mode(stat.st_mode),
                size: stat.st_size as u64,
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// What the name names, without following it; nothing if it is not there.
    pub(crate) fn look(&self, name: &OsStr) -> Result<Option<Stat>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(Error::io(format!("cannot look at {}", show(self.path.join(name).as_os_str())), e.into())),
        }
    }

    /// The path of an entry, for a message.
    pub(crate) fn shown(&self, name: impl AsRef<OsStr>) -> String {
        show(self.path.join(name.as_ref()).as_os_str())
    }

    /// Its own path, for a message.
    pub(crate) fn called(&self) -> String {
        show(self.path.as_os_str())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn fd(&self) -> impl AsFd + '_ {
        self.fd.as_fd()
    }

    /// A failure of the medium at `offset` of a file; an end that comes too early is damage.
    pub(crate) fn read_failed(&self, name: &str, offset: u64, error: std::io::Error) -> Error {
        let shown = self.shown(name);
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            return Error::damaged(format!("{shown} became shorter while it was read"));
        }
        Error::io(format!("cannot read {shown} at byte {offset}"), error)
            .hint("the medium may be failing: copy everything to another one, or ask for it again")
    }

    pub(crate) fn failed(&self, doing: &str, name: &str, errno: Errno) -> Error {
        Error::io(format!("cannot {doing} {}", self.shown(name)), errno.into())
    }

    pub(crate) fn wrong_kind(&self, name: &OsStr, kind: FileType, wanted: &str) -> Error {
        Error::damaged(format!("{} is {}, not {wanted}", self.shown(name), kind_name(kind)))
            .hint("only plain files and directories are read here: copy them again from where they came")
    }

    fn missing(&self, name: &str) -> Error {
        Error::damaged(format!("{} is missing", self.shown(name)))
            .hint("copy everything again from its medium, or ask its sender for it again")
    }
}

/// Fills `buffer` from `offset`.
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// A path for a message: names from a medium may hold anything, control characters too.
pub(crate) fn show(path: &OsStr) -> String {
    match path.to_str() {
        Some(text) => text.chars().flat_map(escape).collect(),
        None => path.as_bytes().escape_ascii().to_string(),
    }
}

/// Escapes what a terminal would act on or not show, and the backslash, so that no name can pass for an escaped one.
fn escape(c: char) -> impl Iterator<Item = char> {
    let plain = !is_hidden(c) && c != '\\';
    let escaped = (!plain).then(|| c.escape_default()).into_iter().flatten();
    plain.then_some(c).into_iter().chain(escaped)
}

pub(crate) fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "something unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_act_on_a_terminal() {
        assert_eq!(show(OsStr::new("a\u{1b}[2Jb")), "a\\u{1b}[2Jb");
        assert_eq!(show(OsStr::new("x\u{202e}gnp.exe")), "x\\u{202e}gnp.exe");
        assert_eq!(show(OsStr::from_bytes(b"a\xff\n")), "a\\xff\\n");
        assert_eq!(show(OsStr::new("größe 1")), "größe 1");
    }

    #[test]
    fn links_and_pipes_are_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), b"x").unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
        let folder = Directory::open(dir.path()).unwrap();
        rustix::fs::mknodat(folder.fd(), "pipe", FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(folder.read("file", 1).unwrap(), b"x".as_slice());
        for (name, reason) in [("link", "symbolic link"), ("pipe", "named pipe"), ("none", "missing")] {
            let error = folder.file(name).expect_err(name);
            assert!(error.chain().contains(reason), "{error:?}");
        }
        assert!(folder.read("file", 0).is_err());
        assert!(folder.entries(2).is_err());
        assert_eq!(folder.entries(3).unwrap().len(), 3);
    }
}
