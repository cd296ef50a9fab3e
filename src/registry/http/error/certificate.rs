//! Why a server's certificate is not believed, and what can be done about it.

use rustls::CertificateError;
use rustls::pki_types::UnixTime;

use super::clip;
use crate::clock;
use crate::error::Error;
use crate::registry::http::server::RemoteServer;
use crate::registry::http::tls;

/// Why a server's certificate is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadCertificate {
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
    #[error("its certificate, or one between it and the authority, is of X.509 version 1")]
    OldVersion,
    #[error("its certificate cannot be believed ({0})")]
    Other(String),
}

impl BadCertificate {
    pub(crate) fn of(error: &rustls::Error) -> Self {
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
            _ if tls::is_of_old_version(error) => BadCertificate::OldVersion,
            other => BadCertificate::Other(clip(&other.to_string())),
        }
    }

    pub(crate) fn hint(&self, error: Error, peer: &RemoteServer) -> Error {
        let host = peer.authority();
        let put =
            format!("put it as ca.crt into /etc/containers/certs.d/{host}/ or another directory given with --cert-dir");
        match self {
            BadCertificate::UnknownIssuer | BadCertificate::Namesake => error
                .hint(format!("get the certificate of the authority from whoever runs {host}, and {put}"))
                .hint("--tls-verify=false does without, where the network itself is trusted"),
            BadCertificate::Expired(_) | BadCertificate::NotYet(_) => error.hint(format!(
                "renew the certificate at {host}; if it is right, the clock of this machine is not: it says {}",
                clock::now().map_or_else(|_| "a year after 9999".into(), |now| now.strftime("%F %H:%MZ").to_string())
            )),
            BadCertificate::WrongName(_) => error.hint(format!(
                "use the name that the certificate is for, or have one made for {} (subjectAltName)",
                peer.name()
            )),
            BadCertificate::AuthorityAsServer => {
                error.hint(format!("if it is self-signed and yours, {put}")).hint(format!("or {}", make_one(peer)))
            }
            BadCertificate::OldVersion => error
                .hint("version 1 cannot say for which host a certificate is, nor that its owner is an authority")
                .hint(make_one(peer)),
            BadCertificate::Other(_) => error.hint(format!("whoever runs {host} has to mend it")),
        }
    }
}

/// How a server's certificate is made.
fn make_one(peer: &RemoteServer) -> String {
    format!(
        "make a right one: openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN={name} \
         -addext subjectAltName={kind}:{name} -addext basicConstraints=critical,CA:FALSE \
         -keyout server.key -out server.crt",
        name = peer.name(),
        kind = if peer.name().parse::<std::net::IpAddr>().is_ok() { "IP" } else { "DNS" },
    )
}

/// `DnsName("a.io")` or `IpAddress(...)`, as rustls says it, without its clothes.
fn plain_name(presented: &str) -> String {
    match presented.split_once("(\"").and_then(|(_, rest)| rest.strip_suffix("\")")) {
        Some(name) => name.to_owned(),
        None => presented.to_owned(),
    }
}
