//! Calls of the `ssh-keygen` program, for keys that this process does not or must not hold.
//!
//! `-Y sign` and `-Y check-novalidate` are there since OpenSSH 8.1.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Namespace;
use crate::error::{Error, Kind, Result};

/// Whether an armored signature was made by the key in it, for `namespace`, over `message`.
///
/// # Errors
/// [`Kind::Damaged`] if `ssh-keygen` says no; [`Kind::NotFound`] or [`Kind::Io`] if it could not be asked.
pub(super) fn check(namespace: Namespace, armored: &str, message: &[u8]) -> Result<()> {
    let unwritable = |source| Error::temporary_file("a signature", source);
    let mut file = tempfile::Builder::new().prefix("sealift-").suffix(".sig").tempfile().map_err(unwritable)?;
    file.write_all(armored.as_bytes()).map_err(unwritable)?;
    let mut child = Command::new(PROGRAM)
        .args(["-Y", "check-novalidate", "-n", namespace.as_str(), "-s"])
        .arg(file.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(missing)?;
    if let Some(mut input) = child.stdin.take() {
        // A program that gave up early closes the pipe; its exit status says so better than this error would.
        let _ = input.write_all(message);
    }
    let output = child.wait_with_output().map_err(|source| Error::io("cannot wait for ssh-keygen", source))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or_default().trim().to_owned();
    match output.status.code() {
        Some(0) => Ok(()),
        Some(REFUSED) => Err(Error::damaged(if said.is_empty() { "ssh-keygen refused it".to_owned() } else { said })),
        _ => Err(Error::new(Kind::Io, format!("ssh-keygen failed ({}): {said}", output.status)).hint(OLD_HINT)),
    }
}

/// Has the key at `path` (a private key file, or a public one whose private half is with an agent) sign.
///
/// The message goes by a private file and not by standard input: `ssh-keygen` asks for a passphrase only if
/// its standard input is the terminal. What it has to say or ask, it says and asks on standard error.
pub(super) fn sign(path: &Path, namespace: Namespace, message: &[u8]) -> Result<Vec<u8>> {
    let unwritable = |source| Error::io("cannot write a temporary file for ssh-keygen", source);
    let private = std::fs::Permissions::from_mode(0o700);
    let folder = tempfile::Builder::new().prefix("sealift-").permissions(private).tempdir().map_err(unwritable)?;
    let file = folder.path().join("message");
    std::fs::write(&file, message).map_err(unwritable)?;
    let status = Command::new(PROGRAM)
        .args(["-q", "-Y", "sign", "-n", namespace.as_str(), "-f"])
        .args([path, &file])
        .stdin(Stdio::inherit())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status()
        .map_err(missing)?;
    let failed = || {
        Error::new(Kind::Io, format!("ssh-keygen could not sign with {} ({status})", path.display()))
            .hint("its own message is above; for a key held by an agent check that `ssh-add -l` lists it")
            .hint(OLD_HINT)
    };
    if !status.success() {
        return Err(failed());
    }
    std::fs::read(folder.path().join("message.sig")).map_err(|source| failed().caused_by(source))
}

/// The public half of an unencrypted private key file in a form that this program does not read, as a line.
pub(super) fn public_line(path: &Path) -> Result<String> {
    let output = Command::new(PROGRAM)
        .args([OsStr::new("-y"), OsStr::new("-P"), OsStr::new(""), OsStr::new("-f"), path.as_os_str()])
        .stdin(Stdio::null())
        .output()
        .map_err(missing)?;
    if !output.status.success() {
        return Err(Error::usage(format!("cannot tell the public key of {}", path.display()))
            .hint("put its public key beside it, with `.pub` added to the name (ssh-keygen -y prints it)"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn missing(source: std::io::Error) -> Error {
    let kind = if source.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Io };
    Error::new(kind, "cannot run ssh-keygen, which this type of key needs")
        .caused_by(source)
        .hint("install OpenSSH 8.1 or later, or sign with an unencrypted ed25519 key, which needs no other program")
}

const PROGRAM: &str = "ssh-keygen";
/// The exit status of a refusal; a wrong use (an unknown `-Y`) is 1.
const REFUSED: i32 = 255;
const OLD_HINT: &str = "`ssh-keygen -Y` needs OpenSSH 8.1 or later: `ssh -V` tells";
