//! Public keys: the SSH wire form, its names and its one-line text.
//!
//! A key is compared and named by its exact bytes, so only the one shortest encoding of a key is accepted.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::wire::Reader;
use super::{Fault, Namespace, pattern, quoted};
use crate::error::{Error, Result};

/// A public key of a type that can sign bundles.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    key_type: KeyType,
    blob: Vec<u8>,
}

impl PublicKey {
    /// Reads the line of a `.pub` file: `type base64 [comment]`.
    pub fn from_line(line: &str) -> Result<PublicKey> {
        let line = line.trim_end_matches(['\r', '\n']);
        let read = if line.contains('\n') {
            Err("there is more than one line".to_owned())
        } else {
            PublicKey::split_line(line.as_bytes())
        };
        match read {
            Ok((key, _comment)) => Ok(key),
            Err(fault) => Err(Error::usage(format!("not a public key: {fault}"))
                .hint("give the one line of a .pub file, as ssh-keygen writes it")),
        }
    }

    /// The comment on the line of a `.pub` file: who the key stands for, by habit.
    pub fn comment_of_line(line: &str) -> Option<&str> {
        let (_, comment) = PublicKey::split_line(line.trim_end_matches(['\r', '\n']).as_bytes()).ok()?;
        std::str::from_utf8(comment).ok().map(str::trim).filter(|comment| !comment.is_empty())
    }

    /// Reads `type base64 [comment]` and returns the comment too. Words are parted by spaces and tabs.
    pub(super) fn split_line(line: &[u8]) -> Fault<(PublicKey, &[u8])> {
        let (type_name, rest) = split_word(line);
        let key_type = KeyType::from_name(type_name)?;
        let (encoded, comment) = split_word(rest);
        if encoded.is_empty() {
            return Err("the key itself is missing after its type".to_owned());
        }
        let blob = STANDARD.decode(encoded).map_err(|_| "the key is not valid base64".to_owned())?;
        let key = PublicKey::from_blob(&blob)?;
        if key.key_type != key_type {
            return Err(format!("the line says {key_type}, the key itself is {}", key.key_type));
        }
        Ok((key, comment))
    }

    /// Reads the wire form (RFC 4253, section 6.6; RFC 5656; RFC 8709; OpenSSH's PROTOCOL.u2f).
    pub(super) fn from_blob(blob: &[u8]) -> Fault<PublicKey> {
        let mut wire = Reader::new(blob);
        let name = wire.string().ok_or("the key is cut short")?;
        let key_type = KeyType::from_name(name)?;
        let whole = key_type.check_body(&mut wire)?;
        whole.and_then(|()| wire.finish()).ok_or_else(|| format!("not a well-formed {key_type} key"))?;
        Ok(PublicKey { key_type, blob: blob.to_vec() })
    }

    /// The wire form of an ed25519 key.
    pub(super) fn from_ed25519(key: &ed25519_dalek::VerifyingKey) -> PublicKey {
        let mut blob = Vec::with_capacity(51);
        super::wire::put_string(&mut blob, KeyType::Ed25519.name().as_bytes());
        super::wire::put_string(&mut blob, key.as_bytes());
        PublicKey { key_type: KeyType::Ed25519, blob }
    }

    /// The sort of key.
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The SSH wire form.
    pub fn as_blob(&self) -> &[u8] {
        &self.blob
    }

    /// The name under which this key's signatures are kept.
    pub fn key_id(&self) -> KeyId {
        let digest = Sha256::digest(&self.blob);
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        KeyId(id)
    }

    /// `SHA256:` and 43 characters, as `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&self.blob)))
    }

    /// The line of a `.pub` file, without a line end. An empty comment is left out.
    pub fn to_line(&self, comment: &str) -> String {
        let key = format!("{} {}", self.key_type, STANDARD.encode(&self.blob));
        if comment.is_empty() { key } else { format!("{key} {comment}") }
    }

    /// A line for an `allowed_signers` file that lets this key sign everything sealift makes, under `principal`
    /// (a name, usually a mail address; a comma makes it several).
    pub fn allowed_signers_line(&self, principal: &str) -> Result<String> {
        let refused = |why: &str| {
            Error::usage(format!("{} cannot be a principal: {why}", quoted(principal.as_bytes())))
                .hint("use a plain name such as alice@example.com")
        };
        if principal.contains(|c: char| c.is_control() || c == '"') {
            return Err(refused("it has a control character or a quote in it"));
        }
        if !pattern::names_somebody(principal.as_bytes()) {
            return Err(refused("it matches nobody"));
        }
        let quote = if principal.contains(char::is_whitespace) || principal.starts_with('#') { "\"" } else { "" };
        let namespaces = Namespace::ALL.map(Namespace::as_str).join(",");
        Ok(format!("{quote}{principal}{quote} namespaces=\"{namespaces}\" {}", self.to_line("")))
    }

    /// The parts that only some types have: the raw ed25519 key, and a FIDO key's application.
    pub(super) fn ed25519_parts(&self) -> Option<(ed25519_dalek::VerifyingKey, &[u8])> {
        let mut wire = Reader::new(&self.blob);
        wire.string()?;
        let raw = wire.string()?.try_into().ok()?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(raw).ok()?;
        match self.key_type {
            KeyType::Ed25519 => Some((key, &[])),
            KeyType::SkEd25519 => Some((key, wire.string()?)),
            _ => None,
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.key_type, self.fingerprint())
    }
}

/// The name of a key in file names: the first 16 bytes of the SHA-256 of its wire form, shown as 32 lower-case
/// hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 16]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// The sorts of key that OpenSSH signs with. DSA and certificates are left out on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// `ssh-ed25519`
    Ed25519,
    /// `sk-ssh-ed25519@openssh.com`: ed25519 on a FIDO token
    SkEd25519,
    /// `ssh-rsa`
    Rsa,
    /// `ecdsa-sha2-nistp256`
    EcdsaP256,
    /// `ecdsa-sha2-nistp384`
    EcdsaP384,
    /// `ecdsa-sha2-nistp521`
    EcdsaP521,
    /// `sk-ecdsa-sha2-nistp256@openssh.com`: ECDSA on a FIDO token
    SkEcdsaP256,
}

impl KeyType {
    const ALL: [KeyType; 7] = [
        KeyType::Ed25519,
        KeyType::SkEd25519,
        KeyType::Rsa,
        KeyType::EcdsaP256,
        KeyType::EcdsaP384,
        KeyType::EcdsaP521,
        KeyType::SkEcdsaP256,
    ];

    /// The name that OpenSSH gives it.
    pub fn name(self) -> &'static str {
        match self {
            KeyType::Ed25519 => "ssh-ed25519",
            KeyType::SkEd25519 => "sk-ssh-ed25519@openssh.com",
            KeyType::Rsa => "ssh-rsa",
            KeyType::EcdsaP256 => "ecdsa-sha2-nistp256",
            KeyType::EcdsaP384 => "ecdsa-sha2-nistp384",
            KeyType::EcdsaP521 => "ecdsa-sha2-nistp521",
            KeyType::SkEcdsaP256 => "sk-ecdsa-sha2-nistp256@openssh.com",
        }
    }

    /// Whether the key lives on a FIDO token, whose signatures say if its owner touched it.
    pub fn is_token(self) -> bool {
        matches!(self, KeyType::SkEd25519 | KeyType::SkEcdsaP256)
    }

    pub(super) fn from_name(name: &[u8]) -> Fault<KeyType> {
        if let Some(found) = KeyType::ALL.into_iter().find(|known| known.name().as_bytes() == name) {
            return Ok(found);
        }
        if name.windows(CERTIFICATE_MARK.len()).any(|part| part == CERTIFICATE_MARK) {
            return Err(format!("certificates such as {} are not accepted, use the plain key", quoted(name)));
        }
        Err(format!("unknown key type {}", quoted(name)))
    }

    /// Reads what follows the type name. `Ok(None)` is a body that is not well-formed.
    fn check_body(self, wire: &mut Reader<'_>) -> Fault<Option<()>> {
        Ok(match self {
            KeyType::Ed25519 | KeyType::SkEd25519 => {
                let Some(Ok(raw)) = wire.string().map(<&[u8; 32]>::try_from) else { return Ok(None) };
                let key = ed25519_dalek::VerifyingKey::from_bytes(raw)
                    .map_err(|_| "the ed25519 key is not a point of the curve".to_owned())?;
                if key.is_weak() {
                    return Err("the ed25519 key is one of the few for which anyone can sign".to_owned());
                }
                if self.is_token() { wire.name().map(|_| ()) } else { Some(()) }
            }
            KeyType::Rsa => {
                let (Some(_), Some(modulus)) = (wire.positive_integer(), wire.positive_integer()) else {
                    return Ok(None);
                };
                let bits = modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
                if !RSA_BITS.contains(&bits) {
                    return Err(format!(
                        "an RSA key of {bits} bits is outside {} to {}",
                        RSA_BITS.start(),
                        RSA_BITS.end()
                    ));
                }
                Some(())
            }
            KeyType::EcdsaP256 => check_curve(wire, b"nistp256", 32),
            KeyType::EcdsaP384 => check_curve(wire, b"nistp384", 48),
            KeyType::EcdsaP521 => check_curve(wire, b"nistp521", 66),
            KeyType::SkEcdsaP256 => check_curve(wire, b"nistp256", 32).and_then(|()| wire.name()).map(|_| ()),
        })
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A curve's name and an uncompressed point of it (RFC 5656, section 3.1). That the point is on the curve is
/// checked by `ssh-keygen`, who verifies with it.
fn check_curve(wire: &mut Reader<'_>, curve: &[u8], coordinate: usize) -> Option<()> {
    let named = wire.string()? == curve;
    let point = wire.string()?;
    (named && point.len() == 1 + 2 * coordinate && point[0] == 4).then_some(())
}

/// Splits off the first word; spaces and tabs after it are dropped.
pub(super) fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let end = text.iter().position(is_blank).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let start = rest.iter().position(|byte| !is_blank(byte)).unwrap_or(rest.len());
    (word, &rest[start..])
}

/// The RSA sizes that OpenSSH itself accepts.
const RSA_BITS: std::ops::RangeInclusive<usize> = 1024..=16384;
/// What every OpenSSH certificate type has in its name.
const CERTIFICATE_MARK: &[u8] = b"-cert-v0";

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea someone@example.com";

    #[test]
    fn a_line_comes_back_as_it_was() {
        let key = PublicKey::from_line(LINE).unwrap();
        assert_eq!(key.to_line("someone@example.com"), LINE);
        assert_eq!(key.key_type(), KeyType::Ed25519);
        assert_eq!(key.key_id().to_string().len(), 32);
    }

    #[test]
    fn what_is_not_one_key_in_one_form_is_refused() {
        let key = PublicKey::from_line(LINE).unwrap();
        let mut longer = key.as_blob().to_vec();
        longer.push(0);
        let weak = {
            let mut blob = key.as_blob()[..19].to_vec();
            blob.extend([1u8].iter().chain([0u8; 31].iter()));
            blob
        };
        let cases: [(&str, String); 8] = [
            ("cut short", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq3".to_owned()),
            ("type differs", LINE.replace("ssh-ed25519 ", "ssh-rsa ")),
            ("no key", "ssh-ed25519".to_owned()),
            ("not base64", "ssh-ed25519 !!!!".to_owned()),
            ("trailing byte", format!("ssh-ed25519 {}", STANDARD.encode(longer))),
            ("anyone can sign", format!("ssh-ed25519 {}", STANDARD.encode(weak))),
            ("a certificate", LINE.replace("ssh-ed25519 ", "ssh-ed25519-cert-v01@openssh.com ")),
            ("another type", LINE.replace("ssh-ed25519 ", "ssh-dss ")),
        ];
        for (what, line) in cases {
            assert!(PublicKey::from_line(&line).is_err(), "{what}: {line}");
        }
    }

    #[test]
    fn a_principal_that_would_not_read_back_is_refused() {
        let key = PublicKey::from_line(LINE).unwrap();
        assert!(key.allowed_signers_line("alice@example.com").is_ok());
        assert!(key.allowed_signers_line("Alice Smith").unwrap().starts_with("\"Alice Smith\" namespaces="));
        for bad in ["", "a\"b", "a\nb", "!alice", "alice,!alice"] {
            assert!(key.allowed_signers_line(bad).is_err(), "{bad:?}");
        }
    }
}
