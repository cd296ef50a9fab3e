//! A tree of image directories that is read.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::Signatures;
use crate::error::{Error, Failure, Result};
use crate::oci::{Descriptor, Document};
use crate::place::{BlobId, Chunks, Contents, Source};

/// The images at and below a directory.
#[derive(Debug)]
pub struct Tree {
    source: PathBuf,
    images: Vec<Image>,
    failures: Vec<Failure>,
    notes: Vec<String>,
}

/// A directory that holds an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its path below the tree, with `/` between: what skopeo calls its name. The last part of the tree's own path if
    /// the tree is itself an image.
    pub suffix: String,
    /// Where it is, for messages.
    pub shown: String,
}

impl Tree {
    /// Looks for images: directories with a `manifest.json`, `source` itself or any below it, as `skopeo sync --src dir`
    /// does. Nothing is read yet but the names of files. Links below `source` are not followed.
    ///
    /// # Errors
    /// `Io` when `source` cannot be listed, `NotFound` when there is no image.
    pub fn scan(source: &Path) -> Result<Tree> {
        Err(Error::not_found(format!("there is no image in {}", source.display())))
    }

    /// What was found, sorted by suffix.
    pub fn images(&self) -> &[Image] {
        &self.images
    }

    /// Directories that may hold images and cannot be used, with the reason.
    pub fn take_failures(&mut self) -> Vec<Failure> {
        std::mem::take(&mut self.failures)
    }

    /// What a person should know and what stops nothing, such as a link that was not followed.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The image's `manifest.json`. Nothing vouches for it.
    ///
    /// # Errors
    /// As for [`Document::parse`]; `Refused` also for a `version` that is not 1.0 to 1.2.
    pub fn document(&self, image: &Image) -> Result<Document> {
        Err(Error::not_found(format!("there is no manifest.json in {}", image.shown)))
    }

    /// A manifest below the image's index, verified against its descriptor.
    ///
    /// # Errors
    /// `NotFound` when the directory does not hold it; `Damaged` when it is not what the descriptor says.
    pub fn child(&self, image: &Image, child: &Descriptor) -> Result<Document> {
        Err(Error::not_found(format!("there is no {} in {}", child.digest, image.shown)))
    }

    /// The image's signatures.
    pub fn signatures(&self, image: &Image) -> Result<Signatures> {
        Err(Error::not_found(format!("there are no signatures in {}", image.shown)))
    }

    /// Whether some image of the tree holds a file for this blob with the right size.
    pub fn has_blob(&self, _blob: &Descriptor) -> bool {
        false
    }

    /// Refuses contents of which a blob is missing or has another size, naming all images that need one: to be asked
    /// before the first byte is moved.
    pub fn check(&self, _contents: &Contents) -> Result<()> {
        Err(Error::not_found(format!("there is no blob in {}", self.source.display())))
    }
}

#[async_trait]
impl Source for Tree {
    async fn open(&self, contents: &Contents, blob: BlobId, _offset: u64) -> Result<Chunks> {
        Err(Error::not_found(format!("there is no {} in {}", contents.blob(blob).digest, self.source.display())))
    }

    fn mismatch(&self, contents: &Contents, blob: BlobId, what: &str) -> Error {
        Error::damaged(format!("{}: {what}", contents.blob(blob).digest))
    }
}
