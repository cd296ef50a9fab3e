//! Which requests go through a proxy: the rules of Go's net/http, as docker, podman and skopeo follow them.
//!
//! Must not know the environment, from which the command line takes what is in here.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use url::{Host, Url};

use crate::error::{Error, Result};
use crate::text::secrets;

/// Which proxies are used, and for what none is. This machine itself (`localhost`, loopback addresses) is always
/// reached directly.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// For HTTPS: asked to connect through (`CONNECT`).
    pub https: Option<ProxyUrl>,
    /// For plain HTTP: asked to fetch.
    pub http: Option<ProxyUrl>,
    /// Hosts that are reached directly.
    pub exempt: Exempt,
}

/// The URL of an HTTP or SOCKS proxy, perhaps with a user's name and password, which are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(Url);

/// Hosts that are reached without a proxy, as `NO_PROXY` lists them, separated by commas: `*`; an IP address; a block of
/// them (`10.0.0.0/8`); a name, which stands for all below it too; `.name` or `*.name`, which stand for those below only.
/// Each may have a port (`host:5000`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exempt(Vec<Rule>);

impl Proxies {
    /// The proxy for a request.
    pub(crate) fn of(&self, url: &Url) -> Option<&ProxyUrl> {
        let proxy = if url.scheme() == "https" { self.https.as_ref() } else { self.http.as_ref() };
        proxy.filter(|_| !is_this_machine(url) && !self.exempt.covers(url))
    }
}

impl ProxyUrl {
    /// With its secrets, for the connection. A SOCKS proxy is given names and not addresses, as Go does it: often only the
    /// proxy can resolve them.
    pub(crate) fn url(&self) -> Url {
        let mut url = self.0.clone();
        if url.scheme() == "socks5" {
            let _ = url.set_scheme("socks5h");
        }
        if url.scheme() == "socks5h" && url.port().is_none() {
            let _ = url.set_port(Some(SOCKS_PORT));
        }
        url
    }
}

impl FromStr for ProxyUrl {
    type Err = Error;

    /// `[http://][USER:PASSWORD@]HOST[:PORT]`, or `https://`, `socks5://`, `socks5h://`.
    fn from_str(text: &str) -> Result<Self> {
        // The text may hold a password: no part of it is told.
        let fault = || {
            Error::usage("the proxy's URL cannot be used")
                .hint("write http://HOST:PORT or http://USER:PASSWORD@HOST:PORT (special characters as %XX)")
        };
        let text = text.trim();
        secrets::remember_logins_in(text);
        let url = match text.contains("://") {
            true => Url::parse(text),
            false => Url::parse(&format!("http://{text}")),
        };
        let url = url.map_err(|_| fault())?;
        // With `/`, `?` or `#` in the password, its beginning is taken for a port, and its end for a path.
        if [Some(url.path()), url.query(), url.fragment()].into_iter().flatten().any(|part| part.contains('@')) {
            return Err(fault());
        }
        match url.scheme() {
            "http" | "https" | "socks5" | "socks5h" if url.host_str().is_some_and(|host| !host.is_empty()) => {
                remember(&url);
                Ok(ProxyUrl(url))
            }
            // Any other scheme may be a part of the password.
            "socks" | "socks4" | "socks4a" => Err(Error::usage("a SOCKS proxy of this version cannot be used")
                .hint("name an HTTP proxy (http://HOST:PORT) or a SOCKS 5 proxy (socks5://HOST:PORT)")),
            _ => Err(fault()),
        }
    }
}

/// Enters the login of a proxy, which stands percent-encoded in its URL, among the secrets.
fn remember(proxy: &Url) {
    let decoded = |text: &str| {
        let pair = format!("x={}", text.replace('+', "%2B"));
        url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    if let Some(password) = proxy.password() {
        secrets::remember_login(&decoded(proxy.username()), &decoded(password));
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        match self.0.port() {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyUrl({self})")
    }
}

impl FromStr for Exempt {
    type Err = std::convert::Infallible;

    /// As other tools do, what is not understood is passed over.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Exempt(text.split(',').filter_map(|part| Rule::parse(part.trim())).collect()))
    }
}

impl Exempt {
    fn covers(&self, url: &Url) -> bool {
        let Some(host) = url.host() else { return false };
        let port = url.port_or_known_default();
        self.0.iter().any(|rule| rule.port.is_none_or(|only| Some(only) == port) && rule.hosts.cover(&host))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    All,
    Address(IpAddr),
    Block(IpAddr, u8),
    /// A name and all below it.
    Name(String),
    /// All below a name, which is kept with its dot in front.
    Below(String),
}

impl Rule {
    fn parse(text: &str) -> Option<Rule> {
        if let Some((address, bits)) = text.split_once('/') {
            let (address, bits) = (address.parse().ok()?, bits.parse().ok()?);
            return Some(Rule { hosts: Hosts::Block(address, bits), port: None });
        }
        if let Ok(address) = text.parse() {
            return Some(Rule { hosts: Hosts::Address(address), port: None });
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (text, None),
        };
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let hosts = match bare.parse() {
            Ok(address) => Hosts::Address(address),
            Err(_) if name == "*" => Hosts::All,
            Err(_) if name.is_empty() => return None,
            Err(_) => match name.strip_prefix('*').unwrap_or(name).to_ascii_lowercase() {
                below if below.starts_with('.') => Hosts::Below(below),
                name => Hosts::Name(name),
            },
        };
        Some(Rule { hosts, port })
    }
}

impl Hosts {
    fn cover(&self, host: &Host<&str>) -> bool {
        let address = match host {
            Host::Ipv4(address) => Some(IpAddr::from(*address)),
            Host::Ipv6(address) => Some(IpAddr::from(*address)),
            Host::Domain(_) => None,
        };
        let domain = match host {
            Host::Domain(domain) => domain.trim_end_matches('.').to_ascii_lowercase(),
            _ => String::new(),
        };
        match self {
            Hosts::All => true,
            Hosts::Address(one) => address == Some(*one),
            Hosts::Block(block, bits) => address.is_some_and(|address| is_in(address, *block, *bits)),
            Hosts::Name(name) => {
                domain == *name || domain.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
            Hosts::Below(name) => domain.ends_with(name.as_str()),
        }
    }
}

fn is_in(address: IpAddr, block: IpAddr, bits: u8) -> bool {
    let (address, block, width) = match (address, block) {
        (IpAddr::V4(address), IpAddr::V4(block)) => (u128::from(address.to_bits()), u128::from(block.to_bits()), 32),
        (IpAddr::V6(address), IpAddr::V6(block)) => (address.to_bits(), block.to_bits(), 128),
        _ => return false,
    };
    let Some(rest) = u32::checked_sub(width, u32::from(bits)) else { return false };
    address.checked_shr(rest).unwrap_or(0) == block.checked_shr(rest).unwrap_or(0)
}

/// RFC 1928.
const SOCKS_PORT: u16 = 1080;

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("*", "http://a.io", true)]
    #[case("a.io", "http://a.io:5000", true)]
    #[case("A.io", "http://x.a.IO", true)]
    #[case("a.io", "http://ba.io", false)]
    #[case(".a.io", "http://a.io", false)]
    #[case(".a.io", "http://x.a.io", true)]
    #[case("*.a.io", "http://x.a.io", true)]
    #[case("a.io:5000", "http://a.io:5000", true)]
    #[case("a.io:5000", "http://a.io", false)]
    #[case("a.io:443", "https://a.io", true)]
    #[case("b.io, 10.1.0.0/16", "http://10.1.2.3", true)]
    #[case("10.1.0.0/16", "http://10.2.2.3", false)]
    #[case("0.0.0.0/0", "http://10.2.2.3", true)]
    #[case("10.0.0.0/33", "http://10.0.0.0", false)]
    #[case("fd00::/8", "http://[fd12::1]:5000", true)]
    #[case("fd00::1", "http://[fd00::1]", true)]
    #[case("[fd00::1]:5000", "http://[fd00::1]:5000", true)]
    #[case("[fd00::1]:5000", "http://[fd00::1]", false)]
    #[case("10.1.2.3", "http://10.1.2.3:5000", true)]
    #[case("", "http://a.io", false)]
    #[case(",:,a.io:x", "http://a.io", false)]
    fn hosts_are_exempt_as_other_tools_understand_it(#[case] list: &str, #[case] url: &str, #[case] exempt: bool) {
        let Ok(rules) = list.parse::<Exempt>();
        assert_eq!(rules.covers(&url.parse().unwrap()), exempt);
    }

    #[rstest]
    #[case("https://a.io", Some("http://s:1"))]
    #[case("http://a.io", Some("http://p:2"))]
    #[case("http://b.io", None)]
    #[case("http://localhost:5000", None)]
    #[case("https://127.9.9.9", None)]
    #[case("https://[::1]:5000", None)]
    fn the_scheme_decides_and_this_machine_needs_none(#[case] url: &str, #[case] expected: Option<&str>) {
        let Ok(exempt) = "b.io".parse();
        let proxy = |text: &str| Some(text.parse().unwrap());
        let proxies = Proxies { https: proxy("s:1"), http: proxy("http://u:secret@p:2"), exempt };
        assert_eq!(proxies.of(&url.parse().unwrap()).map(ToString::to_string).as_deref(), expected);
    }

    #[test]
    fn a_socks_proxy_resolves_names_itself() {
        let url = |text: &str| text.parse::<ProxyUrl>().unwrap().url().to_string();
        assert_eq!(url("socks5://u:p@h"), "socks5h://u:p@h:1080");
        assert_eq!(url("socks5h://h:1"), "socks5h://h:1");
        assert_eq!(url("h:3128"), "http://h:3128/");
    }

    #[test]
    fn a_proxys_password_is_never_shown() {
        let proxy: ProxyUrl = "http://user:secret@proxy:3128/".parse().unwrap();
        assert_eq!(proxy.to_string(), "http://proxy:3128");
        assert!(!format!("{proxy:?}").contains("secret"));
        for text in [
            "socks4://u:secret@p:1",
            "socks5://u:secret@",
            "http://u:secret@",
            "http://u:secret@p:x",
            "secret://u@p:1",
            "u:a@secret://p:1",
            "secret@p://x",
            "http://u:12#secret@p:1",
            "http://u:12/secret@p:1",
            "http://u:12?secret@p:1",
            "http://secret#@p:1",
        ] {
            let error = text.parse::<ProxyUrl>().expect_err(text);
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }
}
