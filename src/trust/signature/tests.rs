use proptest::prelude::*;

use crate::trust::signature::*;

const MESSAGE: &[u8] = b"the sealed list";

fn key() -> ed25519_dalek::SigningKey {
    ed25519_dalek::SigningKey::from_bytes(&[42; 32])
}

fn made() -> Signature {
    Signature::make(&key(), Namespace::Bundle, MESSAGE).unwrap()
}

/// The fields of an SSHSIG, to be written wrongly one at a time.
struct Fields {
    version: u32,
    key: Vec<u8>,
    namespace: Vec<u8>,
    reserved: Vec<u8>,
    hash: Vec<u8>,
    value: Vec<u8>,
    rest: Vec<u8>,
}

impl Fields {
    fn good() -> Fields {
        let good = made();
        Fields {
            version: 1,
            key: good.key.as_blob().to_vec(),
            namespace: b"sealift-bundle".to_vec(),
            reserved: Vec::new(),
            hash: b"sha512".to_vec(),
            value: good.value.clone(),
            rest: Vec::new(),
        }
    }

    fn armored(&self) -> String {
        let mut blob = MAGIC.to_vec();
        blob.extend(self.version.to_be_bytes());
        for field in [&self.key, &self.namespace, &self.reserved, &self.hash, &self.value] {
            put_string(&mut blob, field);
        }
        blob.extend(&self.rest);
        armor(&blob)
    }
}

/// A FIDO token's signature, made with a key in memory.
fn by_token(flags: u8) -> Signature {
    let application = b"ssh:";
    let mut blob = Vec::new();
    put_string(&mut blob, KeyType::SkEd25519.name().as_bytes());
    put_string(&mut blob, key().verifying_key().as_bytes());
    put_string(&mut blob, application);
    let touch = [&[flags][..], &7u32.to_be_bytes()].concat();
    let signed = [
        Sha256::digest(application).as_slice(),
        &touch,
        Sha256::digest(to_sign(Namespace::Bundle, Hash::Sha512, MESSAGE)).as_slice(),
    ]
    .concat();
    let mut value = Vec::new();
    put_string(&mut value, KeyType::SkEd25519.name().as_bytes());
    put_string(&mut value, &ed25519_dalek::Signer::sign(&key(), &signed).to_bytes());
    value.extend(touch);
    let fields = Fields { key: blob, value, ..Fields::good() };
    Signature::parse(fields.armored().as_bytes()).unwrap()
}

#[test]
fn what_is_made_verifies_for_its_namespace_and_message_only() {
    let signature = made();
    signature.verify(Namespace::Bundle, MESSAGE).unwrap();
    assert_eq!(signature.namespace(), "sealift-bundle");
    assert_eq!(
        signature.verify(Namespace::Review, MESSAGE).unwrap_err().kind(),
        crate::error::Kind::Untrusted,
        "a signature for a bundle is none for a review"
    );
    assert_eq!(signature.verify(Namespace::Bundle, b"other").unwrap_err().kind(), crate::error::Kind::Damaged);
}

#[test]
fn a_relabelled_namespace_does_not_verify() {
    let fields = Fields { namespace: b"sealift-review".to_vec(), ..Fields::good() };
    let signature = Signature::parse(fields.armored().as_bytes()).unwrap();
    assert!(signature.verify(Namespace::Review, MESSAGE).is_err());
}

#[test]
fn every_field_that_is_not_as_it_must_be_is_refused() {
    let good = Fields::good;
    Signature::parse(good().armored().as_bytes()).unwrap();
    let mut long_value = good().value;
    long_value.push(0);
    let mut sha1 = Vec::new();
    put_string(&mut sha1, b"ssh-rsa");
    put_string(&mut sha1, &[1; 256]);
    let mut rsa = Vec::new();
    put_string(&mut rsa, b"ssh-rsa");
    put_string(&mut rsa, &[1, 0, 1]);
    put_string(&mut rsa, &[0x55; 256]);
    let cases = [
        ("version 0", Fields { version: 0, ..good() }),
        ("version 2", Fields { version: 2, ..good() }),
        ("no key", Fields { key: Vec::new(), ..good() }),
        ("empty namespace", Fields { namespace: Vec::new(), ..good() }),
        ("control character in the namespace", Fields { namespace: b"a\x1b[2J".to_vec(), ..good() }),
        ("reserved field in use", Fields { reserved: b"x".to_vec(), ..good() }),
        ("sha1", Fields { hash: b"sha1".to_vec(), ..good() }),
        ("no value", Fields { value: Vec::new(), ..good() }),
        ("bytes after the value", Fields { value: long_value, ..good() }),
        ("bytes after the end", Fields { rest: vec![0], ..good() }),
        ("a value of another type", Fields { value: sha1.clone(), ..good() }),
        ("RSA with SHA-1", Fields { key: rsa, value: sha1, ..good() }),
    ];
    for (what, fields) in cases {
        let error = Signature::parse(fields.armored().as_bytes()).expect_err(what);
        assert_eq!(error.kind(), crate::error::Kind::Damaged, "{what}");
    }
}

#[test]
fn a_file_over_the_limit_is_refused_before_it_is_decoded() {
    let fields = Fields { namespace: vec![b'n'; Signature::LIMIT], ..Fields::good() };
    let error = Signature::parse(fields.armored().as_bytes()).unwrap_err();
    assert!(error.to_string().contains("4096"), "{error}");
}

#[test]
fn changed_line_ends_are_named_as_such() {
    let text = made().as_armored().replace('\n', "\r\n");
    let error = Signature::parse(text.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("CR LF"), "{error}");
    assert!(!error.hints().is_empty());
}

#[test]
fn the_second_encoding_of_an_ed25519_signature_is_refused() {
    // S + L is congruent to S; equations that reduce it would accept two signatures for one.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut fields = Fields::good();
    let start = fields.value.len() - 32;
    let mut carry = 0;
    for (byte, order) in fields.value[start..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    let signature = Signature::parse(fields.armored().as_bytes()).unwrap();
    assert!(signature.verify(Namespace::Bundle, MESSAGE).is_err());
}

#[test]
fn a_token_must_have_been_touched() {
    by_token(0x01).verify(Namespace::Bundle, MESSAGE).unwrap();
    by_token(0x05).verify(Namespace::Bundle, MESSAGE).unwrap();
    let error = by_token(0x00).verify(Namespace::Bundle, MESSAGE).unwrap_err();
    assert!(error.to_string().contains("touch"), "{error}");
    assert!(by_token(0x01).verify(Namespace::Bundle, b"other").is_err());
}

#[test]
fn ssh_keygen_accepts_what_is_accepted_here() {
    for signature in [made(), by_token(0x01)] {
        ssh_keygen::check(Namespace::Bundle, signature.as_armored(), MESSAGE).unwrap();
        let error = ssh_keygen::check(Namespace::Bundle, signature.as_armored(), b"other").unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Damaged);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Signature::parse(&bytes);
        let _ = Signature::parse(armor(&bytes).as_bytes());
        let _ = Signature::from_blob(&[MAGIC, &VERSION.to_be_bytes(), &bytes].concat());
    }

    #[test]
    fn armor_comes_off_as_it_was_put_on(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let text = armor(&bytes);
        prop_assert_eq!(dearmor(text.as_bytes()).unwrap(), bytes);
        let body: Vec<&str> = text.lines().filter(|line| !line.starts_with('-')).collect();
        prop_assert!(body.iter().rev().skip(1).all(|line| line.len() == COLUMNS), "{}", text);
    }

    #[test]
    fn any_message_is_signed_and_no_changed_byte_of_the_file_passes(
        message in prop::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
        new in any::<u8>(),
    ) {
        let signature = Signature::make(&key(), Namespace::Receipt, &message).unwrap();
        signature.verify(Namespace::Receipt, &message).unwrap();
        prop_assert_eq!(&Signature::parse(signature.as_armored().as_bytes()).unwrap(), &signature);

        let mut text = signature.as_armored().as_bytes().to_vec();
        let at = at.index(text.len());
        prop_assume!(text[at] != new);
        text[at] = new;
        let accepted = Signature::parse(&text)
            .is_ok_and(|changed| changed.key == signature.key && changed.verify(Namespace::Receipt, &message).is_ok());
        prop_assert!(!accepted, "byte {} changed to {}", at, new);
    }
}
