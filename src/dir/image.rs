//! One image directory, from what is there to what should be.
//!
//! Until `manifest.json` is replaced it is the image that it was, with more files in it; a new one is no image yet.
//! After that it is the new image, with files of the old one in it until they are swept away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::FileType;

use super::image_file::{self, ImageFile, MANIFEST, VERSION, VERSION_TEXT};
use super::locked_directory::LockedDirectory;
use super::pool::Pool;
use super::signatures::ImageSignatures;
use crate::content::{Contents, ManifestId};
use crate::error::{Error, Result};
use crate::files::{Directory, PartFile, remove};
use crate::oci::Digest;

/// All that belongs into one image's directory.
#[derive(Debug)]
pub(super) struct ImageFiles {
    top: Digest,
    instances: BTreeSet<Digest>,
    blobs: BTreeMap<Digest, u64>,
}

impl ImageFiles {
    /// What lies at and below a landing.
    pub(super) fn of(contents: &Contents, landing: ManifestId) -> ImageFiles {
        let top = contents.manifest(landing).document;
        let mut needs = ImageFiles { top, instances: BTreeSet::new(), blobs: BTreeMap::new() };
        let mut stack = vec![landing];
        let mut seen = BTreeSet::from([landing]);
        while let Some(id) = stack.pop() {
            let landing = contents.manifest(id);
            if landing.document != top {
                needs.instances.insert(landing.document);
            }
            for blob in &landing.blobs {
                needs.blobs.insert(contents.blob(*blob).digest, contents.blob(*blob).size);
            }
            stack.extend(landing.after.iter().copied().filter(|below| seen.insert(*below)));
        }
        needs
    }

    /// Puts everything in place that an old image does not mind; says whether anything had to be done.
    pub(super) async fn fill(
        &self,
        site: &LockedDirectory,
        pool: &Pool,
        contents: &Contents,
        folder: &Arc<Directory>,
        directory: &str,
    ) -> Result<bool> {
        let mut changed = false;
        for (digest, size) in &self.blobs {
            changed |= pool.place(site, (*digest, *size), folder, directory).await?;
        }
        for digest in &self.instances {
            changed |= ensure(folder, &image_file::instance(*digest), &contents.documents.get(*digest)?.0)?;
        }
        Ok(changed)
    }

    /// Makes it the new image; says whether anything had to be done.
    pub(super) fn switch(
        &self,
        contents: &Contents,
        folder: &Arc<Directory>,
        signatures: &ImageSignatures,
    ) -> Result<bool> {
        let (manifest, _) = contents.documents.get(self.top)?;
        let mut changed = false;
        if !is(folder, MANIFEST, &manifest)? {
            // Signatures of the old manifest would be wrong beside the new one.
            for name in self.signature_files(folder)? {
                remove(folder, name)?;
            }
            changed = true;
        }
        changed |= ensure(folder, VERSION, VERSION_TEXT)?;
        changed |= ensure(folder, MANIFEST, &manifest)?;
        for (name, bytes) in self.signed(signatures) {
            changed |= ensure(folder, &name, bytes)?;
        }
        Ok(changed)
    }

    /// The files of the transport that do not belong to the image, and others that are not the transport's.
    pub(super) fn leftovers(&self, folder: &Directory, signatures: &ImageSignatures) -> Result<Leftovers> {
        let wanted: BTreeSet<String> = self.signed(signatures).map(|(name, _)| name).collect();
        let mut leftovers = Leftovers::default();
        for found in folder.entries(usize::MAX)? {
            let name = found.name.to_string_lossy().into_owned();
            let belongs = match ImageFile::of(&found.name) {
                _ if found.kind == FileType::Directory => continue,
                None => {
                    leftovers.strangers.push(folder.shown(&found.name));
                    continue;
                }
                Some(ImageFile::Version | ImageFile::Manifest) => true,
                Some(ImageFile::Instance(digest)) => self.instances.contains(&digest),
                Some(ImageFile::Blob(digest)) => self.blobs.contains_key(&digest),
                Some(ImageFile::Signature(..)) => wanted.contains(&name),
                Some(ImageFile::Unsupported | ImageFile::Part) => false,
            };
            if !belongs {
                leftovers.stale.push(name);
            }
        }
        Ok(leftovers)
    }

    /// The files of the signatures that sign what is here.
    fn signed<'a>(&'a self, signatures: &'a ImageSignatures) -> impl Iterator<Item = (String, &'a Bytes)> {
        signatures
            .files()
            .filter(|(of, ..)| of.is_none_or(|of| self.instances.contains(&of)))
            .map(|(_, name, bytes)| (name, bytes))
    }

    fn signature_files(&self, folder: &Directory) -> Result<Vec<String>> {
        let entries = folder.entries(usize::MAX)?;
        let signatures =
            entries.iter().filter(|found| matches!(ImageFile::of(&found.name), Some(ImageFile::Signature(..))));
        Ok(signatures.map(|found| found.name.to_string_lossy().into_owned()).collect())
    }
}

/// What is in an image's directory and not the image.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    /// Files of an image that was here before, or of a run that was killed.
    pub(super) stale: Vec<String>,
    /// Files of somebody, with their paths for a message.
    pub(super) strangers: Vec<String>,
}

/// Refuses a directory that holds somebody's files and no image.
pub(super) fn check_usable(folder: &Directory) -> Result<()> {
    let mut stranger = None;
    let (mut manifest, mut version, mut telling) = (false, false, false);
    for found in folder.entries(usize::MAX)? {
        match ImageFile::of(&found.name) {
            _ if found.kind == FileType::Directory => {}
            None => stranger = stranger.or(Some(folder.shown(&found.name))),
            Some(ImageFile::Manifest) => manifest = true,
            Some(ImageFile::Version) => version = true,
            Some(entry) => telling |= entry.is_telling(),
        }
    }
    if version {
        return folder
            .read(VERSION, image_file::MAX_VERSION)
            .and_then(|text| image_file::check_version(&text))
            .map_err(|e| {
                e.context(format!("{} cannot become an image", folder.called()))
                    .hint("move that directory away, or choose another destination")
            });
    }
    // Somebody's `manifest.json` need not be that of an image.
    let stranger = stranger.or_else(|| (manifest && !telling).then(|| folder.shown(MANIFEST)));
    match stranger {
        None => Ok(()),
        Some(stranger) => Err(Error::usage(format!("{} holds no image but {stranger}", folder.called()))
            .hint("move that directory away, or choose another destination")),
    }
}

/// Makes sure that the file has these bytes, replacing it by a rename; says whether anything had to be done.
fn ensure(folder: &Arc<Directory>, name: &str, bytes: &[u8]) -> Result<bool> {
    if is(folder, name, bytes)? {
        return Ok(false);
    }
    remove(folder, image_file::part(name))?;
    let mut part = PartFile::create(folder, image_file::part(name), bytes.len() as u64)?;
    part.write(bytes)?;
    part.finish(name)?;
    Ok(true)
}

fn is(folder: &Directory, name: &str, bytes: &[u8]) -> Result<bool> {
    let same_size = folder.look(name.as_ref())?.is_some_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size as u64 == bytes.len() as u64
    });
    Ok(same_size && folder.read(name, bytes.len() as u64)? == bytes)
}
