//! A small bundle for tests, and the pieces to make others.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::directory::writer::DirectoryWriter;
use super::format::head::Head;
use super::reader::Bundle;
use super::resume::plan::Keep;
use crate::content::{
    Absent, BlobId, BlobStatus, Body, Builder, Chunks, Contents, Destination, NamedImage, Reason, RepositoryId, Source,
};
use crate::error::{Error, Result};
use crate::oci::{Digest, Document, MediaType};
use crate::progress::Silent;
use crate::state::State;
use crate::trust::{KeyPair, SigningKey, Trust};

/// The time at which every bundle of the tests is made and looked at.
pub(super) fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// A key on disk, so that it can be loaded as often as needed.
pub(super) struct Key {
    dir: tempfile::TempDir,
    pub(super) trust: Trust,
}

impl Key {
    pub(super) fn new() -> Key {
        let dir = tempfile::tempdir().unwrap();
        let pair = KeyPair::generate("exporter@example.com").unwrap();
        pair.write_pair(&dir.path().join("key")).unwrap();
        let trust = Trust::parse(pair.public_text().as_bytes(), "test", false).unwrap();
        Key { dir, trust }
    }

    pub(super) fn load(&self) -> SigningKey {
        SigningKey::load(&self.dir.path().join("key")).unwrap()
    }
}

/// Private state at `path`, for what is asked for by `selection`.
pub(super) fn keep(path: &Path, selection: &[u8]) -> Keep {
    let state = Arc::new(State::open(path).unwrap());
    Keep { state, selection: Digest::of(selection), progress: Arc::new(Silent) }
}

/// Blobs in memory; counts how often one is opened.
#[derive(Default)]
pub(super) struct Memory {
    blobs: HashMap<Digest, Bytes>,
    pub(super) opened: AtomicUsize,
    /// The stream of this blob breaks off in the middle.
    pub(super) cut: Option<Digest>,
}

#[async_trait]
impl Source for Memory {
    async fn open(&self, contents: &Contents, blob: BlobId, offset: u64) -> Result<Chunks> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let digest = contents.blob(blob).digest;
        let bytes = self.blobs[&digest].slice(offset as usize..);
        let mut chunks: Vec<Result<Bytes>> =
            bytes.chunks(70_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        if self.cut == Some(digest) {
            chunks.truncate(chunks.len() / 2);
            chunks.push(Err(Error::registry("cut")));
        }
        Ok(stream::iter(chunks).boxed())
    }

    fn mismatch(&self, _: &Contents, _: BlobId, what: &str) -> Error {
        Error::registry(what)
    }
}

pub(super) fn descriptor(media_type: &str, digest: Digest, size: u64) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

impl Memory {
    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> String {
        let digest = Digest::of(bytes);
        self.blobs.insert(digest, Bytes::copy_from_slice(bytes));
        descriptor(media_type, digest, bytes.len() as u64)
    }

    pub(super) fn manifest(&mut self, config: &[u8], layers: &[&[u8]], foreign: &[&[u8]]) -> Document {
        let config = self.blob("application/vnd.oci.image.config.v1+json", config);
        let mut list: Vec<String> = layers.iter().map(|layer| self.blob("l", layer)).collect();
        list.extend(foreign.iter().map(|layer| descriptor("f", Digest::of(layer), layer.len() as u64)));
        let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, list.join(","));
        Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_MANIFEST)).unwrap()
    }

    pub(super) fn index(&self, children: &[&Document]) -> Document {
        let list: Vec<String> = children
            .iter()
            .map(|child| descriptor(child.media_type().as_str(), child.digest(), child.size()))
            .collect();
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, list.join(","));
        Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_INDEX)).unwrap()
    }
}

/// Layers of the good bundle.
pub(super) const SHARED: &[u8] = b"the shared layer";
pub(super) const FOREIGN: &[u8] = b"a foreign layer";

/// Three names: an image, the same under another name, and an index of two platforms, of which one is absent.
pub(super) fn good() -> (Memory, Contents) {
    let mut memory = Memory::default();
    let big: Vec<u8> = (0..400_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let app = memory.manifest(b"{\"config\":1}", &[SHARED, &big], &[]);
    let other = memory.manifest(b"{\"config\":2}", &[SHARED, b"other", b""], &[FOREIGN]);
    let left_out = memory.manifest(b"{\"config\":3}", &[], &[]);
    let multi = memory.index(&[&other, &left_out]);
    let mut builder = Builder::default();
    for document in [&app, &other, &multi] {
        builder.document(document).unwrap();
    }
    for (name, document) in [("ns/app:1", &app), ("ns/app:latest", &app), ("ns/multi:1", &multi)] {
        let source = format!("registry.example.com/{name}");
        builder.image(NamedImage { name: name.parse().unwrap(), source, document: document.digest() }, None);
    }
    for (digest, size, reason) in [
        (left_out.digest(), left_out.size(), Reason::Platform),
        (Digest::of(FOREIGN), FOREIGN.len() as u64, Reason::Foreign),
    ] {
        builder.absent(Absent { digest, size, reason, names: vec!["ns/multi:1".into()] });
    }
    (memory, builder.finish().unwrap())
}

/// Writes a bundle as `transfer` would, one thing after the other.
pub(super) async fn write(writer: &DirectoryWriter, memory: Arc<Memory>, contents: Arc<Contents>) -> Result<usize> {
    let there = writer.prepare(&contents).await?.len();
    for id in contents.blob_ids() {
        if writer.blob_status(&contents, id, RepositoryId(0)).await? == BlobStatus::Present {
            continue;
        }
        let mut body =
            Body::reopenable(memory.clone(), contents.clone(), id, Arc::new(Silent), CancellationToken::new());
        writer.put_blob(&contents, id, RepositoryId(0), &mut body).await?;
    }
    for id in contents.manifest_ids() {
        writer.put_manifest(&contents, id).await?;
    }
    writer.commit(&contents).await?;
    Ok(there)
}

/// The good bundle at `path`.
pub(super) async fn write_good(path: &Path, key: &Key) {
    let (memory, contents) = good();
    let writer = DirectoryWriter::new(path.to_owned(), vec![key.load()], now()).unwrap();
    write(&writer, Arc::new(memory), Arc::new(contents)).await.unwrap();
}

/// All that is checked before a registry may be written to.
pub(super) fn read(path: &Path, trust: &Trust) -> Result<Head> {
    let bundle = Bundle::open(path)?;
    bundle.read_head(bundle.verify_seal(trust, now())?)
}
