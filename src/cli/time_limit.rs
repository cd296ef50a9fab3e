//! `--command-timeout`, the same for every command that moves images.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::registry_args::parse_duration;
use crate::error::{Error, Kind, Result};

#[derive(Debug, clap::Args)]
pub(super) struct TimeLimit {
    /// Stop after so long, such as 30m; the same command goes on where it stopped
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    command_timeout: Option<Duration>,
}

impl TimeLimit {
    /// The limit; 0 is none.
    pub(super) fn limit(&self) -> Option<Duration> {
        self.command_timeout.filter(|limit| !limit.is_zero())
    }
}

/// Runs `job`, and cancels it after `limit`.
///
/// # Errors
/// `Io` if the limit stopped it: what is done is kept, as after a signal.
pub(super) async fn within<F: Future<Output = Result<()>>>(
    limit: Option<Duration>,
    cancel: CancellationToken,
    job: impl FnOnce(CancellationToken) -> F,
) -> Result<()> {
    let Some(limit) = limit else { return job(cancel).await };
    let over = Arc::new(AtomicBool::new(false));
    let (watch, stop) = (over.clone(), cancel.clone());
    tokio::spawn(async move {
        tokio::time::sleep(limit).await;
        watch.store(true, Ordering::Relaxed);
        stop.cancel();
    });
    job(cancel).await.map_err(|error| match error.kind() {
        Kind::Interrupted if over.load(Ordering::Relaxed) => {
            Error::new(Kind::Io, format!("not done after {} s (--command-timeout)", limit.as_secs_f64()))
                .hint("run the same command again to go on where it stopped, with more time")
        }
        _ => error,
    })
}
