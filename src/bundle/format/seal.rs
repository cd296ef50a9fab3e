//! The seal: `SHA256SUMS`, and who signed it. The first thing that is looked at, and the only thing until it holds.

use std::ffi::{OsStr, OsString};
use std::ops::Deref;

use bytes::Bytes;
use jiff::Timestamp;

use super::head_reader::HeadReader;
use super::unlisted::{Unlisted, is_file};
use super::{SIGNATURES, SUMS, limits};
use crate::error::{Error, Kind, Result};
use crate::files::Directory;
use crate::oci::Digest;
use crate::trust::{Namespace, PublicKey, Signature, Trust, Verdict};

/// The checksum list of a bundle, with the signatures under it. A `Seal` that is not in [`Unverified`] carries at
/// least one signature that counts.
#[derive(Debug)]
pub struct Seal {
    pub(crate) sums: Bytes,
    /// The bundle's identity: the SHA-256 of `SHA256SUMS`.
    pub identity: Digest,
    /// Who signed and counts.
    pub signers: Vec<Signer>,
    /// Who countersigned as a reviewer and is trusted for that.
    pub reviewers: Vec<Signer>,
    /// Who signed and does not count, with the reason.
    pub bystanders: Vec<UntrustedSigner>,
}

/// Someone whose signature holds and counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The key.
    pub key: PublicKey,
    /// What the list of trusted keys calls its holder.
    pub principals: Vec<String>,
}

/// Someone whose signature does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UntrustedSigner {
    /// The key.
    pub key: PublicKey,
    /// Why it does not count, as a fragment: `is not in the list of trusted keys`.
    pub why: String,
}

/// Something that was read from a bundle whose seal was not held against any trust: to be shown, not acted upon.
/// It can be looked at, and not taken out:
///
/// ```compile_fail,E0507
/// use sealift::bundle::{Bundle, Head, Seal, Unverified};
/// fn head(bundle: &Bundle, seal: Unverified<Seal>) -> sealift::Result<Head> {
///     bundle.read_head(*seal)
/// }
/// ```
#[derive(Debug)]
pub struct Unverified<T>(pub(crate) T);

impl<T> Deref for Unverified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl Seal {
    /// Reads the seal and holds it against `trust`, as of `at`.
    pub(crate) fn verify(carrier: &mut dyn HeadReader, trust: &Trust, at: Timestamp) -> Result<Seal> {
        let sums = carrier.sums()?;
        let signatures = read_signatures(carrier)?;
        if signatures.is_empty() {
            return Err(Error::untrusted(format!("{} is not signed", carrier.shown("")))
                .hint("ask its sender to export it again with --key, and to send you the public key another way"));
        }
        let mut seal = Seal::bare(sums);
        let mut unchecked = None;
        for Found { path, signature } in signatures {
            let namespace = purpose(&signature);
            match trust.judge(namespace, at, &seal.sums, &signature) {
                Verdict::Trusted { principals, key } => {
                    let list = if namespace == Namespace::Review { &mut seal.reviewers } else { &mut seal.signers };
                    list.push(Signer { key, principals });
                }
                Verdict::UnknownKey { key } => {
                    seal.bystanders.push(UntrustedSigner { key, why: "is not in the list of trusted keys".into() });
                }
                Verdict::NotAllowed { key, refusals } => {
                    let why: Vec<String> = refusals.iter().map(ToString::to_string).collect();
                    seal.bystanders
                        .push(UntrustedSigner { key, why: format!("is listed, but {}", why.join(", and ")) });
                }
                Verdict::Invalid(error) => return Err(invalid(&path, error)),
                Verdict::Unchecked { key, error } => {
                    seal.bystanders
                        .push(UntrustedSigner { key, why: format!("could not be checked: {}", error.chain()) });
                    unchecked = Some(error.context(format!("cannot check {path}")));
                }
            }
        }
        if seal.signers.is_empty() {
            return Err(unchecked.unwrap_or_else(|| nobody(&seal)));
        }
        Ok(seal)
    }

    /// Reads the seal and looks only whether its signatures hold, whoever made them.
    pub(crate) fn read_unverified(carrier: &mut dyn HeadReader) -> Result<Unverified<Seal>> {
        let mut seal = Seal::bare(carrier.sums()?);
        for Found { path, signature } in read_signatures(carrier)? {
            let why = match signature.verify(purpose(&signature), &seal.sums) {
                Ok(()) => "was not held against a list of trusted keys".to_owned(),
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Io) => {
                    format!("could not be checked: {}", error.chain())
                }
                Err(error) => return Err(invalid(&path, error)),
            };
            seal.bystanders.push(UntrustedSigner { key: signature.public_key().clone(), why });
        }
        Ok(Unverified(seal))
    }

    /// A seal of which no signature was read: only sizes and offsets are taken from what it vouches for.
    pub(crate) fn unchecked(sums: Bytes) -> Unverified<Seal> {
        Unverified(Seal::bare(sums))
    }

    fn bare(sums: Bytes) -> Seal {
        let identity = Digest::of(&sums);
        Seal { sums, identity, signers: Vec::new(), reviewers: Vec::new(), bystanders: Vec::new() }
    }
}

struct Found {
    path: String,
    signature: Signature,
}

/// `SHA256SUMS` of a directory.
pub(crate) fn sums_in(root: &Directory) -> Result<Bytes> {
    if root.look(OsStr::new(SUMS))?.is_none() {
        let error = Error::damaged(format!("{} is not a whole bundle: it has no {SUMS}", root.shown("")));
        return Err(match bundle_inside(root) {
            Some(name) => error.hint(format!("\"{}\" looks like one", root.shown(name))),
            None => {
                error.hint("the seal is written last: let the export end, or copy the bundle again from its medium")
            }
        });
    }
    root.read(SUMS, limits::SUMS_BYTES)
}

/// A directory that may be what was meant: one is easily named too high.
fn bundle_inside(root: &Directory) -> Option<OsString> {
    let entries = root.entries(limits::STRANGERS).ok()?;
    let names = entries.into_iter().map(|entry| entry.name);
    let mut bundles = names.filter(|name| {
        let inside = name.to_str().and_then(|name| root.folder(name).ok());
        inside.is_some_and(|inside| inside.look(OsStr::new(SUMS)).is_ok_and(|found| found.is_some()))
    });
    bundles.next()
}

/// Every file of a directory's `signatures/`.
pub(crate) fn signatures_in(root: &Directory) -> Result<Vec<(String, Bytes)>> {
    if root.look(OsStr::new(SIGNATURES))?.is_none() {
        return Ok(Vec::new());
    }
    let folder = root.folder(SIGNATURES)?;
    let entries = folder.entries(limits::SIGNATURES + limits::STRANGERS)?;
    let mut strangers = Unlisted::default();
    let mut found = Vec::new();
    for entry in &entries {
        let Some(name) = entry.name.to_str().filter(|name| is_signature_name(name)) else {
            strangers.add(&folder, entry);
            continue;
        };
        if !is_file(entry) {
            return Err(folder.wrong_kind(&entry.name, entry.kind, "a regular file"));
        }
        check_count(found.len())?;
        found.push((name.to_owned(), folder.read(name, limits::SIGNATURE_BYTES)?));
    }
    match strangers.refusal() {
        Some(error) => Err(error),
        None => Ok(found),
    }
}

/// Whether there may be one signature more than `count`.
pub(crate) fn check_count(count: usize) -> Result<()> {
    match count < limits::SIGNATURES {
        true => Ok(()),
        false => Err(Error::damaged(format!("there are more than {} signatures", limits::SIGNATURES))),
    }
}

/// Every signature, well-formed and under the name of its key.
fn read_signatures(carrier: &mut dyn HeadReader) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for (name, bytes) in carrier.signatures()? {
        let path = carrier.shown(&format!("{SIGNATURES}/{name}"));
        let signature = Signature::parse(&bytes).map_err(|e| e.context(path.clone()))?;
        let id = signature.public_key().key_id().to_string();
        if name != signature_name(&id) {
            return Err(Error::damaged(format!("{path} holds the signature of key {id}"))
                .hint("a signature is kept under the id of its key: remove the file, or give it its name"));
        }
        found.push(Found { path, signature });
    }
    Ok(found)
}

/// The file of a key's signature.
pub(crate) fn signature_name(key_id: &str) -> String {
    format!("{key_id}.sig")
}

pub(crate) fn is_signature_name(name: &str) -> bool {
    name.strip_suffix(".sig")
        .is_some_and(|id| id.len() == 32 && id.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')))
}

/// What a signature is judged as. It is signed along, so a reviewer's can never count as the sender's.
fn purpose(signature: &Signature) -> Namespace {
    if signature.namespace() == Namespace::Review.as_str() { Namespace::Review } else { Namespace::Bundle }
}

fn invalid(path: &str, error: Error) -> Error {
    let hint = "SHA256SUMS or the signature was changed after signing: copy the bundle again, or ask for it again";
    match error.kind() {
        Kind::Untrusted => error.context(path.to_owned()),
        _ => error.context(path.to_owned()).hint(hint),
    }
}

fn nobody(seal: &Seal) -> Error {
    let mut said: Vec<String> =
        seal.bystanders.iter().map(|one| format!("key {} {}", one.key.fingerprint(), one.why)).collect();
    said.extend(seal.reviewers.iter().map(|one| format!("key {} signed as a reviewer only", one.key.fingerprint())));
    Error::untrusted(format!("nobody who is trusted signed the bundle: {}", said.join("; ")))
        .hint("compare the fingerprint with what the sender tells you another way; then add the key to the file given with --trust")
}
