//! Where a login goes: to the token service that the registry named first, and to the uploads of the repository that is
//! written to.

use rstest::rstest;
use support::{Desk, FaultProxy, HTPASSWD_PASSWORD, HTPASSWD_USER, RealRegistry, Rule, Run, TokenServer, desk};

use super::{HidesSecrets, busybox, count_with_login, login};

fn export(desk: &Desk, host: &str, by_token: bool) -> Run {
    let (user, password) = login(by_token);
    desk.export(&["-vv", "--retry-times", "1", "--creds", &format!("{user}:{password}"), &busybox(host)])
}

fn challenge(realm: &str, service: &str) -> String {
    format!("Bearer realm=\"{realm}\",service=\"{service}\",error=\"invalid_token\"")
}

/// The first layer is refused once, with another token service.
fn front(registry: &RealRegistry, challenge: &str) -> FaultProxy {
    let front = FaultProxy::start(registry.host());
    front.inject(Rule::on("GET", "/blobs/").answer(401, &[("www-authenticate", challenge)], "").times(1));
    front
}

#[rstest]
#[case::after_tokens(true)]
#[case::after_passwords(false)]
fn a_token_service_that_moves_to_another_host_in_the_middle_gets_no_login(#[case] by_token: bool) {
    let (service, other) = (TokenServer::start(), TokenServer::start());
    let registry = match by_token {
        true => RealRegistry::locked(&service.auth(), true),
        false => RealRegistry::with_htpasswd(true),
    };
    let front = front(&registry, &challenge(&format!("http://{}/token", other.host()), "a registry"));
    let refused = export(&desk!(), front.host(), by_token);
    refused.code(1).hides_secrets().stderr_contains(&format!("another host, http://{}/token", other.host()));
    assert!(other.requests().is_empty());
}

#[rstest]
#[case::another_path("/other?planted=1", "a registry", "/other (service")]
#[case::another_service("/token", "another", "(service \"another\")")]
fn a_token_service_that_changes_at_its_host_is_told_once(#[case] path: &str, #[case] name: &str, #[case] told: &str) {
    let service = TokenServer::start();
    let registry = RealRegistry::locked(&service.auth(), true);
    let front = front(&registry, &challenge(&format!("http://{}{path}", service.host()), name));
    let run = export(&desk!(), front.host(), true);
    run.hides_secrets().stderr_contains("warning: ").stderr_contains(told);
    assert_eq!(run.stderr().lines().filter(|line| line.contains("and now sends them to")).count(), 1);
    // The other service is not known there.
    run.code(if name == "another" { 1 } else { 0 });
}

/// Where the registry sends an upload, and whether the login is shown there.
#[rstest]
#[case::the_specification("/v2/library/busybox/blobs/uploads/planted", true)]
// hpc/charliecloud#1501.
#[case::github("/v2/library/busybox/blobs/upload/planted", true)]
// Google's registries.
#[case::google("/artifacts-uploads/namespaces/p/repositories/r/uploads/planted", true)]
#[case::a_manifest("/v2/library/busybox/manifests/planted", false)]
#[case::another_repository("/v2/team/other/blobs/uploads/planted", false)]
#[case::out_of_the_uploads("/v2/library/busybox/blobs/uploads/..%2f..%2fmanifests/planted", false)]
fn a_login_goes_to_uploads_only(#[case] place: &str, #[case] expected: bool) {
    let (source, registry) = (RealRegistry::with_corpus(), RealRegistry::with_htpasswd(false));
    let desk = desk!();
    desk.export(&[busybox(source.host())]).success();
    let front = FaultProxy::start(registry.host());
    front.inject(Rule::on("POST", "/uploads/").answer(202, &[("location", place)], ""));
    let creds = format!("{HTPASSWD_USER}:{HTPASSWD_PASSWORD}");
    let refused = desk.import("bundle", front.host(), &["--retry-times", "0", "--creds", &creds]);
    refused.code(1);
    let sent: Vec<_> = front.requests().into_iter().filter(|r| r.path.contains("planted")).collect();
    assert!(sent.iter().any(|request| request.method == "PUT"));
    // No PUT and no DELETE.
    assert_eq!(count_with_login(&sent), if expected { sent.len() } else { 0 });
    // The registry answers to that path with a redirect, which a PUT does not follow.
    if !expected && !place.contains('%') {
        refused.stderr_contains("where no login is shown").stderr_contains("below /v2/library/busybox/blobs/uploads/");
    }
}
