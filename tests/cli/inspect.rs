//! `sealift inspect`

use serde_json::Value;

use crate::transcript;

#[test]
fn errors_say_what_where_and_what_to_do_next() {
    insta::assert_snapshot!(transcript(&[
        "inspect nothing",
        "inspect empty",
        "inspect sealed --trust allowed_signers"
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
