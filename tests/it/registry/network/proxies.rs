//! A proxy in between: used, with its login, and left out for whom `NO_PROXY` names.

use std::fs;

use rstest::rstest;
use support::{Authority, ForwardProxy, RealRegistry, SocksProxy, Validity};

use support::{busybox, desk};

const PASSWORD: &str = "p4ss-of-the-proxy";
/// `user:p4ss-of-the-proxy`
const LOGIN: &str = "Basic dXNlcjpwNHNzLW9mLXRoZS1wcm94eQ==";

const EXPORT: [&str; 5] = ["export", "--output", "bundle", "--key", "key"];

#[test]
fn plain_http_is_fetched_through_the_proxy() {
    let source = RealRegistry::with_corpus();
    let proxy = ForwardProxy::start(&[("registry.test", source.host())]);
    let desk = desk!();
    let image = busybox("registry.test:5000");
    let arguments = [&EXPORT[..], &["--tls-verify=false", &image]].concat();
    // HTTPS is tried first, also through the proxy: there is none.
    desk.sealift_in(&[("ALL_PROXY", proxy.url().as_str())], &arguments).success();
    let seen = proxy.seen();
    assert!(seen.iter().any(|r| r.method == "CONNECT" && r.target == "registry.test:5000"), "{seen:?}");
    let fetched = |part: &str| seen.iter().any(|r| r.method == "GET" && r.target.contains(part));
    assert!(fetched("http://registry.test:5000/v2/library/busybox/manifests/"), "{seen:?}");
    assert!(fetched("http://registry.test:5000/v2/library/busybox/blobs/"), "{seen:?}");
}

#[test]
fn https_goes_through_a_tunnel_with_the_proxys_login_which_is_never_shown() {
    let authority = Authority::new();
    let server = authority.issue("DNS:registry.test", Validity::Now);
    let source = RealRegistry::with_corpus_and_tls(&server, None);
    let destination = RealRegistry::start_tls(&server, None);
    let desk = desk!();
    fs::create_dir(desk.path().join("certs")).unwrap();
    fs::copy(authority.certificate(), desk.path().join("certs/ca.crt")).unwrap();
    let image = busybox("registry.test");
    let export = [&EXPORT[..], &["-vv", "--cert-dir", "certs", &image]].concat();

    let proxy = ForwardProxy::start_with_login(&[("registry.test", source.host())], LOGIN);
    let refused = desk.sealift_in(&[("HTTPS_PROXY", proxy.url().as_str())], &export);
    refused.code(1).stderr_contains("the proxy wants a login").stderr_contains("http://USER:PASSWORD@");
    let wrong = format!("http://user:{PASSWORD}x@{}", proxy.host());
    let refused = desk.sealift_in(&[("https_proxy", wrong.as_str())], &export);
    refused.code(1).stderr_contains(&format!("through the proxy http://{}", proxy.host()));
    assert!(!refused.stderr().contains(PASSWORD), "{}", refused.stderr());

    let right = format!("http://user:{PASSWORD}@{}", proxy.host());
    let done = desk.sealift_in(&[("HTTPS_PROXY", right.as_str())], &export);
    assert!(!done.success().stderr().contains(PASSWORD), "{}", done.stderr());
    assert!(proxy.seen().iter().all(|r| r.method == "CONNECT" && r.target == "registry.test:443"));

    let proxy = ForwardProxy::start_with_login(&[("registry.test", destination.host())], LOGIN);
    let right = format!("http://user:{PASSWORD}@{}", proxy.host());
    let import = ["import", "bundle", "registry.test", "--trust", "allowed_signers", "--cert-dir", "certs", "-vv"];
    let done = desk.sealift_in(&[("HTTPS_PROXY", right.as_str())], &import);
    assert!(!done.success().stderr().contains(PASSWORD), "{}", done.stderr());
    assert!(!proxy.seen().is_empty());
    assert!(destination.writes().iter().any(|access| access.method == "PUT"));
}

/// Only the status tells whether to ask the proxy's administrator, to log in, or to check the name.
#[rstest]
#[case::not_allowed(
    "403 Forbidden",
    "Category: containers",
    "have whoever runs the proxy allow CONNECT to registry.test:5000"
)]
#[case::wants_a_login("407 Proxy Authentication Required", "", "http://USER:PASSWORD@PROXY:PORT")]
#[case::not_reached("502 Bad Gateway", "<html>no</html>", "the proxy itself does not reach registry.test:5000")]
#[case::busy("503 Service Unavailable", "try later", "the proxy itself does not reach registry.test:5000")]
fn what_a_proxy_refuses_is_told_with_its_status_and_its_words(
    #[case] status: &str,
    #[case] words: &str,
    #[case] advice: &str,
) {
    let (proxy, desk) = (ForwardProxy::start_refusing(status, words), desk!());
    let image = busybox("registry.test:5000");
    let export = [&EXPORT[..], &["--retry-times", "2", "--retry-delay", "0.01", &image]].concat();
    let url = format!("http://user:{PASSWORD}@{}", proxy.host());
    let refused = desk.sealift_in(&[("HTTPS_PROXY", url.as_str())], &export);
    refused.code(1).stderr_contains(&format!("the proxy answered {status}")).stderr_contains(advice);
    if !words.starts_with('<') {
        refused.stderr_contains(words);
    }
    assert!(!refused.stderr().contains(PASSWORD), "{}", refused.stderr());
    // What does not pass is not tried again, but to hear the status.
    let asked = proxy.seen().len();
    let expected = if status.starts_with('5') {
        6
    } else if status.starts_with("407") {
        1
    } else {
        2
    };
    assert_eq!(asked, expected, "{:?}", proxy.seen());
}

#[test]
fn a_login_is_sent_with_plain_http_too() {
    let source = RealRegistry::with_corpus();
    let proxy = ForwardProxy::start_with_login(&[("registry.test", source.host())], LOGIN);
    let desk = desk!();
    let image = busybox("registry.test:5000");
    let arguments = [&EXPORT[..], &["--tls-verify=false", "--retry-times", "0", &image]].concat();
    let right = format!("http://user:{PASSWORD}@{}", proxy.host());
    desk.sealift_in(&[("HTTP_PROXY", right.as_str()), ("HTTPS_PROXY", right.as_str())], &arguments).success();
    assert!(proxy.seen().iter().all(|r| r.headers.contains(&("proxy-authorization".into(), LOGIN.into()))));
    // The registry is not told.
    let without = proxy.url();
    fs::rename(desk.path().join("bundle"), desk.path().join("first")).unwrap();
    desk.sealift_in(&[("HTTP_PROXY", without.as_str()), ("HTTPS_PROXY", without.as_str())], &arguments)
        .code(1)
        .stderr_contains("login");
}

/// Nothing answers at the proxy; only who goes around it arrives.
#[rstest]
#[case::this_machine("")]
#[case::this_machine_whatever_is_listed("other.test")]
fn this_machine_is_reached_without_the_proxy(#[case] exempt: &str) {
    let source = RealRegistry::with_corpus();
    let proxy = ForwardProxy::start(&[]);
    let desk = desk!();
    let (image, url) = (busybox(source.host()), proxy.url());
    let environment = [("HTTP_PROXY", url.as_str()), ("HTTPS_PROXY", url.as_str()), ("NO_PROXY", exempt)];
    desk.sealift_in(&environment, &[&EXPORT[..], &[&image]].concat()).success();
    assert!(proxy.seen().is_empty(), "{:?}", proxy.seen());
}

#[test]
fn a_socks_proxy_is_given_names_and_its_login() {
    let authority = Authority::new();
    let server = authority.issue("DNS:registry.test", Validity::Now);
    let source = RealRegistry::with_corpus_and_tls(&server, None);
    let desk = desk!();
    fs::create_dir(desk.path().join("certs")).unwrap();
    fs::copy(authority.certificate(), desk.path().join("certs/ca.crt")).unwrap();
    let image = busybox("registry.test:5000");
    let export = [&EXPORT[..], &["-vv", "--retry-times", "0", "--cert-dir", "certs", &image]].concat();
    let proxy = SocksProxy::start(&[("registry.test", source.host())], ("user", PASSWORD));
    for login in ["", "user:wrong-p4ss@"] {
        let url = format!("socks5://{login}{}", proxy.host());
        let refused = desk.sealift_in(&[("ALL_PROXY", url.as_str())], &export);
        refused
            .code(1)
            .stderr_contains("the proxy wants a login")
            .stderr_contains(&format!("through the proxy socks5://{}", proxy.host()));
        assert!(!refused.stderr().contains("p4ss"), "{}", refused.stderr());
    }
    let url = format!("socks5://user:{PASSWORD}@{}", proxy.host());
    let done = desk.sealift_in(&[("ALL_PROXY", url.as_str())], &export);
    assert!(!done.success().stderr().contains(PASSWORD), "{}", done.stderr());
    assert!(
        !proxy.seen().is_empty() && proxy.seen().iter().all(|name| name == "registry.test:5000"),
        "{:?}",
        proxy.seen()
    );
    // Plain HTTP goes the same way.
    let plain = RealRegistry::with_corpus();
    let proxy = SocksProxy::start(&[("registry.test", plain.host())], ("user", PASSWORD));
    let url = format!("socks5h://user:{PASSWORD}@{}", proxy.host());
    desk.shell("", "rm -r bundle");
    let export = [&EXPORT[..], &["--tls-verify=false", &image]].concat();
    desk.sealift_in(&[("ALL_PROXY", url.as_str())], &export).success();
}

#[test]
fn who_is_in_no_proxy_is_not_asked_for_through_the_proxy() {
    let proxy = ForwardProxy::start(&[]);
    let desk = desk!();
    let image = busybox("registry.invalid:5000");
    let url = proxy.url();
    let arguments = [&EXPORT[..], &["--retry-times", "0", &image]].concat();
    for (exempt, asked) in [("other.invalid", true), ("registry.invalid", false), (".invalid", false), ("*", false)] {
        let before = proxy.seen().len();
        // The name does not exist, so it fails in any case.
        desk.sealift_in(&[("HTTPS_PROXY", url.as_str()), ("NO_PROXY", exempt)], &arguments).code(1);
        assert_eq!(proxy.seen().len() > before, asked, "NO_PROXY={exempt}");
    }
}

#[test]
fn a_proxy_that_is_not_there_or_cannot_be_used_is_told_without_its_password() {
    let desk = desk!();
    let image = busybox("registry.test");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let arguments = [&EXPORT[..], &[&image]].concat();
    for (proxy, code, part) in [
        (format!("http://user:{PASSWORD}@{free}"), 1, format!("through the proxy http://{free}: connection refused")),
        (format!("socks5://user:{PASSWORD}@{free}"), 1, format!("through the proxy socks5://{free}")),
        (format!("socks4://user:{PASSWORD}@{free}"), 2, "HTTPS_PROXY".to_owned()),
        (format!("http://user:{PASSWORD}@"), 2, "HTTPS_PROXY".to_owned()),
    ] {
        let refused = desk.sealift_in(&[("HTTPS_PROXY", proxy.as_str())], &arguments);
        refused.code(code).stderr_contains(&part);
        assert!(!refused.stderr().contains(PASSWORD), "{}", refused.stderr());
    }
}
