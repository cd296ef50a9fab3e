//! The name that a bundle gets when it is finished, and the names beside it while it is made.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::journal;
use crate::error::{Error, Kind, Result};
use crate::files::{Directory, Lock, LockedBy, show, why_refused};

/// Where a bundle will be: a name that nothing has yet, in an open folder.
#[derive(Debug)]
pub(crate) struct OutputPath {
    path: PathBuf,
    parent: Directory,
    /// The last part of the path.
    file_name: String,
}

/// What a bundle will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputForm {
    Directory,
    File,
}

impl OutputPath {
    /// Looks whether `path` can become a bundle.
    ///
    /// # Errors
    /// `Usage` for what is no name, `Io` if it exists already, its folder does not, or the medium refuses the name.
    pub(crate) fn new(path: &Path, form: OutputForm) -> Result<OutputPath> {
        let shown = show(path.as_os_str());
        let file_name = path.file_name().ok_or_else(|| Error::usage(format!("{shown} is no name of a bundle")))?;
        let file_name = file_name.to_str().ok_or_else(|| {
            Error::usage(format!("{shown} is not UTF-8")).hint("give the bundle a name in plain characters")
        })?;
        let output = OutputPath { parent: open_parent(path)?, path: path.to_owned(), file_name: file_name.into() };
        if path.symlink_metadata().is_ok() {
            return Err(output.exists());
        }
        output.try_name(form)?;
        Ok(output)
    }

    /// Refuses a name that the file system does not hold: else the rename after the last byte would be the first to
    /// tell. The name is made and removed again in a directory of its own, so that nothing ever lies under the final
    /// name but a finished bundle, also if the process is killed meanwhile.
    fn try_name(&self, form: OutputForm) -> Result<()> {
        let trial = self.trial();
        match rustix::fs::mkdirat(self.parent.fd(), &trial, Mode::from_raw_mode(0o755)) {
            // It may be left by a run that was killed.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) if refuses_name(e) => return Err(self.refused(e)),
            Err(e) => return Err(self.parent.failed("make the directory", &trial, e)),
        }
        let tried = match self.parent.folder(&trial) {
            Ok(folder) => self.try_in(&folder, form),
            Err(_) if self.is_gone(&trial)? => Ok(()),
            Err(e) => Err(Error::new(Kind::Io, format!("cannot try the name {}", self.shown()))
                .caused_by(e)
                .hint("move away what is there, or choose another name for the bundle")),
        };
        let _ = rustix::fs::unlinkat(self.parent.fd(), &trial, AtFlags::REMOVEDIR);
        tried
    }

    fn try_in(&self, folder: &Directory, form: OutputForm) -> Result<()> {
        let name = self.file_name.as_str();
        let mode = Mode::from_raw_mode(0o700);
        let (made, flags) = match form {
            OutputForm::Directory => (rustix::fs::mkdirat(folder.fd(), name, mode), AtFlags::REMOVEDIR),
            OutputForm::File => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                (rustix::fs::openat(folder.fd(), name, flags, mode).map(drop), AtFlags::empty())
            }
        };
        match made {
            Ok(()) | Err(Errno::EXIST) => {
                let _ = rustix::fs::unlinkat(folder.fd(), name, flags);
                Ok(())
            }
            Err(Errno::NOENT) if self.is_gone(&self.trial())? => Ok(()),
            Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::ROFS | Errno::NXIO | Errno::NODEV)) => {
                Err(folder.failed("create", name, e))
            }
            Err(e) => Err(self.refused(e)),
        }
    }

    /// Whether another run, which tries the same name, has removed the directory for it.
    fn is_gone(&self, trial: &str) -> Result<bool> {
        Ok(self.parent.look(OsStr::new(trial))?.is_none())
    }

    /// The error for a name that the file system does not hold.
    fn refused(&self, errno: Errno) -> Error {
        let shown = self.shown();
        let error = Error::new(Kind::Io, format!("the medium of {shown} refuses that name"))
            .caused_by(std::io::Error::from(errno));
        let other = "choose another name for the bundle";
        error.hint(match why_refused(&self.file_name) {
            Some(why) => format!("{why}: {other}"),
            None => format!("{other}, of letters, digits, '.', '-' and '_'"),
        })
    }

    /// The folder in which it will be.
    pub(crate) fn parent(&self) -> &Directory {
        &self.parent
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its path, for messages.
    pub(crate) fn shown(&self) -> String {
        show(self.path.as_os_str())
    }

    /// What it is called while it is made.
    pub(crate) fn partial(&self) -> String {
        format!(".{}.partial", self.file_name)
    }

    /// What its journal is called.
    pub(crate) fn journal(&self) -> String {
        format!(".{}.journal", self.file_name)
    }

    /// What the directory is called in which its name is tried.
    fn trial(&self) -> String {
        format!(".{}.try", self.file_name)
    }

    /// A name under which a file is made and removed at once.
    pub(crate) fn probe(&self) -> String {
        journal::new_name(&self.journal())
    }

    /// Locks what is opened under the name of what is being made.
    pub(crate) fn lock(&self, opened: &File) -> Result<Lock> {
        let file = opened.try_clone().map_err(|e| Error::io(format!("cannot lock {}", self.shown()), e))?;
        let name = format!(".{}.lock", self.file_name);
        let lock = Lock::take(
            file,
            &self.parent,
            &name,
            LockedBy { job: "export", shown: &self.shown(), instead: "--output" },
        )?;
        if self.parent.names(&self.partial(), opened)? {
            return Ok(lock);
        }
        // Whoever had the lock before has finished, or has fetched nothing and left nothing.
        Err(match self.path.symlink_metadata() {
            Ok(_) => self.exists(),
            Err(_) => Error::new(Kind::Io, format!("another export to {} ended at this moment", self.shown()))
                .hint("run the same command again"),
        })
    }

    /// The error for a name that is another file's.
    fn replaced(&self, name: &str) -> Error {
        Error::new(Kind::Io, format!("{} is not what this export wrote any more", self.parent.shown(name)))
            .hint("another process changes that directory: find out which, then export to another place")
    }

    /// The error for a name that is taken.
    pub(crate) fn exists(&self) -> Error {
        Error::new(Kind::Io, format!("{} exists already", self.shown()))
            .hint("a finished bundle is never changed: choose another --output, or remove it first")
    }

    /// Gives `made`, which has the name [`Output::partial`], its own, which nothing may have, and makes that durable.
    ///
    /// # Errors
    /// `Io` if it has no name afterwards, or a name that is not durable.
    pub(crate) fn give_name(&self, made: &File) -> Result<()> {
        let (partial, name) = (self.partial(), self.file_name.as_str());
        if !self.parent.names(&partial, made)? {
            return Err(self.replaced(&partial));
        }
        let failed = |e: Errno| Error::io(format!("cannot rename the finished bundle to {}", self.shown()), e.into());
        match rename_new(&self.parent, &partial, name) {
            Err(Errno::EXIST | Errno::NOTEMPTY) => {
                let shown = self.parent.shown(&partial);
                return Err(self.exists().hint(format!("what was exported is whole in {shown}: give it another name")));
            }
            result => result.map_err(failed)?,
        }
        // Between the look and the rename the name could become another file's.
        if !self.parent.names(name, made)? {
            return Err(self.replaced(name));
        }
        match rustix::fs::fsync(self.parent.fd()) {
            // Some media cannot sync a directory.
            Ok(()) | Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
            Err(e) => Err(Error::io(format!("cannot make the name {} durable", self.shown()), e.into())),
        }
    }
}

/// Whether making something in a directory that is there fails so because of its name. exfat-fuse and SMB answer ENOENT.
fn refuses_name(errno: Errno) -> bool {
    matches!(errno, Errno::INVAL | Errno::NOENT | Errno::ILSEQ | Errno::NAMETOOLONG)
}

/// Checks that a path has a last part.
pub(crate) fn check_name(output: &Path) -> Result<()> {
    match output.file_name() {
        Some(_) => Ok(()),
        None => Err(Error::usage(format!("{} cannot be the name of a bundle", show(output.as_os_str())))
            .hint("give a path that does not exist yet")),
    }
}

/// The folder in which `output` will be. It is not made: a medium that is not mounted would go unnoticed.
fn open_parent(output: &Path) -> Result<Directory> {
    let parent = match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if parent.exists() {
        return Directory::open(parent);
    }
    let (parent, shown) = (show(parent.as_os_str()), show(output.as_os_str()));
    Err(Error::not_found(format!("there is no directory {parent} for {shown}"))
        .hint(format!("mount the medium there, or make it: mkdir -p {parent}")))
}

/// Renames what is in `folder`, and replaces nothing.
fn rename_new(folder: &Directory, from: &str, to: &str) -> rustix::io::Result<()> {
    match rename_exclusive(folder, from, to) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        result => return result,
    }
    // The file system cannot refuse to replace: NFS and some FUSE. A second name is never made over another file.
    match rustix::fs::linkat(folder.fd(), from, folder.fd(), to, AtFlags::empty()) {
        Ok(()) => return rustix::fs::unlinkat(folder.fd(), from, AtFlags::empty()),
        Err(Errno::EXIST) => return Err(Errno::EXIST),
        // A directory, or a file system without hard links.
        Err(_) => {}
    }
    match rustix::fs::statat(folder.fd(), to, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(Errno::EXIST),
        Err(Errno::NOENT) => rustix::fs::renameat(folder.fd(), from, folder.fd(), to),
        Err(e) => Err(e),
    }
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn rename_exclusive(folder: &Directory, from: &str, to: &str) -> rustix::io::Result<()> {
    rustix::fs::renameat_with(folder.fd(), from, folder.fd(), to, rustix::fs::RenameFlags::NOREPLACE)
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn rename_exclusive(_: &Directory, _: &str, _: &str) -> rustix::io::Result<()> {
    Err(Errno::NOSYS)
}
