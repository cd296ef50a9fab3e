//! `allowed_signers` files and `.pub` lines, and what they say of a signature that holds.
#![no_main]

use jiff::Timestamp;
use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use sealift::trust::{Namespace, PublicKey, Signature, Trust, Verdict};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(line) = std::str::from_utf8(bytes)
        && let Ok(key) = sealift_fuzz::told(PublicKey::from_line(line))
    {
        assert_eq!(PublicKey::from_line(&key.to_line("")).expect("its own line"), key);
    }
    for any_namespace in [false, true] {
        let parsed = Trust::parse_in_zone(bytes, "allowed_signers", any_namespace, &TimeZone::UTC);
        let Ok(trust) = sealift_fuzz::told(parsed) else { continue };
        assert!(!trust.keys().is_empty());
        let signature = Signature::parse(sealift_fuzz::SIGNATURE).expect("a good signature");
        for at in [0, 1_800_000_000, 4_000_000_000] {
            let at = Timestamp::from_second(at).expect("a time");
            match trust.judge(Namespace::Bundle, at, sealift_fuzz::SIGNED, &signature) {
                Verdict::Trusted { principals, key } => assert!(!principals.is_empty() && trust.keys().contains(&&key)),
                Verdict::NotAllowed { key, .. } => assert!(trust.keys().contains(&&key)),
                Verdict::UnknownKey { key } => assert!(!trust.keys().contains(&&key)),
                Verdict::Invalid(error) | Verdict::Unchecked { error, .. } => panic!("{error:?}"),
            }
        }
    }
});
