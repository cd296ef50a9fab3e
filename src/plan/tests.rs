use crate::error::Kind;
use crate::oci::{Descriptor, Host, MediaType, Repository};
use crate::plan::*;
use crate::select::naming::NamePolicy;
use async_trait::async_trait;
use bytes::Bytes;
use rstest::rstest;
use std::collections::HashMap;
use std::sync::Mutex;

#[derive(Default)]
struct Memory {
    by_selector: HashMap<String, Document>,
    asked: Mutex<Vec<String>>,
}

impl Memory {
    fn with(mut self, repository: &str, selector: &str, document: &Document) -> Self {
        self.by_selector.insert(format!("{repository}{selector}"), document.clone());
        self.by_selector.insert(format!("{repository}@{}", document.digest()), document.clone());
        self
    }
}

#[async_trait]
impl Catalog for Memory {
    async fn tags(&self, _: &Host, _: &Repository) -> Result<crate::content::Tags> {
        unreachable!("planning lists no tags")
    }
    async fn document(&self, _: &Host, repository: &Repository, selector: &Selector) -> Result<Document> {
        let selector = selector.digest().map_or_else(|| selector.clone(), Selector::Digest);
        let key = format!("{repository}{selector}");
        self.asked.lock().unwrap().push(key.clone());
        self.by_selector.get(&key).cloned().ok_or_else(|| Error::not_found(format!("{key} is not there")))
    }
    async fn referrers(&self, _: &Host, _: &Repository, _: Digest) -> Result<Option<Vec<Descriptor>>> {
        unreachable!("not asked for")
    }
    async fn has_blob(&self, _: &Host, _: &Repository, _: Digest) -> Result<bool> {
        unreachable!("not asked for")
    }
}

fn manifest(seed: &str) -> Document {
    let digest = Digest::of(seed.as_bytes());
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"c","digest":"{digest}","size":{}}},"layers":[]}}"#,
        MediaType::OCI_MANIFEST,
        seed.len()
    );
    Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_MANIFEST)).unwrap()
}

fn index(child: &Document) -> Document {
    let text = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{}","digest":"{}","size":{}}}]}}"#,
        child.media_type(),
        child.digest(),
        child.size()
    );
    Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_INDEX)).unwrap()
}

fn wishes() -> PlanOptions {
    PlanOptions { referrers: false, jobs: 2, ..PlanOptions::default() }
}

fn references(texts: &[&str]) -> Vec<RequestedImage> {
    texts.iter().map(|text| text.parse::<Reference>().unwrap().into()).collect()
}

#[tokio::test]
async fn every_document_is_asked_for_once() {
    let (a, b) = (manifest("a"), manifest("b"));
    let list = index(&a);
    let memory = Memory::default().with("x", ":1", &list).with("x", "", &a).with("x", ":2", &list).with("x", ":3", &b);
    let contents = plan(&memory, &references(&["h.io/x:1", "h.io/x:2", "h.io/x:3"]), &wishes()).await.unwrap().contents;
    assert_eq!((contents.images.len(), contents.documents.len(), contents.blobs.len()), (3, 3, 2));
    let asked = memory.asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|key| **key == format!("x@{}", a.digest())).count(), 1, "{asked:?}");
}

#[tokio::test]
async fn a_pinned_image_keeps_its_name_and_is_asked_for_by_digest_once() {
    let a = manifest("a");
    let list = index(&a);
    let memory = Memory::default().with("x", ":1", &list).with("x", ":2", &list).with("x", "", &a);
    let mut images = references(&["h.io/x:1", "h.io/x:2"]);
    images.iter_mut().for_each(|image| image.pinned = Some(a.digest()));
    let contents = plan(&memory, &images, &wishes()).await.unwrap().contents;
    let landed: Vec<(String, Digest)> =
        contents.images.iter().map(|image| (image.name.to_string(), image.document)).collect();
    assert_eq!(landed, [("x:1".to_owned(), a.digest()), ("x:2".to_owned(), a.digest())]);
    assert_eq!(*memory.asked.lock().unwrap(), [format!("x@{}", a.digest())]);
}

#[tokio::test]
async fn all_images_that_cannot_be_read_are_named() {
    let memory = Memory::default().with("x", ":1", &manifest("a"));
    let error =
        plan(&memory, &references(&["h.io/x:1", "h.io/x:2", "h.io/y:1"]), &wishes()).await.expect_err("two fail");
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.chain().contains("2 of 3"), "{}", error.chain());
    assert!(error.chain().contains("h.io/x:2") && error.chain().contains("h.io/y:1"));
}

/// An index that says so of its children: media type, digest, size.
fn index_of(children: &[(&str, Digest, u64)]) -> Document {
    let children: Vec<String> = children
        .iter()
        .map(|(media_type, digest, size)| {
            format!(
                r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size},"platform":{{"os":"linux","architecture":"amd64"}}}}"#
            )
        })
        .collect();
    let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, children.join(","));
    Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_INDEX)).unwrap()
}

fn names(plan: &Plan) -> Vec<String> {
    plan.contents.images.iter().map(|image| image.name.to_string()).collect()
}

#[tokio::test]
async fn different_images_on_one_name_are_refused_before_anything_is_fetched_where_their_digests_are_known() {
    let (a, b) = (manifest("a"), manifest("b"));
    let memory = Memory::default().with("x", ":1", &a);
    let [one, two] = [&a, &b].map(|document| format!("a.io/x:1@{}", document.digest()));
    let error = plan(&memory, &references(&[&one, &two]), &wishes()).await.expect_err("two images");
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.chain().contains(&one) && error.chain().contains(&two), "{error:?}");
    assert!(memory.asked.lock().unwrap().is_empty());
}

/// Also with `keep_going`: nobody but the user can say which one was meant.
#[tokio::test]
async fn different_images_on_one_name_are_refused_when_they_are_read() {
    let (a, b) = (manifest("a"), manifest("b"));
    let memory = Memory::default().with("x", ":1", &a).with("y/x", ":1", &b);
    let base = PlanOptions { names: NamePolicy::Base.into(), keep_going: true, ..wishes() };
    let error = plan(&memory, &references(&["a.io/x:1", "a.io/y/x:1"]), &base).await.expect_err("two images");
    assert_eq!(error.kind(), Kind::Usage);
    let said = error.chain();
    assert!(said.contains("a.io/x:1 and a.io/y/x:1") && said.contains("as x:1"), "{said}");
}

#[rstest]
#[case::tag_and_digest("a.io/x:1", "a.io/x:1@DIGEST")]
#[case::two_registries("a.io/x:1", "b.io/x:1")]
#[case::two_registries_by_digest("a.io/x:1@DIGEST", "b.io/x:1@DIGEST")]
#[tokio::test]
async fn one_image_that_is_asked_for_in_two_ways_lands_once(#[case] one: &str, #[case] two: &str) {
    let a = manifest("a");
    let memory = Memory::default().with("x", ":1", &a);
    let [one, two] = [one, two].map(|text| text.replace("DIGEST", &a.digest().to_string()));
    for (first, second) in [(&one, &two), (&two, &one)] {
        let planned = plan(&memory, &references(&[first, second]), &wishes()).await.unwrap();
        assert_eq!(names(&planned), ["x:1"]);
        assert_eq!(planned.contents.images[0].source, **first, "the first that was asked for counts");
    }
}

#[rstest]
#[case::size(MediaType::OCI_MANIFEST, 130, "the index says 130 bytes, the manifest has")]
#[case::media_type(
    MediaType::DOCKER_MANIFEST,
    0,
    "the index says application/vnd.docker.distribution.manifest.v2+json"
)]
#[tokio::test]
async fn an_index_that_is_wrong_about_a_child_costs_its_image_alone(
    #[case] said_type: &str,
    #[case] said_size: u64,
    #[case] said: &str,
) {
    let (a, b) = (manifest("a"), manifest("b"));
    let size = if said_size == 0 { a.size() } else { said_size };
    let wrong = index_of(&[(said_type, a.digest(), size)]);
    let memory = Memory::default().with("x", ":1", &wrong).with("x", "", &a).with("y", ":1", &b);
    let images = references(&["h.io/x:1", "h.io/y:1"]);
    let error = plan(&memory, &images, &wishes()).await.expect_err("the index is wrong");
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.chain().contains("h.io/x:1") && error.chain().contains(said), "{error:?}");
    assert!(error.chain().contains("(linux/amd64)") && error.chain().contains("publisher's mistake"), "{error:?}");
    assert!(error.hints()[0].contains("--platform") && error.hints()[0].contains("linux/amd64"), "{error:?}");
    assert!(error.hints()[1].contains(&format!("h.io/x@{}", a.digest())), "{error:?}");
    let planned = plan(&memory, &images, &PlanOptions { keep_going: true, ..wishes() }).await.unwrap();
    assert_eq!((names(&planned), planned.failures.len()), (vec!["y:1".to_owned()], 1));
    assert_eq!(planned.failures[0].image, "h.io/x:1");
    // Both ways on that the error gives.
    let platforms = Platforms::new(vec!["linux/amd64".parse().unwrap()], false);
    let planned = plan(&memory, &images[..1], &PlanOptions { platforms, ..wishes() }).await.unwrap();
    assert_eq!(planned.contents.images[0].document, a.digest());
    let by_digest = references(&[&format!("h.io/x@{}", a.digest())]);
    assert_eq!(plan(&memory, &by_digest, &wishes()).await.unwrap().contents.images.len(), 1);
}

/// What goes wrong when documents are put in order, and no longer when they are read.
#[tokio::test]
async fn images_that_contradict_each_other_cost_one_of_them() {
    let image = manifest("image");
    let layer = |digest: Digest, size: u64| format!(r#"{{"mediaType":"l","digest":"{digest}","size":{size}}}"#);
    let with_layers = |layers: &[String]| {
        let config = Digest::of(b"c");
        let config = format!(r#"{{"mediaType":"c","digest":"{config}","size":1}}"#);
        let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, layers.join(","));
        Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_MANIFEST)).unwrap()
    };
    let of_manifest = with_layers(&[layer(image.digest(), image.size())]);
    let (one, other) = (with_layers(&[layer(Digest::of(b"l"), 1)]), with_layers(&[layer(Digest::of(b"l"), 2)]));
    let itself = with_layers(&[layer(Digest::of(b"m"), 1), layer(Digest::of(b"m"), 2)]);
    let memory = Memory::default()
        .with("a", ":1", &of_manifest)
        .with("b", ":1", &image)
        .with("c", ":1", &one)
        .with("d", ":1", &other)
        .with("e", ":1", &itself);
    let keep_going = PlanOptions { keep_going: true, ..wishes() };
    for (images, left_out, said, advised) in [
        (&["h.io/a:1", "h.io/b:1"][..], "h.io/a:1", "a manifest of h.io/b:1", "export two bundles"),
        (&["h.io/d:1", "h.io/c:1"], "h.io/d:1", "2 bytes by this image and 1 by h.io/c:1", "export two bundles"),
        (&["h.io/e:1", "h.io/b:1"], "h.io/e:1", "two sizes", "leave it out"),
    ] {
        let images = references(images);
        let error = plan(&memory, &images, &wishes()).await.expect_err("both do not go");
        assert_eq!(error.kind(), Kind::Refused, "{error:?}");
        assert!(error.chain().contains(left_out) && error.chain().contains(said), "{error:?}");
        assert!(error.hints()[0].contains(advised), "{error:?}");
        let planned = plan(&memory, &images, &keep_going).await.unwrap();
        assert_eq!((names(&planned).len(), planned.failures[0].image.as_str()), (1, left_out));
    }
    // What fails for another reason stands in nobody's way.
    let broken = index_of(&[
        (MediaType::OCI_MANIFEST, image.digest(), image.size()),
        (MediaType::OCI_MANIFEST, Digest::of(b"x"), 9),
    ]);
    let memory = memory.with("b", ":2", &broken);
    let planned = plan(&memory, &references(&["h.io/a:1", "h.io/b:2"]), &keep_going).await.unwrap();
    assert_eq!((names(&planned), planned.failures.len()), (vec!["a:1".to_owned()], 1));
}

#[tokio::test]
async fn a_child_that_is_missing_is_named_with_what_can_be_carried() {
    let a = manifest("a");
    let child = |digest: Digest, size: u64, architecture: &str| {
        let media_type = MediaType::OCI_MANIFEST;
        let platform = format!(r#"{{"os":"linux","architecture":"{architecture}"}}"#);
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size},"platform":{platform}}}"#)
    };
    let gone = Digest::of(b"gone");
    let children = [child(gone, 9, "s390x"), child(a.digest(), a.size(), "amd64")].join(",");
    let text = format!(r#"{{"schemaVersion":2,"manifests":[{children}]}}"#);
    let list = Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_INDEX)).unwrap();
    let memory = Memory::default().with("x", ":1", &list).with("x", "", &a);
    for (command, advised) in
        [(CallingCommand::Export, "--platform linux/amd64"), (CallingCommand::Sync, "leave out --all")]
    {
        let wishes = PlanOptions { command, ..wishes() };
        let error = plan(&memory, &references(&["h.io/x:1"]), &wishes).await.expect_err("a child is missing");
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.chain().contains(&format!("its index lists {gone} (linux/s390x)")), "{error:?}");
        assert!(error.hints().iter().any(|hint| hint.contains(advised)), "{error:?}");
    }
}
