//! How registries are reached, the same for every command.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::registry::{CertificateDirectories, Client, Proxies, ProxyUrl, Retry, Settings, Tls};
use crate::transfer;

#[derive(Debug, clap::Args)]
pub(super) struct Access {
    /// Whether to demand HTTPS with a valid certificate; loopback addresses may always be plain HTTP
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    tls_verify: bool,
    /// A directory with the certificates to use: *.crt of CAs, *.cert and *.key of a client; instead of the certs.d
    /// directories of docker and podman
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
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
    pub(super) fn client(&self, progress: &Arc<dyn Progress>) -> Result<Client> {
        Client::new(Settings {
            tls: if self.tls_verify { Tls::Verified } else { Tls::Unverified },
            certificates: self.certificates()?,
            proxies: proxies()?,
            retry: Retry { times: self.retry_times, delay: Duration::from_secs_f64(self.retry_delay) },
            jobs: self.jobs.get(),
            progress: progress.clone(),
            ..Settings::default()
        })
    }

    fn certificates(&self) -> Result<CertificateDirectories> {
        if let Some(given) = &self.cert_dir
            && !given.is_dir()
        {
            return Err(Error::usage(format!("--cert-dir {} is not a directory", given.display())));
        }
        let home = std::env::home_dir().map(|home| home.join(".config/containers/certs.d"));
        let system = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
        Ok(CertificateDirectories { given: self.cert_dir.clone(), per_host: home.into_iter().chain(system).collect() })
    }

    pub(super) fn options(&self, progress: &Arc<dyn Progress>, cancel: CancellationToken) -> transfer::Options {
        transfer::Options { jobs: self.jobs, progress: progress.clone(), cancel }
    }
}

/// The proxies that the environment names. `ALL_PROXY` stands in for what the others do not name, as for curl.
fn proxies() -> Result<Proxies> {
    let variable = |names: &[&'static str]| {
        let set = |name: &&'static str| std::env::var(name).ok().filter(|value| !value.is_empty()).map(|v| (*name, v));
        names.iter().find_map(set)
    };
    let proxy = |names: &[&'static str]| match variable(names) {
        None => Ok(None),
        Some((name, value)) => value.parse::<ProxyUrl>().map(Some).map_err(|e| e.context(format!("cannot use {name}"))),
    };
    let Ok(exempt) = variable(&["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default().parse();
    Ok(Proxies {
        https: proxy(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])?,
        http: proxy(&["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])?,
        exempt,
    })
}

pub(super) const DEFAULT_JOBS: NonZeroUsize = NonZeroUsize::new(6).expect("six is not zero");

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds between 0 and 3600".into()),
    }
}
