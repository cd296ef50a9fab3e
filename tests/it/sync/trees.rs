//! Trees of files, to compare.

use std::collections::BTreeMap;
use std::path::Path;

use support::{RealRegistry, Reference, references, skopeo};

/// Every file below a directory: its path and its bytes. What `diff -r` compares, and empty directories not.
pub(crate) fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn visit(root: &Path, directory: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                visit(root, &path, files);
            } else {
                let name = path.strip_prefix(root).expect("below").to_str().expect("UTF-8").to_owned();
                files.insert(name, std::fs::read(&path).expect("a file can be read"));
            }
        }
    }
    let mut files_found = BTreeMap::new();
    visit(root, root, &mut files_found);
    files_found
}

/// As `diff -r` would say it: what is only in one of them, and what differs.
#[track_caller]
pub(crate) fn assert_same(one: &Path, other: &Path) {
    let (a, b) = (files(one), files(other));
    let names: Vec<&String> = a.keys().chain(b.keys()).filter(|name| a.get(*name) != b.get(*name)).collect();
    assert!(!a.is_empty(), "{} is empty", one.display());
    assert!(names.is_empty(), "{} and {} differ in {names:#?}", one.display(), other.display());
}

/// The images of the corpus that skopeo can write into a directory: all but an index in an index.
pub(crate) fn carried_by_skopeo() -> Vec<Reference> {
    references().into_iter().filter(|reference| !reference.has("nested")).collect()
}

/// `skopeo sync` with these options, of every image of the corpus by itself.
pub(crate) fn skopeo_tree(source: &RealRegistry, options: &[&str], tree: &Path) {
    for reference in carried_by_skopeo() {
        let image = reference.at(source.host());
        let fixed = ["sync", "--src-tls-verify=false", "--src", "docker", "--dest", "dir"];
        skopeo(&[&fixed, options, &[image.as_str(), tree.to_str().expect("UTF-8")]].concat());
    }
}
