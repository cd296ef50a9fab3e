//! Where a registry may send requests: by redirects, by the `Location` of an upload, and by the realm of its tokens.
//!
//! A public registry must not make this machine ask, or write to, servers that only this machine reaches: the metadata
//! service of a cloud, the storage of another registry, a database on the same host. A registry at a private address is
//! inside that network itself; its storage often is, too.
//!
//! Addresses are judged, not names: a name is resolved once, and what it resolves to is judged before it is connected to.
//! Behind a proxy, which resolves names itself, only addresses in URLs are judged.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host as UrlHost, Url};

use crate::oci::Repository;

/// From where an address can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Zone {
    /// From the internet.
    Public,
    /// From this machine or its own network only.
    Private,
}

impl Zone {
    /// The zone of an address. Addresses that embed an IPv4 address (v4-mapped, v4-compatible, NAT64, 6to4) are in the zone
    /// of that address.
    pub(crate) fn of(address: IpAddr) -> Zone {
        let is_private = match address {
            IpAddr::V4(address) => is_private_v4(address),
            IpAddr::V6(address) => match embedded(address) {
                Some(embedded) => is_private_v4(embedded),
                None => is_private_v6(address),
            },
        };
        if is_private { Zone::Private } else { Zone::Public }
    }

    /// The zone in which both are: public if one is.
    pub(crate) fn and(self, other: Zone) -> Zone {
        if self == Zone::Public { self } else { other }
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        // RFC 1122, "this network": 0.0.0.0 reaches this machine.
        || first == 0
        // RFC 6598, shared by the customers of a provider.
        || first == 100 && (64..128).contains(&second)
        // RFC 1112, reserved, with the broadcast address.
        || first >= 240
        // IANA's special-purpose registry: protocol assignments, former 6to4 relays, benchmarks (RFC 2544).
        || [first, second, third] == [192, 0, 0]
        || [first, second, third] == [192, 88, 99]
        || first == 198 && (second & 0xfe) == 18
        // Azure's own services for its machines.
        || address == Ipv4Addr::new(168, 63, 129, 16)
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    address.is_loopback()
        || address.is_unspecified()
        || address.is_unique_local()
        || address.is_unicast_link_local()
        || address.is_multicast()
        // RFC 3879, the former site-local addresses.
        || address.segments()[0] & 0xffc0 == 0xfec0
        // IANA's special-purpose registry: Teredo, discard-only (RFC 6666), segment identifiers (RFC 9602).
        || matches!(address.segments(), [0x2001, 0, ..] | [0x100, 0, 0, 0, ..] | [0x5f00, ..])
}

/// The IPv4 address that packets to an IPv6 address end at.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // RFC 4291: v4-compatible and v4-mapped.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => v4(high, low),
        // RFC 6052 and RFC 8215: NAT64.
        [0x64, 0xff9b, 0 | 1, .., high, low] => v4(high, low),
        // RFC 3056: 6to4.
        [0x2002, high, low, ..] => v4(high, low),
        _ => None,
    }
}

/// To which private servers public registries may send requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirects {
    /// These hosts, at any port.
    pub allowed: Vec<RedirectHost>,
    /// What a person writes to add one.
    pub option: &'static str,
}

impl Default for Redirects {
    fn default() -> Self {
        Redirects { allowed: Vec::new(), option: "--allow-redirect" }
    }
}

impl Redirects {
    /// Whether a registry whose zone is `origin` may send requests to `address`, which is that of `host`.
    pub(crate) fn permit(&self, origin: Zone, host: &str, address: IpAddr) -> bool {
        origin == Zone::Private || Zone::of(address) == Zone::Public || self.allows(host)
    }

    /// Whether requests may be sent to this host, wherever it is.
    pub(crate) fn allows(&self, host: &str) -> bool {
        let host = plain(host);
        self.allowed.iter().any(|allowed| allowed.0 == host)
    }
}

/// A name or an address without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectHost(String);

impl FromStr for RedirectHost {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<Ipv6Addr>() {
            return Ok(RedirectHost(address.to_string()));
        }
        match UrlHost::parse(text) {
            Ok(host) if !text.contains([':', '/', '@', '*']) => Ok(RedirectHost(plain(&host.to_string()))),
            _ => Err("a host name or an address, without scheme, port and path"),
        }
    }
}

impl fmt::Display for RedirectHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host as it is compared: in lower case, without brackets and the dot at the end.
fn plain(host: &str) -> String {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// The address in a URL; nothing if it has a name.
pub(crate) fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        UrlHost::Ipv4(address) => Some(address.into()),
        UrlHost::Ipv6(address) => Some(address.into()),
        UrlHost::Domain(_) => None,
    }
}

/// Resolves names to public addresses only. A name that has none is a [`PrivateAddress`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let first = found.first().map(SocketAddr::ip);
            let public: Vec<SocketAddr> =
                found.into_iter().filter(|address| Zone::of(address.ip()) == Zone::Public).collect();
            match first {
                Some(address) if public.is_empty() => Err(PrivateAddress(address).into()),
                _ => Ok(Box::new(public.into_iter()) as Addrs),
            }
        })
    }
}

/// The private address of a name that only leads there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PrivateAddress(pub(crate) IpAddr);

impl fmt::Display for PrivateAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is a private address", self.0)
    }
}

impl StdError for PrivateAddress {}

/// Whether the `Location` of an upload into `repository` may be shown the login, if it is at the registry itself: below
/// `/v2/` only where uploads of that repository are, so that no request with a login writes or deletes anything else.
/// Outside `/v2/` registries have paths of their own for uploads (Google's `/artifacts-uploads/`).
///
/// The specification has `/blobs/uploads/`; GitHub's registry has `/blobs/upload/` (hpc/charliecloud#1501).
pub(crate) fn is_upload_path(repository: &Repository, url: &Url) -> bool {
    let path = plain_path(url.path());
    let Some(path) = path.strip_prefix("/v2/") else { return path != "/v2" };
    let rest = path.strip_prefix(repository.as_str()).and_then(|rest| rest.strip_prefix("/blobs/"));
    let session = rest.and_then(|rest| rest.strip_prefix("uploads/").or_else(|| rest.strip_prefix("upload/")));
    session.is_some_and(|session| !session.is_empty())
}

/// A path as a lenient server may read it: decoded, without empty and dot segments.
fn plain_path(path: &str) -> String {
    let mut decoded = decode(path);
    // A proxy in front of the registry may decode it once, and the registry again.
    for _ in 0..MAX_DECODED {
        let again = decode(&decoded).into_owned();
        if again == *decoded {
            break;
        }
        decoded = Cow::Owned(again);
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in decoded.split(['/', '\\']) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = || u8::from_str_radix(std::str::from_utf8(bytes.get(at + 1..at + 3)?).ok()?, 16).ok();
        match (bytes[at], escaped()) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 3;
            }
            (byte, _) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

/// How often a path is decoded.
const MAX_DECODED: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn zone(address: &str) -> Zone {
        Zone::of(address.parse().unwrap())
    }

    /// A registry at `origin` names `host`, which is at `target`.
    #[rstest]
    #[case::public_to_public("203.0.113.1", "cdn.example.com", "198.51.100.7", "", true)]
    #[case::public_to_public_v6("2001:db8::1", "cdn.example.com", "2001:db8::2", "", true)]
    #[case::loopback("203.0.113.1", "cdn.example.com", "127.0.0.1", "", false)]
    #[case::loopback_elsewhere("203.0.113.1", "cdn.example.com", "127.255.255.254", "", false)]
    #[case::loopback_v6("203.0.113.1", "cdn.example.com", "::1", "", false)]
    #[case::ten("203.0.113.1", "cdn.example.com", "10.0.0.5", "", false)]
    #[case::sixteen("203.0.113.1", "cdn.example.com", "172.31.255.255", "", false)]
    #[case::beside_sixteen("203.0.113.1", "cdn.example.com", "172.32.0.0", "", true)]
    #[case::home("203.0.113.1", "cdn.example.com", "192.168.1.1", "", false)]
    #[case::metadata("203.0.113.1", "169.254.169.254", "169.254.169.254", "", false)]
    #[case::metadata_v6("203.0.113.1", "cdn.example.com", "fd00:ec2::254", "", false)]
    #[case::link_local_v6("203.0.113.1", "cdn.example.com", "fe80::1", "", false)]
    #[case::site_local_v6("203.0.113.1", "cdn.example.com", "fec0::1", "", false)]
    #[case::unique_local("203.0.113.1", "cdn.example.com", "fc00::1", "", false)]
    #[case::shared("203.0.113.1", "cdn.example.com", "100.64.0.1", "", false)]
    #[case::shared_end("203.0.113.1", "cdn.example.com", "100.127.255.255", "", false)]
    #[case::beside_shared("203.0.113.1", "cdn.example.com", "100.128.0.0", "", true)]
    #[case::unspecified("203.0.113.1", "cdn.example.com", "0.0.0.0", "", false)]
    #[case::this_network("203.0.113.1", "cdn.example.com", "0.1.2.3", "", false)]
    #[case::unspecified_v6("203.0.113.1", "cdn.example.com", "::", "", false)]
    #[case::multicast("203.0.113.1", "cdn.example.com", "224.0.0.1", "", false)]
    #[case::multicast_v6("203.0.113.1", "cdn.example.com", "ff02::1", "", false)]
    #[case::protocols("203.0.113.1", "cdn.example.com", "192.0.0.192", "", false)]
    #[case::benchmarks("203.0.113.1", "cdn.example.com", "198.19.0.1", "", false)]
    #[case::relays("203.0.113.1", "cdn.example.com", "192.88.99.1", "", false)]
    #[case::azure("203.0.113.1", "cdn.example.com", "168.63.129.16", "", false)]
    #[case::teredo("203.0.113.1", "cdn.example.com", "2001::1", "", false)]
    #[case::discard("203.0.113.1", "cdn.example.com", "100::1", "", false)]
    #[case::broadcast("203.0.113.1", "cdn.example.com", "255.255.255.255", "", false)]
    #[case::mapped("203.0.113.1", "cdn.example.com", "::ffff:127.0.0.1", "", false)]
    #[case::mapped_public("203.0.113.1", "cdn.example.com", "::ffff:198.51.100.7", "", true)]
    #[case::compatible("203.0.113.1", "cdn.example.com", "::10.0.0.5", "", false)]
    #[case::nat64("203.0.113.1", "cdn.example.com", "64:ff9b::10.0.0.5", "", false)]
    #[case::nat64_local("203.0.113.1", "cdn.example.com", "64:ff9b:1::169.254.169.254", "", false)]
    #[case::nat64_public("203.0.113.1", "cdn.example.com", "64:ff9b::198.51.100.7", "", true)]
    #[case::six_to_four("203.0.113.1", "cdn.example.com", "2002:c0a8:101::1", "", false)]
    #[case::private_origin("10.1.2.3", "minio.local", "10.0.0.5", "", true)]
    #[case::private_to_loopback("192.168.1.1", "minio.local", "127.0.0.1", "", true)]
    #[case::loopback_origin("127.0.0.1", "minio.local", "10.0.0.5", "", true)]
    #[case::mapped_origin("::ffff:10.1.2.3", "minio.local", "10.0.0.5", "", true)]
    #[case::private_to_public("10.1.2.3", "cdn.example.com", "198.51.100.7", "", true)]
    #[case::allowed("203.0.113.1", "minio.local", "10.0.0.5", "minio.local", true)]
    #[case::allowed_in_capitals("203.0.113.1", "minio.local.", "10.0.0.5", "MINIO.local", true)]
    #[case::allowed_address("203.0.113.1", "10.0.0.5", "10.0.0.5", "10.0.0.5", true)]
    #[case::allowed_v6("203.0.113.1", "[fd00::5]", "fd00::5", "fd00:0::5", true)]
    #[case::another_allowed("203.0.113.1", "minio.local", "10.0.0.5", "local", false)]
    #[case::below_allowed("203.0.113.1", "x.minio.local", "10.0.0.5", "minio.local", false)]
    fn private_servers_are_named_by_private_registries_only(
        #[case] origin: &str,
        #[case] host: &str,
        #[case] target: &str,
        #[case] allowed: &str,
        #[case] expected: bool,
    ) {
        let allowed = Some(allowed).filter(|host| !host.is_empty()).map(|host| host.parse().unwrap());
        let redirects = Redirects { allowed: allowed.into_iter().collect(), ..Redirects::default() };
        assert_eq!(redirects.permit(zone(origin), host, target.parse().unwrap()), expected);
    }

    #[rstest]
    #[case("minio.local", Some("minio.local"))]
    #[case("127.1", Some("127.0.0.1"))]
    #[case("[::1]", Some("::1"))]
    #[case("::1", Some("::1"))]
    #[case("minio.local:9000", None)]
    #[case("https://minio.local", None)]
    #[case("minio.local/x", None)]
    #[case("*.local", None)]
    #[case("", None)]
    fn a_host_is_named_without_a_port(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(text.parse::<RedirectHost>().ok().map(|host| host.to_string()).as_deref(), expected);
    }

    #[rstest]
    #[case("/v2/team/app/blobs/uploads/1-2?_state=x", true)]
    // GitHub's registry.
    #[case("/v2/team/app/blobs/upload/1-2", true)]
    // Google's registries.
    #[case("/artifacts-uploads/namespaces/p/repositories/r/uploads/AF3", true)]
    #[case("/v1/uploads", true)]
    #[case("/v2", false)]
    #[case("/v2/", false)]
    #[case("/v2/team/app/blobs/uploads/", false)]
    #[case("/v2/team/app/manifests/1", false)]
    #[case("/v2/team/other/blobs/uploads/1", false)]
    #[case("/v2/team/app/blobs/uploads/../../manifests/1", false)]
    #[case("/v2/team/app/blobs/uploads/%2e%2e/%2E%2e/manifests/1", false)]
    #[case("/v2/team/app/blobs/uploads/..%2f..%2fmanifests/1", false)]
    #[case("/v2/team/app/blobs/uploads/..%252f..%252fmanifests/1", false)]
    #[case("/v2/team/app/blobs/uploads/..%5c..%5cmanifests/1", false)]
    #[case("//v2/team/app/manifests/1", false)]
    #[case("/%762/team/app/manifests/1", false)]
    #[case("/x/..%2fv2/team/app/manifests/1", false)]
    fn a_login_goes_to_uploads_of_its_repository_only(#[case] path: &str, #[case] expected: bool) {
        let url = Url::parse("https://reg.io").unwrap().join(&format!("https://reg.io{path}")).unwrap();
        assert_eq!(is_upload_path(&"team/app".parse().unwrap(), &url), expected, "{url}");
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_not_resolved() {
        let Err(error) = PublicOnly.resolve("localhost".parse().unwrap()).await else { panic!("it was resolved") };
        assert!(error.downcast_ref::<PrivateAddress>().is_some_and(|found| found.0.is_loopback()), "{error}");
    }
}
