//! Keys that sign: held here if that is simple and safe, else used through `ssh-keygen`.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::key::PublicKey;
use super::openssh_key::{self, PrivateFile};
use super::signature::Signature;
use super::{Namespace, ssh_keygen};
use crate::error::{Error, Result};

/// A key that can sign. `Debug` shows its public half only.
pub struct SigningKey {
    public: PublicKey,
    held: Held,
}

enum Held {
    /// In this process; wiped when dropped.
    Here(ed25519_dalek::SigningKey),
    /// By whatever `ssh-keygen` finds behind this path: an encrypted file, an agent, a token.
    BySshKeygen(PathBuf),
}

impl SigningKey {
    /// Takes the key at `path`: an OpenSSH or PEM private key file, or a `.pub` file whose private half is with
    /// an agent or beside it. Asks for nothing yet: a passphrase is asked for when signing.
    ///
    /// # Errors
    /// [`Kind::Io`](crate::error::Kind::Io) if it cannot be read, [`Kind::Usage`](crate::error::Kind::Usage) if it
    /// is no key, or one that others can read.
    pub fn load(path: &Path) -> Result<SigningKey> {
        let shown = path.display();
        let unreadable = |source| Error::io(format!("cannot read the key {shown}"), source);
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if path.extension().is_some_and(|extension| extension == "pub") {
            return Ok(SigningKey::by_ssh_keygen(path, read_public(path)?));
        }
        let mut text = Zeroizing::new(Vec::with_capacity(KEY_FILE_LIMIT + 1));
        file.take(KEY_FILE_LIMIT as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
        let not_a_key = |fault: &str| {
            Error::usage(format!("cannot use the key {shown}: {fault}"))
                .hint("give a private key file as ssh-keygen makes it, or the .pub file of a key held by an agent")
        };
        if text.len() > KEY_FILE_LIMIT {
            return Err(not_a_key("the file is too large for a key"));
        }
        let in_pem = text.windows(PEM_MARK.len()).any(|part| part == PEM_MARK);
        if !openssh_key::is_private_file(&text) && !in_pem {
            return Err(not_a_key("it is not a private key"));
        }
        // The same rule as OpenSSH's: only the owner's own carelessness is refused.
        if metadata.uid() == rustix::process::getuid().as_raw() && metadata.mode() & 0o077 != 0 {
            let mode = metadata.mode() & 0o777;
            return Err(Error::usage(format!("the key {shown} can be read by others (mode {mode:04o})"))
                .hint(format!("make it yours alone: chmod 600 {shown}")));
        }
        if openssh_key::is_private_file(&text) {
            return match openssh_key::read(&text).map_err(|fault| not_a_key(&fault))? {
                PrivateFile::Ed25519(key) => Ok(SigningKey::here(key)),
                PrivateFile::Other(public) => Ok(SigningKey::by_ssh_keygen(path, public)),
            };
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(".pub");
        let beside = PathBuf::from(beside);
        let public = if beside.exists() {
            read_public(&beside)?
        } else {
            PublicKey::from_line(&ssh_keygen::public_line(path)?)?
        };
        Ok(SigningKey::by_ssh_keygen(path, public))
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message` for `namespace` and verifies the result. May wait for a passphrase or a touch.
    pub fn sign(&self, namespace: Namespace, message: &[u8]) -> Result<Signature> {
        let made = match &self.held {
            Held::Here(key) => Signature::make(key, namespace, message),
            Held::BySshKeygen(path) => Signature::parse(&ssh_keygen::sign(path, namespace, message)?),
        };
        let context = |error: Error| error.context(format!("the new signature by key {} is bad", self.public.key_id()));
        let signature = made.map_err(context)?;
        if *signature.public_key() != self.public {
            return Err(context(Error::damaged(format!(
                "it was made with key {} instead",
                signature.public_key().key_id()
            ))));
        }
        signature.verify(namespace, message).map_err(context)?;
        Ok(signature)
    }

    pub(super) fn here(key: ed25519_dalek::SigningKey) -> SigningKey {
        SigningKey { public: PublicKey::from_ed25519(&key.verifying_key()), held: Held::Here(key) }
    }

    fn by_ssh_keygen(path: &Path, public: PublicKey) -> SigningKey {
        SigningKey { public, held: Held::BySshKeygen(path.to_owned()) }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

fn read_public(path: &Path) -> Result<PublicKey> {
    let shown = path.display();
    let unreadable = |source| Error::io(format!("cannot read the public key {shown}"), source);
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(PUBLIC_FILE_LIMIT).read_to_string(&mut text)).map_err(unreadable)?;
    PublicKey::from_line(&text).map_err(|error| error.context(format!("cannot use {shown}")))
}

/// RSA-16384 needs about 13 KiB.
const KEY_FILE_LIMIT: usize = 64 << 10;
const PUBLIC_FILE_LIMIT: u64 = 16 << 10;
const PEM_MARK: &[u8] = b"PRIVATE KEY-----";

#[cfg(test)]
mod tests;
