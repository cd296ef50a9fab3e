//! OpenSSH's private key files (`PROTOCOL.key`), as far as an unencrypted ed25519 key needs.
//!
//! ```text
//! -----BEGIN OPENSSH PRIVATE KEY-----
//! base64:  "openssh-key-v1\0" | cipher | kdf | kdf options | 1 | public key | private part
//! -----END OPENSSH PRIVATE KEY-----
//! private part:  check | check | type | public | seed and public | comment | 1 2 3 ... up to the block size
//! ```
//!
//! Every buffer with the seed in it is wiped. Messages say what is wrong, never what is there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::Fault;
use super::key::{KeyType, PublicKey};
use super::signature::wrapped;
use super::wire::{Reader, put_string};

/// What a private key file holds.
pub(super) enum PrivateFile {
    /// An unencrypted ed25519 key.
    Ed25519(ed25519_dalek::SigningKey),
    /// A key that is encrypted or of another type. Its public half is readable all the same.
    Other(PublicKey),
}

/// Whether `text` is such a file at all.
pub(super) fn is_private_file(text: &[u8]) -> bool {
    text.starts_with(BEGIN.as_bytes())
}

/// Reads the text of a private key file.
pub(super) fn read(text: &[u8]) -> Fault<PrivateFile> {
    let malformed = || "the private key file is malformed".to_owned();
    let text = std::str::from_utf8(text).map_err(|_| malformed())?;
    let body = text.strip_prefix(BEGIN).and_then(|rest| rest.trim_end().strip_suffix(END)).ok_or_else(malformed)?;
    let mut encoded = Zeroizing::new(String::with_capacity(body.len()));
    encoded.extend(body.chars().filter(|letter| !letter.is_ascii_whitespace()));
    let blob = Zeroizing::new(STANDARD.decode(encoded.as_bytes()).map_err(|_| malformed())?);

    let mut wire = Reader::new(&blob);
    if wire.take(MAGIC.len()) != Some(MAGIC) {
        return Err(malformed());
    }
    let cipher = wire.string().ok_or_else(malformed)?;
    let kdf = wire.string().ok_or_else(malformed)?;
    let kdf_options = wire.string().ok_or_else(malformed)?;
    if wire.uint32() != Some(1) {
        return Err("the private key file must hold one key".to_owned());
    }
    let public = PublicKey::from_blob(wire.string().ok_or_else(malformed)?)?;
    if cipher != NONE || public.key_type() != KeyType::Ed25519 {
        return Ok(PrivateFile::Other(public));
    }
    if kdf != NONE || !kdf_options.is_empty() {
        return Err(malformed());
    }
    let private = wire.string().ok_or_else(malformed)?;
    wire.finish().ok_or_else(malformed)?;
    let key = read_private_part(private).ok_or("the private part of the key file is damaged")?;
    if PublicKey::from_ed25519(&key.verifying_key()) != public {
        return Err("the private and the public half in the key file do not belong together".to_owned());
    }
    Ok(PrivateFile::Ed25519(key))
}

fn read_private_part(private: &[u8]) -> Option<ed25519_dalek::SigningKey> {
    let mut wire = Reader::new(private);
    let same_check = wire.uint32()? == wire.uint32()?;
    let same_type = wire.string()? == KeyType::Ed25519.name().as_bytes();
    let public = wire.string()?;
    let pair = wire.string()?;
    let _comment = wire.string()?;
    let padding = wire.rest();
    let well_padded = private.len().is_multiple_of(BLOCK)
        && padding.len() < BLOCK
        && padding.iter().zip(1u8..).all(|(byte, expected)| *byte == expected);
    let key = ed25519_dalek::SigningKey::from_bytes(pair.first_chunk()?);
    let verifying = key.verifying_key();
    let halves_agree = public == verifying.as_bytes() && pair.len() == 64 && pair[32..] == *verifying.as_bytes();
    (same_check && same_type && well_padded && halves_agree).then_some(key)
}

/// The text of an unencrypted private key file. `check` is any number.
pub(super) fn write(key: &ed25519_dalek::SigningKey, comment: &str, check: [u8; 4]) -> Zeroizing<String> {
    let public = key.verifying_key();
    // Capacities are ample, so that no half-filled copy of a secret is left behind by growing.
    let mut private = Zeroizing::new(Vec::with_capacity(256 + comment.len()));
    private.extend_from_slice(&check);
    private.extend_from_slice(&check);
    put_string(&mut private, KeyType::Ed25519.name().as_bytes());
    put_string(&mut private, public.as_bytes());
    put_string(&mut private, Zeroizing::new(key.to_keypair_bytes()).as_slice());
    put_string(&mut private, comment.as_bytes());
    for byte in 1u8.. {
        if private.len().is_multiple_of(BLOCK) {
            break;
        }
        private.push(byte);
    }

    let mut blob = Zeroizing::new(Vec::with_capacity(512 + comment.len()));
    blob.extend_from_slice(MAGIC);
    put_string(&mut blob, NONE);
    put_string(&mut blob, NONE);
    put_string(&mut blob, b"");
    blob.extend_from_slice(&1u32.to_be_bytes());
    put_string(&mut blob, PublicKey::from_ed25519(&public).as_blob());
    put_string(&mut blob, &private);

    let encoded = Zeroizing::new(STANDARD.encode(&*blob));
    let lines = Zeroizing::new(wrapped(&encoded));
    let mut text = Zeroizing::new(String::with_capacity(lines.len() + 128));
    for part in [BEGIN, "\n", &lines, END, "\n"] {
        text.push_str(part);
    }
    text
}

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";
const NONE: &[u8] = b"none";
/// The block size of the cipher "none".
const BLOCK: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ed25519_dalek::SigningKey {
        ed25519_dalek::SigningKey::from_bytes(&[7; 32])
    }

    #[test]
    fn what_is_written_is_read_back_for_every_length_of_padding() {
        for length in 0..=BLOCK {
            let text = write(&key(), &"c".repeat(length), [1, 2, 3, 4]);
            match read(text.as_bytes()).unwrap() {
                PrivateFile::Ed25519(read) => assert_eq!(read.to_bytes(), key().to_bytes()),
                PrivateFile::Other(_) => panic!("an unencrypted ed25519 key"),
            }
        }
    }

    #[test]
    fn no_changed_byte_gives_another_key() {
        let text = write(&key(), "comment", [1, 2, 3, 4]);
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let blob = STANDARD.decode(body).unwrap();
        for at in 0..blob.len() {
            let mut changed = blob.clone();
            changed[at] ^= 1;
            let text = format!("{BEGIN}\n{}{END}\n", wrapped(&STANDARD.encode(changed)));
            if let Ok(PrivateFile::Ed25519(read)) = read(text.as_bytes()) {
                // The comment is not checked by anything.
                assert_eq!(read.to_bytes(), key().to_bytes(), "byte {at}");
            }
        }
    }

    #[test]
    fn what_is_no_key_file_is_refused() {
        for text in ["", BEGIN, "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"] {
            assert!(read(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
