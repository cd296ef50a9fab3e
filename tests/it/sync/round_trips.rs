//! What one of sealift and skopeo writes, the other reads, and what comes out in the end is what went in.

use std::collections::BTreeMap;
use std::path::Path;

use support::{Desk, RealRegistry, Walk, desk, raw_manifest, skopeo, walk};

use super::trees::{assert_same, carried_by_skopeo, files, skopeo_tree};

/// Everything in a registry that the corpus names, whatever is in front of the repositories there.
fn content(host: &str, prefix: &str) -> Walk {
    let untagged: Vec<(String, String)> = carried_by_skopeo()
        .iter()
        .filter(|reference| !reference.is_tagged())
        .map(|reference| (format!("{prefix}{}", reference.repository), reference.digest.clone()))
        .collect();
    let untagged: Vec<(&str, &str)> = untagged.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let found = walk(host, &untagged);
    let plain = |(repository, rest): (String, String)| {
        (repository.strip_prefix(prefix).map(str::to_owned).unwrap_or(format!("outside {prefix}: {repository}")), rest)
    };
    let not_nested = |key: &(String, String)| key.0 != "formats/nested";
    Walk {
        tags: found
            .tags
            .into_iter()
            .map(|(key, value)| (plain(key), value))
            .filter(|(key, _)| not_nested(key))
            .collect(),
        items: found
            .items
            .into_iter()
            .map(|(key, value)| (plain(key), value))
            .filter(|(key, _)| not_nested(key))
            .collect(),
    }
}

fn sealift_tree(desk: &Desk, source: &RealRegistry, options: &[&str], tree: &str) {
    for reference in carried_by_skopeo() {
        let image = reference.at(source.host());
        let fixed = ["sync", "--src", "docker", "--dest", "dir"];
        desk.sealift(&[&fixed, options, &[image.as_str(), tree]].concat()).success();
    }
}

#[test]
fn what_skopeo_writes_sealift_brings_to_a_registry_and_a_scoped_tree_keeps_its_registry() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    skopeo_tree(&source, &["--scoped", "--all"], &desk.path().join("tree"));
    let before = content(source.host(), "");

    let to = RealRegistry::start();
    let inner = format!("tree/{}", source.host());
    desk.sealift(&["sync", "--all", "--src", "dir", "--dest", "docker", &inner, to.host()]).success();
    assert_eq!(content(to.host(), ""), before);

    // The tree as a whole: a port's colon cannot stand in a repository.
    let to = RealRegistry::start();
    desk.sealift(&["sync", "--all", "--scoped", "--src", "dir", "--dest", "docker", "tree", to.host()]).success();
    assert_eq!(content(to.host(), &format!("{}/", source.host().replace(':', "_"))), before);
}

#[test]
fn what_sealift_writes_skopeo_brings_to_a_registry_and_both_write_the_same() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    sealift_tree(&desk, &source, &["--scoped", "--all"], "ours");
    skopeo_tree(&source, &["--scoped", "--all"], &desk.path().join("theirs"));
    assert_same(&desk.path().join("ours"), &desk.path().join("theirs"));

    let to = RealRegistry::start();
    let tree = desk.path().join("ours").join(source.host());
    // Without the last option skopeo compresses a layer that is not, and gives the image another digest.
    let fixed =
        ["--scoped", "--all", "--src", "dir", "--dest", "docker", "--dest-tls-verify=false", "--preserve-digests"];
    skopeo(&[&["sync"], &fixed[..], &[tree.to_str().unwrap(), to.host()]].concat());
    assert_eq!(content(to.host(), ""), content(source.host(), ""));
}

#[test]
fn a_tree_that_skopeo_began_sealift_goes_on_with_and_the_other_way_round() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let image = |tag: &str| format!("{}/team/app:{tag}", source.host());
    let tree = desk.path().join("tree");
    // An image of another platform choice, of which something has to go.
    let fixed = ["sync", "--src-tls-verify=false", "--all", "--src", "docker", "--dest", "dir"];
    skopeo(&[&fixed[..], &[&format!("{}/library/busybox:1.35", source.host()), tree.to_str().unwrap()]].concat());
    std::fs::rename(tree.join("busybox:1.35"), tree.join("app:1")).unwrap();
    desk.sealift(&["sync", "--src", "docker", "--dest", "dir", &image("1"), "tree"]).success();
    desk.sealift(&["sync", "--src", "docker", "--dest", "dir", &image("2"), "tree"]).success();
    let theirs = desk.path().join("theirs");
    let fixed = ["sync", "--src-tls-verify=false", "--src", "docker", "--dest", "dir"];
    for tag in ["1", "2"] {
        skopeo(&[&fixed[..], &[&image(tag), theirs.to_str().unwrap()]].concat());
    }
    assert_same(&tree, &theirs);

    // skopeo writes one of two images that share a file; the other one is not touched.
    let other = files(&tree.join("app:2"));
    let target = format!("dir:{}", tree.join("app:1").display());
    let from = format!("docker://{}/docker/single:2.36", source.host());
    skopeo(&["copy", "--src-tls-verify=false", &from, &target]);
    assert_eq!(files(&tree.join("app:2")), other);
    desk.sealift(&["sync", "--src", "docker", "--dest", "dir", &image("1"), "tree"]).success();
    assert_same(&tree, &theirs);
}

#[test]
fn from_a_bundle_through_a_tree_to_a_registry_and_from_a_tree_through_a_bundle() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let images: Vec<String> = carried_by_skopeo().iter().map(|reference| reference.at(source.host())).collect();
    desk.export(&images).success();
    desk.sealift(&["sync", "--src", "bundle", "--dest", "dir", "--trust", "allowed_signers", "bundle", "tree"])
        .success();
    let to = RealRegistry::start();
    desk.sealift(&["sync", "--all", "--src", "dir", "--dest", "docker", "tree", to.host()]).success();
    let before = content(source.host(), "");
    assert_eq!(content(to.host(), ""), before);

    let to = RealRegistry::start();
    desk.sealift(&["export", "--from-dir", "tree", "--output", "again", "--key", "key"]).success();
    desk.import("again", to.host(), &[]).success();
    assert_eq!(content(to.host(), ""), before);
    // Without trust nothing comes out of a bundle.
    desk.sealift(&["sync", "--src", "bundle", "--dest", "dir", "bundle", "none"]).code(2);
    assert!(!desk.path().join("none").exists());
}

#[test]
fn an_index_in_an_index_which_skopeo_cannot_write_comes_back_too() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let image = format!("{}/formats/nested:1", source.host());
    desk.sealift(&["sync", "--all", "--src", "docker", "--dest", "dir", &image, "tree"]).success();
    let to = RealRegistry::start();
    desk.sealift(&["sync", "--all", "--src", "dir", "--dest", "docker", "tree", to.host()]).success();
    let digest = |host: &str, repository: &str| raw_manifest(host, repository, "1").map(|found| found.digest);
    assert_eq!(digest(to.host(), "nested"), digest(source.host(), "formats/nested"));
}

#[test]
fn layers_are_one_file_in_all_images_of_a_tree() {
    use std::os::unix::fs::MetadataExt;
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    sealift_tree(&desk, &source, &["--scoped", "--all"], "tree");
    let mut by_name: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for path in files(&desk.path().join("tree")).into_keys() {
        let meta = std::fs::metadata(desk.path().join("tree").join(&path)).unwrap();
        let name = Path::new(&path).file_name().unwrap().to_str().unwrap().to_owned();
        by_name.entry(name).or_default().push(meta.ino());
    }
    let shared: Vec<&String> =
        by_name.iter().filter(|(name, inodes)| name.len() == 64 && inodes.len() > 1).map(|(name, _)| name).collect();
    assert!(shared.len() > 3, "the corpus shares layers: {shared:?}");
    for name in shared {
        let inodes = &by_name[name];
        assert!(inodes.iter().all(|inode| *inode == inodes[0]), "{name}: {inodes:?}");
    }
    // What skopeo rewrites in place is nobody else's.
    for name in ["manifest.json", "version"] {
        let mut inodes = by_name[name].clone();
        let count = inodes.len();
        inodes.sort_unstable();
        inodes.dedup();
        assert_eq!(inodes.len(), count, "{name}");
    }
}

#[test]
fn from_tree_to_tree_everything_is_kept_signatures_too_and_a_registry_refuses_those() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let image = |name: &str| format!("{}/{name}", source.host());
    for name in ["library/busybox:1.35", "team/app:1"] {
        let fixed = ["sync", "--scoped", "--all", "--src", "docker", "--dest", "dir"];
        desk.sealift(&[&fixed[..], &[&image(name), "one"]].concat()).success();
    }
    let busybox = desk.path().join("one").join(image("library/busybox:1.35"));
    let child = files(&busybox).into_keys().find(|name| name.ends_with(".manifest.json")).unwrap();
    let child = child.trim_end_matches(".manifest.json");
    std::fs::write(busybox.join("signature-1"), "of the index").unwrap();
    std::fs::write(busybox.join(format!("{child}.signature-1")), "of a platform").unwrap();

    let copy = ["sync", "--all", "--src", "dir", "--dest", "dir"];
    let run = desk.sealift(&[&copy[..], &["--digestfile", "digests", "one", "two"]].concat());
    run.success();
    assert_same(&desk.path().join("one"), &desk.path().join("two"));
    let digests = std::fs::read_to_string(desk.path().join("digests")).unwrap();
    assert!(digests.contains(&format!(" dir:two/{}\n", image("team/app:1"))), "{digests}");
    desk.sealift(&[&copy[..], &["one", "two"]].concat()).success();
    assert_same(&desk.path().join("one"), &desk.path().join("two"));
    desk.sealift(&[&copy[..], &["--remove-signatures", "--names", "base", "one", "three"]].concat()).success();
    let names: Vec<String> = files(&desk.path().join("three")).into_keys().collect();
    assert!(names.iter().all(|name| !name.contains("signature-")), "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("busybox:1.35/") || name.starts_with("app:1/")), "{names:?}");

    let to = RealRegistry::start();
    let push = ["sync", "--all", "--src", "dir", "--dest", "docker", "one", to.host()];
    desk.sealift(&push).code(3).stderr_contains("signatures").stderr_contains("--remove-signatures");
    assert!(to.writes().is_empty());
    desk.sealift(&[&push[..], &["--remove-signatures"]].concat()).success();
}
