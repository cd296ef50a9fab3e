//! Every limit of the format, in one place; `bundle-spec/README.md` lists the same numbers.
//!
//! A reader refuses what is beyond them, a writer does not write it. Limits of documents (4 MiB each, nesting,
//! number of references) are those of [`crate::oci::MAX_DOCUMENT`], [`crate::content::MAX_NESTING`] and
//! [`crate::content::MAX_EDGES`].

/// `SHA256SUMS`, in bytes: 16 MiB.
pub const SUMS_BYTES: u64 = 16 << 20;
/// Lines of `SHA256SUMS`.
pub const SUMS_LINES: usize = 100_000;
/// Files in `signatures/`.
pub const SIGNATURES: usize = 16;
/// A file in `signatures/`, in bytes: 4 KiB.
pub const SIGNATURE_BYTES: u64 = 4 << 10;
/// `bundle.json`, in bytes: 16 MiB.
pub const DESCRIPTOR_BYTES: u64 = 16 << 20;
/// `index.json`, in bytes: 16 MiB.
pub const INDEX_BYTES: u64 = 16 << 20;
/// Images and referrers in `index.json`.
pub const IMAGES: usize = 50_000;
/// Entries of `absent` in `bundle.json`.
pub const ABSENT: usize = 100_000;
/// Entries of `base` in `bundle.json`.
pub const BASES: usize = 1_000;
/// A source reference (`io.containerd.image.name`), in bytes.
pub const SOURCE_BYTES: usize = 1_024;
/// `tool` and `series` in `bundle.json`, in bytes.
pub const WORD_BYTES: usize = 128;
/// `sequence` in `bundle.json`: what every JSON reader can hold exactly, 2^53 - 1.
pub const SEQUENCE: u64 = (1 << 53) - 1;
/// All manifests and indexes together, in bytes: 1 GiB. They are spooled to a temporary file.
pub const DOCUMENTS_BYTES: u64 = 1 << 30;
/// All configs of the head together, in bytes: 1 GiB. A reader of a stream spools them.
pub const CONFIGS_BYTES: u64 = 1 << 30;
/// One blob, in bytes: 8 TiB, more than a registry takes; keeps sums of sizes far from overflow.
pub const BLOB_BYTES: u64 = 8 << 40;
/// Entries of a directory that are looked at beyond those that are expected, before the reader gives up.
pub const STRANGERS: usize = 64;
