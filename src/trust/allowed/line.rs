//! One line of an `allowed_signers` file: `principals [options] keytype base64 [comment]`.
//!
//! The format is that of `ssh-keygen(1)`, ALLOWED SIGNERS. Where its reader and that page differ, this follows the
//! reader: quotes and commas are taken apart as OpenSSH takes them apart, so that both see the same options.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Refusal;
use crate::trust::key::{KeyType, PublicKey, split_word};
use crate::trust::validity::parse_time;
use crate::trust::{Fault, Namespace, pattern, quoted};

/// One line that is neither blank nor a comment.
#[derive(Debug, Clone)]
pub(super) struct SignerLine {
    number: usize,
    pub(super) principals: String,
    options: Options,
    pub(super) key: PublicKey,
}

impl SignerLine {
    pub(super) fn parse(number: usize, line: &[u8], zone: &TimeZone) -> Fault<SignerLine> {
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
        Ok(SignerLine { number, principals, options, key })
    }

    pub(super) fn pinned(number: usize, line: &[u8]) -> Fault<SignerLine> {
        let (key, comment) = PublicKey::split_line(line)?;
        let principals = match std::str::from_utf8(comment).map(str::trim) {
            Ok(comment) if !comment.is_empty() => comment.to_owned(),
            _ => key.fingerprint(),
        };
        // Whoever pins a key by hand has said what it is for by naming it on sealift's command line.
        let options = Options { namespaces: Some(OURS.to_vec()), ..Options::default() };
        Ok(SignerLine { number, principals, options, key })
    }

    /// Why this line does not let its key sign for `namespace` at `at`; `None` if it does.
    /// Both ends of the validity belong to it, and fractions of a second are cut off, as OpenSSH counts.
    pub(super) fn refusal(&self, namespace: Namespace, at: Timestamp, any_namespace: bool) -> Option<Refusal> {
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
pub(super) fn content(line: &[u8]) -> Fault<Option<&[u8]>> {
    if line.len() > LINE_LIMIT {
        return Err(format!("it is longer than {LINE_LIMIT} bytes"));
    }
    if line.contains(&0) {
        return Err("it has a NUL byte in it, as UTF-16 text has: UTF-8 is read".to_owned());
    }
    // OpenSSH's readers take CR for a blank at both ends of a line.
    let line = line.trim_ascii();
    Ok(if line.is_empty() || line[0] == b'#' { None } else { Some(line) })
}

/// Whether a line starts with a key and not with a principal.
pub(super) fn looks_pinned(line: &[u8]) -> bool {
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

pub(super) const LINE_LIMIT: usize = 16 << 10;
/// What a pinned key may sign.
const OURS: &[u8] = b"sealift-*";
