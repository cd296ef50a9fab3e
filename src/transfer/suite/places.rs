//! The same promises between the real places: bundles in every form and registry (the embedded one, over a socket).

use std::sync::Arc;

use jiff::Timestamp;
use rstest::rstest;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::memory::{Memory, MemoryPass, Mood, Recorder};
use super::{Sample, go, options};
use crate::bundle::{ArchiveWriter, DirectoryWriter, StreamWriter};
use crate::content::{BlobId, Catalog, Destination, Order, SourceRepository};
use crate::dir::{DirDestination, ImageSignatures, Placement, Tree};
use crate::error::Kind;
use crate::jobs::verify;
use crate::layout::Layout;
use crate::oci::{Host, Selector};
use crate::registry::{Client, RegistryDestination, Retry, Settings};
use crate::serve::Service;
use crate::transfer::{Input, run};
use crate::trust::{KeyPair, Trust};

/// What is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Memory,
    MemoryPass,
    Bundle,
    Archive,
    Stream,
    Registry,
    Tree,
}

/// What is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    MemoryAsPlanned,
    Bundle,
    Archive,
    Packed,
    Registry,
    Tree,
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn everything_moves_between_all_places(
    #[values(From::Memory, From::MemoryPass, From::Bundle, From::Archive, From::Stream, From::Registry, From::Tree)]
    from: From,
    #[values(To::MemoryAsPlanned, To::Bundle, To::Archive, To::Packed, To::Registry, To::Tree)] to: To,
) {
    let scene = Scene::new(from).await;
    let (supply, there) = (scene.supply(from, Mood::Good).await, Receiver::new(to).await);
    let summary = go(&scene.sample, supply, there.destination()).await.unwrap();
    assert_eq!(summary.moved, scene.sample.contents.blobs.len() as u64);
    there.assert_whole(&scene.sample).await;
    // What is there is not moved again.
    if matches!(to, To::Registry | To::Tree) {
        let supply = scene.supply(from, Mood::Good).await;
        assert_eq!(go(&scene.sample, supply, there.destination()).await.unwrap().moved, 0);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_blob_lands_nothing_anywhere(
    #[values(From::Memory, From::MemoryPass)] from: From,
    #[values(To::Bundle, To::Archive, To::Packed, To::Registry, To::Tree)] to: To,
    #[values(Mood::Flipped, Mood::Short, Mood::Long, Mood::Broken)] mood: Mood,
) {
    let scene = Scene::new(from).await;
    let (supply, there) = (scene.supply(from, mood).await, Receiver::new(to).await);
    let error = go(&scene.sample, supply, there.destination()).await.expect_err("must fail");
    let expected = if mood == Mood::Broken { Kind::Io } else { Kind::Damaged };
    assert_eq!(error.kind(), expected, "{error:?}");
    there.assert_nothing_landed(&scene.sample).await;
}

/// A sample and the places that hold it.
struct Scene {
    sample: Sample,
    bundle: Option<Receiver>,
    registry: Option<Receiver>,
    tree: Option<Receiver>,
}

impl Scene {
    async fn new(from: From) -> Self {
        let mut scene = Scene { sample: Sample::new(), bundle: None, registry: None, tree: None };
        let fill = async |receiver: Receiver| {
            let memory = Input::Source(Arc::new(Memory::new(&scene.sample, Mood::Good)));
            go(&scene.sample, memory, receiver.destination()).await.unwrap();
            receiver
        };
        match from {
            From::Memory | From::MemoryPass => {}
            From::Bundle => scene.bundle = Some(fill(Receiver::new(To::Bundle).await).await),
            From::Archive => scene.bundle = Some(fill(Receiver::new(To::Archive).await).await),
            From::Stream => scene.bundle = Some(fill(Receiver::new(To::Packed).await).await),
            From::Tree => scene.tree = Some(fill(Receiver::new(To::Tree).await).await),
            From::Registry => {
                let receiver = fill(Receiver::new(To::Registry).await).await;
                // Every blob of the sample is in both repositories or in the one that is asked.
                let Receiver::Registry { host, .. } = &receiver else { unreachable!("made above") };
                let origin = SourceRepository { host: host.clone(), repository: "team/app".parse().unwrap() };
                scene.sample = Sample::from(Some(origin));
                scene.registry = Some(receiver);
            }
        }
        scene
    }

    async fn supply(&self, from: From, mood: Mood) -> Input {
        let memory = Memory::new(&self.sample, mood);
        match (from, &self.bundle, &self.registry) {
            (From::Bundle | From::Archive | From::Stream, Some(Receiver::Bundle { trust, folder, .. }), _) => {
                verify::open(&folder.path().join("bundle"), trust, Timestamp::now()).unwrap().supply().unwrap()
            }
            (From::Tree, ..) => {
                let Some(Receiver::Tree(folder)) = &self.tree else { unreachable!("made before") };
                Input::Source(Arc::new(Tree::scan(folder.path()).unwrap()))
            }
            (From::Registry, _, Some(Receiver::Registry { client, .. })) => Input::Source(Arc::new(client.clone())),
            (From::MemoryPass, ..) => {
                let order: Vec<BlobId> = self.sample.contents.blob_ids().collect();
                Input::Pass(Box::new(MemoryPass { memory, order: order.into_iter() }))
            }
            _ => Input::Source(Arc::new(memory)),
        }
    }
}

/// A place that was written to, and how to look into it.
enum Receiver {
    Memory(Arc<Recorder>),
    Tree(TempDir),
    Bundle {
        writer: Arc<dyn Destination>,
        trust: Trust,
        folder: TempDir,
    },
    Registry {
        client: Client,
        host: Host,
        destination: Arc<RegistryDestination>,
        stop: CancellationToken,
        _folder: TempDir,
    },
}

impl Receiver {
    async fn new(to: To) -> Self {
        let folder = tempfile::tempdir().unwrap();
        match to {
            To::Tree => Receiver::Tree(folder),
            To::MemoryAsPlanned => Receiver::Memory(Arc::new(Recorder::new(Order::AsPlanned))),
            To::Bundle | To::Archive | To::Packed => {
                let pair = KeyPair::generate("test").unwrap();
                let line = pair.public_key().allowed_signers_line("test@example.com").unwrap();
                let trust = Trust::parse(line.as_bytes(), "test", false).unwrap();
                let output = folder.path().join("bundle");
                let (keys, at) = (vec![pair.into_signing_key()], Timestamp::UNIX_EPOCH);
                let writer: Arc<dyn Destination> = match to {
                    To::Archive => Arc::new(ArchiveWriter::new(output, keys, at).unwrap()),
                    To::Packed => Arc::new(StreamWriter::packed(output, keys, at).unwrap()),
                    _ => Arc::new(DirectoryWriter::new(output, keys, at).unwrap()),
                };
                Receiver::Bundle { writer, trust, folder }
            }
            To::Registry => {
                let layout = Layout::create(folder.path().join("registry")).unwrap();
                let router = Service::writable(Arc::new(layout)).unwrap().router();
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let host: Host = listener.local_addr().unwrap().to_string().parse().unwrap();
                let stop = CancellationToken::new();
                tokio::spawn(crate::serve::serve(listener, router, stop.clone()));
                let retry = Retry { times: 1, delay: std::time::Duration::from_millis(10) };
                let client = Client::new(Settings { retry, ..Settings::default() }).unwrap();
                let destination = Arc::new(RegistryDestination::new(&client, &host, None));
                Receiver::Registry { client, host, destination, stop, _folder: folder }
            }
        }
    }

    fn destination(&self) -> Arc<dyn Destination> {
        match self {
            Receiver::Memory(recorder) => recorder.clone(),
            Receiver::Tree(folder) => {
                let sample = Sample::new();
                let placements = sample.contents.images.iter().map(|image| Placement {
                    image: image.name.clone(),
                    directory: image.name.to_string(),
                    signatures: ImageSignatures::default(),
                });
                let (path, silent) = (folder.path().to_owned(), Arc::new(crate::progress::Silent));
                Arc::new(DirDestination::new(path, placements.collect(), silent).unwrap())
            }
            Receiver::Bundle { writer, .. } => writer.clone(),
            Receiver::Registry { destination, .. } => destination.clone(),
        }
    }

    async fn assert_whole(&self, sample: &Sample) {
        match self {
            Receiver::Memory(recorder) => assert!(recorder.state.lock().unwrap().committed),
            Receiver::Tree(folder) => {
                let tree = Tree::scan(folder.path()).unwrap();
                for (image, found) in sample.contents.images.iter().zip(tree.images()) {
                    assert_eq!(image.name.to_string(), found.suffix);
                    assert_eq!(tree.document(found).unwrap().digest(), image.document);
                    for (digest, bytes) in &sample.blobs {
                        let held = std::fs::read(folder.path().join(&found.suffix).join(digest.hex()));
                        assert!(held.is_err() || held.unwrap() == *bytes);
                    }
                }
                assert_eq!(tree.images().len(), sample.contents.images.len());
                tree.check(&sample.contents).unwrap();
            }
            Receiver::Bundle { trust, folder, .. } => {
                let verified = verify::open(&folder.path().join("bundle"), trust, Timestamp::now()).unwrap();
                assert_eq!(verified.head.contents.images.len(), sample.contents.images.len());
                let kept = Arc::new(Recorder::new(Order::Any));
                run(verified.head.contents.clone(), verified.supply().unwrap(), kept.clone(), &options())
                    .await
                    .unwrap();
                let state = kept.state.lock().unwrap();
                assert!(
                    sample
                        .blobs
                        .iter()
                        .all(|(digest, bytes)| state.blobs.iter().any(|((_, d), b)| d == digest && b == bytes))
                );
            }
            Receiver::Registry { client, host, .. } => {
                for image in &sample.contents.images {
                    let tag = Selector::Tag(image.name.tag().unwrap().clone());
                    let document = client.document(host, image.name.repository(), &tag).await.unwrap();
                    assert_eq!(document.digest(), image.document);
                }
            }
        }
    }

    async fn assert_nothing_landed(&self, sample: &Sample) {
        match self {
            Receiver::Memory(recorder) => assert!(recorder.state.lock().unwrap().landed.is_empty()),
            Receiver::Bundle { folder, .. } => assert!(!folder.path().join("bundle").exists()),
            Receiver::Tree(folder) => {
                assert!(Tree::scan(folder.path()).map_or(true, |tree| tree.images().is_empty()));
                let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
                assert!(names.into_iter().all(|name| name == ".sealift.partial"));
            }
            Receiver::Registry { client, host, .. } => {
                for image in &sample.contents.images {
                    for selector in [Selector::Tag(image.name.tag().unwrap().clone()), Selector::Digest(image.document)]
                    {
                        assert!(client.document(host, image.name.repository(), &selector).await.is_err());
                    }
                }
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Receiver::Registry { stop, .. } = self {
            stop.cancel();
        }
    }
}
