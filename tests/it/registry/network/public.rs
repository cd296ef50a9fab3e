//! Registries at public addresses: a network namespace has one of the addresses for documentation (RFC 5737), names for
//! it and for this machine, and nothing else.

use std::fs;
use std::process::{Command, Stdio};

use support::{Desk, FaultProxy, RealRegistry, Recorded, Rule, Run, busybox, desk};

/// Where the registry is.
const PUBLIC: &str = "203.0.113.1";
/// A name for 127.0.0.1.
const STORAGE: &str = "storage.test";
/// Set where a test runs in such a network.
const INSIDE: &str = "SEALIFT_TEST_PUBLIC_NETWORK";
/// `$1` is a file for /etc/hosts; the rest is run.
const SET_UP: &str = "ip link set lo up && ip address add 203.0.113.1 dev lo && mount --bind \"$1\" /etc/hosts && \
                      shift && exec \"$@\"";

/// Whether this is the process that runs `test`; if not, that process has run.
fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let names = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(names.path(), format!("127.0.0.1 localhost {STORAGE}\n{PUBLIC} registry.test\n")).expect("written");
    let inside = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["-Urnm", "sh", "-c", SET_UP, "sh"]).arg(names.path()).arg(program).env(INSIDE, "1");
        command
    };
    if !inside("true").stdin(Stdio::null()).status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no network namespace can be made (unshare -Urnm, ip of iproute2)");
        return false;
    }
    let program = std::env::current_exe().expect("this test has a path");
    let run = inside(program.to_str().expect("UTF-8")).args(["--exact", test, "--nocapture"]).status();
    assert!(run.expect("unshare runs").success(), "{test} failed in the network namespace");
    false
}

/// A registry at a public address, and a server on this machine that must not hear of it.
struct Scene {
    desk: Desk,
    front: FaultProxy,
    hidden: FaultProxy,
    registry: RealRegistry,
}

impl Scene {
    fn new() -> Self {
        let registry = RealRegistry::with_corpus();
        let front = FaultProxy::start_at(PUBLIC, registry.host());
        Scene { desk: desk!(), front, hidden: FaultProxy::start(registry.host()), registry }
    }

    fn port(&self) -> &str {
        self.hidden.host().split_once(':').expect("a port").1
    }

    /// Where a hidden server is reached by its name, or by its address.
    fn place(&self, host: &str) -> String {
        format!("http://{host}:{}/x", self.port())
    }

    fn export(&self, options: &[&str]) -> Run {
        self.desk.shell("", "rm -rf bundle .bundle.*");
        let image = busybox(self.front.host());
        self.desk.export(&[&["--tls-verify=false", "--retry-times", "0"], options, &[image.as_str()]].concat())
    }

    /// What [`Scene::seal`] sealed, below a prefix.
    fn import(&self, prefix: &str, options: &[&str]) -> Run {
        let fixed = ["--tls-verify=false", "--retry-times", "0", "--jobs", "1"];
        self.desk.import("sealed", &format!("{}/{prefix}", self.front.host()), &[&fixed, options].concat())
    }

    fn seal(&self) {
        self.export(&[]).success();
        self.desk.shell("", "mv bundle sealed");
    }

    /// Refused before anything was sent, with the option that allows it.
    fn is_refused(&self, run: &Run, host: &str, option: &str) {
        let place = format!("{}:{}", host, self.port());
        run.code(1).stderr_contains(&format!("{} sends requests to {place}", self.front.host()));
        run.stderr_contains("a private address").stderr_contains(&format!("{option} {host}"));
        assert!(self.hidden.requests().is_empty(), "{:?}", self.hidden.requests());
    }
}

#[test]
fn a_public_registry_cannot_make_an_export_ask_private_servers() {
    if !is_inside("public::a_public_registry_cannot_make_an_export_ask_private_servers") {
        return;
    }
    let scene = Scene::new();
    scene.export(&[]).success();
    for host in [STORAGE, "127.0.0.1", "localhost"] {
        scene.front.heal();
        scene.front.inject(Rule::on("GET", "/blobs/").answer(307, &[("location", &scene.place(host))], ""));
        scene.is_refused(&scene.export(&[]), host, "--allow-redirect");
        scene.is_refused(&scene.export(&["--allow-redirect", "other.test"]), host, "--allow-redirect");
        // What is asked there is not there: all that counts is that it was asked.
        scene.export(&["--allow-redirect", host]).code(1).stderr_contains("404");
        assert!(scene.hidden.count("GET", "/x") > 0);
        scene.hidden.reset_count();
    }
    // A server that only a cloud's machines reach; nothing listens there.
    scene.front.heal();
    scene.front.inject(Rule::on("GET", "/manifests/").answer(
        302,
        &[("location", "http://169.254.169.254/latest/")],
        "",
    ));
    let refused = scene.export(&[]);
    refused
        .code(1)
        .stderr_contains("169.254.169.254, a private address")
        .stderr_contains("--allow-redirect 169.254.169.254");

    // In the middle of a chain, and by a registry that is known by a name.
    let other = FaultProxy::start_at(PUBLIC, scene.registry.host());
    other.inject(Rule::on("GET", "/y").answer(307, &[("location", &scene.place(STORAGE))], ""));
    scene.front.heal();
    let location = format!("{}/y", other.url());
    scene.front.inject(Rule::on("GET", "/blobs/").answer(307, &[("location", &location)], ""));
    scene.is_refused(&scene.export(&[]), STORAGE, "--allow-redirect");
    assert!(other.count("GET", "/y") > 0);
    let named = scene.front.host().replace(PUBLIC, "registry.test");
    let image = busybox(&named);
    let refused = scene.desk.export(&["--tls-verify=false", "--retry-times", "0", &image]);
    refused.code(1).stderr_contains(&format!("{named} sends requests to {STORAGE}"));
    // A server of this network that is public itself, behind a registry that is not.
    let local = FaultProxy::start(scene.registry.host());
    local.inject(Rule::on("GET", "/blobs/").answer(307, &[("location", &location)], ""));
    let image = busybox(local.host());
    let refused = scene.desk.export(&["--tls-verify=false", "--retry-times", "0", &image]);
    refused.code(1).stderr_contains(&format!("{} sends requests to {STORAGE}", local.host()));

    // Each side of a sync has its own option.
    let image = busybox(scene.front.host());
    let sync = ["sync", "-s", "docker", "-d", "dir", "--src-tls-verify=false", "--retry-times", "0", &image, "tree"];
    let refused = scene.desk.sealift(&sync);
    scene.is_refused(&refused, STORAGE, "--src-allow-redirect");
    scene.desk.sealift(&[&sync[..], &["--src-allow-redirect", STORAGE]].concat()).code(1).stderr_contains("404");
    assert!(scene.hidden.count("GET", "/x") > 0);
}

#[test]
fn a_public_registry_cannot_make_an_import_write_to_private_servers() {
    if !is_inside("public::a_public_registry_cannot_make_an_import_write_to_private_servers") {
        return;
    }
    let scene = Scene::new();
    scene.seal();
    for (method, status) in [("POST", 202), ("PUT", 307), ("PATCH", 307)] {
        scene.front.heal();
        let place = scene.place(STORAGE);
        scene.front.inject(Rule::on(method, "/uploads/").answer(status, &[("location", &place)], ""));
        if method == "PATCH" {
            scene.front.inject(Rule::on("PUT", "/uploads/").status(413));
        }
        let (refused, allowed) =
            (format!("refused-{method}").to_lowercase(), format!("allowed-{method}").to_lowercase());
        // Neither the layer nor the DELETE that cancels its session goes there.
        scene.is_refused(&scene.import(&refused, &[]), STORAGE, "--allow-redirect");
        scene.import(&allowed, &["--allow-redirect", STORAGE]);
        let writes = |request: &&Recorded| request.method != "GET" && request.path.starts_with("/x");
        assert!(scene.hidden.requests().iter().any(|request| writes(&request)), "{method}");
        scene.hidden.reset_count();
    }
    // A session that goes on elsewhere when it is cancelled.
    scene.front.heal();
    scene.front.inject(Rule::on("PUT", "/uploads/").status(403));
    scene.front.inject(Rule::on("DELETE", "/uploads/").status(404));
    scene.front.inject(Rule::on("GET", "/uploads/").answer(204, &[("location", &scene.place(STORAGE))], ""));
    scene.import("cancelled", &[]).code(1).stderr_contains("403");
    assert!(scene.front.count("GET", "/uploads/") > 0 && scene.hidden.requests().is_empty());
}

#[test]
fn a_public_registry_cannot_have_logins_sent_to_private_servers() {
    if !is_inside("public::a_public_registry_cannot_have_logins_sent_to_private_servers") {
        return;
    }
    let scene = Scene::new();
    scene.seal();
    for host in [STORAGE, "127.0.0.1"] {
        let challenge = format!("Bearer realm=\"{}\",service=\"x\"", scene.place(host));
        scene.front.heal();
        scene.front.inject(Rule::on("GET", "/v2/").answer(401, &[("www-authenticate", &challenge)], ""));
        let creds = ["--creds", "bob:planted-password"];
        scene.is_refused(&scene.export(&creds), host, "--allow-redirect");
        scene.is_refused(&scene.import("new", &creds), host, "--allow-redirect");
        let login = ["login", "--username", "bob", "--password-stdin", "--authfile", "logins", "--tls-verify=false"];
        let login = [&login[..], &[scene.front.host()]].concat();
        scene.is_refused(&scene.desk.sealift_with(&login, &[], "planted-password\n"), host, "--allow-redirect");
        scene.export(&[&creds[..], &["--allow-redirect", host]].concat()).code(1);
        assert!(scene.hidden.count("GET", "/x") > 0);
        scene.hidden.reset_count();
    }
}
