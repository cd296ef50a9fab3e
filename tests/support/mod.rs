//! What the integration tests stand on: real registries, real content, a proxy that misbehaves.
//!
//! Nothing in here uses sealift's own code, nor an HTTP client or server library: what the program gets wrong must not
//! be wrong here in the same way. Everything is synchronous and runs on threads of its own, so it can be used from
//! `#[test]` and `#[tokio::test]` alike; a test whose registry runs *inside* the test's runtime wants
//! `#[tokio::test(flavor = "multi_thread")]`, because a helper blocks the thread that calls it.
//!
//! A crate and not a `mod support;`, so that it is compiled once and unused helpers are no warnings.
//!
//! Helpers panic with what went wrong: they are for tests only.

mod answering;
mod corpus;
mod desk;
mod forward;
mod http;
mod images;
mod listening;
mod proxy;
mod registry;
mod socks;
mod tls;
mod tls_front;
mod token;
mod walk;

pub use answering::{Answering, Asked, Reply};
pub use corpus::{Reference, busybox, corpus, push_corpus, references, tree};
pub use desk::{Desk, Run, Running, Sample, Serving, Usage};
pub use forward::{ForwardProxy, Forwarded};
pub use http::{
    Answer, Manifest, catalog, delete, get, head, push_blob, put_manifest, raw_blob, raw_manifest, request, sha256,
    tags,
};
pub use images::{noise, push_image};
pub use proxy::{FaultProxy, Recorded, Rule, Storm};
pub use registry::{Access, HTPASSWD_PASSWORD, HTPASSWD_USER, RealRegistry, skopeo};
pub use socks::SocksProxy;
pub use tls::{Authority, Pair, Validity};
pub use tls_front::TlsFront;
pub use token::{TokenRequest, TokenServer};
pub use walk::{Item, Walk, walk, walk_all};
