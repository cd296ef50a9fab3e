//! SHA-256 digests, the only algorithm that sealift carries (image-spec, descriptor.md, "Digests").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest, 32 bytes; written `sha256:<64 lower-case hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is not a digest that sealift can carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestFault {
    /// Not of the form `algorithm:encoded`, or not 64 lower-case hex digits.
    #[error("{0:?} is not a digest: expected sha256: and 64 lower-case hex digits")]
    Malformed(String),
    /// Well-formed, but not SHA-256.
    #[error("digest algorithm {0:?} is not supported: only sha256 is carried")]
    Unsupported(String),
}

impl Digest {
    /// Its first eight bytes.
    pub(crate) fn start(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        [a, b, c, d, e, f, g, h]
    }

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(Sha256::digest(bytes).into())
    }

    /// From 64 lower-case hex digits, as they stand in a checksum line or a file name.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let hex: &[u8; 64] = hex.as_bytes().try_into().ok()?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Digest(bytes))
    }

    /// The 64 lower-case hex digits: the name of the blob's file in a layout.
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
        text
    }

    /// The first twelve hex digits, for people.
    pub fn short(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(12);
        hex
    }
}

impl FromStr for Digest {
    type Err = DigestFault;

    fn from_str(text: &str) -> Result<Self, DigestFault> {
        if let Some(hex) = text.strip_prefix("sha256:") {
            return Digest::from_hex(hex).ok_or_else(|| DigestFault::Malformed(clip(text)));
        }
        match text.split_once(':') {
            Some((algorithm, encoded)) if is_algorithm(algorithm) && !encoded.is_empty() => {
                Err(DigestFault::Unsupported(clip(algorithm)))
            }
            _ => Err(DigestFault::Malformed(clip(text))),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Hashes and counts what streams by.
#[derive(Clone, Default)]
pub struct Hasher {
    sha: Sha256,
    count: u64,
}

impl Hasher {
    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha.update(bytes);
        self.count += bytes.len() as u64;
    }

    /// Bytes taken in so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The digest of everything taken in.
    pub fn finish(self) -> Digest {
        Digest(self.sha.finalize().into())
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn nibble(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    }
}

/// image-spec: `algorithm-component [algorithm-separator algorithm-component]*`.
fn is_algorithm(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'.' | b'_' | b'-'))
}

/// Untrusted text in a message is kept short.
fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_digest_of_nothing_is_the_known_one_and_survives_text() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>(), Ok(Digest::of(b"")));
        assert_eq!(Hasher::default().finish(), Digest::of(b""));
    }

    #[test]
    fn what_is_not_64_lower_case_hex_digits_is_refused() {
        for text in
            ["", "sha256:", "sha256:00", &EMPTY.to_uppercase(), "sha256:../../etc/passwd", &EMPTY[7..], "sha256:é"]
        {
            assert!(matches!(text.parse::<Digest>(), Err(DigestFault::Malformed(_))), "{text}");
        }
        assert!(matches!(format!("sha256:E{}", &EMPTY[8..]).parse::<Digest>(), Err(DigestFault::Malformed(_))));
    }

    #[test]
    fn another_algorithm_is_named() {
        assert_eq!("sha512:00".parse::<Digest>(), Err(DigestFault::Unsupported("sha512".into())));
        assert_eq!("blake3:00".parse::<Digest>(), Err(DigestFault::Unsupported("blake3".into())));
    }
}
