//! What is said when a login fails: what happened, the server's own words, the next step.

use rstest::rstest;
use support::{FaultProxy, RealRegistry, Rule, TokenServer, desk};

use super::{HidesSecrets, busybox, login};

/// A registry behind a proxy that ends TLS often names its token service by http. That it is refused is no question of
/// the registry's own scheme.
#[rstest]
#[case::a_token_service_elsewhere("http://tokens.example.com/token")]
#[case::with_a_login_in_its_url("http://robot:planted@tokens.example.com/token?planted=1")]
fn a_token_service_over_plain_http_is_named_and_refused(#[case] realm: &str) {
    let (registry, desk) = (RealRegistry::with_corpus(), desk!());
    let proxy = FaultProxy::start(registry.host());
    let challenge = format!("Bearer realm=\"{realm}\",service=\"a registry\"");
    proxy.inject(Rule::on("GET", "/v2/").answer(401, &[("www-authenticate", &challenge)], ""));
    let run = desk.export(&["--creds", "robot:planted-password", &busybox(proxy.host())]);
    run.code(1).hides_secrets().stderr_contains("http://tokens.example.com/token");
    assert!(!run.stderr().contains("TLS"), "{}", run.stderr());
    if !realm.contains('@') {
        run.stderr_contains("names a token service over plain HTTP").stderr_contains("--tls-verify=false");
    }
    assert_eq!(proxy.count("*", "/manifests/"), 0);
}

/// Harbor says in the body of a 401 what the login may not do (goharbor/harbor#12918).
#[rstest]
#[case::basic(Some(false))]
#[case::token(Some(true))]
#[case::nobody(None)]
fn the_words_of_a_registry_that_refuses_a_login_are_quoted(#[case] by_token: Option<bool>) {
    let service = TokenServer::start().anonymous();
    let registry = match by_token {
        Some(false) => RealRegistry::with_htpasswd(true),
        _ => RealRegistry::locked(&service.auth(), true),
    };
    let proxy = FaultProxy::start(registry.host());
    let words = "unauthorized to access repository: library/busybox, action: pull";
    let body = format!(r#"{{"errors":[{{"code":"UNAUTHORIZED","message":"{words}"}}]}}"#);
    proxy.inject(Rule::on("*", "/manifests/").answer(401, &[], &body));
    let creds = by_token.map(login).map(|(user, password)| format!("{user}:{password}"));
    let options: Vec<&str> = creds.iter().flat_map(|creds| ["--creds", creds.as_str()]).collect();
    let run = desk!().export(&[&options[..], &[busybox(proxy.host()).as_str()]].concat());
    run.code(1).hides_secrets().stderr_contains(words).stderr_contains("hint: ");
    assert_eq!(run.stderr().lines().filter(|line| line.starts_with("error: ")).count(), 1);
}
