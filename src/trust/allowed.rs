//! The list of keys that count: an `allowed_signers` file, or one public key pinned by hand.
//!
//! One key a line, several lines for one key allowed; a line lets its key in or not, on its own. How a line is
//! written is the business of [`mod@line`].

mod line;

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Namespace;
use super::key::PublicKey;
use super::signature::Signature;
use crate::error::{Error, Kind, Result};
use line::SignerLine;

/// Whose signatures count, for what, and when.
#[derive(Debug, Clone)]
pub struct Trust {
    lines: Vec<SignerLine>,
    any_namespace: bool,
}

impl Trust {
    /// Reads the file at `path`; see [`Trust::parse`].
    pub fn load(path: &Path, any_namespace: bool) -> Result<Trust> {
        Trust::read(&Trust::open(path)?, path, any_namespace)
    }

    /// Opens the file at `path`, for [`Trust::read`].
    pub fn open(path: &Path) -> Result<File> {
        File::open(path).map_err(|source| unreadable(path, source))
    }

    /// Reads an open file, whose path is for messages; see [`Trust::parse`].
    pub fn read(file: &File, path: &Path, any_namespace: bool) -> Result<Trust> {
        let origin = path.display().to_string();
        let unreadable = |source| unreadable(path, source);
        let mut bytes = Vec::new();
        file.take(FILE_LIMIT as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        Trust::parse(&bytes, &origin, any_namespace)
    }

    /// Reads an `allowed_signers` file or a single `.pub` line. `origin` is what errors call it.
    ///
    /// A line without `namespaces=` counts for every namespace if `any_namespace` is set, else for none. A key
    /// pinned as a `.pub` line counts for all of ours. Times without `Z` are in the system's time zone.
    ///
    /// # Errors
    /// [`Kind::Usage`] naming the line. One bad line refuses the whole file: skipping it
    /// could drop a signer, or a limit on one, without anyone noticing.
    pub fn parse(bytes: &[u8], origin: &str, any_namespace: bool) -> Result<Trust> {
        Trust::parse_in_zone(bytes, origin, any_namespace, &TimeZone::system())
    }

    /// [`Trust::parse`], with `zone` in place of the system's time zone.
    pub fn parse_in_zone(bytes: &[u8], origin: &str, any_namespace: bool, zone: &TimeZone) -> Result<Trust> {
        let refused = |fault: String| {
            Error::usage(format!("{origin}{fault}")).hint(
                "each line is: principals namespaces=\"sealift-bundle\" keytype key; see ssh-keygen(1), ALLOWED SIGNERS",
            )
        };
        if bytes.len() > FILE_LIMIT {
            return Err(refused(format!(" is larger than {FILE_LIMIT} bytes")));
        }
        if bytes.starts_with(BYTE_ORDER_MARK) {
            return Err(refused(", line 1: it starts with a byte-order mark, save the file as plain UTF-8".to_owned()));
        }
        if bytes.windows(PRIVATE.len()).any(|part| part == PRIVATE) {
            return Err(Error::usage(format!("{origin} is a private key, which says nothing of whom to trust"))
                .hint("give its .pub file, or the line that sealift keygen --show prints; the private key stays with its owner"));
        }
        // A text of n line ends has n lines, whatever stands after the last.
        let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let mut lines = Vec::new();
        let mut pinned = None;
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let number = index + 1;
            let at_line = |fault| refused(format!(", line {number}: {fault}"));
            if number > LINES_LIMIT {
                return Err(refused(format!(" has more than {LINES_LIMIT} lines")));
            }
            let Some(line) = line::content(line).map_err(at_line)? else { continue };
            if pinned.is_some() {
                return Err(at_line("more lines follow a bare public key: put a principal before each key".to_owned()));
            }
            if line::looks_pinned(line) {
                if !lines.is_empty() {
                    return Err(at_line("there is no principal before the key".to_owned()));
                }
                pinned = Some(number);
                lines.push(SignerLine::pinned(number, line).map_err(at_line)?);
            } else {
                lines.push(SignerLine::parse(number, line, zone).map_err(at_line)?);
            }
        }
        if lines.is_empty() {
            return Err(
                refused(" has no key in it".to_owned()).hint("sealift keygen --show KEY prints the line of a key")
            );
        }
        Ok(Trust { lines, any_namespace })
    }

    /// Every key in the list, once each, in order. Whether one counts depends on when and what for.
    pub fn keys(&self) -> Vec<&PublicKey> {
        let mut keys: Vec<&PublicKey> = Vec::new();
        for line in &self.lines {
            if !keys.contains(&&line.key) {
                keys.push(&line.key);
            }
        }
        keys
    }

    /// Judges one signature over `message` at the instant `at`.
    ///
    /// The signature is verified first, whoever made it: one that does not verify is never merely "unknown".
    pub fn judge(&self, namespace: Namespace, at: Timestamp, message: &[u8], signature: &Signature) -> Verdict {
        let key = signature.public_key().clone();
        if let Err(error) = signature.verify(namespace, message) {
            return match error.kind() {
                Kind::NotFound | Kind::Io => Verdict::Unchecked { key, error },
                _ => Verdict::Invalid(error),
            };
        }
        let mut principals: Vec<String> = Vec::new();
        let mut refusals = Vec::new();
        for line in self.lines.iter().filter(|line| line.key == key) {
            match line.refusal(namespace, at, self.any_namespace) {
                Some(refusal) => refusals.push(refusal),
                None if principals.contains(&line.principals) => {}
                None => principals.push(line.principals.clone()),
            }
        }
        if !principals.is_empty() {
            Verdict::Trusted { principals, key }
        } else if !refusals.is_empty() {
            Verdict::NotAllowed { key, refusals }
        } else {
            Verdict::UnknownKey { key }
        }
    }
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::io(format!("cannot read the trusted keys in {}", path.display()), source)
        .hint("give an allowed_signers file, or a .pub file, that you got from the signer by a way you trust")
}

/// What a signature is worth.
#[derive(Debug)]
pub enum Verdict {
    /// It verifies, and its key may sign this now.
    Trusted {
        /// The first words of all lines that let the key in, as they stand there (each may be a pattern-list);
        /// for a pinned key its comment or fingerprint.
        principals: Vec<String>,
        /// Who signed.
        key: PublicKey,
    },
    /// It verifies, but nobody listed the key: worth a mention, not a vote.
    UnknownKey {
        /// Who signed.
        key: PublicKey,
    },
    /// It verifies and the key is listed, but no line lets it sign this now.
    NotAllowed {
        /// Who signed.
        key: PublicKey,
        /// Why not, for each line with the key.
        refusals: Vec<Refusal>,
    },
    /// It does not verify, or is for another namespace. The error says which.
    Invalid(Error),
    /// It could not be checked here, because that needs `ssh-keygen`. It counts for nothing.
    Unchecked {
        /// Who claims to have signed.
        key: PublicKey,
        /// What was missing, with a hint.
        error: Error,
    },
}

/// Why a line does not let its key sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The line has no `namespaces=`, and lines must say what they are for.
    NoNamespaces {
        /// The line's number, from 1.
        line: usize,
    },
    /// The line's `namespaces=` does not let in the one wanted.
    OtherNamespace {
        /// The line's number, from 1.
        line: usize,
        /// What was wanted.
        wanted: Namespace,
    },
    /// The key is not valid yet.
    NotYet {
        /// The line's number, from 1.
        line: usize,
        /// The first instant at which it is.
        valid_after: Timestamp,
    },
    /// The key is not valid any more.
    Expired {
        /// The line's number, from 1.
        line: usize,
        /// The last instant at which it was.
        valid_before: Timestamp,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoNamespaces { line } => write!(f, "line {line} has no namespaces= option"),
            Refusal::OtherNamespace { line, wanted } => {
                write!(f, "the namespaces= of line {line} do not include {wanted}")
            }
            Refusal::NotYet { line, valid_after } => write!(f, "line {line} is valid after {valid_after}"),
            Refusal::Expired { line, valid_before } => write!(f, "line {line} was valid before {valid_before}"),
        }
    }
}

const FILE_LIMIT: usize = 1 << 20;
const LINES_LIMIT: usize = 10_000;
const PRIVATE: &[u8] = b"PRIVATE KEY-----";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod tests;
