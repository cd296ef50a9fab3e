//! The main job on real registries: registry -> sealed bundle -> registry, nothing changed, nothing sent twice,
//! nothing bad let in.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use rstest::rstest;
use support::{Access, FaultProxy, RealRegistry, Rule, references, skopeo, tags, walk};

#[test]
fn every_byte_arrives_unchanged_fetched_once_and_sent_once() {
    let (source, destination) = (RealRegistry::with_corpus(), RealRegistry::start());
    let desk = support::desk!();
    let references = references();
    assert!(references.len() >= 12);
    let asked: Vec<String> = references.iter().map(|reference| reference.at(source.host())).collect();
    let before = source.access_log().len();
    desk.export(&asked).success();
    let export_log = source.access_log().split_off(before);

    desk.sealift(&["verify", "bundle", "--trust", "allowed_signers"]).success();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/verify-bundle");
    let checked = Command::new(script).args(["bundle", "allowed_signers"]).current_dir(desk.path()).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));

    desk.import("bundle", destination.host(), &[]).success();
    let import_log = destination.access_log();

    let untagged: Vec<(&str, &str)> = references
        .iter()
        .filter(|reference| !reference.is_tagged())
        .map(|reference| (reference.repository.as_str(), reference.digest.as_str()))
        .collect();
    let (there, here) = (walk(source.host(), &untagged), walk(destination.host(), &untagged));
    assert!(here.lies().is_empty());
    assert_eq!(there, here);

    for (digest, times) in blob_count(&export_log, |access| access.method == "GET" && access.path.contains("/blobs/")) {
        assert_eq!(times, 1, "{digest} was fetched {times} times");
    }
    let sent = blob_count(&import_log, |access| access.method == "PUT" && access.path.contains("/blobs/uploads/"));
    assert!(!sent.is_empty());
    for (digest, times) in sent {
        assert_eq!(times, 1, "{digest} was sent {times} times");
    }

    // Again: nothing is left to send.
    let before = destination.access_log().len();
    desk.import("bundle", destination.host(), &[]).success();
    let again = destination.access_log().split_off(before);
    assert!(blob_count(&again, |access| access.method == "PUT" && access.path.contains("/uploads/")).is_empty());
}

#[test]
fn a_bundle_is_a_layout_that_skopeo_reads() {
    let (source, destination) = (RealRegistry::with_corpus(), RealRegistry::start());
    let desk = support::desk!();
    let image =
        references().into_iter().find(|r| r.is_tagged() && r.has("platforms")).expect("an OCI index in the corpus");
    desk.export(&[image.at(source.host())]).success();
    let from = format!("oci:{}:{}", desk.path().join("bundle").display(), image.name());
    let to = format!("docker://{}/copied:1", destination.host());
    let copied = skopeo(&["copy", "--all", "--dest-tls-verify=false", &from, &to]);
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    assert_eq!(walk(destination.host(), &[]).tags[&("copied".to_owned(), "1".to_owned())], image.digest);
}

#[test]
fn a_repository_without_a_tag_means_every_tag() {
    let (source, destination) = (RealRegistry::with_corpus(), RealRegistry::start());
    let desk = support::desk!();
    let repository = "team/app";
    desk.export(&[format!("{}/{repository}", source.host())]).success();
    desk.import("bundle", &format!("{}/mirror", destination.host()), &[]).success();
    let expected = tags(source.host(), repository);
    assert!(expected.len() > 1);
    assert_eq!(tags(destination.host(), &format!("mirror/{repository}")), expected);
}

/// What is done to a good bundle, and what the refusal must say.
#[rstest]
#[case::wrong_key("", "nobody who is trusted signed")]
#[case::no_signature("rm signatures/*", "is not signed")]
#[case::edited_checksums("sed -i 's/^0/1/;s/^a/b/;s/^5/6/' SHA256SUMS", "SHA256SUMS")]
#[case::edited_index("sed -i 's/:1/:2/' index.json", "index.json")]
#[case::edited_descriptor("sed -i 's/sealift/evil/' bundle.json", "bundle.json")]
#[case::edited_manifest(r#"sed -i '1s/^{/{ /' "$(grep -l '"layers"' blobs/sha256/* | head -n 1)""#, "blobs/sha256/")]
#[case::missing_layer(r#"rm "$(ls -S blobs/sha256/* | head -n 1)""#, "missing")]
#[case::missing_config(r#"rm "$(grep -l '"rootfs"' blobs/sha256/* | head -n 1)""#, "missing")]
#[case::extra_file("echo > surprise", "surprise")]
#[case::extra_blob("echo > blobs/sha256/0000000000000000000000000000000000000000000000000000000000000000", "00000000")]
#[case::truncated_layer(r#"truncate -s -1 "$(ls -S blobs/sha256/* | head -n 1)""#, "bytes")]
#[case::linked_layer(r#"f="$(ls -S blobs/sha256/* | head -n 1)"; mv "$f" /tmp/sealift-test-$$; ln -s /tmp/sealift-test-$$ "$f"; rm /tmp/sealift-test-$$"#, "link")]
fn a_bad_bundle_is_refused_before_any_writing_request(#[case] attack: &str, #[case] reason: &str) {
    let (source, destination) = (RealRegistry::with_corpus(), RealRegistry::start());
    let counting = FaultProxy::start(destination.host());
    let desk = support::desk!();
    desk.export(&[busybox(&source)]).success();
    desk.shell("bundle", attack);
    if attack.is_empty() {
        let line = desk.sealift(&["keygen", "other", "--principal", "other@example.com"]).success().stdout();
        fs::write(desk.path().join("allowed_signers"), line).unwrap();
    }
    let refused = desk.import("bundle", counting.host(), &[]);
    refused.code(3).stderr_contains(reason);
    let writes: Vec<_> =
        counting.requests().into_iter().filter(|r| !["GET", "HEAD"].contains(&r.method.as_str())).collect();
    assert!(writes.is_empty(), "{writes:?}");
    desk.sealift(&["verify", "bundle", "--trust", "allowed_signers"]).code(3);
}

#[rstest]
#[case::as_it_streams(&[])]
#[case::verified_first(&["--verify-first"])]
fn a_flipped_layer_leaves_no_manifest_and_no_tag(#[case] options: &[&str]) {
    let (source, destination) = (RealRegistry::with_corpus(), RealRegistry::start());
    let counting = FaultProxy::start(destination.host());
    let desk = support::desk!();
    desk.export(&[busybox(&source)]).success();
    desk.flip_largest_blob("bundle");
    let refused = desk.import("bundle", counting.host(), options);
    refused.code(3).stderr_contains("blobs/sha256/");
    assert_eq!(counting.count("PUT", "/manifests/"), 0);
    if !options.is_empty() {
        assert_eq!(counting.count("POST", "") + counting.count("PUT", "") + counting.count("PATCH", ""), 0);
    }
    assert!(
        support::catalog(destination.host()).iter().all(|repository| tags(destination.host(), repository).is_empty())
    );
}

#[test]
fn without_trust_nothing_is_imported() {
    let desk = support::desk!();
    desk.sealift(&["import", "bundle", "127.0.0.1:1"]).code(2).stderr_contains("--trust");
    desk.sealift(&["verify", "bundle"]).code(2).stderr_contains("--trust");
}

#[rstest]
#[case::cut(Rule::on("GET", "/blobs/").cut_response(100_000).times(3))]
#[case::reset(Rule::on("GET", "/blobs/").reset_response(300_000).times(2))]
#[case::unavailable(Rule::on("GET", "/blobs/").status(503).times(2))]
#[case::no_ranges(Rule::on("GET", "/blobs/").cut_response(100_000).without_range().times(2))]
fn a_broken_download_is_resumed(#[case] fault: Rule) {
    let source = RealRegistry::with_corpus();
    let proxy = FaultProxy::start(source.host());
    let desk = support::desk!();
    proxy.inject(fault);
    desk.export(&[support::busybox(proxy.host())]).success();
    desk.sealift(&["verify", "bundle", "--trust", "allowed_signers"]).success();
}

#[rstest]
#[case::cut(Rule::on("PUT", "/uploads/").cut_request(100_000).times(2))]
#[case::reset(Rule::on("PUT", "/uploads/").reset_request(100_000).times(2))]
#[case::unavailable(Rule::on("PUT", "/uploads/").status(503).times(2))]
#[case::lost_answer(Rule::on("PUT", "/uploads/").lose_answer().times(2))]
fn a_broken_upload_is_tried_again(#[case] fault: Rule) {
    let (source, destination) = (RealRegistry::with_corpus(), RealRegistry::start());
    let proxy = FaultProxy::start(destination.host());
    let desk = support::desk!();
    desk.export(&[busybox(&source)]).success();
    proxy.inject(fault);
    desk.import("bundle", proxy.host(), &[]).success();
    let wanted = references().into_iter().find(|r| r.repository == "library/busybox").unwrap();
    let key = (wanted.repository.clone(), wanted.reference.clone());
    assert_eq!(walk(destination.host(), &[]).tags[&key], wanted.digest);
}

#[test]
fn a_lying_source_seals_nothing() {
    let source = RealRegistry::with_corpus();
    let proxy = FaultProxy::start(source.host());
    let desk = support::desk!();
    proxy.inject(Rule::on("GET", "/blobs/").flip_byte(1000).times(100));
    desk.export(&[support::busybox(proxy.host())]).code(1);
    assert!(!desk.path().join("bundle").exists());
}

#[test]
fn an_interrupted_export_goes_on_and_fetches_nothing_twice() {
    let source = RealRegistry::with_corpus();
    let proxy = FaultProxy::start(source.host());
    let desk = support::desk!();
    let image = references().into_iter().max_by_key(|reference| reference.reaches).unwrap().at(proxy.host());
    proxy.inject(Rule::on("GET", "/blobs/").after(3).status(404).times(1));
    desk.export(&["--jobs", "1", &image]).code(1).stderr_contains("run the same command again");
    assert!(!desk.path().join("bundle").exists());
    let arrived = fs::read_dir(desk.path().join(".bundle.partial/blobs/sha256"))
        .map(|files| {
            files.filter(|file| !file.as_ref().unwrap().file_name().to_string_lossy().starts_with('.')).count()
        })
        .unwrap_or(0);
    assert_eq!(arrived, 3, "what the first run fetched was not kept");
    let documents = proxy.count("GET", "/manifests/");
    proxy.heal();
    proxy.reset_count();
    desk.export(&[&image]).success();
    desk.sealift(&["verify", "bundle", "--trust", "allowed_signers"]).success();
    let blobs = fs::read_dir(desk.path().join("bundle/blobs/sha256")).unwrap().count();
    assert_eq!(proxy.count("GET", "/manifests/"), 0, "the plan was kept");
    assert_eq!(proxy.count("GET", "/blobs/"), blobs - documents - arrived, "what was there was fetched again");
}

#[test]
fn an_existing_output_is_left_alone() {
    let source = RealRegistry::with_corpus();
    let desk = support::desk!();
    fs::create_dir(desk.path().join("bundle")).unwrap();
    fs::write(desk.path().join("bundle/mine"), "x").unwrap();
    desk.export(&[busybox(&source)]).code(1).stderr_contains("exists");
    assert_eq!(fs::read(desk.path().join("bundle/mine")).unwrap(), b"x");
}

#[test]
fn the_same_export_makes_the_same_bytes() {
    let source = RealRegistry::with_corpus();
    let (one, two) = (support::desk!(), support::desk!());
    fs::copy(one.path().join("key"), two.path().join("key")).unwrap();
    for desk in [&one, &two] {
        desk.export(&[busybox(&source)]).success();
    }
    let same =
        Command::new("diff").arg("-r").args([one.path().join("bundle"), two.path().join("bundle")]).status().unwrap();
    assert!(same.success());
}

fn busybox(source: &RealRegistry) -> String {
    support::busybox(source.host())
}

/// How often each digest was asked for by the requests that `counts` picks.
fn blob_count(log: &[Access], counts: impl Fn(&Access) -> bool) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for access in log.iter().filter(|access| counts(access) && access.status < 300) {
        let hex = access.path.split("sha256").nth(1).map(|rest| rest.trim_start_matches("%3A").trim_start_matches(':'));
        if let Some(hex) = hex.and_then(|hex| hex.get(..64)) {
            *times.entry(hex.to_owned()).or_default() += 1;
        }
    }
    times
}
