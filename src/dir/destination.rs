//! Image directories that are written, new or once more.
//!
//! What is right is kept: every file that is to stay was hashed in this run. A blob that comes is written into the
//! workshop and moves into its first image when all blobs are there; the others get links to it. `manifest.json` of
//! every image is replaced when everything else is durable, and only then what the old images had goes away. So a run
//! that is killed leaves old images, new images and directories without a `manifest.json`, and the same command goes on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;

use super::image::{ImageFiles, check_usable};
use super::locked_directory::{LockedDirectory, WORKSHOP};
use super::pool::Pool;
use super::signatures::ImageSignatures;
use crate::content::{
    BlobId, BlobStatus, Body, Chunks, Contents, Destination, ManifestId, MountOutcome, Order, PutBlob, PutManifest,
    RepositoryId,
};
use crate::error::{Error, Failure, Kind, Result};
use crate::files::{WRITERS, blocking, remove, show};
use crate::oci::Name;
use crate::progress::{Event, Progress};

/// Where an image of the contents goes.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The image, as [`NamedImage::name`](crate::content::NamedImage::name) calls it.
    pub image: Name,
    /// Its directory below the destination, with `/` between; any text that is a path without `.` and `..`.
    pub directory: String,
    /// What is to lie beside its manifests.
    pub signatures: ImageSignatures,
}

/// Writes image directories below one directory, which may be there already, with images in it.
pub struct DirDestination {
    destination: PathBuf,
    placements: HashMap<Name, Placement>,
    progress: Arc<dyn Progress>,
    ready: OnceLock<Ready>,
}

/// From [`Destination::prepare`] on.
struct Ready {
    site: Arc<LockedDirectory>,
    pool: Pool,
    filled: Mutex<Filled>,
}

/// What was done until now.
#[derive(Default)]
struct Filled {
    /// The images whose files are in place but for the manifest.
    images: BTreeMap<Name, ManifestId>,
    /// Device and inode of their directories, to notice when a medium takes two names for one.
    folders: HashMap<(u64, u64), String>,
    /// Directories in which something was written.
    written: Vec<String>,
}

impl DirDestination {
    /// Images of the contents that have no placement are an error when they are prepared; placements without an image
    /// are not. Touches nothing.
    ///
    /// # Errors
    /// `Usage` when a directory is no path below the destination, or is there twice.
    pub fn new(
        destination: PathBuf,
        placements: Vec<Placement>,
        progress: Arc<dyn Progress>,
    ) -> Result<DirDestination> {
        let mut directories: HashMap<&str, &Name> = HashMap::new();
        for placement in &placements {
            check_path(&placement.directory)?;
            if let Some(other) = directories.insert(&placement.directory, &placement.image)
                && *other != placement.image
            {
                return Err(Error::usage(format!(
                    "{other} and {} would both be written to {}",
                    placement.image, placement.directory
                ))
                .hint(
                    "use --scoped, which keeps the registry and the namespace in the name, or leave one of them out",
                ));
            }
        }
        let placements = placements.into_iter().map(|placement| (placement.image.clone(), placement)).collect();
        Ok(DirDestination { destination, placements, progress, ready: OnceLock::new() })
    }

    fn ready(&self) -> Result<&Ready> {
        self.ready.get().ok_or_else(|| Error::new(Kind::Io, "the directory was not prepared for writing"))
    }

    fn placement(&self, image: &Name) -> Result<&Placement> {
        self.placements
            .get(image)
            .ok_or_else(|| Error::usage(format!("{image} was given no directory to be written to")))
    }
}

#[async_trait]
impl Destination for DirDestination {
    fn order(&self) -> Order {
        Order::Any
    }

    async fn prepare(&self, contents: &Contents) -> Result<HashSet<BlobId>> {
        let planned: Result<HashSet<String>> =
            contents.images.iter().map(|image| Ok(self.placement(&image.name)?.directory.clone())).collect();
        let planned = Arc::new(planned?);
        let site = blocking({
            let (destination, planned) = (self.destination.clone(), planned.clone());
            move || {
                let site = LockedDirectory::open(&destination)?;
                check_directories(&site, &planned)?;
                Ok(Arc::new(site))
            }
        })
        .await?;
        let wanted = contents.blobs.iter().map(|blob| (blob.digest, blob.size)).collect();
        let pool = Pool::find(site.clone(), wanted, planned).await?;
        let there: HashSet<BlobId> = contents.blob_ids().filter(|id| pool.has(contents.blob(*id).digest)).collect();
        let missing = contents.blob_ids().filter(|id| !there.contains(id));
        site.check_space(missing.map(|id| contents.blob(id).size).sum())?;
        let ready = Ready { site, pool, filled: Mutex::default() };
        if self.ready.set(ready).is_err() {
            return Err(Error::new(Kind::Io, "the directory was prepared twice"));
        }
        Ok(there)
    }

    async fn blob_status(&self, contents: &Contents, blob: BlobId, _: RepositoryId) -> Result<BlobStatus> {
        let there = self.ready()?.pool.has(contents.blob(blob).digest);
        Ok(if there { BlobStatus::Present } else { BlobStatus::Absent })
    }

    async fn put_blob(&self, contents: &Contents, blob: BlobId, _: RepositoryId, body: &mut Body) -> Result<PutBlob> {
        let ready = self.ready()?;
        let blob = contents.blob(blob);
        ready.pool.put(&ready.site, blob.digest, blob.size, body.open().await?).await?;
        Ok(PutBlob::Uploaded)
    }

    /// Nothing to do: blobs go into images when these land.
    async fn mount_blob(&self, _: &Contents, _: BlobId, _: RepositoryId, _: RepositoryId) -> Result<MountOutcome> {
        Ok(MountOutcome::Done)
    }

    async fn read_back(&self, contents: &Contents, blob: BlobId, _: RepositoryId) -> Result<Chunks> {
        let ready = self.ready()?;
        let blob = contents.blob(blob);
        ready.pool.open(&ready.site, blob.digest, blob.size)
    }

    async fn put_manifest(&self, contents: &Contents, landing: ManifestId) -> Result<PutManifest> {
        let ready = self.ready()?;
        // The manifests below an index are written into the directory of the index.
        let Some(image) = contents.manifest(landing).image else { return Ok(PutManifest::Done) };
        let name = &contents.images[image as usize].name;
        let directory = &self.placement(name)?.directory;
        let folder = ready.site.image(directory)?;
        let stat = rustix::fs::fstat(folder.fd()).map_err(|e| folder.failed("look at", "", e))?;
        #[expect(clippy::useless_conversion, reason = "the fields' widths differ between platforms")]
        let inode = (stat.st_dev.into(), stat.st_ino.into());
        let other = ready.filled().folders.insert(inode, directory.clone());
        if let Some(other) = other.filter(|other| other != directory) {
            return Err(Error::usage(format!("{other} and {directory} are one directory on this medium"))
                .hint("choose a destination that tells upper case from lower case, or leave one of them out"));
        }
        let needs = ImageFiles::of(contents, landing);
        let changed = needs.fill(&ready.site, &ready.pool, contents, &folder, directory).await?;
        let mut filled = ready.filled();
        filled.images.insert(name.clone(), landing);
        if changed {
            filled.written.push(directory.clone());
        }
        Ok(PutManifest::Done)
    }

    async fn commit(&self, contents: &Contents) -> Result<()> {
        let ready = self.ready()?;
        let Filled { images, mut written, .. } = std::mem::take(&mut *ready.filled());
        if !written.is_empty() {
            written = ready.sync(written).await?;
        }
        let mut switched = false;
        let mut stale: Vec<(&str, Vec<String>)> = Vec::new();
        for (name, landing) in &images {
            let Placement { directory, signatures, .. } = self.placement(name)?;
            let folder = ready.site.image(directory)?;
            let needs = ImageFiles::of(contents, *landing);
            if needs.switch(contents, &folder, signatures)? {
                switched = true;
                written.push(directory.clone());
            }
            let leftovers = needs.leftovers(&folder, signatures)?;
            for stranger in leftovers.strangers {
                self.progress
                    .event(Event::Warning(&format!("{stranger} does not belong to the image: it was left there")));
            }
            if !leftovers.stale.is_empty() {
                stale.push((directory, leftovers.stale));
            }
            tokio::task::yield_now().await;
        }
        if switched || !stale.is_empty() {
            ready.sync(written).await?;
        }
        for (directory, names) in stale {
            let folder = ready.site.image(directory)?;
            names.iter().try_for_each(|name| remove(&folder, name))?;
        }
        ready.site.finish()
    }

    async fn abort(&self) {
        WRITERS.settle().await;
    }
}

impl Ready {
    fn filled(&self) -> MutexGuard<'_, Filled> {
        self.filled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn sync(&self, written: Vec<String>) -> Result<Vec<String>> {
        let site = self.site.clone();
        blocking(move || site.sync(&written).map(|()| written)).await
    }
}

/// Every directory that would be written holds an image already, or nothing of anybody's; all others are named.
fn check_directories(site: &LockedDirectory, planned: &HashSet<String>) -> Result<()> {
    let mut failures = Vec::new();
    for directory in planned {
        let usable = site.existing(directory).and_then(|folder| folder.as_ref().map_or(Ok(()), check_usable));
        if let Err(error) = usable {
            failures.push(Failure { image: directory.clone(), error });
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::report(failures, planned.len())) }
}

fn check_path(directory: &str) -> Result<()> {
    let what = directory.split('/').find_map(|part| match part {
        "" | "." | ".." => Some("it is no plain path below the destination"),
        WORKSHOP => Some("that name is taken by sealift itself"),
        part if part.contains('\0') => Some("it has a zero byte"),
        part if part.len() > MAX_PART => Some("a part of it is longer than 255 bytes"),
        _ => None,
    });
    match what {
        None => Ok(()),
        Some(what) => Err(Error::usage(format!("{} cannot be an image's directory: {what}", show(directory.as_ref())))
            .hint("give that image another name, or leave it out")),
    }
}

/// Of a file name, in bytes: all Linux file systems stop there.
const MAX_PART: usize = 255;
