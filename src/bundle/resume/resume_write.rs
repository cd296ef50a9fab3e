//! A blob's bytes into the place that is kept for them: those that an interrupted run left are hashed, not believed, and
//! only the rest is fetched.

use std::sync::atomic::Ordering;

use futures_util::StreamExt;

use crate::content::{Body, Chunks};
use crate::error::{Kind, Result};
use crate::files::{Filling, Reading, StopOnDrop, Writer, blocking};
use crate::oci::Hasher;

/// Fills `place` with the body; `left` is what an earlier run left of it there.
pub(crate) async fn fill<P: Filling>(place: &mut Writer<P>, left: Option<Reading>, body: &mut Body) -> Result<()> {
    let before = match left {
        Some(left) if body.replayable() => hash(left).await?,
        _ => Hasher::default(),
    };
    if before.count() > 0 {
        let chunks = body.open_after(before).await?;
        match pour(chunks, place).await {
            Err(_) if body.has_mismatch() => drop(body.source_error()),
            done => return done,
        }
    }
    place.start_over().await?;
    let chunks = body.open().await?;
    pour(chunks, place).await
}

async fn pour<P: Filling>(mut chunks: Chunks, place: &mut Writer<P>) -> Result<()> {
    while let Some(chunk) = chunks.next().await {
        place.write(chunk?).await?;
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
