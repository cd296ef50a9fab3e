//! Answers that are not what was asked for: what is told of them, and with which exit code.

use rstest::rstest;
use serde_json::json;
use support::{FaultProxy, RealRegistry, Rule, busybox, desk, push_blob, put_manifest, sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");
const PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Sign in \u{b7} Portal</title></head></html>";

fn page(rule: Rule) -> Rule {
    rule.answer(200, &[HTML], PAGE)
}

/// A portal that answers every request with its page: told as that, and not as a damaged image (exit code 3). A proxy that
/// hands such pages on: goharbor/harbor issue 23882; one that lets every login succeed: docker/for-win issue 2097.
#[rstest]
#[case::manifest("/manifests/1.35")]
#[case::child("/manifests/sha256:")]
#[case::layer("/blobs/")]
fn a_web_page_in_the_place_of_an_image_is_told_as_such(#[case] path: &str) {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let proxy = FaultProxy::start(source.host());
    proxy.inject(page(Rule::on("GET", path)));
    let failed = desk.export(&[busybox(proxy.host())]);
    failed.code(1).stderr_contains("web page with status 200").stderr_contains("curl -iL").stderr_contains("NO_PROXY");
    if path.starts_with("/manifests") {
        failed.stderr_contains("Sign in \u{b7} Portal");
    }
    assert!(!desk.path().join("bundle").exists());
}

#[test]
fn a_web_page_in_the_place_of_tags_or_of_a_registry_is_told_as_such() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let proxy = FaultProxy::start(source.host());
    proxy.inject(page(Rule::on("GET", "/tags/list")));
    let failed = desk.export(&[format!("{}/library/busybox", proxy.host())]);
    failed.code(1).stderr_contains("web page with status 200: \"Sign in");
    proxy.heal();
    desk.export(&[busybox(proxy.host())]).success();
    let portal = FaultProxy::start(source.host());
    portal.inject(page(Rule::on("*", "")));
    desk.import("bundle", portal.host(), &[]).code(1).stderr_contains("web page with status 200: \"Sign in");
    assert_eq!(portal.requests().iter().filter(|request| request.method != "GET").count(), 0);
}

/// The page of a proxy that says no is quoted by its title.
#[test]
fn the_title_of_an_error_page_is_told() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let proxy = FaultProxy::start(source.host());
    proxy.inject(Rule::on("GET", "/manifests/1.35").answer(403, &[HTML], PAGE));
    desk.export(&[busybox(proxy.host())]).code(1).stderr_contains("403").stderr_contains("Sign in \u{b7} Portal");
}

#[test]
fn a_compressed_manifest_is_told_as_compressed() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let proxy = FaultProxy::start(source.host());
    for path in ["/manifests/1.35", "/tags/list"] {
        proxy.heal();
        proxy.inject(Rule::on("GET", path).answer(200, &[("content-encoding", "gzip")], "packed"));
        let image =
            if path.contains("tags") { format!("{}/library/busybox", proxy.host()) } else { busybox(proxy.host()) };
        let failed = desk.export(&[image]);
        failed.code(1).stderr_contains("Content-Encoding: gzip").stderr_contains("turn off compression");
    }
}

#[test]
fn a_manifest_beyond_four_mebibytes_is_refused_with_its_size() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let proxy = FaultProxy::start(source.host());
    let body = " ".repeat((4 << 20) + 1);
    proxy.inject(Rule::on("GET", "/manifests/1.35").answer(200, &[("content-type", MANIFEST)], &body));
    let failed = desk.export(&[busybox(proxy.host())]);
    failed.code(3).stderr_contains("more than 4194304 bytes (4194305 bytes)").stderr_contains("up to 4 MiB");
    failed.stderr_contains("library/busybox:1.35");
}

#[test]
fn a_tag_that_is_deleted_after_it_was_listed_is_told_as_deleted() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let proxy = FaultProxy::start(source.host());
    proxy.inject(Rule::on("GET", "/manifests/latest").status(404));
    let failed = desk.export(&[format!("{}/library/busybox", proxy.host())]);
    failed.code(1).stderr_contains("the tag was listed a moment ago and is gone now").stderr_contains("--keep-going");
    assert!(!failed.stderr().contains("spelling"), "{}", failed.stderr());
    // One that was named may be misspelt.
    desk.export(&[format!("{}/library/busybox:latest", proxy.host())]).code(1).stderr_contains("spelling");
}

/// skopeo issue 1740: digests among the tags made a whole repository fail, also where the rules leave them out.
#[test]
fn rules_choose_among_the_entries_that_are_tags() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let proxy = FaultProxy::start(source.host());
    let digest = sha256(b"x");
    let tags = format!(r#"{{"tags":["1.35",null,"","{digest}","-ot-beta","latest"]}}"#);
    proxy.inject(Rule::on("GET", "/tags/list").answer(200, &[], &tags));
    let repository = format!("{}/library/busybox", proxy.host());
    let all = desk.export(&["--dry-run", &repository]);
    all.success().stderr_contains("warning: ").stderr_contains(&digest).stderr_contains("-ot-beta");
    assert!(all.stdout().contains("library/busybox:latest"), "{}", all.stdout());
    let some = desk.export(&["--dry-run", "--include", "1.*", &repository]);
    assert!(!some.success().stdout().contains("latest"), "{}", some.stdout());
    for include in ["--include=sha256:*", "--include=-ot-*"] {
        let none = desk.export(&[include, &repository]);
        none.code(1).stderr_contains("none of the 2 tags").stderr_contains("library/busybox");
    }
    proxy.heal();
    proxy.inject(Rule::on("GET", "/tags/list").answer(200, &[], r#"{"tags":[null]}"#));
    desk.export(&[&repository]).code(1).stderr_contains("has no tags");
}

/// docker-registry takes a manifest whose sizes are false.
#[rstest]
#[case::zero(0)]
#[case::one_less(9)]
#[case::one_more(11)]
fn a_layer_of_another_size_than_its_manifest_says_is_told_with_both(#[case] said: u64) {
    let (source, desk) = (RealRegistry::start(), desk!());
    let layer = b"ten bytes.";
    let digest = push_blob(source.host(), "app", layer);
    let config = json!({"mediaType": "a/b", "digest": push_blob(source.host(), "app", b"{}"), "size": 2});
    let layers = [json!({"mediaType": "c/d", "digest": digest, "size": said})];
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}).to_string();
    put_manifest(source.host(), "app", "1", MANIFEST, manifest.as_bytes());
    let failed = desk.export(&[format!("{}/app:1", source.host())]);
    failed.code(1).stderr_contains(&format!("the manifest says that blob {} has {said} bytes", sha256(layer)));
    failed.stderr_contains("serves 10 bytes").stderr_contains("publisher");
}
