//! A bundle directory in the making.
//!
//! Everything is written into `.NAME.partial` beside the place where the bundle will be, and stays there when a run
//! is killed: the next run re-hashes what it finds and goes on. The seal is written when all else is durable, and
//! the directory gets its name last, so that nothing half-done looks done.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::archive::journal::{self, Journal, Recalled};
use super::files::{HASHERS, StopOnDrop, blocking, show};
use super::sealing;
use super::source::{hash_blob, stream_blob};
use super::workshop::Workshop;
use crate::error::{Error, Result};
use crate::oci::Digest;
use crate::place::{BlobId, Body, Chunks, Contents, Destination, LandingId, Linked, Order, Presence, ScopeId};
use crate::trust::SigningKey;

/// Writes one bundle directory.
#[derive(Debug)]
pub struct DirectoryWriter {
    output: PathBuf,
    keys: Arc<Vec<SigningKey>>,
    created: Timestamp,
    /// What was asked for, if a plan is to be kept for it.
    request: Option<Digest>,
    /// Until it is prepared.
    site: Mutex<Option<(Workshop, Option<Recalled>)>>,
    ready: OnceLock<Ready>,
}

#[derive(Debug)]
struct Ready {
    workshop: Arc<Workshop>,
    created: Timestamp,
    /// Signed before the first byte is fetched, so that a passphrase is asked for while someone is there.
    sealed: Arc<sealing::Sealed>,
    /// The blobs and documents that are in the workshop, verified.
    there: Mutex<HashSet<Digest>>,
}

impl DirectoryWriter {
    /// A bundle that will be at `output`, signed with `keys`. `created` is written into it, in whole seconds: the
    /// same contents, keys and time give the same bytes.
    ///
    /// # Errors
    /// `Usage` if there is no key, one twice, or more than a bundle can hold signatures; or if `output` has no name.
    pub fn new(output: PathBuf, keys: Vec<SigningKey>, created: Timestamp) -> Result<DirectoryWriter> {
        sealing::check_keys(&keys)?;
        if output.file_name().is_none() {
            return Err(Error::usage(format!("{} cannot be the name of a bundle", show(output.as_os_str())))
                .hint("give the path of a directory that does not exist yet"));
        }
        let (site, ready) = (Mutex::default(), OnceLock::new());
        Ok(DirectoryWriter { output, keys: Arc::new(keys), created, request: None, site, ready })
    }

    /// `request` stands for what was asked for: an earlier run for the same request is taken up as it was planned.
    #[must_use]
    pub fn for_request(mut self, request: Digest) -> DirectoryWriter {
        self.request = Some(request);
        self
    }

    /// What an earlier run for the same request planned and did not finish; to be given to
    /// [`Destination::prepare`]. Checks also that the bundle can be written where it is to be.
    ///
    /// # Errors
    /// `Io` if the output exists, cannot be written, or another run writes it.
    pub fn recall(&self) -> Result<Option<Contents>> {
        let (workshop, mut recalled) = self.open()?;
        let same = recalled.as_mut().filter(|recalled| self.request.is_some() && recalled.request == self.request);
        let contents = same.and_then(|recalled| recalled.contents.take());
        *self.site.lock().unwrap_or_else(PoisonError::into_inner) = Some((workshop, recalled));
        Ok(contents)
    }

    fn open(&self) -> Result<(Workshop, Option<Recalled>)> {
        let workshop = Workshop::open(&self.output)?;
        let recalled = Journal::recall(workshop.parent(), &workshop.journal_name())?;
        Ok((workshop, recalled.filter(|recalled| recalled.is_signed_by(&self.keys))))
    }

    /// Where the bundle will be.
    pub fn output(&self) -> &Path {
        &self.output
    }

    /// The identity of the bundle: known from [`Destination::prepare`] on, unless images are dropped after it.
    pub fn identity(&self) -> Option<Digest> {
        self.ready.get().map(|ready| ready.sealed.identity())
    }

    fn ready(&self) -> Result<&Ready> {
        self.ready.get().ok_or_else(|| Error::new(crate::error::Kind::Io, "the bundle was not prepared for writing"))
    }

    async fn seal(&self, head: sealing::HeadFiles) -> Result<sealing::Sealed> {
        let keys = self.keys.clone();
        // May wait for a passphrase or a touch.
        blocking(move || head.seal(&keys)).await
    }
}

#[async_trait]
impl Destination for DirectoryWriter {
    fn order(&self) -> Order {
        Order::Any
    }

    async fn prepare(&self, contents: &Contents) -> Result<HashSet<BlobId>> {
        if self.ready.get().is_some() {
            return Err(Error::new(crate::error::Kind::Io, "the bundle was prepared twice"));
        }
        // What cannot be carried is told before anything is made.
        sealing::HeadFiles::new(contents, self.created)?;
        let site = self.site.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (workshop, recalled) = match site {
            Some(site) => site,
            None => self.open()?,
        };
        let workshop = Arc::new(workshop);
        let (created, sealed, left) = journal::seal(contents, self.created, &self.keys, self.request, recalled).await?;
        let sealed = Arc::new(sealed);
        let kept = self.keep(&workshop, contents).await?;
        let documents: u64 = contents.document_order.iter().filter_map(|digest| contents.documents.size(*digest)).sum();
        let blobs: u64 = contents.blob_ids().filter(|id| !kept.contains(id)).map(|id| contents.blob(id).size).sum();
        workshop.check_space(blobs + documents + sealed.size())?;
        if let (None, Some(request)) = (left, self.request) {
            Journal::begin(workshop.parent(), &workshop.journal_name(), request, &sealed, contents)?;
        }
        let there = kept.iter().map(|id| contents.blob(*id).digest).collect();
        let ready = Ready { workshop, created, sealed, there: Mutex::new(there) };
        if self.ready.set(ready).is_err() {
            return Err(Error::new(crate::error::Kind::Io, "the bundle was prepared twice"));
        }
        Ok(kept)
    }

    async fn presence(&self, contents: &Contents, blob: BlobId, _: ScopeId) -> Result<Presence> {
        let there = self.ready()?.there().contains(&contents.blob(blob).digest);
        Ok(if there { Presence::Here } else { Presence::Absent })
    }

    async fn put(&self, contents: &Contents, blob: BlobId, _: ScopeId, body: &mut Body) -> Result<()> {
        let ready = self.ready()?;
        let blob = contents.blob(blob);
        let mut chunks = body.open().await?;
        let mut part = ready.workshop.part(blob.digest, blob.size)?;
        while let Some(chunk) = chunks.next().await {
            part.write(&chunk?)?;
        }
        part.finish(&blob.digest.hex())?;
        ready.there().insert(blob.digest);
        Ok(())
    }

    async fn link(&self, _: &Contents, _: BlobId, _: ScopeId, _: ScopeId) -> Result<Linked> {
        Ok(Linked::Done)
    }

    async fn read_back(&self, contents: &Contents, blob: BlobId, _: ScopeId) -> Result<Chunks> {
        let blob = contents.blob(blob);
        stream_blob(self.ready()?.workshop.root(), blob.digest, blob.size, 0)
    }

    async fn land(&self, contents: &Contents, landing: LandingId) -> Result<()> {
        let ready = self.ready()?;
        let digest = contents.landing(landing).document;
        if ready.there().contains(&digest) {
            return Ok(());
        }
        let (bytes, _): (Bytes, _) = contents.documents.get(digest)?;
        // Several landings of one document may run at once: only one of them makes the file.
        if !ready.there().insert(digest) {
            return Ok(());
        }
        let written = write_whole(&ready.workshop, digest, &bytes);
        if written.is_err() {
            ready.there().remove(&digest);
        }
        written
    }

    async fn commit(&self, contents: &Contents) -> Result<()> {
        let ready = self.ready()?;
        let head = sealing::HeadFiles::new(contents, ready.created)?;
        // Images may have been dropped since the plan was sealed.
        let sealed = if head.identity() == ready.sealed.identity() {
            ready.sealed.clone()
        } else {
            Arc::new(self.seal(head).await?)
        };
        let sizes = sealing::sizes(contents);
        let there = ready.there().clone();
        if let Some(digest) = sizes.keys().find(|digest| !there.contains(*digest)) {
            return Err(Error::new(crate::error::Kind::Io, format!("cannot seal: {digest} was not written")));
        }
        let workshop = ready.workshop.clone();
        blocking(move || workshop.finish(&sizes, &sealed)).await
    }
}

impl Ready {
    fn there(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DirectoryWriter {
    /// Re-hashes what an earlier run left, several at once, and removes what is not of use.
    async fn keep(&self, workshop: &Arc<Workshop>, contents: &Contents) -> Result<HashSet<BlobId>> {
        let wanted = contents.blob_ids().map(|id| (contents.blob(id).digest, contents.blob(id).size)).collect();
        let candidates = workshop.clear(&wanted)?;
        let stop = StopOnDrop::default();
        let hashed: Vec<Option<Digest>> = stream::iter(candidates.into_iter().map(|(digest, size)| {
            let (workshop, stopped) = (workshop.clone(), stop.0.clone());
            blocking(move || {
                let go_on = || !stopped.load(Ordering::Relaxed);
                if hash_blob(workshop.root(), digest, size, go_on)? {
                    return Ok(Some(digest));
                }
                workshop.remove_blob(digest)?;
                Ok(None)
            })
        }))
        .buffer_unordered(std::thread::available_parallelism().map_or(2, usize::from).min(HASHERS))
        .try_collect()
        .await?;
        let kept: HashSet<Digest> = hashed.into_iter().flatten().collect();
        Ok(contents.blob_ids().filter(|id| kept.contains(&contents.blob(*id).digest)).collect())
    }
}

fn write_whole(workshop: &Workshop, digest: Digest, bytes: &[u8]) -> Result<()> {
    let mut part = workshop.part(digest, bytes.len() as u64)?;
    part.write(bytes)?;
    part.finish(&digest.hex())
}
