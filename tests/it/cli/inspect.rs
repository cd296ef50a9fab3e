//! `sealift inspect`

use rstest::rstest;
use serde_json::Value;

use super::transcript;

#[test]
fn errors_say_what_where_and_what_to_do_next() {
    insta::assert_snapshot!(transcript(&[
        "inspect nothing",
        "inspect empty",
        "inspect sealed --trust allowed_signers",
        "inspect .",
        "inspect own.tar",
        "inspect key",
    ]));
}

#[test]
fn without_trust_it_says_unverified_first() {
    let desk = support::desk!();
    desk.sealed_sample("bundle");
    let text = desk.sealift(&["inspect", "bundle"]).success().stdout();
    assert!(text.starts_with("UNVERIFIED"), "{text}");
    let json = desk.sealift(&["inspect", "bundle", "--json"]).success().stdout();
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["verified"], false);
    let trusted = desk.sealift(&["inspect", "bundle", "--json", "--trust", "allowed_signers"]).success().stdout();
    let value: Value = serde_json::from_str(&trusted).unwrap();
    assert_eq!(value["verified"], true);
    assert_eq!(value["signers"][0]["principals"][0], "exporter@example.com");
    assert_eq!(value["totals"]["images"], 1);
}

#[rstest]
#[case::directory("out")]
#[case::archive("out.tar")]
#[case::compressed("out.tar.zst")]
fn a_single_image_says_its_platform(#[case] output: &str) {
    let (source, desk) = (support::RealRegistry::with_corpus(), support::desk!());
    let image = format!("{}/team/app:1", source.host());
    let plan = desk.sealift(&["export", "--dry-run", &image]).success().stdout();
    assert!(plan.contains("    for linux/amd64\n"), "{plan}");
    desk.sealift(&["export", &image, "-o", output, "-k", "key"]).success();
    for trust in [&[][..], &["--trust", "allowed_signers"]] {
        let text = desk.sealift(&[&["inspect", output], trust].concat()).success().stdout();
        assert!(text.contains("    for linux/amd64\n"), "{text}");
    }
    let json = desk.sealift(&["verify", output, "--trust", "allowed_signers", "--json"]).success().stdout();
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["images"][0]["platforms"], serde_json::json!(["linux/amd64"]));
}

#[test]
fn the_whole_corpus_fits_100_columns() {
    let source = support::RealRegistry::with_corpus();
    let desk = support::desk!();
    let images: Vec<String> = support::references().iter().map(|reference| reference.at(source.host())).collect();
    let plan = desk.sealift(&[&["export", "--dry-run", "--scoped"].map(String::from)[..], &images].concat());
    let plan = plan.success().stdout();
    assert!(plan.lines().all(|line| line.chars().count() <= 100), "{plan}");
    assert!(plan.contains("saved by sharing") || plan.contains("more without sharing"), "{plan}");
}
