//! `sealift keygen`

use std::path::PathBuf;

use super::output::{note, print_data};
use crate::error::Result;
use crate::trust::KeyPair;

/// Make an OpenSSH ed25519 key pair for sealing bundles
///
/// Writes the private key to PATH (mode 0600) and the public key to PATH.pub, and prints the line for the
/// importers' allowed_signers file on stdout. Nothing is ever overwritten. Any other key that ssh-keygen can sign
/// with works as well: encrypted, in an agent, RSA, ECDSA, FIDO.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  sealift keygen release.key --principal release@example.com > allowed_signers
Give allowed_signers to the importers once, by a way that they trust. Protect the private key with a
passphrase by: ssh-keygen -p -f release.key")]
pub(super) struct Keygen {
    /// Where the private key goes; the public key goes to PATH.pub
    path: PathBuf,
    /// Who the key stands for in allowed_signers; an e-mail address by habit [default: USER@HOST]
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
}

pub(super) fn run(command: &Keygen) -> Result<()> {
    let principal = command.principal.clone().unwrap_or_else(user_at_host);
    let pair = KeyPair::generate(&principal)?;
    let line = pair.public_key().allowed_signers_line(&principal)?;
    let public = pair.write_pair(&command.path)?;
    note(&format!("private key: {}", command.path.display()));
    note(&format!("public key:  {}  (key id {})", public.display(), pair.public_key().key_id()));
    note("the next line belongs into the importers' allowed_signers file:");
    print_data(&format!("{}\n", line.trim_end()))
}

fn user_at_host() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "exporter".into());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let plain =
        |text: String| text.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect::<String>();
    format!("{}@{}", plain(user), plain(host))
}
