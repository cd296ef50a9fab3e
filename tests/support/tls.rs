//! A certificate authority of a test's own, by openssl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tempfile::TempDir;

/// An authority with its own directory; everything that it issues is there, as long as someone has it.
#[derive(Debug)]
pub struct Authority {
    directory: Arc<TempDir>,
    name: String,
}

/// A certificate and its key, in PEM form.
#[derive(Debug, Clone)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Both are in there.
    _kept: Arc<TempDir>,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    Now,
    /// It ended with the year 2020.
    Past,
}

impl Authority {
    /// A new authority, of a name of its own.
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        Self::named(&format!("authority-{}", COUNT.fetch_add(1, SeqCst)))
    }

    /// A new authority of this name, which others may have too.
    pub fn named(name: &str) -> Self {
        let directory = Arc::new(TempDir::with_prefix("authority-").expect("a temporary directory can be made"));
        let authority = Self { directory, name: name.to_owned() };
        fs::write(authority.path("index.txt"), "").expect("written");
        fs::write(authority.path("serial"), "01\n").expect("written");
        fs::write(authority.path("ca.cnf"), CONFIG).expect("written");
        authority.openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN={name} -keyout ca.key -out ca.pem \
             -addext keyUsage=keyCertSign,cRLSign"
        ));
        authority
    }

    /// What its certificate says.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A server's or client's certificate for a name (`IP:127.0.0.1`, `DNS:registry.test`).
    pub fn issue(&self, name: &str, validity: Validity) -> Pair {
        let file = format!("{}-{validity:?}", name.replace([':', '.'], "-"));
        let (start, end) = match validity {
            Validity::Now => ("20200101000000Z", "20491231000000Z"),
            Validity::Past => ("20200101000000Z", "20201231000000Z"),
        };
        fs::write(self.path("names.cnf"), format!("subjectAltName={name}\nbasicConstraints=CA:FALSE\n"))
            .expect("written");
        self.openssl(&format!("req -newkey rsa:2048 -nodes -subj /CN={file} -keyout {file}.key -out {file}.csr"));
        self.openssl(&format!(
            "ca -batch -notext -config ca.cnf -startdate {start} -enddate {end} -extfile names.cnf -in {file}.csr -out {file}.pem"
        ));
        self.pair(&file)
    }

    /// A certificate that vouches for itself and is marked as an authority's, as registries' manuals have it made.
    pub fn self_signed(&self, name: &str) -> Pair {
        self.openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=self -addext subjectAltName={name} -keyout self.key -out self.pem"
        ));
        self.pair("self")
    }

    fn pair(&self, file: &str) -> Pair {
        let (certificate, key) = (self.path(&format!("{file}.pem")), self.path(&format!("{file}.key")));
        Pair { certificate, key, _kept: Arc::clone(&self.directory) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace()).current_dir(self.directory.path()).stdin(Stdio::null());
        let output =
            command.output().unwrap_or_else(|e| panic!("openssl cannot be run ({e}): apt-get install openssl"));
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Pair {
    /// Copies it to `DIRECTORY/client.cert` and `client.key`, where clients look for it.
    pub fn put_into(&self, directory: &Path) {
        fs::copy(&self.certificate, directory.join("client.cert")).expect("a certificate is copied");
        fs::copy(&self.key, directory.join("client.key")).expect("a key is copied");
    }
}

const CONFIG: &str =
    "[ca]\ndefault_ca=own\n[own]\ndir=.\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\ncertificate=ca.pem
private_key=ca.key\ndefault_md=sha256\npolicy=any\nunique_subject=no\n[any]\ncommonName=supplied\n";
