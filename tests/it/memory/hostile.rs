//! Hostile registries and media: what they send stays within the memory that README promises.
//!
//! Measured only of a release build: `scripts/memory`, or `SEALIFT_RELEASE=target/release/sealift cargo test --test it
//! memory::hostile -- --nocapture`. `tests/it/attacks/large` does the same for very large bundles.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use support::{Answering, Asked, Desk, RealRegistry, Reply, push_image, sha256};

use super::BOUND_KIB;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const PAGE: usize = 4_000_000;

/// Runs the release build, prints and checks its peak of resident memory, and returns what it said.
fn measure(desk: &Desk, case: &str, code: i32, arguments: &[&str]) -> Option<String> {
    let Some(program) = std::env::var_os("SEALIFT_RELEASE").map(PathBuf::from) else {
        eprintln!("SKIPPED: SEALIFT_RELEASE names no release build");
        return None;
    };
    let program = program.canonicalize().expect("SEALIFT_RELEASE is the path of a program");
    let mut run = Command::new("/usr/bin/time");
    run.args(["-q", "-f", "%M", "-o", "peak"]).arg(program).args(arguments).current_dir(desk.path());
    let output = run.env("XDG_STATE_HOME", desk.state()).output().expect("GNU time is there: apt-get install time");
    let peak: u64 = std::fs::read_to_string(desk.path().join("peak")).unwrap().trim().parse().unwrap();
    println!("memory: {:>6.1} MiB of 64  {case}: {}", peak as f64 / 1024.0, arguments[0]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{case}: {said:.2000}");
    assert!(peak <= BOUND_KIB, "{case}: {peak} KiB");
    Some(said)
}

fn is_skipped() -> bool {
    std::env::var_os("SEALIFT_RELEASE").is_none()
}

fn manifest(fields: Value) -> Vec<u8> {
    let config = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256(b"{}"), "size": 2});
    let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []});
    manifest.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    manifest.to_string().into_bytes()
}

fn served(bytes: impl Into<Vec<u8>>, media_type: &str) -> Reply {
    Reply::new(200, bytes).header("content-type", media_type)
}

/// A registry with these manifests by name (a tag or digest), and one blob, `{}`.
fn with_manifests(
    manifests: HashMap<String, Vec<u8>>,
    more: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static,
) -> Answering {
    Answering::start(move |asked| {
        let name = asked.path.split('?').next().unwrap().rsplit('/').next().unwrap();
        if let Some(reply) = more(asked) {
            return reply;
        }
        match manifests.get(name).filter(|_| asked.path.contains("/manifests/")) {
            Some(bytes) => {
                let is_index = bytes.windows(INDEX.len()).any(|window| window == INDEX.as_bytes());
                served(bytes.clone(), if is_index { INDEX } else { MANIFEST })
            }
            None if name == sha256(b"{}") => served("{}", "application/octet-stream"),
            None => Reply::new(404, ""),
        }
    })
}

fn one_image() -> HashMap<String, Vec<u8>> {
    let image = manifest(json!({}));
    HashMap::from([(sha256(&image), image.clone()), ("1".to_owned(), image)])
}

#[test]
fn a_sparse_journal_of_3_gib_is_not_read() {
    let (desk, server) = (support::desk!(), with_manifests(one_image(), |_| None));
    desk.shell(".", "truncate -s 3G .b.tar.journal .b.tar.partial; chmod 600 .b.tar.*");
    let image = format!("{}/team/app:1", server.host());
    measure(&desk, "a sparse planted journal of 3 GiB", 0, &["export", &image, "--output", "b.tar", "--key", "key"]);
}

#[test]
fn referrers_with_large_fields_over_many_pages_are_refused() {
    let server = with_manifests(one_image(), |asked| {
        let referrer = json!({
            "mediaType": MANIFEST, "digest": sha256(asked.path.as_bytes()), "size": 7,
            "annotations": {"note": "x".repeat(PAGE)},
        });
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [referrer]}).to_string();
        let next = format!("<{}x>; rel=\"next\"", asked.path.replace('?', "") + "?n=");
        asked.path.contains("/referrers/").then(|| served(index, INDEX).header("link", &next))
    });
    let (desk, image) = (support::desk!(), format!("{}/team/app:1", server.host()));
    measure(&desk, "referrers with 4 MB fields on many pages", 3, &["export", &image, "--dry-run"]);
}

#[test]
fn pieces_of_64_mib_are_not_kept_in_memory() {
    if is_skipped() {
        return;
    }
    let source = RealRegistry::start();
    let layers: Vec<Vec<u8>> = (0..6).map(|n| vec![n; 70 << 20]).collect();
    push_image(source.host(), "team/app", "1", &layers.iter().map(Vec::as_slice).collect::<Vec<_>>());
    drop(layers);
    let desk = support::desk!();
    desk.export(&[format!("{}/team/app:1", source.host())]).success();
    let server = Answering::start(|asked| {
        let there = |status| Reply::new(status, "").header("location", "/s").header("oci-chunk-min-length", "67108864");
        match asked.method.as_str() {
            "POST" => there(202),
            "PATCH" => there(202),
            // The manifest is refused: what is measured is over.
            "PUT" if asked.path.contains("/manifests/") => Reply::new(400, "{}"),
            "PUT" if asked.length > 0 => Reply::new(405, ""),
            "PUT" => there(201),
            "DELETE" => Reply::new(204, ""),
            _ => Reply::new(404, ""),
        }
    });
    let import = ["import", "bundle", server.host(), "--trust", "allowed_signers"];
    measure(&desk, "OCI-Chunk-Min-Length: 67108864, six layers", 1, &import);
    let import = ["import", "bundle", server.host(), "--trust", "allowed_signers", "--jobs", "16"];
    measure(&desk, "the same with 16 jobs", 1, &import);
}

#[test]
fn a_million_tags_fit() {
    // 200 pages of 5,000.
    let server = with_manifests(one_image(), |asked| {
        let from: usize = asked.path.split("last=").nth(1).map_or(0, |text| text.parse().unwrap());
        let tags: Vec<String> = (from..from + 5_000).map(|n| format!("\"1.0.{n}\"")).collect();
        let reply = served(format!(r#"{{"tags":[{}]}}"#, tags.join(",")), "application/json");
        let next = format!("</v2/team/app/tags/list?last={}>; rel=\"next\"", from + 5_000);
        asked
            .path
            .contains("/tags/")
            .then(|| if from + 5_000 < 1_000_000 { reply.header("link", &next) } else { reply })
    });
    let (desk, image) = (support::desk!(), format!("{}/team/app", server.host()));
    let said = measure(&desk, "a million tags", 2, &["export", &image, "--dry-run"]);
    assert!(said.is_none_or(|said| said.contains("more than 50000 images")));
    // What is chosen is not there.
    measure(&desk, "a million tags, --latest 3", 1, &["export", &image, "--dry-run", "--latest", "3"]);
}

#[test]
fn large_tokens_are_bounded() {
    let server = |size: usize| {
        let images = one_image();
        with_manifests(HashMap::new(), move |asked| {
            let header = |name: &str| asked.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
            if asked.path.starts_with("/token") {
                let token = format!("{}{}", sha256(asked.path.as_bytes()).replace(':', "."), "t".repeat(size));
                return Some(Reply::new(200, json!({"token": token, "expires_in": 3600}).to_string()));
            }
            if header("authorization").is_none() {
                let realm = format!("Bearer realm=\"http://{}/token\",service=\"s\"", header("host").unwrap());
                return Some(Reply::new(401, "{}").header("www-authenticate", &realm));
            }
            let name = asked.path.rsplit('/').next().unwrap();
            images.get(name).filter(|_| asked.path.contains("/manifests/")).map(|bytes| served(bytes.clone(), MANIFEST))
        })
    };
    let desk = support::desk!();
    for (case, size, code) in [("tokens of 1 MB", 1_000_000, 1), ("600 repositories, tokens of 16 KB each", 16_000, 0)]
    {
        let server = server(size);
        let list: String = (0..600).map(|n| format!("{}/team/app{n}:1\n", server.host())).collect();
        std::fs::write(desk.path().join("list"), list).unwrap();
        let export = ["export", "--from", "list", "--dry-run", "--no-referrers", "--retry-times", "0"];
        measure(&desk, case, code, &export);
    }
}

#[test]
fn many_layers_and_many_images_are_planned() {
    let layer = |n: usize| json!({"mediaType": "a/b", "digest": sha256(format!("{n}").as_bytes()), "size": 9});
    let manifests = (0..7).map(|image| {
        let layers: Vec<Value> = (0..33_000).map(layer).collect();
        (format!("{image}"), manifest(json!({"layers": layers, "annotations": {"n": format!("{image}")}})))
    });
    let server = with_manifests(if is_skipped() { HashMap::new() } else { manifests.collect() }, |_| None);
    let desk = support::desk!();
    let images: Vec<String> = (0..7).map(|n| format!("{}/team/app:{n}", server.host())).collect();
    let export: Vec<&str> = ["export", "--dry-run"].into_iter().chain(images.iter().map(String::as_str)).collect();
    measure(&desk, "seven manifests of 33,000 layers", 0, &export);

    // One server lists tags; the other refuses to.
    let images = (0..10_000).map(|n| {
        let layers: Vec<Value> = (0..3).map(|k| layer(n / 2 + k * 5_000)).collect();
        (format!("{n}"), manifest(json!({"layers": layers, "annotations": {"n": format!("{n}")}})))
    });
    let images: HashMap<String, Vec<u8>> = if is_skipped() { HashMap::new() } else { images.collect() };
    for (case, lists) in [("10,000 images of 3 layers", true), ("10,000 images, no lists of tags", false)] {
        let server = with_manifests(images.clone(), move |asked| {
            let tags = || served(r#"{"tags":["1"]}"#, "application/json");
            asked.path.contains("/tags/").then(|| if lists { tags() } else { Reply::new(403, "") })
        });
        let list: String = (0..10_000).map(|n| format!("{}/team/app{n}:{n}\n", server.host())).collect();
        std::fs::write(desk.path().join("list"), list).unwrap();
        for more in [&[][..], &["--json"]] {
            let export = [&["export", "--from", "list", "--dry-run"], more].concat();
            measure(&desk, case, 0, &export);
        }
    }
}

#[test]
fn a_fallback_list_of_3_mb_is_carried() {
    let mut manifests = one_image();
    let image = manifests["1"].clone();
    let subject = json!({"mediaType": MANIFEST, "digest": sha256(&image), "size": image.len()});
    let mut listed = Vec::new();
    for n in 0..1_400 {
        let fields = json!({"artifactType": "a/b", "subject": subject, "annotations": {"n": format!("{n}")}});
        let bytes = manifest(fields);
        listed.push(json!({
            "mediaType": MANIFEST, "digest": sha256(&bytes), "size": bytes.len(), "artifactType": "a/b",
            "annotations": {"note": "x".repeat(2_000)},
        }));
        manifests.insert(sha256(&bytes), bytes);
    }
    let tag = sha256(&image).replace(':', "-");
    let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}).to_string();
    assert!((3_000_000..4_000_000).contains(&list.len()));
    manifests.insert(tag.clone(), list.into_bytes());
    let server = with_manifests(manifests, move |asked| {
        asked.path.contains("/tags/").then(|| served(format!(r#"{{"tags":["1","{tag}"]}}"#), "application/json"))
    });
    let desk = support::desk!();
    let (image, case) = (format!("{}/team/app:1", server.host()), "a fallback list of 3 MB");
    if measure(&desk, case, 0, &["export", &image, "--output", "b", "--key", "key"]).is_none() {
        return;
    }
    let destination = RealRegistry::start();
    for _ in 0..2 {
        measure(&desk, case, 0, &["import", "b", destination.host(), "--trust", "allowed_signers"]);
    }
}
