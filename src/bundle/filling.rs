//! A blob's bytes into the place that is kept for them: those that an interrupted run left are hashed, not believed, and
//! only the rest is fetched.

use std::sync::atomic::Ordering;

use futures_util::StreamExt;

use super::files::{PartFile, Reading, StopOnDrop, blocking};
use crate::error::{Kind, Result};
use crate::oci::Hasher;
use crate::place::{Body, Chunks};

/// Takes the bytes of one blob in their order.
pub(super) trait Filling: Send {
    /// The next bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// What was there is no good: the next byte is the first.
    fn start_over(&mut self) -> Result<()>;
}

/// Fills `place` with the body; `left` is what an earlier run left of it there.
pub(super) async fn fill(place: &mut dyn Filling, left: Option<Reading>, body: &mut Body) -> Result<()> {
    let before = match left {
        Some(left) if body.replayable() => hash(left).await?,
        _ => Hasher::default(),
    };
    if before.count() > 0 {
        let chunks = body.open_after(before).await?;
        match pour(chunks, place).await {
            Err(_) if body.is_wrong() => drop(body.blame()),
            done => return done,
        }
    }
    place.start_over()?;
    let chunks = body.open().await?;
    pour(chunks, place).await
}

async fn pour(mut chunks: Chunks, place: &mut dyn Filling) -> Result<()> {
    while let Some(chunk) = chunks.next().await {
        place.write(&chunk?)?;
    }
    Ok(())
}

async fn hash(left: Reading) -> Result<Hasher> {
    let stop = StopOnDrop::default();
    let stopped = stop.0.clone();
    match blocking(move || left.hashed(|| !stopped.load(Ordering::Relaxed))).await {
        // It ends before that: something cut it.
        Err(error) if error.kind() == Kind::Damaged => Ok(Hasher::default()),
        hashed => hashed,
    }
}

impl Filling for PartFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        PartFile::write(self, bytes)
    }

    fn start_over(&mut self) -> Result<()> {
        PartFile::start_over(self)
    }
}
