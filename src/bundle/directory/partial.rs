//! `.NAME.partial`: the directory in which a bundle is made, with one worker in it at a time.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use crate::bundle::format::top_level::Sealed;
use crate::bundle::format::unlisted::is_file;
use crate::bundle::format::{ALGORITHM, BLOBS, DESCRIPTOR, INDEX, LAYOUT, SIGNATURES, SUMS, limits};
use crate::bundle::resume::free_space::FileSystem;
use crate::bundle::resume::journal;
use crate::bundle::resume::output::{OutputForm, OutputPath};
use crate::error::{Error, Kind, Result};
use crate::files::{
    self, Directory, DirectoryEntry, Lock, OwnDirectory, PartFile, Permissions, Publish, WORTH, is_own, own_folder,
    publish, remove, show, umask, write_new,
};
use crate::oci::Digest;

/// The locked directory. The lock is on the directory itself and not on a file in it, so that nothing has to be
/// removed between sealing and renaming, and ends with the process at the latest.
#[derive(Debug)]
pub(crate) struct PartialDirectory {
    root: Directory,
    blobs: Arc<Directory>,
    output: OutputPath,
    permissions: Permissions,
    /// Whether it was there before.
    existed: bool,
    finished: AtomicBool,
    _lock: Lock,
}

impl PartialDirectory {
    /// Opens it, or makes it, and locks it.
    pub(crate) fn open(output: &Path) -> Result<PartialDirectory> {
        let output = OutputPath::new(output, OutputForm::Directory)?;
        let (own, lock) =
            own_folder(output.parent(), &output.partial(), &output.probe(), |folder| output.lock(folder))?;
        let OwnDirectory { folder: root, existed, permissions } = own;
        let inside = |folder: &Directory, name: &str| {
            own_folder(folder, name, &output.probe(), |_| Ok(())).map(|(own, ())| own.folder)
        };
        let blobs = Arc::new(inside(&inside(&root, BLOBS)?, ALGORITHM)?);
        let finished = AtomicBool::new(false);
        Ok(PartialDirectory { root, blobs, output, permissions, existed, finished, _lock: lock })
    }

    /// What an earlier run left: whether the directory was there, and whether the file system keeps owners and modes.
    pub(crate) fn earlier(&self) -> (bool, Permissions) {
        (self.existed, self.permissions)
    }

    /// Where it is, and will be.
    pub(crate) fn output(&self) -> &OutputPath {
        &self.output
    }

    pub(crate) fn root(&self) -> &Directory {
        &self.root
    }

    /// The file system that it is on.
    pub(crate) fn medium(&self) -> FileSystem {
        FileSystem::of(&self.root, self.output.parent().shown(""))
    }

    /// Removes what an earlier run left but the blobs in `wanted` (digest, size in bytes) that have the right size, or
    /// are the beginning of it. What sealift did not make is not touched: it is an error.
    pub(crate) fn clear(&self, wanted: &HashMap<Digest, u64>) -> Result<Left> {
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
                // One that others can change is fetched again.
                Some(Held::Blob(digest))
                    if wanted.get(&digest) == Some(&entry.size)
                        && self.blobs.look(&entry.name)?.is_some_and(|stat| is_own(&stat, self.permissions)) =>
                {
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
    pub(crate) fn part(&self, digest: Digest, size: u64) -> Result<PartFile> {
        PartFile::resume(&self.blobs, format!(".{}.part", digest.hex()), size, self.permissions)
    }

    /// Removes a blob's file.
    pub(crate) fn remove_blob(&self, digest: Digest) -> Result<()> {
        remove(&self.blobs, digest.hex())
    }

    /// Makes everything durable, seals it, and gives it its name. `sizes` is all that may be in `blobs/sha256`.
    pub(crate) fn finish(&self, sizes: &BTreeMap<Digest, u64>, sealed: &Sealed) -> Result<()> {
        self.check_blobs(sizes)?;
        for (name, bytes) in sealed.before() {
            write_new(&self.root, name, bytes)?;
        }
        self.sync()?;
        let signatures = make_folder(&self.root, SIGNATURES)?;
        for (name, bytes) in sealed.signatures() {
            write_new(&signatures, name, bytes)?;
        }
        let sealed = write_new(&self.root, SUMS, sealed.sums()).and_then(|()| self.sync());
        if sealed.is_err() {
            // What is not durable is not to look finished.
            let _ = remove(&self.root, SUMS);
            return sealed;
        }
        // From here on it is a whole bundle, and stays one, also if it gets no name.
        for folder in [&*self.blobs, &self.root.folder(BLOBS)?, &self.root] {
            self.publish(folder, FileType::Directory, Publish::BeforeRename)?;
        }
        journal::remove(self.output.parent(), &self.output.journal())?;
        self.output.give_name(&self.root.duplicate()?)?;
        self.finished.store(true, Ordering::Relaxed);
        // Without it the bundle is as good, and its owner's alone to write.
        let _ = self.publish_all();
        Ok(())
    }

    /// Lets others write, as far as the umask says so.
    fn publish_all(&self) -> Result<()> {
        if self.permissions == Permissions::NotKept || umask() & 0o022 == 0o022 {
            return Ok(());
        }
        let folders = [self.root.folder(BLOBS)?, self.root.folder(SIGNATURES)?];
        for folder in [&self.root, &*self.blobs].into_iter().chain(&folders) {
            for entry in folder.entries(usize::MAX)?.iter().filter(|entry| is_file(entry)) {
                let (file, _) = folder.file(entry.name.to_str().unwrap_or_default())?;
                publish(&file, FileType::RegularFile, self.permissions, Publish::AfterRename)
                    .map_err(|e| folder.failed("change the mode of", &entry.name.to_string_lossy(), e))?;
            }
            self.publish(folder, FileType::Directory, Publish::AfterRename)?;
        }
        Ok(())
    }

    fn publish(&self, folder: &Directory, kind: FileType, when: Publish) -> Result<()> {
        publish(folder.fd(), kind, self.permissions, when).map_err(|e| folder.failed("change the mode of", ".", e))
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
        for folder in [Some(&*self.blobs), signatures.as_ref(), Some(&self.root)].into_iter().flatten() {
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

    fn foreign(&self, folder: &Directory, entry: &DirectoryEntry) -> Error {
        let path = folder.path().join(&entry.name);
        Error::new(
            Kind::Io,
            format!("{} is not of sealift's making and lies in the unfinished bundle", show(path.as_os_str())),
        )
        .hint(format!("move it away, then run the same command again; or remove all of {}", self.root.shown("")))
    }
}

impl Drop for PartialDirectory {
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
            let _ = journal::remove(self.output.parent(), &self.output.journal());
        }
    }
}

/// What an earlier run left that is of use, if it is what it seems.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Blobs of the right size, in bytes.
    pub(crate) whole: Vec<(Digest, u64)>,
    /// The room on the medium, in bytes, that the beginnings of others take up.
    pub(crate) parts: HashMap<Digest, u64>,
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

fn make_folder(parent: &Directory, name: &str) -> Result<Directory> {
    // Nothing is damaged yet where nothing is written yet.
    files::make_folder(parent, name).map_err(|e| {
        Error::new(Kind::Io, "cannot use what is there for the unfinished bundle")
            .caused_by(e)
            .hint("move it away, or choose another --output")
    })
}

/// The top-level files, the seal first.
const TOP: [&str; 4] = [SUMS, DESCRIPTOR, LAYOUT, INDEX];
