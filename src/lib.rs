//! Seal container images, lift them over an air gap, set them down unchanged.

pub mod error;
pub mod layout;
pub mod oci;
pub mod place;
pub mod progress;
pub mod serve;
pub mod trust;

pub use error::{Error, Kind, Result};
