//! The field's own words as types: digests, media types, references, platforms, and documents (manifests and
//! indexes) whose exact bytes stand beside what was read from them.
//!
//! Everything here is a value: nothing reads a file or speaks to a server, and a value that exists is valid.

mod digest;
mod document;
mod embedded;
pub mod json;
mod media_type;
mod platform;
mod reference;
mod served;

pub use digest::{Digest, DigestFault, Hasher};
pub use document::{Descriptor, Document, MAX_DOCUMENT, View};
pub use embedded::embedded;
pub use media_type::{DocumentKind, MediaType};
pub use platform::Platform;
pub use reference::{Host, Name, Reference, ReferenceFault, Repository, Selector, Tag};
