//! `bundle.json`: what is taken can be written, and says the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift::bundle::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(written) = sealift_fuzz::told(fuzzing::descriptor(bytes)) {
        assert_eq!(fuzzing::descriptor(&written).expect("what is written is taken"), written);
    }
});
