//! References, names and their parts: what is taken is written as it was read, and is what it says.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use sealift::oci::{Digest, Host, MediaType, Name, Reference, Repository, Tag};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    same::<Host>(text);
    same::<Repository>(text);
    same::<Tag>(text);
    same::<Digest>(text);
    same::<Name>(text);
    let _ = MediaType::new(text).document_kind();
    match text.parse::<Reference>() {
        // `busybox` is written `docker.io/library/busybox`.
        Ok(reference) => {
            let written = reference.to_string();
            assert_eq!(written.parse::<Reference>().expect("what is written is read"), reference);
            assert!(!written.contains(|c: char| c.is_control() || !c.is_ascii()));
            let _ = (reference.host.contacted(), reference.host.port(), reference.host.is_loopback());
        }
        Err(fault) => sealift_fuzz::check_message(&fault.to_string()),
    }
});

fn same<T: FromStr<Err: Display> + Display + Debug>(text: &str) {
    match text.parse::<T>() {
        Ok(read) => assert_eq!(read.to_string(), text),
        Err(fault) => sealift_fuzz::check_message(&fault.to_string()),
    }
}
