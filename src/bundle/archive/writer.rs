//! An archive in the making: `.BUNDLE.tar.partial`, at its full length from the beginning.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use rustix::fs::{Advice, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use super::super::files::{Folder, HASHERS, Reading, StopOnDrop, blocking, is_same, remove, show};
use super::super::sealing::{self, HeadFiles, Sealed};
use super::super::source::blob_path;
use super::super::workshop::{check_space, exists, give_name, lock, open_parent};
use super::chain::{Chain, ZEROS, head_length, seal_length, write_head, write_seal};
use super::journal::{self, Journal, Recalled};
use super::members::{BLOCK, END, header, padding, shown_member};
use crate::error::{Error, Kind, Result};
use crate::oci::Digest;
use crate::place::{BlobId, Body, Chunks, Contents, Destination, LandingId, Linked, Order, Presence, ScopeId};
use crate::trust::SigningKey;

/// Writes one `BUNDLE.tar`, its layers in parallel straight to where they belong.
#[derive(Debug)]
pub struct ArchiveWriter {
    output: PathBuf,
    keys: Arc<Vec<SigningKey>>,
    created: Timestamp,
    request: Digest,
    /// Until it is prepared.
    site: Mutex<Option<Site>>,
    ready: OnceLock<Ready>,
}

#[derive(Debug)]
struct Ready {
    site: Arc<Site>,
    journal: Journal,
    created: Timestamp,
    sealed: Arc<Sealed>,
    chain: Chain,
    /// The blobs that are in the file, verified.
    there: Mutex<HashSet<BlobId>>,
}

impl ArchiveWriter {
    /// A bundle that will be the file `output`, signed with `keys`. `created` is written into it, in whole seconds:
    /// the same contents, keys and time give the same bytes. `request` stands for what was asked for: an earlier run
    /// for the same request is taken up as it was planned.
    ///
    /// # Errors
    /// `Usage` if there is no key, one twice, or more than a bundle can hold signatures; or if `output` has no name.
    pub fn new(output: PathBuf, keys: Vec<SigningKey>, created: Timestamp, request: Digest) -> Result<ArchiveWriter> {
        sealing::check_keys(&keys)?;
        if output.file_name().is_none() {
            return Err(Error::usage(format!("{} cannot be the name of a bundle", show(output.as_os_str())))
                .hint("give the path of a file that does not exist yet"));
        }
        let (site, ready) = (Mutex::default(), OnceLock::new());
        Ok(ArchiveWriter { output, keys: Arc::new(keys), created, request, site, ready })
    }

    /// What an earlier run for the same request planned and did not finish; to be given to
    /// [`Destination::prepare`]. Checks also that the bundle can be written where it is to be.
    ///
    /// # Errors
    /// `Io` if the output exists, cannot be written, or another run writes it.
    pub fn recall(&self) -> Result<Option<Contents>> {
        let mut site = Site::open(&self.output, &self.keys)?;
        let recalled = site.recalled.as_mut().filter(|recalled| recalled.request == Some(self.request));
        let contents = recalled.and_then(|recalled| recalled.contents.take());
        *self.site.lock().unwrap_or_else(PoisonError::into_inner) = Some(site);
        Ok(contents)
    }

    /// The identity of the bundle: known from [`Destination::prepare`] on.
    pub fn identity(&self) -> Option<Digest> {
        self.ready.get().map(|ready| ready.sealed.identity())
    }

    fn ready(&self) -> Result<&Ready> {
        self.ready.get().ok_or_else(|| Error::new(Kind::Io, "the bundle was not prepared for writing"))
    }
}

#[async_trait]
impl Destination for ArchiveWriter {
    /// In rising order where a hole would be filled with zeros first.
    fn order(&self) -> Order {
        match self.ready.get() {
            Some(ready) if !ready.site.holes => Order::AsPlanned,
            _ => Order::Any,
        }
    }

    async fn prepare(&self, contents: &Contents) -> Result<HashSet<BlobId>> {
        let site = self.site.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut site = match site {
            Some(site) => site,
            None if self.ready.get().is_some() => return Err(Error::new(Kind::Io, "the bundle was prepared twice")),
            None => Site::open(&self.output, &self.keys)?,
        };
        let recalled = site.recalled.take();
        let (created, sealed, left) =
            journal::seal(contents, self.created, &self.keys, Some(self.request), recalled).await?;
        let seal = seal_length(&sealed);
        let chain = Chain::new(seal + head_length(&sealed, contents), contents);
        site.check_length(chain.length())?;
        if left.is_none() {
            site.file.set_len(0).map_err(|e| site.failed(e))?;
        } else if site.length()? > 0 {
            // A seal that is there already would vouch for what is not made durable yet.
            site.write(0, &ZEROS[..BLOCK as usize])?;
        }
        site.check_space(chain.length())?;
        let (done, journal) = left.map_or_else(Default::default, |left| (left.done, left.journal));
        let journal = match journal {
            Some(journal) => journal,
            None => Journal::begin(&site.parent, &site.journal_name, self.request, &sealed, contents)?,
        };
        site.allocate(chain.length())?;
        let mut region = Region::new(&site, seal);
        write_head(&sealed, contents, &mut |bytes| region.write(bytes))?;
        region.finish()?;
        let kept = keep(&site, &chain, contents, &done).await?;
        site.worth.store(!kept.is_empty(), Ordering::Relaxed);
        let there = Mutex::new(kept.clone());
        let ready = Ready { site: Arc::new(site), journal, created, sealed: Arc::new(sealed), chain, there };
        if self.ready.set(ready).is_err() {
            return Err(Error::new(Kind::Io, "the bundle was prepared twice"));
        }
        Ok(kept)
    }

    async fn presence(&self, _: &Contents, blob: BlobId, _: ScopeId) -> Result<Presence> {
        let there = self.ready()?.there().contains(&blob);
        Ok(if there { Presence::Here } else { Presence::Absent })
    }

    async fn put(&self, contents: &Contents, id: BlobId, _: ScopeId, body: &mut Body) -> Result<()> {
        let ready = self.ready()?;
        let blob = contents.blob(id);
        let mut chunks = body.open().await?;
        let mut region = Region::new(&ready.site, ready.chain.blob(id) - BLOCK);
        region.write(&header(&blob_path(blob.digest), blob.size))?;
        while let Some(chunk) = chunks.next().await {
            region.write(&chunk?)?;
        }
        region.write(&ZEROS[..padding(blob.size) as usize])?;
        region.finish()?;
        ready.journal.done(blob.digest)?;
        ready.site.worth.store(true, Ordering::Relaxed);
        ready.there().insert(id);
        Ok(())
    }

    async fn link(&self, _: &Contents, _: BlobId, _: ScopeId, _: ScopeId) -> Result<Linked> {
        Ok(Linked::Done)
    }

    async fn read_back(&self, contents: &Contents, id: BlobId, _: ScopeId) -> Result<Chunks> {
        let ready = self.ready()?;
        Ok(ready.site.reading(&ready.chain, contents, id)?.stream())
    }

    async fn land(&self, _: &Contents, _: LandingId) -> Result<()> {
        // Documents are written when the archive is planned.
        self.ready().map(drop)
    }

    async fn commit(&self, contents: &Contents) -> Result<()> {
        let ready = self.ready()?;
        if HeadFiles::new(contents, ready.created)?.identity() != ready.sealed.identity() {
            return Err(Error::new(Kind::Io, "images were dropped after the archive was planned")
                .hint("export to a directory, or run the same command again without them"));
        }
        {
            let there = ready.there();
            if let Some(id) = contents.blob_ids().find(|id| !there.contains(id)) {
                let digest = contents.blob(id).digest;
                return Err(Error::new(Kind::Io, format!("cannot seal: {digest} was not written")));
            }
        }
        let (site, sealed, end) = (ready.site.clone(), ready.sealed.clone(), ready.chain.end);
        blocking(move || site.finish(&sealed, end)).await
    }
}

impl Ready {
    fn there(&self) -> MutexGuard<'_, HashSet<BlobId>> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hashes again what is said to be there.
async fn keep(site: &Site, chain: &Chain, contents: &Contents, done: &[Digest]) -> Result<HashSet<BlobId>> {
    let done: HashSet<&Digest> = done.iter().collect();
    let stop = StopOnDrop::default();
    let said = contents.blob_ids().filter(|id| done.contains(&contents.blob(*id).digest));
    let readings: Vec<_> =
        said.map(|id| Ok((id, contents.blob(id).digest, site.reading(chain, contents, id)?))).collect::<Result<_>>()?;
    let hashed: Vec<Option<BlobId>> = stream::iter(readings.into_iter().map(|(id, digest, reading)| {
        let stopped = stop.0.clone();
        blocking(move || match reading.has(digest, || !stopped.load(Ordering::Relaxed)) {
            Ok(has) => Ok(has.then_some(id)),
            // It ends before that.
            Err(e) if e.kind() == Kind::Damaged => Ok(None),
            Err(e) => Err(e),
        })
    }))
    .buffer_unordered(std::thread::available_parallelism().map_or(2, usize::from).min(HASHERS))
    .try_collect()
    .await?;
    Ok(hashed.into_iter().flatten().collect())
}

/// The place where the archive is made: the locked file, and its journal.
#[derive(Debug)]
struct Site {
    parent: Folder,
    output: PathBuf,
    name: OsString,
    journal_name: String,
    /// Locked.
    file: Arc<File>,
    /// Whether the file system leaves holes where nothing was written.
    holes: bool,
    recalled: Option<Recalled>,
    /// Whether something was fetched that is worth keeping.
    worth: AtomicBool,
}

impl Site {
    /// Opens what is there, or makes it, and locks it.
    fn open(output: &Path, keys: &[SigningKey]) -> Result<Site> {
        let shown = show(output.as_os_str());
        let file_name = output.file_name().ok_or_else(|| Error::usage(format!("{shown} is no name of a bundle")))?;
        let file_name = file_name.to_str().ok_or_else(|| {
            Error::usage(format!("{shown} is not UTF-8")).hint("give the bundle a name in plain characters")
        })?;
        if output.symlink_metadata().is_ok() {
            return Err(exists(&shown));
        }
        let parent = open_parent(output)?;
        let name = format!(".{file_name}.partial");
        let journal_name = format!(".{file_name}.journal");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent.fd(), &name, flags, Mode::from_raw_mode(0o644))
            .map(File::from)
            .map_err(|e| parent.failed("create", &name, e))?;
        let metadata = file.metadata().map_err(|e| Error::io(format!("cannot look at {}", parent.shown(&name)), e))?;
        if !metadata.is_file() {
            return Err(Error::new(Kind::Io, format!("{} is not a regular file", parent.shown(&name)))
                .hint("move it away, or choose another --output"));
        }
        lock(&file, &shown)?;
        // Whoever had the lock before may have finished, and this file have its final name now.
        if !parent.look(OsStr::new(&name))?.is_some_and(|stat| is_same(&file, &stat)) {
            return Err(exists(&shown));
        }
        let file = Arc::new(file);
        let recalled = match Journal::recall(&parent, &journal_name)? {
            Some(recalled) => Some(recalled),
            None if metadata.len() > 0 => Journal::recall_sealed(&file, &parent.shown(&name)),
            None => None,
        };
        let recalled = recalled.filter(|recalled| recalled.is_signed_by(keys));
        let worth = AtomicBool::new(recalled.as_ref().is_some_and(|recalled| !recalled.done.is_empty()));
        let holes = !is_fat(&parent);
        let name = OsString::from(name);
        Ok(Site { parent, output: output.to_owned(), name, journal_name, file, holes, recalled, worth })
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::io(format!("cannot write {}", self.parent.shown(&self.name)), error)
    }

    fn length(&self) -> Result<u64> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(|e| self.failed(e))
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|e| Error::io(format!("cannot write {} at byte {offset}", self.parent.shown(&self.name)), e))
    }

    /// Refuses what the file system has no room for in one file.
    fn check_length(&self, length: u64) -> Result<()> {
        if !self.holes && is_fat32(&self.parent) && length > FAT32_LARGEST {
            return Err(Error::new(
                Kind::Io,
                format!(
                    "the bundle would have {length} bytes, and a file in {} has at most {FAT32_LARGEST} (FAT32)",
                    self.parent.shown("")
                ),
            )
            .hint("format the medium with exFAT, export to a directory, or export fewer images"));
        }
        Ok(())
    }

    fn check_space(&self, length: u64) -> Result<()> {
        use std::os::unix::fs::MetadataExt;
        let allocated = self.file.metadata().map_err(|e| self.failed(e))?.blocks() * 512;
        check_space(&self.parent, &self.parent, length.saturating_sub(allocated))
    }

    /// Gives the file its length, and room for it where the medium can promise that.
    fn allocate(&self, length: u64) -> Result<()> {
        if !self.holes {
            return Ok(());
        }
        match rustix::fs::fallocate(&*self.file, FallocateFlags::empty(), 0, length) {
            Err(e @ (Errno::NOSPC | Errno::FBIG | Errno::DQUOT)) => Err(self.failed(e.into())),
            _ => self.file.set_len(length).map_err(|e| self.failed(e)),
        }
    }

    fn reading(&self, chain: &Chain, contents: &Contents, id: BlobId) -> Result<Reading> {
        let (blob, offset) = (contents.blob(id), chain.blob(id));
        let shown = shown_member(&self.parent.shown(&self.name), &blob_path(blob.digest)).into();
        let file = self.file.try_clone().map_err(|e| self.failed(e))?;
        Ok(Reading { file, shown, offset, end: offset + blob.size })
    }

    /// Makes everything durable, seals it, and gives it its name.
    fn finish(&self, sealed: &Sealed, end: u64) -> Result<()> {
        let sync = || rustix::fs::fdatasync(&*self.file).map_err(|e| self.failed(e.into()));
        self.write(end, &ZEROS)?;
        if self.length()? != end + END {
            return Err(Error::new(Kind::Io, format!("{} has another length", self.parent.shown(&self.name)))
                .hint("something else works on that file: let it end, then run the same command again"));
        }
        sync()?;
        let mut region = Region::new(self, 0);
        write_seal(sealed, &mut |bytes| region.write(bytes))?;
        region.finish()?;
        sync()?;
        // Without a journal, what is sealed is known by its seal.
        Journal::remove(&self.parent, &self.journal_name)?;
        give_name(&self.parent, &self.name, &self.output)
    }
}

impl Drop for Site {
    /// A run that fetched nothing leaves nothing.
    fn drop(&mut self) {
        let unfinished = self.parent.look(&self.name).ok().flatten().is_some_and(|stat| is_same(&self.file, &stat));
        if unfinished && !*self.worth.get_mut() {
            let _ = remove(&self.parent, &self.name);
            let _ = Journal::remove(&self.parent, &self.journal_name);
        }
    }
}

/// A part of the file that is written from its beginning to its end, in large pieces.
struct Region<'a> {
    site: &'a Site,
    /// Where the buffer belongs.
    offset: u64,
    buffer: Vec<u8>,
    flushed: u64,
}

impl<'a> Region<'a> {
    fn new(site: &'a Site, offset: u64) -> Region<'a> {
        Region { site, offset, buffer: Vec::new(), flushed: offset }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() >= BUFFER {
            self.drain()?;
        }
        if bytes.len() >= BUFFER {
            return self.write_out(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.drain()?;
        if self.offset - self.flushed >= WORTH_FLUSHING {
            self.flush();
        }
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
        self.site.write(self.offset, bytes)?;
        self.offset += bytes.len() as u64;
        if self.offset - self.flushed >= FLUSH {
            self.flush();
        }
        Ok(())
    }

    /// Starts writing to the medium without waiting for it: else all of it is written in one long sync.
    fn flush(&mut self) {
        let length = std::num::NonZeroU64::new(self.offset - self.flushed);
        let _ = rustix::fs::fadvise(&*self.site.file, self.flushed, length, Advice::DontNeed);
        self.flushed = self.offset;
    }
}

/// FAT and exFAT fill holes with zeros: a file is written there from its beginning to its end.
fn is_fat(folder: &Folder) -> bool {
    matches!(magic(folder), Some(MSDOS | EXFAT))
}

fn is_fat32(folder: &Folder) -> bool {
    magic(folder) == Some(MSDOS)
}

#[cfg(target_os = "linux")]
fn magic(folder: &Folder) -> Option<u64> {
    rustix::fs::fstatfs(folder.fd()).ok().map(|stat| stat.f_type as u64)
}

#[cfg(not(target_os = "linux"))]
fn magic(_: &Folder) -> Option<u64> {
    None
}

/// statfs(2): `f_type` of FAT and exFAT.
const MSDOS: u64 = 0x4d44;
const EXFAT: u64 = 0x2011_bab0;
/// The largest file of FAT32, in bytes: 4 GiB - 1.
const FAT32_LARGEST: u64 = u32::MAX as u64;
/// Smaller pieces (256 KiB) are gathered before they are written.
const BUFFER: usize = 256 << 10;
/// After so many bytes (64 MiB) writing to the medium is started.
const FLUSH: u64 = 64 << 20;
/// The end of a blob is not waited for if there is so much (1 MiB) of it.
const WORTH_FLUSHING: u64 = 1 << 20;
