//! Who answers a request, as messages name it: the registry itself, or a server that it names.
//!
//! A registry often has its blobs stored elsewhere and its tokens made elsewhere. When one of these fails, the person
//! must look there; so messages name that server, and the registry that named it. Paths and queries are left out: they
//! may hold what lets one in.

use std::fmt;

use url::Url;

use crate::oci::Host;

/// A server that was asked something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    /// `HOST[:PORT]`
    authority: String,
    /// Without port and brackets.
    name: String,
    role: Role,
}

/// Why it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// It is the registry.
    Registry,
    /// This registry sent us there.
    SentBy(Host),
    /// It makes tokens for this registry.
    TokensFor(Host),
}

impl Peer {
    /// The registry itself.
    pub(super) fn registry(host: &Host) -> Self {
        Peer { authority: host.as_str().to_owned(), name: host.name().to_owned(), role: Role::Registry }
    }

    /// Who answers at `url` when `registry`, which is at `base`, is asked.
    pub(super) fn at(url: &Url, registry: &Host, base: &Url) -> Self {
        let place = |url: &Url| (url.host_str().map(str::to_owned), url.port_or_known_default());
        match place(url) == place(base) {
            true => Peer::registry(registry),
            false => Peer::sent_by(url, registry),
        }
    }

    /// A server to which `registry` sent us.
    pub(super) fn sent_by(url: &Url, registry: &Host) -> Self {
        Peer::named_by(url, Role::SentBy(registry.clone()))
    }

    /// The token service of `registry`.
    pub(super) fn tokens(url: &Url, registry: &Host) -> Self {
        Peer::named_by(url, Role::TokensFor(registry.clone()))
    }

    fn named_by(url: &Url, role: Role) -> Self {
        let host = plain(url.host_str().unwrap_or_default());
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Peer { authority: format!("{host}{port}"), name, role }
    }

    /// Host and port, as a directory of certificates is named.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// The host, without port and brackets.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Why it was asked.
    pub(super) fn role(&self) -> &Role {
        &self.role
    }
}

/// The host as it can stand in a command: of what a URL takes for a host, a shell would act on some characters.
fn plain(host: &str) -> String {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    host.bytes().map(|byte| if known(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority)?;
        match &self.role {
            Role::Registry => Ok(()),
            Role::SentBy(registry) => write!(f, " (where {registry} sends us)"),
            Role::TokensFor(registry) => write!(f, " (which makes tokens for {registry})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_with_the_registry_that_named_it_and_without_what_is_secret() {
        let (registry, base) = ("reg.io".parse().unwrap(), "https://reg.io/".parse().unwrap());
        let shown = |url: &str| Peer::at(&url.parse().unwrap(), &registry, &base).to_string();
        assert_eq!(shown("https://reg.io:443/v2/?sig=planted"), "reg.io");
        assert_eq!(shown("https://s3.io/planted?sig=planted"), "s3.io (where reg.io sends us)");
        assert_eq!(shown("https://reg.io:8443/x"), "reg.io:8443 (where reg.io sends us)");
        assert_eq!(shown("http://reg.io/x"), "reg.io (where reg.io sends us)");
        assert_eq!(shown("https://$(x).io/"), "%24%28x%29.io (where reg.io sends us)");
        let tokens = Peer::tokens(&"https://[::1]:1/t?x=planted".parse().unwrap(), &registry);
        assert_eq!(tokens.to_string(), "[::1]:1 (which makes tokens for reg.io)");
        assert_eq!(tokens.name(), "::1");
    }
}
