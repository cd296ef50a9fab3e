//! The search for images below a directory. Nothing is opened but directories.

use std::ffi::OsStr;
use std::path::Path;

use rustix::fs::FileType;

use super::image_file::{ImageFile, MANIFEST};
use super::locked_directory::WORKSHOP;
use crate::error::{Error, Failure, Kind, Result};
use crate::files::{self, Directory, show};
use crate::oci::Digest;

/// A directory that holds an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its path below the tree, with `/` between: what skopeo calls its name. The last part of the tree's own path if
    /// the tree is itself an image.
    pub suffix: String,
    /// Where it is, for messages.
    pub shown: String,
    /// Its path below the tree; empty if the tree is itself an image.
    pub(super) folder: String,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) images: Vec<Image>,
    /// Every file that is named as a blob: digest, size in bytes, index into `images`. Sorted.
    pub(super) blobs: Vec<(Digest, u64, u32)>,
    pub(super) failures: Vec<Failure>,
    pub(super) notes: Vec<String>,
}

/// Looks into `root` and every directory below it.
pub(super) fn scan(root: &Directory) -> Result<Found> {
    let mut scan = Scan { found: Found::default(), entries: MAX_ENTRIES };
    scan.visit(root, "", 0)?;
    let mut found = scan.found;
    let mut order: Vec<u32> = (0..found.images.len() as u32).collect();
    order.sort_by(|a, b| found.images[*a as usize].suffix.cmp(&found.images[*b as usize].suffix));
    let mut rank = vec![0; order.len()];
    order.iter().enumerate().for_each(|(rank_of, image)| rank[*image as usize] = rank_of as u32);
    found.blobs.iter_mut().for_each(|(_, _, image)| *image = rank[*image as usize]);
    found.blobs.sort_unstable();
    found.images.sort_by(|a, b| a.suffix.cmp(&b.suffix));
    Ok(found)
}

struct Scan {
    found: Found,
    /// That may still be looked at.
    entries: usize,
}

impl Scan {
    fn visit(&mut self, folder: &Directory, suffix: &str, depth: usize) -> Result<()> {
        let entries = folder.entries(self.entries)?;
        self.entries -= entries.len();
        if entries.iter().any(|entry| entry.name == "oci-layout") {
            self.note(format!(
                "{} is an OCI image layout and not a tree of image directories: it was passed over",
                folder.called()
            ));
            return Ok(());
        }
        self.take_image(folder, suffix, &entries)?;
        for entry in entries {
            match entry.kind {
                FileType::Directory => self.descend(folder, &entry.name, suffix, depth)?,
                FileType::Symlink if ImageFile::of(&entry.name).is_none() => {
                    self.note(format!("{} is a symbolic link and was not followed", folder.shown(&entry.name)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn descend(&mut self, folder: &Directory, name: &OsStr, suffix: &str, depth: usize) -> Result<()> {
        let shown = folder.shown(name);
        let fail = |error: Error| Failure { image: shown.clone(), error };
        let Some(text) = name.to_str() else {
            let error = Error::usage(format!("{shown} is not UTF-8, so no image can be named after it"))
                .hint("rename that directory, or leave it out of the tree");
            self.found.failures.push(fail(error));
            return Ok(());
        };
        if suffix.is_empty() && text == WORKSHOP {
            let error =
                Error::new(Kind::Io, format!("{shown} says that a sync into this tree has not come to its end"))
                    .hint("run that sync again, or remove that directory");
            self.found.failures.push(fail(error));
            return Ok(());
        }
        if depth == MAX_DEPTH {
            return Err(Error::refused(format!("{shown} lies more than {MAX_DEPTH} directories deep"))
                .hint("name a directory further down"));
        }
        let below = if suffix.is_empty() { text.to_owned() } else { format!("{suffix}/{text}") };
        // A directory that cannot be opened may hold an image; the others can still be had.
        match folder.folder(text) {
            Ok(inner) => self.visit(&inner, &below, depth + 1),
            Err(error) => {
                self.found.failures.push(fail(error));
                Ok(())
            }
        }
    }

    /// Notes the image of this directory, if there is one.
    fn take_image(&mut self, folder: &Directory, suffix: &str, entries: &[files::DirectoryEntry]) -> Result<()> {
        let number = self.found.images.len() as u32;
        let mut telling = false;
        let mut manifest = None;
        let before = self.found.blobs.len();
        for entry in entries {
            let kind = ImageFile::of(&entry.name);
            match kind {
                Some(ImageFile::Manifest) => manifest = Some(entry.kind),
                Some(ImageFile::Blob(digest)) if entry.kind == FileType::RegularFile => {
                    self.found.blobs.push((digest, entry.size, number));
                }
                _ => {}
            }
            let regular = entry.kind == FileType::RegularFile;
            telling |= regular && kind.is_some_and(|kind| kind.is_telling() || kind == ImageFile::Version);
        }
        let fail = |error| Failure { image: folder.called(), error };
        match manifest {
            Some(FileType::RegularFile) => {
                if self.found.images.len() == MAX_IMAGES {
                    return Err(Error::refused(format!("there are more than {MAX_IMAGES} images in the tree"))
                        .hint("name a directory further down, and do it in parts"));
                }
                self.found.images.push(Image {
                    suffix: suffix.to_owned(),
                    shown: folder.called(),
                    folder: suffix.to_owned(),
                });
                return Ok(());
            }
            Some(kind) => {
                let error = folder.wrong_kind(OsStr::new(MANIFEST), kind, "a regular file");
                self.found.failures.push(fail(error));
            }
            None if telling => {
                let error =
                    Error::not_found(format!("{} is an unfinished image: it has no {MANIFEST}", folder.called()))
                        .hint("run what wrote it again, or remove that directory");
                self.found.failures.push(fail(error));
            }
            None => {}
        }
        self.found.blobs.truncate(before);
        Ok(())
    }

    fn note(&mut self, text: String) {
        if self.found.notes.len() < MAX_NOTES {
            self.found.notes.push(text);
        }
    }
}

/// The name of an image that is the tree itself: the last part of the path by which it was named.
pub(super) fn own_name(source: &Path) -> Result<String> {
    let name = match source.file_name() {
        Some(name) => name.to_owned(),
        // `.`, `..` and `/` say nothing.
        None => std::fs::canonicalize(source)
            .map_err(|e| Error::io(format!("cannot find {}", show(source.as_os_str())), e))?
            .file_name()
            .unwrap_or_default()
            .to_owned(),
    };
    name.to_str().filter(|name| !name.is_empty()).map(str::to_owned).ok_or_else(|| {
        Error::usage(format!("{} gives no name to the image that it is", show(source.as_os_str())))
            .hint("name the directory above it, or rename it")
    })
}

/// Entries of all directories together.
const MAX_ENTRIES: usize = 1_000_000;
/// Images of one tree.
const MAX_IMAGES: usize = 50_000;
/// More than a repository path has components.
const MAX_DEPTH: usize = 130;
/// Nobody reads more.
const MAX_NOTES: usize = 20;
