//! How registries are reached, the same for every command.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::containers::Registries;
use crate::credentials::Lookup;
use crate::error::{Error, Result};
use crate::oci::Host;
use crate::plan::MAX_REQUESTS;
use crate::progress::Progress;
use crate::registry::{
    CertificateDirectories, Client, HostSettings, Proxies, ProxyUrl, Rate, RedirectHost, Redirects, Retry, RunState,
    Settings, Tls,
};
use crate::select::Registry;
use crate::transfer;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Registries")]
pub(super) struct AccessArgs {
    /// Whether to demand HTTPS with a valid certificate; loopback addresses may always be plain HTTP [default: true]
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    tls_verify: Option<bool>,
    /// A directory with the certificates to use: *.crt of CAs, *.cert and *.key of a client; instead of the certs.d
    /// directories of docker and podman
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// Let a public registry send requests to HOST also where it has a private address (10.0.0.0/8, this machine and the
    /// like); may be given again
    #[arg(long, value_name = "HOST")]
    allow_redirect: Vec<RedirectHost>,
    #[command(flatten)]
    pub(super) effort: RetryArgs,
}

/// How hard registries are worked.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Registries")]
pub(super) struct RetryArgs {
    /// How often a failed request is tried again
    #[arg(long, value_name = "N", default_value_t = 5)]
    retry_times: u32,
    /// The pause before the first retry: seconds, or with a unit, such as 500ms; it doubles with each one
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_pause)]
    retry_delay: Duration,
    /// Give up what gets no new byte for so long, retries and pauses that a server asks for included; a manifest or list
    /// must be whole by then. 0 is no limit
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_duration)]
    stall_timeout: Duration,
    /// How many blobs or manifests are in flight at once
    #[arg(long, value_name = "N", default_value_t = DEFAULT_JOBS)]
    pub(super) jobs: NonZeroUsize,
    /// How many bytes of blobs may pass a second, such as 500KiB or 20MiB
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    limit_rate: Option<NonZeroU64>,
    /// Both sides of a sync share it.
    #[arg(skip)]
    run: Arc<RunState>,
}

/// To whom and how one side connects.
#[derive(Debug, Default)]
pub(super) struct Connections {
    /// Whether servers must prove who they are, if that was said.
    pub(super) tls_verify: Option<bool>,
    /// The directory of certificates, if one was named.
    pub(super) cert_dir: Option<PathBuf>,
    pub(super) redirects: Redirects,
}

/// How much a registry may make of one image.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Registries")]
pub(super) struct RequestLimit {
    /// Give up an image that takes more than N requests for its manifests and for what refers to it
    #[arg(long, value_name = "N", default_value_t = MAX_REQUESTS)]
    pub(super) max_requests_per_image: u64,
}

impl AccessArgs {
    pub(super) fn client(&self, progress: &Arc<dyn Progress>, credentials: Arc<dyn Lookup>) -> Result<Client> {
        self.client_with_overrides(&[], Arc::default(), progress, credentials)
    }

    /// The same where files of images say how single registries are spoken to: at those the file wins, as in skopeo.
    pub(super) fn client_with_overrides(
        &self,
        written: &[Registry],
        registries: Arc<Registries>,
        progress: &Arc<dyn Progress>,
        credentials: Arc<dyn Lookup>,
    ) -> Result<Client> {
        if let Some(given) = &self.cert_dir
            && !given.is_dir()
        {
            return Err(Error::usage(format!("--cert-dir {} is not a directory", given.display())));
        }
        let redirects = Redirects { allowed: self.allow_redirect.clone(), ..Redirects::default() };
        let connections = Connections { tls_verify: self.tls_verify, cert_dir: self.cert_dir.clone(), redirects };
        self.effort.client(connections, written, registries, progress, credentials)
    }

    /// Whether servers must prove who they are, unless files say something else of single hosts.
    pub(super) fn verifies_servers(&self) -> bool {
        self.tls_verify.unwrap_or(true)
    }

    pub(super) fn options(&self, progress: &Arc<dyn Progress>, cancel: CancellationToken) -> transfer::TransferOptions {
        self.effort.options(progress, cancel)
    }
}

impl RetryArgs {
    /// A client that knows whom to believe.
    pub(super) fn client(
        &self,
        connections: Connections,
        written: &[Registry],
        registries: Arc<Registries>,
        progress: &Arc<dyn Progress>,
        credentials: Arc<dyn Lookup>,
    ) -> Result<Client> {
        Client::new(self.settings(connections, written, registries, progress, credentials)?)
    }

    /// What [`Effort::client`] makes a client of.
    pub(super) fn settings(
        &self,
        Connections { tls_verify, cert_dir, redirects }: Connections,
        written: &[Registry],
        registries: Arc<Registries>,
        progress: &Arc<dyn Progress>,
        credentials: Arc<dyn Lookup>,
    ) -> Result<Settings> {
        Ok(Settings {
            tls: verified(tls_verify.unwrap_or(true)),
            credentials,
            certificates: certificates(cert_dir),
            registries,
            heed_insecure: tls_verify.is_none(),
            hosts: written.iter().filter_map(|registry| host_settings(registry).transpose()).collect::<Result<_>>()?,
            proxies: proxies()?,
            redirects,
            retry: Retry { times: self.retry_times, delay: self.retry_delay },
            stall_timeout: Some(self.stall_timeout).filter(|limit| !limit.is_zero()).unwrap_or(Duration::MAX),
            jobs: self.jobs.get(),
            rate: self.limit_rate.map(|rate| Arc::new(Rate::new(rate))),
            progress: progress.clone(),
            run: self.run.clone(),
            ..Settings::default()
        })
    }

    pub(super) fn options(&self, progress: &Arc<dyn Progress>, cancel: CancellationToken) -> transfer::TransferOptions {
        transfer::TransferOptions { jobs: self.jobs, progress: progress.clone(), cancel, keep_going: false }
    }
}

fn certificates(given: Option<PathBuf>) -> CertificateDirectories {
    let home = std::env::home_dir().map(|home| home.join(".config/containers/certs.d"));
    let system = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
    CertificateDirectories { given, per_host: home.into_iter().chain(system).collect() }
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

/// Seconds, or a duration as Go and skopeo write it: `5`, `1.5`, `500ms`, `1m30s`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a number of seconds, or one with a unit, such as 500ms, 30s or 1m30s".to_owned();
    let seconds = match text.parse::<f64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let (mut rest, mut sum) = (text, 0.0);
            while !rest.is_empty() {
                let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
                let unit = rest[number..].find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len() - number);
                let (part, after) = rest.split_at(number + unit);
                let (number, unit) = part.split_at(number);
                let factor = match unit {
                    "ns" => 1e-9,
                    "us" | "\u{b5}s" => 1e-6,
                    "ms" => 1e-3,
                    "s" => 1.0,
                    "m" => 60.0,
                    "h" => 3600.0,
                    _ => return Err(wrong()),
                };
                sum += number.parse::<f64>().map_err(|_| wrong())? * factor;
                rest = after;
            }
            sum
        }
    };
    if text.is_empty() { Err(wrong()) } else { Duration::try_from_secs_f64(seconds).map_err(|_| wrong()) }
}

fn parse_pause(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        pause if pause <= LONGEST_PAUSE => Ok(pause),
        _ => Err("at most 292 years, as in Go".to_owned()),
    }
}

/// Go's longest `time.Duration`.
const LONGEST_PAUSE: Duration = Duration::from_nanos(i64::MAX as u64);

/// What a file says about the connections to a registry, if it says anything.
fn host_settings(written: &Registry) -> Result<Option<(Host, HostSettings)>> {
    let Registry { host, origin, tls_verify, cert_dir, .. } = written;
    if let Some(directory) = cert_dir.as_ref().filter(|directory| !directory.is_dir()) {
        return Err(Error::usage(format!("{origin}: {host}: cert-dir: {} is not a directory", directory.display()))
            .hint("a relative path begins where sealift runs, not where the file is"));
    }
    let own = HostSettings { tls: tls_verify.map(verified), certificates: cert_dir.clone() };
    Ok((own != HostSettings::default()).then(|| (host.clone(), own)))
}

fn verified(verify: bool) -> Tls {
    if verify { Tls::Verified } else { Tls::Unverified }
}

/// `20MiB`, `500k`, `1.5 MB/s`, `4096`: bytes a second. A unit without `i` and `B` is one of 1024, as for curl and wget.
fn parse_rate(text: &str) -> Result<NonZeroU64, String> {
    let text = text.trim().trim_end_matches("/s");
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1_048_576.0,
        "g" | "gib" => 1_073_741_824.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => f64::NAN,
    };
    let bytes = number.parse::<f64>().map_or(f64::NAN, |number| number * factor);
    let whole = if (1.0..1e15).contains(&bytes) { NonZeroU64::new(bytes as u64) } else { None };
    whole.ok_or_else(|| "bytes a second, such as 500KiB, 20MiB or 1GiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_seconds_or_what_go_writes() {
        for (text, expected) in [
            ("5", Some(5000)),
            ("0.05", Some(50)),
            ("5s", Some(5000)),
            ("500ms", Some(500)),
            ("1m30s", Some(90_000)),
            ("1h0m0.5s", Some(3_600_500)),
            ("0", Some(0)),
            ("", None),
            ("s", None),
            ("5 s", None),
            ("-1", None),
            ("-1s", None),
            ("1d", None),
            ("NaN", None),
        ] {
            assert_eq!(parse_duration(text).ok().map(|d| d.as_millis()), expected, "{text}");
        }
        assert_eq!(parse_pause("90m").ok(), Some(Duration::from_secs(5400)));
        assert!(parse_pause("9e10").is_err());
    }

    #[test]
    fn a_rate_is_a_number_with_a_unit() {
        for (text, expected) in [
            ("4096", Some(4096)),
            ("20MiB", Some(20 << 20)),
            ("500k", Some(512_000)),
            ("1.5 MB/s", Some(1_500_000)),
            ("0", None),
            ("0.5", None),
            ("-1", None),
            ("MiB", None),
            ("1 parsec", None),
            ("1e9", None),
        ] {
            assert_eq!(parse_rate(text).ok().map(NonZeroU64::get), expected, "{text}");
        }
    }
}
