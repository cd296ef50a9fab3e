//! Keys of the corpus, each from a fixed seed, and SSHSIG signatures written by hand: sealift's own signing would refuse
//! to make most of the bad ones.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use sha2::{Digest as _, Sha256, Sha512};

/// An ed25519 key.
pub(crate) struct Key(ed25519_dalek::SigningKey);

/// What goes into a signature besides the key.
pub(crate) struct Form<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) reserved: &'a [u8],
    /// Characters in a line of the armor.
    pub(crate) width: usize,
    /// The same signature in a second encoding: the group order is added to its scalar.
    pub(crate) second_encoding: bool,
}

pub(crate) const BUNDLE: Form<'static> = Form { namespace: "sealift-bundle", ..PLAIN };
pub(crate) const REVIEW: Form<'static> = Form { namespace: "sealift-review", ..PLAIN };
pub(crate) const PLAIN: Form<'static> = Form { namespace: "file", reserved: b"", width: 70, second_encoding: false };

impl Key {
    /// The key whose seed is the SHA-256 of `sealift test key NAME`.
    pub(crate) fn named(name: &str) -> Key {
        Key(ed25519_dalek::SigningKey::from_bytes(&Sha256::digest(format!("sealift test key {name}")).into()))
    }

    pub(crate) fn id(&self) -> String {
        hex(&Sha256::digest(self.blob()))[..32].to_owned()
    }

    /// Where its signature is kept.
    pub(crate) fn path(&self) -> String {
        format!("signatures/{}.sig", self.id())
    }

    /// An armored SSHSIG over `message`.
    pub(crate) fn sign(&self, form: &Form<'_>, message: &[u8]) -> String {
        let mut signed = b"SSHSIG".to_vec();
        for part in [form.namespace.as_bytes(), form.reserved, b"sha512", &Sha512::digest(message)] {
            put(&mut signed, part);
        }
        let mut raw = self.0.sign(&signed).to_bytes();
        if form.second_encoding {
            add_group_order(&mut raw[32..]);
        }
        let mut value = Vec::new();
        put(&mut value, b"ssh-ed25519");
        put(&mut value, &raw);
        let mut blob = b"SSHSIG\0\0\0\x01".to_vec();
        for part in [&self.blob(), form.namespace.as_bytes(), form.reserved, b"sha512", &value] {
            put(&mut blob, part);
        }
        let encoded = STANDARD.encode(blob);
        let lines: String =
            encoded.as_bytes().chunks(form.width).map(|line| format!("{}\n", String::from_utf8_lossy(line))).collect();
        format!("-----BEGIN SSH SIGNATURE-----\n{lines}-----END SSH SIGNATURE-----\n")
    }

    fn blob(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        put(&mut blob, b"ssh-ed25519");
        put(&mut blob, self.0.verifying_key().as_bytes());
        blob
    }

    fn line(&self, principal: &str, options: &str) -> String {
        format!("{principal} {options} ssh-ed25519 {}\n", STANDARD.encode(self.blob()))
    }
}

/// Whom the readers of the corpus trust.
pub(crate) fn allowed_signers() -> String {
    [
        Key::named("trusted").line("trusted@example.com", r#"namespaces="sealift-bundle,sealift-review""#),
        Key::named("reviewer").line("reviewer@example.com", r#"namespaces="sealift-review""#),
        Key::named("expired").line("expired@example.com", r#"namespaces="sealift-bundle",valid-before="20200101Z""#),
    ]
    .concat()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn put(out: &mut Vec<u8>, part: &[u8]) {
    out.extend((part.len() as u32).to_be_bytes());
    out.extend(part);
}

/// Little-endian, as RFC 8032 has it.
fn add_group_order(scalar: &mut [u8]) {
    let mut carry = 0;
    for (byte, order) in scalar.iter_mut().zip(GROUP_ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
}

const GROUP_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];
