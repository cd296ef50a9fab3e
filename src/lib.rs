//! Seal container images, lift them over an air gap, set them down unchanged.

pub mod error;
pub mod naming;
pub mod oci;
pub mod place;
pub mod plan;
pub mod progress;
pub mod selection;
pub mod transfer;
pub mod trust;

pub use error::{Error, Kind, Result};
