//! A whole bundle directory, from the seal to the last byte of the last layer: see [`sealift_fuzz::Tree`].
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift_fuzz::{Tree, desk, read_directory};

fuzz_target!(|input: &[u8]| {
    let desk = desk();
    let bundle = desk.path().join("bundle");
    Tree::parse(input).store(&bundle);
    let _ = read_directory(&bundle);
});
