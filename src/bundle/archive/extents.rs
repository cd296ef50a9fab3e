//! Where the blobs of a plan belong in the archive, and what it takes to bring there what is somewhere else.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::partial::PartialArchive;
use crate::bundle::format::blobs::blob_path;
use crate::bundle::format::members::{BLOCK, header, padding};
use crate::bundle::format::offsets::{MemberOffsets, ZEROS};
use crate::bundle::resume::journal::Journal;
use crate::bundle::resume::relocate::{Extent, Relocation};
use crate::content::Contents;
use crate::error::Result;
use crate::files::{StopOnDrop, blocking};
use crate::oci::Digest;

/// Where each blob belongs.
#[derive(Debug)]
pub(super) struct BlobExtents(HashMap<Digest, Extent>);

impl BlobExtents {
    pub(super) fn new(chain: &MemberOffsets, contents: &Contents) -> BlobExtents {
        let place = |id| (contents.blob(id).digest, Extent { offset: chain.blob(id), length: contents.blob(id).size });
        BlobExtents(contents.blob_ids().map(place).collect())
    }

    /// Of a blob, if it is in the plan.
    pub(super) fn of(&self, digest: Digest) -> Option<Extent> {
        self.0.get(&digest).copied()
    }

    /// Brings everything in `held` to where it belongs, headers and padding too.
    pub(super) async fn settle(
        self: &Arc<Self>,
        site: &Arc<PartialArchive>,
        journal: &Arc<Journal>,
        held: &HashMap<Digest, Extent>,
    ) -> Result<()> {
        let step = |(digest, now): (&Digest, &Extent)| {
            let to = self.of(*digest)?.offset;
            Some(Relocation { digest: *digest, from: now.offset, to, length: now.length })
        };
        let steps: Vec<Relocation> = held.iter().filter_map(step).collect();
        let (places, site, journal) = (self.clone(), site.clone(), journal.clone());
        stoppable(move |go_on| {
            site.rearrange(&journal, &steps, go_on)?;
            for step in steps {
                let Some(place) = places.of(step.digest) else { continue };
                site.write(place.offset - BLOCK, &header(&blob_path(step.digest), place.length))?;
                if step.length == place.length {
                    site.write(place.end(), &ZEROS[..padding(place.length) as usize])?;
                }
            }
            Ok(())
        })
        .await
    }
}

/// Does what takes long on a thread for that; it is told when nobody waits for it any more.
pub(super) async fn stoppable<T: Send + 'static>(
    work: impl FnOnce(&dyn Fn() -> bool) -> Result<T> + Send + 'static,
) -> Result<T> {
    let stop = StopOnDrop::default();
    let stopped = stop.0.clone();
    blocking(move || work(&|| !stopped.load(Ordering::Relaxed))).await
}
