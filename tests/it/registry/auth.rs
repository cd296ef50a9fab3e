//! Logins: on real registries with a password file and with a token service. What is secret is planted, and looked for
//! in everything that is said and in every request that goes elsewhere.

mod files;
mod messages;
mod mistyped;
mod namespaces;
mod realms;
mod refused;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;
use serde_json::{Value, json};
use support::{
    Desk, FaultProxy, HTPASSWD_PASSWORD, HTPASSWD_USER, RealRegistry, Recorded, Rule, Run, TokenServer, desk,
    references, walk,
};

/// How a login is given to the program.
#[derive(Debug, Clone, Copy)]
enum Given {
    Creds,
    Stdin,
    AuthFile,
    Home,
}

#[rstest]
#[case::password_file_creds(false, Given::Creds)]
#[case::password_file_stdin(false, Given::Stdin)]
#[case::password_file_authfile(false, Given::AuthFile)]
#[case::tokens_creds(true, Given::Creds)]
#[case::tokens_home(true, Given::Home)]
fn export_and_import_pass_with_a_login(#[case] tokens: bool, #[case] given: Given) {
    let service = TokenServer::start();
    let (source, destination) = match tokens {
        true => (RealRegistry::locked(&service.auth(), true), RealRegistry::locked(&service.auth(), false)),
        false => (RealRegistry::with_htpasswd(true), RealRegistry::with_htpasswd(false)),
    };
    let (user, password) = login(tokens);
    let desk = desk!();
    let (images, untagged) = everything();
    let images: Vec<String> = images.iter().map(|name| format!("{}/{name}", source.host())).collect();
    let arguments: Vec<&str> = images.iter().map(String::as_str).collect();
    let export = ["export", "--output", "bundle", "--key", "key", "-vv"];
    let import = ["import", "bundle", destination.host(), "--trust", "allowed_signers", "-vv"];
    run_as(&desk, &[&export[..], &arguments].concat(), source.host(), user, password, given).success().hides_secrets();
    run_as(&desk, &import, destination.host(), user, password, given).success().hides_secrets();
    let untagged: Vec<(&str, &str)> = untagged.iter().map(|(r, d)| (r.as_str(), d.as_str())).collect();
    assert_eq!(walk(source.unlocked().host(), &untagged), walk(destination.unlocked().host(), &untagged));
    let no_layer_refused = |access: &&support::Access| access.method == "PUT" && access.status == 401;
    assert!(!destination.access_log().iter().any(|access| no_layer_refused(&access)));
}

#[rstest]
#[case::password_file(false)]
#[case::tokens(true)]
fn a_wrong_password_is_one_sentence_and_never_nobody(#[case] tokens: bool) {
    let service = TokenServer::start().anonymous();
    let source = match tokens {
        true => RealRegistry::locked(&service.auth(), true),
        false => RealRegistry::with_htpasswd(true),
    };
    let proxy = FaultProxy::start(source.host());
    let desk = desk!();
    let image = busybox(proxy.host());
    let run = desk.export(&["-vv", "--creds", "carol:planted-wrong", &image]);
    run.code(1).hides_secrets();
    run.stderr_contains(&format!("user carol was refused by {}", proxy.host()));
    run.stderr_contains(&format!("sealift login {}", proxy.host()));
    assert_eq!(run.stderr().lines().filter(|line| line.starts_with("error: ")).count(), 1);
    // One try: more of them lock accounts.
    assert_eq!(count_with_login(&proxy.requests()), usize::from(!tokens));
    assert_eq!(service.requests().len(), usize::from(tokens));
}

#[rstest]
#[case::password_file(false)]
#[case::tokens(true)]
fn without_a_login_the_answer_says_how_to_log_in(#[case] tokens: bool) {
    let service = TokenServer::start();
    let source = match tokens {
        true => RealRegistry::locked(&service.auth(), true),
        false => RealRegistry::with_htpasswd(true),
    };
    let desk = desk!();
    for arguments in [vec![busybox(source.host())], vec!["--no-creds".to_owned(), busybox(source.host())]] {
        desk.export(&arguments).code(1).stderr_contains("wants a login").stderr_contains("sealift login");
    }
}

#[test]
fn nobody_gets_an_anonymous_token_to_pull_and_none_to_push() {
    let service = TokenServer::start().anonymous();
    let registry = RealRegistry::locked(&service.auth(), true);
    let desk = desk!();
    desk.export(&[busybox(registry.host())]).success();
    let refused = desk.import("bundle", &format!("{}/copy", registry.host()), &[]);
    refused.code(1).stderr_contains("wants a login");
    assert!(registry.writes().iter().all(|access| access.status == 401));
}

#[rstest]
#[case::as_announced(1)]
#[case::without_a_word(60)]
fn tokens_that_expire_in_the_middle_are_renewed(#[case] said: i64) {
    let service = TokenServer::start().valid_for(1, said);
    let source = RealRegistry::locked(&service.auth(), true);
    let destination = RealRegistry::locked(&service.auth(), false);
    let (slow_source, slow) = (FaultProxy::start(source.host()), FaultProxy::start(destination.host()));
    for proxy in [&slow_source, &slow] {
        proxy.inject(Rule::on("*", "/blobs/").delay(Duration::from_millis(400)));
    }
    let desk = desk!();
    let creds = format!("{}:{}", TokenServer::USER, TokenServer::PASSWORD);
    desk.export(&["--creds", &creds, "--jobs", "1", &busybox(slow_source.host())]).success();
    desk.import("bundle", slow.host(), &["--creds", &creds, "--jobs", "1"]).success();
    let scopes: Vec<_> = service.requests().iter().map(|request| format!("{:?}", request.all("scope"))).collect();
    let again = scopes.iter().any(|scope| scopes.iter().filter(|other| *other == scope).count() > 1);
    assert!(again, "no token was renewed: {scopes:?}");
    let refused = slow.requests().iter().any(|request| request.path.contains("/blobs/") && request.status == Some(401));
    assert_eq!(refused, said > 1);
}

#[test]
fn a_token_refused_in_the_middle_is_renewed_once_and_costs_no_layer() {
    let service = TokenServer::start();
    let source = RealRegistry::with_corpus();
    let destination = RealRegistry::locked(&service.auth(), false);
    let proxy = FaultProxy::start(destination.host());
    let desk = desk!();
    desk.export(&[busybox(source.host())]).success();
    let creds = format!("{}:{}", TokenServer::USER, TokenServer::PASSWORD);
    for rule in [Rule::on("HEAD", "/blobs/"), Rule::on("POST", "/uploads/"), Rule::on("PUT", "/manifests/")] {
        proxy.inject(rule.status(401).times(1));
    }
    desk.import("bundle", proxy.host(), &["--creds", &creds]).success();
    assert_eq!(proxy.requests().iter().filter(|r| r.method == "PUT" && r.status == Some(401)).count(), 1);
    let sent: Vec<_> =
        proxy.requests().into_iter().filter(|r| r.method == "PUT" && r.path.contains("/uploads/")).collect();
    assert!(sent.iter().all(|put| put.status == Some(201)), "{sent:?}");

    // Refused again and again it is an error, after one more try.
    proxy.heal();
    proxy.reset_count();
    proxy.inject(Rule::on("PUT", "/manifests/").status(401));
    let refused = desk.import("bundle", &format!("{}/elsewhere", proxy.host()), &["--creds", &creds, "--jobs", "1"]);
    refused.code(1).stderr_contains("user bob was refused by");
    assert_eq!(proxy.count("PUT", "/manifests/"), 2);
}

#[test]
fn an_upload_whose_token_is_refused_begins_again_with_a_new_one() {
    let service = TokenServer::start();
    let source = RealRegistry::with_corpus();
    let destination = RealRegistry::locked(&service.auth(), false);
    let proxy = FaultProxy::start(destination.host());
    let desk = desk!();
    desk.export(&[busybox(source.host())]).success();
    proxy.inject(Rule::on("PUT", "/uploads/").status(401).times(2));
    let creds = format!("{}:{}", TokenServer::USER, TokenServer::PASSWORD);
    desk.import("bundle", proxy.host(), &["--creds", &creds, "--jobs", "1"]).success();
}

#[rstest]
#[case::oauth(true)]
#[case::by_get(false)]
fn an_identity_token_is_exchanged(#[case] oauth: bool) {
    let service = TokenServer::start();
    let service = if oauth { service } else { service.without_oauth() };
    let registry = RealRegistry::locked(&service.auth(), true);
    let desk = desk!();
    let auths = json!({"auths": {registry.host(): {
        "auth": STANDARD.encode("<token>:"), "identitytoken": TokenServer::IDENTITY,
    }}});
    fs::write(desk.path().join("auth.json"), auths.to_string()).unwrap();
    let run = desk.export(&["-vv", "--authfile", "auth.json", &busybox(registry.host())]);
    run.success().hides_secrets();
    let methods: Vec<_> = service.requests().into_iter().filter(|r| r.status == 200).map(|r| r.method).collect();
    assert!(!methods.is_empty() && methods.iter().all(|method| method == if oauth { "POST" } else { "GET" }));
}

#[rstest]
#[case::granted(true)]
#[case::refused(false)]
fn a_mount_asks_for_both_repositories(#[case] granted: bool) {
    let service = TokenServer::start();
    let service = if granted { service } else { service.without_mounts() };
    let source = RealRegistry::with_corpus();
    let destination = RealRegistry::locked(&service.auth(), false);
    let desk = desk!();
    let (images, _) = everything();
    // Two repositories that share every layer.
    let shared: Vec<String> =
        images.iter().filter(|n| n.contains(':')).map(|n| format!("{}/{n}", source.host())).collect();
    desk.export(&shared).success();
    let creds = format!("{}:{}", TokenServer::USER, TokenServer::PASSWORD);
    desk.import("bundle", destination.host(), &["--creds", &creds]).success();
    let requests = service.requests();
    let both = requests.iter().find(|request| request.all("scope").len() == 2).expect("a mount in the corpus");
    let scopes = both.all("scope");
    assert!(scopes.iter().any(|scope| scope.ends_with(":pull,push")), "{scopes:?}");
    assert!(scopes.iter().any(|scope| scope.ends_with(":pull")), "{scopes:?}");
    let mounted = destination.access_log().iter().any(|a| a.path.contains("mount=") && a.status == 201);
    assert_eq!(mounted, granted);
}

#[test]
fn one_token_is_asked_for_however_many_wait_for_it() {
    let service = TokenServer::start().delayed(Duration::from_millis(300));
    let source = RealRegistry::locked(&service.auth(), true);
    let desk = desk!();
    let creds = format!("{}:{}", TokenServer::USER, TokenServer::PASSWORD);
    let (images, _) = everything();
    let images: Vec<String> = images.iter().map(|name| format!("{}/{name}", source.host())).collect();
    let mut arguments = vec!["--creds", creds.as_str(), "--jobs", "6"];
    arguments.extend(images.iter().map(String::as_str));
    desk.export(&arguments).success();
    let mut scopes: Vec<_> = service.requests().iter().map(|request| format!("{:?}", request.all("scope"))).collect();
    let all = scopes.len();
    scopes.sort();
    scopes.dedup();
    assert_eq!(all, scopes.len(), "{scopes:?}");
}

#[rstest]
#[case::password_file(false)]
#[case::tokens(true)]
fn nothing_secret_reaches_the_host_that_a_blob_is_redirected_to(#[case] tokens: bool) {
    let service = TokenServer::start();
    let source = match tokens {
        true => RealRegistry::locked(&service.auth(), true),
        false => RealRegistry::with_htpasswd(true),
    };
    let (front, elsewhere) = (FaultProxy::start(source.host()), source.unlocked());
    let store = FaultProxy::start(elsewhere.host());
    let blobs = fs::read_dir(support::corpus().join("blobs/sha256")).unwrap();
    for blob in blobs {
        let digest = format!("sha256:{}", blob.unwrap().file_name().to_string_lossy());
        let location = format!("{}/v2/library/busybox/blobs/{digest}", store.url());
        let rule = Rule::on("GET", &format!("/blobs/{digest}"));
        front.inject(rule.answer(307, &[("location", &location)], ""));
    }
    let (user, password) = login(tokens);
    let desk = desk!();
    let run = desk.export(&["-vv", "--creds", &format!("{user}:{password}"), &busybox(front.host())]);
    run.success().hides_secrets();
    assert!(store.count("GET", "/blobs/") > 0);
    assert_eq!(count_with_login(&store.requests()), 0);
    assert!(count_with_login(&front.requests()) > 0);
}

#[test]
fn an_option_is_for_one_registry_only() {
    let desk = desk!();
    let run = desk.export(&["--creds", "a:planted-password", "a.example.com/x:1", "b.example.com/x:1"]);
    run.code(2).stderr_contains("a.example.com, b.example.com").hides_secrets();
    desk.export(&["--creds", "planted-password", "a.example.com/x:1"]).code(2).hides_secrets();
    desk.export(&["--creds", "a:planted-password", "--no-creds", "a.example.com/x:1"]).code(2).hides_secrets();
    let run = desk.sealift_with(
        &["export", "--dry-run", "--from", "-", "--username", "a", "--password-stdin"],
        &[],
        "planted-password\n",
    );
    run.code(2).stderr_contains("stdin").hides_secrets();
}

#[test]
fn the_longest_key_is_the_login_of_a_repository() {
    let registry = RealRegistry::with_htpasswd(true);
    let desk = desk!();
    let host = registry.host();
    let right = STANDARD.encode(format!("{HTPASSWD_USER}:{HTPASSWD_PASSWORD}"));
    let wrong = STANDARD.encode("carol:planted-wrong");
    let auths = json!({"auths": {
        host: {"auth": wrong}, format!("{host}/library"): {"auth": right}, format!("{host}/library/busyboxes"): {"auth": wrong},
    }});
    fs::write(desk.path().join("auth.json"), auths.to_string()).unwrap();
    desk.export(&["--authfile", "auth.json", &busybox(host)]).success();
    let other = desk.export(&["--authfile", "auth.json", "--dry-run", &format!("{host}/team/app")]);
    other.code(1).stderr_contains("user carol was refused").hides_secrets();
}

#[rstest]
#[case::works("printf '{\"ServerURL\":\"\",\"Username\":\"alice\",\"Secret\":\"%s\"}' \"$SECRET\"", 0, "")]
#[case::knows_nothing("echo 'credentials not found in native keychain'; exit 1", 1, "wants a login")]
#[case::fails("echo planted-password; exit 1", 1, "docker-credential-test failed")]
#[case::talks("echo planted-password", 1, "did not answer in JSON")]
#[case::floods("head -c 100000 /dev/zero", 1, "more than a login")]
fn a_credential_helper_is_asked(#[case] script: &str, #[case] code: i32, #[case] said: &str) {
    let registry = RealRegistry::with_htpasswd(true);
    let desk = desk!();
    let helper = format!("#!/bin/sh\nread -r host; echo \"$1 $host\" >>asked\n{script}\n");
    let variables = with_helper(&desk, &helper);
    let config = json!({"credHelpers": {registry.host(): "test"}});
    fs::create_dir_all(desk.path().join("docker")).unwrap();
    fs::write(desk.path().join("docker/config.json"), config.to_string()).unwrap();
    let variables = [("PATH", variables.as_str()), ("DOCKER_CONFIG", "docker"), ("SECRET", HTPASSWD_PASSWORD)];
    let image = busybox(registry.host());
    let run = desk.sealift_with(&["export", "--output", "bundle", "--key", "key", "-vv", &image], &variables, "");
    run.code(code).stderr_contains(said).hides_secrets();
    assert_eq!(fs::read_to_string(desk.path().join("asked")).unwrap(), format!("get {}\n", registry.host()));
}

#[test]
fn a_login_is_tried_kept_used_and_forgotten_and_all_else_stays() {
    let registry = RealRegistry::with_htpasswd(true);
    let host = registry.host();
    let desk = desk!();
    let before =
        json!({"auths": {"other.example.com": {"auth": "b3RoZXI6b3RoZXI=", "unknown": 1}}, "HttpHeaders": {"A": "b"}});
    let path = desk.path().join("auth.json");
    fs::write(&path, before.to_string()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let variables = [("REGISTRY_AUTH_FILE", path.to_str().unwrap())];
    let login = ["login", "-vv", "--username", HTPASSWD_USER, "--password-stdin", host];

    let wrong = desk.sealift_with(&login, &variables, "planted-wrong\n");
    wrong.code(1).stderr_contains("user alice was refused").hides_secrets();
    assert_eq!(read_json(&path), before);

    desk.sealift_with(&login, &variables, &format!("{HTPASSWD_PASSWORD}\n")).success().hides_secrets();
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let mut expected = before.clone();
    expected["auths"][host] = json!({"auth": STANDARD.encode(format!("{HTPASSWD_USER}:{HTPASSWD_PASSWORD}"))});
    assert_eq!(read_json(&path), expected);

    let image = busybox(host);
    desk.sealift_with(&["export", "--dry-run", &image], &variables, "").success();
    desk.sealift_with(&["logout", host], &variables, "").success();
    assert_eq!(read_json(&path), before);
    desk.sealift_with(&["logout", host], &variables, "").code(1);
    desk.sealift_with(&["export", "--dry-run", &image], &variables, "").code(1);
}

#[test]
fn a_login_goes_to_the_helper_that_the_file_names() {
    let registry = RealRegistry::with_htpasswd(true);
    let host = registry.host();
    let desk = desk!();
    let old = STANDARD.encode("old:old");
    fs::write(desk.path().join("auth.json"), json!({"credsStore": "test", "auths": {host: {"auth": old}}}).to_string())
        .unwrap();
    let path = with_helper(&desk, "#!/bin/sh\necho \"$1\" >>asked\ncat >\"kept-$1\"\n");
    let arguments = ["login", "--authfile", "auth.json", "--username", HTPASSWD_USER, "--password-stdin", host];
    desk.sealift_with(&arguments, &[("PATH", &path)], HTPASSWD_PASSWORD).success().hides_secrets();
    let expected = json!({"ServerURL": host, "Username": HTPASSWD_USER, "Secret": HTPASSWD_PASSWORD});
    assert_eq!(read_json(&desk.path().join("kept-store")), expected);
    assert_eq!(read_json(&desk.path().join("auth.json")), json!({"credsStore": "test", "auths": {}}));
}

fn login(tokens: bool) -> (&'static str, &'static str) {
    match tokens {
        true => (TokenServer::USER, TokenServer::PASSWORD),
        false => (HTPASSWD_USER, HTPASSWD_PASSWORD),
    }
}

fn run_as(desk: &Desk, arguments: &[&str], host: &str, user: &str, password: &str, given: Given) -> Run {
    let pair = format!("{user}:{password}");
    let auths = json!({"auths": {host: {"auth": STANDARD.encode(&pair)}}}).to_string();
    match given {
        Given::Creds => desk.sealift(&[arguments, &["--creds", &pair]].concat()),
        Given::Stdin => {
            let options = ["--username", user, "--password-stdin"];
            desk.sealift_with(&[arguments, &options].concat(), &[], &format!("{password}\n"))
        }
        Given::AuthFile => {
            fs::write(desk.path().join("auth.json"), auths).expect("a file is written");
            desk.sealift(&[arguments, &["--authfile", "auth.json"]].concat())
        }
        Given::Home => {
            desk.shell("", "mkdir -p home/.docker");
            fs::write(desk.path().join("home/.docker/config.json"), auths).expect("a file is written");
            desk.sealift_with(arguments, &[("HOME", &desk.path().join("home").to_string_lossy())], "")
        }
    }
}

/// A `PATH` on which `docker-credential-test` is this script.
fn with_helper(desk: &Desk, script: &str) -> String {
    desk.shell("", "mkdir -p bin");
    fs::write(desk.path().join("bin/docker-credential-test"), script).expect("a file is written");
    desk.shell("bin", "chmod +x docker-credential-test");
    format!("{}:{}", desk.path().join("bin").display(), std::env::var("PATH").expect("a PATH"))
}

/// Everything in the corpus: its names, and what of it has no tag.
fn everything() -> (Vec<String>, Vec<(String, String)>) {
    let references = references();
    let untagged = references.iter().filter(|r| !r.is_tagged()).map(|r| (r.repository.clone(), r.digest.clone()));
    (references.iter().map(support::Reference::name).collect(), untagged.collect())
}

fn busybox(host: &str) -> String {
    references().iter().find(|r| r.repository == "library/busybox").expect("busybox in the corpus").at(host)
}

fn count_with_login(requests: &[Recorded]) -> usize {
    requests.iter().filter(|r| r.headers.iter().any(|(name, _)| name == "authorization")).count()
}

fn read_json(path: &std::path::Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

trait HidesSecrets {
    fn hides_secrets(&self) -> &Self;
}

impl HidesSecrets for Run {
    /// No password and no token, as such or in base64, is in what was said.
    #[track_caller]
    fn hides_secrets(&self) -> &Self {
        let all = self.stdout() + &self.stderr();
        // Passwords as such; the base64 of logins; every JSON web token begins like this.
        let logins = [
            (HTPASSWD_USER, HTPASSWD_PASSWORD),
            (TokenServer::USER, TokenServer::PASSWORD),
            ("carol", "planted-wrong"),
        ];
        let encoded = logins.map(|(user, password)| STANDARD.encode(format!("{user}:{password}")));
        for secret in encoded.iter().map(String::as_str).chain(["planted", "eyJ"]) {
            assert!(!all.contains(secret), "{secret} was said:\n{all}");
        }
        self
    }
}
