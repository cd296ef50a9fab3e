//! The HTTP clients: one for most hosts, and one of its own for each host that has certificates of its own.
//!
//! Knows TLS, proxies and timeouts; must not know what is asked of whom.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use url::Url;

use super::error::{self, RequestRoute, Tunnel};
use super::proxies::ProxyUrl;
use super::redirect::{self, PrivateAddress, PublicOnly, Zone};
use super::retry::AttemptError;
use super::server::RemoteServer;
use super::settings::{Settings, Tls};
use super::tls::{Certificates, Check};
use crate::error::{Error, Result};
use crate::oci::Host;

/// Every connection that a [`Client`](crate::registry::client::Client) makes comes from here.
pub(crate) struct Transport {
    settings: Arc<Settings>,
    /// For hosts without certificates of their own.
    common: reqwest::Client,
    /// The same for public addresses only. Connections are not shared with `common`: it may be connected to a private
    /// address under the same name.
    public: reqwest::Client,
    special: Mutex<HashMap<(Server, Reach), reqwest::Client>>,
    /// Where registries are, by the addresses from which they answered.
    zones: Mutex<HashMap<Host, Zone>>,
}

/// Which addresses a client connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Reach {
    /// Any.
    Everything,
    /// Those that can be reached from the internet.
    Public,
}

/// Who is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Server {
    /// `HOST[:PORT]`.
    authority: String,
    role: Role,
}

/// Why it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Role {
    /// It is the registry.
    Registry,
    /// The registry sent us there: the client's certificate is not for it.
    Elsewhere,
}

impl Transport {
    pub(crate) fn new(settings: Arc<Settings>) -> Result<Self> {
        let unverified = settings.tls == Tls::Unverified;
        let client = |reach| {
            let system = builder(&settings, reach).tls_danger_accept_invalid_certs(unverified).build();
            // A machine without any CA certificate must still reach a plain HTTP registry.
            system.or_else(|_| builder(&settings, reach).tls_certs_only([]).build()).map_err(cannot_set_up)
        };
        let (common, public) = (client(Reach::Everything)?, client(Reach::Public)?);
        Ok(Transport { settings, common, public, special: Mutex::default(), zones: Mutex::default() })
    }

    /// The client for a request to `url` on behalf of `registry`. `through` is the zone of the servers on the way there.
    ///
    /// # Errors
    /// `Registry` if the registry must not send requests there, or if the certificates of that host cannot be used.
    pub(crate) fn client(&self, registry: &Host, through: Zone, url: &Url) -> Result<reqwest::Client> {
        let server = Server::of(registry, url);
        let reach = match server.role {
            Role::Registry => Reach::Everything,
            Role::Elsewhere => self.reach(registry, through, url)?,
        };
        if url.scheme() != "https" {
            return Ok(self.common(reach));
        }
        let mut special = self.special.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (server, reach);
        if let Some(client) = special.get(&key) {
            return Ok(client.clone());
        }
        let client = self.make(&key.0, reach)?;
        special.insert(key, client.clone());
        Ok(client)
    }

    /// Takes in the address from which `registry` answered, without a proxy in between.
    pub(crate) fn note_address(&self, registry: &Host, address: Option<SocketAddr>) {
        let zone = zone_of(address);
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        zones.entry(registry.clone()).and_modify(|known| *known = known.and(zone)).or_insert(zone);
    }

    /// Which addresses `registry` may have connected to at `url`, where it is not itself.
    fn reach(&self, registry: &Host, through: Zone, url: &Url) -> Result<Reach> {
        let host = url.host_str().unwrap_or_default();
        let redirects = &self.settings.redirects;
        let origin = self.zone(registry).and(through);
        if let Some(address) = redirect::literal(url) {
            return match redirects.permit(origin, host, address) {
                true => Ok(Reach::Everything),
                false => Err(self.not_followed(registry, url, PrivateAddress(address))),
            };
        }
        // The client for public addresses would judge the proxy's own address.
        match origin == Zone::Private || redirects.allows(host) || self.proxy(url).is_some() {
            true => Ok(Reach::Everything),
            false => Ok(Reach::Public),
        }
    }

    /// Where a registry is. One that has not answered without a proxy is public, unless an address says otherwise.
    fn zone(&self, registry: &Host) -> Zone {
        let zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        let literal = || registry.name().parse().map(Zone::of);
        zones.get(registry).copied().or_else(|| literal().ok()).unwrap_or(Zone::Public)
    }

    /// A server to which `registry` must not send requests.
    fn not_followed(&self, registry: &Host, url: &Url, PrivateAddress(address): PrivateAddress) -> Error {
        let peer = RemoteServer::sent_by(url, registry);
        let (name, option) = (peer.name(), self.settings.redirects.option);
        let at = if name == address.to_string() { String::new() } else { format!(" at {address}") };
        Error::registry(format!(
            "{registry} sends requests to {}{at}, a private address, and is not at one itself: this is not followed",
            peer.authority()
        ))
        .hint(format!(
            "if {registry} is meant to use that server, allow it: {option} {name}; otherwise somebody tries to reach servers \
             of your network through this machine"
        ))
    }

    fn common(&self, reach: Reach) -> reqwest::Client {
        match reach {
            Reach::Everything => self.common.clone(),
            Reach::Public => self.public.clone(),
        }
    }

    /// The proxy that a request to `url` goes through.
    pub(crate) fn proxy(&self, url: &Url) -> Option<&ProxyUrl> {
        self.settings.proxies.of(url)
    }

    /// What is wrong with a request to `url` on behalf of `registry` that came to no answer.
    pub(crate) async fn failure(
        &self,
        registry: &Host,
        route: RequestRoute<'_>,
        url: &Url,
        error: reqwest::Error,
    ) -> AttemptError {
        if let Some(address) = error::cause::<PrivateAddress>(&error) {
            return AttemptError::permanent(self.not_followed(registry, url, *address));
        }
        let tunnel = match route.proxy {
            Some(proxy) if error::is_refused_tunnel(&error) => self.refused_tunnel(proxy, url).await,
            _ => None,
        };
        error::transport(route, error, tunnel)
    }

    /// How the proxy refuses to connect to the server of `url`: asked once more, because the HTTP library keeps nothing
    /// of its answer.
    async fn refused_tunnel(&self, proxy: &ProxyUrl, url: &Url) -> Option<Tunnel> {
        let target = format!("{}:{}", url.host_str()?, url.port_or_known_default()?);
        let client = bare_builder(&self.settings).proxy(reqwest::Proxy::http(proxy.url()).ok()?).build().ok()?;
        let limit = self.settings.connect_timeout + self.settings.read_timeout;
        let ask = async {
            let request = client.request(Method::CONNECT, format!("http://{target}/"));
            let mut response = request.send().await.ok()?;
            let status = response.status();
            let mut body = Vec::new();
            while let Ok(Some(chunk)) = response.chunk().await {
                body.extend_from_slice(&chunk);
                if body.len() > MAX_ERROR {
                    break;
                }
            }
            (status != StatusCode::OK).then(|| Tunnel { target, status, words: error::quoted(&body) })
        };
        tokio::time::timeout(limit, ask).await.ok()?
    }

    fn make(&self, server: &Server, reach: Reach) -> Result<reqwest::Client> {
        let Some(directory) = self.settings.certificates.of(&server.authority) else { return Ok(self.common(reach)) };
        let certificates = Certificates::read(&directory)?;
        for warning in certificates.warnings() {
            self.settings.run.warn_once(&*self.settings.progress, warning);
        }
        let certificates = match server.role {
            Role::Registry => certificates,
            Role::Elsewhere => certificates.without_client(),
        };
        if certificates.is_empty() {
            return Ok(self.common(reach));
        }
        let check = match self.settings.tls {
            Tls::Verified => Check::Server,
            Tls::Unverified => Check::Nothing,
        };
        let config = certificates.config(check)?;
        builder(&self.settings, reach).tls_backend_preconfigured(config).build().map_err(cannot_set_up)
    }
}

impl Server {
    fn of(registry: &Host, url: &Url) -> Self {
        let own = Url::parse(&format!("https://{}/", registry.contacted())).ok();
        match own
            .is_some_and(|own| own.host() == url.host() && own.port_or_known_default() == url.port_or_known_default())
        {
            // As the user writes it, which is how the directory is named.
            true => Server { authority: registry.as_str().to_owned(), role: Role::Registry },
            false => {
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                let authority = format!("{}{port}", url.host_str().unwrap_or_default());
                Server { authority, role: Role::Elsewhere }
            }
        }
    }
}

/// The zone of the server at the other end of a connection.
pub(crate) fn zone_of(address: Option<SocketAddr>) -> Zone {
    address.map_or(Zone::Public, |address| Zone::of(address.ip()))
}

fn builder(settings: &Settings, reach: Reach) -> reqwest::ClientBuilder {
    let proxies = settings.proxies.clone();
    let builder = bare_builder(settings).proxy(reqwest::Proxy::custom(move |url| proxies.of(url).map(ProxyUrl::url)));
    match reach {
        Reach::Everything => builder,
        Reach::Public => builder.dns_resolver(Arc::new(PublicOnly)),
    }
}

/// The same without proxies.
fn bare_builder(settings: &Settings) -> reqwest::ClientBuilder {
    // Some proxies pack what they hand on, unless they are told not to.
    let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
    reqwest::Client::builder()
        .default_headers(headers)
        .user_agent(&settings.user_agent)
        .connect_timeout(settings.connect_timeout)
        .pool_max_idle_per_host(settings.jobs.max(1))
        .tcp_nodelay(true)
        // A few HTTP/1.1 connections carry blobs faster than the streams of one HTTP/2 connection.
        .http1_only()
        // The environment is the command line's business.
        .no_proxy()
        // Followed by `Endpoint`, which knows what may be sent where.
        .redirect(reqwest::redirect::Policy::none())
}

/// The most that is read of a proxy's refusal, 64 KiB.
const MAX_ERROR: usize = 64 << 10;

fn cannot_set_up(error: reqwest::Error) -> Error {
    Error::registry("cannot set up the HTTP client").caused_by(error.without_url())
}
