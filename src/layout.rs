//! An OCI image layout (image-spec, image-layout.md) as a store of named documents and of blobs.
//!
//! ```text
//! LAYOUT/
//!   oci-layout              {"imageLayoutVersion":"1.0.0"}
//!   index.json              one descriptor for each name; org.opencontainers.image.ref.name is the name
//!   blobs/sha256/<hex>      documents, configs and layers
//!   .upload-<random>        a blob on its way; swept away when it is two hours old
//!   .sealift.lock           where the file system has no locks: which process writes here
//! ```
//!
//! A sealed bundle directory is a layout too and is opened here read-only: nothing is looked at but the layout, so
//! this vouches for nothing. Below the layout's own path no link is ever followed.
//!
//! This module must not know of HTTP, of seals, or of who reads the layout.

mod index;
mod ingest;

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

pub use index::{Change, LayoutImage, Listing};
pub use ingest::Ingest;

use crate::error::{Error, Kind, Result};
use crate::files::{Directory, Lock, LockedBy, Stamp};
use crate::oci::{Descriptor, Digest, Document, MAX_DOCUMENT, MediaType, Name};

/// The largest `index.json` that is read or written, 16 MiB.
pub const MAX_INDEX: u64 = 16 << 20;

/// An open image layout. Reads go on while another process changes `index.json`; writers of this process take
/// turns, and of several processes one has [`Layout::create`]d it.
#[derive(Debug)]
pub struct Layout {
    path: PathBuf,
    root: OwnedFd,
    blobs: OwnedFd,
    sealed: bool,
    /// Held while `index.json` is rewritten.
    writer: Mutex<()>,
    listing: Mutex<Option<(Stamp, Arc<Listing>)>>,
    /// Of the one process that writes.
    _lock: Option<Lock>,
}

/// A blob's file, opened for reading.
#[derive(Debug)]
pub struct BlobFile {
    /// At offset 0.
    pub file: File,
    /// In bytes, when it was opened.
    pub size: u64,
}

impl Layout {
    /// Opens a layout that is there.
    ///
    /// # Errors
    /// `NotFound` when nothing is at `path`; `Damaged` when it is no layout of version 1.0.0.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let shown = path.display();
        let root = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| match e {
                Errno::NOENT => Error::not_found(format!("there is no directory {shown}"))
                    .hint("check the path, and whether the medium is mounted"),
                e => Error::io(format!("cannot open {shown}"), e.into()),
            })?;
        let no_layout = |e: Error| {
            Error::new(
                if e.kind() == Kind::NotFound { Kind::Damaged } else { e.kind() },
                format!("{shown} is not an OCI image layout"),
            )
            .caused_by(e)
            .hint("give a directory that holds oci-layout, index.json and blobs/sha256")
        };
        let version = read_small(&root, OCI_LAYOUT, MAX_OCI_LAYOUT).map_err(no_layout)?;
        index::check_version(&version).map_err(no_layout)?;
        let open_blobs = || {
            let blobs = open_dir(&root, "blobs")?;
            open_dir(&blobs, "sha256")
        };
        let blobs = open_blobs().map_err(no_layout)?;
        let sealed = rustix::fs::statat(&root, SUMS, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        let layout = Layout {
            path: path.to_owned(),
            root,
            blobs,
            sealed,
            writer: Mutex::default(),
            listing: Mutex::default(),
            _lock: None,
        };
        layout.listing()?;
        Ok(layout)
    }

    /// Opens the layout at `path` to write to it, made empty first when there is nothing or an empty directory. No other
    /// process can do so until it is dropped.
    ///
    /// # Errors
    /// `Usage` for a directory that holds something else; `Io` if another process writes to it.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let cannot = |e| Error::io(format!("cannot create the layout {}", path.display()), e);
        std::fs::create_dir_all(path).map_err(cannot)?;
        let lock = lock(path)?;
        if !path.join(OCI_LAYOUT).exists() {
            // What a killed `create` leaves: `oci-layout` comes last and is what makes it a layout.
            let ours = |name: &std::ffi::OsStr| name == "blobs" || name == INDEX || name == LOCK;
            if std::fs::read_dir(path).map_err(cannot)?.flatten().any(|entry| !ours(&entry.file_name())) {
                return Err(Error::usage(format!("{} is not empty and not an OCI image layout", path.display()))
                    .hint("name a new or empty directory"));
            }
            std::fs::create_dir_all(path.join("blobs/sha256")).map_err(cannot)?;
            if !path.join(INDEX).exists() {
                std::fs::write(path.join(INDEX), index::EMPTY).map_err(cannot)?;
            }
            std::fs::write(path.join(OCI_LAYOUT), index::VERSION).map_err(cannot)?;
        }
        Ok(Layout { _lock: lock, ..Layout::open(path)? })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a sealed bundle, which is never written to.
    pub fn sealed(&self) -> bool {
        self.sealed
    }

    /// Its images as `index.json` says now; the same `Arc` as before while the file is unchanged.
    pub fn listing(&self) -> Result<Arc<Listing>> {
        let mut cached = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        let file = open_file(&self.root, INDEX)?;
        let stat = rustix::fs::fstat(&file).map_err(|e| Error::io("cannot read index.json", e.into()))?;
        if let Some((stamp, listing)) = &*cached
            && *stamp == Stamp::from(&stat)
        {
            return Ok(listing.clone());
        }
        let bytes = read_limited(file, INDEX, MAX_INDEX)?;
        let listing = Arc::new(index::parse(&bytes)?);
        for note in &listing.notes {
            tracing::debug!("{}: {note}", self.path.display());
        }
        *cached = Some((Stamp::from(&stat), listing.clone()));
        Ok(listing)
    }

    /// Opens a blob. Its bytes are not verified.
    ///
    /// # Errors
    /// `NotFound` when it is not there; `Damaged` for anything but a regular file.
    pub fn blob(&self, digest: Digest) -> Result<BlobFile> {
        let file = open_file(&self.blobs, &digest.hex())?;
        let size = file.metadata().map_err(|e| Error::io(format!("cannot read blob {digest}"), e))?.len();
        Ok(BlobFile { file, size })
    }

    /// Reads a manifest or index, verifies its digest and parses it. `declared` is what a descriptor says of it;
    /// an empty media type when there is none.
    ///
    /// # Errors
    /// `NotFound` when it is not there; `Damaged` when it is larger than 4 MiB or does not have its digest, and as
    /// for [`Document::parse`].
    pub fn document(&self, digest: Digest, declared: &MediaType) -> Result<Document> {
        let bytes = read_small(&self.blobs, &digest.hex(), MAX_DOCUMENT)?;
        let found = Digest::of(&bytes);
        if found != digest {
            return Err(Error::damaged(format!("document {digest} has the digest {found}"))
                .hint("delete that blob from the layout and fetch it again"));
        }
        Document::parse_known(Bytes::from(bytes), declared, digest)
    }

    /// A place for a blob of which not even the digest need be known yet.
    pub fn ingest(&self) -> Result<Ingest> {
        self.check_writable()?;
        Ingest::new(&self.path)
    }

    /// Gives a blob its place if its bytes have the digest `expected`; returns its size in bytes. On any failure
    /// nothing is left behind.
    ///
    /// # Errors
    /// `Damaged` when the digest is another.
    pub fn commit(&self, ingest: Ingest, expected: Digest) -> Result<u64> {
        self.check_writable()?;
        ingest.commit(&self.blobs, expected)
    }

    /// Adds a blob whose bytes must have the digest `expected`; returns its size in bytes.
    pub fn add_blob(&self, bytes: &mut dyn Read, expected: Digest) -> Result<u64> {
        let mut ingest = self.ingest()?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match bytes.read(&mut buffer) {
                Ok(0) => return self.commit(ingest, expected),
                Ok(count) => ingest.write(&buffer[..count])?,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io(format!("cannot read blob {expected}"), e)),
            }
        }
    }

    /// Lets `name` mean the document that `descriptor` describes, and nothing else.
    pub fn tag(&self, name: Name, descriptor: Descriptor) -> Result<()> {
        self.apply(&[Change::Set(name, descriptor)])
    }

    /// Takes a name away; says whether it was there. Blobs stay.
    pub fn untag(&self, name: &Name) -> Result<bool> {
        let there = self.listing()?.images.iter().any(|image| image.name == *name);
        if there {
            self.apply(&[Change::Remove(name.clone())])?;
        }
        Ok(there)
    }

    /// Makes all `changes` or none. What `index.json` says beyond them is kept.
    pub fn apply(&self, changes: &[Change]) -> Result<()> {
        self.check_writable()?;
        let _turn = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = read_small(&self.root, INDEX, MAX_INDEX)?;
        let bytes = index::edit(&bytes, changes)?;
        if bytes.len() as u64 > MAX_INDEX {
            return Err(Error::refused(format!("index.json would be larger than {MAX_INDEX} bytes"))
                .hint("put some of the images into another layout"));
        }
        let mut ingest = Ingest::new(&self.path)?;
        ingest.write(&bytes)?;
        ingest.replace(&self.root, INDEX)
    }

    /// Removes what killed runs left of blobs on their way.
    pub fn sweep(&self) -> Result<()> {
        self.check_writable()?;
        let cannot = |e| Error::io(format!("cannot list {}", self.path.display()), e);
        for entry in std::fs::read_dir(&self.path).map_err(cannot)? {
            let entry = entry.map_err(cannot)?;
            let old = |modified: SystemTime| modified.elapsed().is_ok_and(|age| age > ABANDONED);
            if entry.file_name().as_encoded_bytes().starts_with(ingest::PREFIX.as_bytes())
                && entry.metadata().and_then(|m| m.modified()).is_ok_and(old)
            {
                std::fs::remove_file(entry.path())
                    .map_err(|e| Error::io(format!("cannot remove {}", entry.path().display()), e))?;
            }
        }
        Ok(())
    }

    fn check_writable(&self) -> Result<()> {
        if self.sealed {
            return Err(Error::refused(format!(
                "{} is a sealed bundle: writing to it would break its seal",
                self.path.display()
            ))
            .hint("copy its images into a new layout and write to that"));
        }
        Ok(())
    }
}

/// Keeps other processes from writing to the layout at `path`. Nothing is written to a sealed bundle, not even this.
fn lock(path: &Path) -> Result<Option<Lock>> {
    if path.join(SUMS).symlink_metadata().is_ok() {
        return Ok(None);
    }
    let (folder, shown) = (Directory::open(path)?, path.display().to_string());
    let by = LockedBy { job: "sealift serve", shown: &shown, instead: "directory" };
    Lock::take(folder.duplicate()?, &folder, LOCK, by).map(Some)
}

fn open_dir(at: &OwnedFd, name: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty()).map_err(|e| open_error(name, e))
}

/// A regular file that is not a link. Non-blocking, so that a FIFO cannot hold the caller.
fn open_file(at: &OwnedFd, name: &str) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(at, name, flags, Mode::empty()).map_err(|e| open_error(name, e))?;
    let stat = rustix::fs::fstat(&file).map_err(|e| Error::io(format!("cannot open {name}"), e.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::damaged(format!("{name} is not a regular file")));
    }
    Ok(File::from(file))
}

fn open_error(name: &str, errno: Errno) -> Error {
    match errno {
        Errno::NOENT => Error::not_found(format!("there is no {name}")),
        Errno::LOOP | Errno::NOTDIR => Error::damaged(format!("{name} is a link or not what it should be")),
        e => Error::io(format!("cannot open {name}"), e.into()),
    }
}

fn read_small(at: &OwnedFd, name: &str, limit: u64) -> Result<Vec<u8>> {
    read_limited(open_file(at, name)?, name, limit)
}

fn read_limited(file: File, name: &str, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| Error::io(format!("cannot read {name}"), e))?;
    if bytes.len() as u64 > limit {
        return Err(Error::damaged(format!("{name} is larger than {limit} bytes")));
    }
    Ok(bytes)
}

const SUMS: &str = "SHA256SUMS";
const LOCK: &str = ".sealift.lock";
const OCI_LAYOUT: &str = "oci-layout";
const MAX_OCI_LAYOUT: u64 = 4 << 10;
const INDEX: &str = "index.json";
/// An upload session lives an hour after its last request.
const ABANDONED: Duration = Duration::from_secs(2 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(bytes: &[u8]) -> Descriptor {
        Descriptor {
            media_type: MediaType::new(MediaType::OCI_INDEX),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            platform: None,
            artifact_type: None,
            annotations: None,
        }
    }

    fn files(path: &Path) -> usize {
        walkdir::WalkDir::new(path).into_iter().filter(|e| e.as_ref().unwrap().file_type().is_file()).count()
    }

    #[test]
    fn names_and_blobs_survive_reopening_and_the_rest_of_the_index_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("layout");
        let layout = Layout::create(&path).unwrap();
        std::fs::write(
            path.join(INDEX),
            r#"{"schemaVersion":2,"x":{"y":1},"manifests":[{"mediaType":"m","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0,"annotations":{"org.opencontainers.image.ref.name":"latest"}}]}"#,
        )
        .unwrap();
        let document = br#"{"schemaVersion":2,"manifests":[]}"#;
        assert_eq!(layout.add_blob(&mut &document[..], Digest::of(document)).unwrap(), document.len() as u64);
        let name: Name = "ns/app:1".parse().unwrap();
        layout.tag(name.clone(), descriptor(document)).unwrap();

        let error = Layout::create(&path).unwrap_err();
        assert!(error.chain().contains("another sealift serve"), "one process writes at a time: {error:?}");
        let again = Layout::open(&path).unwrap();
        let listing = again.listing().unwrap();
        assert_eq!(listing.images.len(), 1);
        assert_eq!(listing.images[0].name, name);
        assert_eq!(listing.notes.len(), 1, "the name without a repository is noted");
        assert_eq!(again.document(Digest::of(document), &MediaType::new("")).unwrap().bytes(), &document[..]);
        assert!(Arc::ptr_eq(&listing, &again.listing().unwrap()), "an unchanged index is not read again");

        assert!(again.untag(&name).unwrap());
        assert!(!again.untag(&name).unwrap());
        let raw = std::fs::read_to_string(path.join(INDEX)).unwrap();
        assert!(raw.contains(r#""x":{"y":1}"#) && raw.contains("latest") && !raw.contains("ns/app"), "{raw}");
        assert!(layout.listing().unwrap().images.is_empty(), "another instance's change is seen");
    }

    #[test]
    fn a_blob_with_another_digest_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let before = files(dir.path());
        let error = layout.add_blob(&mut &b"one"[..], Digest::of(b"two")).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged);
        assert_eq!(files(dir.path()), before);
    }

    #[test]
    fn links_and_fifos_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let blob = |bytes: &[u8]| dir.path().join("blobs/sha256").join(Digest::of(bytes).hex());
        std::os::unix::fs::symlink("/etc/hostname", blob(b"link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, blob(b"fifo"), Mode::RUSR).unwrap();
        std::fs::create_dir(blob(b"dir")).unwrap();
        for name in [&b"link"[..], b"fifo", b"dir"] {
            assert_eq!(layout.blob(Digest::of(name)).unwrap_err().kind(), Kind::Damaged);
        }
        assert_eq!(layout.blob(Digest::of(b"absent")).unwrap_err().kind(), Kind::NotFound);
    }

    #[test]
    fn a_document_is_refused_when_its_bytes_changed_or_it_is_too_large() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let digest = Digest::of(b"{}");
        std::fs::write(dir.path().join("blobs/sha256").join(digest.hex()), b"{ }").unwrap();
        let large = vec![b' '; MAX_DOCUMENT as usize + 1];
        layout.add_blob(&mut &large[..], Digest::of(&large)).unwrap();
        for digest in [digest, Digest::of(&large)] {
            assert_eq!(layout.document(digest, &MediaType::new("")).unwrap_err().kind(), Kind::Damaged);
        }
    }

    #[test]
    fn a_sealed_bundle_is_read_and_never_written() {
        let dir = tempfile::tempdir().unwrap();
        drop(Layout::create(dir.path()).unwrap());
        std::fs::write(dir.path().join("SHA256SUMS"), "").unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        assert_eq!(layout.ingest().unwrap_err().kind(), Kind::Refused);
        assert_eq!(layout.tag("a:1".parse().unwrap(), descriptor(b"")).unwrap_err().kind(), Kind::Refused);
    }

    #[test]
    fn only_what_a_killed_run_left_long_ago_is_swept_away() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let before = files(dir.path());
        let current = layout.ingest().unwrap();
        let left = File::create(dir.path().join(".upload-left")).unwrap();
        left.set_modified(SystemTime::now() - 2 * ABANDONED).unwrap();
        layout.sweep().unwrap();
        assert_eq!(files(dir.path()), before + 1);
        layout.commit(current, Digest::of(b"")).unwrap();
    }

    #[test]
    fn only_a_layout_or_an_empty_directory_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Layout::open(dir.path()).unwrap_err().kind(), Kind::Damaged);
        assert_eq!(Layout::open(dir.path().join("absent")).unwrap_err().kind(), Kind::NotFound);
        std::fs::write(dir.path().join("letter.txt"), "").unwrap();
        assert_eq!(Layout::create(dir.path()).unwrap_err().kind(), Kind::Usage);
    }
}
