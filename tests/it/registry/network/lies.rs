//! A source whose blobs are not what its manifests say: nothing of it is ever sealed, and so nothing pushed.
//!
//! What the client makes of single answers (lengths, ranges, pages of tags, circles of them) is in
//! `registry_real/downloads.rs`; what an import makes of a bundle that lies is in `journey.rs`.

use rstest::rstest;
use serde_json::Value;
use support::{FaultProxy, RealRegistry, Rule, raw_manifest, references};

use support::{busybox, desk};

/// The largest layer of busybox: its digest and size.
fn layer(host: &str) -> (String, u64) {
    let image = references().into_iter().find(|r| r.repository == "library/busybox").expect("busybox");
    let mut manifest = raw_manifest(host, &image.repository, &image.reference).expect("it is there");
    loop {
        let json: Value = serde_json::from_slice(&manifest.bytes).expect("JSON");
        if let Some(layers) = json["layers"].as_array() {
            let of = |layer: &Value| {
                (layer["digest"].as_str().expect("a digest").to_owned(), layer["size"].as_u64().expect("a size"))
            };
            return layers.iter().map(of).max_by_key(|(_, size)| *size).expect("layers");
        }
        let child = json["manifests"][0]["digest"].as_str().expect("a child").to_owned();
        manifest = raw_manifest(host, &image.repository, &child).expect("it is there");
    }
}

#[rstest]
#[case::shorter(|rule: Rule, size: usize| vec![rule.answer(200, &[], &"x".repeat(size - 1))], "bytes")]
#[case::longer(|rule: Rule, size: usize| vec![rule.answer(200, &[], &"x".repeat(size + 1))], "bytes")]
#[case::other_bytes(|rule: Rule, size: usize| vec![rule.answer(200, &[], &"x".repeat(size))], "digest")]
#[case::flipped(|rule: Rule, size: usize| vec![rule.flip_byte(size as u64 / 2)], "digest")]
#[case::another_part(
    |rule: Rule, size: usize| {
        let range = format!("bytes 0-{}/{size}", size - 1);
        let part = rule.clone().after(1).answer(206, &[("content-range", range.as_str())], &"x".repeat(size));
        vec![rule.cut_response(1000).times(1), part]
    },
    "bytes"
)]
#[case::a_part_of_another_blob(
    |rule: Rule, size: usize| {
        let range = format!("bytes 1000-{}/{size}", size - 1);
        let part = rule.clone().after(1).answer(206, &[("content-range", range.as_str())], &"x".repeat(size - 1000));
        vec![rule.cut_response(1000).times(1), part]
    },
    "digest"
)]
fn a_blob_that_is_not_what_its_descriptor_says_is_never_sealed(
    #[case] rules: fn(Rule, usize) -> Vec<Rule>,
    #[case] reason: &str,
) {
    let source = RealRegistry::with_corpus();
    let (digest, size) = layer(source.host());
    let proxy = FaultProxy::start(source.host());
    for rule in rules(Rule::on("GET", &format!("/blobs/{digest}")), size as usize) {
        proxy.inject(rule);
    }
    let desk = desk!();
    let refused = desk.export(&[busybox(proxy.host())]);
    refused.code(1).stderr_contains(&digest);
    let told = ["does not keep its word about blob", "the manifest says that blob"];
    assert!(told.iter().any(|words| refused.stderr().contains(words)), "{}", refused.stderr());
    refused.stderr_contains(reason).stderr_contains("library/busybox:1.35");
    assert!(!desk.path().join("bundle").exists());
    // What was taken from the liar is not believed later.
    proxy.heal();
    desk.export(&[busybox(proxy.host())]).success();
    desk.sealift(&["verify", "bundle", "--trust", "allowed_signers"]).success();
}

#[test]
fn a_tag_is_read_once_so_that_it_may_move_meanwhile() {
    let source = RealRegistry::with_corpus();
    let proxy = FaultProxy::start(source.host());
    let image = references().into_iter().find(|r| r.has("platforms") && r.is_tagged()).expect("an index");
    let by_tag = format!("/manifests/{}", image.reference);
    // Whoever asks again is told something else.
    proxy.inject(Rule::on("*", &by_tag).after(1).status(404));
    let desk = desk!();
    desk.export(&[image.at(proxy.host())]).success();
    assert_eq!(proxy.count("*", &by_tag), 1);
    let index = std::fs::read_to_string(desk.path().join("bundle/index.json")).expect("an index");
    assert!(index.contains(&image.digest));
}

#[test]
fn what_disappears_while_it_is_read_is_told() {
    let source = RealRegistry::with_corpus();
    let proxy = FaultProxy::start(source.host());
    let desk = desk!();
    proxy.inject(Rule::on("GET", "/blobs/").status(404));
    desk.export(&[busybox(proxy.host())]).code(1).stderr_contains("404").stderr_contains("deleted or pushed anew");
    proxy.heal();
    proxy.inject(Rule::on("GET", "/manifests/sha256:").status(404));
    let image = references().into_iter().find(|r| r.has("platforms") && r.is_tagged()).expect("an index");
    desk.export(&[image.at(proxy.host())]).code(1).stderr_contains("404");
    assert!(!desk.path().join("bundle").exists());
}
