//! How registries are spoken to: what comes from options, files and the environment.

use crate::containers::Registries;
use crate::credentials::{Lookup, Nobody};
use crate::oci::Host;
use crate::progress::{Progress, Silent};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::proxies::Proxies;
use super::rate::Rate;
use super::redirect::Redirects;
use super::run_state::RunState;
use super::tls::CertificateDirectories;

/// How registries are spoken to; one for each side of a sync.
#[derive(Clone)]
pub struct Settings {
    /// Whether servers must prove who they are.
    pub tls: Tls,
    /// Who we are to which registry.
    pub credentials: Arc<dyn Lookup>,
    /// Where the certificates of hosts are, beside the system's authorities.
    pub certificates: CertificateDirectories,
    /// Hosts that are spoken to in another way, and to which the two above do not apply.
    pub hosts: HashMap<Host, HostSettings>,
    /// What is blocked, rewritten and mirrored when images are read.
    pub registries: Arc<Registries>,
    /// Whether `insecure` in `registries` counts: not where somebody said how servers must prove who they are.
    pub heed_insecure: bool,
    /// Which requests go through a proxy.
    pub proxies: Proxies,
    /// To which private servers public registries may send requests.
    pub redirects: Redirects,
    /// How failures that may pass are retried.
    pub retry: Retry,
    /// What the `User-Agent` header says.
    pub user_agent: String,
    /// How long a connection, TLS handshake included, may take to come about.
    pub connect_timeout: Duration,
    /// How long a server may be silent, or take nothing in.
    pub read_timeout: Duration,
    /// How long a server may take to answer once it has a whole blob or manifest: some copy and hash it first.
    pub commit_timeout: Duration,
    /// How long one piece of work may go on without a new byte, from its first failure on, and how long a manifest or a
    /// list may take. Default: 10 minutes.
    pub stall_timeout: Duration,
    /// How many requests of a sort (reading, writing) are under way at one host, and how many connections are kept.
    pub jobs: usize,
    /// How many bytes pass a second; clients may share one.
    pub rate: Option<Arc<Rate>>,
    /// How many tags are asked for at a time.
    pub page_size: usize,
    /// Who is told of retries.
    pub progress: Arc<dyn Progress>,
    /// What the clients of one run share.
    pub run: Arc<RunState>,
}

/// What is different at one host; also for the servers that it names (a token service, storage elsewhere).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostSettings {
    /// Whether it must prove who it is.
    pub tls: Option<Tls>,
    /// The directory with its certificates.
    pub certificates: Option<PathBuf>,
}

/// Whether a server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// HTTPS with a valid certificate; loopback hosts may be plain HTTP, as docker allows.
    Verified,
    /// HTTPS with any certificate, else plain HTTP (`--tls-verify=false`).
    Unverified,
}

/// How often and how fast failures that may pass are retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Retries after the first try. A blob that has got 1 MiB further begins to count anew.
    pub times: u32,
    /// The first pause; each further one is twice as long, up to 30 s, and up to as much again by chance.
    pub delay: Duration,
}

impl Settings {
    /// As they are at a host that is spoken to in a way of its own.
    pub(crate) fn at(&self, own: &HostSettings) -> Settings {
        let certificates = match &own.certificates {
            None => self.certificates.clone(),
            given => CertificateDirectories { given: given.clone(), per_host: Vec::new() },
        };
        Settings { tls: own.tls.unwrap_or(self.tls), certificates, ..self.clone() }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            tls: Tls::Verified,
            credentials: Arc::new(Nobody),
            certificates: CertificateDirectories::default(),
            hosts: HashMap::new(),
            registries: Arc::default(),
            heed_insecure: false,
            proxies: Proxies::default(),
            redirects: Redirects::default(),
            retry: Retry { times: 5, delay: Duration::from_secs(1) },
            user_agent: concat!("sealift/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(60),
            commit_timeout: Duration::from_secs(600),
            stall_timeout: Duration::from_secs(600),
            jobs: 6,
            rate: None,
            page_size: 1000,
            progress: Arc::new(Silent),
            run: Arc::default(),
        }
    }
}
