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
//! 3. as a [`Source`](crate::content::Source): layers, which `transfer` verifies as they stream.
//!
//! The bundle knows nothing of registries and terminals. Whoever wrote it may be hostile, also when trusted: every
//! size is checked before anything is read, no link is followed, and every number has a limit ([`limits`]).

mod archive;
pub(crate) mod directory;
pub(crate) mod format;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod reader;
pub(crate) mod resume;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use archive::{ArchiveWriter, BundleStream, Compression, StreamWriter};
pub use directory::writer::DirectoryWriter;
pub use format::FORMAT_VERSION;
pub use format::descriptor::Series;
pub use format::head::Head;
pub use format::limits;
pub use format::seal::{Seal, Signer, UntrustedSigner, Unverified};
pub use reader::Bundle;
pub use resume::plan::{Keep, ResumeReport, SavedPlan};
