//! Who is believed: by the authorities, by the very certificate in the host's directory, or anyone.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use rustls_platform_verifier::Verifier;

/// Believes what the authorities have issued, and a self-signed certificate that is itself in the host's directory.
///
/// `openssl req -x509`, which registries' manuals tell to use, marks what it makes as an authority, and webpki refuses
/// such a certificate as a server's own (`CaUsedAsEndEntity`) although it is trusted; docker and podman take it. So the
/// very bytes that someone put into the directory are taken: their dates have been checked by then (webpki looks at them
/// first), their name is checked here, and that the server has the key is checked as ever.
#[derive(Debug)]
pub(crate) struct OwnOrIssued {
    pub(crate) inner: Verifier,
    /// In the host's directory.
    pub(crate) own: Vec<CertificateDer<'static>>,
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
pub(crate) struct Anyone(pub(crate) Arc<CryptoProvider>);

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
pub(crate) fn is_authority_as_server(error: &rustls::Error) -> bool {
    is_called(error, "CaUsedAsEndEntity")
}

/// Whether a certificate was refused because it is of X.509 version 1 or 2: as a server's own it names no host, and one
/// between an authority and a server could belong to anyone.
pub(crate) fn is_of_old_version(error: &rustls::Error) -> bool {
    is_called(error, "UnsupportedCertVersion")
}

fn is_called(error: &rustls::Error, name: &str) -> bool {
    // webpki's errors, which are not ours to name, have these names; `tests/it/registry/network/tls.rs` notices if they change.
    matches!(error, rustls::Error::InvalidCertificate(CertificateError::Other(other)) if other.0.to_string() == name)
}
