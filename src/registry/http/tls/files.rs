//! Files of certificates and keys.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::dates;
use crate::error::{Error, Result};

/// The certificates of a file of authorities, as far as they can be used.
#[derive(Debug, Default)]
pub(crate) struct Authorities {
    /// For use. They may be of any version: X.509 version 1 has no extensions, so that Go and webpki take every such
    /// certificate for an authority that the user names as one. None is outside its dates: webpki does not look at the
    /// dates of authorities; Go, and so docker and skopeo, does.
    pub(crate) usable: Vec<CertificateDer<'static>>,
    /// What was skipped, and why.
    pub(crate) warnings: Vec<String>,
}

impl Authorities {
    /// Adds what another file holds.
    pub(crate) fn extend(&mut self, other: Authorities) {
        self.usable.extend(other.usable);
        self.warnings.extend(other.warnings);
    }

    /// Reads a file. What is no certificate is skipped with a warning, as is a file that is none: Go's
    /// `CertPool.AppendCertsFromPEM`, which docker and skopeo use, skips it in silence.
    ///
    /// # Errors
    /// `Io` if the file cannot be read.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let mut found = Authorities::default();
        let mut skipped = |what: String| found.warnings.push(format!("{}{what}", path.display()));
        if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
            skipped(" is no file, and is skipped".to_owned());
            return Ok(found);
        }
        let bytes = match read_bytes(path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                skipped(" is too large for certificates, and is skipped".to_owned());
                return Ok(found);
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                skipped(" leads nowhere, and is skipped".to_owned());
                return Ok(found);
            }
            Err(e) => return Err(cannot_read(path, e)),
        };
        let now = Timestamp::now().to_zoned(TimeZone::UTC).datetime();
        let mut count = 0;
        for certificate in CertificateDer::pem_slice_iter(&bytes).take(MAX_CERTIFICATES) {
            count += 1;
            let readable = certificate.ok().filter(is_certificate);
            let dates = readable.as_ref().and_then(|certificate| dates::validity(certificate));
            match (readable, dates) {
                (Some(certificate), Some((from, until))) if (from..=until).contains(&now) => {
                    found.usable.push(certificate);
                }
                (Some(_), Some((from, until))) => {
                    let (word, date) =
                        if now < from { ("is not valid before", from) } else { ("has expired on", until) };
                    skipped(format!(": certificate {count} {word} {}, and is not used", date.strftime("%F")));
                }
                _ => skipped(format!(": certificate {count} cannot be read, and is skipped")),
            }
        }
        if count == 0 {
            skipped(format!(
                " holds no certificate in PEM form, and is skipped (it should have lines BEGIN CERTIFICATE and END \
                 CERTIFICATE; from DER: openssl x509 -inform der -in {} -out ca.crt)",
                path.display()
            ));
        }
        Ok(found)
    }
}

/// The chain of a client's certificate.
///
/// # Errors
/// `Registry` for what is no certificate.
pub(crate) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let none = || Error::registry(format!("{} holds no certificate in PEM form", path.display()));
    match certificates {
        Ok(certificates) if !certificates.is_empty() && certificates.iter().all(is_certificate) => Ok(certificates),
        Ok(_) => Err(none().hint("it should have lines BEGIN CERTIFICATE and END CERTIFICATE: mend or remove it")),
        Err(e) => Err(none().caused_by(io::Error::other(e.to_string()))),
    }
}

/// A client's private key.
///
/// # Errors
/// `Registry` for what is no key.
pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| {
        // The cause could quote the file.
        Error::registry(format!("{} holds no private key that can be used", path.display()))
            .hint("it must be in PEM form and not encrypted (openssl pkey -in ENCRYPTED -out PLAIN)")
    })
}

/// Whether it is a certificate of any version.
fn is_certificate(der: &CertificateDer<'static>) -> bool {
    RootCertStore::empty().add(der.clone()).is_ok()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = read_bytes(path).map_err(|e| cannot_read(path, e))?;
    bytes.ok_or_else(|| Error::registry(format!("{} is too large for a certificate or key", path.display())))
}

fn cannot_read(path: &Path, error: io::Error) -> Error {
    Error::io(format!("cannot read {}", path.display()), error)
}

/// Nothing if the file is too large.
fn read_bytes(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= MAX_FILE).then_some(bytes))
}

/// The largest file of certificates, 1 MiB.
const MAX_FILE: u64 = 1 << 20;
/// The most certificates of a file.
const MAX_CERTIFICATES: usize = 1000;
