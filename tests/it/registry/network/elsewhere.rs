//! Servers to which a registry sends us: they are blamed for what they do, and trusted with nothing.

use std::fs;

use rstest::rstest;
use support::{Authority, FaultProxy, RealRegistry, Rule, Run, TlsFront, Validity, walk};

use support::{Desk, busybox, desk};

const HERE: &str = "IP:127.0.0.1";

/// Sends whoever wants a blob to `target`, with a signature in the query.
fn redirect(front: &FaultProxy, target: &str) {
    let location = format!("{target}?X-Amz-Signature=planted-signature");
    front.inject(Rule::on("*", "/blobs/sha256:").answer(307, &[("location", &location)], ""));
}

fn export(desk: &Desk, host: &str, options: &[&str]) -> Run {
    let fixed = ["-vv", "--retry-times", "1"];
    desk.export(&[&fixed, options, &[busybox(host).as_str()]].concat())
}

fn hides_the_signature(run: &Run) {
    assert!(!(run.stdout() + &run.stderr()).contains("planted"), "{}", run.stderr());
}

/// What the storage answers, and what is said of it besides who it is and who sent us there.
#[rstest]
#[case::link_expired(
    403,
    r#"{"message":"Request has expired, see /bucket?X-Amz-Signature=planted"}"#,
    "clocks of the two differ"
)]
#[case::two_logins(400, "<Error><Code>InvalidArgument</Code></Error>", "400 Bad Request")]
#[case::lost(404, "<Error><Code>NoSuchKey</Code></Error>", "has lost this content")]
#[case::overloaded(503, "<Error><Code>SlowDown</Code></Error>", "look into the log of 127.0.0.1:")]
fn storage_that_fails_is_named_and_the_registry_that_sent_us_there(
    #[case] status: u16,
    #[case] body: &str,
    #[case] advice: &str,
) {
    let source = RealRegistry::with_corpus();
    let (front, storage) = (FaultProxy::start(source.host()), FaultProxy::start(source.host()));
    redirect(&front, &format!("{}/bucket/docker/registry/v2/data", storage.url()));
    storage.inject(Rule::on("*", "").answer(status, &[("x-amz-request-id", "1")], body));
    let desk = desk!();
    let failed = export(&desk, front.host(), &[]);
    failed.code(1).stderr_contains(advice);
    failed.stderr_contains(&format!("{} (where {} sends us) answered {status}", storage.host(), front.host()));
    hides_the_signature(&failed);
}

#[rstest]
#[case::refused(false)]
#[case::unknown_name(true)]
fn storage_that_cannot_be_reached_is_named(#[case] unknown: bool) {
    let source = RealRegistry::with_corpus();
    let front = FaultProxy::start(source.host());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let storage = if unknown { "minio.invalid:9000".to_owned() } else { free };
    redirect(&front, &format!("http://{storage}/bucket/x"));
    let failed = export(&desk!(), front.host(), &[]);
    failed.code(1).stderr_contains(&format!("cannot reach {storage} (where {} sends us)", front.host()));
    failed.stderr_contains("redirect, disable: true");
    hides_the_signature(&failed);
}

#[test]
fn storage_that_ends_in_the_middle_is_named() {
    let source = RealRegistry::with_corpus();
    let (front, storage) = (FaultProxy::start(source.host()), FaultProxy::start(source.host()));
    let digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    redirect(&front, &format!("{}/v2/library/busybox/blobs/{digest}", storage.url()));
    let body = "x".repeat(100_000);
    storage.inject(Rule::on("GET", "").answer(200, &[("content-encoding", "gzip")], &body));
    let failed = export(&desk!(), front.host(), &[]);
    // Packed bytes are not those that the digest is for.
    failed.code(1).stderr_contains("packed (gzip)");
    assert!(storage.requests().iter().all(|r| r.headers.contains(&("accept-encoding".into(), "identity".into()))));
}

/// A HEAD of a blob leads to storage by a link that is signed for GET.
#[test]
fn a_head_that_storage_refuses_says_nothing_about_the_blob() {
    let (source, destination) = (RealRegistry::with_corpus(), RealRegistry::start());
    let (front, storage) = (FaultProxy::start(destination.host()), FaultProxy::start(destination.host()));
    let location = format!("{}/bucket/x?sig=planted", storage.url());
    front.inject(Rule::on("HEAD", "/blobs/").answer(307, &[("location", &location)], ""));
    storage.inject(Rule::on("HEAD", "").answer(403, &[], ""));
    let desk = desk!();
    desk.export(&[busybox(source.host())]).success();
    // In a repository that is new nobody would ask.
    desk.import("bundle", destination.host(), &[]).success();
    desk.import("bundle", front.host(), &[]).success();
    assert!(storage.count("HEAD", "/bucket/") > 0);
    assert!(walk(destination.host(), &[]).lies().is_empty());
}

/// A desk that knows the authority of the registry, which is behind a TLS front.
fn behind_tls(upstream: &str) -> (Desk, TlsFront) {
    let authority = Authority::new();
    let front = TlsFront::start(&authority.issue(HERE, Validity::Now), upstream);
    let desk = desk!();
    fs::create_dir(desk.path().join("certs")).expect("a new directory");
    fs::copy(authority.certificate(), desk.path().join("certs/ca.crt")).expect("copied");
    (desk, front)
}

#[test]
fn from_https_nobody_is_sent_to_plain_http() {
    let source = RealRegistry::with_corpus();
    let (proxy, storage) = (FaultProxy::start(source.host()), FaultProxy::start(source.host()));
    let (desk, front) = behind_tls(proxy.host());
    // The registry does not know that TLS is in front of it.
    proxy.inject(Rule::on("GET", "/blobs/sha256:").answer(307, &[("location", &format!("{}/x", storage.url()))], ""));
    let refused = export(&desk, front.host(), &["--cert-dir", "certs"]);
    refused.code(1).stderr_contains(&format!("from HTTPS to plain HTTP, at {}", storage.host()));
    refused.stderr_contains("X-Forwarded-Proto");
    assert!(storage.requests().is_empty());
    proxy.heal();
    export(&desk, front.host(), &["--cert-dir", "certs"]).success();

    // Who believes anybody may be sent anywhere.
    desk.shell("", "rm -r bundle");
    proxy.inject(Rule::on("GET", "/blobs/sha256:").answer(307, &[("location", &format!("{}/x", storage.url()))], ""));
    export(&desk, front.host(), &["--tls-verify=false"]).code(1).stderr_contains("404");
    assert!(!storage.requests().is_empty());
}

#[rstest]
#[case::the_place_of_an_upload("POST", "/uploads/", 202)]
#[case::a_redirect_of_the_body("PUT", "/uploads/", 307)]
fn from_https_no_layer_is_sent_by_plain_http(#[case] method: &str, #[case] path: &str, #[case] status: u16) {
    let (source, destination) = (RealRegistry::with_corpus(), RealRegistry::start());
    let (proxy, plain) = (FaultProxy::start(destination.host()), FaultProxy::start(destination.host()));
    let (desk, front) = behind_tls(proxy.host());
    desk.export(&[busybox(source.host())]).success();
    let place = format!("{}/upload?state=planted-state", plain.url());
    proxy.inject(Rule::on("POST", path).answer(202, &[("location", "/v2/library/busybox/blobs/uploads/1")], ""));
    proxy.inject(Rule::on(method, path).answer(status, &[("location", &place)], ""));
    let refused = desk.import("bundle", front.host(), &["--cert-dir", "certs", "-vv"]);
    refused.code(1).stderr_contains(&format!("from HTTPS to plain HTTP, at {}", plain.host()));
    hides_the_signature(&refused);
    assert!(plain.requests().is_empty(), "{:?}", plain.requests());
    assert_eq!(destination.writes().iter().filter(|access| access.path.contains("/manifests/")).count(), 0);
}

#[test]
fn a_place_for_uploads_elsewhere_gets_the_layers_and_no_login() {
    let (source, destination) = (RealRegistry::with_corpus(), RealRegistry::with_htpasswd(false));
    let (front, store) = (FaultProxy::start(destination.host()), FaultProxy::start(destination.host()));
    let desk = desk!();
    desk.export(&[busybox(source.host())]).success();
    let place = format!("{}/bucket/x?signature=planted", store.url());
    front.inject(Rule::on("POST", "/uploads/").answer(202, &[("location", &place)], ""));
    store.inject(Rule::on("PUT", "/bucket/").answer(201, &[], ""));
    let creds = format!("{}:{}", support::HTPASSWD_USER, support::HTPASSWD_PASSWORD);
    // The registry does not know what its storage has got, and refuses the manifest.
    let refused = desk.import("bundle", front.host(), &["-vv", "--creds", &creds]);
    refused.code(1).stderr_contains("MANIFEST_BLOB_UNKNOWN");
    hides_the_signature(&refused);
    let with_login = |proxy: &FaultProxy| {
        proxy.requests().iter().filter(|r| r.headers.iter().any(|(name, _)| name == "authorization")).count()
    };
    // Four blobs, and once more because the registry does not find them.
    assert_eq!((store.count("PUT", "signature=planted&digest=sha256"), with_login(&store)), (8, 0));
    assert!(with_login(&front) > 0);
}
