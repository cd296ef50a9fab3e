//! What one image, one answer and one run may take: a registry cannot hold a run, and no other image fails with it.
//!
//! The behaviours are those of an attacker, which no public report shows; what is sent is valid by distribution-spec 1.1.

use std::collections::HashMap;
use std::sync::Mutex;

use rstest::rstest;
use serde_json::{Value, json};
use support::{Answering, Asked, Desk, FaultProxy, RealRegistry, Reply, Rule, Run, busybox, desk, sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image of its own for each note: a config of `{}` and no layers.
fn manifest(note: &str, subject: Option<Value>) -> Vec<u8> {
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": [], "annotations": {"note": note},
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256(b"{}"), "size": 2},
    });
    if let Some(subject) = subject {
        manifest["artifactType"] = json!("application/spdx+json");
        manifest["subject"] = subject;
    }
    manifest.to_string().into_bytes()
}

fn descriptor(bytes: &[u8]) -> Value {
    json!({"mediaType": MANIFEST, "digest": sha256(bytes), "size": bytes.len()})
}

fn served(bytes: impl Into<Vec<u8>>, media_type: &str) -> Reply {
    Reply::new(200, bytes).header("content-type", media_type)
}

/// The repositories `good/app` and `bad/app`, each with an image of its own; `bad` may answer about the second one.
fn two_images(bad: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static) -> Answering {
    Answering::start(move |asked| {
        let repository = if asked.path.starts_with("/v2/bad/") { "bad" } else { "good" };
        if let Some(reply) = Some(repository).filter(|name| *name == "bad").and_then(|_| bad(asked)) {
            return reply;
        }
        let image = manifest(repository, None);
        match asked.path.split('?').next().unwrap().split('/').nth(4).unwrap() {
            "referrers" => served(json!({"schemaVersion": 2, "manifests": []}).to_string(), INDEX),
            "tags" => served(r#"{"tags":["1"]}"#, "application/json"),
            "manifests" if asked.path.ends_with("/1") || asked.path.ends_with(&sha256(&image)) => {
                served(image, MANIFEST)
            }
            "blobs" if asked.path.ends_with(&sha256(b"{}")) => served("{}", "application/octet-stream"),
            _ => Reply::new(404, ""),
        }
    })
}

fn export_both(desk: &Desk, host: &str, options: &[&str]) -> Run {
    let images = [format!("{host}/good/app:1"), format!("{host}/bad/app:1")];
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    desk.export(&[&["--keep-going"], options, &images[..]].concat())
}

/// The run is over, the other image is sealed, and the failure names the image and the option.
#[track_caller]
fn assert_only_bad_failed(desk: &Desk, run: &Run, option: &str) {
    run.code(4).stderr_contains("bad/app:1").stderr_contains(option);
    let listed = desk.sealift(&["inspect", "bundle", "--trust", "allowed_signers", "--json"]);
    let value: Value = serde_json::from_str(&listed.success().stdout()).unwrap();
    let names: Vec<&str> = value["images"].as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["good/app:1"]);
}

/// Each manifest has three referrers, and each of these has three of its own.
#[test]
fn an_image_with_an_endless_tree_of_referrers_fails_alone() {
    let known: Mutex<HashMap<String, Vec<u8>>> = Mutex::default();
    let server = two_images(move |asked| {
        let mut known = known.lock().unwrap();
        let image = manifest("bad", None);
        known.insert(sha256(&image), image);
        let digest = asked.path.rsplit('/').next().unwrap();
        if !asked.path.contains("/referrers/") {
            return known.get(digest).map(|bytes| served(bytes.clone(), MANIFEST));
        }
        let subject = descriptor(&known[digest]);
        let children: Vec<Vec<u8>> =
            (0..3).map(|n| manifest(&format!("{n} of {digest}"), Some(subject.clone()))).collect();
        let listed: Vec<Value> = children.iter().map(|child| descriptor(child)).collect();
        known.extend(children.into_iter().map(|child| (sha256(&child), child)));
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed});
        Some(served(index.to_string(), INDEX))
    });
    let desk = desk!();
    let run = export_both(&desk, server.host(), &["--max-requests-per-image", "60"]);
    assert_only_bad_failed(&desk, &run, "--max-requests-per-image");
    run.stderr_contains("more than 60 requests");
    let asked = server.count("GET", "/bad/app/manifests/") + server.count("GET", "/bad/app/referrers/");
    assert!((30..=60).contains(&asked), "{asked}");
    // Nothing of it is carried in part, and without what refers to it the image is.
    desk.shell(".", "rm -r bundle");
    export_both(&desk, server.host(), &["--max-requests-per-image", "60", "--no-referrers"]).success();
}

/// 10,000 are listed at once: none of them is read.
#[test]
fn more_referrers_than_an_image_may_have_are_refused_when_they_are_listed() {
    let server = two_images(|asked| {
        let listed: Vec<Value> = (0..100).map(|n| descriptor(format!("{n}").as_bytes())).collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed});
        asked.path.contains("/referrers/").then(|| served(index.to_string(), INDEX))
    });
    let desk = desk!();
    let run = export_both(&desk, server.host(), &["--max-requests-per-image", "50"]);
    assert_only_bad_failed(&desk, &run, "--max-requests-per-image");
    assert_eq!(server.count("GET", "/bad/app/manifests/sha256:"), 0);
}

#[test]
fn a_manifest_that_comes_byte_by_byte_is_given_up() {
    let server = two_images(|asked| {
        asked.path.ends_with("/manifests/1").then(|| served(vec![b' '; 1 << 20], MANIFEST).trickle())
    });
    let desk = desk!();
    let run = export_both(&desk, server.host(), &["--stall-timeout", "500ms"]);
    assert_only_bad_failed(&desk, &run, "--stall-timeout");
    assert_eq!(server.count("GET", "/bad/app/manifests/1"), 1, "it is not asked for again");
}

/// The test would not end if the pauses were made: five of five minutes each.
#[rstest]
#[case::a_manifest("/manifests/1")]
#[case::a_blob("/blobs/")]
#[case::a_list_of_referrers("/referrers/")]
fn pauses_that_a_registry_asks_for_end_with_the_limit(#[case] part: &'static str) {
    let server =
        two_images(move |asked| asked.path.contains(part).then(|| Reply::new(500, "").header("retry-after", "299")));
    let desk = desk!();
    let image = format!("{}/bad/app:1", server.host());
    let options = ["--stall-timeout", "5s"];
    let run = desk.export(&[&options[..], &[image.as_str()]].concat());
    match part {
        // After the last retry 500 says that there is no API.
        "/referrers/" => run.success(),
        _ => run.code(1).stderr_contains("--stall-timeout"),
    };
    assert_eq!(server.count("GET", part), 1);
}

#[test]
fn an_upload_that_is_put_off_again_and_again_is_given_up() {
    let (source, destination) = (RealRegistry::with_corpus(), RealRegistry::start());
    let desk = desk!();
    desk.export(&[busybox(source.host())]).success();
    let proxy = FaultProxy::start(destination.host());
    proxy.inject(Rule::on("POST", "/blobs/uploads/").answer(500, &[("retry-after", "299")], ""));
    let import = ["--stall-timeout", "5s"];
    desk.import("bundle", proxy.host(), &import).code(1).stderr_contains("--stall-timeout");
    proxy.heal();
    desk.import("bundle", proxy.host(), &import).success();
}

/// The pause is longer than the test may take.
#[test]
fn a_command_that_takes_too_long_stops_and_the_next_one_goes_on() {
    let (source, destination) = (RealRegistry::with_corpus(), RealRegistry::start());
    let (from, to) = (FaultProxy::start(source.host()), FaultProxy::start(destination.host()));
    let (desk, image) = (desk!(), busybox(from.host()));
    // One blob is there, and with it an unfinished bundle.
    let slow = |method: &str| Rule::on(method, "/blobs/").after(1).answer(503, &[("retry-after", "250")], "");
    let stopped = |run: Run| {
        run.code(1).stderr_contains("--command-timeout").stderr_contains("run the same command again");
    };
    from.inject(slow("GET"));
    stopped(desk.export(&["--command-timeout", "4s", "--jobs", "1", &image]));
    from.heal();
    let resolved = from.count("GET", "/manifests/");
    desk.export(&["--command-timeout", "10m", &image]).success();
    assert_eq!(from.count("GET", "/manifests/"), resolved, "the plan is continued");
    to.inject(slow("POST"));
    stopped(desk.import("bundle", to.host(), &["--command-timeout", "4s"]));
    to.heal();
    desk.import("bundle", to.host(), &["--command-timeout", "0"]).success();
}

/// What a token service and a registry may say of logins. A token goes into the head of requests, and one is kept for
/// each repository.
#[rstest]
#[case::token(20_000, 0, "a token of more than 16384 bytes")]
#[case::answer(1 << 20, 0, "more than 65536 bytes")]
#[case::head(10, 80_000, "the head of its answer has more than 65536 bytes")]
fn tokens_and_heads_have_limits(#[case] token: usize, #[case] head: usize, #[case] reason: &str) {
    let server = Answering::start(move |asked| match asked.path.starts_with("/token") {
        true => Reply::new(200, json!({"token": "t".repeat(token)}).to_string()).header("x-padding", &"x".repeat(head)),
        false => {
            let host = &asked.headers.iter().find(|(name, _)| name == "host").unwrap().1;
            let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
            Reply::new(401, "{}").header("www-authenticate", &challenge)
        }
    });
    let desk = desk!();
    let run = desk.export(&["--retry-times", "0", &format!("{}/team/app:1", server.host())]);
    run.code(1).stderr_contains(reason);
    assert!(!run.stderr().contains("tttttttttt"));
}
