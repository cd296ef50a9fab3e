//! Who vouches for a bundle: keys, signatures, and the list of keys that count.
//!
//! A bundle is signed the way git commits and files are signed with OpenSSH: an SSHSIG signature over the exact
//! bytes of its checksum list, checked against an `allowed_signers` file. Nothing here is of sealift's making, so
//! that `ssh-keygen -Y verify` on the importing side comes to the same answer without this program.
//!
//! # How the parts fit
//!
//! - A [`PublicKey`] is the key's SSH wire form. Its [`KeyId`] (the first 32 hex digits of the SHA-256 of that
//!   form) names signature files; its fingerprint is what people compare by eye.
//! - A [`SigningKey`] signs. A plain ed25519 key file is read and used in this process. Every other key
//!   (encrypted, held by an agent, on a FIDO token, RSA, ECDSA) is used by calling `ssh-keygen -Y sign`, so that
//!   passphrases, agents and tokens work as their owners know them. Whatever made a signature, it is verified
//!   before it is handed out.
//! - A [`Signature`] is an armored SSHSIG, read strictly: the text must be the very text that encodes what it
//!   decodes to. An SSHSIG is not itself signed over, so anything a lenient reader would skip would be a place
//!   to change a sealed bundle without breaking its seal. ed25519 keys, also on FIDO tokens, are verified in this
//!   process by the strict rules (no weak keys, no second encoding of a signature); RSA and ECDSA by
//!   `ssh-keygen -Y check-novalidate`.
//! - [`Trust`] is an `allowed_signers` file, or one `.pub` line pinned by hand. [`Trust::judge`] answers with a
//!   [`Verdict`].
//! - [`KeyPair`] makes a new ed25519 pair.
//!
//! A signature is made for one [`Namespace`], so that one made for one purpose (a review) can never be shown as
//! one for another (a bundle).
//!
//! # Where this is stricter than OpenSSH
//!
//! `tests/trust_table.rs` runs a table of cases against `ssh-keygen` itself and lists every difference. In short:
//! a line without `namespaces=` counts only if the caller says so; a file with one bad line is refused with that
//! line's number, where `ssh-keygen` prints a warning and reads on (a typing error must not silently shorten the
//! list, and an option that is not understood might have been a limit); certificates are not accepted;
//! dates must exist; and the armor, the reserved field and the ed25519 equations are held to one form.
//!
//! # What this module must not know
//!
//! Bundles, registries, the terminal. It reads the paths it is given and never looks into the environment or the
//! home directory (`ssh-keygen`, when called, does, as its users expect). It is the only module that
//! knows the ed25519 library.

mod allowed;
mod generate;
mod key;
mod openssh_key;
mod pattern;
mod signature;
mod signing;
mod ssh_keygen;
mod validity;
mod wire;

use std::fmt;

pub use allowed::{Refusal, Trust, Verdict};
pub use generate::KeyPair;
pub use key::{KeyId, KeyType, PublicKey};
pub use signature::Signature;
pub use signing::SigningKey;

/// What a signature is for. It is signed along, so a signature for one purpose never passes for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Namespace {
    /// "I made this bundle": over its `SHA256SUMS`.
    Bundle,
    /// "I looked at this bundle and let it pass": a countersignature over the same bytes.
    Review,
    /// "This is what landed": over an import's receipt.
    Receipt,
}

impl Namespace {
    /// Every namespace, in the order in which they are written into an `allowed_signers` line.
    pub const ALL: [Namespace; 3] = [Namespace::Bundle, Namespace::Review, Namespace::Receipt];

    /// The name as it is signed, and as `ssh-keygen -n` takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Namespace::Bundle => "sealift-bundle",
            Namespace::Review => "sealift-review",
            Namespace::Receipt => "sealift-receipt",
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed check without its place: a lower-case fragment, which the caller puts after the file and line.
type Fault<T> = std::result::Result<T, String>;

/// The start of text that others wrote, quoted and with control characters escaped, fit for a message.
fn quoted(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// How much of a foreign text a message repeats.
const QUOTED_CHARS: usize = 60;
