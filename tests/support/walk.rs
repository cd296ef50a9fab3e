//! Everything in a registry, by its bytes: two walks that are equal are two registries with the same content.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::http::{catalog, raw_blob, raw_manifest, sha256, tags};

/// What a walk found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Walk {
    /// (repository, tag) -> digest of the manifest's bytes as served.
    pub tags: BTreeMap<(String, String), String>,
    /// (repository, digest it is served under) -> what is served.
    pub items: BTreeMap<(String, String), Item>,
}

/// One manifest or blob as a registry serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// `sha256:<hex>` of the bytes that came; a sound registry serves them under this very digest.
    pub sha256: String,
    pub size: u64,
    /// Of manifests; empty for blobs.
    pub media_type: String,
}

impl Walk {
    /// The digests that are served with other bytes than their own.
    pub fn lies(&self) -> Vec<&(String, String)> {
        self.items.iter().filter(|((_, digest), item)| *digest != item.sha256).map(|(key, _)| key).collect()
    }

    /// What is served in this repository: digest -> item.
    pub fn repository(&self, repository: &str) -> BTreeMap<&str, &Item> {
        self.items.iter().filter(|((r, _), _)| r == repository).map(|((_, d), item)| (d.as_str(), item)).collect()
    }
}

/// Every tag of every repository in the catalog, and everything that can be reached from there. What has no tag and no
/// parent is not seen: name it with [`walk`].
pub fn walk_all(host: &str) -> Walk {
    walk(host, &[])
}

/// The same, starting from these (repository, digest) too. Panics when something that should be there is missing.
pub fn walk(host: &str, untagged: &[(&str, &str)]) -> Walk {
    let mut walk = Walk::default();
    for repository in catalog(host) {
        for tag in tags(host, &repository) {
            let digest = visit_manifest(&mut walk, host, &repository, &tag);
            walk.tags.insert((repository.clone(), tag), digest);
        }
    }
    for (repository, digest) in untagged {
        visit_manifest(&mut walk, host, repository, digest);
    }
    walk
}

fn visit_manifest(walk: &mut Walk, host: &str, repository: &str, reference: &str) -> String {
    let key = |digest: &str| (repository.to_owned(), digest.to_owned());
    if walk.items.contains_key(&key(reference)) {
        return reference.to_owned();
    }
    let manifest = raw_manifest(host, repository, reference)
        .unwrap_or_else(|| panic!("{host}/{repository}: manifest {reference} is missing"));
    let digest = sha256(&manifest.bytes);
    let served_as = if reference.starts_with("sha256:") { reference } else { &digest };
    let item = Item { sha256: digest.clone(), size: manifest.bytes.len() as u64, media_type: manifest.media_type };
    walk.items.insert(key(served_as), item);
    let json: Value = serde_json::from_slice(&manifest.bytes).expect("a manifest is JSON");
    let list = |field: &str| json[field].as_array().cloned().unwrap_or_default();
    for child in list("manifests") {
        visit_manifest(walk, host, repository, child["digest"].as_str().expect("a child has a digest"));
    }
    for blob in list("layers").iter().chain(json.get("config")) {
        let blob = blob["digest"].as_str().expect("a blob has a digest");
        walk.items.entry(key(blob)).or_insert_with(|| {
            let (sha256, size) = raw_blob(host, repository, blob)
                .unwrap_or_else(|| panic!("{host}/{repository}: blob {blob} is missing"));
            Item { sha256, size, media_type: String::new() }
        });
    }
    digest
}
