use crate::content::builder::*;
use bytes::Bytes;

fn descriptor(media_type: &str, digest: Digest, size: u64) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

fn manifest(config: &[u8], layers: &[&[u8]]) -> Document {
    let layers: Vec<String> = layers.iter().map(|l| descriptor("l", Digest::of(l), l.len() as u64)).collect();
    let config = descriptor("c", Digest::of(config), config.len() as u64);
    let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, layers.join(","));
    Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_MANIFEST)).unwrap()
}

fn index(children: &[&Document]) -> Document {
    let children: Vec<String> =
        children.iter().map(|c| descriptor(c.media_type().as_str(), c.digest(), c.size())).collect();
    let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, children.join(","));
    Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_INDEX)).unwrap()
}

fn named(name: &str, document: &Document) -> NamedImage {
    NamedImage { name: name.parse().unwrap(), source: format!("h.io/{name}"), document: document.digest() }
}

fn build(documents: &[&Document], images: &[(&str, &Document)]) -> Result<Contents> {
    let mut builder = Builder::default();
    for document in documents {
        builder.document(document)?;
    }
    for (name, document) in images {
        let origin = SourceRepository { host: "h.io".parse().unwrap(), repository: "src/x".parse().unwrap() };
        builder.image(named(name, document), Some(origin));
    }
    builder.finish()
}

#[test]
fn each_thing_is_there_once_configs_before_layers_and_children_before_parents() {
    let (a, b) = (manifest(b"ca", &[b"shared", b"a"]), manifest(b"cb", &[b"shared", b"b"]));
    let both = index(&[&a, &b]);
    let contents = build(&[&both, &b, &a], &[("x/two:1", &both), ("x/one:1", &a), ("y/one:1", &a)]).unwrap();
    let order: Vec<Digest> = contents.blobs.iter().map(|blob| blob.digest).collect();
    assert_eq!(order, [b"ca".as_slice(), b"cb", b"shared", b"a", b"b"].map(Digest::of));
    assert_eq!(contents.document_order, [a.digest(), both.digest(), b.digest()]);
    assert_eq!(contents.blobs[2].wanted.len(), 3);
    for id in contents.manifest_ids() {
        assert!(contents.manifest(id).after.iter().all(|before| before < &id));
    }
    let tagged = contents.landings.iter().filter(|landing| landing.tag.is_some()).count();
    assert_eq!((tagged, contents.landings.len()), (3, 5));
}

#[test]
fn a_blob_is_wanted_once_a_scope_whatever_the_names_are() {
    let (a, b) = (manifest(b"ca", &[b"shared"]), manifest(b"cb", &[b"shared", b"shared"]));
    let both = index(&[&a, &b, &a]);
    let digested = format!("x@{}", a.digest());
    let names = ["x:1", "x-y:1", "x:2", "x.y:1", "x/y:1", "x:a", "x_y:1", "xy:1", "x0:1", digested.as_str()];
    let images: Vec<(&str, &Document)> =
        names.iter().map(|name| (*name, if name.contains('@') { &a } else { &both })).collect();
    let contents = build(&[&a, &b, &both], &images).unwrap();
    for blob in &contents.blobs {
        let scopes: HashSet<RepositoryId> = blob.wanted.iter().copied().collect();
        assert_eq!((scopes.len(), blob.wanted.len()), (7, 7));
    }
}

#[test]
fn what_is_not_whole_or_not_one_thing_is_refused() {
    let a = manifest(b"c", &[b"l"]);
    let both = index(&[&a]);
    let reason = |result: Result<Contents>| result.expect_err("must be refused").chain();
    assert!(reason(build(&[&both], &[("x:1", &both)])).contains("missing"));
    assert!(reason(build(&[&a], &[("x:1", &a), ("x:1", &a)])).contains("twice"));
    assert_eq!(build(&[&a, &both], &[("x:1", &a)]).unwrap().document_order, [a.digest()]);
    let text = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
        descriptor("c", Digest::of(b"c"), 1),
        descriptor("l", Digest::of(b"c"), 2)
    );
    let two = Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_MANIFEST)).unwrap();
    let said = reason(build(&[&two], &[("x:1", &two)]));
    assert!(said.contains("two sizes") && said.contains("x:1 is not whole"), "{said}");
    let (above, other) = (index(&[&two]), manifest(b"other", &[]));
    let images = [("d:1", &above), ("a:1", &two), ("b:1", &above), ("c:1", &two), ("e:1", &other)];
    let said = reason(build(&[&two, &above, &other], &images));
    assert!(said.contains("a:1, b:1, c:1 and 1 more are not whole"), "{said}");
    let layer_is_manifest = manifest(b"c", &[a.bytes()]);
    assert!(
        reason(build(&[&a, &layer_is_manifest], &[("x:1", &a), ("y:1", &layer_is_manifest)])).contains("in another")
    );
}

#[test]
fn nesting_is_bounded_also_across_images() {
    let mut chain = vec![manifest(b"c", &[])];
    for _ in 0..MAX_NESTING {
        let next = index(&[chain.last().unwrap()]);
        chain.push(next);
    }
    let all: Vec<&Document> = chain.iter().collect();
    let whole = &all[..MAX_NESTING];
    assert!(build(whole, &[("x:1", whole.last().unwrap())]).is_ok());
    assert!(build(&all, &[("x:1", all.last().unwrap())]).is_err());
    // The deep part is known from another image already.
    assert!(build(&all, &[("a:1", whole.last().unwrap()), ("x:1", all.last().unwrap())]).is_err());
}
