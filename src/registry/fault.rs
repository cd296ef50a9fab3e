//! Failures as a person reads them: what, where, what to do next. Everything that a server said is bounded and
//! escaped; URLs lose their query, which may hold a signature or a token.

use std::error::Error as StdError;
use std::io;

use reqwest::StatusCode;

use super::retry::{Again, Failure};
use crate::error::{Error, Kind};
use crate::oci::Host;

/// A request that came to no answer. `first` says that this host has never answered before.
pub(super) fn transport(host: &Host, error: reqwest::Error, first: First) -> Failure {
    let error = error.without_url();
    let cause = Cause::of(&error);
    let message = match error.is_connect() {
        true => format!("cannot reach {host}"),
        false => format!("the connection to {host} failed"),
    };
    let failed = Error::registry(message).caused_by(io::Error::other(cause.text(&error)));
    match cause {
        Cause::Refused => given_up_at_first(
            failed.hint(format!("is the registry running, and is this its port? nothing listens at {host}")),
            first,
        ),
        Cause::NoSuchHost => {
            given_up_at_first(failed.hint("check the name, and that this machine can resolve it"), first)
        }
        Cause::Certificate => Failure::lasting(failed.hint(format!(
            "{host} is not known to any certificate authority that this machine trusts: give its own with --cert-dir, \
             or use --tls-verify=false if the network is trusted"
        ))),
        Cause::NotTls => Failure::lasting(
            failed.hint(format!("{host} seems to speak plain HTTP: that has to be allowed with --tls-verify=false")),
        ),
        Cause::TimedOut => {
            Failure::passing(failed.hint("a firewall may drop the packets, or the host may be down or overloaded"))
        }
        Cause::Other => Failure::passing(failed),
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
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let mut clipped = String::new();
    for (count, c) in text.trim().chars().enumerate() {
        if count == MAX_SAID {
            clipped.push('…');
            break;
        }
        match hidden(c) {
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

const MAX_SAID: usize = 300;

fn given_up_at_first(error: Error, first: First) -> Failure {
    match first {
        First::Contact => Failure::lasting(error),
        First::No => Failure::passing(error),
    }
}

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
    Certificate,
    NotTls,
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
                Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
                    return Cause::Certificate;
                }
                Some(rustls::Error::InvalidMessage(_)) => return Cause::NotTls,
                _ => {}
            }
            if cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
                return Cause::Refused;
            }
        }
        Cause::Other
    }

    fn text(&self, error: &reqwest::Error) -> String {
        match self {
            Cause::Refused => "connection refused".to_owned(),
            Cause::TimedOut => "timed out".to_owned(),
            Cause::NotTls => "it does not speak TLS".to_owned(),
            // The deepest cause says the most and repeats the least.
            _ => clip(&causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)),
        }
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
