//! In which order manifests are pushed.

use serde_json::{Value, json};
use support::{Access, RealRegistry, desk, noise, push_image, put_manifest, raw_manifest, sha256};

use super::{INDEX, MANIFEST};

/// While docker-registry 2.8 writes a manifest again, it answers 400 to an index that refers to the manifest.
#[test]
fn an_index_is_accepted_beside_tags_of_its_own_children() {
    let (source, desk) = (RealRegistry::start(), desk!());
    let repositories: Vec<String> = (0..5).map(|number| format!("related/app{number}")).collect();
    for repository in &repositories {
        push_index_with_tagged_children(source.host(), repository);
    }
    let images: Vec<String> = repositories.iter().map(|name| format!("{}/{name}", source.host())).collect();
    desk.export(&images).success();
    for number in 0..6 {
        let destination = RealRegistry::start();
        desk.import("bundle", destination.host(), &["--jobs", "6"]).success();
        let refused =
            |access: &Access| access.path.contains("/manifests/") && access.method == "PUT" && access.status >= 400;
        let refused: Vec<Access> = destination.access_log().into_iter().filter(refused).collect();
        assert!(refused.is_empty(), "import {number}: {refused:?}");
        for repository in &repositories {
            assert_eq!(support::tags(destination.host(), repository), ["2", "2-amd64", "2-arm64"]);
        }
    }
}

/// `:2`, `:2-amd64` and `:2-arm64`.
fn push_index_with_tagged_children(host: &str, repository: &str) {
    let child = |architecture: &str| -> Value {
        let tag = format!("2-{architecture}");
        push_image(host, repository, &tag, &[&noise(1, 1000)]);
        let manifest = raw_manifest(host, repository, &tag).expect("it was pushed").bytes;
        let platform = json!({"os": "linux", "architecture": architecture});
        json!({"mediaType": MANIFEST, "digest": sha256(&manifest), "size": manifest.len(), "platform": platform})
    };
    let children = [child("amd64"), child("arm64")];
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children});
    put_manifest(host, repository, "2", INDEX, index.to_string().as_bytes());
}
