//! A login that a registry refuses is sent once in a run: registries lock accounts after a few wrong passwords, or for a
//! moment after each (goharbor/harbor#17480, docker/hub-feedback#1392).

use std::fs;
use std::time::Duration;

use rstest::rstest;
use support::{FaultProxy, RealRegistry, Recorded, Rule, TokenRequest, TokenServer, desk, push_image};

use super::{HidesSecrets, busybox, count_with_login, login};

/// How the registry wants a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Basic,
    Token,
    /// By a token service that gives tokens to wrong passwords.
    LenientToken,
}

/// A registry behind a proxy that counts.
struct Locked {
    service: TokenServer,
    registry: RealRegistry,
    proxy: FaultProxy,
    way: Way,
}

impl Locked {
    fn start(way: Way, with_corpus: bool) -> Self {
        // The first answer takes a moment, so that concurrent requests have to wait for it.
        let service = TokenServer::start().delayed(Duration::from_millis(100));
        let service = if way == Way::LenientToken { service.lenient() } else { service };
        let registry = match (way, with_corpus) {
            (Way::Basic, with_corpus) => RealRegistry::with_htpasswd(with_corpus),
            _ => RealRegistry::locked(&service.auth(), with_corpus),
        };
        let proxy = FaultProxy::start(registry.host());
        proxy.inject(Rule::on("*", "/v2/").delay(Duration::from_millis(20)));
        Locked { service, registry, proxy, way }
    }

    fn host(&self) -> &str {
        self.proxy.host()
    }

    /// How often a password was sent.
    fn tries(&self) -> usize {
        let shown = |request: &&TokenRequest| request.headers.iter().any(|(name, _)| name == "authorization");
        match self.way {
            Way::Basic => count_with_login(&self.proxy.requests()),
            _ => self.service.requests().iter().filter(shown).count(),
        }
    }
}

const WRONG: &str = "carol:planted-wrong";

#[rstest]
#[case::basic(Way::Basic)]
#[case::token(Way::Token)]
#[case::lenient_token(Way::LenientToken)]
fn an_export_of_twenty_images_tries_a_wrong_password_once(#[case] way: Way) {
    let source = Locked::start(way, true);
    let images: Vec<String> = (0..20).map(|n| format!("{}/team/app{n}:1", source.host())).collect();
    let options = ["--creds", WRONG, "--keep-going", "--jobs", "6"].map(String::from);
    let run = desk!().export(&[&options[..], &images].concat());
    run.hides_secrets().stderr_contains("user carol was refused by").stderr_contains("team/app19:1");
    assert_eq!(source.tries(), 1, "{}", run.stderr());
}

#[rstest]
#[case::basic(Way::Basic, false)]
#[case::basic_below_v2_only(Way::Basic, true)]
#[case::token(Way::Token, false)]
#[case::lenient_token(Way::LenientToken, false)]
fn an_import_of_twenty_images_tries_a_wrong_password_once(#[case] way: Way, #[case] open: bool) {
    let (source, destination, desk) = (RealRegistry::start(), Locked::start(way, false), desk!());
    let layer = support::noise(1, 1000);
    for number in 0..20 {
        push_image(source.host(), &format!("team/app{number}"), "1", &[&layer]);
    }
    let images: Vec<String> = (0..20).map(|n| format!("{}/team/app{n}:1", source.host())).collect();
    desk.export(&images).success();
    for options in [&["--creds", WRONG, "--jobs", "6"][..], &["--creds", WRONG, "--keep-going"]] {
        let before = destination.tries();
        if open {
            // The two questions whether there is a registry.
            destination.proxy.inject(Rule::on("GET", "/v2/").answer(200, &[], "{}").times(2));
        }
        let run = desk.import("bundle", destination.host(), options);
        run.hides_secrets().stderr_contains("user carol was refused by");
        assert_eq!(destination.tries() - before, 1, "{}", run.stderr());
    }
    assert!(destination.registry.writes().iter().all(|access| access.status == 401));
}

#[rstest]
#[case::basic(Way::Basic)]
#[case::token(Way::Token)]
#[case::lenient_token(Way::LenientToken)]
fn a_sync_tries_a_wrong_password_once_for_both_sides(#[case] way: Way) {
    let (registry, desk) = (Locked::start(way, true), desk!());
    let names: Vec<String> = (0..20).map(|n| format!("    team/app{n}: ['1']\n")).collect();
    let yaml = format!("{}:\n  images:\n{}", registry.host(), names.concat());
    fs::write(desk.path().join("sync.yaml"), yaml).unwrap();
    let target = format!("{}/copy", registry.host());
    let fixed = ["sync", "--keep-going", "--src", "yaml", "--dest", "docker", "sync.yaml", &target];
    let creds = ["--src-creds", WRONG, "--dest-creds", WRONG];
    let run = desk.sealift(&[&fixed[..], &creds].concat());
    run.hides_secrets().stderr_contains("user carol was refused by");
    assert_eq!(registry.tries(), 1, "{}", run.stderr());
}

/// What one repository refuses says nothing about a login that was accepted elsewhere.
#[rstest]
#[case::basic(Way::Basic, 401)]
#[case::token(Way::Token, 401)]
#[case::token_forbidden(Way::Token, 403)]
fn a_right_login_is_not_held_back_by_one_repository(#[case] way: Way, #[case] status: u16) {
    let (source, desk) = (Locked::start(way, true), desk!());
    let (user, password) = login(way == Way::Token);
    source.proxy.inject(Rule::on("GET", "/v2/team/app/manifests/").status(status));
    let images = [format!("{}/team/app:1", source.host()), busybox(source.host())];
    let options = ["--creds", &format!("{user}:{password}"), "--keep-going", "--jobs", "1"].map(String::from);
    let run = desk.export(&[&options[..], &images].concat());
    run.code(4).stderr_contains("team/app:1");
    assert!(!run.stderr().contains("2 of 2 images failed"), "{}", run.stderr());
}

/// Some answer 401 to HEAD, and to whoever asks for tags, where there is nothing (earthly/earthly#1017).
#[test]
fn a_right_login_is_not_given_up_for_what_is_not_there() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), Locked::start(Way::Basic, false), desk!());
    desk.export(&[busybox(source.host())]).success();
    destination.proxy.inject(Rule::on("HEAD", "/blobs/").status(401));
    destination.proxy.inject(Rule::on("HEAD", "/manifests/").status(401).times(1));
    destination.proxy.inject(Rule::on("GET", "/tags/list").status(401));
    let (user, password) = login(false);
    desk.import("bundle", destination.host(), &["--creds", &format!("{user}:{password}")]).success();
}

/// A registry may leave `GET /v2/` open and refuse the rest; every one of the first requests is then answered with 401.
#[test]
fn concurrent_first_requests_all_log_in() {
    let (source, desk) = (Locked::start(Way::Basic, true), desk!());
    source.proxy.inject(Rule::on("GET", "/v2/").answer(200, &[], "{}").times(1));
    let (user, password) = login(false);
    let images: Vec<String> =
        support::references().iter().filter(|r| r.is_tagged()).map(|r| r.at(source.host())).collect();
    let options = ["--creds", &format!("{user}:{password}"), "--jobs", "6"].map(String::from);
    desk.export(&[&options[..], &images].concat()).success();
    let refused = |r: &Recorded| r.status == Some(401) && r.headers.iter().any(|(name, _)| name == "authorization");
    assert!(!source.proxy.requests().iter().any(refused));
}
