//! Signature files: as they stand, and (first byte odd) as the bytes below the armor, which a fuzzer cannot write.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use sealift::trust::{KeyType, Namespace, Signature};

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    let text = if first % 2 == 0 { bytes.to_vec() } else { armor(bytes) };
    let Ok(signature) = sealift_fuzz::told(Signature::parse(&text)) else { return };
    assert_eq!(signature.as_armored().as_bytes(), text);
    assert!(!signature.namespace().contains(char::is_control));
    // The others are verified by ssh-keygen, a process for each.
    if matches!(signature.public_key().key_type(), KeyType::Ed25519 | KeyType::SkEd25519) {
        let holds = |namespace: &Namespace| signature.verify(*namespace, sealift_fuzz::SIGNED).is_ok();
        let count = Namespace::ALL.iter().filter(|namespace| holds(namespace)).count();
        assert!(count <= 1, "a signature for two purposes");
        assert!(signature.verify(Namespace::Bundle, b"bytes that nobody signed").is_err(), "a signature over anything");
    }
});

fn armor(blob: &[u8]) -> Vec<u8> {
    let encoded = STANDARD.encode(blob);
    let mut text = b"-----BEGIN SSH SIGNATURE-----\n".to_vec();
    for line in encoded.as_bytes().chunks(70) {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.extend_from_slice(b"-----END SSH SIGNATURE-----\n");
    text
}
