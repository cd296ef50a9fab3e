//! A bundle directory in the making.
//!
//! Everything is written into `.NAME.partial` beside the place where the bundle will be, and stays there when a run
//! is killed: the next run re-hashes what it finds and goes on. The seal is written when all else is durable, and
//! the directory gets its name last, so that nothing half-done looks done.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::partial::{Left, PartialDirectory};
use crate::bundle::format::blobs::{hash_blob, stream_blob};
use crate::bundle::format::top_level::{self, HeadFiles, Sealed};
use crate::bundle::resume::free_space::SpaceNeeded;
use crate::bundle::resume::output::check_name;
use crate::bundle::resume::plan::{Keep, PlanKeeper, ResumeReport, SavedPlan};
use crate::bundle::resume::resume_write::fill;
use crate::content::{
    BlobId, BlobStatus, Body, Chunks, Contents, Destination, ManifestId, MountOutcome, Order, PutBlob, PutManifest,
    RepositoryId,
};
use crate::error::{Error, Failure, Kind, Result};
use crate::files::{HASHERS, PartFile, StopOnDrop, WRITERS, Writer, blocking};
use crate::oci::Digest;
use crate::trust::SigningKey;

/// Writes one bundle directory.
#[derive(Debug)]
pub struct DirectoryWriter {
    output: PathBuf,
    /// Until it is prepared.
    workshop: Mutex<Option<PartialDirectory>>,
    ready: OnceLock<Ready>,
    /// Dropped last: without an unfinished directory there is nothing to continue.
    plan: PlanKeeper,
}

#[derive(Debug)]
struct Ready {
    workshop: Arc<PartialDirectory>,
    /// Signed before the first byte is fetched, so that a passphrase is asked for while someone is there.
    sealed: Mutex<Arc<Sealed>>,
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
        top_level::check_keys(&keys)?;
        check_name(&output)?;
        let (plan, workshop, ready) = (PlanKeeper::new(keys, created), Mutex::default(), OnceLock::new());
        Ok(DirectoryWriter { output, workshop, ready, plan })
    }

    /// Keeps the plan in private state until the bundle has its name.
    #[must_use]
    pub fn keep_plan(mut self, keep: Keep) -> DirectoryWriter {
        self.plan.keep(keep);
        self
    }

    /// Opens and locks what is to be written, and says what an earlier run left.
    ///
    /// # Errors
    /// `Io` if the output exists, cannot be written, can be changed by others, or another run writes it; `Usage` if
    /// others can change the state.
    pub fn open(&self) -> Result<ResumeReport> {
        let workshop = PartialDirectory::open(&self.output)?;
        let (existed, permissions) = workshop.earlier();
        let plan = self.plan.open(workshop.output(), existed)?;
        *self.workshop.lock().unwrap_or_else(PoisonError::into_inner) = Some(workshop);
        Ok(ResumeReport::new(existed, permissions, plan))
    }

    /// Continues a plan: its contents are to be given to [`Destination::prepare`]. The failures say what was asked for
    /// and is not in it.
    pub fn resume(&self, plan: SavedPlan) -> (Contents, Vec<Failure>) {
        self.plan.resume(plan)
    }

    /// Images that are not in the plan although they were asked for, and why: a run that continues it is told.
    pub fn without(&self, left_out: &[Failure]) {
        self.plan.leave_out(left_out);
    }

    /// Where the bundle will be.
    pub fn output(&self) -> &Path {
        &self.output
    }

    /// The identity of the bundle: known from [`Destination::prepare`] on, another one after
    /// [`Destination::replan`].
    pub fn identity(&self) -> Option<Digest> {
        self.ready.get().map(|ready| ready.sealed().identity())
    }

    fn ready(&self) -> Result<&Ready> {
        self.ready.get().ok_or_else(|| Error::new(Kind::Io, "the bundle was not prepared for writing"))
    }
}

#[async_trait]
impl Destination for DirectoryWriter {
    fn order(&self) -> Order {
        Order::Any
    }

    async fn prepare(&self, contents: &Contents) -> Result<HashSet<BlobId>> {
        if self.ready.get().is_some() {
            return Err(Error::new(Kind::Io, "the bundle was prepared twice"));
        }
        // What cannot be carried is told before anything is made.
        HeadFiles::new(contents, self.plan.created())?;
        let workshop = self.workshop.lock().unwrap_or_else(PoisonError::into_inner).take();
        let workshop = Arc::new(match workshop {
            Some(workshop) => workshop,
            None => PartialDirectory::open(&self.output)?,
        });
        let sealed = self.plan.seal(contents).await?;
        let (kept, parts) = self.keep(&workshop, contents).await?;
        let there: HashSet<Digest> = kept.iter().map(|id| contents.blob(*id).digest).collect();
        workshop.medium().check(&needs(&workshop, contents, &sealed, &there, &parts))?;
        self.plan.save(&sealed, contents);
        let ready = Ready { workshop, sealed: Mutex::new(Arc::new(sealed)), there: Mutex::new(there) };
        if self.ready.set(ready).is_err() {
            return Err(Error::new(Kind::Io, "the bundle was prepared twice"));
        }
        Ok(kept)
    }

    async fn blob_status(&self, contents: &Contents, blob: BlobId, _: RepositoryId) -> Result<BlobStatus> {
        let there = self.ready()?.there().contains(&contents.blob(blob).digest);
        Ok(if there { BlobStatus::Present } else { BlobStatus::Absent })
    }

    async fn put_blob(&self, contents: &Contents, blob: BlobId, _: RepositoryId, body: &mut Body) -> Result<PutBlob> {
        let ready = self.ready()?;
        let blob = contents.blob(blob);
        let (workshop, digest, size) = (ready.workshop.clone(), blob.digest, blob.size);
        let (part, left) = WRITERS
            .run(move || {
                let part = workshop.part(digest, size)?;
                let left = part.left()?;
                Ok((part, left))
            })
            .await?;
        let mut writer = Writer::new(part);
        if let Err(error) = fill(&mut writer, left, body).await {
            let is_wrong = body.has_mismatch();
            let end = move |part: PartFile| {
                if is_wrong {
                    part.give_up();
                }
                Ok(())
            };
            // Why it failed is known.
            let _ = writer.abandon(end).await;
            return Err(error);
        }
        writer.finish(move |part| part.finish(&digest.hex())).await?;
        ready.there().insert(blob.digest);
        Ok(PutBlob::Uploaded)
    }

    async fn mount_blob(&self, _: &Contents, _: BlobId, _: RepositoryId, _: RepositoryId) -> Result<MountOutcome> {
        Ok(MountOutcome::Done)
    }

    async fn read_back(&self, contents: &Contents, blob: BlobId, _: RepositoryId) -> Result<Chunks> {
        let blob = contents.blob(blob);
        stream_blob(self.ready()?.workshop.root(), blob.digest, blob.size, 0)
    }

    async fn put_manifest(&self, contents: &Contents, landing: ManifestId) -> Result<PutManifest> {
        let ready = self.ready()?;
        let digest = contents.manifest(landing).document;
        if ready.there().contains(&digest) {
            return Ok(PutManifest::Done);
        }
        let (bytes, _): (Bytes, _) = contents.documents.get(digest)?;
        // Several landings of one document may run at once: only one of them makes the file.
        if !ready.there().insert(digest) {
            return Ok(PutManifest::Done);
        }
        let workshop = ready.workshop.clone();
        let written = WRITERS.run(move || write_whole(&workshop, digest, &bytes)).await;
        if written.is_err() {
            ready.there().remove(&digest);
        }
        written.map(|()| PutManifest::Done)
    }

    async fn replan(&self, contents: &Contents, _: &[Failure]) -> Result<()> {
        // The whole plan is kept: killed from here on, the next run tries again what failed.
        let sealed = self.plan.seal(contents).await?;
        *self.ready()?.sealed.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(sealed);
        Ok(())
    }

    async fn commit(&self, contents: &Contents) -> Result<()> {
        let ready = self.ready()?;
        let sealed = ready.sealed();
        if HeadFiles::new(contents, self.plan.created())?.identity() != sealed.identity() {
            return Err(Error::new(Kind::Io, "cannot seal: these are not the contents that were planned"));
        }
        let sizes = top_level::sizes(contents);
        let there = ready.there().clone();
        if let Some(digest) = sizes.keys().find(|digest| !there.contains(*digest)) {
            return Err(Error::new(Kind::Io, format!("cannot seal: {digest} was not written")));
        }
        let workshop = ready.workshop.clone();
        blocking(move || workshop.finish(&sizes, &sealed)).await?;
        self.plan.forget();
        Ok(())
    }

    async fn abort(&self) {
        WRITERS.settle().await;
    }
}

impl Ready {
    fn there(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sealed(&self) -> Arc<Sealed> {
        self.sealed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl DirectoryWriter {
    /// Re-hashes the blobs that an earlier run left, several at once, and removes what is not of use. Also returns the
    /// room that the beginnings of others take up, in bytes.
    async fn keep(
        &self,
        workshop: &Arc<PartialDirectory>,
        contents: &Contents,
    ) -> Result<(HashSet<BlobId>, HashMap<Digest, u64>)> {
        let wanted = contents.blobs.iter().map(|blob| (blob.digest, blob.size)).collect();
        let Left { whole, parts } = workshop.clear(&wanted)?;
        let stop = StopOnDrop::default();
        let hashed: Vec<Option<Digest>> = stream::iter(whole.into_iter().map(|(digest, size)| {
            let (workshop, stopped) = (workshop.clone(), stop.0.clone());
            blocking(move || {
                let go_on = || !stopped.load(Ordering::Relaxed);
                if hash_blob(workshop.root(), digest, size, go_on)? {
                    return Ok(Some(digest));
                }
                // One that was hashed in part only, because the run stops, is not known to be wrong.
                if !go_on() {
                    return Err(Error::interrupted());
                }
                workshop.remove_blob(digest)?;
                Ok(None)
            })
        }))
        .buffer_unordered(std::thread::available_parallelism().map_or(2, usize::from).min(HASHERS))
        .try_collect()
        .await?;
        let kept: HashSet<Digest> = hashed.into_iter().flatten().collect();
        Ok((contents.blob_ids().filter(|id| kept.contains(&contents.blob(*id).digest)).collect(), parts))
    }
}

/// What is still to be written, in whole units of the medium.
fn needs(
    workshop: &PartialDirectory,
    contents: &Contents,
    sealed: &Sealed,
    there: &HashSet<Digest>,
    parts: &HashMap<Digest, u64>,
) -> SpaceNeeded {
    let medium = workshop.medium();
    let sizes = top_level::sizes(contents);
    let missing = sizes.iter().filter(|(digest, _)| !there.contains(*digest));
    let (mut bytes, mut files) = (medium.room(sealed.size()), TOP_FILES);
    for (digest, size) in missing {
        bytes += medium.room(*size).saturating_sub(parts.get(digest).copied().unwrap_or_default());
        files += u64::from(!parts.contains_key(digest));
    }
    let largest = sizes.iter().max_by_key(|(_, size)| **size);
    let largest = largest.map_or_else(Default::default, |(digest, size)| (*size, format!("layer {digest}")));
    SpaceNeeded { bytes, files, largest, names: sizes.len() as u64, instead: ", or export to one file (name it .tar)" }
}

fn write_whole(workshop: &PartialDirectory, digest: Digest, bytes: &[u8]) -> Result<()> {
    let mut part = workshop.part(digest, bytes.len() as u64)?;
    part.start_over()?;
    part.write(bytes)?;
    part.finish(&digest.hex())
}

/// Beside the blobs: seal, descriptor, layout, index, two folders and a signature.
const TOP_FILES: u64 = 7;
