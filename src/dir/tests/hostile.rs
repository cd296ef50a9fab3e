//! Trees that somebody made to do harm, and media that cannot do everything.

use std::os::unix::fs::symlink;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use std::sync::Arc;

use crate::dir::link::{LinkKind, clone, share};
use crate::dir::tests::*;
use crate::error::Kind;
use crate::files::Directory;
use crate::oci::MAX_DOCUMENT;

async fn tree_of_one() -> (Place, Shelf, Document) {
    let mut shelf = Shelf::default();
    let a = shelf.image("a", &["layer"]);
    let place = Place::new();
    place.write(&shelf, &[("ns/app:1", &a)]).await.unwrap();
    (place, shelf, a)
}

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[tokio::test]
async fn links_and_special_files_below_the_source_are_not_opened() {
    let (place, shelf, a) = tree_of_one().await;
    let image = place.tree().join("ns/app:1");
    let outside = place.folder.path().join("outside");
    std::fs::rename(&image, &outside).unwrap();
    std::fs::create_dir(&image).unwrap();
    symlink(outside.join("manifest.json"), image.join("manifest.json")).unwrap();
    symlink(&outside, place.tree().join("linked:1")).unwrap();
    std::fs::create_dir(place.tree().join("pipe:1")).unwrap();
    fifo(&place.tree().join("pipe:1/manifest.json"));
    let tree = Tree::scan(&place.tree()).unwrap();
    assert!(tree.images().is_empty());
    let failures: String = tree.failures().iter().map(|failure| failure.error.chain()).collect();
    assert!(failures.contains("symbolic link") && failures.contains("named pipe"), "{failures}");
    assert!(tree.notes().concat().contains("linked:1"), "{:?}", tree.notes());

    // A real manifest beside linked and special files.
    std::fs::remove_file(image.join("manifest.json")).unwrap();
    std::fs::copy(outside.join("manifest.json"), image.join("manifest.json")).unwrap();
    let layer = Digest::of(b"layer").hex();
    symlink(outside.join(&layer), image.join(&layer)).unwrap();
    fifo(&image.join(Digest::of(b"a").hex()));
    let contents = shelf.contents(&[("ns/app:1", &a)]);
    let tree = Tree::scan(&place.tree()).unwrap();
    let error = tree.check(&contents).expect_err("blobs are no files");
    assert_eq!(error.kind(), Kind::NotFound, "{error:?}");

    fifo(&image.join("version"));
    assert!(tree.document(&tree.images()[0]).expect_err("a pipe").chain().contains("named pipe"));
}

#[tokio::test]
async fn a_manifest_beyond_the_limit_is_refused_unread() {
    let (place, ..) = tree_of_one().await;
    let file = std::fs::File::create(place.tree().join("ns/app:1/manifest.json")).unwrap();
    // Would not fit into memory.
    file.set_len(1 << 40).unwrap();
    let tree = Tree::scan(&place.tree()).unwrap();
    let error = tree.document(&tree.images()[0]).expect_err("too large");
    assert!(error.chain().contains(&format!("more than {MAX_DOCUMENT}")), "{error:?}");
}

#[test]
fn directories_without_end_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = Directory::open(place.path()).unwrap();
    for _ in 0..140 {
        folder = crate::files::make_folder(&folder, "d").unwrap();
    }
    let error = Tree::scan(place.path()).expect_err("too deep");
    assert_eq!(error.kind(), Kind::Refused);
}

#[tokio::test]
async fn directories_that_look_like_images_and_are_none_are_told_apart() {
    let (place, ..) = tree_of_one().await;
    let make = |path: &str| {
        let path = place.tree().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    };
    let hex = Digest::of(b"x").hex();
    // skopeo leaves such a directory when it fails.
    make("failed:1/version");
    make(&format!("half:1/{hex}"));
    make(&format!(".sealift.partial/{hex}"));
    make("layout/oci-layout");
    make(&format!("layout/blobs/sha256/{hex}"));
    make("other/readme.txt");
    let tree = Tree::scan(&place.tree()).unwrap();
    assert_eq!(tree.images().len(), 1);
    let mut failed: Vec<String> = tree.failures().into_iter().map(|failure| failure.image).collect();
    failed.sort();
    let names: Vec<&str> = failed.iter().map(|path| path.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, [".sealift.partial", "failed:1", "half:1"]);
    assert!(tree.notes().concat().contains("OCI image layout"));
}

#[tokio::test]
async fn no_link_below_the_destination_leads_out_of_it() {
    let (_, shelf, a) = tree_of_one().await;
    let place = Place::new();
    let outside = place.folder.path().join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::create_dir(place.tree()).unwrap();
    symlink(&outside, place.tree().join("ns")).unwrap();
    let error = place.write(&shelf, &[("ns/app:1", &a)]).await.expect_err("a link");
    assert_eq!(error.kind(), Kind::Io);
    assert!(error.chain().contains("symbolic link"), "{error:?}");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test]
async fn a_link_in_an_image_is_replaced_and_what_it_names_is_not_touched() {
    let (place, shelf, a) = tree_of_one().await;
    let image = place.tree().join("ns/app:1");
    for name in ["manifest.json", &Digest::of(b"layer").hex()] {
        let outside = place.folder.path().join(name);
        std::fs::write(&outside, "mine").unwrap();
        std::fs::remove_file(image.join(name)).unwrap();
        symlink(&outside, image.join(name)).unwrap();
    }
    place.write(&shelf, &[("ns/app:1", &a)]).await.unwrap();
    assert_eq!(place.files(), expected(&shelf, &[("ns/app:1", &a)]));
    assert!(!inode_is_link(&image.join("manifest.json")));
    assert_eq!(std::fs::read(place.folder.path().join("manifest.json")).unwrap(), b"mine");
}

fn inode_is_link(path: &Path) -> bool {
    std::fs::symlink_metadata(path).unwrap().is_symlink()
}

#[tokio::test]
async fn a_medium_of_its_own_gets_a_copy_and_a_copy_of_wrong_bytes_does_not_get_its_name() {
    let here = tempfile::tempdir().unwrap();
    let Ok(there) = tempfile::tempdir_in("/dev/shm") else { return };
    if std::fs::metadata(here.path()).unwrap().dev() == std::fs::metadata(there.path()).unwrap().dev() {
        return;
    }
    let digest = Digest::of(b"layer");
    std::fs::write(here.path().join(digest.hex()), "layer").unwrap();
    let (from, to) = (Directory::open(here.path()).unwrap(), Arc::new(Directory::open(there.path()).unwrap()));
    assert_eq!(share(&from, &to, digest, 5).await.unwrap(), LinkKind::Copied);
    assert_eq!(std::fs::read(there.path().join(digest.hex())).unwrap(), b"layer");
    std::fs::write(here.path().join(digest.hex()), "LAYER").unwrap();
    std::fs::remove_file(there.path().join(digest.hex())).unwrap();
    let error = share(&from, &to, digest, 5).await.expect_err("other bytes");
    assert!(error.chain().contains("was changed"), "{error:?}");
    assert_eq!(std::fs::read_dir(there.path()).unwrap().count(), 0);
}

#[test]
fn a_clone_has_the_bytes_where_the_medium_can_and_leaves_nothing_where_it_cannot() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("from"), "layer").unwrap();
    std::fs::create_dir(place.path().join("to")).unwrap();
    let to = Directory::open(&place.path().join("to")).unwrap();
    let done = clone(&std::fs::File::open(place.path().join("from")).unwrap(), &to, "x").unwrap();
    let expected = if done { vec![("x".to_owned(), b"layer".to_vec())] } else { Vec::new() };
    assert_eq!(files(&place.path().join("to")).into_iter().collect::<Vec<_>>(), expected);
}
