//! A tree of image directories that is read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;

use super::image_file::{self, ImageFile};
use super::scan::{self, Image};
use super::signatures::ImageSignatures;
use crate::content::{BlobId, Chunks, Contents, ManifestId, Source};
use crate::error::{Error, Failure, Kind, Result};
use crate::files::{Directory, Reading, show};
use crate::oci::{Descriptor, Digest, Document, MAX_DOCUMENT, MediaType, View};

/// The images at and below a directory.
#[derive(Debug)]
pub struct Tree {
    root: Directory,
    /// As it was named.
    source: PathBuf,
    found: scan::Found,
}

impl Tree {
    /// Looks for images: directories with a `manifest.json`, `source` itself or any below it, as `skopeo sync --src dir`
    /// does. Nothing is read yet but the names of files. Links below `source` are not followed.
    ///
    /// # Errors
    /// `Io` when `source` cannot be listed, `NotFound` when there is no image, `Refused` when there is too much.
    pub fn scan(source: &Path) -> Result<Tree> {
        let root = Directory::open(source)?;
        let mut found = scan::scan(&root)?;
        if let Some(image) = found.images.iter_mut().find(|image| image.folder.is_empty()) {
            image.suffix = scan::own_name(source)?;
        }
        if found.images.is_empty() && found.failures.is_empty() {
            return Err(Error::not_found(format!("there is no image at or below {}", show(source.as_os_str()))).hint(
                "name a directory that `skopeo sync --dest dir` wrote: an image's own has a manifest.json in it",
            ));
        }
        Ok(Tree { root, source: source.to_owned(), found })
    }

    /// What was found, sorted by suffix.
    pub fn images(&self) -> &[Image] {
        &self.found.images
    }

    /// The absolute path of the image's directory, without links.
    ///
    /// # Errors
    /// `Io` when it cannot be found out.
    pub fn path(&self, image: &Image) -> Result<PathBuf> {
        let path = self.source.join(&image.folder);
        path.canonicalize().map_err(|e| Error::io(format!("cannot find {}", image.shown), e))
    }

    /// Directories that hold or may hold images and cannot be used, with the reason.
    pub fn failures(&self) -> Vec<Failure> {
        let copy = |failure: &Failure| Failure { image: failure.image.clone(), error: failure.error.flattened() };
        self.found.failures.iter().map(copy).collect()
    }

    /// What a person should know and what stops nothing, such as a link that was not followed.
    pub fn notes(&self) -> &[String] {
        &self.found.notes
    }

    /// The image's `manifest.json`. Nothing vouches for it.
    ///
    /// # Errors
    /// As for [`Document::parse`]; `Refused` also for a `version` that is not 1.0 to 1.2.
    pub fn document(&self, image: &Image) -> Result<Document> {
        let read = || {
            let folder = self.folder(image)?;
            if folder.look(image_file::VERSION.as_ref())?.is_some() {
                image_file::check_version(&folder.read(image_file::VERSION, image_file::MAX_VERSION)?)?;
            }
            parse(folder.read(image_file::MANIFEST, MAX_DOCUMENT)?)
        };
        read().map_err(|e| e.context(format!("cannot read the image {}", image.shown)))
    }

    /// A manifest below the image's index, verified against its descriptor.
    ///
    /// # Errors
    /// `NotFound` when the directory does not hold it; `Damaged` when it is not what the descriptor says.
    pub fn child(&self, image: &Image, child: &Descriptor) -> Result<Document> {
        let folder = self.folder(image)?;
        let name = image_file::instance(child.digest);
        if folder.look(name.as_ref())?.is_none() {
            let platform = child.platform.as_ref().map(|platform| format!(" ({platform})")).unwrap_or_default();
            return Err(Error::not_found(format!(
                "{} has an index and not its manifest {}{platform}",
                image.shown, child.digest
            ))
            .hint("copy that image into the tree once more with all its platforms (--all)"));
        }
        let bytes = folder.read(&name, MAX_DOCUMENT)?;
        let found = Digest::of(&bytes);
        if found != child.digest || bytes.len() as u64 != child.size {
            let what = format!("{} has the digest {found} and {} bytes", folder.shown(&name), bytes.len());
            return Err(damaged(what));
        }
        Document::parse_known(bytes, &child.media_type, found)
            .map_err(|e| e.context(format!("cannot read the image {}", image.shown)))
    }

    /// The image's signatures.
    pub fn signatures(&self, image: &Image) -> Result<ImageSignatures> {
        let folder = self.folder(image)?;
        let entries = folder.entries(usize::MAX)?;
        ImageSignatures::read(&folder, entries.iter().filter_map(|entry| ImageFile::of(&entry.name)))
    }

    /// Whether some image of the tree holds a file for this blob with the right size.
    pub fn has_blob(&self, blob: &Descriptor) -> bool {
        self.holders(blob.digest).iter().any(|(_, size, _)| *size == blob.size)
    }

    /// Refuses contents of which a blob is missing or has another size, naming every image that needs one: to be asked
    /// before the first byte is moved.
    pub fn check(&self, contents: &Contents) -> Result<()> {
        let mut wrong: BTreeMap<BlobId, Error> = BTreeMap::new();
        for id in contents.blob_ids() {
            if let Err(error) = self.right_holders(contents, id) {
                wrong.insert(id, error);
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let mut broken: BTreeMap<ManifestId, BlobId> = BTreeMap::new();
        let mut failures = Vec::new();
        // A landing comes after everything that it needs.
        for id in contents.manifest_ids() {
            let landing = contents.manifest(id);
            let below = landing.after.iter().find_map(|before| broken.get(before));
            let Some(blob) = below.or_else(|| landing.blobs.iter().find(|blob| wrong.contains_key(blob))).copied()
            else {
                continue;
            };
            broken.insert(id, blob);
            if let Some(image) = landing.image {
                let image = contents.images[image as usize].source.clone();
                failures.push(Failure { image, error: wrong[&blob].flattened() });
            }
        }
        Err(Failure::report(failures, contents.images.len()))
    }

    fn folder(&self, image: &Image) -> Result<Directory> {
        self.root.below(&image.folder)
    }

    fn holders(&self, digest: Digest) -> &[(Digest, u64, u32)] {
        let blobs = &self.found.blobs;
        let begin = blobs.partition_point(|(other, ..)| *other < digest);
        let count = blobs[begin..].partition_point(|(other, ..)| *other == digest);
        &blobs[begin..begin + count]
    }

    /// The images that hold a file of the right size for the blob; at least one.
    fn right_holders(&self, contents: &Contents, blob: BlobId) -> Result<impl Iterator<Item = &Image>> {
        let blob = contents.blob(blob);
        let holders = self.holders(blob.digest);
        let size = blob.size;
        let mut right = holders.iter().filter(move |(_, found, _)| *found == size).peekable();
        if right.peek().is_none() {
            return Err(match holders.first() {
                Some((digest, found, image)) => {
                    let image = &self.found.images[*image as usize];
                    damaged(format!("{}/{} has {found} of {size} bytes", image.shown, digest.hex()))
                }
                None => Error::not_found(format!("there is no blob {} in {}", blob.digest, self.root.called()))
                    .hint("copy the images that need it into the tree once more"),
            });
        }
        Ok(right.map(|(_, _, image)| &self.found.images[*image as usize]))
    }
}

#[async_trait]
impl Source for Tree {
    async fn open(&self, contents: &Contents, blob: BlobId, offset: u64) -> Result<Chunks> {
        let (digest, size) = (contents.blob(blob).digest, contents.blob(blob).size);
        let mut worst = None;
        // Any image's copy will do: `transfer` checks the digest.
        for image in self.right_holders(contents, blob)? {
            let opened = self.folder(image).and_then(|folder| {
                let (file, found) = folder.file(&digest.hex())?;
                let shown = folder.shown(digest.hex());
                if found != size {
                    return Err(damaged(format!("{shown} has {found} of {size} bytes")));
                }
                Ok(Reading { file, shown: shown.into(), offset, end: size })
            });
            match opened {
                Ok(reading) => return Ok(reading.stream()),
                Err(error) => worst = Some(error),
            }
        }
        Err(worst.expect("right holders are at least one"))
    }

    fn mismatch(&self, contents: &Contents, blob: BlobId, what: &str) -> Error {
        let digest = contents.blob(blob).digest;
        let holder = self.right_holders(contents, blob).ok().and_then(|mut holders| holders.next());
        let shown = holder.map(|image| image.shown.as_str()).unwrap_or_default();
        damaged(format!("{shown}/{}: {what}", digest.hex()))
    }
}

/// A `manifest.json`, whose media type is told from what is in it. An old Docker manifest without one is known by its
/// config.
fn parse(bytes: Bytes) -> Result<Document> {
    let document = Document::parse(bytes, &MediaType::new(""))?;
    let is_docker = match document.view() {
        View::Manifest { config, .. } => config.media_type.as_str() == DOCKER_CONFIG,
        View::Index { .. } => false,
    };
    if is_docker && document.media_type().as_str() == MediaType::OCI_MANIFEST {
        let docker = MediaType::new(MediaType::DOCKER_MANIFEST);
        // Refused where it calls itself an OCI manifest: then it is one.
        if let Ok(document) = Document::parse_known(document.bytes().clone(), &docker, document.digest()) {
            return Ok(document);
        }
    }
    Ok(document)
}

fn damaged(what: String) -> Error {
    Error::new(Kind::Damaged, what).hint("remove that file and copy the image into the tree once more")
}

const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
