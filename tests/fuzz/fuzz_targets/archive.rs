//! A whole archive, in any order and as a stream: whoever is stricter at opening, both come to the same end. The first
//! byte chooses: the bytes of an archive, or (odd) a [`sealift_fuzz::Tree`] that is packed first.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift_fuzz::{Tree, desk, read_archive, read_stream};

fuzz_target!(|input: &[u8]| {
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
