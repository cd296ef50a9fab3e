//! What fails is named, and with `--keep-going` the rest is done.

use std::thread::sleep;
use std::time::Duration;

use rstest::rstest;
use serde_json::Value;
use support::{Desk, FaultProxy, RealRegistry, Rule, catalog, desk, put_manifest, raw_manifest, references, tags};

use super::{MANIFEST, artifact_in};

/// Ten images, of which one is missing, one has lost a layer, and one is of schema 1.
struct Ten {
    _source: RealRegistry,
    proxy: FaultProxy,
    images: Vec<String>,
}

const FAILING: [&str; 3] = ["team/app:missing", "team/app:old", "team/lost:1"];

impl Ten {
    fn new() -> Self {
        let source = RealRegistry::with_corpus();
        let proxy = FaultProxy::start(source.host());
        lost_layer(&source);
        let schema1 = [("content-type", "application/vnd.docker.distribution.manifest.v1+prettyjws")];
        proxy.inject(Rule::on("GET", "/manifests/old").answer(200, &schema1, r#"{"schemaVersion":1}"#));
        let sound = references().into_iter().filter(|r| r.is_tagged() && !r.has("referrers-tag")).take(7);
        let mut images: Vec<String> = sound.map(|reference| reference.at(proxy.host())).collect();
        images.extend(FAILING.map(|name| format!("{}/{name}", proxy.host())));
        Ten { _source: source, proxy, images }
    }

    fn sound(&self) -> &[String] {
        &self.images[..7]
    }

    fn export(&self, desk: &Desk, output: &str, options: &[&str]) -> support::Run {
        let mut arguments = vec!["export", "--output", output, "--key", "key", "--retry-delay", "0.05"];
        arguments.extend(options);
        arguments.extend(self.images.iter().map(String::as_str));
        desk.sealift(&arguments)
    }

    fn name(&self, image: &str) -> String {
        image[self.proxy.host().len() + 1..].to_owned()
    }
}

#[test]
fn of_ten_images_seven_are_sealed_and_landed_and_three_named() {
    let (ten, desk) = (Ten::new(), desk!());
    ten.export(&desk, "bundle", &[]).code(3).stderr_contains("schema 1").stderr_contains("2 of 10 images failed");
    assert!(!desk.path().join("bundle").exists());

    let partly = ten.export(&desk, "bundle", &["--keep-going", "--json"]);
    partly.code(4).stderr_contains("the rest is done, but 3 of 10 images failed");
    let answer: Value = serde_json::from_str(&partly.stdout()).unwrap();
    let failures = answer["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 3, "{failures:#?}");
    partly.stderr_contains("sealed bundle: 7 images and 1 referrer");
    assert_eq!(answer["totals"]["images"], 8);
    for image in FAILING {
        partly.stderr_contains(image);
        assert!(failures.iter().any(|failure| failure["image"].as_str().unwrap().ends_with(image)), "{failures:#?}");
    }

    desk.sealift(&["verify", "bundle", "--trust", "allowed_signers"]).success();
    let destination = RealRegistry::start();
    desk.import("bundle", destination.host(), &[]).success();
    assert_eq!(landed(&destination), sorted(ten.sound().iter().map(|image| ten.name(image))));
}

#[rstest]
#[case::directory("out", 4)]
#[case::archive("out.tar", 4)]
#[case::compressed("out.tar.zst", 4)]
fn what_cannot_be_planned_is_left_out_of_every_form(#[case] output: &str, #[case] code: i32) {
    let (mut ten, desk) = (Ten::new(), desk!());
    ten.images.pop();
    let partly = ten.export(&desk, output, &["--keep-going"]);
    partly.code(code).stderr_contains("2 of 9 images failed").stderr_contains(FAILING[0]).stderr_contains(FAILING[1]);
    desk.sealift(&["verify", output, "--trust", "allowed_signers"]).success();
    let json = desk.sealift(&["inspect", output, "--json", "--trust", "allowed_signers"]).success().stdout();
    let value: Value = serde_json::from_str(&json).unwrap();
    let there = value["images"].as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap().to_owned());
    let there = sorted(there.filter(|name| !name.contains("sha256")));
    assert_eq!(there, sorted(ten.sound().iter().map(|image| ten.name(image))));
}

#[test]
fn a_pipe_leaves_out_what_cannot_be_planned_and_fails_when_a_blob_is_missing() {
    let (mut ten, desk) = (Ten::new(), desk!());
    let whole = ten.export(&desk, "-", &["--keep-going", "--progress", "none"]);
    whole.code(1).stderr_contains("team/lost:1").stderr_contains("hint: the seal of a pipe or .tar.zst comes first");

    ten.images.pop();
    let program = env!("CARGO_BIN_EXE_sealift");
    let images = ten.images.join(" ");
    let line = format!(
        "{program} export {images} --keep-going -o - --key key > out.tar 2> said || test $? = 4; \
         {program} verify out.tar --trust allowed_signers"
    );
    desk.shell(".", &line);
    let said = std::fs::read_to_string(desk.path().join("said")).unwrap();
    assert!(said.contains("2 of 9 images failed") && said.contains(FAILING[0]) && said.contains(FAILING[1]), "{said}");
}

#[test]
fn what_was_left_out_is_named_again_when_an_interrupted_run_goes_on() {
    let (ten, desk) = (Ten::new(), desk!());
    let mut arguments = vec!["export", "--output", "bundle", "--key", "key", "--keep-going", "--limit-rate", "500KiB"];
    arguments.extend(ten.images.iter().map(String::as_str));
    let running = desk.start(&arguments);
    while ten.proxy.count("GET", "/blobs/") == 0 {
        sleep(Duration::from_millis(20));
    }
    sleep(Duration::from_millis(500));
    running.interrupt().code(130);
    let again = ten.export(&desk, "bundle", &["--keep-going"]);
    again.code(4).stderr_contains(FAILING[0]).stderr_contains(FAILING[1]).stderr_contains(FAILING[2]);
}

#[test]
fn an_unknown_algorithm_is_refused_by_name() {
    let (ten, desk) = (Ten::new(), desk!());
    let digest = format!("sha512:{}", "ab".repeat(64));
    let manifest =
        format!(r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{digest}","size":2}},"layers":[]}}"#);
    ten.proxy.inject(Rule::on("GET", "/manifests/odd").answer(200, &[("content-type", MANIFEST)], &manifest));
    let odd = format!("{}/team/app:odd", ten.proxy.host());
    let refused = desk.sealift(&["export", "--dry-run", &odd]);
    refused.code(3).stderr_contains("team/app:odd").stderr_contains("sha512");
    let partly = desk.sealift(&["export", "--dry-run", "--keep-going", &odd, &ten.images[0]]);
    partly.code(4).stderr_contains("team/app:odd").stderr_contains("sha512");
}

#[test]
fn an_import_goes_past_what_the_registry_refuses() {
    let (ten, destination, desk) = (Ten::new(), RealRegistry::start(), desk!());
    desk.export(ten.sound()).success();
    let proxy = FaultProxy::start(destination.host());
    let names: Vec<String> = ten.sound().iter().map(|image| ten.name(image)).collect();
    let refused = |name: &str| name.starts_with("team/app:1") || name.starts_with("formats/");
    assert!(names.iter().any(|name| refused(name)) && names.iter().any(|name| !refused(name)), "{names:?}");
    proxy.inject(Rule::on("PUT", "/v2/team/app/manifests/").answer(400, &[], "no"));
    proxy.inject(Rule::on("POST", "/v2/formats/").answer(403, &[], "no"));

    let partly = desk.import("bundle", proxy.host(), &["--keep-going", "--json"]);
    partly.code(4).stderr_contains("the rest is done, but ");
    let failing: Vec<&String> =
        names.iter().filter(|name| name.starts_with("team/app:") || name.starts_with("formats/")).collect();
    for name in &failing {
        partly.stderr_contains(name);
    }
    let expected = sorted(names.iter().filter(|name| !failing.contains(name)).cloned());
    assert_eq!(landed(&destination), expected);
    let answer: Value = serde_json::from_str(&partly.stdout()).unwrap();
    assert_eq!(answer["failures"].as_array().unwrap().len(), failing.len());
    // Healed, the same command does the rest.
    proxy.heal();
    desk.import("bundle", proxy.host(), &["--keep-going"]).success();
    assert_eq!(landed(&destination), sorted(names));
}

/// What was found about repositories before images were left out is still true of the same ones.
#[test]
fn what_is_known_of_a_repository_is_known_after_images_were_left_out() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let known = format!("{}/formats/zstd:1", source.host());
    desk.export(&[&known]).success();
    desk.import("bundle", destination.host(), &[]).success();
    desk.shell("", "rm -r bundle");
    // First by name, new, and refused; it shares nothing.
    desk.export(&[&known, &format!("{}/formats/plain:1", source.host())]).success();
    let proxy = FaultProxy::start(destination.host());
    proxy.inject(Rule::on("POST", "/v2/formats/plain/").answer(403, &[], "no"));
    desk.import("bundle", proxy.host(), &["--keep-going"]).code(4).stderr_contains("formats/plain:1");
    assert!(proxy.count("HEAD", "/v2/formats/zstd/manifests/1") > 0);
    assert_eq!(proxy.count("PUT", "/v2/formats/zstd/manifests/"), 0);
}

/// In a repository that is known, what is there is asked about before anything is sent.
#[rstest]
#[case::in_any_order("bundle")]
#[case::as_it_streams_by("bundle.tar.zst")]
fn an_import_goes_past_what_the_registry_does_not_tell(#[case] bundle: &str) {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let [hidden, open] = ["formats/zstd:1", "formats/plain:1"].map(|name| format!("{}/{name}", source.host()));
    desk.export(&[&hidden]).success();
    desk.import("bundle", destination.host(), &[]).success();
    desk.shell("", "rm -r bundle");
    desk.sealift(&["export", &hidden, &open, "--output", bundle, "--key", "key"]).success();
    let proxy = FaultProxy::start(destination.host());
    proxy.inject(Rule::on("HEAD", "/v2/formats/zstd/blobs/").answer(400, &[], ""));
    desk.import(bundle, proxy.host(), &[]).code(1).stderr_contains("400");
    let partly = desk.import(bundle, proxy.host(), &["--keep-going"]);
    partly.code(4).stderr_contains("the rest is done, but formats/zstd:1");
    assert_eq!(tags(destination.host(), "formats/plain"), ["1"]);
}

#[test]
fn an_import_goes_past_a_damaged_layer_and_still_says_3() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let images = ["library/busybox:1.35", "docker/single:2.36"].map(|name| format!("{}/{name}", source.host()));
    desk.export(&images).success();
    desk.flip_largest_blob("bundle");
    let partly = desk.import("bundle", destination.host(), &["--keep-going"]);
    partly.code(3).stderr_contains("blobs/sha256/");
    let there = |repository: &str, tag: &str| raw_manifest(destination.host(), repository, tag).is_some();
    assert!(there("library/busybox", "1.35") ^ there("docker/single", "2.36"), "one of the two must be there");
}

/// Every tag but those of referrers.
fn landed(registry: &RealRegistry) -> Vec<String> {
    let of = |repository: &String| {
        let tags = tags(registry.host(), repository).into_iter();
        tags.map(|tag| format!("{repository}:{tag}")).collect::<Vec<_>>()
    };
    sorted(catalog(registry.host()).iter().flat_map(of).filter(|name| !name.contains(":sha256-")))
}

fn sorted(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.into_iter().collect();
    names.sort();
    names
}

/// An image one of whose layers its registry has lost.
fn lost_layer(source: &RealRegistry) {
    let host = source.host();
    let bytes = artifact_in(host, "team/lost", "lost", None);
    put_manifest(host, "team/lost", "1", MANIFEST, &bytes);
    let manifest: Value = serde_json::from_slice(&bytes).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(support::delete(host, &format!("/v2/team/lost/blobs/{layer}")).status, 202);
}
