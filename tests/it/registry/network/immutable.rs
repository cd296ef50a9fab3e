//! Tags that are there already.

use rstest::rstest;
use support::{FaultProxy, RealRegistry, Rule, put_manifest, references, tags};

use support::{Desk, busybox, desk};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn tag() -> (String, String) {
    let image = references().into_iter().find(|r| r.repository == "library/busybox").expect("busybox");
    (image.repository, image.reference)
}

fn bundle_of_busybox() -> Desk {
    let source = RealRegistry::with_corpus();
    let desk = desk!();
    desk.export(&[busybox(source.host())]).success();
    desk
}

/// Makes the tag be something else.
fn occupy(registry: &RealRegistry) {
    let (repository, tag) = tag();
    let other = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[]}}"#);
    put_manifest(registry.host(), &repository, &tag, INDEX, other.as_bytes());
}

#[test]
fn a_tag_that_is_right_already_is_not_written_again() {
    let destination = RealRegistry::start();
    let proxy = FaultProxy::start(destination.host());
    let desk = bundle_of_busybox();
    desk.import("bundle", proxy.host(), &[]).success();
    let put = format!("/manifests/{}", tag().1);
    assert_eq!(proxy.count("PUT", &put), 1);
    proxy.inject(Rule::on("PUT", &put).answer(409, &[], "TAG_IMMUTABLE"));
    for options in [&[][..], &["--no-clobber"]] {
        proxy.reset_count();
        desk.import("bundle", proxy.host(), options).success();
        assert_eq!(proxy.count("PUT", &put), 0);
    }
}

#[test]
fn with_no_clobber_a_tag_that_would_be_moved_is_an_error_before_the_first_push() {
    let destination = RealRegistry::start();
    occupy(&destination);
    let before = destination.writes().len();
    let desk = bundle_of_busybox();
    let (repository, tag) = tag();
    desk.import("bundle", destination.host(), &["--no-clobber"])
        .code(1)
        .stderr_contains(&format!("{}/{repository}:{tag} is sha256:", destination.host()))
        .stderr_contains("nothing was pushed");
    assert_eq!(destination.writes().len(), before);
    // Below a prefix there is room, and without the option it is moved.
    desk.import("bundle", &format!("{}/other", destination.host()), &["--no-clobber"]).success();
    assert_eq!(tags(destination.host(), &format!("other/{repository}")), [tag]);
    desk.import("bundle", destination.host(), &[]).success();
}

#[rstest]
#[case::harbor(412, r#"{"errors":[{"code":"PRECONDITION","message":"configured as immutable"}]}"#)]
#[case::quay(409, r#"{"errors":[{"code":"TAG_IMMUTABLE","message":""}]}"#)]
#[case::ecr(400, r#"{"errors":[{"code":"TAG_INVALID","message":"the tag already exists and cannot be overwritten"}]}"#)]
#[case::others(403, r#"{"errors":[{"code":"DENIED","message":"tag is immutable"}]}"#)]
// GoogleContainerTools/jib#3057
#[case::nexus(400, r#"{"errors":[{"code":"BLOB_UPLOAD_INVALID","message":"blob upload invalid","detail":"Repository does not allow updating assets: docker"}]}"#)]
#[case::artifactory(
    403,
    r#"{"errors":[{"code":"DENIED","message":"Not enough permissions to delete/overwrite artifact 'manifest.json'"}]}"#
)]
// https://www.alibabacloud.com/help/doc-detail/186029.htm
#[case::alibaba(
    404,
    r#"{"errors":[{"code":"DENIED","message":"The requested tag already exists and cannot be overwritten."}]}"#
)]
// https://docs.mirantis.com/msr/current/ops/manage-images/prevent-tags-from-being-overwritten.html
#[case::mirantis(500, r#"{"errors":[{"code":"UNKNOWN","message":"tag=1 cannot be overwritten because library/busybox is an immutable repository"}]}"#)]
#[case::azure(
    405,
    r#"{"errors":[{"code":"DENIED","message":"The operation is disallowed on this registry, repository or image."}]}"#
)]
fn a_registry_that_keeps_its_tags_is_understood(#[case] status: u16, #[case] body: &str) {
    let destination = RealRegistry::start();
    occupy(&destination);
    let proxy = FaultProxy::start(destination.host());
    proxy.inject(Rule::on("PUT", &format!("/manifests/{}", tag().1)).answer(status, &[], body));
    let desk = bundle_of_busybox();
    let refused = desk.import("bundle", proxy.host(), &[]);
    refused.code(1).stderr_contains("does not let").stderr_contains("tags are immutable there");
    assert_eq!(proxy.count("PUT", &format!("/manifests/{}", tag().1)), 1, "it is no use to try again");
}

/// Artifactory does not say why (GoogleContainerTools/kaniko#1095).
#[rstest]
fn a_tag_that_is_there_may_be_why_a_registry_refuses_without_words(#[values(403, 404)] status: u16) {
    let destination = RealRegistry::start();
    occupy(&destination);
    let proxy = FaultProxy::start(destination.host());
    let body = r#"{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid"}]}"#;
    proxy.inject(Rule::on("PUT", &format!("/manifests/{}", tag().1)).answer(status, &[], body));
    let refused = bundle_of_busybox().import("bundle", proxy.host(), &[]);
    refused.code(1).stderr_contains("manifest invalid").stderr_contains("tags may be immutable there");
}

#[test]
fn a_conflict_about_a_tag_that_is_not_there_is_not_taken_for_that() {
    let destination = RealRegistry::start();
    let proxy = FaultProxy::start(destination.host());
    proxy.inject(Rule::on("PUT", &format!("/manifests/{}", tag().1)).answer(409, &[], "path prefix is taken"));
    let refused = bundle_of_busybox().import("bundle", proxy.host(), &[]);
    refused.code(1).stderr_contains("409 Conflict: \"path prefix is taken\"");
    assert!(!refused.stderr().contains("immutable"), "{}", refused.stderr());
}
