//! The golden bundles of bundle-spec: frozen bytes of format 1 in all forms, which every release reads, and which
//! today's writer still makes from the same content, time and key.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rstest::rstest;
use serde_json::Value;
use support::{Desk, RealRegistry, sha256};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bundle-spec/golden")
}

fn path(name: &str) -> String {
    golden().join(name).to_str().unwrap().to_owned()
}

#[rstest]
fn every_form_is_verified_and_holds_what_it_ever_held(
    #[values("exported", "reviewed", "series")] name: &str,
    #[values("", ".tar", ".tar.zst")] form: &str,
) {
    let desk = support::desk!();
    let (bundle, trust) = (path(&format!("{name}{form}")), path("keys/allowed_signers"));
    desk.sealift(&["verify", &bundle, "--trust", &trust]).success();
    let shown = desk.sealift(&["inspect", &bundle, "--json", "--trust", &trust]).success().stdout();
    let expected: Value = serde_json::from_slice(&fs::read(golden().join(format!("{name}.json"))).unwrap()).unwrap();
    says_still(&expected, &serde_json::from_str(&shown).unwrap(), name);
}

/// All that was said is said still; there may be more.
fn says_still(expected: &Value, found: &Value, at: &str) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (key, value) in expected {
                let at = format!("{at}.{key}");
                says_still(value, found.get(key).unwrap_or_else(|| panic!("{at} is gone")), &at);
            }
        }
        (Value::Array(expected), Value::Array(found)) => {
            assert_eq!(expected.len(), found.len(), "{at}");
            for (number, (expected, found)) in expected.iter().zip(found).enumerate() {
                says_still(expected, found, &format!("{at}[{number}]"));
            }
        }
        _ => assert_eq!(expected, found, "{at}"),
    }
}

#[rstest]
fn what_is_in_it_lands(#[values("exported", "exported.tar", "reviewed.tar")] bundle: &str) {
    let registry = RealRegistry::start();
    let desk = support::desk!();
    let trust = path("keys/allowed_signers");
    // This registry takes neither foreign layers nor indexes that lack a platform.
    let only = ["--only", "tz/docker:*", "--only", "tz/europe*", "--only", "tz/list:*"];
    let arguments = ["import", &path(bundle), registry.host(), "--trust", &trust];
    desk.sealift(&[&arguments[..], &only].concat()).success();
    let expected: Value = serde_json::from_slice(&fs::read(golden().join("exported.json")).unwrap()).unwrap();
    let mut landed = 0;
    for image in expected["images"].as_array().unwrap() {
        let name = image["name"].as_str().unwrap();
        let Some((repository, tag)) = name.rsplit_once(':').filter(|(path, _)| !path.contains("@sha256")) else {
            continue;
        };
        if ["tz/docker", "tz/europe", "tz/list"].contains(&repository) {
            let manifest = support::raw_manifest(registry.host(), repository, tag).expect(name);
            assert_eq!(sha256(&manifest.bytes), image["digest"].as_str().unwrap(), "{name}");
            landed += 1;
        }
    }
    assert_eq!(landed, 4);
}

#[rstest]
fn shell_and_coreutils_vouch_for_it_unpacked(#[values("exported", "reviewed")] name: &str) {
    let desk = support::desk!();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/verify-bundle");
    let (tar, zst) = (path(&format!("{name}.tar")), path(&format!("{name}.tar.zst")));
    desk.shell(".", &format!("mkdir tar zst && tar -C tar -xf '{tar}' && zstd -dc '{zst}' | tar -C zst -x"));
    desk.shell(".", &format!("diff -r tar '{0}' && diff -r zst '{0}'", path(name)));
    let checked = Command::new(script).arg("tar").arg(path("keys/allowed_signers")).current_dir(desk.path()).output();
    let checked = checked.unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// The registry is the golden bundle itself, as the layout that it is; the key and the time are those of then.
#[test]
fn the_same_content_time_and_key_still_make_the_same_bytes() {
    let desk = support::desk!();
    desk.shell(
        ".",
        &format!("cp -R '{}' layout && cd layout && rm -r SHA256SUMS bundle.json signatures", path("exported")),
    );
    let registry = desk.serve(&["layout"]);
    desk.shell(".", &format!("cp '{}' golden-key && chmod 600 golden-key", path("keys/exporter")));
    let proxy = format!("http://{}", registry.host());
    let variables = [("http_proxy", proxy.as_str()), ("SOURCE_DATE_EPOCH", "1795435200")];
    let images = ["docker:1", "europe:2026b", "europe:latest", "list:1", "multi:1", "windows:1"]
        .map(|image| format!("registry.example.com/tz/{image}"));
    for output in ["bundle", "bundle.tar", "bundle.tar.zst"] {
        let mut arguments = vec!["export", "--tls-verify=false", "--key", "golden-key", "--output", output];
        arguments.extend(["--platform", "linux/amd64", "--platform", "linux/arm64"]);
        arguments.extend(images.iter().map(String::as_str));
        desk.sealift_in(&variables, &arguments).success();
    }
    desk.shell(".", "zstd -q -d bundle.tar.zst -o unpacked.tar && cmp bundle.tar unpacked.tar");
    let expected = of_this_version(&desk);
    desk.shell(".", &format!("diff -r bundle '{}'", expected.display()));
    desk.shell(".", &format!("mkdir tar && tar -C tar -xf bundle.tar && diff -r tar '{}'", expected.display()));
    if env!("CARGO_PKG_VERSION") == "0.1.0" {
        desk.shell(".", &format!("cmp bundle.tar '{}'", path("exported.tar")));
    }
}

/// The golden directory, but for the version that wrote it, which it says; sealed again where that is another.
fn of_this_version(desk: &Desk) -> PathBuf {
    if env!("CARGO_PKG_VERSION") == "0.1.0" {
        return golden().join("exported");
    }
    desk.shell(".", &format!("cp -R '{}' expected", path("exported")));
    let version = env!("CARGO_PKG_VERSION");
    desk.shell(
        "expected",
        &format!(
            "sed -i 's,sealift/0.1.0,sealift/{version},' bundle.json
             sum=$(sha256sum < bundle.json | cut -c-64)
             sed -i \"s,^.*  bundle.json,$sum  bundle.json,\" SHA256SUMS
             rm signatures/*.sig
             id=$(cut -d' ' -f2 '{}' | base64 -d | sha256sum | cut -c-32)
             ssh-keygen -q -Y sign -n sealift-bundle -f ../golden-key - < SHA256SUMS > signatures/$id.sig",
            path("keys/exporter.pub")
        ),
    );
    desk.path().join("expected")
}
