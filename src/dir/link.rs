//! One file in two directories: by a hard link, else as a clone that shares its blocks, else as a copy.
//!
//! A hard link comes first, although writing into one of its names would change the other: nobody writes into a file
//! that is named by its digest. sealift and skopeo replace it by a rename or remove it; what they do rewrite in place
//! (`version`, `manifest.json`, signatures) is never linked. A linked file is hashed once a run, however many images
//! share it, and other programs see that it is shared.

use std::fs::File;
use std::sync::Arc;

use futures_util::TryStreamExt;
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::image_file::part;
use crate::error::{Error, Kind, Result};
use crate::files::{Directory, PartFile, Reading, Writer, create, remove};
use crate::oci::{Digest, Hasher};

/// How a file came to be in the second directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkKind {
    Linked,
    /// There is a second file now; the reason why it is not a link is that the first has too many of them.
    Crowded,
    Copied,
}

/// Puts the blob `digest` of `size` bytes, which is in `from`, into `to` as well, in place of what may have its name.
pub(super) async fn share(from: &Directory, to: &Arc<Directory>, digest: Digest, size: u64) -> Result<LinkKind> {
    let name = digest.hex();
    let how = match hard_link(from, to, &name) {
        Ok(()) => return Ok(LinkKind::Linked),
        Err(Errno::MLINK) => LinkKind::Crowded,
        // The medium has none, or the file belongs to somebody else, or lies on another medium.
        Err(Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::NOSYS | Errno::XDEV) => LinkKind::Copied,
        Err(e) => return Err(to.failed("link", &name, e)),
    };
    let (file, found) = from.file(&name)?;
    if found != size {
        return Err(changed(&from.shown(&name)));
    }
    if !clone(&file, to, &name)? {
        copy(file, from.shown(&name), to, digest, size).await?;
    }
    Ok(how)
}

fn hard_link(from: &Directory, to: &Directory, name: &str) -> rustix::io::Result<()> {
    match rustix::fs::linkat(from.fd(), name, to.fd(), name, AtFlags::empty()) {
        Err(Errno::EXIST) => {}
        result => return result,
    }
    let part = part(name);
    let _ = rustix::fs::unlinkat(to.fd(), &part, AtFlags::empty());
    rustix::fs::linkat(from.fd(), name, to.fd(), &part, AtFlags::empty())?;
    rustix::fs::renameat(to.fd(), &part, to.fd(), name)?;
    // Renaming one name of a file to another name of it does nothing.
    let _ = rustix::fs::unlinkat(to.fd(), &part, AtFlags::empty());
    Ok(())
}

/// Whether the medium could do it.
#[cfg(target_os = "linux")]
pub(super) fn clone(file: &File, to: &Directory, name: &str) -> Result<bool> {
    let part = part(name);
    remove(to, &part)?;
    let new = create(to, &part)?;
    if rustix::fs::ioctl_ficlone(&new, file).is_err() {
        remove(to, &part)?;
        return Ok(false);
    }
    rustix::fs::renameat(to.fd(), &part, to.fd(), name).map_err(|e| to.failed("rename", &part, e))?;
    Ok(true)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn clone(_: &File, _: &Directory, _: &str) -> Result<bool> {
    Ok(false)
}

async fn copy(file: File, shown: String, to: &Arc<Directory>, digest: Digest, size: u64) -> Result<()> {
    let name = digest.hex();
    let (folder, part) = (to.clone(), part(&name));
    let create = move || {
        remove(&folder, &part)?;
        PartFile::create(&folder, part, size)
    };
    let mut copy = Writer::open(create).await?;
    let mut hasher = Hasher::default();
    let mut chunks = Reading { file, shown: shown.clone().into(), offset: 0, end: size }.stream();
    while let Some(chunk) = chunks.try_next().await? {
        hasher.update(&chunk);
        copy.write(chunk).await?;
    }
    if hasher.finish() != digest {
        copy.abandon(|_| Ok(())).await?;
        return Err(changed(&shown));
    }
    copy.finish(move |copy| copy.finish(&name)).await
}

/// The error for a file that is not any more what it was when it was hashed.
pub(super) fn changed(shown: &str) -> Error {
    Error::new(Kind::Io, format!("{shown} was changed while the sync ran"))
        .hint("something else writes there: let it end, then run the same command again")
}
