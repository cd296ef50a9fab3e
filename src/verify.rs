//! Is a bundle whole, and from whom. Reaches no registry.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use jiff::Timestamp;

use crate::bundle::{Bundle, Head};
use crate::error::Result;
use crate::place::{BlobId, Body, Chunks, Contents, Destination, LandingId, Linked, Order, Presence, ScopeId};
use crate::transfer::{self, Options, Summary, Supply};
use crate::trust::Trust;

/// A bundle whose signature and head are verified; its layers are verified in the read that uses them.
pub struct Verified {
    /// Where the layers are.
    pub bundle: Arc<Bundle>,
    /// Everything else.
    pub head: Head,
}

/// Verifies the signature, then the head and the closed list of files with their sizes.
///
/// # Errors
/// `Untrusted` or `Damaged`, with the file and what to do; `Io` when the medium cannot be read.
pub fn open(path: &Path, trust: &Trust, at: Timestamp) -> Result<Verified> {
    let bundle = Bundle::open(path)?;
    let seal = bundle.verify_seal(trust, at)?;
    let head = bundle.read_head(seal)?;
    Ok(Verified { bundle: Arc::new(bundle), head })
}

/// Reads and hashes every layer as well.
///
/// # Errors
/// `Damaged` with the file that is not what was sealed; `Io` when the medium cannot be read.
pub async fn layers(verified: &Verified, options: &Options) -> Result<Summary> {
    let options = Options { keep_going: false, ..options.clone() };
    let supply = Supply::Source(verified.bundle.clone());
    transfer::run(verified.head.contents.clone(), supply, Arc::new(Nowhere), &options)
        .await
        .map(|outcome| outcome.summary)
}

/// Takes everything and keeps nothing: reading it is what verifies it.
struct Nowhere;

#[async_trait]
impl Destination for Nowhere {
    fn order(&self) -> Order {
        Order::Any
    }

    async fn prepare(&self, _: &Contents) -> Result<HashSet<BlobId>> {
        Ok(HashSet::new())
    }

    async fn presence(&self, _: &Contents, _: BlobId, _: ScopeId) -> Result<Presence> {
        Ok(Presence::Absent)
    }

    async fn put(&self, _: &Contents, _: BlobId, _: ScopeId, body: &mut Body) -> Result<()> {
        let mut chunks = body.open().await?;
        while chunks.try_next().await?.is_some() {}
        Ok(())
    }

    async fn link(&self, _: &Contents, _: BlobId, _: ScopeId, _: ScopeId) -> Result<Linked> {
        Ok(Linked::Done)
    }

    async fn read_back(&self, _: &Contents, _: BlobId, _: ScopeId) -> Result<Chunks> {
        unreachable!("a link is never refused here")
    }

    async fn land(&self, _: &Contents, _: LandingId) -> Result<()> {
        Ok(())
    }

    async fn commit(&self, _: &Contents) -> Result<()> {
        Ok(())
    }
}
