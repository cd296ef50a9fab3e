//! What is said while a run goes on, and what happens when it is stopped.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Desk, FaultProxy, RealRegistry, Rule, push_blob, put_manifest};

const REPOSITORY: &str = "team/big";
const SIZE: usize = 8 << 20;

#[test]
fn ctrl_c_stops_an_export_cleanly_and_the_same_command_goes_on() {
    let (source, desk) = (big_image(), support::desk!());
    let proxy = FaultProxy::start(source.host());
    proxy.inject(Rule::on("GET", "/blobs/").throttle(256 << 10));
    let image = format!("{}/{REPOSITORY}:1", proxy.host());
    let arguments = ["export", &image, "--output", "bundle", "--key", "key"];
    stop_when(&desk, &arguments, || proxy.count("GET", "/blobs/") > 0);
    assert!(!desk.path().join("bundle").exists());
    proxy.heal();
    desk.sealift(&arguments).success();
    desk.sealift(&["verify", "bundle", "--trust", "allowed_signers"]).success();
}

#[test]
fn ctrl_c_stops_an_import_cleanly_and_the_same_command_goes_on() {
    let (source, destination, desk) = (big_image(), RealRegistry::start(), support::desk!());
    desk.export(&[format!("{}/{REPOSITORY}:1", source.host())]).success();
    let proxy = FaultProxy::start(destination.host());
    proxy.inject(Rule::on("*", "/uploads/").throttle(256 << 10));
    let arguments = ["import", "bundle", proxy.host(), "--trust", "allowed_signers"];
    stop_when(&desk, &arguments, || proxy.count("*", "/uploads/") > 0);
    assert_eq!(proxy.count("PUT", "/manifests/"), 0);
    proxy.heal();
    desk.sealift(&arguments).success();
    assert!(support::raw_manifest(destination.host(), REPOSITORY, "1").is_some());
}

#[test]
fn events_are_documented_objects_one_a_line() {
    let (source, destination, desk) = (big_image(), RealRegistry::start(), support::desk!());
    let proxy = FaultProxy::start(source.host());
    proxy.inject(Rule::on("GET", "/blobs/").throttle(4 << 20));
    proxy.inject(Rule::on("GET", "/blobs/").cut_response(100_000).times(3));
    let image = format!("{}/{REPOSITORY}:1", proxy.host());
    let mut events = events(&desk.export(&["--progress", "json", &image]).success().stderr());
    let imported = desk.import("bundle", destination.host(), &["--progress", "json"]);
    events.extend(self::events(&imported.success().stderr()));
    let failed = desk.import("nothing", destination.host(), &["--progress", "json"]);
    events.extend(self::events(&failed.code(1).stderr()));

    let names: BTreeSet<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    let expected =
        ["planned", "blob-started", "progress", "retrying", "blob-done", "landed", "note", "summary", "error"];
    assert!(expected.iter().all(|name| names.contains(name)), "{names:?}");
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guide/programs.md")).unwrap();
    for event in &events {
        for word in event.as_object().unwrap().keys().chain([&event["event"].as_str().unwrap().to_owned()]) {
            assert!(guide.contains(&format!("`{word}`")), "{word} of {event} is not in the guide");
        }
    }
    let done = events.iter().find(|event| event["event"] == "blob-done" && event["size"] == SIZE).unwrap();
    assert_eq!(done["how"], "moved");
    let summary = events.iter().find(|event| event["event"] == "summary").unwrap();
    assert_eq!((&summary["images"], &summary["failures"]), (&1.into(), &0.into()));
    assert_eq!(events.last().unwrap()["exitCode"], 1);
}

#[test]
fn without_a_terminal_progress_is_readable_lines() {
    let (source, desk) = (big_image(), support::desk!());
    let proxy = FaultProxy::start(source.host());
    proxy.inject(Rule::on("GET", "/blobs/").throttle(1 << 20));
    let log = desk.export(&[format!("{}/{REPOSITORY}:1", proxy.host())]).success().stderr();
    assert!(!log.contains(['\u{1b}', '\r']), "{log:?}");
    let line = log.lines().find(|line| line.contains(" % ")).unwrap_or_else(|| panic!("no line of progress in {log}"));
    for part in [" of 8.0 MiB", "/s", " left", "/2 blobs"] {
        assert!(line.contains(part), "{part} is not in {line:?}");
    }
    assert!(log.contains("sealed bundle: 1 image, in "), "{log}");
    assert!(log.contains("saved by sharing"), "{log}");
}

#[test]
fn quiet_says_nothing() {
    let (source, desk) = (big_image(), support::desk!());
    assert_eq!(desk.export(&["--quiet", &format!("{}/{REPOSITORY}:1", source.host())]).success().stderr(), "");
}

/// Presses Ctrl-C once `ready`; the run must end soon, say how to go on, and exit with 130.
fn stop_when(desk: &Desk, arguments: &[&str], ready: impl Fn() -> bool) {
    let running = desk.start(arguments);
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing was asked for");
        sleep(Duration::from_millis(20));
    }
    sleep(Duration::from_millis(500));
    let run = running.interrupt();
    run.code(130).stderr_contains("error: stopped").stderr_contains("hint: run the same command again");
}

fn events(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?}: {e}"))).collect()
}

/// A registry with one image that has one layer.
fn big_image() -> RealRegistry {
    let registry = RealRegistry::start();
    let blob = |media_type: &str, bytes: &[u8]| {
        let digest = push_blob(registry.host(), REPOSITORY, bytes);
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{}}}"#, bytes.len())
    };
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let config = blob("application/vnd.oci.image.config.v1+json", br#"{"architecture":"amd64","os":"linux"}"#);
    let layer = blob("application/vnd.oci.image.layer.v1.tar", &vec![7; SIZE]);
    let manifest = format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{config},"layers":[{layer}]}}"#);
    put_manifest(registry.host(), REPOSITORY, "1", media_type, manifest.as_bytes());
    registry
}
