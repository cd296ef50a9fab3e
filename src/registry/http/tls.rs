//! Which certificates a host's connections believe in and show.
//!
//! The certificates of a host are in a directory, as docker and podman keep them (containers-certs.d(5)):
//!
//! ```text
//! /etc/docker/certs.d/registry.local:5000/
//!   ca.crt          *.crt: believed, beside the system's authorities; what is no certificate is skipped with a warning
//!   client.cert     *.cert: shown to the server, if it asks ...
//!   client.key      ... with the private key of the same name
//! ```
//!
//! Knows files and rustls; must not know requests, nor where such directories usually are: the command line says that.

mod dates;
mod files;
mod verifier;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, InconsistentKeys, RootCertStore};
use rustls_platform_verifier::Verifier;

use files::{Authorities, read_chain, read_key};
use verifier::{Anyone, OwnOrIssued};
pub(crate) use verifier::{is_authority_as_server, is_of_old_version};

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
    pub(crate) fn of(&self, authority: &str) -> Option<PathBuf> {
        match &self.given {
            Some(given) => Some(given.clone()),
            None => self.per_host.iter().map(|directory| directory.join(authority)).find(|path| path.is_dir()),
        }
    }
}

/// What a directory of certificates holds.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    /// Believed, beside the system's authorities.
    authorities: Authorities,
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
    /// For what cannot be read, a client's certificate or key that is none, a certificate without its key or a key without
    /// its certificate: to go on without them would fail later and say less.
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        let cannot = |e| Error::io(format!("cannot read the certificates in {}", directory.display()), e);
        let mut files = Vec::new();
        for entry in fs::read_dir(directory).map_err(cannot)?.take(MAX_FILES) {
            files.push(entry.map_err(cannot)?.path());
        }
        files.sort();
        let mut found = Certificates::default();
        for path in &files {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => found.authorities.extend(Authorities::read(path)?),
                Some("cert") => {
                    let key = path.with_extension("key");
                    if !files.contains(&key) {
                        return Err(half_a_pair(path, &key));
                    }
                    let pair = ClientPair { chain: read_chain(path)?, key: read_key(&key)?, path: path.clone() };
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
    pub(crate) fn without_client(self) -> Self {
        Certificates { client: None, ..self }
    }

    /// Whether there is anything to do differently.
    pub(crate) fn is_empty(&self) -> bool {
        self.authorities.usable.is_empty() && self.client.is_none()
    }

    /// What was skipped, and why.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.authorities.warnings
    }

    /// How connections are made that verify the server by these certificates and the system's. With `None` the server
    /// may be anyone.
    pub(crate) fn config(self, check: Check) -> Result<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match check {
            Check::Nothing => Arc::new(Anyone(provider.clone())),
            Check::Server => {
                let own = self.authorities.usable;
                let inner = Verifier::new_with_extra_roots(own.clone(), provider.clone())
                    .map_err(|e| Error::registry("cannot use the certificates").caused_by(e))?;
                Arc::new(OwnOrIssued { inner, own })
            }
        };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::registry("cannot set up TLS").caused_by(e))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        match self.client {
            None => Ok(builder.with_no_client_auth()),
            Some(client) => {
                let path = client.path.clone();
                let certified = client.certified(&provider).map_err(|e| {
                    Error::registry(format!("{} and its key do not go together", path.display())).caused_by(e)
                })?;
                Ok(builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified))))
            }
        }
    }
}

impl ClientPair {
    /// The certificate with its key, if they go together. rustls compares them for X.509 version 3 only, and refuses other
    /// versions (rustls/rustls#2364), which Go shows to a server all the same.
    fn certified(self, provider: &CryptoProvider) -> Result<CertifiedKey, rustls::Error> {
        let certified = CertifiedKey::new(self.chain, provider.key_provider.load_private_key(self.key)?);
        let mismatch = || Err(InconsistentKeys::KeyMismatch.into());
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
            Err(rustls::Error::InconsistentKeys(_)) => mismatch(),
            Err(_) => match has_key(certified.end_entity_cert()?, &certified) {
                true => Ok(certified),
                false => mismatch(),
            },
        }
    }
}

/// Whether the public key in a certificate of any version is that of `certified`.
fn has_key(certificate: &CertificateDer<'_>, certified: &CertifiedKey) -> bool {
    let mut store = RootCertStore::empty();
    let (Ok(()), Some(key)) = (store.add(certificate.clone()), certified.key.public_key()) else { return false };
    // The store keeps the key without the head of its sequence, which is a tag and a length of up to three bytes.
    let head = key.as_ref().strip_suffix(store.roots[0].subject_public_key_info.as_ref());
    head.is_some_and(|head| (2..=4).contains(&head.len()))
}

/// Whether a server must prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// By its certificate.
    Server,
    /// It need not (`--tls-verify=false`).
    Nothing,
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

    const BROKEN: &str = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    const NOT_DER: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    #[test]
    fn half_a_pair_is_named_and_what_is_no_certificate_is_skipped() {
        for (name, text, part) in [("client.cert", "", "client.key"), ("client.key", "", "client.cert")] {
            let place = tempfile::tempdir().unwrap();
            fs::write(place.path().join(name), text).unwrap();
            let error = Certificates::read(place.path()).expect_err(name);
            assert!(error.chain().contains(part), "{error:?}");
        }
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("README"), "").unwrap();
        for (name, text) in [("empty.crt", ""), ("foreign.crt", "x"), ("broken.crt", BROKEN), ("none.crt", NOT_DER)] {
            fs::write(place.path().join(name), text).unwrap();
        }
        fs::create_dir(place.path().join("folder.crt")).unwrap();
        std::os::unix::fs::symlink("nowhere", place.path().join("link.crt")).unwrap();
        let found = Certificates::read(place.path()).unwrap();
        assert!(found.is_empty());
        let names = ["broken", "empty", "folder", "foreign", "link", "none"];
        assert_eq!(found.warnings().len(), names.len(), "{:?}", found.warnings());
        assert!(names.iter().zip(found.warnings()).all(|(name, warning)| warning.contains(&format!("{name}.crt"))));
    }
}
