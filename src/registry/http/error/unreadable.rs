//! Bodies that came with status 200 and cannot be what was asked for: web pages and compressed bytes.

use super::messages::title;
use crate::error::Error;
use crate::registry::http::server::RemoteServer;

/// Why a body is neither a manifest nor a list.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// A portal or proxy sent a page for people.
    WebPage(Error),
    /// The bytes are compressed.
    Packed(Error),
}

impl Unreadable {
    /// Looks at the `packing` (`Content-Encoding`) and at the first bytes of a body. `what` was asked of `peer`, and
    /// stands after `cannot `.
    pub(crate) fn of(what: &str, peer: &RemoteServer, packing: Option<&str>, body: &[u8]) -> Option<Self> {
        if let Some(how) = packing {
            let how = super::clip(how);
            return Some(packed(what, peer, &format!("a body with Content-Encoding: {how}")));
        }
        if body.starts_with(&GZIP) {
            return Some(packed(what, peer, "gzip data"));
        }
        let text = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body).trim_ascii_start();
        text.starts_with(b"<").then(|| Unreadable::WebPage(web_page(what, peer, text)))
    }

    /// What to show.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Unreadable::WebPage(error) | Unreadable::Packed(error) => error,
        }
    }
}

/// The error for a web page (with status 200) where `what` was asked for; `body` is its beginning, if it was read.
pub(crate) fn web_page(what: &str, peer: &RemoteServer, body: &[u8]) -> Error {
    let title = title(body).map(|title| format!(": \"{title}\"")).unwrap_or_default();
    let (authority, name) = (peer.authority(), peer.name());
    Error::registry(format!("cannot {what}: {peer} returned a web page with status 200{title}")).hint(format!(
        "a login portal or a proxy answers in place of the registry: look at what answers (curl -iL {authority}/v2/), \
         then log in to the portal, add {name} to NO_PROXY, or correct the address"
    ))
}

fn packed(what: &str, peer: &RemoteServer, found: &str) -> Unreadable {
    let message = format!("cannot {what}: {peer} returned {found}, although the request asks for identity");
    Unreadable::Packed(Error::registry(message).hint(
        "turn off compression for /v2/ at the registry or at the proxy in front of it (nginx: gzip off), then run the \
         same command again",
    ))
}

/// How gzip data begins (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_compressed_bytes_are_told_from_json() {
        let peer = RemoteServer::registry(&"reg.io".parse().unwrap());
        let of = |packing: Option<&str>, body: &[u8]| {
            Unreadable::of("read x", &peer, packing, body).map(|unreadable| unreadable.into_error().chain())
        };
        for json in [&b"{}"[..], b" [1]", b"null", b""] {
            assert_eq!(of(None, json), None);
        }
        let page = b"\xef\xbb\xbf\n<!doctype html><TITLE lang=en>\n Sign in\n</title>";
        assert_eq!(of(None, page).unwrap(), "cannot read x: reg.io returned a web page with status 200: \"Sign in\"");
        assert!(of(None, b"\x1f\x8b\x08").unwrap().contains("returned gzip data"));
        assert!(of(Some("br"), b"{}").unwrap().contains("Content-Encoding: br"));
    }
}
