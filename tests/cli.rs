//! What people read: helps that teach, errors that say what to do next.

use std::fs;

use rstest::rstest;

#[rstest]
#[case("keygen")]
#[case("export")]
#[case("verify")]
#[case("inspect")]
#[case("import")]
#[case("serve")]
fn every_help_shows_an_example(#[case] command: &str) {
    let help = support::desk!().sealift(&[command, "--help"]).success().stdout();
    assert!(help.contains("Example") && help.contains(&format!("sealift {command}")), "{help}");
    assert!(help.lines().all(|line| line.len() <= 120), "{help}");
}

#[test]
fn the_top_help_moves_one_image_from_end_to_end() {
    let help = support::desk!().sealift(&["--help"]).success().stdout();
    for word in ["sealift keygen", "sealift export", "sealift import", "allowed_signers", "Exit codes"] {
        assert!(help.contains(word), "{word} is not in\n{help}");
    }
}

/// The arguments, the exit code, what the error says, and what to do next.
#[rstest]
#[case::no_registry("export 127.0.0.1:1/a:1 -o out -k key", 1, "127.0.0.1:1", "hint: ")]
#[case::bad_reference("export h.io/UPPER:1 -o out -k key", 2, "UPPER", "hint: write REGISTRY/REPOSITORY:TAG")]
#[case::no_key("export h.io/a:1 -o out -k missing", 1, "missing", "hint: ")]
#[case::not_a_key("export h.io/a:1 -o out -k allowed_signers", 2, "allowed_signers", "hint: ")]
#[case::no_bundle("verify nothing --trust allowed_signers", 1, "nothing", "hint: check the path")]
#[case::no_trust_file("verify empty --trust nothing", 1, "nothing", "hint: ")]
#[case::empty_directory("verify empty --trust allowed_signers", 3, "SHA256SUMS", "hint: ")]
#[case::url_target(
    "import empty https://reg.local --trust allowed_signers",
    2,
    "https://reg.local",
    "hint: name the registry as"
)]
#[case::collision("export a.io/x:1 b.io/x:1 -o out -k key", 2, "a.io/x:1", "hint: export with --scoped")]
#[case::list("export --from list -o out -k key", 2, "list, line 2", "hint: a list has one image reference a line")]
#[case::key_exists("keygen key", 2, "key", "hint: choose another path")]
#[case::sealed_serve("serve sealed", 2, "no trust given", "hint: give --trust")]
fn errors_say_what_where_and_what_to_do_next(
    #[case] line: &str,
    #[case] code: i32,
    #[case] what: &str,
    #[case] next: &str,
) {
    let desk = support::desk!();
    fs::create_dir(desk.path().join("empty")).unwrap();
    fs::write(desk.path().join("list"), "h.io/a:1\nnot a reference\n").unwrap();
    desk.shell(".", "mkdir -p sealed/blobs/sha256; cd sealed; printf '{\"imageLayoutVersion\":\"1.0.0\"}' > oci-layout; printf '{\"schemaVersion\":2,\"manifests\":[]}' > index.json; touch SHA256SUMS");
    let arguments: Vec<&str> = line.split(' ').collect();
    desk.sealift(&[&arguments[..], &["--quiet"]].concat()).code(code).stderr_contains(what).stderr_contains(next);
}

#[test]
fn inspect_without_trust_says_unverified_first() {
    let desk = support::desk!();
    desk.sealed_sample("bundle");
    let text = desk.sealift(&["inspect", "bundle"]).success().stdout();
    assert!(text.starts_with("UNVERIFIED"), "{text}");
    let json = desk.sealift(&["inspect", "bundle", "--json"]).success().stdout();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["verified"], false);
    let trusted = desk.sealift(&["inspect", "bundle", "--json", "--trust", "allowed_signers"]).success().stdout();
    let value: serde_json::Value = serde_json::from_str(&trusted).unwrap();
    assert_eq!(value["verified"], true);
    assert_eq!(value["signers"][0]["principals"][0], "exporter@example.com");
    assert_eq!(value["totals"]["images"], 1);
}

#[test]
fn a_dry_run_shows_names_and_places_and_writes_nothing() {
    let desk = support::desk!();
    let image = desk.sealed_sample("bundle");
    let plan = desk.sealift(&["export", "--dry-run", "--scoped", &image.reference]).success().stdout();
    assert!(plan.contains(&image.reference.replacen(':', "_", 1)), "{plan}");
    let places = desk.import("bundle", "reg.local:5000/mirror", &["--dry-run"]).success().stdout();
    assert!(places.contains("reg.local:5000/mirror/library/busybox:1.35"), "{places}");
}
