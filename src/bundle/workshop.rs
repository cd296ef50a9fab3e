//! `.NAME.partial`: the directory in which a bundle is made, with one worker in it at a time.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::files::{self, Entry, Folder, PartFile, is_same, remove, show, write_new};
use super::sealing::Sealed;
use super::strangers::is_file;
use super::{ALGORITHM, BLOBS, DESCRIPTOR, INDEX, LAYOUT, SIGNATURES, SUMS, limits};
use crate::error::{Error, Kind, Result};
use crate::oci::Digest;

/// The locked directory. The lock is on the directory itself and not on a file in it, so that nothing has to be
/// removed between sealing and renaming, and ends with the process at the latest.
#[derive(Debug)]
pub(super) struct Workshop {
    root: Folder,
    blobs: Folder,
    parent: Folder,
    /// In `parent`.
    name: OsString,
    output: PathBuf,
    finished: AtomicBool,
    _lock: File,
}

impl Workshop {
    /// Opens it, or makes it, and locks it.
    pub(super) fn open(output: &Path) -> Result<Workshop> {
        let shown = show(output.as_os_str());
        let file_name = output.file_name().ok_or_else(|| Error::usage(format!("{shown} is no name of a bundle")))?;
        if output.symlink_metadata().is_ok() {
            return Err(exists(&shown));
        }
        let parent = open_parent(output)?;
        let mut name = OsString::from(".");
        name.push(file_name);
        name.push(".partial");
        let name_text = name.to_str().ok_or_else(|| {
            Error::usage(format!("{shown} is not UTF-8")).hint("give the bundle a name in plain characters")
        })?;
        let root = make_folder(&parent, name_text)?;
        let own = rustix::io::fcntl_dupfd_cloexec(root.fd(), 0).map_err(|e| Error::io("cannot lock", e.into()))?;
        let own = File::from(own);
        lock(&own, &shown)?;
        // Whoever had the lock before may have finished, and this directory have its final name now.
        let still = parent.look(&name)?.is_some_and(|stat| is_same(&own, &stat));
        if !still {
            return Err(exists(&shown));
        }
        let blobs = make_folder(&make_folder(&root, BLOBS)?, ALGORITHM)?;
        Ok(Workshop {
            root,
            blobs,
            parent,
            name,
            output: output.to_owned(),
            finished: AtomicBool::new(false),
            _lock: own,
        })
    }

    /// Where it is.
    pub(super) fn parent(&self) -> &Folder {
        &self.parent
    }

    /// Beside it.
    pub(super) fn journal_name(&self) -> String {
        let name = self.output.file_name().unwrap_or_default().to_string_lossy();
        format!(".{name}.journal")
    }

    pub(super) fn root(&self) -> &Folder {
        &self.root
    }

    /// Removes what an earlier run left but the blobs in `wanted` (digest, size in bytes) that have the right size,
    /// and returns those. What sealift did not make is not touched: it is an error.
    pub(super) fn clear(&self, wanted: &HashMap<Digest, u64>) -> Result<Vec<(Digest, u64)>> {
        // Looked at before anything is removed.
        let top = self.root.entries(TOP.len() + 2 + limits::STRANGERS)?;
        for entry in &top {
            let known = if entry.kind == FileType::Directory {
                entry.name == BLOBS || entry.name == SIGNATURES
            } else {
                is_file(entry) && TOP.iter().any(|name| OsStr::new(name) == entry.name)
            };
            if !known {
                return Err(self.foreign(&self.root, entry));
            }
        }
        let blobs = self.blobs.entries(usize::MAX)?;
        for entry in &blobs {
            if !is_file(entry) || blob_of(&entry.name).is_none() {
                return Err(self.foreign(&self.blobs, entry));
            }
        }
        // The seal goes first: with it, this would look like a bundle.
        for name in TOP {
            remove(&self.root, name)?;
        }
        self.clear_signatures()?;
        let mut kept = Vec::new();
        for entry in &blobs {
            match blob_of(&entry.name) {
                Some(Left::Blob(digest)) if wanted.get(&digest) == Some(&entry.size) => kept.push((digest, entry.size)),
                _ => remove(&self.blobs, &entry.name)?,
            }
        }
        Ok(kept)
    }

    /// Refuses to begin what the medium has no room for. `needed` is in bytes.
    pub(super) fn check_space(&self, needed: u64) -> Result<()> {
        check_space(&self.root, &self.parent, needed)
    }

    /// A blob's file in the making.
    pub(super) fn part(&self, digest: Digest, size: u64) -> Result<PartFile<'_>> {
        PartFile::create(&self.blobs, part_name(digest), size)
    }

    /// Removes a blob's file.
    pub(super) fn remove_blob(&self, digest: Digest) -> Result<()> {
        remove(&self.blobs, digest.hex())
    }

    /// Makes everything durable, seals it, and gives it its name. `sizes` is all that may be in `blobs/sha256`.
    pub(super) fn finish(&self, sizes: &BTreeMap<Digest, u64>, sealed: &Sealed) -> Result<()> {
        self.check_blobs(sizes)?;
        for (name, bytes) in sealed.before() {
            write_new(&self.root, name, bytes)?;
        }
        self.sync()?;
        let signatures = make_folder(&self.root, SIGNATURES)?;
        for (name, bytes) in sealed.signatures() {
            write_new(&signatures, name, bytes)?;
        }
        write_new(&self.root, SUMS, sealed.sums())?;
        self.sync()?;
        remove(&self.parent, self.journal_name())?;
        self.rename()
    }

    /// What is sealed is there, and nothing else: checked once more before saying so.
    fn check_blobs(&self, sizes: &BTreeMap<Digest, u64>) -> Result<()> {
        let mut count = 0;
        for entry in self.blobs.entries(usize::MAX)? {
            let Some(Left::Blob(digest)) = blob_of(&entry.name) else {
                return Err(self.foreign(&self.blobs, &entry));
            };
            match sizes.get(&digest) {
                // An image that needed it was dropped.
                None => remove(&self.blobs, &entry.name)?,
                Some(size) if is_file(&entry) && entry.size == *size => count += 1,
                Some(_) => return Err(self.foreign(&self.blobs, &entry)),
            }
        }
        if count != sizes.len() {
            return Err(Error::new(
                Kind::Io,
                format!("{} of {} files went away from {}", sizes.len() - count, sizes.len(), self.root.shown("")),
            )
            .hint("something else works in that directory: let it end, then run the same command again"));
        }
        Ok(())
    }

    /// After this a power cut changes nothing any more. Linux before 5.8 does not report every write error here.
    fn sync(&self) -> Result<()> {
        let failed = |e: Errno| Error::io(format!("cannot write {} to its medium", self.root.shown("")), e.into());
        #[cfg(target_os = "linux")]
        match rustix::fs::syncfs(self.root.fd()) {
            Err(Errno::NOSYS) => {}
            result => return result.map_err(failed),
        }
        let signatures = match self.root.look(OsStr::new(SIGNATURES))? {
            Some(_) => Some(self.root.folder(SIGNATURES)?),
            None => None,
        };
        for folder in [Some(&self.blobs), signatures.as_ref(), Some(&self.root)].into_iter().flatten() {
            for entry in folder.entries(usize::MAX)?.iter().filter(|entry| is_file(entry)) {
                rustix::fs::fdatasync(folder.file(entry.name.to_str().unwrap_or_default())?.0).map_err(failed)?;
            }
            rustix::fs::fsync(folder.fd()).map_err(failed)?;
        }
        Ok(())
    }

    fn rename(&self) -> Result<()> {
        give_name(&self.parent, &self.name, &self.output)?;
        self.finished.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn clear_signatures(&self) -> Result<()> {
        if self.root.look(OsStr::new(SIGNATURES))?.is_none() {
            return Ok(());
        }
        let folder = self.root.folder(SIGNATURES)?;
        for entry in folder.entries(limits::SIGNATURES + limits::STRANGERS)? {
            if !is_file(&entry) || !entry.name.as_encoded_bytes().ends_with(b".sig") {
                return Err(self.foreign(&folder, &entry));
            }
            remove(&folder, &entry.name)?;
        }
        rustix::fs::unlinkat(self.root.fd(), SIGNATURES, AtFlags::REMOVEDIR)
            .map_err(|e| self.root.failed("remove", SIGNATURES, e))
    }

    fn foreign(&self, folder: &Folder, entry: &Entry) -> Error {
        let path = folder.path().join(&entry.name);
        Error::new(
            Kind::Io,
            format!("{} is not of sealift's making and lies in the unfinished bundle", show(path.as_os_str())),
        )
        .hint(format!("move it away, then run the same command again; or remove all of {}", self.root.shown("")))
    }
}

impl Drop for Workshop {
    /// A run that wrote nothing leaves nothing: directories with something in them refuse to go.
    fn drop(&mut self) {
        if *self.finished.get_mut() {
            return;
        }
        let sub = format!("{BLOBS}/{ALGORITHM}");
        let gone = rustix::fs::unlinkat(self.root.fd(), sub, AtFlags::REMOVEDIR)
            .and_then(|()| rustix::fs::unlinkat(self.root.fd(), BLOBS, AtFlags::REMOVEDIR))
            .and_then(|()| rustix::fs::unlinkat(self.parent.fd(), self.name.as_os_str(), AtFlags::REMOVEDIR));
        if gone.is_ok() {
            let _ = remove(&self.parent, self.journal_name());
        }
    }
}

/// What a file name of `blobs/sha256` says.
enum Left {
    Blob(Digest),
    Part,
}

fn blob_of(name: &OsStr) -> Option<Left> {
    let name = name.to_str()?;
    match name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".part")) {
        Some(hex) => Digest::from_hex(hex).map(|_| Left::Part),
        None => Digest::from_hex(name).map(Left::Blob),
    }
}

fn part_name(digest: Digest) -> String {
    format!(".{}.part", digest.hex())
}

fn make_folder(parent: &Folder, name: &str) -> Result<Folder> {
    // Nothing is damaged yet where nothing is written yet.
    files::make_folder(parent, name).map_err(|e| {
        Error::new(Kind::Io, "cannot use what is there for the unfinished bundle")
            .caused_by(e)
            .hint("move it away, or choose another --output")
    })
}

/// Locks the open directory or file in which `shown` is made.
pub(super) fn lock(file: &File, shown: &str) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(Error::new(Kind::Io, format!("another export writes {shown} at this moment"))
                .hint("wait until it ends, or choose another --output"))
        }
        // Not every network file system can lock. `check_blobs` notices a second worker in a directory.
        Err(TryLockError::Error(_)) => Ok(()),
    }
}

/// Refuses to begin what the medium of `folder` has no room for. `needed` is in bytes; `shown` is named.
pub(super) fn check_space(folder: &Folder, shown: &Folder, needed: u64) -> Result<()> {
    // A medium that cannot say how much is free is filled until it is full.
    let Ok(space) = rustix::fs::fstatvfs(folder.fd()) else { return Ok(()) };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if space.f_blocks == 0 || needed <= free {
        return Ok(());
    }
    Err(Error::new(
        Kind::Io,
        format!("the bundle needs {needed} more bytes in {}, where {free} are free", shown.shown("")),
    )
    .hint("free some space there, choose another place with --output, or export fewer images"))
}

/// The folder in which `output` will be. It is not made: a medium that is not mounted would go unnoticed.
pub(super) fn open_parent(output: &Path) -> Result<Folder> {
    let parent = match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if parent.exists() {
        return Folder::open(parent);
    }
    let (parent, shown) = (show(parent.as_os_str()), show(output.as_os_str()));
    Err(Error::not_found(format!("there is no directory {parent} for {shown}"))
        .hint(format!("mount the medium there, or make it: mkdir -p {parent}")))
}

/// Gives what is finished its name, which nothing may have, and makes that durable.
pub(super) fn give_name(parent: &Folder, name: &OsStr, output: &Path) -> Result<()> {
    let shown = show(output.as_os_str());
    let Some(file_name) = output.file_name() else { return Err(exists(&shown)) };
    let fd = parent.fd();
    let result = match rename_new(parent, name, file_name) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) if output.symlink_metadata().is_ok() => Err(Errno::EXIST),
        // The medium cannot refuse to replace; nothing was there a moment ago.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => rustix::fs::renameat(&fd, name, &fd, file_name),
        result => result,
    };
    match result {
        Err(Errno::EXIST | Errno::NOTEMPTY) => return Err(exists(&shown)),
        result => result.map_err(|e| Error::io(format!("cannot rename the finished bundle to {shown}"), e.into()))?,
    }
    match rustix::fs::fsync(&fd) {
        // Some media cannot sync a directory.
        Ok(()) | Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        Err(e) => Err(Error::io(format!("cannot make the name {shown} durable"), e.into())),
    }
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn rename_new(folder: &Folder, from: &OsStr, to: &OsStr) -> rustix::io::Result<()> {
    rustix::fs::renameat_with(folder.fd(), from, folder.fd(), to, rustix::fs::RenameFlags::NOREPLACE)
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn rename_new(_: &Folder, _: &OsStr, _: &OsStr) -> rustix::io::Result<()> {
    Err(Errno::NOSYS)
}

pub(super) fn exists(shown: &str) -> Error {
    Error::new(Kind::Io, format!("{shown} exists already"))
        .hint("a finished bundle is never changed: choose another --output, or remove it first")
}

/// The top-level files, the seal first.
const TOP: [&str; 4] = [SUMS, DESCRIPTOR, LAYOUT, INDEX];
