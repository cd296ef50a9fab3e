//! The blobs that are below the destination, whichever image they belong to: each is fetched once, and kept from run
//! to run where its bytes are right.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{StreamExt, TryStreamExt, stream};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::image_file::ImageFile;
use super::link::{self, LinkKind, changed, share};
use super::locked_directory::{LockedDirectory, WORKSHOP};
use crate::content::Chunks;
use crate::error::{Error, Kind, Result};
use crate::files::{Directory, HASHERS, PartFile, Reading, Stamp, StopOnDrop, Writer, blocking, remove};
use crate::oci::Digest;

/// Which blobs are there, and in which directory to find each.
#[derive(Debug, Default)]
pub(super) struct Pool {
    homes: Mutex<HashMap<Digest, Home>>,
    /// Every file whose bytes were found to be right.
    right: HashMap<Stamp, Digest>,
}

#[derive(Debug, Clone)]
struct Home {
    /// Below the destination.
    directory: Arc<str>,
    stamp: Stamp,
}

impl Pool {
    /// Looks for blobs of `wanted` (digest, size in bytes) below the destination and hashes them: all that lie in a
    /// directory of `planned`, and of the others one each if there is no such.
    pub(super) async fn find(
        site: Arc<LockedDirectory>,
        wanted: HashMap<Digest, u64>,
        planned: Arc<HashSet<String>>,
    ) -> Result<Pool> {
        let candidates = blocking({
            let (site, planned) = (site.clone(), planned.clone());
            move || search(&site, &wanted, &planned)
        })
        .await?;
        let stop = StopOnDrop::default();
        let hashed: Vec<Vec<(Digest, Home)>> = stream::iter(candidates.into_iter().map(|(digest, files)| {
            let (site, stopped) = (site.clone(), stop.0.clone());
            blocking(move || Ok(files.hash(&site, digest, &stopped)))
        }))
        .buffer_unordered(std::thread::available_parallelism().map_or(2, usize::from).min(HASHERS))
        .try_collect()
        .await?;
        let mut pool = Pool::default();
        for (digest, home) in hashed.into_iter().flatten() {
            pool.right.insert(home.stamp, digest);
            pool.homes().entry(digest).or_insert(home);
        }
        Ok(pool)
    }

    pub(super) fn has(&self, digest: Digest) -> bool {
        self.homes().contains_key(&digest)
    }

    /// Takes the bytes of a blob, which must be verified.
    pub(super) async fn put(
        &self,
        site: &LockedDirectory,
        digest: Digest,
        size: u64,
        mut chunks: Chunks,
    ) -> Result<()> {
        let name = digest.hex();
        let (workshop, part) = (site.workshop.clone(), super::image_file::part(&name));
        let mut writer = Writer::open(move || PartFile::create(&workshop, part, size)).await?;
        let copied = async {
            while let Some(chunk) = chunks.try_next().await? {
                writer.write(chunk).await?;
            }
            Ok(())
        };
        if let Err(error) = copied.await {
            let _ = writer.abandon(|_| Ok(())).await;
            return Err(error);
        }
        writer.finish(move |part| part.finish(&name)).await?;
        self.settle(&site.workshop, WORKSHOP, digest)
    }

    /// Makes sure that the blob is in `folder`, which is called `directory`; says whether anything had to be done.
    pub(super) async fn place(
        &self,
        site: &LockedDirectory,
        (digest, size): (Digest, u64),
        folder: &Arc<Directory>,
        directory: &str,
    ) -> Result<bool> {
        let name = digest.hex();
        if let Some(stamp) = stamp(folder, &name)?
            && self.is_right(stamp, digest)
        {
            return Ok(false);
        }
        let Some(home) = self.move_in(site, digest, folder, directory)? else { return Ok(true) };
        let from = site.root.below(&home.directory)?;
        if stamp(&from, &name)? != Some(home.stamp) {
            return Err(changed(&from.shown(&name)));
        }
        if share(&from, folder, digest, size).await? == LinkKind::Crowded {
            self.settle(folder, directory, digest)?;
        }
        Ok(true)
    }

    /// The bytes of a blob that is there.
    pub(super) fn open(&self, site: &LockedDirectory, digest: Digest, size: u64) -> Result<Chunks> {
        let home = self.home(digest)?;
        let folder = site.root.below(&home.directory)?;
        Ok(open(&folder, digest, size)?.stream())
    }

    /// The first image that needs a new blob takes it out of the workshop; returns where it is if it has left.
    fn move_in(
        &self,
        site: &LockedDirectory,
        digest: Digest,
        folder: &Directory,
        directory: &str,
    ) -> Result<Option<Home>> {
        let mut homes = self.homes();
        let home = homes.get_mut(&digest).ok_or_else(|| gone(digest))?;
        if &*home.directory == WORKSHOP {
            let name = digest.hex();
            match rustix::fs::renameat(site.workshop.fd(), &name, folder.fd(), &name) {
                Ok(()) => {
                    home.directory = directory.into();
                    return Ok(None);
                }
                // A medium of its own is mounted there.
                Err(Errno::XDEV) => {}
                Err(e) => return Err(folder.failed("write", &name, e)),
            }
        }
        Ok(Some(home.clone()))
    }

    /// From now on the blob is found in `folder`.
    fn settle(&self, folder: &Directory, directory: &str, digest: Digest) -> Result<()> {
        let stamp = stamp(folder, &digest.hex())?.ok_or_else(|| gone(digest))?;
        self.homes().insert(digest, Home { directory: directory.into(), stamp });
        Ok(())
    }

    fn is_right(&self, stamp: Stamp, digest: Digest) -> bool {
        self.right.get(&stamp) == Some(&digest) || self.homes().get(&digest).is_some_and(|home| home.stamp == stamp)
    }

    fn home(&self, digest: Digest) -> Result<Home> {
        self.homes().get(&digest).cloned().ok_or_else(|| gone(digest))
    }

    fn homes(&self) -> MutexGuard<'_, HashMap<Digest, Home>> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The files that are named as one blob and have its size.
#[derive(Debug, Default)]
struct Files {
    size: u64,
    /// In directories that the run writes: what is wrong there has to be replaced.
    planned: Vec<Home>,
    /// Elsewhere.
    others: Vec<Home>,
}

impl Files {
    /// The files whose bytes are right: of those elsewhere only as many as are needed.
    fn hash(self, site: &LockedDirectory, digest: Digest, stopped: &AtomicBool) -> Vec<(Digest, Home)> {
        let mut known: HashMap<Stamp, bool> = HashMap::new();
        let mut right = Vec::new();
        let mut look = |home: &Home| {
            // Links to one file are hashed once.
            if let Some(known) = known.get(&home.stamp) {
                return *known;
            }
            let go_on = || !stopped.load(Ordering::Relaxed);
            let read = || open(&site.root.below(&home.directory)?, digest, self.size)?.has(digest, go_on);
            // What cannot be read is not there: it is fetched again and replaced.
            let is_right = read().is_ok_and(|right| right && go_on());
            known.insert(home.stamp, is_right);
            is_right
        };
        for home in self.planned {
            if look(&home) {
                right.push((digest, home));
            }
        }
        for home in self.others {
            if !right.is_empty() {
                break;
            }
            if look(&home) {
                right.push((digest, home));
            }
        }
        right
    }
}

/// Looks through all directories below the destination; sweeps up what a killed run left half-written.
fn search(
    site: &LockedDirectory,
    wanted: &HashMap<Digest, u64>,
    planned: &HashSet<String>,
) -> Result<BTreeMap<Digest, Files>> {
    let mut search = Search { wanted, planned, found: BTreeMap::new(), entries: MAX_ENTRIES };
    search.visit(&site.root, "", 0)?;
    Ok(search.found)
}

struct Search<'a> {
    wanted: &'a HashMap<Digest, u64>,
    planned: &'a HashSet<String>,
    found: BTreeMap<Digest, Files>,
    /// That may still be looked at.
    entries: usize,
}

impl Search<'_> {
    fn visit(&mut self, folder: &Directory, directory: &str, depth: usize) -> Result<()> {
        let is_ours = directory == WORKSHOP || self.planned.contains(directory);
        let entries = match folder.entries(if is_ours { usize::MAX } else { self.entries }) {
            Ok(entries) => entries,
            Err(error) if is_ours => return Err(error),
            // Where images of other runs are is only a chance to save a download.
            Err(_) => return Ok(()),
        };
        self.entries = self.entries.saturating_sub(entries.len());
        for entry in entries {
            match (entry.kind, ImageFile::of(&entry.name)) {
                (FileType::Directory, _) => {
                    let Some(name) = entry.name.to_str() else { continue };
                    let below = if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
                    match folder.folder(name) {
                        Ok(inner) if depth < MAX_DEPTH => self.visit(&inner, &below, depth + 1)?,
                        _ => {}
                    }
                }
                (FileType::RegularFile, Some(ImageFile::Part)) => remove(folder, &entry.name)?,
                (FileType::RegularFile, Some(ImageFile::Blob(digest))) => {
                    if self.wanted.get(&digest) == Some(&entry.size)
                        && let Some(stamp) = stamp(folder, &digest.hex())?
                    {
                        let files = self.found.entry(digest).or_default();
                        files.size = entry.size;
                        let home = Home { directory: directory.into(), stamp };
                        let list = if is_ours { &mut files.planned } else { &mut files.others };
                        list.push(home);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn stamp(folder: &Directory, name: &str) -> Result<Option<Stamp>> {
    let stat = folder.look(name.as_ref())?;
    let regular = stat.filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    Ok(regular.as_ref().map(Stamp::from))
}

fn open(folder: &Directory, digest: Digest, size: u64) -> Result<Reading> {
    let name = digest.hex();
    let (file, found) = folder.file(&name)?;
    if found != size {
        return Err(link::changed(&folder.shown(&name)));
    }
    Ok(Reading { file, shown: folder.shown(&name).into(), offset: 0, end: size })
}

fn gone(digest: Digest) -> Error {
    Error::new(Kind::Io, format!("blob {digest} was not written or went away")).hint("run the same command again")
}

/// Entries below the destination that are looked at in search of blobs.
const MAX_ENTRIES: usize = 1_000_000;
/// More than a repository path has components.
const MAX_DEPTH: usize = 130;
