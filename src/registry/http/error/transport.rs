//! Requests that came to no answer: who could not be reached, why, and where to look.

use std::error::Error as StdError;
use std::io;

use reqwest::StatusCode;
use rustls::AlertDescription;

use super::certificate::BadCertificate;
use super::clip;
use crate::error::Error;
use crate::registry::http::proxies::ProxyUrl;
use crate::registry::http::retry::{self, AttemptError};
use crate::registry::http::server::{RemoteServer, ServerRole};

/// How a request went out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestRoute<'a> {
    /// To whom.
    pub(crate) peer: &'a RemoteServer,
    /// Through whom.
    pub(crate) proxy: Option<&'a ProxyUrl>,
    /// Whether the host has never answered before.
    pub(crate) first: FirstContact,
}

impl<'a> RequestRoute<'a> {
    /// An answer is under way.
    pub(crate) fn later(peer: &'a RemoteServer) -> Self {
        RequestRoute { peer, proxy: None, first: FirstContact::No }
    }
}

/// Whether a host has answered before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstContact {
    /// Never: a wrong name or port is likelier than a restart.
    Contact,
    /// It has.
    No,
}

/// How a proxy refused to connect (RFC 9110, section 9.3.6).
#[derive(Debug, Clone)]
pub(crate) struct Tunnel {
    /// To what it was to connect: `HOST:PORT`.
    pub(crate) target: String,
    /// Its answer.
    pub(crate) status: StatusCode,
    /// In which words, in quotes.
    pub(crate) words: String,
}

/// Whether a proxy refused to connect, for any other reason than a missing login.
pub(crate) fn is_refused_tunnel(error: &reqwest::Error) -> bool {
    // The type is not public.
    causes(error).any(|cause| cause.to_string() == "tunnel error: unsuccessful")
}

/// A request that came to no answer; `tunnel` is what its proxy answered, if that is the reason.
pub(crate) fn transport(
    RequestRoute { peer, proxy, first }: RequestRoute<'_>,
    error: reqwest::Error,
    tunnel: Option<Tunnel>,
) -> AttemptError {
    let error = error.without_url();
    let cause = tunnel.map_or_else(|| Cause::of(&error), Cause::Tunnel);
    let through = proxy.map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default();
    // Whether our certificate is taken is told only after the connection is made.
    let message = match error.is_connect() || matches!(cause, Cause::ClientCertificate) {
        true => format!("cannot reach {peer}{through}"),
        false => format!("the connection to {peer}{through} failed"),
    };
    let failed = cause.hint(Error::registry(message).caused_by(io::Error::other(cause.text(&error))), peer, proxy);
    let failed = match proxy {
        Some(_) => failed.hint(format!(
            "the proxy is named by HTTPS_PROXY, HTTP_PROXY or ALL_PROXY; with {} in NO_PROXY it is not used",
            peer.name()
        )),
        None => failed,
    };
    match (&cause, first) {
        (Cause::Refused | Cause::NoSuchHost | Cause::NoProxy, FirstContact::Contact)
        | (Cause::Certificate(_) | Cause::ClientCertificate | Cause::NotTls | Cause::ProxyLogin, _) => {
            AttemptError::permanent(failed)
        }
        (Cause::Tunnel(tunnel), _) => AttemptError::new(failed, retry::after_status(tunnel.status, None)),
        _ => AttemptError::temporary(failed),
    }
}

/// What is said of a server that does not speak TLS.
pub(crate) const NOT_TLS: &str = "it does not speak TLS";

enum Cause {
    Refused,
    NoSuchHost,
    Certificate(BadCertificate),
    ClientCertificate,
    NotTls,
    ProxyLogin,
    /// Nothing answers at a SOCKS proxy's place; why, is not told.
    NoProxy,
    /// The proxy does not connect.
    Tunnel(Tunnel),
    TimedOut,
    Other,
}

impl Cause {
    fn of(error: &reqwest::Error) -> Cause {
        if error.is_timeout() {
            return Cause::TimedOut;
        }
        if error.is_dns() {
            return Cause::NoSuchHost;
        }
        for cause in causes(error) {
            match cause.downcast_ref::<rustls::Error>() {
                Some(error @ (rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)) => {
                    return Cause::Certificate(BadCertificate::of(error));
                }
                Some(rustls::Error::InvalidMessage(_)) => return Cause::NotTls,
                // Whichever of these a server chooses, it is about what we have shown, or not.
                Some(rustls::Error::AlertReceived(
                    AlertDescription::CertificateRequired
                    | AlertDescription::BadCertificate
                    | AlertDescription::UnsupportedCertificate
                    | AlertDescription::CertificateRevoked
                    | AlertDescription::CertificateExpired
                    | AlertDescription::CertificateUnknown
                    | AlertDescription::UnknownCA
                    | AlertDescription::AccessDenied,
                )) => return Cause::ClientCertificate,
                _ => {}
            }
            if cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
                return Cause::Refused;
            }
            // The types are not public.
            match cause.to_string().as_str() {
                "tunnel error: proxy authorization required"
                | "SOCKS error: credentials not accepted"
                | "SOCKS error: server does not support user/pass authentication"
                | "SOCKS error: server implements authentication incorrectly" => return Cause::ProxyLogin,
                "SOCKS error: failed to create underlying connection" => return Cause::NoProxy,
                _ => {}
            }
        }
        Cause::Other
    }

    fn hint(&self, failed: Error, peer: &RemoteServer, proxy: Option<&ProxyUrl>) -> Error {
        let authority = peer.authority();
        match (self, peer.role()) {
            (Cause::Certificate(bad), _) => bad.hint(failed, peer),
            (Cause::ClientCertificate, _) => failed.hint(format!(
                "get a certificate with its key from whoever runs {authority}, and put them as client.cert and \
                 client.key beside the CA's *.crt: into /etc/containers/certs.d/{authority}/ or the directory given \
                 with --cert-dir"
            )),
            (Cause::NotTls, _) => failed
                .hint(format!("{authority} seems to speak plain HTTP: that has to be allowed with --tls-verify=false")),
            (Cause::ProxyLogin, _) => failed.hint(PROXY_LOGIN),
            (Cause::Tunnel(Tunnel { target, status, .. }), _) => match status.as_u16() {
                407 => failed.hint(PROXY_LOGIN),
                502..=504 => failed.hint(format!(
                    "the proxy itself does not reach {target}: check the name and port, or ask whoever runs the proxy"
                )),
                _ => failed.hint(format!("have whoever runs the proxy allow CONNECT to {target}")),
            },
            (Cause::NoProxy, _) => failed.hint("is the proxy running, and is this its name and port?"),
            (Cause::Refused, _) if proxy.is_some() => failed.hint("is the proxy running, and is this its port?"),
            (Cause::NoSuchHost, _) if proxy.is_some() => {
                failed.hint("check the proxy's name, and that this machine can resolve it")
            }
            (Cause::Refused | Cause::NoSuchHost | Cause::TimedOut, ServerRole::SentBy(registry)) => failed.hint(format!(
                "{registry} has its content there, so this machine must resolve and reach {authority} too; or whoever \
                 runs {registry} has it hand out the content itself (distribution: storage, redirect, disable: true)"
            )),
            (Cause::Refused | Cause::NoSuchHost | Cause::TimedOut, ServerRole::TokensFor(registry)) => failed.hint(format!(
                "{registry} has logins made into tokens there, so this machine must resolve and reach {authority} too"
            )),
            (Cause::Refused, ServerRole::Registry) => {
                failed.hint(format!("is the registry running, and is this its port? nothing listens at {authority}"))
            }
            (Cause::NoSuchHost, ServerRole::Registry) => failed.hint("check the name, and that this machine can resolve it"),
            (Cause::TimedOut, ServerRole::Registry) => {
                failed.hint("a firewall may drop the packets, or the host may be down or overloaded")
            }
            (Cause::Other, _) => failed,
        }
    }

    fn text(&self, error: &reqwest::Error) -> String {
        match self {
            Cause::Refused => "connection refused".to_owned(),
            Cause::TimedOut => "timed out".to_owned(),
            Cause::NotTls => NOT_TLS.to_owned(),
            Cause::Certificate(bad) => bad.to_string(),
            Cause::ClientCertificate => "it wants to see a client certificate, or another one than ours".to_owned(),
            Cause::ProxyLogin if is_http(error) => {
                "the proxy answered 407 Proxy Authentication Required: the proxy wants a login, or not this one"
                    .to_owned()
            }
            Cause::ProxyLogin => "the proxy wants a login, or not this one".to_owned(),
            Cause::Tunnel(Tunnel { target, status, words }) => {
                let separator = if words.is_empty() { "" } else { ": " };
                format!("the proxy answered {status} to CONNECT {target}{separator}{words}")
            }
            Cause::Other if is_refused_tunnel(error) => "the proxy refused to connect".to_owned(),
            Cause::NoProxy => "it cannot be reached itself".to_owned(),
            // The deepest cause says the most and repeats the least.
            _ => clip(&causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)),
        }
    }
}

/// Whether an HTTP proxy said so, not a SOCKS proxy.
fn is_http(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| cause.to_string() == "tunnel error: proxy authorization required")
}

const PROXY_LOGIN: &str =
    "give the proxy's login in its URL: http://USER:PASSWORD@PROXY:PORT (special characters as %XX)";

/// The first error of this type below this one.
pub(crate) fn cause<T: StdError + 'static>(error: &reqwest::Error) -> Option<&T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// Every error below this one.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |cause| below(*cause))
}

/// An `io::Error` names as its source the source of what it wraps, which would hide that.
fn below<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}
