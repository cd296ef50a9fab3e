//! An image in memory, and who tells what happened.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sealift::content::{BlobId, Body, Builder, Chunks, Contents, NamedImage, Source, SourceRepository, verified};
use sealift::error::{Error, Result};
use sealift::oci::{Digest, Document, Host, MediaType};
use sealift::progress::{Event, Progress};
use sealift::registry::{Client, Retry, Settings};
use tokio_util::sync::CancellationToken;

/// An image of one layer, landing under some names.
pub(crate) struct Image {
    pub(crate) contents: Arc<Contents>,
    pub(crate) document: Document,
    pub(crate) blobs: HashMap<Digest, Bytes>,
}

/// The layer's id: the config comes first.
pub(crate) const LAYER: BlobId = BlobId(1);

/// Bytes without a pattern that a mistake of offsets could hide in.
pub(crate) fn noise(size: usize) -> Bytes {
    let mut state = 0x9e37_79b9_u32;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    };
    (0..size).map(|_| byte()).collect()
}

/// `names` are `path:tag`, `origins` are `host/path`.
pub(crate) fn image(layer: Bytes, names: &[&str], origins: &[String]) -> Image {
    let config =
        Bytes::from_static(br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#);
    let descriptor = |media_type: &str, bytes: &Bytes| {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#, Digest::of(bytes), bytes.len())
    };
    let text = format!(
        r#"{{"schemaVersion":2, "mediaType":"{}","config":{},"layers":[{}]}}"#,
        MediaType::OCI_MANIFEST,
        descriptor("application/vnd.oci.image.config.v1+json", &config),
        descriptor("application/vnd.oci.image.layer.v1.tar", &layer),
    );
    let document = Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_MANIFEST)).expect("a manifest");
    let mut builder = Builder::default();
    builder.document(&document).expect("taken");
    for (number, name) in names.iter().enumerate() {
        let named =
            NamedImage { name: name.parse().expect("a name"), source: name.to_string(), document: document.digest() };
        let origin = origins.get(number).or(origins.last()).map(|text| {
            let (host, repository) = text.split_once('/').expect("host/path");
            SourceRepository { host: host.parse().expect("a host"), repository: repository.parse().expect("a path") }
        });
        builder.image(named, origin);
    }
    let blobs = [config, layer].map(|bytes| (Digest::of(&bytes), bytes)).into();
    Image { contents: Arc::new(builder.finish().expect("whole")), document, blobs }
}

impl Image {
    /// A body that can be opened again.
    pub(crate) fn body(&self, blob: BlobId) -> Body {
        self.body_from(Arc::new(Memory { blobs: self.blobs.clone(), pause: Duration::ZERO }), blob)
    }

    /// The same, from another source.
    pub(crate) fn body_from(&self, source: Arc<dyn Source>, blob: BlobId) -> Body {
        Body::reopenable(source, self.contents.clone(), blob, Arc::new(Log::default()), CancellationToken::new())
    }

    /// A body that can be read once.
    pub(crate) fn once(&self, blob: BlobId) -> Body {
        let (digest, size) = (self.contents.blob(blob).digest, self.contents.blob(blob).size);
        let cancel = CancellationToken::new();
        let chunks = cut(self.blobs[&digest].clone(), Duration::ZERO);
        let chunks = verified(chunks, digest, size, cancel.clone(), |what| Error::damaged(what));
        Body::once(digest, size, chunks, Arc::new(Log::default()), cancel)
    }
}

/// A source in memory, with a pause before every chunk.
pub(crate) struct Memory {
    pub(crate) blobs: HashMap<Digest, Bytes>,
    pub(crate) pause: Duration,
}

#[async_trait]
impl Source for Memory {
    async fn open(&self, contents: &Contents, blob: BlobId, offset: u64) -> Result<Chunks> {
        Ok(cut(self.blobs[&contents.blob(blob).digest].slice(offset as usize..), self.pause))
    }

    fn mismatch(&self, _: &Contents, _: BlobId, what: &str) -> Error {
        Error::damaged(what)
    }
}

fn cut(bytes: Bytes, pause: Duration) -> Chunks {
    let step = 100_000;
    let chunks: Vec<Bytes> =
        (0..bytes.len()).step_by(step).map(|at| bytes.slice(at..bytes.len().min(at + step))).collect();
    stream::iter(chunks)
        .then(move |chunk| async move {
            tokio::time::sleep(pause).await;
            Ok(chunk)
        })
        .boxed()
}

/// Everything that a stream gives.
pub(crate) async fn read(mut chunks: Chunks) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(chunk) = chunks.next().await {
        all.extend_from_slice(&chunk?);
    }
    Ok(all)
}

/// Notes the pauses before retries, and warnings.
#[derive(Default)]
pub(crate) struct Log {
    retries: Mutex<Vec<(String, Duration)>>,
    warnings: Mutex<Vec<String>>,
}

impl Progress for Log {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Retrying { what, after } => {
                self.retries.lock().expect("not poisoned").push((what.to_owned(), after));
            }
            Event::Warning(text) => self.warnings.lock().expect("not poisoned").push(text.to_owned()),
            _ => {}
        }
    }
}

impl Log {
    pub(crate) fn retries(&self) -> Vec<(String, Duration)> {
        self.retries.lock().expect("not poisoned").clone()
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().expect("not poisoned").clone()
    }
}

/// A client that does not wait long, and its log.
pub(crate) fn client() -> (Client, Arc<Log>) {
    client_with(|_| {})
}

/// The same with other settings.
pub(crate) fn client_with(change: impl FnOnce(&mut Settings)) -> (Client, Arc<Log>) {
    let log = Arc::new(Log::default());
    let mut settings = Settings {
        retry: Retry { times: 3, delay: Duration::from_millis(5) },
        connect_timeout: Duration::from_secs(2),
        read_timeout: Duration::from_millis(700),
        commit_timeout: Duration::from_secs(5),
        page_size: 10,
        progress: log.clone(),
        ..Settings::default()
    };
    change(&mut settings);
    (Client::new(settings).expect("a client"), log)
}

pub(crate) fn host(port: u16) -> Host {
    format!("127.0.0.1:{port}").parse().expect("a host")
}
