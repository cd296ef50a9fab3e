//! New keys: an ed25519 pair as OpenSSH would make it, without a passphrase.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::key::PublicKey;
use super::openssh_key;
use super::signing::SigningKey;
use crate::error::{Error, Result};

/// A new ed25519 key pair that is not yet on disk. `Debug` shows its public half only.
pub struct KeyPair {
    key: ed25519_dalek::SigningKey,
    public: PublicKey,
    comment: String,
}

impl KeyPair {
    /// Makes a pair from the system's random numbers. `comment` is written into both files: who, where, when.
    pub fn generate(comment: &str) -> Result<KeyPair> {
        if comment.len() > COMMENT_LIMIT || comment.contains(char::is_control) {
            return Err(Error::usage(format!(
                "a key's comment is one line of at most {COMMENT_LIMIT} bytes without control characters"
            )));
        }
        let mut seed = Zeroizing::new([0; 32]);
        random(seed.as_mut_slice())?;
        let key = ed25519_dalek::SigningKey::from_bytes(&seed);
        let public = PublicKey::from_ed25519(&key.verifying_key());
        Ok(KeyPair { key, public, comment: comment.to_owned() })
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The text of the `.pub` file, with its line end.
    pub fn public_text(&self) -> String {
        format!("{}\n", self.public.to_line(&self.comment))
    }

    /// The text of the private key file.
    pub fn private_text(&self) -> Result<Zeroizing<String>> {
        let mut check = [0; 4];
        random(&mut check)?;
        Ok(openssh_key::write(&self.key, &self.comment, check))
    }

    /// Writes `path` (mode 0600) and `path.pub` (mode 0644) and returns the latter's path. Neither may exist.
    pub fn write_pair(&self, path: &Path) -> Result<PathBuf> {
        let mut public_path = path.as_os_str().to_owned();
        public_path.push(".pub");
        let public_path = PathBuf::from(public_path);
        create(path, 0o600, self.private_text()?.as_bytes())?;
        if let Err(error) = create(&public_path, 0o644, self.public_text().as_bytes()) {
            // Half a pair would make the next try fail. It is the file made above: nobody knows this key yet.
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
        Ok(public_path)
    }

    /// The pair as a key that signs.
    pub fn into_signing_key(self) -> SigningKey {
        SigningKey::here(self.key)
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("public", &self.public).finish_non_exhaustive()
    }
}

fn create(path: &Path, mode: u32, content: &[u8]) -> Result<()> {
    let shown = path.display();
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(|source| {
        if source.kind() == std::io::ErrorKind::AlreadyExists {
            Error::usage(format!("{shown} is there already and is not overwritten"))
                .hint("choose another path, or move the old key away if nobody trusts it any more")
        } else {
            Error::io(format!("cannot create {shown}"), source)
        }
    })?;
    let written = file.write_all(content).and_then(|()| File::sync_all(&file));
    written.map_err(|source| {
        let _ = std::fs::remove_file(path);
        Error::io(format!("cannot write {shown}"), source)
    })
}

fn random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes)
        .map_err(|source| Error::io("the system gives no random numbers", std::io::Error::other(source)))
}

const COMMENT_LIMIT: usize = 1024;

#[cfg(test)]
mod tests;
