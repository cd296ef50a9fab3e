//! SSHSIG: the armored text, what is in it, what it signs, and whether it verifies.
//!
//! The format is OpenSSH's `PROTOCOL.sshsig`:
//!
//! ```text
//! -----BEGIN SSH SIGNATURE-----
//! base64, 70 columns:  "SSHSIG" | version 1 | public key | namespace | reserved | hash | signature
//! -----END SSH SIGNATURE-----
//! ```
//!
//! What the key signs is `"SSHSIG" | namespace | reserved | hash | H(message)`, each but the first as a string.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256, Sha512};

use super::key::{KeyType, PublicKey};
use super::wire::{Reader, put_string};
use super::{Fault, Namespace, quoted, ssh_keygen};
use crate::error::{Error, Result};

/// A well-formed signature. That it verifies is only known after [`Signature::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    key: PublicKey,
    namespace: String,
    hash: Hash,
    /// Type name and value(s), as the wire has them.
    value: Vec<u8>,
    armored: String,
}

impl Signature {
    /// The longest signature file that is read, in bytes. RSA-8192 needs about 3,000.
    pub const LIMIT: usize = 4096;

    /// Reads an armored signature, which must be the exact text that encodes what it decodes to.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged) with what is wrong with it.
    pub fn parse(armored: &[u8]) -> Result<Signature> {
        let fail = |fault: String| Error::damaged(format!("malformed signature: {fault}"));
        if armored.len() > Signature::LIMIT {
            return Err(fail(format!("more than {} bytes", Signature::LIMIT)));
        }
        if armored.contains(&b'\r') {
            return Err(fail("its line ends were changed to CR LF".to_owned())
                .hint("copy the file again without text conversion, or from the original medium"));
        }
        let blob = dearmor(armored).map_err(fail)?;
        let mut signature = Signature::from_blob(&blob).map_err(fail)?;
        signature.armored = armor(&blob);
        if signature.armored.as_bytes() != armored {
            return Err(fail("the text is not in the one form that ssh-keygen writes".to_owned())
                .hint("an extra line end or text around the signature is enough: use the file as ssh-keygen made it"));
        }
        Ok(signature)
    }

    /// The key that claims to have made it.
    pub fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// The namespace it claims to be for; any text, not only those of [`Namespace`].
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The text as it stands in a file.
    pub fn as_armored(&self) -> &str {
        &self.armored
    }

    /// Whether this key made this signature, for this namespace, over these bytes.
    ///
    /// RSA and ECDSA keys are verified by `ssh-keygen`, which must then be installed.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged) if it does not verify;
    /// [`Kind::Untrusted`](crate::error::Kind::Untrusted) if it is for another namespace;
    /// [`Kind::NotFound`](crate::error::Kind::NotFound) or [`Kind::Io`](crate::error::Kind::Io) if `ssh-keygen` is
    /// needed and cannot be used: then nothing is known about the signature.
    pub fn verify(&self, namespace: Namespace, message: &[u8]) -> Result<()> {
        if self.namespace != namespace.as_str() {
            return Err(Error::untrusted(format!(
                "the signature by key {} is for {}, not for {namespace}",
                self.key.key_id(),
                quoted(self.namespace.as_bytes())
            )));
        }
        let failed = |fault: String| {
            Error::damaged(format!("the signature by key {} does not verify: {fault}", self.key.key_id()))
        };
        let value = Value::read(self.key.key_type(), &self.value).map_err(failed)?;
        if let Some(touch) = value.token
            && touch.flags & USER_PRESENT == 0
        {
            return Err(failed("the token did not ask for a touch".to_owned()));
        }
        match self.key.key_type() {
            KeyType::Ed25519 | KeyType::SkEd25519 => {
                let (key, application) =
                    self.key.ed25519_parts().ok_or_else(|| failed("the key is malformed".to_owned()))?;
                let mut signed = to_sign(namespace, self.hash, message);
                if let Some(touch) = value.token {
                    signed = [
                        Sha256::digest(application).as_slice(),
                        &[touch.flags],
                        &touch.counter.to_be_bytes(),
                        Sha256::digest(&signed).as_slice(),
                    ]
                    .concat();
                }
                let raw = ed25519_dalek::Signature::from_slice(value.signature)
                    .map_err(|_| failed("an ed25519 signature has 64 bytes".to_owned()))?;
                key.verify_strict(&signed, &raw).map_err(|_| failed("the signed bytes are others".to_owned()))
            }
            _ => ssh_keygen::check(namespace, &self.armored, message)
                .map_err(|error| error.context(format!("cannot verify the signature by key {}", self.key.key_id()))),
        }
    }

    /// Makes an ed25519 signature, the very one that `ssh-keygen -Y sign` makes (hash: SHA-512).
    pub(super) fn make(key: &ed25519_dalek::SigningKey, namespace: Namespace, message: &[u8]) -> Result<Signature> {
        use ed25519_dalek::Signer as _;
        let public = PublicKey::from_ed25519(&key.verifying_key());
        let raw = key.sign(&to_sign(namespace, Hash::Sha512, message));
        let mut value = Vec::with_capacity(83);
        put_string(&mut value, KeyType::Ed25519.name().as_bytes());
        put_string(&mut value, &raw.to_bytes());
        let mut blob = Vec::with_capacity(256);
        blob.extend_from_slice(MAGIC);
        blob.extend_from_slice(&VERSION.to_be_bytes());
        put_string(&mut blob, public.as_blob());
        put_string(&mut blob, namespace.as_str().as_bytes());
        put_string(&mut blob, b"");
        put_string(&mut blob, Hash::Sha512.name().as_bytes());
        put_string(&mut blob, &value);
        // Through the same door as everyone's, so that nothing leaves here that would not be let in again.
        Signature::parse(armor(&blob).as_bytes())
    }

    fn from_blob(blob: &[u8]) -> Fault<Signature> {
        let short = || "it is cut short".to_owned();
        let mut wire = Reader::new(blob);
        if wire.take(MAGIC.len()).ok_or_else(short)? != MAGIC {
            return Err("it is not an SSHSIG".to_owned());
        }
        let version = wire.uint32().ok_or_else(short)?;
        if version != VERSION {
            return Err(format!("SSHSIG version {version} is unknown"));
        }
        let key = PublicKey::from_blob(wire.string().ok_or_else(short)?)?;
        let namespace = wire.name().ok_or("the namespace is not plain text")?.to_owned();
        if namespace.is_empty() {
            return Err("the namespace is empty".to_owned());
        }
        if !wire.string().ok_or_else(short)?.is_empty() {
            // The field is not signed: whatever stood in it could be changed by anyone.
            return Err("the reserved field is not empty".to_owned());
        }
        let hash = wire.string().ok_or_else(short)?;
        let hash = Hash::from_name(hash).ok_or_else(|| format!("hash algorithm {} is not allowed", quoted(hash)))?;
        let value = wire.string().ok_or_else(short)?.to_vec();
        wire.finish().ok_or("there are bytes after its end")?;
        Value::read(key.key_type(), &value)?;
        Ok(Signature { key, namespace, hash, value, armored: String::new() })
    }
}

/// The signature proper, taken apart.
struct Value<'a> {
    /// The raw ed25519 signature; for other algorithms of no interest here.
    signature: &'a [u8],
    /// What a FIDO token adds and signs.
    token: Option<Touch>,
}

#[derive(Clone, Copy)]
struct Touch {
    flags: u8,
    counter: u32,
}

impl<'a> Value<'a> {
    fn read(key_type: KeyType, value: &'a [u8]) -> Fault<Value<'a>> {
        let malformed = || "the signature value is malformed".to_owned();
        let mut wire = Reader::new(value);
        let algorithm = wire.name().ok_or_else(malformed)?;
        let allowed: &[&str] = match key_type {
            // Not `ssh-rsa`, which is SHA-1.
            KeyType::Rsa => &["rsa-sha2-512", "rsa-sha2-256"],
            KeyType::SkEcdsaP256 => &[KeyType::SkEcdsaP256.name(), WEBAUTHN],
            other => &[other.name()],
        };
        if !allowed.contains(&algorithm) {
            return Err(format!(
                "signature algorithm {} is not allowed for a {key_type} key",
                quoted(algorithm.as_bytes())
            ));
        }
        let signature = wire.string().ok_or_else(malformed)?;
        let token = if key_type.is_token() {
            let flags = wire.byte().ok_or_else(malformed)?;
            let counter = wire.uint32().ok_or_else(malformed)?;
            Some(Touch { flags, counter })
        } else {
            None
        };
        // A signature made in a browser goes on with what the browser signed along; ssh-keygen reads that.
        if algorithm != WEBAUTHN && !wire.rest().is_empty() {
            return Err("there are bytes after the signature value".to_owned());
        }
        Ok(Value { signature, token })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn name(self) -> &'static str {
        match self {
            Hash::Sha256 => "sha256",
            Hash::Sha512 => "sha512",
        }
    }

    fn from_name(name: &[u8]) -> Option<Hash> {
        [Hash::Sha256, Hash::Sha512].into_iter().find(|known| known.name().as_bytes() == name)
    }

    fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha256 => Sha256::digest(message).to_vec(),
            Hash::Sha512 => Sha512::digest(message).to_vec(),
        }
    }
}

/// The bytes that the key signs.
fn to_sign(namespace: Namespace, hash: Hash, message: &[u8]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put_string(&mut out, namespace.as_str().as_bytes());
    put_string(&mut out, b"");
    put_string(&mut out, hash.name().as_bytes());
    put_string(&mut out, &hash.digest(message));
    out
}

fn armor(blob: &[u8]) -> String {
    format!("{BEGIN}\n{}{END}\n", wrapped(&STANDARD.encode(blob)))
}

/// Breaks base64 into lines of 70 characters, each ended by a line feed, as OpenSSH writes it.
/// Allocates once, so that a caller with a secret has one place to wipe.
pub(super) fn wrapped(encoded: &str) -> String {
    let mut lines = String::with_capacity(encoded.len() + encoded.len() / COLUMNS + 1);
    for (index, letter) in encoded.chars().enumerate() {
        if index > 0 && index % COLUMNS == 0 {
            lines.push('\n');
        }
        lines.push(letter);
    }
    lines.push('\n');
    lines
}

fn dearmor(armored: &[u8]) -> Fault<Vec<u8>> {
    let text = std::str::from_utf8(armored).map_err(|_| "it is not text".to_owned())?;
    let body = text.strip_prefix(BEGIN).ok_or_else(|| format!("it does not start with {BEGIN}"))?;
    let body = body.trim_end().strip_suffix(END).ok_or_else(|| format!("it does not end with {END}"))?;
    let encoded: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(encoded).map_err(|_| "what is between its first and last line is not base64".to_owned())
}

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
const COLUMNS: usize = 70;
const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;
/// The flag by which a token says that someone touched it.
const USER_PRESENT: u8 = 0x01;
const WEBAUTHN: &str = "webauthn-sk-ecdsa-sha2-nistp256@openssh.com";

#[cfg(test)]
mod tests;
