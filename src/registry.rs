//! The client for registries (distribution-spec 1.1): planning asks it as a [`Catalog`], blobs are read from it as a
//! [`Source`] and written to it as a [`RegistryDestination`].
//!
//! The only place that knows reqwest. It must not know the environment, the terminal or the home directory:
//! everything that comes from there is in [`Settings`].
//!
//! Every request goes through one function, `Endpoint::send`, which is told the repositories and actions that the
//! request needs; tokens, permits and limits of a host belong there. Retrying is above it (`retry`).
//!
//! [`Catalog`]: crate::content::Catalog
//! [`Source`]: crate::content::Source

mod auth;
mod client;
mod http;
mod pull;
mod push;

pub use auth::{Challenge, parse_challenges};
pub use client::Client;
pub use http::proxies::{Exempt, Proxies, ProxyUrl};
pub use http::rate::Rate;
pub use http::redirect::{RedirectHost, Redirects};
pub use http::run_state::RunState;
pub use http::settings::{HostSettings, Retry, Settings, Tls};
pub use http::tls::CertificateDirectories;
pub use push::registry::{ExistingTags, RegistryDestination};
