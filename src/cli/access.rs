//! How registries are reached, the same for every command.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::credentials::Lookup;
use crate::error::Result;
use crate::progress::Progress;
use crate::registry::{Client, Retry, Settings, Tls};
use crate::transfer;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Registries")]
pub(super) struct Access {
    /// Whether to demand HTTPS with a valid certificate; loopback addresses may always be plain HTTP
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    tls_verify: bool,
    /// How often a failed request is tried again
    #[arg(long, value_name = "N", default_value_t = 5)]
    retry_times: u32,
    /// The pause before the first retry, in seconds; it doubles with each one
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = parse_seconds)]
    retry_delay: f64,
    /// How many blobs or manifests are in flight at once
    #[arg(long, value_name = "N", default_value_t = DEFAULT_JOBS)]
    pub(super) jobs: NonZeroUsize,
}

impl Access {
    pub(super) fn client(&self, progress: &Arc<dyn Progress>, credentials: Arc<dyn Lookup>) -> Result<Client> {
        Client::new(Settings {
            tls: if self.tls_verify { Tls::Verified } else { Tls::Unverified },
            credentials,
            retry: Retry { times: self.retry_times, delay: Duration::from_secs_f64(self.retry_delay) },
            jobs: self.jobs.get(),
            progress: progress.clone(),
            ..Settings::default()
        })
    }

    pub(super) fn options(&self, progress: &Arc<dyn Progress>, cancel: CancellationToken) -> transfer::Options {
        transfer::Options { jobs: self.jobs, progress: progress.clone(), cancel, keep_going: false }
    }
}

pub(super) const DEFAULT_JOBS: NonZeroUsize = NonZeroUsize::new(6).expect("six is not zero");

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds between 0 and 3600".into()),
    }
}
