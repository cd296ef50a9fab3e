//! The tests' own tools do what the other tests rely on.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use support::{FaultProxy, RealRegistry, Rule};
use support::{
    catalog, corpus, push_corpus, raw_blob, raw_manifest, references, request, skopeo, tags, walk, walk_all,
};

#[test]
fn the_corpus_arrives_in_a_real_registry_byte_for_byte() {
    let registry = RealRegistry::start();
    push_corpus(registry.host());

    let references = references();
    assert!(references.len() >= 12, "{references:#?}");
    let untagged: Vec<_> =
        references.iter().filter(|r| !r.is_tagged()).map(|r| (r.repository.as_str(), r.digest.as_str())).collect();
    assert!(!untagged.is_empty());
    let walk = walk(registry.host(), &untagged);
    assert_eq!(walk.lies(), Vec::<&(String, String)>::new());

    for r in &references {
        let manifest = raw_manifest(registry.host(), &r.repository, &r.reference).expect("what was pushed is there");
        let hex = r.digest.strip_prefix("sha256:").expect("a digest");
        assert_eq!(manifest.bytes, std::fs::read(corpus().join("blobs/sha256").join(hex)).unwrap(), "{}", r.name());
        assert_eq!((&manifest.digest, &manifest.media_type), (&r.digest, &r.media_type), "{}", r.name());
        if r.is_tagged() {
            assert_eq!(walk.tags[&(r.repository.clone(), r.reference.clone())], r.digest);
        }
    }
    let on_disk = std::fs::read_dir(corpus().join("blobs/sha256")).unwrap().count();
    let seen: BTreeSet<_> = walk.items.values().map(|item| &item.sha256).collect();
    assert_eq!(seen.len(), on_disk, "the walk sees every blob of the corpus");
    let repositories: BTreeSet<_> = references.iter().map(|r| r.repository.clone()).collect();
    assert_eq!(catalog(registry.host()), repositories.into_iter().collect::<Vec<_>>());
    assert_eq!(tags(registry.host(), "team/app"), ["1", "2"]);
}

#[test]
fn the_corpus_holds_every_kind_of_image() {
    let references = references();
    for a_trait in [
        "index",
        "platforms",
        "same",
        "elsewhere",
        "image",
        "artifact",
        "referrers-tag",
        "untagged",
        "docker-list",
        "docker-image",
        "zstd",
        "plain-tar",
        "repeated-layer",
        "odd-json",
        "nested",
    ] {
        assert!(references.iter().any(|r| r.has(a_trait)), "nothing is {a_trait}");
    }
    let nested = references.iter().find(|r| r.has("nested")).unwrap();
    assert!(nested.reaches > 10 && nested.bytes > 1 << 20, "{nested:?}");
}

#[test]
fn a_walk_tells_two_registries_apart() {
    let (one, other) = (RealRegistry::with_corpus(), RealRegistry::start());
    assert_ne!(walk_all(one.host()), walk_all(other.host()));
    push_corpus(other.host());
    assert!(!other.writes().is_empty());
    assert_eq!(walk_all(one.host()), walk_all(other.host()));
    let tagged = references().into_iter().find(|r| r.has("zstd")).unwrap();
    let path = format!("/v2/{}/manifests/{}", tagged.repository, tagged.digest);
    assert_eq!(support::delete(other.host(), &path).status, 202);
    assert_ne!(walk_all(one.host()), walk_all(other.host()));
}

#[test]
fn skopeo_reads_what_curl_pushed() {
    let registry = RealRegistry::with_corpus();
    assert_eq!(registry.access_log(), []);
    let index = references().into_iter().find(|r| r.has("platforms")).unwrap();
    let output =
        skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{}", index.at(registry.host()))]);
    assert_eq!(support::sha256(&output.stdout), index.digest);
    let log = registry.access_log();
    assert!(log.iter().any(|a| a.method == "GET" && a.path.contains("/manifests/") && a.status == 200), "{log:?}");
    assert_eq!(registry.writes(), []);
}

#[test]
fn a_proxy_without_rules_changes_nothing_and_counts() {
    let (registry, proxy) = proxied();
    assert_eq!(walk_all(proxy.host()), walk_all(registry.host()));
    assert_eq!(proxy.count("*", "/_catalog"), 1);
    assert!(proxy.count("GET", "/blobs/") > 5 && proxy.count("PUT", "") == 0);
    assert!(proxy.requests().iter().all(|r| r.status.is_some()), "{:?}", proxy.requests());
    assert!(proxy.most_at_once() >= 1);

    // Uploads pass as well, by a client that keeps its connection and expects to continue.
    let other = RealRegistry::start();
    let into = FaultProxy::start(other.host());
    push_corpus(into.host());
    assert_eq!(walk_all(other.host()), walk_all(registry.host()));
    assert!(into.requests().iter().any(|r| r.method == "PUT" && r.received > 1 << 20));
}

#[test]
fn a_cut_answer_is_short_of_the_length_it_promised_and_only_as_often_as_asked() {
    let (_registry, proxy) = proxied();
    let blob = largest_blob(&proxy);
    proxy.inject(Rule::on("GET", "/blobs/").cut_response(1000).times(1));
    let error = request(proxy.host(), "GET", &blob, &[], b"").expect_err("the body is short");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    let cut = proxy.requests().pop().unwrap();
    assert_eq!((cut.status, cut.sent), (Some(200), 1000));
    assert!(request(proxy.host(), "GET", &blob, &[], b"").unwrap().body.len() > 1000);

    proxy.inject(Rule::on("GET", "/blobs/").reset_response(70_000).after(1).times(1));
    assert!(request(proxy.host(), "GET", &blob, &[], b"").is_ok(), "the first one passes");
    let error = request(proxy.host(), "GET", &blob, &[], b"").expect_err("the connection is reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_cut_upload_leaves_nothing_behind_and_a_lost_answer_leaves_everything() {
    let (registry, proxy) = proxied();
    let bytes = vec![7; 300_000];
    let digest = support::sha256(&bytes);
    let put = |path: &str| request(proxy.host(), "PUT", path, &[("content-type", "application/octet-stream")], &bytes);

    proxy.inject(Rule::on("PUT", "/blobs/uploads/").cut_request(100_000).times(1));
    assert!(put(&upload(&proxy, &digest)).is_err());
    assert_eq!(proxy.requests().pop().unwrap().received, 100_000);
    assert_eq!(raw_blob(registry.host(), "team/app", &digest), None);

    proxy.inject(Rule::on("PUT", "/blobs/uploads/").lose_answer().times(1));
    assert!(put(&upload(&proxy, &digest)).is_err());
    assert_eq!(raw_blob(registry.host(), "team/app", &digest), Some((digest.clone(), 300_000)));

    assert_eq!(put(&upload(&proxy, &digest)).unwrap().status, 201, "and then all is well");
}

#[test]
fn a_flipped_byte_changes_the_digest_and_nothing_else() {
    let (_registry, proxy) = proxied();
    let blob = largest_blob(&proxy);
    let sound = request(proxy.host(), "GET", &blob, &[], b"").unwrap();
    proxy.inject(Rule::on("GET", "/blobs/").flip_byte(100_000).times(1));
    let flipped = request(proxy.host(), "GET", &blob, &[], b"").unwrap();
    let differ: Vec<usize> = (0..sound.body.len()).filter(|i| sound.body[*i] != flipped.body[*i]).collect();
    assert_eq!((differ, sound.body.len()), (vec![100_000], flipped.body.len()));
}

#[test]
fn an_injected_answer_never_reaches_the_registry_and_carries_its_headers() {
    let (registry, proxy) = proxied();
    proxy.inject(Rule::on("POST", "/uploads/").answer(429, &[("retry-after", "1")], "slow down").times(1));
    let before = registry.access_log().len();
    let answer = request(proxy.host(), "POST", "/v2/team/app/blobs/uploads/", &[], &[0; 1 << 20]).unwrap();
    assert_eq!((answer.status, answer.header("retry-after"), answer.text().as_str()), (429, Some("1"), "slow down"));
    assert_eq!(registry.access_log().len(), before);
    assert_eq!(request(proxy.host(), "POST", "/v2/team/app/blobs/uploads/", &[], b"").unwrap().status, 202);
}

#[test]
fn ranges_are_honoured_unless_they_are_hidden() {
    let (_registry, proxy) = proxied();
    let blob = largest_blob(&proxy);
    let range = [("range", "bytes=1000-")];
    let whole = request(proxy.host(), "GET", &blob, &[], b"").unwrap().body;
    let part = request(proxy.host(), "GET", &blob, &range, b"").unwrap();
    assert_eq!((part.status, &part.body[..]), (206, &whole[1000..]));
    proxy.inject(Rule::on("GET", "/blobs/").without_range());
    let answer = request(proxy.host(), "GET", &blob, &range, b"").unwrap();
    assert_eq!((answer.status, answer.body), (200, whole));
    assert_eq!(support::Recorded::clone(&proxy.requests()[2]).headers.iter().filter(|(n, _)| n == "range").count(), 1);
}

#[test]
fn delays_and_rates_are_kept_and_healing_ends_them() {
    let (_registry, proxy) = proxied();
    let blob = largest_blob(&proxy);
    let time = || {
        let start = Instant::now();
        assert_eq!(
            request(proxy.host(), "GET", &blob, &[("range", "bytes=0-199999")], b"").unwrap().body.len(),
            200_000
        );
        start.elapsed()
    };
    proxy.inject(Rule::on("GET", "/blobs/").delay(Duration::from_millis(300)).times(1));
    assert!(time() >= Duration::from_millis(300));
    proxy.inject(Rule::on("GET", "/blobs/").throttle(400_000));
    assert!(time() >= Duration::from_millis(450));
    proxy.inject(Rule::on("GET", "/blobs/").status(503));
    proxy.heal();
    time();
}

fn proxied() -> (RealRegistry, FaultProxy) {
    let registry = RealRegistry::with_corpus();
    let proxy = FaultProxy::start(registry.host());
    (registry, proxy)
}

/// The path of a layer of more than a megabyte.
fn largest_blob(proxy: &FaultProxy) -> String {
    let walk = walk_all(proxy.host());
    proxy.reset_count();
    let ((repository, digest), item) =
        walk.items.iter().max_by_key(|(_, item)| item.size).expect("the corpus has blobs");
    assert!(item.size > 1 << 20);
    format!("/v2/{repository}/blobs/{digest}")
}

/// Opens an upload in `team/app`; the path that ends it.
fn upload(proxy: &FaultProxy, digest: &str) -> String {
    let answer = request(proxy.host(), "POST", "/v2/team/app/blobs/uploads/", &[], b"").expect("the proxy answers");
    let location = answer.header("location").expect("an upload has a location").to_owned();
    let path = location.strip_prefix(&proxy.url()).expect("the location leads through the proxy");
    format!("{path}&digest={digest}")
}
