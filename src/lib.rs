//! Seal container images, lift them over an air gap, set them down unchanged.

pub mod bundle;
pub mod cli;
pub mod credentials;
pub mod error;
pub mod export;
pub mod import;
pub mod layout;
pub mod naming;
pub mod oci;
pub mod place;
pub mod plan;
pub mod progress;
pub mod registry;
pub mod selection;
pub mod serve;
pub mod transfer;
pub mod trust;
pub mod verify;

pub use error::{Error, Kind, Result};
