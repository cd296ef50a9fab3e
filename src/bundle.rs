//! The bundle format: what lies in a bundle, how it is written, and how it is read by someone who trusts nobody yet.
//!
//! ```text
//! BUNDLE/
//!   SHA256SUMS                 sha256sum(1) lines for every other file, sorted bytewise by path
//!   signatures/<key id>.sig    SSHSIG (armored) over SHA256SUMS
//!   bundle.json                format version, creation time, tool, what is absent
//!   oci-layout                 makes it an OCI image layout
//!   index.json                 one descriptor per landing place
//!   blobs/sha256/<hex>         manifests, configs and layers, each once
//! ```
//!
//! The normative text is `bundle-spec/README.md`. [`DirectoryWriter`] writes such a directory; it is a place that
//! `transfer` moves content to. [`Bundle`] reads one, in the one order that is safe:
//!
//! 1. [`Bundle::verify_seal`]: the signature over the raw bytes of `SHA256SUMS`; nothing else is parsed before;
//! 2. [`Bundle::read_head`]: everything but the layers, and the closed list. It takes a [`Seal`], and a seal is made
//!    by step 1 only (what was not verified is wrapped in [`Unverified`], for `inspect`);
//! 3. as a [`Source`](crate::place::Source): layers, which `transfer` verifies as they stream.
//!
//! The bundle knows nothing of registries and terminals. Whoever wrote it may be hostile, also when trusted: every
//! size is checked before anything is read, no link is followed, and every number has a limit ([`limits`]).

mod absence;
mod archive;
mod carrier;
mod checksums;
mod descriptor;
mod filling;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod index;
pub mod limits;
mod medium;
mod output;
mod reader;
mod resume;
mod seal;
mod sealing;
mod source;
mod strangers;
mod workshop;
mod writer;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use archive::{ArchiveWriter, BundleStream, Compression, StreamWriter};
pub use descriptor::Series;
pub use reader::{Bundle, Head};
pub use resume::{Earlier, Keep, SavedPlan};
pub use seal::{Bystander, Seal, Signer, Unverified};
pub use writer::DirectoryWriter;

use crate::files;

/// The format that is written and the only one that is read. It is frozen: `bundle-spec/golden` holds bundles that every
/// release reads. (0 was its draft.)
pub const FORMAT_VERSION: u64 = 1;

/// The start of a text that others wrote, quoted and escaped, for a message: it may be as long as its file.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// How much of a stranger's text a message repeats: every name within limits.
const QUOTED_CHARS: usize = 400;

const SUMS: &str = "SHA256SUMS";
const SIGNATURES: &str = "signatures";
const DESCRIPTOR: &str = "bundle.json";
const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
const BLOBS: &str = "blobs";
const ALGORITHM: &str = "sha256";
/// The exact bytes of `oci-layout` (image-spec, image-layout.md).
const LAYOUT_BYTES: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
