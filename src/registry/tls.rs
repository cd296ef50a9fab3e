//! Which certificates a host's connections believe in and show.
//!
//! The certificates of a host are in a directory, as docker and podman keep them (containers-certs.d(5)):
//!
//! ```text
//! /etc/docker/certs.d/registry.local:5000/
//!   ca.crt          *.crt: believed, beside the system's authorities
//!   client.cert     *.cert: shown to the server, if it asks ...
//!   client.key      ... with the private key of the same name
//! ```
//!
//! Knows files and rustls; must not know requests, nor where such directories usually are: the command line says that.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_platform_verifier::Verifier;

use crate::error::{Error, Result};

/// Where the certificates of hosts are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateDirectories {
    /// One directory for every host, instead of the others (`--cert-dir`).
    pub given: Option<PathBuf>,
    /// `certs.d` directories, which hold a directory `HOST[:PORT]` for each host; the first one that has it counts.
    pub per_host: Vec<PathBuf>,
}

impl CertificateDirectories {
    /// The directory for a host (`HOST[:PORT]`), if there is one.
    pub(super) fn of(&self, authority: &str) -> Option<PathBuf> {
        match &self.given {
            Some(given) => Some(given.clone()),
            None => self.per_host.iter().map(|directory| directory.join(authority)).find(|path| path.is_dir()),
        }
    }
}

/// What a directory of certificates holds.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    /// Believed, beside the system's authorities.
    authorities: Vec<CertificateDer<'static>>,
    client: Option<ClientPair>,
}

/// A client's certificate and key.
struct ClientPair {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    path: PathBuf,
}

impl Certificates {
    /// Reads a directory.
    ///
    /// # Errors
    /// For what cannot be read, what is no certificate or key, a certificate without its key or a key without its
    /// certificate: to go on without them would fail later and say less.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let cannot = |e| Error::io(format!("cannot read the certificates in {}", directory.display()), e);
        let mut files = Vec::new();
        for entry in fs::read_dir(directory).map_err(cannot)?.take(MAX_FILES) {
            files.push(entry.map_err(cannot)?.path());
        }
        files.sort();
        let mut found = Certificates::default();
        for path in &files {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => found.authorities.extend(read_certificates(path)?),
                Some("cert") => {
                    let key = path.with_extension("key");
                    if !files.contains(&key) {
                        return Err(half_a_pair(path, &key));
                    }
                    let pair = ClientPair { chain: read_certificates(path)?, key: read_key(&key)?, path: path.clone() };
                    found.client.get_or_insert(pair);
                }
                Some("key") if !files.contains(&path.with_extension("cert")) => {
                    return Err(half_a_pair(path, &path.with_extension("cert")));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// The same without the client's certificate: for hosts to which a registry sends us.
    pub(super) fn without_client(self) -> Self {
        Certificates { client: None, ..self }
    }

    /// Whether there is anything to do differently.
    pub(super) fn is_empty(&self) -> bool {
        self.authorities.is_empty() && self.client.is_none()
    }

    /// How connections are made that verify the server by these certificates and the system's. With `None` the server
    /// may be anyone.
    pub(super) fn config(self, check: Check) -> Result<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match check {
            Check::Nothing => Arc::new(Anyone(provider.clone())),
            Check::Server => {
                let inner = Verifier::new_with_extra_roots(self.authorities.clone(), provider.clone())
                    .map_err(|e| Error::registry("cannot use the certificates").caused_by(e))?;
                Arc::new(OwnOrIssued { inner, own: self.authorities })
            }
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::registry("cannot set up TLS").caused_by(e))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        match self.client {
            None => Ok(builder.with_no_client_auth()),
            Some(ClientPair { chain, key, path }) => builder.with_client_auth_cert(chain, key).map_err(|e| {
                Error::registry(format!("{} and its key do not go together", path.display())).caused_by(e)
            }),
        }
    }
}

/// Whether a server must prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// By its certificate.
    Server,
    /// It need not (`--tls-verify=false`).
    Nothing,
}

/// Believes what the authorities have issued, and a self-signed certificate that is itself in the host's directory.
///
/// `openssl req -x509`, which registries' manuals tell to use, marks what it makes as an authority, and webpki refuses
/// such a certificate as a server's own (`CaUsedAsEndEntity`) although it is trusted; docker and podman take it. So the
/// very bytes that someone put into the directory are taken: their dates have been checked by then (webpki looks at them
/// first), their name is checked here, and that the server has the key is checked as ever.
#[derive(Debug)]
struct OwnOrIssued {
    inner: Verifier,
    own: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for OwnOrIssued {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let refused = match self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Ok(verified) => return Ok(verified),
            Err(refused) => refused,
        };
        if !is_authority_as_server(&refused) || !self.own.contains(end_entity) {
            return Err(refused);
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        rustls::client::verify_server_name(&certificate, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Believes anyone, as the user asked for.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether a certificate was refused because it is marked as that of an authority.
pub(super) fn is_authority_as_server(error: &rustls::Error) -> bool {
    // webpki's error, which is not ours to name, has this name; `tests/tls.rs` notices if it gets another.
    matches!(error, rustls::Error::InvalidCertificate(CertificateError::Other(other))
        if other.0.to_string() == "CaUsedAsEndEntity")
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let none = || Error::registry(format!("{} holds no certificate in PEM form", path.display()));
    match certificates {
        Ok(certificates) if !certificates.is_empty() => {
            for certificate in &certificates {
                ParsedCertificate::try_from(certificate).map_err(|e| none().caused_by(e))?;
            }
            Ok(certificates)
        }
        Ok(_) => Err(none().hint("it should have lines BEGIN CERTIFICATE and END CERTIFICATE: mend or remove it")),
        Err(e) => Err(none().caused_by(io::Error::other(e.to_string()))),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| {
        // The cause could quote the file.
        Error::registry(format!("{} holds no private key that can be used", path.display()))
            .hint("it must be in PEM form and not encrypted (openssl pkey -in ENCRYPTED -out PLAIN)")
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let cannot = |e| Error::io(format!("cannot read {}", path.display()), e);
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(cannot)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(cannot)?;
    match bytes.len() as u64 > MAX_FILE {
        true => Err(Error::registry(format!("{} is too large for a certificate or key", path.display()))),
        false => Ok(bytes),
    }
}

fn half_a_pair(there: &Path, missing: &Path) -> Error {
    Error::registry(format!("{} is there without {}", there.display(), missing.display()))
        .hint("a client certificate needs both; a CA's certificate is named *.crt")
}

impl std::fmt::Debug for ClientPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientPair").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The largest file of certificates, 1 MiB.
const MAX_FILE: u64 = 1 << 20;
/// The most files in a directory of certificates.
const MAX_FILES: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_directory_that_knows_the_host_counts() {
        let place = tempfile::tempdir().unwrap();
        let (one, two) = (place.path().join("one"), place.path().join("two"));
        for path in [one.join("a.io"), two.join("a.io"), two.join("b.io:5000")] {
            fs::create_dir_all(path).unwrap();
        }
        let directories = CertificateDirectories { given: None, per_host: vec![one.clone(), two.clone()] };
        assert_eq!(directories.of("a.io"), Some(one.join("a.io")));
        assert_eq!(directories.of("b.io:5000"), Some(two.join("b.io:5000")));
        assert_eq!(directories.of("b.io"), None);
        let given = CertificateDirectories { given: Some(place.path().to_owned()), ..directories };
        assert_eq!(given.of("a.io").as_deref(), Some(place.path()));
    }

    #[test]
    fn half_a_pair_and_what_is_no_certificate_are_named() {
        for (name, text, part) in
            [("client.cert", "", "client.key"), ("client.key", "", "client.cert"), ("ca.crt", "x", "no certificate")]
        {
            let place = tempfile::tempdir().unwrap();
            fs::write(place.path().join(name), text).unwrap();
            let error = Certificates::read(place.path()).expect_err(name);
            assert!(error.chain().contains(part), "{error:?}");
        }
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("README"), "").unwrap();
        assert!(Certificates::read(place.path()).unwrap().is_empty());
    }
}
