//! Nothing that lets one in is in anything that is written: not in what is said, at any loudness, nor in a file.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use support::{Desk, FaultProxy, ForwardProxy, RealRegistry, Rule, Run, TokenServer, busybox, desk};

const PROXY_PASSWORD: &str = "planted-proxy-password";
/// `user:planted-proxy-password`
const PROXY_LOGIN: &str = "Basic dXNlcjpwbGFudGVkLXByb3h5LXBhc3N3b3Jk";

/// Two registries that want tokens, with storage elsewhere, behind a proxy that wants a login.
struct Network {
    desk: Desk,
    proxy: ForwardProxy,
    /// In front of the token service.
    tokens: FaultProxy,
    /// In front of the registry that is read.
    front: FaultProxy,
    /// Where that one sends us for blobs.
    storage: FaultProxy,
    _all: (TokenServer, [RealRegistry; 3]),
}

impl Network {
    fn new() -> Self {
        let service = TokenServer::start();
        let tokens = FaultProxy::start(service.host());
        let auth = service.auth_at("tokens.test");
        let (source, destination) = (RealRegistry::locked(&auth, true), RealRegistry::locked(&auth, false));
        let unlocked = source.unlocked();
        let (front, storage) = (FaultProxy::start(source.host()), FaultProxy::start(unlocked.host()));
        for blob in fs::read_dir(support::corpus().join("blobs/sha256")).expect("blobs") {
            let path = format!("/blobs/sha256:{}", blob.expect("a blob").file_name().to_string_lossy());
            let location = format!("http://storage.test/v2/library/busybox{path}?X-Amz-Signature=planted-signature");
            front.inject(Rule::on("GET", &path).answer(307, &[("location", &location)], ""));
        }
        let names = [
            ("from.test", front.host()),
            ("to.test", destination.host()),
            ("tokens.test", tokens.host()),
            ("storage.test", storage.host()),
        ];
        let proxy = ForwardProxy::start_with_login(&names, PROXY_LOGIN);
        Network { desk: desk!(), proxy, tokens, front, storage, _all: (service, [source, destination, unlocked]) }
    }

    /// Runs the program in every voice that it has, each time with these bytes on stdin, and looks for secrets.
    fn run(&self, arguments: &[&str], input: &str, code: i32) -> Run {
        let proxy = format!("http://user:{PROXY_PASSWORD}@{}", self.proxy.host());
        let variables = [("HTTP_PROXY", proxy.as_str()), ("RUST_LOG", "trace"), ("RUST_BACKTRACE", "1")];
        let fixed = ["--tls-verify=false", "--retry-delay", "0.01", "--retry-times", "1"];
        let mut last = None;
        for voice in [&["--progress", "json", "-v"][..], &["--progress", "plain", "-vv"]] {
            let _ = fs::remove_dir_all(self.desk.path().join("bundle"));
            let run = self.desk.sealift_with(&[arguments, &fixed, voice].concat(), &variables, input);
            run.code(code);
            self.search(&run);
            last = Some(run);
        }
        last.expect("it was run")
    }

    fn export(&self, options: &[&str], input: &str, code: i32) -> Run {
        let image = busybox("from.test");
        let fixed = ["export", &image, "--output", "bundle", "--key", "key", "--json"];
        self.run(&[&fixed, options].concat(), input, code)
    }

    /// No secret is in what was said, nor in any file on the desk but those that it was read from.
    #[track_caller]
    fn search(&self, run: &Run) {
        let all = run.stdout() + &run.stderr();
        // Every JSON web token begins like this; the registry keeps the state of an upload in a query.
        for secret in secrets().iter().map(String::as_str).chain(["eyJ", "_state=", "Signature="]) {
            assert!(!all.contains(secret), "{secret} was said:\n{all}");
        }
        search_files(self.desk.path());
    }
}

fn secrets() -> Vec<String> {
    let logins = [(TokenServer::USER, TokenServer::PASSWORD), ("carol", "planted-wrong"), ("user", PROXY_PASSWORD)];
    let encoded = logins.iter().map(|(user, password)| STANDARD.encode(format!("{user}:{password}")));
    encoded.chain(["planted".to_owned(), STANDARD.encode("planted")[..8].to_owned()]).collect()
}

fn search_files(directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            search_files(&path);
        } else if !path.ends_with("auth.json") && !path.ends_with("sync.yaml") {
            let bytes = fs::read(&path).expect("a file");
            for secret in secrets() {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{secret} is in {}", path.display());
            }
        }
    }
}

#[test]
fn nothing_secret_is_written_anywhere_when_all_goes_well() {
    let network = Network::new();
    let password = format!("{}\n", TokenServer::PASSWORD);
    let stdin = ["--username", TokenServer::USER, "--password-stdin"];
    network.export(&stdin, &password, 0);
    let import = ["import", "bundle", "to.test", "--trust", "allowed_signers", "--json"];
    // The second voice deletes the bundle before it runs, so it is kept elsewhere.
    network.desk.shell("", "mv bundle kept");
    let import = import.map(|word| if word == "bundle" { "kept" } else { word });
    network.run(&[&import[..], &stdin].concat(), &password, 0);
    let login = ["login", "--username", TokenServer::USER, "--password-stdin", "--authfile", "auth.json", "from.test"];
    network.run(&login, &password, 0);
    network.export(&["--authfile", "auth.json"], "", 0);
    let identity = json!({"auths": {"from.test": {
        "auth": STANDARD.encode("<token>:"), "identitytoken": TokenServer::IDENTITY,
    }}});
    fs::write(network.desk.path().join("auth.json"), identity.to_string()).expect("written");
    network.export(&["--authfile", "auth.json"], "", 0);
    let yaml = format!(
        "from.test:\n  images: {{library/busybox: ['1.35']}}\n  credentials:\n    username: {}\n    password: {}\n",
        TokenServer::USER,
        TokenServer::PASSWORD
    );
    fs::write(network.desk.path().join("sync.yaml"), yaml).expect("written");
    network.run(&["export", "--from", "sync.yaml", "--output", "bundle", "--key", "key"], "", 0);
    // They were used: otherwise nothing was looked for.
    assert!(network.storage.requests().iter().any(|r| r.path.contains("X-Amz-Signature=planted-signature")));
    assert!(network.tokens.requests().iter().any(|r| r.method == "POST"));
    assert!(network.storage.requests().iter().all(|r| r.headers.iter().all(|(name, _)| name != "authorization")));
}

#[test]
fn nothing_secret_is_written_anywhere_when_something_fails() {
    let network = Network::new();
    let creds = format!("{}:{}", TokenServer::USER, TokenServer::PASSWORD);
    network.export(&["--creds", "carol:planted-wrong"], "", 1).stderr_contains("user carol was refused by from.test");
    network.export(&["--registry-token", "planted-registry-token"], "", 1).stderr_contains("get a new one");
    // Servers that repeat what they were asked.
    let echo = r#"{"errors":[{"code":"DENIED","message":"no: /x?X-Amz-Signature=planted-signature with Bearer eyJplanted.1"}]}"#;
    for status in [403, 500] {
        network.storage.inject(Rule::on("GET", "").answer(status, &[], echo));
        network.export(&["--creds", &creds], "", 1).stderr_contains("storage.test (where from.test sends us)");
    }
    network.storage.heal();
    for (body, said) in [
        (r#"{"token":"eyJplanted"#, "does not answer in JSON"),
        (r#"{"token":"eyJplanted\nX-Header: planted"}"#, "cannot be sent"),
        (r#"{"token":["eyJplanted"]}"#, "gives no token"),
    ] {
        network.tokens.heal();
        network.tokens.inject(Rule::on("GET", "/token").answer(200, &[], body));
        network.export(&["--creds", &creds], "", 1).stderr_contains(said);
    }
    network.tokens.heal();
    network.tokens.inject(Rule::on("GET", "/token").answer(503, &[], "bob:planted-password? Basic Ym9iOnBsYW50ZWQ="));
    // Only what a server says of its own accord cannot be known; the header that it was sent can.
    let failed = network.desk.sealift_in(
        &[("HTTP_PROXY", &format!("http://user:{PROXY_PASSWORD}@{}", network.proxy.host()))],
        &["export", &busybox("from.test"), "--dry-run", "--tls-verify=false", "--retry-times", "0", "--creds", &creds],
    );
    assert!(!failed.code(1).stderr().contains("Ym9iOnBsYW50ZWQ="), "{}", failed.stderr());
    assert!(network.front.count("GET", "/v2/") > 0);
}
