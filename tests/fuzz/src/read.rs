//! A whole bundle read as the program reads it, by whoever signed it.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use sealift::bundle::{Bundle, BundleStream, Head, Unverified};
use sealift::content::{BlobId, Chunks, Contents, SequentialSource as _, Source as _};
use sealift::oci::{Digest, Hasher};
use sealift::{Error, Result};

use crate::told;

/// A bundle directory. Returns its identity.
pub fn read_directory(path: &Path) -> Result<Digest> {
    told(read_in_any_order(path))
}

/// An archive. Returns its identity.
pub fn read_archive(path: &Path) -> Result<Digest> {
    told(read_in_any_order(path))
}

/// An archive as it goes by. Returns its identity.
pub fn read_stream(archive: Vec<u8>) -> Result<Digest> {
    told(read_once(archive))
}

fn read_in_any_order(path: &Path) -> Result<Digest> {
    let bundle = Bundle::open(path)?;
    let head = bundle.read_head_unverified(bundle.read_unverified()?)?;
    check(&head);
    let contents = &head.contents;
    run(async {
        for id in contents.blob_ids() {
            hash(contents, id, bundle.open(contents, id, 0).await?).await?;
            let size = contents.blob(id).size;
            let tail: Vec<_> = bundle.open(contents, id, size / 2).await?.try_collect().await?;
            assert_eq!(tail.iter().map(|chunk| chunk.len() as u64).sum::<u64>(), size - size / 2);
        }
        Ok(head.identity())
    })
}

fn read_once(archive: Vec<u8>) -> Result<Digest> {
    let mut stream = BundleStream::new(Box::new(Cursor::new(archive)), "stdin")?;
    let seal = stream.read_unverified()?;
    let head = stream.read_head_unverified(seal)?;
    check(&head);
    let contents = Arc::clone(&head.contents);
    run(async {
        let mut pass = stream.into_pass(contents.clone());
        let mut order = contents.blob_ids();
        while let Some((id, chunks)) = pass.next(&contents).await? {
            assert_eq!(order.next(), Some(id), "blobs come in their order");
            hash(&contents, id, chunks).await?;
        }
        assert_eq!(order.next(), None, "the end comes after every blob");
        Ok(head.identity())
    })
}

/// What holds for every head that is taken.
fn check(head: &Unverified<Head>) {
    let contents = &head.contents;
    assert!(contents.images.windows(2).all(|pair| pair[0].name.to_string() < pair[1].name.to_string()));
    for image in &contents.images {
        assert!(!image.source.contains(char::is_control));
        assert!(contents.documents.size(image.document).is_some(), "an image without a manifest");
    }
    for landing in contents.manifest_ids() {
        let landing_of = contents.manifest(landing);
        assert!(landing_of.after.iter().all(|before| *before < landing));
        assert!(landing_of.blobs.iter().all(|blob| (blob.0 as usize) < contents.blobs.len()));
    }
    for absent in &contents.absent {
        assert!(contents.blobs.iter().all(|blob| blob.digest != absent.digest));
    }
}

/// Reads a blob to its end, as `transfer` does: what is longer, shorter or other bytes is an error.
async fn hash(contents: &Contents, id: BlobId, mut chunks: Chunks) -> Result<()> {
    let blob = contents.blob(id);
    let (mut hasher, mut size) = (Hasher::default(), 0);
    while let Some(chunk) = chunks.try_next().await? {
        hasher.update(&chunk);
        size += chunk.len() as u64;
        assert!(size <= blob.size, "a source that gives more than there is");
    }
    assert_eq!(size, blob.size, "a source that ends early without an error");
    match hasher.finish() == blob.digest {
        true => Ok(()),
        false => Err(Error::damaged("a layer's bytes have another digest")),
    }
}

fn run<T>(job: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(job)
}
