//! Each command twice, by skopeo and by sealift: trees equal to the byte, registries equal tag by tag.
//!
//! What is not equal on purpose, and so is not asked for here: an index within an index with `--all` (skopeo refuses it),
//! layers that are not compressed into a registry without `--preserve-digests` (skopeo compresses them),
//! `--scoped` from HOST:PORT into a registry (skopeo cannot name it), an index by digest without `--all` (skopeo names
//! the directory by the index), two images of one base name (skopeo writes one over the other, or stops), and a list of
//! referrers into a registry without `--all` (skopeo puts its first entry in its place).

use std::fs;

use rstest::rstest;
use support::{Desk, RealRegistry, Reference, desk, references, walk_all};

use super::{assert_same_trees, skopeo_sync, sync};

/// Everything of the corpus that both can carry and that is not `left_out`, each base name once.
fn yaml(desk: &Desk, registry: &RealRegistry, left_out: impl Fn(&Reference) -> bool) {
    let mut repositories: Vec<&str> = Vec::new();
    let references = references();
    for reference in references.iter().filter(|r| r.is_tagged() && !left_out(r)) {
        let base = |repository: &str| repository.rsplit('/').next().unwrap().to_owned();
        if !repositories.iter().any(|known| base(known) == base(&reference.repository)) {
            repositories.push(&reference.repository);
        }
    }
    let pinned = references.iter().find(|r| r.repository == "team/pinned").expect("an image without a tag");
    let (every, one) = repositories.split_at(repositories.len() - 2);
    let mut text = format!("{}:\n  tls-verify: false\n  images:\n", registry.host());
    every.iter().for_each(|repository| text += &format!("    {repository}: []\n"));
    text += &format!("    {}: ['{}']\n  images-by-tag-regex:\n", pinned.repository, pinned.digest);
    one.iter().for_each(|repository| text += &format!("    {repository}: '^.'\n"));
    fs::write(desk.path().join("sync.yaml"), text).unwrap();
}

#[rstest]
#[case::plain(&[])]
#[case::all(&["--all"])]
#[case::scoped(&["--scoped"])]
#[case::all_and_scoped(&["--all", "--scoped"])]
fn trees_of_a_yaml_file_are_equal(#[case] options: &[&str]) {
    let (registry, desk) = (RealRegistry::with_corpus(), desk!());
    yaml(&desk, &registry, |reference| options.contains(&"--all") && reference.has("nested"));
    let arguments = |tree| [options, &["--src", "yaml", "--dest", "dir", "sync.yaml", tree]].concat();
    skopeo_sync(&desk, &arguments("theirs"));
    sync(&desk, &arguments("ours")).success();
    assert_same_trees(&desk.path().join("theirs"), &desk.path().join("ours"));
    let images = fs::read_dir(desk.path().join("ours")).unwrap().count();
    assert!(images > 7 || options.contains(&"--scoped"), "{images}");
    // And again, in place, which skopeo refuses.
    let before = registry.access_log().len();
    sync(&desk, &arguments("ours")).success();
    // Without --all an index is read to choose from it; its digest is not what lies in the tree.
    let all = options.contains(&"--all");
    let needless = |path: &str| path.contains("/blobs/") || (all && path.contains("/manifests/"));
    let moved: Vec<_> =
        registry.access_log().drain(before..).filter(|a| a.method == "GET" && needless(&a.path)).collect();
    assert!(moved.is_empty(), "{moved:?}");
    assert_same_trees(&desk.path().join("theirs"), &desk.path().join("ours"));
}

#[test]
fn trees_of_a_repository_a_tag_and_a_digest_are_equal() {
    let (registry, desk) = (RealRegistry::with_corpus(), desk!());
    let references = references();
    let find = |repository: &str| references.iter().find(|r| r.repository == repository).expect("in the corpus");
    let jq = format!("{}/team/tools/jq", registry.host());
    let digest = find("team/pinned").at(registry.host());
    let list = find("docker/list").at(registry.host());
    let cases: [(&str, &str, &[&str]); 6] = [
        ("repository", &jq, &[]),
        ("repository-all", &jq, &["--all"]),
        ("tag", &list, &["-a", "--scoped"]),
        ("arm", &list, &[]),
        ("digest", &digest, &[]),
        ("digest-scoped", &digest, &["--scoped"]),
    ];
    for (name, source, options) in cases {
        let arguments = |by: &str| -> Vec<String> {
            let tree = format!("{by}/{name}");
            [options, &["-s", "docker", "-d", "dir", source, &tree]].concat().into_iter().map(str::to_owned).collect()
        };
        // skopeo takes the platform before its command, and so does sealift.
        let before: &[&str] = if name == "arm" { &["--override-arch", "arm64"] } else { &[] };
        let ours: Vec<String> = arguments("ours");
        let ours: Vec<&str> = before.iter().copied().chain(["sync"]).chain(ours.iter().map(String::as_str)).collect();
        desk.sealift(&ours).success();
        let theirs = arguments(desk.path().join("theirs").to_str().unwrap());
        let theirs = before
            .iter()
            .map(|text| (*text).to_owned())
            .chain(["sync".to_owned(), "--src-tls-verify=false".to_owned()])
            .chain(theirs);
        support::skopeo(&theirs.collect::<Vec<_>>());
        assert_same_trees(&desk.path().join("theirs").join(name), &desk.path().join("ours").join(name));
    }
}

#[rstest]
#[case::plain(&[])]
#[case::all(&["--all"])]
fn registries_are_equal_tag_by_tag(#[case] options: &[&str]) {
    let (registry, desk) = (RealRegistry::with_corpus(), desk!());
    let has_list = |reference: &Reference| reference.repository == "team/tools/jq";
    yaml(&desk, &registry, |reference| match options.contains(&"--all") {
        true => reference.has("nested"),
        false => has_list(reference),
    });
    let (theirs, ours) = (RealRegistry::start(), RealRegistry::start());
    let common = ["--preserve-digests", "--src", "yaml", "--dest", "docker", "sync.yaml"];
    let at = |registry: &RealRegistry| format!("{}/mirror", registry.host());
    skopeo_sync(&desk, &[options, &common, &[&at(&theirs)]].concat());
    sync(&desk, &[options, &common, &[&at(&ours)]].concat()).success();
    let (theirs, found) = (walk_all(theirs.host()), walk_all(ours.host()));
    assert_eq!(theirs.tags, found.tags);
    assert_eq!(theirs.items, found.items);
    assert!(found.lies().is_empty() && found.tags.len() > 7, "{:?}", found.tags);
    // Again: one request a tag on each side, nothing is read and nothing is written.
    let before = (registry.access_log().len(), ours.access_log().len());
    sync(&desk, &[options, &common, &[&at(&ours)]].concat()).success().stderr_contains("there already");
    let there: Vec<_> = ours.access_log().drain(before.1..).collect();
    let heads = there.iter().filter(|a| a.method == "HEAD").count();
    assert!(there.iter().all(|a| a.method == "HEAD" || a.path == "/v2/"), "{there:?}");
    let here: Vec<_> = registry.access_log().drain(before.0..).collect();
    let (tags, pinned) = (here.iter().filter(|a| a.method == "HEAD").count(), 1);
    assert_eq!(heads, tags + pinned, "{here:?}");
    assert!(!here.iter().any(|a| a.path.contains("/blobs/")), "{here:?}");
}
