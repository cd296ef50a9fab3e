//! HEAD where it tells little: 401 and 403 for what is not there, and lengths that are none.

use rstest::rstest;
use support::{FaultProxy, HTPASSWD_USER, RealRegistry, Rule, busybox, desk, raw_manifest};

/// Artifactory's virtual repositories (google/go-containerregistry pull request 1691, sigstore/cosign issue 2973; 401:
/// earthly/earthly issue 1017).
#[rstest]
#[case::forbidden(403)]
#[case::unauthorized(401)]
fn an_import_succeeds_where_head_is_denied_for_what_is_not_there(#[case] status: u16) {
    let (source, desk, destination) = (RealRegistry::with_corpus(), desk!(), RealRegistry::start());
    let images = ["library/busybox:1.35", "mirror/eu/busybox:1.35"].map(|name| format!("{}/{name}", source.host()));
    desk.export(&images).success();
    let proxy = FaultProxy::start(destination.host());
    // There is something in one of them, so that everything is asked about.
    desk.import("bundle", destination.host(), &["--only", "library/busybox"]).success();
    let tag = "/v2/mirror/eu/busybox/manifests/1.35";
    proxy.inject(Rule::on("HEAD", "/blobs/").status(status));
    proxy.inject(Rule::on("HEAD", tag).status(status).times(1));
    proxy.inject(Rule::on("GET", tag).status(status).times(1));
    // Not even by this is it new.
    proxy.inject(Rule::on("GET", "/tags/list").status(status));
    desk.import("bundle", proxy.host(), &[]).success();
    assert!(raw_manifest(destination.host(), "mirror/eu/busybox", "1.35").is_some());
    // With --no-clobber nothing is pushed over what cannot be seen.
    proxy.heal();
    proxy.inject(Rule::on("*", tag).status(status));
    proxy.reset_count();
    let kept = desk.import("bundle", proxy.host(), &["--no-clobber"]);
    kept.code(1).stderr_contains("--no-clobber needs to see every tag");
    assert_eq!(proxy.count("PUT", ""), 0);
}

/// What a registry refuses for another reason is told by the push.
#[test]
fn a_login_without_the_right_to_push_is_told_by_the_push() {
    let (source, desk, destination) = (RealRegistry::with_corpus(), desk!(), RealRegistry::start());
    desk.export(&[busybox(source.host())]).success();
    let proxy = FaultProxy::start(destination.host());
    proxy.inject(Rule::on("HEAD", "/v2/library").status(403));
    proxy.inject(Rule::on("POST", "/v2/library").answer(403, &[], "you may only read"));
    let refused = desk.import("bundle", proxy.host(), &[]);
    refused
        .code(1)
        .stderr_contains("cannot upload to")
        .stderr_contains("you may only read")
        .stderr_contains("no right");
    let locked = RealRegistry::with_htpasswd(false);
    let creds = format!("{HTPASSWD_USER}:wrong");
    desk.import("bundle", locked.host(), &["--creds", &creds]).code(1).stderr_contains("sealift login");
}

#[rstest]
#[case::forbidden(403)]
#[case::unauthorized(401)]
fn a_sync_reads_tags_about_which_head_does_not_tell(#[case] status: u16) {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let proxy = FaultProxy::start(source.host());
    proxy.inject(Rule::on("HEAD", "/manifests/").status(status));
    let image = busybox(proxy.host());
    desk.sealift(&["sync", "--src", "docker", "--dest", "dir", "--all", &image, "tree"]).success();
    assert!(desk.path().join("tree/busybox:1.35/manifest.json").exists());
}

/// Caches that announce 0 bytes for every HEAD: varnishcache/varnish-cache issue 4245, mitmproxy issue 659.
#[test]
fn a_content_length_of_zero_is_an_unknown_size() {
    let (source, desk, destination) = (RealRegistry::with_corpus(), desk!(), RealRegistry::start());
    desk.export(&[busybox(source.host())]).success();
    desk.import("bundle", destination.host(), &[]).success();
    let proxy = FaultProxy::start(destination.host());
    proxy.inject(Rule::on("HEAD", "/blobs/").answer(200, &[], ""));
    desk.import("bundle", proxy.host(), &[]).success();
    assert!(proxy.count("HEAD", "/blobs/") > 0);
    assert_eq!(proxy.count("POST", ""), 0, "they are there");
    // Another length is another blob.
    proxy.heal();
    proxy.inject(Rule::on("HEAD", "/blobs/").answer(200, &[], "7 bytes"));
    let wrong = desk.import("bundle", proxy.host(), &[]);
    wrong.code(1).stderr_contains("the manifest says that blob").stderr_contains("serves 7 bytes");
}
