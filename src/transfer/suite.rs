//! One suite for every pair of places: what `transfer` promises holds whatever the places are.

mod loops;
mod memory;
mod places;
mod refusals;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{Input, Summary, TransferOptions, run};
use crate::content::{Builder, Contents, Destination, NamedImage, SourceRepository};
use crate::error::Result;
use crate::oci::{Digest, Document, MediaType};

/// Two images and an index over them, in two repositories, with a shared layer and one of 5 MiB.
struct Sample {
    contents: Arc<Contents>,
    blobs: BTreeMap<Digest, Bytes>,
}

impl Sample {
    fn new() -> Self {
        Sample::from(None)
    }

    /// As it would be planned from a registry's repository.
    fn from(origin: Option<SourceRepository>) -> Self {
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
        let names = [("team/app:1", &index), ("team/app:2", &a), ("team/app:latest", &a), ("other/tool:1", &b)];
        for (name, document) in names {
            let name = name.parse().unwrap();
            builder.image(NamedImage { name, source: "h.io/x".into(), document: document.digest() }, origin.clone());
        }
        Sample { contents: Arc::new(builder.finish().unwrap()), blobs }
    }
}

fn options() -> TransferOptions {
    TransferOptions {
        jobs: NonZeroUsize::new(4).unwrap(),
        progress: Arc::new(crate::progress::Silent),
        cancel: CancellationToken::new(),
        keep_going: false,
    }
}

/// A run that fails the test if it hangs.
async fn go(sample: &Sample, supply: Input, destination: Arc<dyn Destination>) -> Result<Summary> {
    go_with(&options(), sample, supply, destination).await
}

async fn go_with(
    options: &TransferOptions,
    sample: &Sample,
    supply: Input,
    destination: Arc<dyn Destination>,
) -> Result<Summary> {
    let run = run(sample.contents.clone(), supply, destination, options);
    tokio::time::timeout(Duration::from_secs(60), run)
        .await
        .expect("a run must not hang")
        .map(|outcome| outcome.summary)
}
