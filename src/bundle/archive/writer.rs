//! An archive in the making: every offset is known before the first layer is there, so layers are written in parallel
//! straight to where they belong.
//!
//! When the plan changes (an image is left out, or tags are looked at again) it is planned anew, and what is there moves
//! inside the file ([`moves`](crate::bundle::resume::relocate)).

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::extents::{BlobExtents, stoppable};
use super::partial::{JournaledBlob, PartialArchive, Region};
use crate::bundle::format::blobs::blob_path;
use crate::bundle::format::members::{BLOCK, header, padding};
use crate::bundle::format::offsets::{MemberOffsets, ZEROS, head_length, seal_length, write_member, write_top};
use crate::bundle::format::top_level::{self, HeadFiles, Sealed};
use crate::bundle::resume::extent_map::{ExtentMap, apart};
use crate::bundle::resume::journal::Journal;
use crate::bundle::resume::output::check_name;
use crate::bundle::resume::plan::{Keep, PlanKeeper, ResumeReport, SavedPlan};
use crate::bundle::resume::relocate::{Extent, Relocation};
use crate::bundle::resume::resume_write::fill;
use crate::content::{
    BlobId, BlobStatus, Body, Chunks, Contents, Destination, ManifestId, MountOutcome, Order, PutBlob, PutManifest,
    RepositoryId,
};
use crate::error::{Error, Failure, Kind, Result};
use crate::files::{HASHERS, StopOnDrop, WORTH, WRITERS, Writer, blocking};
use crate::oci::Digest;
use crate::trust::SigningKey;

/// Writes one `BUNDLE.tar`.
#[derive(Debug)]
pub struct ArchiveWriter {
    output: PathBuf,
    /// Until it is prepared.
    site: Mutex<Option<PartialArchive>>,
    ready: OnceLock<Ready>,
    /// Dropped last: without an unfinished file there is nothing to continue.
    plan: PlanKeeper,
}

#[derive(Debug)]
struct Ready {
    site: Arc<PartialArchive>,
    journal: Arc<Journal>,
    plan: Mutex<Arc<Planned>>,
    /// The blobs that are in the file, verified.
    there: Mutex<HashSet<Digest>>,
    /// How many bytes an earlier run left of others.
    parts: Mutex<HashMap<Digest, u64>>,
}

/// What the file will be.
#[derive(Debug)]
struct Planned {
    sealed: Sealed,
    chain: MemberOffsets,
    places: Arc<BlobExtents>,
}

impl Planned {
    fn new(sealed: Sealed, contents: &Contents) -> Planned {
        let chain = MemberOffsets::new(seal_length(&sealed) + head_length(&sealed, contents), contents);
        let places = Arc::new(BlobExtents::new(&chain, contents));
        Planned { sealed, chain, places }
    }

    /// Gives the file its length and all that goes before the blobs, but for the seal.
    async fn write_head(&self, site: &Arc<PartialArchive>, contents: &Contents) -> Result<()> {
        let (own, length) = (site.clone(), self.chain.length());
        WRITERS.run(move || own.allocate(length)).await?;
        let mut writer = Writer::new(Region::new(site, seal_length(&self.sealed)));
        let mut top = Vec::new();
        write_top(&self.sealed, &mut gather(&mut top))?;
        writer.write(top.into()).await?;
        for digest in &contents.document_order {
            let mut member = Vec::new();
            write_member(&blob_path(*digest), &contents.documents.get(*digest)?.0, &mut gather(&mut member))?;
            writer.write(member.into()).await?;
        }
        writer.finish(Region::finish).await
    }
}

fn gather(bytes: &mut Vec<u8>) -> impl FnMut(&[u8]) -> Result<()> {
    |more| {
        bytes.extend_from_slice(more);
        Ok(())
    }
}

impl ArchiveWriter {
    /// A bundle that will be the file `output`, signed with `keys`. `created` is written into it, in whole seconds:
    /// the same contents, keys and time give the same bytes.
    ///
    /// # Errors
    /// `Usage` if there is no key, one twice, or more than a bundle can hold signatures; or if `output` has no name.
    pub fn new(output: PathBuf, keys: Vec<SigningKey>, created: Timestamp) -> Result<ArchiveWriter> {
        top_level::check_keys(&keys)?;
        check_name(&output)?;
        let (plan, site, ready) = (PlanKeeper::new(keys, created), Mutex::default(), OnceLock::new());
        Ok(ArchiveWriter { output, site, ready, plan })
    }

    /// Keeps the plan in private state until the bundle has its name.
    #[must_use]
    pub fn keep_plan(mut self, keep: Keep) -> ArchiveWriter {
        self.plan.keep(keep);
        self
    }

    /// Opens and locks what is to be written, and says what an earlier run left.
    ///
    /// # Errors
    /// `Io` if the output exists, cannot be written, can be changed by others, or another run writes it; `Usage` if
    /// others can change the state.
    pub fn open(&self) -> Result<ResumeReport> {
        let site = PartialArchive::open(&self.output)?;
        let (existed, permissions) = site.earlier();
        let plan = self.plan.open(site.output(), existed)?;
        *self.site.lock().unwrap_or_else(PoisonError::into_inner) = Some(site);
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

    /// The identity of the bundle: known from [`Destination::prepare`] on, another one after
    /// [`Destination::replan`].
    pub fn identity(&self) -> Option<Digest> {
        self.ready.get().map(|ready| ready.plan().sealed.identity())
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
            Some(ready) if ready.site.fills_holes() => Order::AsPlanned,
            _ => Order::Any,
        }
    }

    async fn prepare(&self, contents: &Contents) -> Result<HashSet<BlobId>> {
        let site = self.site.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut site = match site {
            Some(site) => site,
            None if self.ready.get().is_some() => return Err(Error::new(Kind::Io, "the bundle was prepared twice")),
            None => PartialArchive::open(&self.output)?,
        };
        let ExtentMap { held, moving } = site.take_map();
        let plan = Planned::new(self.plan.seal(contents).await?, contents);
        site.check(plan.chain.length())?;
        self.plan.save(&plan.sealed, contents);
        let site = Arc::new(site);
        let mut held = finish_move(&site, held, moving).await?;
        // Of another plan there may be more than is wanted now.
        held.retain(|digest, now| plan.places.of(*digest).is_some_and(|place| now.length <= place.length));
        let (own, extents) = (site.clone(), held.clone());
        let begin = move || {
            let nothing = extents.is_empty();
            // The journal comes first: a kill between the two loses nothing.
            let journal = begin_journal(&own, extents, None)?;
            if nothing {
                own.clear()?
            } else {
                own.break_seal()?
            }
            Ok(Arc::new(journal))
        };
        let journal = WRITERS.run(begin).await?;
        plan.places.settle(&site, &journal, &held).await?;
        plan.write_head(&site, contents).await?;
        let is_whole =
            |digest: &Digest, now: &Extent| plan.places.of(*digest).map(|place| place.length) == Some(now.length);
        let (whole, parts): (HashMap<_, _>, HashMap<_, _>) =
            held.into_iter().partition(|(digest, now)| is_whole(digest, now));
        let kept = keep(&site, &plan.chain, contents, &whole).await?;
        let sound: HashSet<Digest> = kept.iter().map(|id| contents.blob(*id).digest).collect();
        for digest in whole.keys().filter(|digest| !sound.contains(digest)) {
            journal.note(*digest, Extent::NOTHING)?;
        }
        if !kept.is_empty() || !parts.is_empty() {
            site.is_worth_keeping();
        }
        let there = Mutex::new(sound);
        let parts = Mutex::new(parts.into_iter().map(|(digest, now)| (digest, now.length)).collect());
        let plan = Mutex::new(Arc::new(plan));
        if self.ready.set(Ready { site, journal, plan, there, parts }).is_err() {
            return Err(Error::new(Kind::Io, "the bundle was prepared twice"));
        }
        Ok(kept)
    }

    async fn blob_status(&self, contents: &Contents, blob: BlobId, _: RepositoryId) -> Result<BlobStatus> {
        let there = self.ready()?.there().contains(&contents.blob(blob).digest);
        Ok(if there { BlobStatus::Present } else { BlobStatus::Absent })
    }

    async fn put_blob(&self, contents: &Contents, id: BlobId, _: RepositoryId, body: &mut Body) -> Result<PutBlob> {
        let ready = self.ready()?;
        let (blob, plan) = (contents.blob(id), ready.plan());
        let (path, begin) = (blob_path(blob.digest), plan.chain.blob(id));
        let there = ready.parts.lock().unwrap_or_else(PoisonError::into_inner).remove(&blob.digest).unwrap_or(0);
        let left = if there > 0 { Some(ready.site.reading(&path, begin, there)?) } else { None };
        let (digest, size) = (blob.digest, blob.size);
        let (site, journal) = (ready.site.clone(), ready.journal.clone());
        let open = move || {
            site.write(begin - BLOCK, &header(&path, size))?;
            Ok(JournaledBlob::new(&site, &journal, digest, begin, there))
        };
        let mut writer = Writer::open(open).await?;
        if let Err(error) = fill(&mut writer, left, body).await {
            let is_wrong = body.has_mismatch();
            let end = move |content: JournaledBlob| match is_wrong {
                true => content.give_up(),
                false if size >= WORTH => content.keep(),
                false => Ok(()),
            };
            // What the journal cannot be told is fetched again.
            let _ = writer.abandon(end).await;
            return Err(error);
        }
        let journal = ready.journal.clone();
        let end = move |content: JournaledBlob| {
            content.finish(&ZEROS[..padding(size) as usize])?;
            journal.note(digest, Extent { offset: begin, length: size })
        };
        writer.finish(end).await?;
        ready.site.is_worth_keeping();
        ready.there().insert(blob.digest);
        Ok(PutBlob::Uploaded)
    }

    async fn mount_blob(&self, _: &Contents, _: BlobId, _: RepositoryId, _: RepositoryId) -> Result<MountOutcome> {
        Ok(MountOutcome::Done)
    }

    async fn read_back(&self, contents: &Contents, id: BlobId, _: RepositoryId) -> Result<Chunks> {
        let (ready, blob) = (self.ready()?, contents.blob(id));
        Ok(ready.site.reading(&blob_path(blob.digest), ready.plan().chain.blob(id), blob.size)?.stream())
    }

    async fn replan(&self, contents: &Contents, left_out: &[Failure]) -> Result<()> {
        let (ready, old) = (self.ready()?, self.ready()?.plan());
        let plan = Planned::new(self.plan.seal(contents).await?, contents);
        self.plan.leave_out(left_out);
        self.plan.save(&plan.sealed, contents);
        let there = ready.there().clone();
        let (wanted, left_over): (Vec<_>, Vec<_>) =
            there.into_iter().partition(|digest| plan.places.of(*digest).is_some());
        for digest in left_over {
            // Others move over it.
            ready.journal.note(digest, Extent::NOTHING)?;
        }
        let held: HashMap<Digest, Extent> =
            wanted.into_iter().filter_map(|digest| Some((digest, old.places.of(digest)?))).collect();
        plan.places.settle(&ready.site, &ready.journal, &held).await?;
        plan.write_head(&ready.site, contents).await?;
        *ready.plan.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
        Ok(())
    }

    async fn put_manifest(&self, _: &Contents, _: ManifestId) -> Result<PutManifest> {
        // Documents are written when the archive is planned.
        self.ready().map(|_| PutManifest::Done)
    }

    async fn commit(&self, contents: &Contents) -> Result<()> {
        let ready = self.ready()?;
        let (site, plan) = (ready.site.clone(), ready.plan());
        if HeadFiles::new(contents, self.plan.created())?.identity() != plan.sealed.identity() {
            return Err(Error::new(Kind::Io, "cannot seal: these are not the contents that were planned"));
        }
        {
            let there = ready.there();
            if let Some(blob) = contents.blobs.iter().find(|blob| !there.contains(&blob.digest)) {
                return Err(Error::new(Kind::Io, format!("cannot seal: {} was not written", blob.digest)));
            }
        }
        blocking(move || site.finish(&plan.sealed, plan.chain.end)).await?;
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

    fn plan(&self) -> Arc<Planned> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Finishes what was on its way when an earlier run was killed; returns where everything is then.
async fn finish_move(
    site: &Arc<PartialArchive>,
    mut held: HashMap<Digest, Extent>,
    moving: Option<(Relocation, u64)>,
) -> Result<HashMap<Digest, Extent>> {
    let Some((step, moved)) = moving else { return Ok(held) };
    let journal = begin_journal(site, held.clone(), moving)?;
    let site = site.clone();
    stoppable(move |go_on| site.finish_move(&journal, &step, moved, go_on)).await?;
    held.insert(step.digest, Extent { offset: step.to, length: step.length });
    // A map that others wrote may say so of a move over something else.
    Ok(if apart(&held) { held } else { HashMap::new() })
}

fn begin_journal(
    site: &PartialArchive,
    held: HashMap<Digest, Extent>,
    moving: Option<(Relocation, u64)>,
) -> Result<Journal> {
    Journal::begin(site.output().parent(), &site.output().journal(), held, moving)
}

/// Hashes again what is said to be there.
async fn keep(
    site: &PartialArchive,
    chain: &MemberOffsets,
    contents: &Contents,
    said: &HashMap<Digest, Extent>,
) -> Result<HashSet<BlobId>> {
    let stop = StopOnDrop::default();
    let said = contents.blob_ids().filter(|id| said.contains_key(&contents.blob(*id).digest));
    let reading = |id| {
        let blob = contents.blob(id);
        Ok((id, blob.digest, site.reading(&blob_path(blob.digest), chain.blob(id), blob.size)?))
    };
    let readings: Vec<_> = said.map(reading).collect::<Result<_>>()?;
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
