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
        let authority = Self::without_certificate(name);
        authority.openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN={name} -keyout ca.key -out ca.pem \
             -addext keyUsage=keyCertSign,cRLSign"
        ));
        authority
    }

    /// A new authority whose own certificate is of X.509 version 1, as old scripts make them.
    pub fn of_version_1() -> Self {
        let authority = Self::requested("version-1");
        authority.openssl("x509 -req -in ca.csr -signkey ca.key -days 30 -out ca.pem");
        authority.assert_version_1(&authority.certificate());
        authority
    }

    /// A new authority whose own certificate ended with the year 2020.
    pub fn outdated() -> Self {
        let authority = Self::requested("outdated");
        fs::write(authority.path("ca-extensions.cnf"), "basicConstraints=critical,CA:TRUE\n").expect("written");
        authority.openssl(
            "ca -batch -notext -config ca.cnf -selfsign -keyfile ca.key -startdate 20200101000000Z \
             -enddate 20201231000000Z -extfile ca-extensions.cnf -in ca.csr -out ca.pem",
        );
        authority
    }

    /// An authority that has its certificate, of X.509 version 1, from this one.
    pub fn intermediate_of_version_1(&self) -> Self {
        let below = Self::requested("intermediate");
        let request = below.path("ca.csr");
        fs::copy(self.issue_version_1_for(&request), below.certificate()).expect("copied");
        below
    }

    /// A client's certificate of X.509 version 1, which names nothing but its subject.
    pub fn issue_version_1(&self) -> Pair {
        self.openssl("req -newkey rsa:2048 -nodes -subj /CN=client -keyout version-1.key -out version-1.csr");
        self.issue_version_1_for(&self.path("version-1.csr"));
        self.pair("version-1")
    }

    fn issue_version_1_for(&self, request: &Path) -> PathBuf {
        self.openssl(&format!(
            "x509 -req -in {} -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -out version-1.pem",
            request.display()
        ));
        self.assert_version_1(&self.path("version-1.pem"));
        self.path("version-1.pem")
    }

    /// A new authority with a key and a request for its certificate.
    fn requested(name: &str) -> Self {
        let authority = Self::without_certificate(name);
        authority.openssl(&format!("req -newkey rsa:2048 -nodes -subj /CN={name} -keyout ca.key -out ca.csr"));
        authority
    }

    fn without_certificate(name: &str) -> Self {
        let directory = Arc::new(TempDir::with_prefix("authority-").expect("a temporary directory can be made"));
        let authority = Self { directory, name: name.to_owned() };
        fs::write(authority.path("index.txt"), "").expect("written");
        fs::write(authority.path("serial"), "01\n").expect("written");
        fs::write(authority.path("ca.cnf"), CONFIG).expect("written");
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

    /// The same as text in PEM form.
    pub fn pem(&self) -> String {
        fs::read_to_string(self.certificate()).expect("a certificate")
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

    /// The authority's own certificate and key, for a server.
    pub fn own(&self) -> Pair {
        fs::copy(self.certificate(), self.path("own.pem")).expect("copied");
        fs::copy(self.path("ca.key"), self.path("own.key")).expect("copied");
        self.pair("own")
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

    /// Other versions of openssl could make another version.
    fn assert_version_1(&self, certificate: &Path) {
        let text = self.openssl(&format!("x509 -noout -text -in {}", certificate.display()));
        assert!(text.contains("Version: 1 (0x0)"), "{text}");
    }

    fn openssl(&self, arguments: &str) -> String {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace()).current_dir(self.directory.path()).stdin(Stdio::null());
        let output =
            command.output().unwrap_or_else(|e| panic!("openssl cannot be run ({e}): apt-get install openssl"));
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Pair {
    /// Has a server send these certificates of authorities behind its own.
    pub fn with_chain(self, authorities: &[&Authority]) -> Self {
        let mut chain = fs::read(&self.certificate).expect("a certificate");
        for authority in authorities {
            chain.extend(fs::read(authority.certificate()).expect("a certificate"));
        }
        fs::write(&self.certificate, chain).expect("written");
        self
    }

    /// Copies it to `DIRECTORY/client.cert` and `client.key`, where clients look for it.
    pub fn put_into(&self, directory: &Path) {
        fs::copy(&self.certificate, directory.join("client.cert")).expect("a certificate is copied");
        fs::copy(&self.key, directory.join("client.key")).expect("a key is copied");
    }
}

const CONFIG: &str =
    "[ca]\ndefault_ca=own\n[own]\ndir=.\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\ncertificate=ca.pem
private_key=ca.key\ndefault_md=sha256\npolicy=any\nunique_subject=no\n[any]\ncommonName=supplied\n";
