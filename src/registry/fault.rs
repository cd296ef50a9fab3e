//! Failures as a person reads them: what, where, what to do next. Everything that a server said is bounded and
//! escaped; URLs lose their query, which may hold a signature or a token.

use std::error::Error as StdError;
use std::io;

use reqwest::StatusCode;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};

use super::proxies::ProxyUrl;
use super::retry::{Again, Failure};
use super::tls;
use crate::error::{Error, Kind};
use crate::oci::Host;
use crate::text::is_hidden;

/// How a request went out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route<'a> {
    /// To whom.
    pub(super) host: &'a Host,
    /// Through whom.
    pub(super) proxy: Option<&'a ProxyUrl>,
    /// Whether the host has never answered before.
    pub(super) first: First,
}

impl<'a> Route<'a> {
    /// An answer is under way.
    pub(super) fn later(host: &'a Host) -> Self {
        Route { host, proxy: None, first: First::No }
    }
}

/// A request that came to no answer.
pub(super) fn transport(Route { host, proxy, first }: Route<'_>, error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let cause = Cause::of(&error);
    let through = proxy.map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default();
    let message = match error.is_connect() {
        true => format!("cannot reach {host}{through}"),
        false => format!("the connection to {host}{through} failed"),
    };
    let failed = Error::registry(message).caused_by(io::Error::other(cause.text(&error)));
    let failed = match &cause {
        Cause::Certificate(bad) => bad.hint(failed, host),
        Cause::Refused if proxy.is_some() => failed.hint("is the proxy running, and is this its port?"),
        Cause::Refused => {
            failed.hint(format!("is the registry running, and is this its port? nothing listens at {host}"))
        }
        Cause::NoSuchHost => failed.hint("check the name, and that this machine can resolve it"),
        Cause::ClientCertificate => failed.hint(format!(
            "{host} wants a client certificate, or not this one: put client.cert and client.key beside the CA's *.crt, \
             in certs.d/{host} or in the directory given with --cert-dir"
        )),
        Cause::NotTls => {
            failed.hint(format!("{host} seems to speak plain HTTP: that has to be allowed with --tls-verify=false"))
        }
        Cause::ProxyLogin => failed.hint("give the proxy's login in its URL: http://USER:PASSWORD@PROXY:PORT"),
        Cause::TimedOut => failed.hint("a firewall may drop the packets, or the host may be down or overloaded"),
        Cause::Other => failed,
    };
    let failed = match proxy {
        Some(_) => failed.hint(format!(
            "the proxy is named by HTTPS_PROXY, HTTP_PROXY or ALL_PROXY; with {} in NO_PROXY it is not used",
            host.name()
        )),
        None => failed,
    };
    match (&cause, first) {
        (Cause::Refused | Cause::NoSuchHost, First::Contact)
        | (Cause::Certificate(_) | Cause::ClientCertificate | Cause::NotTls | Cause::ProxyLogin, _) => {
            Failure::lasting(failed)
        }
        _ => Failure::passing(failed),
    }
}

/// A server that is silent for too long.
pub(super) fn timeout(host: &Host, seconds: u64) -> Failure {
    Failure::passing(Error::registry(format!("{host} did not answer or take anything for {seconds} s")))
}

/// An answer that says no. `what` is what was asked: `read the tags of h.io/app`.
pub(super) fn status(what: &str, host: &Host, status: StatusCode, body: &[u8], again: Again) -> Failure {
    let said = said(body);
    let separator = if said.is_empty() { "" } else { ": " };
    let kind = match status {
        StatusCode::NOT_FOUND => Kind::NotFound,
        _ => Kind::Registry,
    };
    let error = Error::new(kind, format!("cannot {what}: {host} answered {status}{separator}{said}"));
    let error = match status {
        StatusCode::UNAUTHORIZED => error.hint(format!("{host} wants a login, or the one given is not valid there")),
        StatusCode::FORBIDDEN => error.hint("the login has no right to this repository"),
        StatusCode::NOT_FOUND => {
            error.hint("check the spelling; some registries also answer this without a login that may see it")
        }
        StatusCode::METHOD_NOT_ALLOWED => error.hint("the registry is read-only, or does not offer this"),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            error.hint("give the proxy's login in its URL (HTTPS_PROXY, HTTP_PROXY): http://USER:PASSWORD@PROXY:PORT")
        }
        // Go's servers and nginx say it in these words.
        StatusCode::BAD_REQUEST if ["to an HTTPS server", "to HTTPS port"].iter().any(|part| said.contains(part)) => {
            error.hint(format!("{host} speaks HTTPS: a redirect or a Location that it sends says http"))
        }
        StatusCode::PAYLOAD_TOO_LARGE => {
            error.hint("raise the limit for request bodies at the registry or at the proxy in front of it")
        }
        StatusCode::TOO_MANY_REQUESTS => error.hint("the registry limits requests: log in, or lower --jobs"),
        StatusCode::INSUFFICIENT_STORAGE => error.hint("the registry is full"),
        status if status.is_server_error() => error.hint(format!("look into the log of {host}")),
        _ => error,
    };
    Failure::new(error, again)
}

/// A server that does not keep to the specification, or to its own word.
pub(super) fn protocol(host: &Host, what: impl std::fmt::Display) -> Error {
    Error::registry(format!("{host} does not keep to the registry protocol: {what}"))
        .hint("a proxy in between may alter answers; the registry's log may say more")
}

/// Untrusted text for a message: escaped, and at most 300 characters.
pub(super) fn clip(text: &str) -> String {
    let mut clipped = String::new();
    for (count, c) in text.trim().chars().enumerate() {
        if count == MAX_SAID {
            clipped.push('…');
            break;
        }
        match is_hidden(c) {
            true => clipped.extend(c.escape_unicode()),
            false => clipped.push(c),
        }
    }
    clipped
}

/// Whether a host has answered before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// Never: a wrong name or port is likelier than a restart.
    Contact,
    /// It has.
    No,
}

/// What is said of a server that does not speak TLS.
pub(super) const NOT_TLS: &str = "it does not speak TLS";
const MAX_SAID: usize = 300;

/// The registry's own words (distribution-spec, "Error Codes"), or the first line of a plain answer.
fn said(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
        #[serde(default)]
        detail: serde_json::Value,
    }
    if let Ok(Errors { errors }) = serde_json::from_slice::<Errors>(body) {
        let told = errors.iter().take(3).map(|one| match &one.detail {
            serde_json::Value::Null => format!("{} {}", one.code, one.message),
            detail => format!("{} {} {detail}", one.code, one.message),
        });
        return clip(&told.collect::<Vec<_>>().join("; "));
    }
    let text = String::from_utf8_lossy(body);
    match text.trim_start().starts_with('<') {
        true => String::new(), // a proxy's web page
        false => clip(text.lines().next().unwrap_or_default()),
    }
}

enum Cause {
    Refused,
    NoSuchHost,
    Certificate(BadCertificate),
    ClientCertificate,
    NotTls,
    ProxyLogin,
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
            // The type is not public.
            if cause.to_string() == "tunnel error: proxy authorization required" {
                return Cause::ProxyLogin;
            }
        }
        Cause::Other
    }

    fn text(&self, error: &reqwest::Error) -> String {
        match self {
            Cause::Refused => "connection refused".to_owned(),
            Cause::TimedOut => "timed out".to_owned(),
            Cause::NotTls => NOT_TLS.to_owned(),
            Cause::Certificate(bad) => bad.to_string(),
            Cause::ClientCertificate => "it did not accept us by our certificate".to_owned(),
            Cause::ProxyLogin => "the proxy wants a login".to_owned(),
            // The deepest cause says the most and repeats the least.
            _ => clip(&causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)),
        }
    }
}

/// Why a server's certificate is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum BadCertificate {
    #[error("its certificate was issued by an authority that is not known here")]
    UnknownIssuer,
    #[error("its certificate was issued by another authority of the same name than the one that is known here")]
    Namesake,
    #[error("its certificate has expired{0}")]
    Expired(String),
    #[error("its certificate is not valid yet{0}")]
    NotYet(String),
    #[error("its certificate is for {0}")]
    WrongName(String),
    #[error("its certificate is marked as that of an authority, not of a server")]
    AuthorityAsServer,
    #[error("its certificate cannot be believed ({0})")]
    Other(String),
}

impl BadCertificate {
    fn of(error: &rustls::Error) -> Self {
        let date = |time: &UnixTime, word: &str| {
            let seconds = i64::try_from(time.as_secs()).ok();
            let date = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
            date.map(|date| format!(" ({word} {})", date.strftime("%F"))).unwrap_or_default()
        };
        let rustls::Error::InvalidCertificate(bad) = error else {
            return BadCertificate::Other(clip(&error.to_string()));
        };
        match bad {
            CertificateError::UnknownIssuer => BadCertificate::UnknownIssuer,
            CertificateError::BadSignature => BadCertificate::Namesake,
            CertificateError::Expired => BadCertificate::Expired(String::new()),
            CertificateError::ExpiredContext { not_after, .. } => BadCertificate::Expired(date(not_after, "on")),
            CertificateError::NotValidYet => BadCertificate::NotYet(String::new()),
            CertificateError::NotValidYetContext { not_before, .. } => BadCertificate::NotYet(date(not_before, "from")),
            CertificateError::NotValidForName => BadCertificate::WrongName("another name".to_owned()),
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names: Vec<String> = presented.iter().take(5).map(|name| plain_name(name)).collect();
                BadCertificate::WrongName(if names.is_empty() { "no name".to_owned() } else { clip(&names.join(", ")) })
            }
            _ if tls::is_authority_as_server(error) => BadCertificate::AuthorityAsServer,
            other => BadCertificate::Other(clip(&other.to_string())),
        }
    }

    fn hint(&self, error: Error, host: &Host) -> Error {
        let put =
            format!("put it as ca.crt into /etc/containers/certs.d/{host}/ or another directory given with --cert-dir");
        match self {
            BadCertificate::UnknownIssuer | BadCertificate::Namesake => error
                .hint(format!("get the certificate of the authority from whoever runs {host}, and {put}"))
                .hint("--tls-verify=false does without, where the network itself is trusted"),
            BadCertificate::Expired(_) | BadCertificate::NotYet(_) => error.hint(format!(
                "renew the certificate at {host}; if it is right, the clock of this machine is not: it says {}",
                jiff::Timestamp::now().strftime("%F %H:%MZ")
            )),
            BadCertificate::WrongName(_) => error.hint(format!(
                "use the name that the certificate is for, or have one made for {} (subjectAltName)",
                host.name()
            )),
            BadCertificate::AuthorityAsServer => {
                error.hint(format!("if it is self-signed and yours, {put}")).hint(format!(
                    "or make a right one: openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN={name} \
                     -addext subjectAltName={kind}:{name} -addext basicConstraints=critical,CA:FALSE \
                     -keyout server.key -out server.crt",
                    name = host.name(),
                    kind = if host.name().parse::<std::net::IpAddr>().is_ok() { "IP" } else { "DNS" },
                ))
            }
            BadCertificate::Other(_) => error.hint(format!("whoever runs {host} has to mend it")),
        }
    }
}

/// `DnsName("a.io")` or `IpAddress(...)`, as rustls says it, without its clothes.
fn plain_name(presented: &str) -> String {
    match presented.split_once("(\"").and_then(|(_, rest)| rest.strip_suffix("\")")) {
        Some(name) => name.to_owned(),
        None => presented.to_owned(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registrys_own_words_are_shown_escaped_and_short() {
        let body =
            br#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown\u001b[2J","detail":{"d":1}}]}"#;
        assert_eq!(said(body), "MANIFEST_BLOB_UNKNOWN blob unknown\\u{1b}[2J {\"d\":1}");
        assert_eq!(said(b"<html>gateway</html>"), "");
        assert_eq!(said(b"slow down\nplease"), "slow down");
        assert_eq!(said("x".repeat(1000).as_bytes()).chars().count(), MAX_SAID + 1);
    }
}
