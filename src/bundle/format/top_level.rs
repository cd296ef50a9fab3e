//! What a bundle says of itself, worked out from its contents: the top-level files, their checksums, the signatures.
//!
//! Checksums of blobs are their names, so that all of this is known before the first blob is there.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use super::checksums::Checksums;
use super::descriptor::BundleJson;
use super::seal::signature_name;
use super::{DESCRIPTOR, INDEX, LAYOUT, LAYOUT_BYTES, index, limits};
use crate::content::{BlobKind, Contents};
use crate::error::{Error, Kind, Result};
use crate::oci::Digest;
use crate::trust::{Namespace, SigningKey};

/// The files of the top level.
#[derive(Debug)]
pub(crate) struct HeadFiles {
    descriptor: Vec<u8>,
    index: Vec<u8>,
    sums: Vec<u8>,
}

/// The files of the top level, and the signatures.
#[derive(Debug)]
pub(crate) struct Sealed {
    head: HeadFiles,
    /// File name and text.
    signatures: Vec<(String, String)>,
}

impl HeadFiles {
    /// Works them out, and reads them again as a reader would: what it would refuse is not written.
    pub(crate) fn new(contents: &Contents, created: Timestamp) -> Result<HeadFiles> {
        let descriptor = BundleJson::new(created, &contents.absent);
        let index = index::to_bytes(&index::items(contents)?);
        let descriptor_bytes = descriptor.to_bytes();
        let sums = Checksums {
            descriptor: Digest::of(&descriptor_bytes),
            index: Digest::of(&index),
            layout: Digest::of(LAYOUT_BYTES),
            blobs: sizes(contents).into_keys().collect(),
        };
        let files = HeadFiles { descriptor: descriptor_bytes, index, sums: sums.to_bytes() };
        files.check(contents).map_err(cannot_carry)?;
        Ok(files)
    }

    /// The identity that the bundle will have.
    pub(crate) fn identity(&self) -> Digest {
        Digest::of(&self.sums)
    }

    /// The bytes of `SHA256SUMS`.
    pub(crate) fn sums(&self) -> &[u8] {
        &self.sums
    }

    /// Takes signatures that were made before: file name and text.
    pub(crate) fn signed(self, signatures: Vec<(String, String)>) -> Sealed {
        Sealed { head: self, signatures }
    }

    /// Signs them.
    pub(crate) fn seal(self, keys: &[SigningKey]) -> Result<Sealed> {
        let mut signatures = Vec::with_capacity(keys.len());
        for key in keys {
            let signature = key.sign(Namespace::Bundle, &self.sums)?;
            let armored = signature.as_armored().to_owned();
            if armored.len() as u64 > limits::SIGNATURE_BYTES {
                return Err(Error::usage(format!(
                    "the signature by key {} has more than {} bytes",
                    key.public_key().key_id(),
                    limits::SIGNATURE_BYTES
                )));
            }
            signatures.push((signature_name(&key.public_key().key_id().to_string()), armored));
        }
        Ok(Sealed { head: self, signatures })
    }

    fn check(&self, contents: &Contents) -> Result<()> {
        for (name, bytes, limit) in [
            (DESCRIPTOR, &self.descriptor, limits::DESCRIPTOR_BYTES),
            (INDEX, &self.index, limits::INDEX_BYTES),
            (super::SUMS, &self.sums, limits::SUMS_BYTES),
        ] {
            if bytes.len() as u64 > limit {
                return Err(Error::refused(format!("{name} would have more than {limit} bytes")));
            }
        }
        Checksums::parse(&self.sums)?;
        let items = index::parse(&self.index)?;
        BundleJson::parse(&self.descriptor)?
            .check_names(&items.iter().map(|item| item.image.name.to_string()).collect())?;
        let documents = contents.document_order.iter().filter_map(|digest| contents.documents.size(*digest));
        if documents.sum::<u64>() > limits::DOCUMENTS_BYTES {
            return Err(Error::refused(format!(
                "manifests and indexes have more than {} bytes in all",
                limits::DOCUMENTS_BYTES
            )));
        }
        check_configs(contents)?;
        match contents.blobs.iter().find(|blob| blob.size > limits::BLOB_BYTES) {
            Some(blob) => Err(Error::refused(format!("{} has {} bytes", blob.digest, blob.size))),
            None => Ok(()),
        }
    }
}

impl Sealed {
    pub(crate) fn identity(&self) -> Digest {
        self.head.identity()
    }

    /// In bytes, all files together.
    pub(crate) fn size(&self) -> u64 {
        let signatures = self.signatures.iter().map(|(_, text)| text.len());
        let head = [self.head.descriptor.len(), self.head.index.len(), self.head.sums.len(), LAYOUT_BYTES.len()];
        signatures.chain(head).map(|len| len as u64).sum()
    }

    /// The files that are written before everything is made durable.
    pub(crate) fn before(&self) -> [(&str, &[u8]); 3] {
        [(DESCRIPTOR, &self.head.descriptor), (LAYOUT, LAYOUT_BYTES), (INDEX, &self.head.index)]
    }

    /// The bytes of `SHA256SUMS`.
    pub(crate) fn sums(&self) -> &[u8] {
        &self.head.sums
    }

    /// File names in `signatures/`, and their texts.
    pub(crate) fn signatures(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.signatures.iter().map(|(name, text)| (name.as_str(), text.as_bytes()))
    }
}

/// Checks that the configs of the head are within their limit.
pub(crate) fn check_configs(contents: &Contents) -> Result<()> {
    let configs = contents.blobs.iter().filter(|blob| blob.kind == BlobKind::Config);
    match configs.map(|blob| blob.size).sum::<u64>() {
        0..=limits::CONFIGS_BYTES => Ok(()),
        total => {
            Err(Error::damaged(format!("the configs have {total} bytes in all, more than {}", limits::CONFIGS_BYTES)))
        }
    }
}

/// Every blob and document with its size in bytes.
pub(crate) fn sizes(contents: &Contents) -> BTreeMap<Digest, u64> {
    let documents =
        contents.document_order.iter().map(|digest| (*digest, contents.documents.size(*digest).unwrap_or_default()));
    documents.chain(contents.blobs.iter().map(|blob| (blob.digest, blob.size))).collect()
}

/// Checks that a bundle can hold the signatures of all `keys`.
pub(crate) fn check_keys(keys: &[SigningKey]) -> Result<()> {
    if keys.is_empty() {
        return Err(
            Error::usage("a bundle is signed by at least one key").hint("give a key, or make one: sealift keygen")
        );
    }
    if keys.len() > limits::SIGNATURES {
        return Err(Error::usage(format!("a bundle has at most {} signatures", limits::SIGNATURES)));
    }
    let mut seen = HashSet::new();
    match keys.iter().map(|key| key.public_key().key_id()).find(|id| !seen.insert(*id)) {
        Some(id) => Err(Error::usage(format!("key {id} is given twice"))),
        None => Ok(()),
    }
}

/// What a reader would call damage is, before it is written, something that cannot be carried.
fn cannot_carry(error: Error) -> Error {
    match error.kind() {
        Kind::Io => error,
        _ => Error::refused("the images cannot be carried in one bundle").caused_by(error),
    }
}
