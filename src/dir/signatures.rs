//! The signatures that lie beside an image's manifests.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::image_file::{self, ImageFile};
use crate::error::{Error, Result};
use crate::files::Directory;
use crate::oci::Digest;

/// The signatures of one image, as bytes that only skopeo understands. No other place of content can hold them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageSignatures {
    /// In their order, by what they sign: nothing stands for `manifest.json`, a digest for a manifest below it.
    by_document: BTreeMap<Option<Digest>, Vec<Bytes>>,
}

impl ImageSignatures {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_document.is_empty()
    }

    /// Those of `manifest.json` alone, or of one manifest below it, which is `manifest.json` where it lands by itself.
    #[must_use]
    pub fn of(&self, document: Option<Digest>) -> ImageSignatures {
        let found = self.by_document.get(&document).cloned();
        ImageSignatures { by_document: found.map(|signatures| (None, signatures)).into_iter().collect() }
    }

    /// Those of an image directory whose files are `entries`. As skopeo does, they are counted up to the first gap.
    pub(super) fn read(folder: &Directory, entries: impl Iterator<Item = ImageFile>) -> Result<ImageSignatures> {
        let mut numbers: BTreeMap<Option<Digest>, Vec<u32>> = BTreeMap::new();
        for entry in entries {
            if let ImageFile::Signature(of, number) = entry {
                numbers.entry(of).or_default().push(number);
            }
        }
        let mut left = MAX_BYTES;
        let mut by_document: BTreeMap<Option<Digest>, Vec<Bytes>> = BTreeMap::new();
        for (of, mut numbers) in numbers {
            numbers.sort_unstable();
            for (position, _) in
                numbers.iter().enumerate().take_while(|(position, number)| **number == *position as u32 + 1)
            {
                let bytes = folder.read(&image_file::signature(of, position + 1), left)?;
                left -= bytes.len() as u64;
                by_document.entry(of).or_default().push(bytes);
            }
        }
        if by_document.values().map(Vec::len).sum::<usize>() > MAX_COUNT {
            return Err(Error::refused(format!("{} has more than {MAX_COUNT} signatures", folder.called()))
                .hint("remove those that are not needed, or leave them out with --remove-signatures"));
        }
        Ok(ImageSignatures { by_document })
    }

    /// What each signs, the name of its file, and its bytes.
    pub(super) fn files(&self) -> impl Iterator<Item = (Option<Digest>, String, &Bytes)> {
        self.by_document.iter().flat_map(|(of, signatures)| {
            let named = signatures.iter().enumerate();
            named.map(move |(position, bytes)| (*of, image_file::signature(*of, position + 1), bytes))
        })
    }
}

/// All signatures of one image together, in bytes: 1 MiB. They are held in memory.
const MAX_BYTES: u64 = 1 << 20;
/// Signatures of one image.
const MAX_COUNT: usize = 1_000;
