//! Places in memory: good, slow, failing and lying ones.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::Sample;
use crate::content::{
    Blob, BlobId, BlobStatus, Body, Chunks, Contents, Destination, ManifestId, Mismatch, MountOutcome, Order,
    PlannedManifest, PutBlob, PutManifest, RepositoryId, SMALL_BLOB, SequentialSource, Source,
};
use crate::error::{Error, Result};
use crate::oci::{Digest, Repository};

/// How a memory place misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Good,
    Slow,
    /// One byte of the large layer is wrong.
    Flipped,
    /// The large layer ends early.
    Short,
    /// The large layer goes on after its end.
    Long,
    /// Reading the large layer fails in the middle.
    Broken,
}

pub(super) struct Memory {
    pub(super) blobs: BTreeMap<Digest, Bytes>,
    pub(super) mood: Mood,
    pub(super) opened: Mutex<BTreeMap<Digest, usize>>,
}

impl Memory {
    pub(super) fn new(sample: &Sample, mood: Mood) -> Self {
        Memory { blobs: sample.blobs.clone(), mood, opened: Mutex::default() }
    }

    fn chunks(&self, blob: &Blob) -> Chunks {
        *self.opened.lock().unwrap().entry(blob.digest).or_default() += 1;
        let mut bytes = self.blobs[&blob.digest].to_vec();
        let mut broken = false;
        if blob.size > SMALL_BLOB {
            match self.mood {
                Mood::Flipped => bytes[4 << 20] ^= 1,
                Mood::Short => bytes.truncate(5 << 19),
                Mood::Long => bytes.push(0),
                Mood::Broken => {
                    bytes.truncate(5 << 19);
                    broken = true;
                }
                Mood::Good | Mood::Slow => {}
            }
        }
        let slow = self.mood == Mood::Slow;
        let mut parts: Vec<Result<Bytes>> =
            bytes.chunks(100_000).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
        if broken {
            parts.push(Err(Error::io("cannot read the medium", std::io::Error::other("EIO"))));
        }
        stream::iter(parts)
            .then(move |part| async move {
                if slow {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                part
            })
            .boxed()
    }
}

#[async_trait]
impl Source for Memory {
    async fn open(&self, contents: &Contents, blob: BlobId, offset: u64) -> Result<Chunks> {
        assert_eq!(offset, 0);
        Ok(self.chunks(contents.blob(blob)))
    }

    fn mismatch(&self, contents: &Contents, blob: BlobId, what: &str) -> Error {
        Error::damaged(format!("{}: {what}", contents.blob(blob).digest))
    }
}

pub(super) struct MemoryPass {
    pub(super) memory: Memory,
    pub(super) order: std::vec::IntoIter<BlobId>,
}

#[async_trait]
impl SequentialSource for MemoryPass {
    async fn next(&mut self, contents: &Contents) -> Result<Option<(BlobId, Chunks)>> {
        Ok(self.order.next().map(|id| (id, self.memory.chunks(contents.blob(id)))))
    }

    fn mismatch(&self) -> Mismatch {
        Arc::new(|blob, what| Error::damaged(format!("{}: {what}", blob.digest)))
    }
}

/// What a recorder refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Blobs for this repository, before their bytes are read.
    Put(RepositoryId),
    /// Blobs for this repository, after their bytes were read.
    PutAtTheEnd(RepositoryId),
    /// To answer whether this repository has a blob.
    Presence(RepositoryId),
    /// To link into this repository.
    Link(RepositoryId),
    /// To give blobs back.
    ReadBack,
}

/// A registry in miniature: it remembers every call in order, and takes nothing before what it needs.
pub(super) struct Recorder {
    pub(super) order: Order,
    pub(super) links: bool,
    pub(super) slow: bool,
    /// Left by an earlier run, and said before anything moves.
    pub(super) has: HashSet<BlobId>,
    /// Left by an earlier run, and found when they are to be put.
    pub(super) finds: HashSet<BlobId>,
    /// Links wait until so many blobs were put.
    pub(super) links_after: usize,
    pub(super) refuses: Option<Refusal>,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// By repository: ids of scopes change when images are left out.
    pub(super) blobs: BTreeMap<(Repository, Digest), Bytes>,
    pub(super) puts: Vec<BlobId>,
    pub(super) landed: BTreeSet<ManifestId>,
    /// Documents that are being landed now, each with itself and all documents below it.
    pub(super) landing: BTreeMap<(RepositoryId, Digest), BTreeSet<Digest>>,
    pub(super) committed: bool,
    pub(super) in_flight: usize,
    pub(super) most_in_flight: usize,
}

impl Recorder {
    pub(super) fn new(order: Order) -> Self {
        let (has, finds) = (HashSet::new(), HashSet::new());
        let state = Mutex::default();
        Recorder { order, links: true, slow: false, has, finds, links_after: 0, refuses: None, state }
    }

    fn refuse(&self, refusal: Refusal) -> Result<()> {
        match self.refuses == Some(refusal) {
            true => Err(Error::registry(format!("refused: {refusal:?}"))),
            false => Ok(()),
        }
    }

    fn had(&self, blob: BlobId) -> bool {
        self.has.contains(&blob) || self.finds.contains(&blob)
    }
}

#[async_trait]
impl Destination for Recorder {
    fn order(&self) -> Order {
        self.order
    }

    async fn prepare(&self, _: &Contents) -> Result<HashSet<BlobId>> {
        Ok(self.has.clone())
    }

    async fn blob_status(&self, _: &Contents, _: BlobId, scope: RepositoryId) -> Result<BlobStatus> {
        self.refuse(Refusal::Presence(scope))?;
        Ok(BlobStatus::Absent)
    }

    async fn put_blob(
        &self,
        contents: &Contents,
        blob: BlobId,
        scope: RepositoryId,
        body: &mut Body,
    ) -> Result<PutBlob> {
        self.refuse(Refusal::Put(scope))?;
        if self.finds.contains(&blob) {
            return Ok(PutBlob::AlreadyThere);
        }
        {
            let mut state = self.state.lock().unwrap();
            state.in_flight += 1;
            state.most_in_flight = state.most_in_flight.max(state.in_flight);
        }
        let mut chunks = body.open().await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.try_next().await? {
            if self.slow {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            bytes.extend_from_slice(&chunk);
        }
        self.refuse(Refusal::PutAtTheEnd(scope))?;
        let mut state = self.state.lock().unwrap();
        state.in_flight -= 1;
        state.puts.push(blob);
        state.blobs.insert((contents.scope(scope).clone(), contents.blob(blob).digest), bytes.into());
        Ok(PutBlob::Uploaded)
    }

    async fn mount_blob(
        &self,
        contents: &Contents,
        blob: BlobId,
        from: RepositoryId,
        to: RepositoryId,
    ) -> Result<MountOutcome> {
        self.refuse(Refusal::Link(to))?;
        if !self.links {
            return Ok(MountOutcome::Refused);
        }
        while self.state.lock().unwrap().puts.len() < self.links_after {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let digest = contents.blob(blob).digest;
        let mut state = self.state.lock().unwrap();
        let bytes = match state.blobs.get(&(contents.scope(from).clone(), digest)) {
            Some(bytes) => bytes.clone(),
            None => {
                assert!(self.had(blob), "linked before it was there");
                Bytes::new()
            }
        };
        state.blobs.insert((contents.scope(to).clone(), digest), bytes);
        Ok(MountOutcome::Done)
    }

    async fn read_back(&self, contents: &Contents, blob: BlobId, scope: RepositoryId) -> Result<Chunks> {
        self.refuse(Refusal::ReadBack)?;
        let key = (contents.scope(scope).clone(), contents.blob(blob).digest);
        let bytes = self.state.lock().unwrap().blobs[&key].clone();
        Ok(stream::iter([Ok(bytes)]).boxed())
    }

    async fn put_manifest(&self, contents: &Contents, id: ManifestId) -> Result<PutManifest> {
        let PlannedManifest { after, blobs, scope, tag, document, .. } = contents.manifest(id);
        let family = with_descendants(contents, id);
        {
            let mut state = self.state.lock().unwrap();
            for ((_, other), others) in state.landing.iter().filter(|((other, _), _)| other == scope) {
                // Such a check of an index fails at docker-registry 2.8.
                let related = others.contains(document) || family.contains(other);
                assert!(!related, "a document while one that refers to it is landed");
            }
            state.landing.insert((*scope, *document), family);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut state = self.state.lock().unwrap();
        assert!(after.iter().all(|before| state.landed.contains(before)), "a parent before its child");
        for blob in blobs {
            let key = (contents.scope(*scope).clone(), contents.blob(*blob).digest);
            let there = state.blobs.contains_key(&key) || self.had(*blob);
            assert!(there, "a manifest before its blob");
        }
        if tag.is_some() {
            let untagged = contents.manifest_ids().filter(|id| contents.manifest(*id).tag.is_none());
            assert!(untagged.into_iter().all(|id| state.landed.contains(&id)), "a tag before the last manifest");
        }
        assert!(state.landed.insert(id), "landed twice");
        state.landing.remove(&(*scope, *document));
        Ok(PutManifest::Done)
    }

    async fn commit(&self, _: &Contents) -> Result<()> {
        self.state.lock().unwrap().committed = true;
        Ok(())
    }
}

fn with_descendants(contents: &Contents, id: ManifestId) -> BTreeSet<Digest> {
    let landing = contents.manifest(id);
    let below = landing.after.iter().flat_map(|child| with_descendants(contents, *child));
    below.chain([landing.document]).collect()
}
