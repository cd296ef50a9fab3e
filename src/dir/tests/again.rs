//! Trees that are written, once and again.

use crate::dir::tests::*;
use crate::error::Kind;

fn two() -> (Shelf, Document, Document, Document) {
    let mut shelf = Shelf::default();
    let a = shelf.image("a", &["shared", "only a"]);
    let b = shelf.image("b", &["shared", "only b"]);
    let index = shelf.index(&[&a, &b]);
    (shelf, a, b, index)
}

#[tokio::test]
async fn a_new_tree_has_exactly_the_files_of_the_transport_and_each_blob_came_once() {
    let (shelf, a, _, index) = two();
    let images = [("ns/app:1", &index), ("ns/app:2", &a), ("other/tool:1", &a)];
    let place = Place::new();
    place.write(&shelf, &images).await.unwrap();
    assert_eq!(place.files(), expected(&shelf, &images));
    assert_eq!(place.given(), 5, "two configs and three layers, each once");
    let shared = Digest::of(b"shared").hex();
    let inodes: Vec<u64> = images.iter().map(|(name, _)| inode(&place.tree().join(name).join(&shared))).collect();
    assert!(inodes.iter().all(|inode| *inode == inodes[0]), "one file in three directories: {inodes:?}");
    let manifests =
        [inode(&place.tree().join("ns/app:2/manifest.json")), inode(&place.tree().join("other/tool:1/manifest.json"))];
    assert_ne!(manifests[0], manifests[1], "skopeo writes into manifests: they are never linked");
    assert_eq!(std::fs::read_dir(place.tree()).unwrap().count(), 2, "nothing is left but ns and other");
}

#[tokio::test]
async fn what_is_there_is_neither_fetched_nor_touched_again() {
    let (shelf, a, _, index) = two();
    let images = [("ns/app:1", &index), ("ns/app:2", &a)];
    let place = Place::new();
    place.write(&shelf, &images).await.unwrap();
    let state = || -> Vec<(PathBuf, u64, i64, i64)> {
        let walk = walkdir::WalkDir::new(place.tree()).sort_by_file_name().into_iter().map(|entry| entry.unwrap());
        walk.filter(|entry| entry.file_type().is_file())
            .map(|entry| {
                let meta = entry.metadata().unwrap();
                (entry.into_path(), meta.ino(), meta.mtime_nsec(), meta.ctime_nsec())
            })
            .collect()
    };
    let before = state();
    let summary = place.write(&shelf, &images).await.unwrap();
    assert_eq!((place.given(), summary.moved), (0, 0));
    assert_eq!(state(), before);
}

#[tokio::test]
async fn a_moved_tag_brings_only_what_is_new_and_takes_away_what_is_old() {
    let (mut shelf, a, b, _) = two();
    let place = Place::new();
    place.write(&shelf, &[("ns/app:1", &a), ("ns/keep:1", &b)]).await.unwrap();
    let c = shelf.image("c", &["shared", "only b", "new"]);
    place.write(&shelf, &[("ns/app:1", &c)]).await.unwrap();
    assert_eq!(place.given(), 2, "the config and the new layer; the others are below the destination");
    assert_eq!(place.files(), expected(&shelf, &[("ns/app:1", &c), ("ns/keep:1", &b)]));
}

#[tokio::test]
async fn an_index_that_becomes_a_single_image_leaves_no_manifest_behind() {
    let (shelf, a, _, index) = two();
    let place = Place::new();
    place.write(&shelf, &[("app:1", &index)]).await.unwrap();
    place.write(&shelf, &[("app:1", &a)]).await.unwrap();
    assert_eq!(place.files(), expected(&shelf, &[("app:1", &a)]));
}

#[tokio::test]
async fn bytes_that_went_bad_are_replaced_wherever_they_are() {
    let (shelf, a, _, _) = two();
    let images = [("ns/app:1", &a), ("ns/app:2", &a)];
    let place = Place::new();
    place.write(&shelf, &images).await.unwrap();
    // Same size, other bytes; one file by itself, one that two images share.
    let layer = |name: &str, text: &str| place.tree().join(name).join(Digest::of(text.as_bytes()).hex());
    std::fs::remove_file(layer("ns/app:1", "only a")).unwrap();
    std::fs::write(layer("ns/app:1", "only a"), "ONLY A").unwrap();
    std::fs::write(layer("ns/app:1", "shared"), "SHARED").unwrap();
    std::fs::write(place.tree().join("ns/app:2/manifest.json"), "{}").unwrap();
    std::fs::write(place.tree().join("ns/app:2/version"), "Directory Transport Version: 1.0\n").unwrap();
    place.write(&shelf, &images).await.unwrap();
    assert_eq!(place.given(), 1, "the bytes of the other one were still right somewhere");
    assert_eq!(place.files(), expected(&shelf, &images));
}

#[tokio::test]
async fn signatures_come_along_are_replaced_and_go() {
    let (shelf, a, b, index) = two();
    let from = Place::new();
    from.write(&shelf, &[("app:1", &index)]).await.unwrap();
    let write = |name: String, text: &str| std::fs::write(from.tree().join("app:1").join(name), text).unwrap();
    write("signature-1".into(), "top one");
    write("signature-2".into(), "top two");
    write("signature-4".into(), "after a gap");
    write(format!("{}.signature-1", a.digest().hex()), "of a");
    let tree = Tree::scan(&from.tree()).unwrap();
    let signatures = tree.signatures(&tree.images()[0]).unwrap();

    let mut to = Place::new();
    to.signatures.insert("app:1".into(), signatures.clone());
    to.write(&shelf, &[("app:1", &index)]).await.unwrap();
    let mut want = expected(&shelf, &[("app:1", &index)]);
    want.insert("app:1/signature-1".into(), b"top one".to_vec());
    want.insert("app:1/signature-2".into(), b"top two".to_vec());
    want.insert(format!("app:1/{}.signature-1", a.digest().hex()), b"of a".to_vec());
    assert_eq!(to.files(), want);

    // The same image, with fewer of them.
    to.signatures.insert("app:1".into(), signatures.of(None));
    to.write(&shelf, &[("app:1", &index)]).await.unwrap();
    want.remove(&format!("app:1/{}.signature-1", a.digest().hex()));
    assert_eq!(to.files(), want);

    // One platform of it, with the signature of that platform.
    to.signatures.insert("app:1".into(), signatures.of(Some(a.digest())));
    to.write(&shelf, &[("app:1", &a)]).await.unwrap();
    let mut want = expected(&shelf, &[("app:1", &a)]);
    want.insert("app:1/signature-1".into(), b"of a".to_vec());
    assert_eq!(to.files(), want);

    to.signatures.clear();
    to.write(&shelf, &[("app:1", &b)]).await.unwrap();
    assert_eq!(to.files(), expected(&shelf, &[("app:1", &b)]));
}

#[tokio::test]
async fn the_files_of_others_stay() {
    let (shelf, a, _, _) = two();
    let place = Place::new();
    place.write(&shelf, &[("app:1", &a)]).await.unwrap();
    std::fs::write(place.tree().join("app:1/notes.txt"), "mine").unwrap();
    std::fs::create_dir(place.tree().join("app:1/more")).unwrap();
    place.write(&shelf, &[("app:1", &a)]).await.unwrap();
    assert!(place.warnings().concat().contains("notes.txt does not belong to the image"));
    assert!(place.tree().join("app:1/notes.txt").exists() && place.tree().join("app:1/more").exists());

    // What is no image is not made one, and all of them are named before anything is written.
    let before = place.files();
    for (directory, file) in [("photos:1", "cat.jpg"), ("site:1", "manifest.json")] {
        std::fs::create_dir(place.tree().join(directory)).unwrap();
        std::fs::write(place.tree().join(directory).join(file), "mine").unwrap();
    }
    let error = place.write(&shelf, &[("photos:1", &a), ("site:1", &a), ("new:1", &a)]).await.expect_err("not images");
    assert_eq!(error.kind(), Kind::Usage, "{error:?}");
    assert!(error.chain().contains("cat.jpg") && error.chain().contains("site:1/manifest.json"), "{error:?}");
    let after = place.files();
    assert_eq!(after.len(), before.len() + 2);
    assert!(!place.tree().join("new:1").exists() && !place.tree().join(".sealift.partial").exists());
}

#[tokio::test]
async fn two_images_for_one_directory_and_paths_that_lead_out_are_refused_and_nothing_is_made() {
    let place = Place::new();
    let placement = |image: &str, directory: &str| Placement {
        image: image.parse().unwrap(),
        directory: directory.into(),
        signatures: ImageSignatures::default(),
    };
    let new = |placements| DirDestination::new(place.tree(), placements, Arc::new(crate::progress::Silent));
    let error = new(vec![placement("a:1", "x"), placement("b:1", "x")]).err().unwrap();
    assert!(error.chain().contains("a:1 and b:1"), "{error:?}");
    for bad in ["", "/x", "x/", "a//b", "..", "a/../b", "./a", ".sealift.partial/x", "a\0b", &"x".repeat(256)] {
        let error = new(vec![placement("a:1", bad)]).err().unwrap_or_else(|| panic!("{bad:?} was taken"));
        assert_eq!(error.kind(), Kind::Usage);
    }
    assert!(new(vec![placement("a:1", "127.0.0.1:5000/ns/a@sha256:00")]).is_ok());
    assert!(!place.tree().exists());
}
