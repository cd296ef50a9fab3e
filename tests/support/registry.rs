//! A real registry for a test: Debian's `docker-registry` (distribution 2.8) with its own storage, and skopeo beside it.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::corpus::{copy_tree, pushed_storage};
use crate::tls::Pair;

/// A running registry on a loopback port that the kernel picked; gone, with its storage, when dropped.
#[derive(Debug)]
pub struct RealRegistry {
    child: Child,
    directory: TempDir,
    host: String,
    /// What its configuration names.
    beside: Option<TempDir>,
}

/// One line of a registry's access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    pub method: String,
    /// With its query.
    pub path: String,
    pub status: u16,
}

impl RealRegistry {
    /// Starts an empty registry and waits until it listens.
    pub fn start() -> Self {
        Self::start_in(new_directory(), "")
    }

    /// The same with the small corpus in it, and an empty access log: quicker than to push it.
    pub fn with_corpus() -> Self {
        Self::over(&pushed_storage())
    }

    /// A registry over a copy of what another one keeps.
    pub fn over(storage: &Path) -> Self {
        let directory = new_directory();
        copy_tree(storage, &directory.path().join(STORAGE));
        Self::start_in(directory, "")
    }

    /// An empty registry that speaks TLS with this certificate, and only with clients that show one of the authority
    /// `clients`, if there is one. Helpers that speak plain HTTP cannot read it: use [`RealRegistry::over`] its storage.
    pub fn start_tls(pair: &Pair, clients: Option<&Path>) -> Self {
        Self::start_in(new_directory(), &tls_config(pair, clients))
    }

    /// The same with the small corpus in it.
    pub fn with_corpus_and_tls(pair: &Pair, clients: Option<&Path>) -> Self {
        let directory = new_directory();
        copy_tree(&pushed_storage(), &directory.path().join(STORAGE));
        Self::start_in(directory, &tls_config(pair, clients))
    }

    /// The same with `auth` (such as `htpasswd: {...}`) in its configuration.
    pub fn locked(auth: &str, with_corpus: bool) -> Self {
        let directory = TempDir::with_prefix("registry-").expect("a temporary directory can be made");
        if with_corpus {
            copy_tree(&pushed_storage(), &directory.path().join(STORAGE));
        }
        let storage = directory.path().join(STORAGE);
        Self::start_over(directory, &storage, "", &format!("auth: {{{auth}}}\n"))
    }

    /// The same with the one user that [`HTPASSWD_USER`] and [`HTPASSWD_PASSWORD`] name.
    pub fn with_htpasswd(with_corpus: bool) -> Self {
        let file = TempDir::with_prefix("htpasswd-").expect("a temporary directory can be made");
        let path = file.path().join("htpasswd");
        fs::write(&path, HTPASSWD).expect("the password file is written");
        let auth = format!("htpasswd: {{realm: \"a, \\\"realm\\\"\", path: \"{}\"}}", path.display());
        let mut registry = Self::locked(&auth, with_corpus);
        registry.beside = Some(file);
        registry
    }

    /// Another registry over the same storage that asks for no login: what tests look into.
    pub fn unlocked(&self) -> Self {
        let directory = TempDir::with_prefix("registry-").expect("a temporary directory can be made");
        Self::start_over(directory, &self.storage(), "", "")
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.host)
    }

    /// Where it keeps its content (`docker/registry/v2/...`), for tests that damage it.
    pub fn storage(&self) -> std::path::PathBuf {
        self.directory.path().join(STORAGE)
    }

    /// Every request so far, in the order in which they were answered.
    pub fn access_log(&self) -> Vec<Access> {
        let log = fs::read_to_string(self.directory.path().join(ACCESS_LOG)).expect("the access log can be read");
        log.lines().filter_map(parse_access).collect()
    }

    /// The requests so far that change a registry: anything but GET and HEAD.
    pub fn writes(&self) -> Vec<Access> {
        self.access_log().into_iter().filter(|a| a.method != "GET" && a.method != "HEAD").collect()
    }

    /// `http` is put behind the settings of that section.
    fn start_in(directory: TempDir, http: &str) -> Self {
        let storage = directory.path().join(STORAGE);
        Self::start_over(directory, &storage, http, "")
    }

    /// `more` is put at the end.
    fn start_over(directory: TempDir, storage: &Path, http: &str, more: &str) -> Self {
        let config = directory.path().join("config.yml");
        let text = CONFIG.replace("STORAGE", storage.to_str().expect("a UTF-8 path")).replace("HTTP", http) + more;
        fs::write(&config, text).expect("config is written");
        let file = |name: &str| File::create(directory.path().join(name)).expect("a log file can be made");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(file(ACCESS_LOG))
            .stderr(file(LOG))
            .spawn()
            .unwrap_or_else(|e| panic!("docker-registry cannot be run ({e}): apt-get install docker-registry"));
        let mut registry = Self { child, directory, host: String::new(), beside: None };
        registry.host = registry.wait_until_it_listens();
        registry
    }

    fn wait_until_it_listens(&mut self) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let log = fs::read_to_string(self.directory.path().join(LOG)).expect("the log can be read");
            if let Some((_, rest)) = log.split_once("listening on ")
                && let Some((host, _)) = rest.split_once(['"', ','])
            {
                return host.to_owned();
            }
            let ended = self.child.try_wait().expect("a child can be asked");
            assert!(ended.is_none() && Instant::now() < deadline, "docker-registry did not start ({ended:?}):\n{log}");
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs skopeo with these arguments; panics with what it said when it fails. Its policy accepts everything.
pub fn skopeo<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Output {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy"]).args(arguments).stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|e| panic!("skopeo cannot be run ({e}): apt-get install skopeo"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

pub(crate) fn run(program: &Path, arguments: &[&std::ffi::OsStr]) {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{} cannot be run: {e}", program.display()));
    assert!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
}

fn new_directory() -> TempDir {
    TempDir::with_prefix("registry-").expect("a temporary directory can be made")
}

fn tls_config(pair: &Pair, clients: Option<&Path>) -> String {
    let clients = clients.map(|path| format!(", clientcas: [\"{}\"]", path.display())).unwrap_or_default();
    format!(", tls: {{certificate: \"{}\", key: \"{}\"{clients}}}", pair.certificate.display(), pair.key.display())
}

/// `127.0.0.1 - - [date] "GET /v2/ HTTP/1.1" 200 2 "" "agent"`
fn parse_access(line: &str) -> Option<Access> {
    let mut quoted = line.split('"');
    let mut request = quoted.nth(1)?.split(' ');
    let status = quoted.next()?.trim().split(' ').next()?.parse().ok()?;
    Some(Access { method: request.next()?.to_owned(), path: request.next()?.to_owned(), status })
}

const CONFIG: &str = "version: 0.1
log: {level: info, accesslog: {disabled: false}}
storage: {filesystem: {rootdirectory: \"STORAGE\"}, delete: {enabled: true}}
http: {addr: \"127.0.0.1:0\", secret: only-for-testsHTTP}
";
/// Who may use a registry [with a password file](RealRegistry::with_htpasswd).
pub const HTPASSWD_USER: &str = "alice";
/// And with which password.
pub const HTPASSWD_PASSWORD: &str = "planted-Pa55:w\u{f6}rd";
const HTPASSWD: &str = "alice:$2y$05$abcdefghijklmnopqrstuut4Tj7WnkV76w2O3UHFydN6rHE3dDHJm\n";
const ACCESS_LOG: &str = "access.log";
const STORAGE: &str = "storage";
const LOG: &str = "registry.log";
