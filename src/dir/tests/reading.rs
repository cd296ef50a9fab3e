//! Trees that are read.

use crate::dir::tests::*;
use crate::error::Kind;
use crate::oci::{Descriptor, View};

fn children(document: &Document) -> Vec<Descriptor> {
    match document.view() {
        View::Index { children } => children.clone(),
        View::Manifest { .. } => panic!("not an index"),
    }
}

async fn sample() -> (Place, Shelf, Document) {
    let mut shelf = Shelf::default();
    let (a, b) = (shelf.image("a", &["shared"]), shelf.image("b", &["shared", "layer"]));
    let index = shelf.index(&[&a, &b]);
    let place = Place::new();
    place.write(&shelf, &[("ns/app:1", &index), ("tool:1", &a)]).await.unwrap();
    (place, shelf, index)
}

#[tokio::test]
async fn what_was_written_is_found_read_and_moved_unchanged() {
    let (place, shelf, index) = sample().await;
    // As skopeo names what comes from a registry with a port.
    std::fs::create_dir(place.tree().join("127.0.0.1:5000")).unwrap();
    std::fs::rename(place.tree().join("ns"), place.tree().join("127.0.0.1:5000/ns")).unwrap();
    let tree = Tree::scan(&place.tree()).unwrap();
    let suffixes: Vec<&str> = tree.images().iter().map(|image| image.suffix.as_str()).collect();
    assert_eq!(suffixes, ["127.0.0.1:5000/ns/app:1", "tool:1"]);
    assert!(tree.failures().is_empty() && tree.notes().is_empty());

    let image = tree.images()[0].clone();
    let top = tree.document(&image).unwrap();
    assert_eq!(top.bytes(), index.bytes());
    let mut builder = Builder::default();
    builder.document(&top).unwrap();
    for child in children(&top) {
        builder.document(&tree.child(&image, &child).unwrap()).unwrap();
    }
    let name = "moved/app:1".parse().unwrap();
    builder.image(NamedImage { name, source: image.shown.clone(), document: top.digest() }, None);
    let contents = Arc::new(builder.finish().unwrap());
    tree.check(&contents).unwrap();
    let to = Place::new();
    let destination = Arc::new(to.destination(&contents));
    transfer::run(contents, Input::Source(Arc::new(tree)), destination, &options()).await.unwrap();
    assert_eq!(to.files(), expected(&shelf, &[("moved/app:1", &index)]));
}

#[tokio::test]
async fn a_tree_that_is_itself_an_image_is_called_by_its_last_name() {
    let (place, ..) = sample().await;
    for path in ["tree/ns/app:1", "tree/ns/app:1/", "tree/ns/app:1/.", "tree/ns/app:1/../app:1"] {
        let tree = Tree::scan(&place.folder.path().join(path)).unwrap();
        assert_eq!(tree.images().len(), 1, "{path}");
        assert_eq!(tree.images()[0].suffix, "app:1", "{path}");
        assert_eq!(children(&tree.document(&tree.images()[0]).unwrap()).len(), 2);
    }
    let error = Tree::scan(place.folder.path().join("none").as_path()).expect_err("not there");
    assert_eq!(error.kind(), Kind::Io);
    std::fs::create_dir(place.folder.path().join("empty")).unwrap();
    let error = Tree::scan(&place.folder.path().join("empty")).expect_err("no image");
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn what_is_missing_or_wrong_is_named_before_anything_moves() {
    let (place, shelf, index) = sample().await;
    let contents = shelf.contents(&[("ns/app:1", &index), ("tool:1", &shelf.documents[0])]);
    let blob = |name: &str, text: &str| place.tree().join(name).join(Digest::of(text.as_bytes()).hex());
    let child = children(&index)[1].clone();
    let path = place.tree().join(format!("ns/app:1/{}.manifest.json", child.digest.hex()));
    let image = |tree: &Tree| tree.images()[0].clone();

    // Another image's copy of a blob will do.
    std::fs::remove_file(blob("tool:1", "shared")).unwrap();
    Tree::scan(&place.tree()).unwrap().check(&contents).unwrap();
    std::fs::remove_file(blob("ns/app:1", "shared")).unwrap();
    let error = Tree::scan(&place.tree()).unwrap().check(&contents).expect_err("a blob is missing");
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.chain().contains("ns/app:1") && error.chain().contains("tool:1"), "{error:?}");

    std::fs::write(blob("ns/app:1", "shared"), "longer than it was").unwrap();
    let error = Tree::scan(&place.tree()).unwrap().check(&contents).expect_err("a size is wrong");
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.chain().contains("has 18 of 6 bytes"), "{error:?}");

    // A manifest, and of the right size, but not the one.
    let other = std::fs::read_to_string(&path).unwrap().replace(r#""mediaType":"x""#, r#""mediaType":"y""#);
    std::fs::write(&path, other).unwrap();
    let tree = Tree::scan(&place.tree()).unwrap();
    let error = tree.child(&image(&tree), &child).expect_err("a manifest is wrong");
    assert_eq!(error.kind(), Kind::Damaged);
    std::fs::remove_file(&path).unwrap();
    let error = tree.child(&image(&tree), &child).expect_err("a manifest is missing");
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.chain().contains("linux/arm64") && error.hints().concat().contains("--all"), "{error:?}");
}

#[tokio::test]
async fn bytes_that_are_not_those_of_their_name_are_damage() {
    let (place, shelf, index) = sample().await;
    std::fs::write(place.tree().join("ns/app:1").join(Digest::of(b"layer").hex()), "LAYER").unwrap();
    let contents = shelf.contents(&[("ns/app:1", &index)]);
    let tree = Tree::scan(&place.tree()).unwrap();
    let to = Place::new();
    let destination = Arc::new(to.destination(&contents));
    let error = transfer::run(contents, Input::Source(Arc::new(tree)), destination, &options())
        .await
        .expect_err("a layer is wrong");
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.chain().contains(&Digest::of(b"layer").hex()), "{error:?}");
    assert!(!to.tree().join("ns/app:1").exists());
}

#[tokio::test]
async fn media_types_are_told_from_the_json_and_schema_1_is_refused_by_name() {
    let d = Digest::of(b"");
    let config = |kind: &str| format!(r#"{{"mediaType":"{kind}","digest":"{d}","size":0}}"#);
    let docker = "application/vnd.docker.container.image.v1+json";
    let oci = MediaType::OCI_MANIFEST;
    for (text, kind) in [
        (format!(r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#, config("x")), Ok(oci)),
        (format!(r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#, config(docker)), Ok(MediaType::DOCKER_MANIFEST)),
        (format!(r#"{{"schemaVersion":2,"mediaType":"{oci}","config":{},"layers":[]}}"#, config(docker)), Ok(oci)),
        (
            format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, MediaType::DOCKER_LIST),
            Ok(MediaType::DOCKER_LIST),
        ),
        (r#"{"schemaVersion":2,"manifests":[]}"#.into(), Ok(MediaType::OCI_INDEX)),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#.into(), Err("schema 1")),
        (r#"{"name":"a web application"}"#.into(), Err("not a manifest or index")),
    ] {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("manifest.json"), &text).unwrap();
        let tree = Tree::scan(place.path()).unwrap();
        match (tree.document(&tree.images()[0]), kind) {
            (Ok(document), Ok(kind)) => assert_eq!(document.media_type().as_str(), kind, "{text}"),
            (Err(error), Err(reason)) => assert!(error.chain().contains(reason), "{text}: {error:?}"),
            (read, kind) => panic!("{text}: {kind:?}, and was {read:?}"),
        }
    }
}

#[test]
fn versions_that_are_not_known_are_refused_and_none_is_well() {
    for (version, good) in [(None, true), (Some("1.1"), true), (Some("1.2"), true), (Some("2.0"), false)] {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("manifest.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
        if let Some(version) = version {
            let text = format!("Directory Transport Version: {version}\n");
            std::fs::write(place.path().join("version"), text).unwrap();
        }
        let tree = Tree::scan(place.path()).unwrap();
        assert_eq!(tree.document(&tree.images()[0]).is_ok(), good, "{version:?}");
    }
}
