//! Registries on networks as they are: private authorities, proxies, limits, and bad days.

#[path = "../common/mod.rs"]
mod common;

mod proxies;
mod tls;
