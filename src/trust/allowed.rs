//! The list of keys that count: an `allowed_signers` file, or one public key pinned by hand.
//!
//! The format is that of `ssh-keygen(1)`, ALLOWED SIGNERS: `principals [options] keytype base64 [comment]`, one
//! key a line, several lines for one key allowed. A line lets its key in or not, on its own.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::key::{KeyType, PublicKey, split_word};
use super::signature::Signature;
use super::validity::parse_time;
use super::{Fault, Namespace, pattern, quoted};
use crate::error::{Error, Kind, Result};

/// Whose signatures count, for what, and when.
#[derive(Debug, Clone)]
pub struct Trust {
    lines: Vec<Line>,
    any_namespace: bool,
}

impl Trust {
    /// Reads the file at `path`; see [`Trust::parse`].
    pub fn load(path: &Path, any_namespace: bool) -> Result<Trust> {
        let origin = path.display().to_string();
        let unreadable = |source| {
            Error::io(format!("cannot read the trusted keys in {origin}"), source)
                .hint("give an allowed_signers file, or a .pub file, that you got from the signer by a way you trust")
        };
        let file = std::fs::File::open(path).map_err(unreadable)?;
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
            let Some(line) = content(line).map_err(at_line)? else { continue };
            if pinned.is_some() {
                return Err(at_line("more lines follow a bare public key: put a principal before each key".to_owned()));
            }
            if looks_pinned(line) {
                if !lines.is_empty() {
                    return Err(at_line("there is no principal before the key".to_owned()));
                }
                pinned = Some(number);
                lines.push(Line::pinned(number, line).map_err(at_line)?);
            } else {
                lines.push(Line::parse(number, line, zone).map_err(at_line)?);
            }
        }
        if lines.is_empty() {
            return Err(refused(" has no key in it".to_owned()));
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

/// One line that is neither blank nor a comment.
#[derive(Debug, Clone)]
struct Line {
    number: usize,
    principals: String,
    options: Options,
    key: PublicKey,
}

impl Line {
    fn parse(number: usize, line: &[u8], zone: &TimeZone) -> Fault<Line> {
        let (principals, rest) = split_principals(line)?;
        let principals = String::from_utf8(principals).map_err(|_| "the principals are not valid UTF-8".to_owned())?;
        if !pattern::names_somebody(principals.as_bytes()) {
            return Err(format!("the principals {} match nobody", quoted(principals.as_bytes())));
        }
        if rest.is_empty() {
            return Err("there is no key after the principals".to_owned());
        }
        let (options, key) = if KeyType::from_name(split_word(rest).0).is_ok() {
            (Options::default(), rest)
        } else {
            let (options, key) = split_options(rest)?;
            (Options::parse(options, zone)?, key)
        };
        if key.is_empty() {
            return Err("there is no key after the options".to_owned());
        }
        let (key, _comment) = PublicKey::split_line(key)?;
        Ok(Line { number, principals, options, key })
    }

    fn pinned(number: usize, line: &[u8]) -> Fault<Line> {
        let (key, comment) = PublicKey::split_line(line)?;
        let principals = match std::str::from_utf8(comment).map(str::trim) {
            Ok(comment) if !comment.is_empty() => comment.to_owned(),
            _ => key.fingerprint(),
        };
        // Whoever pins a key by hand has said what it is for by naming it on sealift's command line.
        let options = Options { namespaces: Some(OURS.to_vec()), ..Options::default() };
        Ok(Line { number, principals, options, key })
    }

    /// Why this line does not let its key sign for `namespace` at `at`; `None` if it does.
    /// Both ends of the validity belong to it, and fractions of a second are cut off, as OpenSSH counts.
    fn refusal(&self, namespace: Namespace, at: Timestamp, any_namespace: bool) -> Option<Refusal> {
        let line = self.number;
        match &self.options.namespaces {
            None if !any_namespace => return Some(Refusal::NoNamespaces { line }),
            Some(list) if !pattern::list_matches(list, namespace.as_str().as_bytes()) => {
                return Some(Refusal::OtherNamespace { line, wanted: namespace });
            }
            _ => {}
        }
        let second = at.as_second();
        match (self.options.valid_after, self.options.valid_before) {
            (Some(valid_after), _) if second < valid_after.as_second() => Some(Refusal::NotYet { line, valid_after }),
            (_, Some(valid_before)) if second > valid_before.as_second() => {
                Some(Refusal::Expired { line, valid_before })
            }
            _ => None,
        }
    }
}

/// What may stand between the principals and the key.
#[derive(Debug, Clone, Default)]
struct Options {
    namespaces: Option<Vec<u8>>,
    valid_after: Option<Timestamp>,
    valid_before: Option<Timestamp>,
}

impl Options {
    fn parse(mut text: &[u8], zone: &TimeZone) -> Fault<Options> {
        let mut options = Options::default();
        loop {
            // OpenSSH reads over an option that is missing between commas, but not over one missing at the end.
            while let [b',', rest @ ..] = text {
                text = rest;
                if text.is_empty() {
                    return Err("the options end with a comma".to_owned());
                }
            }
            let end = text.iter().position(|byte| matches!(byte, b'=' | b',')).unwrap_or(text.len());
            let (name, rest) = text.split_at(end);
            let name_text = String::from_utf8_lossy(name).to_ascii_lowercase();
            if name_text == "cert-authority" {
                return Err("cert-authority is not supported: list the signing keys themselves".to_owned());
            }
            if !matches!(name_text.as_str(), "namespaces" | "valid-after" | "valid-before") {
                return Err(format!("unknown option or key type {}", quoted(name)));
            }
            let Some(value) = rest.strip_prefix(b"=") else {
                return Err(format!("option {name_text} needs a value: {name_text}=\"...\""));
            };
            let (value, rest) = dequote(value).map_err(|fault| format!("option {name_text}: {fault}"))?;
            let given_before = match name_text.as_str() {
                "namespaces" => options.namespaces.replace(value).is_some(),
                "valid-after" => options.valid_after.replace(parse_time(&value, zone)?).is_some(),
                _ => options.valid_before.replace(parse_time(&value, zone)?).is_some(),
            };
            if given_before {
                return Err(format!("option {name_text} is given twice"));
            }
            text = match rest {
                [] => break,
                [b','] => return Err("the options end with a comma".to_owned()),
                [b',', rest @ ..] => rest,
                _ => return Err(format!("there must be a comma before {}", quoted(rest))),
            };
        }
        if let (Some(after), Some(before)) = (options.valid_after, options.valid_before)
            && before <= after
        {
            return Err("valid-before is not later than valid-after".to_owned());
        }
        Ok(options)
    }
}

/// A line without its end and leading blanks; `None` if it is blank or a comment.
fn content(line: &[u8]) -> Fault<Option<&[u8]>> {
    if line.len() > LINE_LIMIT {
        return Err(format!("it is longer than {LINE_LIMIT} bytes"));
    }
    if line.contains(&0) {
        return Err("it has a NUL byte in it".to_owned());
    }
    // OpenSSH's readers take CR for a blank at both ends of a line.
    let line = line.trim_ascii();
    Ok(if line.is_empty() || line[0] == b'#' { None } else { Some(line) })
}

/// Whether a line starts with a key and not with a principal.
fn looks_pinned(line: &[u8]) -> bool {
    let (first, rest) = split_word(line);
    let second = split_word(rest).0;
    KeyType::from_name(first).is_ok() && KeyType::from_name(second).is_err() && second.starts_with(b"AAAA")
}

/// The first word, of which one part may be in quotes (there is no escape), and what follows it.
fn split_principals(line: &[u8]) -> Fault<(Vec<u8>, &[u8])> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
    let end = line.iter().position(|byte| is_blank(byte) || *byte == b'"').unwrap_or(line.len());
    let mut word = line[..end].to_vec();
    let mut rest = &line[end..];
    if let [b'"', quoted @ ..] = rest {
        let close = quoted.iter().position(|byte| *byte == b'"').ok_or("the quote in the principals is not closed")?;
        word.extend_from_slice(&quoted[..close]);
        rest = &quoted[close + 1..];
    }
    let start = rest.iter().position(|byte| !is_blank(byte)).unwrap_or(rest.len());
    Ok((word, &rest[start..]))
}

/// Splits at the first blank that is not in quotes.
fn split_options(text: &[u8]) -> Fault<(&[u8], &[u8])> {
    let mut quoted = false;
    let mut at = 0;
    while at < text.len() && (quoted || !matches!(text[at], b' ' | b'\t')) {
        match text[at..] {
            [b'\\', b'"', ..] => at += 1,
            [b'"', ..] => quoted = !quoted,
            _ => {}
        }
        at += 1;
    }
    if quoted {
        return Err("a quote in the options is not closed".to_owned());
    }
    let (options, rest) = text.split_at(at);
    Ok((options, rest.trim_ascii_start()))
}

/// The text between quotes, in which `\"` stands for a quote, and what follows the closing one.
fn dequote(text: &[u8]) -> Fault<(Vec<u8>, &[u8])> {
    let Some(mut rest) = text.strip_prefix(b"\"") else { return Err("its value must be in quotes".to_owned()) };
    let mut value = Vec::new();
    loop {
        rest = match rest {
            [] => return Err("its quote is not closed".to_owned()),
            [b'"', rest @ ..] => return Ok((value, rest)),
            [b'\\', b'"', rest @ ..] => {
                value.push(b'"');
                rest
            }
            [byte, rest @ ..] => {
                value.push(*byte);
                rest
            }
        };
    }
}

const FILE_LIMIT: usize = 1 << 20;
const LINE_LIMIT: usize = 16 << 10;
const LINES_LIMIT: usize = 10_000;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// What a pinned key may sign.
const OURS: &[u8] = b"sealift-*";

#[cfg(test)]
mod tests;
