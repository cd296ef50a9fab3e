//! `sealift keygen`

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use super::output::{note, print_data};
use crate::error::{Kind, Result};
use crate::trust::{KeyPair, PublicKey, SigningKey};

/// Make an OpenSSH ed25519 key pair for sealing bundles
///
/// Writes the private key to PATH (mode 0600) and the public key to PATH.pub, and prints the line for the
/// importers' allowed_signers file on stdout. Nothing is ever overwritten. Any other key that ssh-keygen can sign
/// with works as well: encrypted, in an agent, RSA, ECDSA, FIDO.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sealift keygen release.key --principal release@example.com > allowed_signers
  sealift keygen --show release.key > allowed_signers
Give allowed_signers to the importers once, by a way that they trust. Protect the private key with a
passphrase by: ssh-keygen -p -f release.key")]
pub(super) struct Keygen {
    /// Where the private key goes; the public key goes to PATH.pub
    path: PathBuf,
    /// Who the key stands for in allowed_signers; an e-mail address by habit [default: USER@HOST]
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// Make nothing: print the allowed_signers line of the key that is at PATH (or of a .pub file) again
    #[arg(long)]
    show: bool,
}

pub(super) fn run(command: &Keygen, quiet: bool) -> Result<()> {
    if command.show {
        return show(command);
    }
    let principal = command.principal.clone().unwrap_or_else(user_at_host);
    let pair = KeyPair::generate(&principal)?;
    let line = pair.public_key().allowed_signers_line(&principal)?;
    let path = command.path.display();
    let public = pair.write_pair(&command.path).map_err(|e| match e.kind() {
        // A shell has emptied the file to which the line was to go.
        Kind::Usage => e.hint(format!("the allowed_signers line of a key that is there: sealift keygen --show {path}")),
        _ => e,
    })?;
    if !quiet {
        note(&format!("private key: {path}"));
        note(&format!("public key:  {}  (key id {})", public.display(), pair.public_key().key_id()));
        note(match std::io::stdout().is_terminal() {
            true => "the next line belongs into the importers' allowed_signers file:",
            false => "the line for the importers' allowed_signers file went to stdout",
        });
    }
    print_data(&format!("{}\n", line.trim_end()))
}

fn show(command: &Keygen) -> Result<()> {
    let key = SigningKey::load(&command.path)?;
    let principal = command.principal.clone().or_else(|| comment(&command.path)).unwrap_or_else(user_at_host);
    let line = key.public_key().allowed_signers_line(&principal)?;
    print_data(&format!("{}\n", line.trim_end()))
}

/// What stands behind the key in its .pub file: there `keygen` wrote the principal.
fn comment(path: &Path) -> Option<String> {
    let mut public = path.as_os_str().to_owned();
    if path.extension().is_none_or(|extension| extension != "pub") {
        public.push(".pub");
    }
    let mut line = String::new();
    std::fs::File::open(public).ok()?.take(MAX_PUBLIC).read_to_string(&mut line).ok()?;
    PublicKey::comment_of_line(&line).map(str::to_owned)
}

/// Larger than any .pub file.
const MAX_PUBLIC: u64 = 16 << 10;

fn user_at_host() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "exporter".into());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let plain =
        |text: String| text.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect::<String>();
    format!("{}@{}", plain(user), plain(host))
}
