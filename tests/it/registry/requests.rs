//! How much registries are asked: each thing once, and nothing of which the answer is known.

use std::collections::BTreeMap;

use rstest::rstest;
use support::{Access, Desk, RealRegistry, desk, references};

/// How often each of these requests came; keyed by method and path, or by what `key` makes of it.
fn counts(log: &[Access], key: impl Fn(&Access) -> Option<String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for key in log.iter().filter_map(key) {
        *counts.entry(key).or_default() += 1;
    }
    counts
}

/// `METHOD PATH` of requests with that method and that in their path.
fn asked<'a>(method: &'a str, part: &'a str) -> impl Fn(&Access) -> Option<String> + 'a {
    move |a| (a.method == method && a.path.contains(part)).then(|| format!("{method} {}", a.path))
}

/// The digest at the end of a path, so that one thing in two repositories is one thing.
fn digest(method: &'static str, part: &'static str) -> impl Fn(&Access) -> Option<String> {
    move |a| {
        let (path, _) = a.path.split_once('?').unwrap_or((&a.path, ""));
        let (before, digest) = path.rsplit_once('/')?;
        (a.method == method && before.ends_with(part) && digest.starts_with("sha256:")).then(|| digest.to_owned())
    }
}

fn at_most_once(counts: &BTreeMap<String, usize>) {
    let again: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(!counts.is_empty() && again.is_empty(), "{again:?}");
}

/// Requests of that method with that in their path.
fn count(log: &[Access], method: &str, part: &str) -> usize {
    log.iter().filter(|a| a.method == method && a.path.contains(part)).count()
}

fn mounts_from_another(access: &Access) -> bool {
    let parts = access.path.strip_prefix("/v2/").and_then(|path| path.split_once("/blobs/uploads/?mount="));
    parts.is_some_and(|(to, query)| !query.ends_with(&format!("&from={to}")))
}

/// The whole corpus in `bundle`; returns what the source was asked.
fn export_everything(desk: &Desk) -> Vec<Access> {
    let source = RealRegistry::with_corpus();
    let images: Vec<String> = references().iter().map(|r| r.at(source.host())).collect();
    desk.export(&images).success();
    source.access_log()
}

#[test]
fn an_export_reads_each_manifest_each_blob_and_each_list_of_tags_once() {
    let source = RealRegistry::with_corpus();
    // What is named by tag: a manifest that is named by its digest as well may be read for both.
    let images: Vec<String> = references().iter().filter(|r| r.is_tagged()).map(|r| r.at(source.host())).collect();
    desk!().export(&images).success();
    let log = source.access_log();
    at_most_once(&counts(&log, digest("GET", "blobs")));
    at_most_once(&counts(&log, asked("GET", "/manifests/")));
    at_most_once(&counts(&log, digest("GET", "manifests")));
    at_most_once(&counts(&log, asked("GET", "/tags/list")));
    // It does not know that API, and says so once.
    assert_eq!(count(&log, "GET", "/referrers/"), 1);
    assert_eq!(count(&log, "HEAD", ""), 0);
}

#[test]
fn an_import_into_a_new_registry_asks_about_a_blob_once_and_pushes_each_thing_once() {
    let (desk, destination) = (desk!(), RealRegistry::start());
    let blobs = counts(&export_everything(&desk), digest("GET", "blobs")).len();
    desk.import("bundle", destination.host(), &[]).success();
    let log = destination.access_log();
    // Where everything is new, a mount needs no question before it; a small blob is asked for by the request that opens
    // its upload, a large one by HEAD. Of a repository in which no tag is to land nobody can tell.
    let by_post = count(&log, "POST", "mount=") - log.iter().filter(|a| mounts_from_another(a)).count();
    let pinned = count(&log, "HEAD", "/team/pinned/blobs/");
    let by_head = count(&log, "HEAD", "/blobs/") - pinned;
    assert!(by_post > 10 && by_post > 4 * by_head, "{by_post} by POST, {by_head} by HEAD");
    assert!((blobs..=blobs + pinned).contains(&(by_post + by_head + pinned)), "{by_post}, {by_head}, {pinned}");
    let opened_plainly = log.iter().filter(|a| a.method == "POST" && !a.path.contains("mount=")).count();
    assert_eq!(opened_plainly + by_post, blobs);
    at_most_once(&counts(&log, |a| {
        let (path, query) = a.path.split_once('?').unwrap_or((&a.path, ""));
        let digest = query.strip_prefix("mount=").and_then(|query| query.split('&').next());
        match (a.method.as_str(), digest) {
            ("HEAD", _) if path.contains("/blobs/") => Some(path.to_owned()),
            ("POST", Some(digest)) if !mounts_from_another(a) => Some(path.replace("uploads/", digest)),
            _ => None,
        }
    }));
    assert_eq!(count(&log, "PUT", "/blobs/uploads/"), blobs);
    at_most_once(&counts(&log, asked("PUT", "/manifests/")));
    at_most_once(&counts(&log, asked("GET", "/tags/list")));
}

#[test]
fn an_import_of_what_is_there_writes_nothing() {
    let (desk, destination) = (desk!(), RealRegistry::start());
    export_everything(&desk);
    desk.import("bundle", destination.host(), &[]).success();
    let before = destination.access_log().len();
    desk.import("bundle", destination.host(), &[]).success();
    let again = &destination.access_log()[before..];
    let writes: Vec<_> = again.iter().filter(|a| a.method == "POST" || a.path.contains("/uploads/")).collect();
    assert!(writes.is_empty(), "{writes:?}");
    at_most_once(&counts(again, asked("HEAD", "/blobs/")));
}

#[test]
fn a_blob_that_a_known_repository_has_is_mounted_into_a_new_one() {
    let (desk, source, destination) = (desk!(), RealRegistry::with_corpus(), RealRegistry::start());
    let images = references();
    let find = |repository: &str| {
        images.iter().find(|r| r.repository == repository && r.reference == "1.35").expect("in the corpus")
    };
    // One image in two repositories; what is sent goes to the first by name, which is not the known one.
    let (new, known) = (find("library/busybox"), find("mirror/eu/busybox"));
    assert_eq!(new.digest, known.digest);
    desk.export(&[known.at(source.host())]).success();
    desk.import("bundle", destination.host(), &[]).success();
    let before = destination.access_log().len();
    let export = ["export", &new.at(source.host()), &known.at(source.host()), "--output", "both", "--key", "key"];
    desk.sealift(&export).success();
    desk.import("both", destination.host(), &[]).success();
    let log = destination.access_log();
    assert_eq!(count(&log[before..], "PUT", "/blobs/uploads/"), 0);
    assert!(count(&log[before..], "POST", "mount=") > 0);
}

#[rstest]
#[case::from_a_directory("bundle")]
#[case::as_it_streams_by("bundle.tar.zst")]
fn what_an_interrupted_import_left_in_a_repository_without_tags_is_not_sent_again(#[case] bundle: &str) {
    let (desk, source, destination) = (desk!(), RealRegistry::with_corpus(), RealRegistry::start());
    let images = references();
    let image = images.iter().find(|r| r.repository == "library/busybox" && r.reference == "1.35").expect("busybox");
    desk.sealift(&["export", &image.at(source.host()), "--output", bundle, "--key", "key"]).success();
    // The last tag is refused, so that blobs and children are there and no tag is.
    let proxy = support::FaultProxy::start(destination.host());
    proxy.inject(support::Rule::on("PUT", &format!("/manifests/{}", image.reference)).status(403));
    desk.import(bundle, proxy.host(), &[]).code(1);
    let counted = || (proxy.count("PUT", "/blobs/uploads/"), proxy.count("PUT", "/manifests/sha256:"));
    let sent = counted();
    assert!(sent.0 > 0 && sent.1 > 0);
    proxy.heal();
    let again = desk.import(bundle, proxy.host(), &["--json"]);
    again.success();
    assert_eq!(counted(), sent);
    let answer: serde_json::Value = serde_json::from_str(&again.stdout()).expect("JSON");
    assert_eq!((&answer["sent"]["blobs"], &answer["alreadyThere"]), (&0.into(), &sent.0.into()), "{answer}");
}
