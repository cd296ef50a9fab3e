//! Trees that are read and written, on a real file system.

mod again;
mod hostile;
mod killed;
mod reading;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::content::{BlobId, Builder, Chunks, Contents, NamedImage, Source};
use crate::dir::*;
use crate::error::{Error, Result};
use crate::oci::{Digest, Document, MediaType};
use crate::progress::{Event, Progress};
use crate::transfer::{self, Input, Summary, TransferOptions};

/// Documents and blobs from which contents are made.
#[derive(Default)]
struct Shelf {
    blobs: BTreeMap<Digest, Bytes>,
    documents: Vec<Document>,
}

impl Shelf {
    fn blob(&mut self, text: &str) -> String {
        let digest = Digest::of(text.as_bytes());
        self.blobs.insert(digest, Bytes::from(text.to_owned()));
        format!(r#"{{"mediaType":"x","digest":"{digest}","size":{}}}"#, text.len())
    }

    fn image(&mut self, config: &str, layers: &[&str]) -> Document {
        let config = self.blob(config);
        let layers: Vec<String> = layers.iter().map(|layer| self.blob(layer)).collect();
        let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, layers.join(","));
        self.document(&text)
    }

    fn index(&mut self, children: &[&Document]) -> Document {
        let children: Vec<String> = children
            .iter()
            .map(|child| {
                let (kind, digest, size) = (child.media_type(), child.digest(), child.size());
                format!(
                    r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size},"platform":{{"os":"linux","architecture":"arm64"}}}}"#
                )
            })
            .collect();
        self.document(&format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, children.join(",")))
    }

    fn document(&mut self, text: &str) -> Document {
        let document = Document::parse(Bytes::from(text.to_owned()), &MediaType::new("")).unwrap();
        self.documents.push(document.clone());
        document
    }

    fn contents(&self, images: &[(&str, &Document)]) -> Arc<Contents> {
        let mut builder = Builder::default();
        self.documents.iter().for_each(|document| builder.document(document).unwrap());
        for (name, document) in images {
            let image = NamedImage { name: name.parse().unwrap(), source: (*name).into(), document: document.digest() };
            builder.image(image, None);
        }
        Arc::new(builder.finish().unwrap())
    }
}

/// Gives out a shelf's blobs and counts them.
struct Giver {
    blobs: BTreeMap<Digest, Bytes>,
    given: Arc<Mutex<Vec<Digest>>>,
}

#[async_trait]
impl Source for Giver {
    async fn open(&self, contents: &Contents, blob: BlobId, _: u64) -> Result<Chunks> {
        let digest = contents.blob(blob).digest;
        self.given.lock().unwrap().push(digest);
        let bytes =
            self.blobs.get(&digest).cloned().ok_or_else(|| Error::registry(format!("{digest} cannot be had")))?;
        Ok(stream::iter([Ok(bytes)]).boxed())
    }

    fn mismatch(&self, _: &Contents, _: BlobId, what: &str) -> Error {
        Error::registry(what.to_owned())
    }
}

/// Keeps warnings.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Progress for Heard {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }
}

/// A directory to write to, and what was seen of it.
struct Place {
    folder: TempDir,
    given: Arc<Mutex<Vec<Digest>>>,
    heard: Arc<Heard>,
    signatures: BTreeMap<String, ImageSignatures>,
}

impl Place {
    fn new() -> Place {
        Place {
            folder: tempfile::tempdir().unwrap(),
            given: Arc::default(),
            heard: Arc::default(),
            signatures: BTreeMap::new(),
        }
    }

    fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    /// Every image in the directory that is called as it is.
    fn destination(&self, contents: &Contents) -> DirDestination {
        let placements = contents.images.iter().map(|image| {
            let directory = image.name.to_string();
            let signatures = self.signatures.get(&directory).cloned().unwrap_or_default();
            Placement { image: image.name.clone(), directory, signatures }
        });
        DirDestination::new(self.tree(), placements.collect(), self.heard.clone()).unwrap()
    }

    fn supply(&self, shelf: &Shelf) -> Input {
        self.given.lock().unwrap().clear();
        Input::Source(Arc::new(Giver { blobs: shelf.blobs.clone(), given: self.given.clone() }))
    }

    async fn write(&self, shelf: &Shelf, images: &[(&str, &Document)]) -> Result<Summary> {
        let contents = shelf.contents(images);
        let destination = Arc::new(self.destination(&contents));
        let outcome = transfer::run(contents, self.supply(shelf), destination, &options()).await?;
        Ok(outcome.summary)
    }

    fn given(&self) -> usize {
        self.given.lock().unwrap().len()
    }

    fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.0.lock().unwrap())
    }

    /// The files below the tree with their bytes.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        files(&self.tree())
    }
}

fn options() -> TransferOptions {
    TransferOptions {
        jobs: NonZeroUsize::new(3).unwrap(),
        progress: Arc::new(crate::progress::Silent),
        cancel: CancellationToken::new(),
        keep_going: false,
    }
}

fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let walk = walkdir::WalkDir::new(root).into_iter().map(Result::unwrap).filter(|entry| !entry.file_type().is_dir());
    walk.map(|entry| {
        let path = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        (path, std::fs::read(entry.path()).unwrap_or_default())
    })
    .collect()
}

/// What an image's directory must hold, to the byte: written from the transport's description, not with its code.
fn expected(shelf: &Shelf, images: &[(&str, &Document)]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for (name, top) in images {
        files.insert(format!("{name}/version"), b"Directory Transport Version: 1.1\n".to_vec());
        files.insert(format!("{name}/manifest.json"), top.bytes().to_vec());
        let text = String::from_utf8(top.bytes().to_vec()).unwrap();
        let mut texts = vec![text.clone()];
        for document in shelf.documents.iter().filter(|document| text.contains(&document.digest().hex())) {
            files.insert(format!("{name}/{}.manifest.json", document.digest().hex()), document.bytes().to_vec());
            texts.push(String::from_utf8(document.bytes().to_vec()).unwrap());
        }
        for (digest, bytes) in &shelf.blobs {
            if texts.iter().any(|text| text.contains(&digest.hex())) {
                files.insert(format!("{name}/{}", digest.hex()), bytes.to_vec());
            }
        }
    }
    files
}

fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).unwrap().ino()
}
