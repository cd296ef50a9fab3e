//! One suite for every pair of places: what `transfer` promises holds whatever the places are.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use rstest::rstest;

use super::*;
use crate::error::Kind;
use crate::oci::{Digest, Document, MediaType};
use crate::place::{Builder, Chunks, Landing, LandingId, Mismatch, Named, Order};

/// Two images and an index over them, in two repositories, with a shared layer and one of 5 MiB.
pub(crate) struct Sample {
    pub(crate) contents: Arc<Contents>,
    pub(crate) blobs: BTreeMap<Digest, Bytes>,
}

impl Sample {
    pub(crate) fn new() -> Self {
        let mut blobs = BTreeMap::new();
        let mut blob = |media_type: &str, bytes: Vec<u8>| {
            let digest = Digest::of(&bytes);
            let text = format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{}}}"#, bytes.len());
            blobs.insert(digest, Bytes::from(bytes));
            text
        };
        let noise = |seed: u32, size: usize| -> Vec<u8> {
            (0..size as u32).map(|n| (n.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8).collect()
        };
        let config = "application/vnd.oci.image.config.v1+json";
        let layer = "application/vnd.oci.image.layer.v1.tar";
        let shared = blob(layer, noise(1, 700_000));
        let large = blob(layer, noise(2, 5 << 20));
        let empty = blob(layer, Vec::new());
        let manifest = |config: &str, layers: &[&str]| {
            let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, layers.join(","));
            Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_MANIFEST)).unwrap()
        };
        let a = manifest(&blob(config, b"{\"a\":1}".to_vec()), &[&shared, &large]);
        let b = manifest(&blob(config, b"{\"b\":1}".to_vec()), &[&shared, &empty, &blob(layer, noise(3, 1000))]);
        let child = |document: &Document| {
            format!(
                r#"{{"mediaType":"{}","digest":"{}","size":{}}}"#,
                document.media_type(),
                document.digest(),
                document.size()
            )
        };
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{},{}]}}"#, child(&a), child(&b));
        let index = Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_INDEX)).unwrap();
        let mut builder = Builder::default();
        for document in [&a, &b, &index] {
            builder.document(document).unwrap();
        }
        for (name, document) in [("team/app:1", &index), ("team/app:2", &a), ("other/tool:1", &b)] {
            let name = name.parse().unwrap();
            builder.image(Named { name, source: "h.io/x".into(), document: document.digest() }, None);
        }
        Sample { contents: Arc::new(builder.finish().unwrap()), blobs }
    }
}

/// How a memory place misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
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

struct Memory {
    blobs: BTreeMap<Digest, Bytes>,
    mood: Mood,
    opened: Mutex<BTreeMap<Digest, usize>>,
}

impl Memory {
    fn new(sample: &Sample, mood: Mood) -> Self {
        Memory { blobs: sample.blobs.clone(), mood, opened: Mutex::default() }
    }

    fn chunks(&self, blob: &Blob) -> Chunks {
        *self.opened.lock().unwrap().entry(blob.digest).or_default() += 1;
        let mut bytes = self.blobs[&blob.digest].to_vec();
        let mut broken = false;
        if blob.size > SMALL {
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

const SMALL: u64 = crate::place::SMALL_BLOB;

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

struct MemoryPass {
    memory: Memory,
    order: std::vec::IntoIter<BlobId>,
}

#[async_trait]
impl Pass for MemoryPass {
    async fn next(&mut self, contents: &Contents) -> Result<Option<(BlobId, Chunks)>> {
        Ok(self.order.next().map(|id| (id, self.memory.chunks(contents.blob(id)))))
    }

    fn mismatch(&self) -> Mismatch {
        Arc::new(|blob, what| Error::damaged(format!("{}: {what}", blob.digest)))
    }
}

/// A registry in miniature: it remembers every call in order, and takes nothing before what it needs.
struct Recorder {
    order: Order,
    links: bool,
    slow: bool,
    has: HashSet<BlobId>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    blobs: BTreeMap<(ScopeId, Digest), Bytes>,
    puts: Vec<BlobId>,
    landed: BTreeSet<LandingId>,
    committed: bool,
    in_flight: usize,
    most_in_flight: usize,
}

impl Recorder {
    fn new(order: Order) -> Self {
        Recorder { order, links: true, slow: false, has: HashSet::new(), state: Mutex::default() }
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

    async fn presence(&self, _: &Contents, _: BlobId, _: ScopeId) -> Result<Presence> {
        Ok(Presence::Absent)
    }

    async fn put(&self, contents: &Contents, blob: BlobId, scope: ScopeId, body: &mut Body) -> Result<()> {
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
        let mut state = self.state.lock().unwrap();
        state.in_flight -= 1;
        state.puts.push(blob);
        state.blobs.insert((scope, contents.blob(blob).digest), bytes.into());
        Ok(())
    }

    async fn link(&self, contents: &Contents, blob: BlobId, from: ScopeId, to: ScopeId) -> Result<Linked> {
        if !self.links {
            return Ok(Linked::Refused);
        }
        let digest = contents.blob(blob).digest;
        let mut state = self.state.lock().unwrap();
        let bytes = match state.blobs.get(&(from, digest)) {
            Some(bytes) => bytes.clone(),
            None => {
                assert!(self.has.contains(&blob), "linked before it was there");
                Bytes::new()
            }
        };
        state.blobs.insert((to, digest), bytes);
        Ok(Linked::Done)
    }

    async fn read_back(&self, contents: &Contents, blob: BlobId, scope: ScopeId) -> Result<Chunks> {
        let bytes = self.state.lock().unwrap().blobs[&(scope, contents.blob(blob).digest)].clone();
        Ok(stream::iter([Ok(bytes)]).boxed())
    }

    async fn land(&self, contents: &Contents, id: LandingId) -> Result<()> {
        let Landing { after, blobs, scope, tag, .. } = contents.landing(id);
        let mut state = self.state.lock().unwrap();
        assert!(after.iter().all(|before| state.landed.contains(before)), "a parent before its child");
        for blob in blobs {
            let there = state.blobs.contains_key(&(*scope, contents.blob(*blob).digest)) || self.has.contains(blob);
            assert!(there, "a manifest before its blob");
        }
        if tag.is_some() {
            let untagged = contents.landing_ids().filter(|id| contents.landing(*id).tag.is_none());
            assert!(untagged.into_iter().all(|id| state.landed.contains(&id)), "a tag before the last manifest");
        }
        assert!(state.landed.insert(id), "landed twice");
        Ok(())
    }

    async fn commit(&self, _: &Contents) -> Result<()> {
        self.state.lock().unwrap().committed = true;
        Ok(())
    }
}

fn options() -> Options {
    Options {
        jobs: NonZeroUsize::new(4).unwrap(),
        progress: Arc::new(crate::progress::Silent),
        cancel: CancellationToken::new(),
    }
}

fn supply(sample: &Sample, one_pass: bool, mood: Mood) -> Supply {
    let memory = Memory::new(sample, mood);
    if one_pass {
        let order: Vec<BlobId> = sample.contents.blob_ids().collect();
        Supply::Pass(Box::new(MemoryPass { memory, order: order.into_iter() }))
    } else {
        Supply::Source(Arc::new(memory))
    }
}

async fn go(sample: &Sample, supply: Supply, destination: &Arc<Recorder>) -> Result<Summary> {
    let options = options();
    let run = run(sample.contents.clone(), supply, destination.clone(), &options);
    tokio::time::timeout(Duration::from_secs(20), run).await.expect("a run must not hang")
}

fn assert_everything_landed(sample: &Sample, destination: &Recorder) {
    let state = destination.state.lock().unwrap();
    assert!(state.committed);
    assert_eq!(state.landed.len(), sample.contents.landings.len());
    for blob in &sample.contents.blobs {
        for scope in &blob.wanted {
            assert_eq!(state.blobs[&(*scope, blob.digest)], sample.blobs[&blob.digest]);
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_loop_moves_each_byte_once_and_lands_everything(
    #[values(false, true)] one_pass: bool,
    #[values(Order::Any, Order::AsPlanned)] order: Order,
    #[values(Mood::Good, Mood::Slow)] mood: Mood,
    #[values(false, true)] slow_destination: bool,
) {
    let sample = Sample::new();
    let destination = Arc::new(Recorder { slow: slow_destination, ..Recorder::new(order) });
    let summary = go(&sample, supply(&sample, one_pass, mood), &destination).await.unwrap();
    assert_everything_landed(&sample, &destination);
    assert_eq!(summary.moved, sample.contents.blobs.len() as u64);
    assert_eq!(summary.moved_bytes, sample.contents.blob_bytes());
    let state = destination.state.lock().unwrap();
    if order == Order::AsPlanned {
        assert_eq!(state.puts, sample.contents.blob_ids().collect::<Vec<_>>());
        assert_eq!(state.most_in_flight, 1);
    } else {
        assert!(state.most_in_flight <= 5, "{}", state.most_in_flight);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_link_sends_the_bytes_again_without_reading_a_medium_twice(#[values(false, true)] one_pass: bool) {
    let sample = Sample::new();
    let destination = Arc::new(Recorder { links: false, ..Recorder::new(Order::Any) });
    go(&sample, supply(&sample, one_pass, Mood::Good), &destination).await.unwrap();
    assert_everything_landed(&sample, &destination);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_blob_lands_nothing_and_commits_nothing(
    #[values(false, true)] one_pass: bool,
    #[values(Order::Any, Order::AsPlanned)] order: Order,
    #[values(Mood::Flipped, Mood::Short, Mood::Long, Mood::Broken)] mood: Mood,
) {
    let sample = Sample::new();
    let destination = Arc::new(Recorder::new(order));
    let error = go(&sample, supply(&sample, one_pass, mood), &destination).await.expect_err("must fail");
    let expected = if mood == Mood::Broken { Kind::Io } else { Kind::Damaged };
    assert_eq!(error.kind(), expected, "{error:?}");
    let state = destination.state.lock().unwrap();
    assert!(state.landed.is_empty() && !state.committed);
    let large = sample.contents.blobs.iter().find(|blob| blob.size > SMALL).unwrap();
    assert!(state.blobs.keys().all(|(_, digest)| *digest != large.digest), "a wrong blob must never be complete");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_run_left_is_not_moved_again(
    #[values(false, true)] one_pass: bool,
    #[values(Order::Any, Order::AsPlanned)] order: Order,
) {
    let sample = Sample::new();
    let has: HashSet<BlobId> = sample.contents.blob_ids().step_by(2).collect();
    let destination = Arc::new(Recorder { has: has.clone(), ..Recorder::new(order) });
    let summary = go(&sample, supply(&sample, one_pass, Mood::Good), &destination).await.unwrap();
    assert_eq!(summary.already, has.len() as u64);
    let state = destination.state.lock().unwrap();
    assert!(state.committed && state.puts.iter().all(|id| !has.contains(id)));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_medium_that_ends_early_or_repeats_itself_is_refused(
    #[values(Order::Any, Order::AsPlanned)] order: Order,
    #[values(false, true)] repeats: bool,
) {
    let sample = Sample::new();
    let mut ids: Vec<BlobId> = sample.contents.blob_ids().collect();
    if repeats {
        ids.push(ids[0]);
    } else {
        ids.pop();
    }
    let pass = MemoryPass { memory: Memory::new(&sample, Mood::Good), order: ids.into_iter() };
    let destination = Arc::new(Recorder::new(order));
    let error = go(&sample, Supply::Pass(Box::new(pass)), &destination).await.expect_err("must fail");
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(!destination.state.lock().unwrap().committed);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn cancelling_stops_between_chunks_and_commits_nothing(
    #[values(false, true)] one_pass: bool,
    #[values(Order::Any, Order::AsPlanned)] order: Order,
) {
    let sample = Sample::new();
    let destination = Arc::new(Recorder { slow: true, ..Recorder::new(order) });
    let options = options();
    let cancel = options.cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        cancel.cancel();
    });
    let supply = supply(&sample, one_pass, Mood::Slow);
    let run = run(sample.contents.clone(), supply, destination.clone(), &options);
    let error = tokio::time::timeout(Duration::from_secs(5), run).await.expect("stops soon").expect_err("stopped");
    assert_eq!(error.kind(), Kind::Interrupted);
    assert!(!destination.state.lock().unwrap().committed);
}
