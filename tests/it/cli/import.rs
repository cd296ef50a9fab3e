//! `sealift import`

use rstest::rstest;
use serde_json::{Value, json};
use support::{RealRegistry, catalog, push_blob, put_manifest, raw_manifest, references, tags};

use super::transcript;

#[test]
fn errors_say_what_where_and_what_to_do_next() {
    insta::assert_snapshot!(transcript(&[
        "import sealed",
        "import sealed 127.0.0.1:1",
        "import nothing 127.0.0.1:1 --trust allowed_signers",
        "import empty https://reg.local --trust allowed_signers",
        "import empty reg.local/UPPER --trust allowed_signers",
        "import sealed 127.0.0.1:1 --trust allowed_signers",
        "import reg.local:5000 sealed --trust allowed_signers",
        "import . 127.0.0.1:1 --trust allowed_signers",
        "import key.pub 127.0.0.1:1 --trust allowed_signers",
        "import allowed_signers 127.0.0.1:1 --trust allowed_signers",
        "import own.tar 127.0.0.1:1 --trust allowed_signers",
        "import sealed 127.0.0.1:1 --trust key",
        "import sealed 127.0.0.1:1 --trust none",
        "import sealed 127.0.0.1:1 --trust sealed",
        "import sealed 127.0.0.1:1/library/busybox:1.35 --trust allowed_signers",
        "import - 127.0.0.1:1 --trust allowed_signers",
        "import - 127.0.0.1:1 --trust allowed_signers --username u --password-stdin",
    ]));
}

#[test]
fn a_dry_run_shows_places() {
    let desk = support::desk!();
    desk.sealed_sample("bundle");
    let places = desk.import("bundle", "reg.local:5000/mirror", &["--dry-run"]).success().stdout();
    assert!(places.contains("reg.local:5000/mirror/library/busybox:1.35"), "{places}");
    let json = desk.import("bundle", "reg.local:5000/mirror", &["--dry-run", "--json"]).success().stdout();
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["images"][0]["place"], "reg.local:5000/mirror/library/busybox:1.35");
}

#[rstest]
#[case::whole_name(&["library/busybox:1.35"], &["library/busybox:1.35"])]
#[case::path(&["library/busybox"], &["library/busybox:1.35"])]
#[case::stars(&["team/*:1*", "lib*"], &["library/busybox:1.35", "team/app:1"])]
fn only_what_is_asked_for_lands(
    #[case] patterns: &[&str],
    #[case] expected: &[&str],
    #[values("bundle", "bundle.tar", "bundle.tar.zst")] bundle: &str,
) {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), support::desk!());
    let images: Vec<String> = references().iter().map(|reference| reference.at(source.host())).collect();
    let export = ["export", "--output", bundle, "--key", "key"];
    desk.sealift(&[&export.map(str::to_owned), &images[..]].concat()).success();
    let options: Vec<&str> = patterns.iter().flat_map(|pattern| ["--only", pattern]).collect();
    let answer = desk.import(bundle, destination.host(), &[&["--json"], &options[..]].concat()).success().stdout();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let landed: Vec<String> = catalog(destination.host())
        .iter()
        .flat_map(|repository| {
            let tags = tags(destination.host(), repository);
            tags.into_iter().map(|tag| format!("{repository}:{tag}")).collect::<Vec<_>>()
        })
        .collect();
    for name in expected {
        assert!(landed.iter().any(|there| there == name), "{name} is not in {landed:?}");
    }
    let answered = answer["images"].as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap());
    let mut answered: Vec<&str> = answered.filter(|name| !name.contains("sha256")).collect();
    let mut tagged: Vec<&str> = landed.iter().map(String::as_str).filter(|name| !name.contains("sha256")).collect();
    answered.sort_unstable();
    tagged.sort_unstable();
    assert_eq!(tagged, answered);
    assert!(landed.len() < images.len(), "{landed:?}");
}

#[test]
fn a_pattern_that_matches_nothing_is_an_error_before_anything_is_sent() {
    let (destination, desk) = (RealRegistry::start(), support::desk!());
    desk.sealed_sample("bundle");
    let options = ["--only", "library/*", "--only", "nobody/*"];
    let refused = desk.import("bundle", destination.host(), &options);
    refused.code(2).stderr_contains("nobody/*").stderr_contains("hint: ").stderr_contains("library/busybox:1.35");
    assert!(destination.writes().is_empty());
}

#[test]
fn signatures_come_along_with_what_is_chosen() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), support::desk!());
    let repository = "library/busybox";
    let image = raw_manifest(source.host(), repository, "1.35").unwrap();
    let tag = format!("{}.sig", image.digest.replace(':', "-"));
    let blob = |bytes: &[u8]| {
        let digest = push_blob(source.host(), repository, bytes);
        json!({"mediaType": "application/octet-stream", "digest": digest, "size": bytes.len()})
    };
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let signature =
        json!({"schemaVersion": 2, "mediaType": media_type, "config": blob(b"{}"), "layers": [blob(b"signature")]});
    put_manifest(source.host(), repository, &tag, media_type, signature.to_string().as_bytes());
    let other = references().into_iter().find(|r| r.is_tagged() && r.repository != repository).unwrap();
    desk.export(&[format!("{}/{repository}:1.35", source.host()), other.at(source.host())]).success();
    let table = desk.sealift(&["inspect", "bundle"]).success().stdout();
    assert!(table.contains("  :sha256-") && table.contains("  signature  "), "{table}");

    desk.import("bundle", destination.host(), &["--only", "library/busybox:1.35"]).success();
    assert!(raw_manifest(destination.host(), repository, &tag).is_some());
    assert_eq!(catalog(destination.host()), [repository]);
}
