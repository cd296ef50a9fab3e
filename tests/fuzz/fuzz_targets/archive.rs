//! A whole archive, in any order and as a stream: whoever is stricter at opening, both come to the same end. The first
//! byte chooses: the bytes of an archive, or (odd) a [`sealift_fuzz::Tree`] that is packed first.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift_fuzz::{Kind, Tree, desk, read_archive, read_stream};

fuzz_target!(init: {
    // Were archives packed in another form than they are read in, everything below would end at the first header.
    read_stream(small().pack()).expect("what is packed is an archive");
}, |input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    let archive = if first % 2 == 0 { bytes.to_vec() } else { Tree::parse(bytes).pack() };
    let desk = desk();
    let path = desk.path().join("bundle.tar");
    std::fs::write(&path, &archive).expect("a place for it");
    let streamed = read_stream(archive);
    match read_archive(&path) {
        Ok(read) => assert_eq!(streamed.expect("the same as a stream"), read),
        // A compressed archive is read as a stream only.
        Err(error) if error.kind() == sealift::Kind::Usage => {}
        Err(error) => assert!(streamed.is_err(), "a stream lets in what is refused otherwise: {error:?}"),
    }
});

/// One image of one layer; the bytes 1 and 2 stand for digests and sizes.
fn small() -> Tree {
    let mut tree = Tree::default();
    tree.add(Kind::Descriptor, br#"{"formatVersion":1,"requires":[],"created":"2026-11-23T12:00:00Z","tool":"fuzz","series":null,"sequence":null,"base":[],"absent":[]}"#);
    tree.add(Kind::Layout, br#"{"imageLayoutVersion":"1.0.0"}"#);
    tree.add(Kind::Index, b"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:\x01\0\",\"size\":\x02\0,\"annotations\":{\"io.containerd.image.name\":\"x\",\"org.opencontainers.image.ref.name\":\"a:1\"}}]}");
    tree.add(Kind::Blob, b"{\"schemaVersion\":2,\"config\":{\"mediaType\":\"c\",\"digest\":\"sha256:\x01\0\",\"size\":\x02\0},\"layers\":[{\"mediaType\":\"l\",\"digest\":\"sha256:\x01\x01\",\"size\":\x02\x01}]}");
    tree.add(Kind::Blob, b"{}");
    tree.add(Kind::Blob, b"layer");
    Tree::parse(&tree.to_bytes())
}
