//! The client for registries (distribution-spec 1.1): planning asks it as a [`Catalog`], blobs are read from it as a
//! [`Source`] and written to it as a [`RegistryDestination`].
//!
//! The only place that knows reqwest. It must not know the environment, the terminal or the home directory:
//! everything that comes from there is in [`Settings`].
//!
//! Every request goes through one function, `Endpoint::send`, which is told the repositories and actions that the
//! request needs; tokens, permits and limits of a host belong there. Retrying is above it (`retry`).
//!
//! [`Catalog`]: crate::place::Catalog
//! [`Source`]: crate::place::Source

mod admission;
mod auth;
mod blob_status;
mod call;
mod cancel;
mod catalog;
mod destination;
mod documents;
mod download;
mod endpoint;
mod exchange;
mod fault;
mod fresh;
mod header;
mod limits;
mod link;
mod lists;
mod mount;
mod mounted;
mod news;
mod pages;
mod peer;
mod pieces;
mod piecewise;
mod places;
mod proxies;
mod put_manifest;
mod redirect;
mod referrers;
mod resolve;
mod response;
mod retry;
mod run_state;
mod send;
mod sessions;
mod stall;
mod subjects;
mod tags;
mod tls;
mod transport;
mod upload;
mod upload_rules;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use auth::{Challenge, parse_challenges};
pub use destination::{ExistingTags, RegistryDestination};
use endpoint::Endpoint;
pub use limits::Rate;
use places::{EndpointKey, Places};
pub use proxies::{Exempt, Proxies, ProxyUrl};
pub use redirect::{RedirectHost, Redirects};
pub use run_state::RunState;
use tags::Warned;
pub use tls::CertificateDirectories;
use transport::Transport;

use crate::containers::Registries;
use crate::credentials::{Lookup, Nobody};
use crate::error::Result;
use crate::oci::Host;
use crate::progress::{Progress, Silent};

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

/// A client for any number of registries. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    usual: Manner,
    special: HashMap<Host, Manner>,
    /// Of hosts whose `tls` was said for them alone.
    tls: HashMap<Host, Tls>,
    endpoints: Mutex<HashMap<EndpointKey, Arc<Endpoint>>>,
    places: Places,
    warned: Warned,
}

impl Shared {
    /// What was said of this host alone.
    fn tls_of(&self, host: &Host) -> Option<Tls> {
        self.tls.get(host).copied()
    }
}

/// How a host is spoken to. Hosts with settings of their own have connections of their own.
#[derive(Clone)]
struct Manner {
    http: Arc<Transport>,
    settings: Arc<Settings>,
}

impl Client {
    /// A client; nothing is contacted yet.
    pub fn new(settings: Settings) -> Result<Client> {
        // Whoever installed one first wins; all are equally good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let special = settings.hosts.iter().map(|(host, own)| Ok((host.clone(), Manner::new(settings.at(own))?)));
        let special = special.collect::<Result<_>>()?;
        let tls = settings.hosts.iter().filter_map(|(host, own)| Some((host.clone(), own.tls?))).collect();
        Ok(Client(Arc::new(Shared {
            usual: Manner::new(settings)?,
            special,
            tls,
            endpoints: Mutex::default(),
            places: Places::default(),
            warned: Warned::default(),
        })))
    }

    fn endpoint(&self, host: &Host) -> Arc<Endpoint> {
        let key = EndpointKey { host: host.clone(), settings_of: None, insecure: false, once: false };
        let mut endpoints = self.0.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.entry(key).or_insert_with(|| self.manner_of(host).clone().endpoint(host)).clone()
    }

    fn manner_of(&self, host: &Host) -> &Manner {
        self.0.special.get(host).unwrap_or(&self.0.usual)
    }

    fn known(&self) -> &Places {
        &self.0.places
    }

    fn settings(&self) -> &Settings {
        &self.0.usual.settings
    }

    fn warned(&self) -> &Warned {
        &self.0.warned
    }
}

impl Manner {
    fn endpoint(self, host: &Host) -> Arc<Endpoint> {
        Arc::new(Endpoint::new(host.clone(), self.http, self.settings))
    }

    fn new(settings: Settings) -> Result<Self> {
        let settings = Arc::new(settings);
        Ok(Manner { http: Arc::new(Transport::new(settings.clone())?), settings })
    }
}

impl Settings {
    /// As they are at a host that is spoken to in a way of its own.
    fn at(&self, own: &HostSettings) -> Settings {
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

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
