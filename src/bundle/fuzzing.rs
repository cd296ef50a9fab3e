//! Doors for `tests/fuzz`: parsers that are otherwise reached through a whole bundle only. Not for users.
//!
//! Each takes the bytes of one file and gives back what would be written for what it read, so that a target can hold
//! one against the other.

use super::format::checksums::Checksums;
use super::format::descriptor::BundleJson;
use super::format::index;
use crate::error::Result;

/// `SHA256SUMS`.
pub fn checksums(bytes: &[u8]) -> Result<Vec<u8>> {
    Checksums::parse(bytes).map(|read| read.to_bytes())
}

/// `bundle.json`.
pub fn descriptor(bytes: &[u8]) -> Result<Vec<u8>> {
    BundleJson::parse(bytes).map(|read| read.to_bytes())
}

/// `index.json`.
pub fn index(bytes: &[u8]) -> Result<Vec<u8>> {
    index::parse(bytes).map(|read| index::to_bytes(&read))
}
