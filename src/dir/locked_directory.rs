//! The directory below which images are written, with one worker in it at a time.
//!
//! ```text
//! DESTINATION/                locked while a run writes
//!   .sealift.partial/<hex>    blobs that have come and that no image has yet
//!   .sealift.lock             where the file system has no locks: which process writes here
//! ```

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::image_file::ImageFile;
use crate::error::{Error, Kind, Result};
use crate::files::{Directory, Lock, LockedBy, is_same, make_folder, remove, show, why_refused};

/// The locked directory. The lock ends with the process at the latest and leaves no file behind.
#[derive(Debug)]
pub(super) struct LockedDirectory {
    pub(super) root: Directory,
    pub(super) workshop: Arc<Directory>,
    path: PathBuf,
    /// Whether this run made the directory.
    made: bool,
    /// Until it is dropped.
    lock: Option<Lock>,
}

impl LockedDirectory {
    /// Makes the directory if need be, and locks it.
    pub(super) fn open(path: &Path) -> Result<LockedDirectory> {
        let shown = show(path.as_os_str());
        let made = !path.exists();
        std::fs::create_dir_all(path).map_err(|e| Error::io(format!("cannot make the directory {shown}"), e))?;
        let root = Directory::open(path)?;
        let own = root.duplicate()?;
        let by = LockedBy { job: "sync", shown: &shown, instead: "destination" };
        let lock = Some(Lock::take(root.duplicate()?, &root, LOCK, by)?);
        // Whoever had the lock before may have removed an empty directory.
        if !rustix::fs::stat(path).is_ok_and(|stat| is_same(&own, &stat)) {
            return Err(
                Error::new(Kind::Io, format!("{shown} went away a moment ago")).hint("run the same command again")
            );
        }
        let workshop = make_folder(&root, WORKSHOP).map_err(|e| unusable(e, &root.shown(WORKSHOP)))?;
        Ok(LockedDirectory { root, workshop: Arc::new(workshop), path: path.to_owned(), made, lock })
    }

    /// An image's directory, made if need be. No link on the way to it is followed.
    pub(super) fn image(&self, directory: &str) -> Result<Arc<Directory>> {
        let mut folder = None;
        for part in directory.split('/') {
            let parent = folder.as_ref().unwrap_or(&self.root);
            let made = make_folder(parent, part).map_err(|e| {
                let error = unusable(e, &parent.shown(part));
                match why_refused(part) {
                    Some(why) => error.hint(format!("{why}: make a bundle there")),
                    None => error,
                }
            })?;
            folder = Some(made);
        }
        folder.map(Arc::new).ok_or_else(|| Error::usage("an image needs a directory of its own"))
    }

    /// An image's directory, if it is there.
    pub(super) fn existing(&self, directory: &str) -> Result<Option<Directory>> {
        let mut folder = None;
        for part in directory.split('/') {
            let parent = folder.as_ref().unwrap_or(&self.root);
            if parent.look(OsStr::new(part))?.is_none() {
                return Ok(None);
            }
            let next = parent.folder(part).map_err(|e| unusable(e, &parent.shown(part)))?;
            folder = Some(next);
        }
        Ok(folder)
    }

    /// Refuses to begin what the medium has no room for. `needed` is in bytes.
    pub(super) fn check_space(&self, needed: u64) -> Result<()> {
        // A medium that cannot say how much is free is filled until it is full.
        let Ok(space) = rustix::fs::fstatvfs(self.root.fd()) else { return Ok(()) };
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if space.f_blocks == 0 || needed <= free {
            return Ok(());
        }
        let shown = show(self.path.as_os_str());
        Err(Error::new(Kind::Io, format!("the sync needs {needed} more bytes in {shown}, where {free} are free"))
            .hint("free some space there, choose another destination, or sync fewer images"))
    }

    /// After this a power cut changes nothing any more that was written before. `written` are directories.
    pub(super) fn sync(&self, written: &[String]) -> Result<()> {
        let failed =
            |e: Errno| Error::io(format!("cannot write {} to its medium", show(self.path.as_os_str())), e.into());
        #[cfg(target_os = "linux")]
        match rustix::fs::syncfs(self.root.fd()) {
            Err(Errno::NOSYS) => {}
            result => return result.map_err(failed),
        }
        for directory in written {
            let folder = self.root.below(directory)?;
            for entry in folder.entries(usize::MAX)? {
                if entry.kind == FileType::RegularFile && ImageFile::of(&entry.name).is_some() {
                    let name = entry.name.to_str().unwrap_or_default();
                    rustix::fs::fsync(folder.file(name)?.0).map_err(failed)?;
                }
            }
            match rustix::fs::fsync(folder.fd()) {
                // Some media cannot sync a directory.
                Ok(()) | Err(Errno::INVAL | Errno::NOTSUP) => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Ok(())
    }

    /// Removes the workshop with what is left in it.
    pub(super) fn finish(&self) -> Result<()> {
        for entry in self.workshop.entries(usize::MAX)? {
            if ImageFile::of(&entry.name).is_some() {
                remove(&self.workshop, &entry.name)?;
            }
        }
        match rustix::fs::unlinkat(self.root.fd(), WORKSHOP, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(self.root.failed("remove", WORKSHOP, e)),
        }
    }
}

impl Drop for LockedDirectory {
    /// A run that wrote nothing leaves nothing: directories with something in them refuse to go.
    fn drop(&mut self) {
        let gone = rustix::fs::unlinkat(self.root.fd(), WORKSHOP, AtFlags::REMOVEDIR);
        // Its file goes before the directory can.
        self.lock = None;
        if self.made && gone.is_ok() {
            let _ = rustix::fs::rmdir(&self.path);
        }
    }
}

/// What stands in the way of a directory is not damage: nothing is written yet.
fn unusable(error: Error, shown: &str) -> Error {
    Error::new(Kind::Io, format!("cannot use {shown} as a directory for images"))
        .caused_by(error)
        .hint("move away what is there, or choose another destination")
}

/// Where blobs are until their first image is written.
pub(super) const WORKSHOP: &str = ".sealift.partial";
const LOCK: &str = ".sealift.lock";
