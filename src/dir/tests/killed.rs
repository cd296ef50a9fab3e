//! Runs that do not come to their end, at every point where they can be stopped.

use crate::content::{Body, Destination, ManifestId};
use crate::dir::image::ImageFiles;
use crate::dir::locked_directory::LockedDirectory;
use crate::dir::tests::*;
use crate::error::Kind;

/// An old tree of two images, and what is to become of it.
struct Scene {
    place: Place,
    old: Shelf,
    new: Shelf,
    tops: [Document; 4],
}

impl Scene {
    async fn new() -> Scene {
        let mut old = Shelf::default();
        let (a, b) = (old.image("a", &["shared", "old"]), old.image("b", &["shared"]));
        let b = old.index(&[&b]);
        let place = Place::new();
        place.write(&old, &[("app:1", &a), ("app:2", &b)]).await.unwrap();
        let mut new = Shelf::default();
        let (c, d) = (new.image("c", &["shared", "new"]), new.image("d", &["new", "newer"]));
        let d = new.index(&[&d]);
        Scene { place, old, new, tops: [a, b, c, d] }
    }

    fn old_images(&self) -> [(&str, &Document); 2] {
        [("app:1", &self.tops[0]), ("app:2", &self.tops[1])]
    }

    fn new_images(&self) -> [(&str, &Document); 3] {
        [("app:1", &self.tops[2]), ("app:2", &self.tops[3]), ("app:3", &self.tops[2])]
    }

    /// Does everything but `commit`.
    async fn all_but_commit(&self) -> (Arc<Contents>, DirDestination) {
        let contents = self.new.contents(&self.new_images());
        let destination = self.place.destination(&contents);
        let there = destination.prepare(&contents).await.unwrap();
        for id in contents.blob_ids().filter(|id| !there.contains(id)) {
            let bytes = self.new.blobs[&contents.blob(id).digest].clone();
            let mut body = Body::whole(
                contents.blob(id).digest,
                bytes,
                Arc::new(crate::progress::Silent),
                CancellationToken::new(),
            );
            destination.put_blob(&contents, id, contents.blob(id).wanted[0], &mut body).await.unwrap();
        }
        for id in contents.manifest_ids() {
            destination.put_manifest(&contents, id).await.unwrap();
        }
        (contents, destination)
    }

    /// Every image that can be found is one of these as a whole; what else there is calls itself unfinished.
    fn assert_whole(&self, images: &[(&str, &Document)]) {
        let tree = Tree::scan(&self.place.tree()).unwrap();
        let found: Vec<&str> = tree.images().iter().map(|image| image.suffix.as_str()).collect();
        let names: Vec<&str> = images.iter().map(|(name, _)| *name).collect();
        assert_eq!(found, names);
        let all = self.place.files();
        for (shelf, image) in
            [(&self.old, images), (&self.new, images)].into_iter().flat_map(|(s, i)| i.iter().map(move |i| (s, i)))
        {
            if shelf.documents.iter().any(|document| document.digest() == image.1.digest()) {
                for (path, bytes) in expected(shelf, &[*image]) {
                    assert_eq!(all.get(&path), Some(&bytes), "{path}");
                }
            }
        }
        let unfinished = tree.failures();
        assert!(!unfinished.is_empty(), "the tree says that it is unfinished");
    }

    async fn assert_goes_on(&self, fetching: usize) {
        self.place.write(&self.new, &self.new_images()).await.unwrap();
        assert_eq!(self.place.given(), fetching);
        assert_eq!(self.place.files(), expected(&self.new, &self.new_images()));
    }
}

#[tokio::test]
async fn stopped_while_blobs_come_the_images_are_the_old_ones_to_the_byte() {
    let mut scene = Scene::new().await;
    let before = scene.place.files();
    let last = Digest::of(b"newer");
    let bytes = scene.new.blobs.remove(&last).unwrap();
    scene.place.write(&scene.new, &scene.new_images()).await.expect_err("a blob cannot be had");
    let mut after = scene.place.files();
    after.retain(|path, _| !path.starts_with(".sealift.partial/"));
    assert_eq!(after, before);
    scene.assert_whole(&scene.old_images());
    // As a kill would leave it.
    std::fs::write(scene.place.tree().join(format!(".sealift.partial/.{}.part", last.hex())), "ne").unwrap();
    let kept = files(&scene.place.tree().join(".sealift.partial")).len() - 1;
    scene.new.blobs.insert(last, bytes);
    scene.assert_goes_on(4 - kept).await;
}

#[tokio::test]
async fn what_a_killed_run_left_is_hashed_and_not_believed() {
    let scene = Scene::new().await;
    drop(scene.all_but_commit().await);
    std::fs::create_dir_all(scene.place.tree().join(".sealift.partial")).unwrap();
    let workshop = scene.place.tree().join(".sealift.partial");
    for name in ["app:1", "app:2", "app:3"] {
        let _ = std::fs::remove_file(scene.place.tree().join(name).join(Digest::of(b"new").hex()));
    }
    std::fs::write(workshop.join(Digest::of(b"new").hex()), "NEW").unwrap();
    scene.assert_goes_on(1).await;
}

#[tokio::test]
async fn stopped_before_the_manifests_the_images_are_old_and_the_next_run_fetches_nothing() {
    let scene = Scene::new().await;
    drop(scene.all_but_commit().await);
    scene.assert_whole(&scene.old_images());
    scene.assert_goes_on(0).await;
}

#[tokio::test]
async fn stopped_between_two_manifests_each_image_is_old_or_new_as_a_whole() {
    for switched in 0..=3 {
        let scene = Scene::new().await;
        let (contents, destination) = scene.all_but_commit().await;
        drop(destination);
        let site = LockedDirectory::open(&scene.place.tree()).unwrap();
        let tagged: Vec<ManifestId> =
            contents.manifest_ids().filter(|id| contents.manifest(*id).image.is_some()).collect();
        for id in tagged.iter().take(switched) {
            let name = contents.images[contents.manifest(*id).image.unwrap() as usize].name.to_string();
            let folder = site.image(&name).unwrap();
            ImageFiles::of(&contents, *id).switch(&contents, &folder, &ImageSignatures::default()).unwrap();
        }
        // As a kill leaves it: the directory stays.
        std::fs::write(scene.place.tree().join(".sealift.partial/left"), "").unwrap();
        drop(site);
        std::fs::remove_file(scene.place.tree().join(".sealift.partial/left")).unwrap();
        let (old, new) = (scene.old_images(), scene.new_images());
        let images: Vec<(&str, &Document)> = (0..3)
            .filter_map(|image| if image < switched { Some(new[image]) } else { old.get(image).copied() })
            .collect();
        scene.assert_whole(&images);
        scene.assert_goes_on(0).await;
    }
}

#[tokio::test]
async fn another_request_sweeps_what_a_killed_run_left() {
    let scene = Scene::new().await;
    let contents = scene.new.contents(&scene.new_images());
    let destination = scene.place.destination(&contents);
    destination.prepare(&contents).await.unwrap();
    let id = contents.blob_ids().find(|id| contents.blob(*id).digest == Digest::of(b"newer")).unwrap();
    let bytes = Bytes::from_static(b"newer");
    let mut body =
        Body::whole(contents.blob(id).digest, bytes, Arc::new(crate::progress::Silent), CancellationToken::new());
    destination.put_blob(&contents, id, contents.blob(id).wanted[0], &mut body).await.unwrap();
    drop(destination);
    assert!(scene.place.tree().join(".sealift.partial").join(Digest::of(b"newer").hex()).exists());
    scene.place.write(&scene.old, &scene.old_images()).await.unwrap();
    assert_eq!(scene.place.files(), expected(&scene.old, &scene.old_images()));
    assert!(!scene.place.tree().join(".sealift.partial").exists());
}

#[tokio::test]
async fn one_run_at_a_time_writes_a_tree_and_one_that_writes_nothing_leaves_nothing() {
    let mut shelf = Shelf::default();
    let a = shelf.image("a", &["layer"]);
    let contents = shelf.contents(&[("app:1", &a)]);
    let place = Place::new();
    let first = place.destination(&contents);
    first.prepare(&contents).await.unwrap();
    let error = place.destination(&contents).prepare(&contents).await.expect_err("locked");
    assert_eq!(error.kind(), Kind::Io);
    assert!(error.chain().contains("another sync"), "{error:?}");
    drop(first);
    assert!(!place.tree().exists(), "a directory that was made for nothing is gone");
    std::fs::create_dir(place.tree()).unwrap();
    let second = place.destination(&contents);
    second.prepare(&contents).await.unwrap();
    drop(second);
    assert_eq!(std::fs::read_dir(place.tree()).unwrap().count(), 0, "one that was there stays, empty");
}
