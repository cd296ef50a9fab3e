//! `SHA256SUMS`: whatever is taken has one form, and that is the one that is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift::bundle::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(written) = sealift_fuzz::told(fuzzing::checksums(bytes)) {
        assert_eq!(written, bytes);
    }
});
