//! Files that a user writes or names: what is wrong with them is told in words that help.

use std::fs;

use rstest::rstest;
use support::desk;

#[rstest]
#[case::with_a_mark(b"\xff\xfe", u16::to_le_bytes, "UTF-16 text", "iconv -f UTF-16 -t UTF-8")]
#[case::big_endian(b"\xfe\xff", u16::to_be_bytes, "UTF-16 text", "iconv -f UTF-16 -t UTF-8")]
#[case::without_a_mark(b"", u16::to_le_bytes, "UTF-16LE text", "iconv -f UTF-16LE -t UTF-8")]
#[case::big_endian_without_a_mark(b"", u16::to_be_bytes, "UTF-16BE text", "iconv -f UTF-16BE -t UTF-8")]
fn a_list_in_utf_16_is_recognised(
    #[case] mark: &[u8],
    #[case] encode: fn(u16) -> [u8; 2],
    #[case] said: &str,
    #[case] advised: &str,
) {
    let desk = desk!();
    let encoded = |text: &str| [mark.to_vec(), text.encode_utf16().flat_map(encode).collect()].concat();
    fs::write(desk.path().join("list.txt"), encoded("127.0.0.1:1/app:1\r\n")).unwrap();
    fs::write(desk.path().join("sync.yaml"), encoded("127.0.0.1:1:\n  images: {app: []}\n")).unwrap();
    for line in [
        &["export", "--dry-run", "--from", "list.txt"][..],
        &["export", "--dry-run", "--from", "sync.yaml"],
        &["sync", "-s", "yaml", "-d", "dir", "sync.yaml", "tree"],
    ] {
        desk.sealift(line).code(2).stderr_contains(said).stderr_contains(advised).stderr_contains("PowerShell");
    }
}

#[test]
fn a_list_in_another_encoding_is_told_where_it_differs() {
    let desk = desk!();
    fs::write(desk.path().join("list"), b"# gr\xf6\xdfe\n127.0.0.1:1/app:1\n").unwrap();
    desk.sealift(&["export", "--dry-run", "--from", "list"]).code(2).stderr_contains("byte 4").stderr_contains("iconv");
}

#[rstest]
#[case::a_list_of_lists("images: {app: [['1']]}", "one text belongs here, and this is a list or a mapping")]
#[case::expressions("images-by-tag-regex: {app: ['^1', '^2']}", "one text belongs here")]
#[case::versions("images-by-semver: {app: ['>1']}", "one text belongs here")]
#[case::cert_dir("cert-dir: [certs]", "one text belongs here")]
#[case::tls_verify("tls-verify: [true]", "here stands true or false")]
#[case::password("credentials: {username: [planted]}", "not a text")]
fn a_yaml_list_where_a_text_belongs_is_told_so(#[case] entry: &str, #[case] said: &str) {
    let desk = desk!();
    fs::write(desk.path().join("sync.yaml"), format!("127.0.0.1:1:\n  {entry}\n")).unwrap();
    let refused = desk.sealift(&["export", "--dry-run", "--from", "sync.yaml"]);
    refused.code(2).stderr_contains("sync.yaml, line 2").stderr_contains(said);
    assert!(!refused.stderr().contains("planted") && !refused.stderr().contains("scalar"), "{}", refused.stderr());
}

#[rstest]
#[case("usb/app.tar.gz", "write usb/app.tar.zst for a compressed bundle, or usb/app.tar")]
#[case("app.tgz", "write app.tar.zst for a compressed bundle, or app.tar")]
#[case("app.TAR.ZST", "write app.tar.zst for a compressed bundle, or app.tar")]
fn an_archive_that_is_not_made_comes_with_one_that_is(#[case] output: &str, #[case] advised: &str) {
    let desk = desk!();
    let run = desk.sealift(&["export", "127.0.0.1:1/a:1", "-o", output, "-k", "key"]);
    run.code(2).stderr_contains(output).stderr_contains(advised);
}

/// Manifests beyond 8 MiB go to a temporary file.
#[test]
fn a_missing_directory_for_temporary_files_is_named() {
    let (desk, source) = (desk!(), support::RealRegistry::start());
    let mut line = vec!["export".to_owned(), "--dry-run".into(), "--no-referrers".into()];
    for n in 0..3 {
        let repository = format!("team/large{n}");
        let padding = "x".repeat(3 << 20);
        let config = support::push_blob(source.host(), &repository, b"{}");
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "padding": padding, "n": n,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2}, "layers": [],
        });
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        support::put_manifest(source.host(), &repository, "1", media_type, manifest.to_string().as_bytes());
        line.push(format!("{}/{repository}:1", source.host()));
    }
    let run = desk.sealift_in(&[("TMPDIR", "/nonexistent/tmp")], &line);
    run.code(1).stderr_contains("cannot write the temporary file of manifests in /nonexistent/tmp");
    run.stderr_contains("hint: there is no directory /nonexistent/tmp, where TMPDIR points: make it, or set TMPDIR");
    assert!(!run.stderr().contains("whether the medium is mounted"), "{}", run.stderr());
    desk.sealift(&line).success();
}

#[test]
fn a_sync_and_an_export_explain_a_registry_without_a_repository_and_a_name_without_a_registry() {
    let desk = desk!();
    let no_proxy = [("HTTPS_PROXY", "http://127.0.0.1:1")];
    for (name, advised) in [
        ("registry.example.com", "hint: registry.example.com seems to be a registry"),
        ("127.0.0.1:5000", "write 127.0.0.1:5000/REPOSITORY for each repository"),
        ("usb/app", "a name without a registry is Docker Hub's"),
    ] {
        let sync = ["sync", "-s", "docker", "-d", "dir", name, "tree", "--retry-times", "0"];
        let export = ["export", "--dry-run", name, "--retry-times", "0"];
        for line in [&sync[..], &export] {
            desk.sealift_in(&no_proxy, line).code(1).stderr_contains(advised);
        }
    }
}
