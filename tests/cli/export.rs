//! `sealift export`

use serde_json::Value;

use crate::transcript;

#[test]
fn errors_say_what_where_and_what_to_do_next() {
    insta::assert_snapshot!(transcript(&[
        "export",
        "export 127.0.0.1:1/a:1 -o out -k key --retry-times 0",
        "export h.io/UPPER:1 -o out -k key",
        "export h.io/a:1 -o out",
        "export h.io/a:1 -o out -k missing",
        "export h.io/a:1 -o out -k allowed_signers",
        "export a.io/x:1 b.io/x:1 -o out -k key",
        "export --from list -o out -k key",
        "export --from nothing -o out -k key",
    ]));
}

#[test]
fn a_program_can_read_the_answer() {
    let (source, desk) = (support::RealRegistry::with_corpus(), support::desk!());
    let images: Vec<String> = support::references().iter().map(|reference| reference.at(source.host())).collect();
    let answer = desk.export(&[&["--json".to_owned()], &images[..]].concat()).success().stdout();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["bundle"], "bundle");
    let sums = std::fs::read(desk.path().join("bundle/SHA256SUMS")).unwrap();
    assert_eq!(answer["identity"], support::sha256(&sums));
    assert_eq!(answer["fetched"]["bytes"], answer["totals"]["bytes"]);
    assert_eq!(answer["failures"], Value::Array(Vec::new()));
    let sizes = answer["images"].as_array().unwrap().iter().map(|image| image["size"].as_u64().unwrap());
    let alone: u64 = sizes.sum();
    let totals = &answer["totals"];
    let (bytes, saved) = (totals["bytes"].as_u64().unwrap(), totals["bytesSavedBySharing"].as_u64().unwrap());
    assert!(saved > 0 && bytes + saved == alone, "{totals}");
}

#[test]
fn a_dry_run_shows_names_and_writes_nothing() {
    let desk = support::desk!();
    let image = desk.sealed_sample("bundle");
    let before = std::fs::read_dir(desk.path()).unwrap().count();
    let plan = desk.sealift(&["export", "--dry-run", "--scoped", &image.reference]).success().stdout();
    assert!(plan.contains(&image.reference.replacen(':', "_", 1)), "{plan}");
    assert_eq!(std::fs::read_dir(desk.path()).unwrap().count(), before);
}
