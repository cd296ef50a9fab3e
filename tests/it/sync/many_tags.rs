//! Many tags over 40 manifests: a second sync asks once for a tag and moves nothing.

use std::collections::BTreeMap;

use support::{Access, RealRegistry, desk, put_manifest, request, sha256};

const MANIFESTS: usize = 40;
const REPOSITORY: &str = "team/many";
const TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry with so many tags. All but the first of each manifest are written into its storage, as it would.
fn source(tags_in_all: usize) -> RealRegistry {
    let registry = RealRegistry::start();
    let blob = |bytes: &[u8]| {
        let digest = sha256(bytes);
        let begun = request(registry.host(), "POST", &format!("/v2/{REPOSITORY}/blobs/uploads/"), &[], &[]).unwrap();
        let location = begun.header("location").expect("an upload").to_owned();
        let path = location.split_once(registry.host()).map_or(location.as_str(), |(_, path)| path);
        let put = request(registry.host(), "PUT", &format!("{path}&digest={digest}"), &[], bytes).unwrap();
        assert_eq!(put.status, 201, "{}", put.text());
        serde_json::json!({"mediaType": "application/octet-stream", "digest": digest, "size": bytes.len()})
    };
    let layer = blob(b"a layer");
    let tags = registry.storage().join(format!("docker/registry/v2/repositories/{REPOSITORY}/_manifests/tags"));
    for number in 0..MANIFESTS {
        let config = blob(format!("{{\"n\":{number}}}").as_bytes());
        let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": TYPE, "config": config, "layers": [layer]});
        let bytes = manifest.to_string();
        put_manifest(registry.host(), REPOSITORY, &format!("t{number}"), TYPE, bytes.as_bytes());
        for tag in (number..tags_in_all).step_by(MANIFESTS).skip(1) {
            let current = tags.join(format!("t{tag}/current"));
            std::fs::create_dir_all(&current).unwrap();
            std::fs::write(current.join("link"), sha256(bytes.as_bytes())).unwrap();
        }
    }
    registry
}

/// Requests by method and by what they are about.
fn counted(log: &[Access]) -> BTreeMap<(String, &'static str), usize> {
    let mut counts = BTreeMap::new();
    for access in log {
        let about = ["/manifests/", "/blobs/", "/tags/"].into_iter().find(|part| access.path.contains(part));
        *counts.entry((access.method.clone(), about.unwrap_or("/v2/"))).or_default() += 1;
    }
    counts
}

/// One question for each tag, lists of tags, and nothing else.
#[track_caller]
fn assert_only_asked(log: &[Access], tags: usize, lists: bool) {
    let counts = counted(log);
    assert_eq!(counts.get(&("HEAD".into(), "/manifests/")), Some(&tags), "{counts:?}");
    let others: Vec<_> =
        counts.iter().filter(|((_, about), _)| *about == "/manifests/" || *about == "/blobs/").collect();
    assert_eq!(others.len(), 1, "{counts:?}");
    let listed = counts.get(&("GET".into(), "/tags/")).copied().unwrap_or(0);
    assert!(if lists { (1..=tags / 50).contains(&listed) } else { listed == 0 }, "{counts:?}");
    assert!(counts.keys().all(|(method, _)| method == "GET" || method == "HEAD"), "{counts:?}");
}

#[test]
fn a_sync_to_a_registry_that_has_all_of_2000_tags_asks_once_for_each_on_both_sides() {
    let (source, desk) = (source(2_000), desk!());
    // What a first sync leaves, without the time that it takes.
    let to = RealRegistry::over(&source.storage());
    let image = format!("{}/{REPOSITORY}", source.host());
    let read = source.access_log().len();
    let sync = ["sync", "--all", "--names", "path", "--src", "docker", "--dest", "docker", &image, to.host()];
    desk.sealift(&sync).success();
    assert_only_asked(&source.access_log()[read..], 2_000, true);
    assert_only_asked(&to.access_log(), 2_000, false);
}

#[test]
fn a_second_sync_asks_once_for_each_tag_and_moves_nothing() {
    let (source, to, desk) = (source(200), RealRegistry::start(), desk!());
    let image = format!("{}/{REPOSITORY}", source.host());
    for (transport, place) in [("docker", to.host()), ("dir", "tree")] {
        let sync = ["sync", "--all", "--src", "docker", "--dest", transport, &image, place];
        desk.sealift(&sync).success();
        let (read, written) = (source.access_log().len(), to.access_log().len());
        desk.sealift(&sync).success();
        assert_only_asked(&source.access_log()[read..], 200, true);
        if transport == "docker" {
            assert_only_asked(&to.access_log()[written..], 200, false);
        }
    }
    assert_eq!(support::tags(to.host(), "many").len(), 200);
    assert_eq!(std::fs::read_dir(desk.path().join("tree")).unwrap().count(), 200);
}
