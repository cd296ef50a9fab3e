//! The signatures that lie beside an image's manifests.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::oci::Digest;

/// The signatures of one image, as bytes that only skopeo understands. No other place of content can hold them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signatures {
    /// In their order, by what they sign: nothing stands for `manifest.json`, a digest for a manifest below it.
    pub(super) by_document: BTreeMap<Option<Digest>, Vec<Bytes>>,
}

impl Signatures {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_document.is_empty()
    }

    /// Those of `manifest.json` alone, or of one manifest below it, which is `manifest.json` where it lands by itself.
    #[must_use]
    pub fn of(&self, document: Option<Digest>) -> Signatures {
        let found = self.by_document.get(&document).cloned();
        Signatures { by_document: found.map(|signatures| (None, signatures)).into_iter().collect() }
    }
}
