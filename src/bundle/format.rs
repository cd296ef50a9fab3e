//! The files of a bundle, read strictly and written from its contents.

pub(crate) mod absent;
pub(crate) mod blobs;
pub(crate) mod checksums;
pub(crate) mod descriptor;
pub(crate) mod head;
pub(crate) mod head_reader;
pub(crate) mod index;
pub mod limits;
pub(crate) mod members;
pub(crate) mod offsets;
pub(crate) mod seal;
pub(crate) mod top_level;
pub(crate) mod unlisted;

/// The format that is written and the only one that is read. It is frozen: `bundle-spec/golden` holds bundles that every
/// release reads. (0 was its draft.)
pub const FORMAT_VERSION: u64 = 1;

/// The start of a text that others wrote, quoted and escaped, for a message: it may be as long as its file.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// How much of a stranger's text a message repeats: every name within limits.
pub(crate) const QUOTED_CHARS: usize = 400;

pub(crate) const SUMS: &str = "SHA256SUMS";
pub(crate) const SIGNATURES: &str = "signatures";
pub(crate) const DESCRIPTOR: &str = "bundle.json";
pub(crate) const LAYOUT: &str = "oci-layout";
pub(crate) const INDEX: &str = "index.json";
pub(crate) const BLOBS: &str = "blobs";
pub(crate) const ALGORITHM: &str = "sha256";
/// The exact bytes of `oci-layout` (image-spec, image-layout.md).
pub(crate) const LAYOUT_BYTES: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
