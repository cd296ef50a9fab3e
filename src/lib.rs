//! Seal container images, lift them over an air gap, set them down unchanged.
//!
//! The program is [`cli`]; this is the library below it. Content flows one way:
//!
//! 1. [`select`] makes what a person asks for into single image references, [`select::naming`] says under which name each
//!    will land, [`plan`] reads their manifests and works out [`content::Contents`]: every document and blob, once.
//! 2. [`transfer`] moves contents between places, hashing in the read that sends: [`registry`] on one side, a
//!    [`bundle`] on the other. The bundle is sealed last, by a key of [`trust`].
//! 3. [`jobs::verify`] answers whether a bundle that was carried is whole and from whom, and gives the same contents back.
//! 4. [`transfer`] moves them once more, to the registry of the isolated network.
//!
//! [`jobs::export`] and [`jobs::import`] are these steps in order; [`jobs::sync`] is both without the seal between, [`dir`]
//! one more place for it; [`serve`] is a registry over a [`layout`]. [`oci`] holds the field's words as types, [`error`]
//! the kinds of failure. Who opens this file to change something: the folder is the step, and imports point down only
//! (`ARCHITECTURE.md` has the list, `tests/it/structure.rs` enforces it).
//!
//! ```no_run
//! use sealift::{jobs::verify, trust::Trust};
//!
//! let trust = Trust::load("allowed_signers".as_ref(), false)?;
//! let verified = verify::open("usb/release".as_ref(), &trust, jiff::Timestamp::now())?;
//! for image in &verified.head.contents.images {
//!     println!("{} {}", image.name, image.document);
//! }
//! # Ok::<(), sealift::Error>(())
//! ```

// Tests may unwrap, helpers of theirs too; the product says why it is sure.
#![warn(clippy::unwrap_used)]

pub mod bundle;
#[cfg(feature = "program")]
pub mod cli;
pub mod clock;
#[cfg(feature = "program")]
pub mod containers;
pub mod content;
#[cfg(feature = "program")]
pub mod credentials;
pub mod dir;
pub mod error;
mod files;
#[cfg(feature = "program")]
pub mod guide;
pub mod jobs;
#[cfg(feature = "program")]
pub mod layout;
pub mod oci;
#[cfg(feature = "program")]
pub mod plan;
pub mod progress;
#[cfg(feature = "program")]
pub mod registry;
#[cfg(feature = "program")]
pub mod select;
#[cfg(feature = "program")]
pub mod serve;
pub mod state;
pub mod text;
pub mod transfer;
pub mod trust;

pub use crate::error::{Error, Kind, Result};
