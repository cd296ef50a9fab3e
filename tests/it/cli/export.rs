//! `sealift export`

use std::fs;

use serde_json::Value;

use super::transcript;

#[test]
fn errors_say_what_where_and_what_to_do_next() {
    insta::assert_snapshot!(transcript(&[
        "export",
        "export 127.0.0.1:1/a:1 -o out -k key --retry-times 0",
        "export h.io/UPPER:1 -o out -k key",
        "export h.io/a:1 -o out",
        "export h.io/a:1 -o out -k missing",
        "export h.io/a:1 -o out -k allowed_signers",
        "export a.io/x:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 \
         b.io/x:1@sha256:4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865 -o out -k key",
        "export --from list -o out -k key",
        "export --from nothing -o out -k key",
        "export https://h.io/a:1 -o out -k key",
        "export h.io/a:1 -o sealed -k key",
        "export h.io/a:1 -o sealed -k key --refresh",
        "export h.io/a:1 -o usb/out -k key",
        "export h.io/a:1 -o usb/out.tar -k key",
        "export h.io/a:1 -o usb/out.tar.zst -k key",
        "export h.io/a:1 -o - --compress zstd",
        "export h.io/a:1 -o out --compress zstd -k key",
        "export h.io/a:1 -o out -k key --platform linux",
        "export h.io/a:1 -o out -k key --names flat",
        "export h.io/a --include [ -o out -k key",
        "export h.io/a:1 --from - --username u --password-stdin -o out -k key",
    ]));
}

#[test]
fn nothing_is_asked_for_when_the_output_is_there_or_has_no_place() {
    let (source, desk) = (support::RealRegistry::with_corpus(), support::desk!());
    fs::create_dir(desk.path().join("there")).unwrap();
    fs::write(desk.path().join("there.tar"), "").unwrap();
    fs::write(desk.path().join("there.tar.zst"), "").unwrap();
    let image = support::busybox(source.host());
    for output in ["there", "there.tar", "there.tar.zst", "none/out", "none/out.tar", "none/out.tar.zst"] {
        for more in [&[][..], &["--refresh"], &["--keep-going"]] {
            let run = desk.sealift(&[&["export", &image, "-o", output, "-k", "key"], more].concat());
            run.code(1).stderr_contains("hint: ");
        }
    }
    assert_eq!(source.access_log(), []);
    assert_eq!(fs::read_dir(desk.path()).unwrap().count(), 6, "keys, allowed_signers, and what was there");
}

#[test]
fn no_error_repeats_a_login_that_stands_where_it_does_not_belong() {
    let desk = support::desk!();
    fs::write(desk.path().join("list"), "robot:s3cretPW@h.io/a:1\n").unwrap();
    fs::write(desk.path().join("sync.yaml"), "robot:s3cretPW@h.io:\n  images:\n    a: [\"1\"]\n").unwrap();
    fs::create_dir(desk.path().join("tree")).unwrap();
    let places = ["robot:s3cretPW@h.io/a:1", "http://robot:s3cretPW@h.io/a:1", "docker://robot:s3cretPW@h.io/a:1"];
    let mut runs = vec![
        vec!["export", "--from", "list", "--dry-run"],
        vec!["export", "--from", "sync.yaml", "--dry-run"],
        vec!["sync", "--src", "yaml", "--dest", "dir", "sync.yaml", "new"],
    ];
    for place in places {
        runs.push(vec!["export", place, "--dry-run"]);
        runs.push(vec!["sync", "--src", "docker", "--dest", "dir", place, "new"]);
        runs.push(vec!["sync", "--src", "dir", "--dest", "docker", "tree", place]);
        runs.push(vec!["import", "sealed", place, "--trust", "allowed_signers"]);
        runs.push(vec!["login", place, "-u", "u", "--password-stdin"]);
        runs.push(vec!["logout", place]);
    }
    for arguments in runs {
        let run = desk.sealift(&arguments);
        let said = run.stdout() + &run.stderr();
        assert!(said.starts_with("error: ") && !said.contains("s3cretPW"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_bundle_and_json_do_not_both_go_to_stdout() {
    let desk = support::desk!();
    let run = desk.sealift(&["export", "127.0.0.1:1/a:1", "-o", "-", "-k", "key", "--json"]);
    run.code(2).stderr_contains("both want to go to stdout");
}

#[test]
fn a_name_that_promises_another_archive_makes_no_directory() {
    let desk = support::desk!();
    for output in ["b.tgz", "b.tar.gz", "b.TAR"] {
        let run = desk.sealift(&["export", "127.0.0.1:1/a:1", "-o", output, "-k", "key"]);
        run.code(2).stderr_contains("one file is named .tar or .tar.zst");
    }
}

#[test]
fn a_name_without_a_registry_is_explained() {
    let desk = support::desk!();
    let no_proxy_no_names = [("HTTPS_PROXY", "http://127.0.0.1:1")];
    for image in ["busybox:latest", "latest", "usb/app"] {
        let run = desk.sealift_in(&no_proxy_no_names, &["export", image, "--dry-run", "--retry-times", "0"]);
        run.code(1).stderr_contains("docker.io/").stderr_contains("a name without a registry is Docker Hub's");
    }
    let run =
        desk.sealift_in(&no_proxy_no_names, &["export", "docker.io/busybox:1", "--dry-run", "--retry-times", "0"]);
    assert!(!run.code(1).stderr().contains("Docker Hub's"), "{}", run.stderr());
}

#[test]
fn a_plan_names_the_key_that_would_sign() {
    let (source, desk) = (support::RealRegistry::with_corpus(), support::desk!());
    let arguments = ["export", &support::busybox(source.host()), "--dry-run", "--key", "key"];
    let plan = desk.sealift(&arguments).success().stdout();
    let id = plan.lines().last().unwrap().strip_prefix("It would be signed by key id ").unwrap().trim_end_matches('.');
    let json = desk.sealift(&[&arguments[..], &["--json"]].concat()).success().stdout();
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["signers"][0]["keyId"], id);
    assert_eq!(value["failures"], Value::Array(Vec::new()));
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
