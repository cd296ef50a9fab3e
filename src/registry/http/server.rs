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
pub(crate) struct RemoteServer {
    /// `HOST[:PORT]`
    authority: String,
    /// Without port and brackets.
    name: String,
    role: ServerRole,
}

/// Why it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServerRole {
    /// It is the registry.
    Registry,
    /// This registry sent us there.
    SentBy(Host),
    /// It makes tokens for this registry.
    TokensFor(Host),
}

impl RemoteServer {
    /// The registry itself.
    pub(crate) fn registry(host: &Host) -> Self {
        RemoteServer { authority: host.as_str().to_owned(), name: host.name().to_owned(), role: ServerRole::Registry }
    }

    /// Who answers at `url` when `registry`, which is at `base`, is asked.
    pub(crate) fn at(url: &Url, registry: &Host, base: &Url) -> Self {
        let place = |url: &Url| (url.host_str().map(str::to_owned), url.port_or_known_default());
        match place(url) == place(base) {
            true => RemoteServer::registry(registry),
            false => RemoteServer::sent_by(url, registry),
        }
    }

    /// A server to which `registry` sent us.
    pub(crate) fn sent_by(url: &Url, registry: &Host) -> Self {
        RemoteServer::named_by(url, ServerRole::SentBy(registry.clone()))
    }

    /// The token service of `registry`.
    pub(crate) fn tokens(url: &Url, registry: &Host) -> Self {
        RemoteServer::named_by(url, ServerRole::TokensFor(registry.clone()))
    }

    fn named_by(url: &Url, role: ServerRole) -> Self {
        let host = plain(url.host_str().unwrap_or_default());
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        RemoteServer { authority: format!("{host}{port}"), name, role }
    }

    /// Host and port, as a directory of certificates is named.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The host, without port and brackets.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Why it was asked.
    pub(crate) fn role(&self) -> &ServerRole {
        &self.role
    }
}

/// The host as it can stand in a command: of what a URL takes for a host, a shell would act on some characters.
fn plain(host: &str) -> String {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    host.bytes().map(|byte| if known(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

impl fmt::Display for RemoteServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority)?;
        match &self.role {
            ServerRole::Registry => Ok(()),
            ServerRole::SentBy(registry) => write!(f, " (where {registry} sends us)"),
            ServerRole::TokensFor(registry) => write!(f, " (which makes tokens for {registry})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_with_the_registry_that_named_it_and_without_what_is_secret() {
        let (registry, base) = ("reg.io".parse().unwrap(), "https://reg.io/".parse().unwrap());
        let shown = |url: &str| RemoteServer::at(&url.parse().unwrap(), &registry, &base).to_string();
        assert_eq!(shown("https://reg.io:443/v2/?sig=planted"), "reg.io");
        assert_eq!(shown("https://s3.io/planted?sig=planted"), "s3.io (where reg.io sends us)");
        assert_eq!(shown("https://reg.io:8443/x"), "reg.io:8443 (where reg.io sends us)");
        assert_eq!(shown("http://reg.io/x"), "reg.io (where reg.io sends us)");
        assert_eq!(shown("https://$(x).io/"), "%24%28x%29.io (where reg.io sends us)");
        let tokens = RemoteServer::tokens(&"https://[::1]:1/t?x=planted".parse().unwrap(), &registry);
        assert_eq!(tokens.to_string(), "[::1]:1 (which makes tokens for reg.io)");
        assert_eq!(tokens.name(), "::1");
    }
}
