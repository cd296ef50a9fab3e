//! `index.json`, and manifests and indexes under every media type: the first byte chooses.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sealift::bundle::fuzzing;
use sealift::content::{Builder, NamedImage};
use sealift::oci::{Document, MediaType};

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    match first % 8 {
        0..3 => {
            if let Ok(written) = sealift_fuzz::told(fuzzing::index(bytes)) {
                assert_eq!(fuzzing::index(&written).expect("what is written is taken"), written);
            }
        }
        3 => document(bytes, MediaType::OCI_MANIFEST),
        4 => document(bytes, MediaType::OCI_INDEX),
        5 => document(bytes, MediaType::DOCKER_MANIFEST),
        6 => document(bytes, MediaType::DOCKER_LIST),
        _ => document(bytes, "application/json"),
    }
});

fn document(bytes: &[u8], media_type: &str) {
    let parsed = Document::parse(Bytes::copy_from_slice(bytes), &MediaType::new(media_type));
    let Ok(document) = sealift_fuzz::told(parsed) else { return };
    assert_eq!(document.bytes(), bytes);
    let mut builder = Builder::default();
    builder.document(&document).expect("few references");
    let image = NamedImage { name: "a:1".parse().expect("a name"), source: "a".into(), document: document.digest() };
    builder.image(image, None);
    if let Ok(contents) = sealift_fuzz::told(builder.finish()) {
        assert_eq!(contents.document_order[0], document.digest());
    }
}
