//! `.NAME.partial`: the directory in which a bundle is made, with one worker in it at a time.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::archive::journal::Journal;
use super::files::{self, Entry, Folder, PartFile, WORTH, is_same, remove, show, write_new};
use super::lock::lock;
use super::medium::Medium;
use super::output::{Form, Output};
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
    output: Output,
    finished: AtomicBool,
    _lock: File,
}

impl Workshop {
    /// Opens it, or makes it, and locks it.
    pub(super) fn open(output: &Path) -> Result<Workshop> {
        let output = Output::new(output, Form::Directory)?;
        let root = make_folder(output.parent(), &output.partial())?;
        let own = rustix::io::fcntl_dupfd_cloexec(root.fd(), 0).map_err(|e| Error::io("cannot lock", e.into()))?;
        let own = File::from(own);
        lock(&own, &output.shown())?;
        // Whoever had the lock before may have finished, and this directory have its final name now.
        let still = output.parent().look(OsStr::new(&output.partial()))?.is_some_and(|stat| is_same(&own, &stat));
        if !still {
            return Err(output.exists());
        }
        let blobs = make_folder(&make_folder(&root, BLOBS)?, ALGORITHM)?;
        Ok(Workshop { root, blobs, output, finished: AtomicBool::new(false), _lock: own })
    }

    /// Where it is, and will be.
    pub(super) fn output(&self) -> &Output {
        &self.output
    }

    pub(super) fn root(&self) -> &Folder {
        &self.root
    }

    /// The file system that it is on.
    pub(super) fn medium(&self) -> Medium {
        Medium::of(&self.root, self.output.parent().shown(""))
    }

    /// Removes what an earlier run left but the blobs in `wanted` (digest, size in bytes) that have the right size, or
    /// are the beginning of it. What sealift did not make is not touched: it is an error.
    pub(super) fn clear(&self, wanted: &HashMap<Digest, u64>) -> Result<Left> {
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
        let mut left = Left::default();
        for entry in &blobs {
            match blob_of(&entry.name) {
                Some(Held::Blob(digest)) if wanted.get(&digest) == Some(&entry.size) => {
                    left.whole.push((digest, entry.size));
                }
                Some(Held::Part(digest))
                    if entry.size >= WORTH && wanted.get(&digest).is_some_and(|size| entry.size <= *size) =>
                {
                    let stat = self.blobs.look(&entry.name)?;
                    left.parts.insert(digest, stat.map_or(0, |stat| stat.st_blocks as u64 * 512));
                }
                _ => remove(&self.blobs, &entry.name)?,
            }
        }
        Ok(left)
    }

    /// A blob's file in the making, with what an earlier run left of it.
    pub(super) fn part(&self, digest: Digest, size: u64) -> Result<PartFile<'_>> {
        PartFile::resume(&self.blobs, format!(".{}.part", digest.hex()), size)
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
        let named = self.seal(sealed);
        if named.is_err() {
            // What is not durable, or has no name, is not to look finished.
            let _ = remove(&self.root, SUMS);
        }
        named?;
        self.finished.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn seal(&self, sealed: &Sealed) -> Result<()> {
        write_new(&self.root, SUMS, sealed.sums())?;
        self.sync()?;
        Journal::remove(self.output.parent(), &self.output.journal())?;
        self.output.give_name()
    }

    /// What is sealed is there, and nothing else: checked once more before saying so.
    fn check_blobs(&self, sizes: &BTreeMap<Digest, u64>) -> Result<()> {
        let mut count = 0;
        for entry in self.blobs.entries(usize::MAX)? {
            let digest = match blob_of(&entry.name) {
                Some(Held::Blob(digest)) => digest,
                Some(Held::Part(digest)) if !sizes.contains_key(&digest) => {
                    remove(&self.blobs, &entry.name)?;
                    continue;
                }
                _ => return Err(self.foreign(&self.blobs, &entry)),
            };
            match sizes.get(&digest) {
                // An image that needed it was left out.
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
            .and_then(|()| rustix::fs::unlinkat(self.output.parent().fd(), self.output.partial(), AtFlags::REMOVEDIR));
        if gone.is_ok() {
            let _ = Journal::remove(self.output.parent(), &self.output.journal());
        }
    }
}

/// What an earlier run left that is of use, if it is what it seems.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Blobs of the right size, in bytes.
    pub(super) whole: Vec<(Digest, u64)>,
    /// The room on the medium, in bytes, that the beginnings of others take up.
    pub(super) parts: HashMap<Digest, u64>,
}

/// What a file name of `blobs/sha256` says.
enum Held {
    Blob(Digest),
    Part(Digest),
}

fn blob_of(name: &OsStr) -> Option<Held> {
    let name = name.to_str()?;
    match name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".part")) {
        Some(hex) => Digest::from_hex(hex).map(Held::Part),
        None => Digest::from_hex(name).map(Held::Blob),
    }
}

fn make_folder(parent: &Folder, name: &str) -> Result<Folder> {
    // Nothing is damaged yet where nothing is written yet.
    files::make_folder(parent, name).map_err(|e| {
        Error::new(Kind::Io, "cannot use what is there for the unfinished bundle")
            .caused_by(e)
            .hint("move it away, or choose another --output")
    })
}

/// The top-level files, the seal first.
const TOP: [&str; 4] = [SUMS, DESCRIPTOR, LAYOUT, INDEX];
