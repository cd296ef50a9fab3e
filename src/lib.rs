//! Seal container images, lift them over an air gap, set them down unchanged.
//!
//! The program is [`cli`]; this is the library below it. Content flows one way:
//!
//! 1. [`selection`] makes what a person asks for into single image references, [`naming`] says under which name each
//!    will land, [`plan`] reads their manifests and works out [`place::Contents`]: every document and blob, once.
//! 2. [`transfer`] moves contents between places, hashing in the read that sends: [`registry`] on one side, a
//!    [`bundle`] on the other. The bundle is sealed last, by a key of [`trust`].
//! 3. [`verify`] answers whether a bundle that was carried is whole and from whom, and gives the same contents back.
//! 4. [`transfer`] moves them once more, to the registry of the isolated network.
//!
//! [`export`] and [`import`] are these steps in order; [`sync`] is both without the seal between, [`dir`] one more place
//! for it; [`serve`] is a registry over a [`layout`]. [`oci`] holds the
//! field's words as types, [`error`] the kinds of failure. Who opens this file to change something: the folder is
//! the step, and imports point down only (`ARCHITECTURE.md` has the list, `tests/layers.rs` enforces it).
//!
//! ```no_run
//! use sealift::{trust::Trust, verify};
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
#[cfg(feature = "program")]
pub mod credentials;
pub mod dir;
pub mod error;
#[cfg(feature = "program")]
pub mod export;
mod files;
#[cfg(feature = "program")]
pub mod guide;
#[cfg(feature = "program")]
pub mod import;
#[cfg(feature = "program")]
pub mod layout;
#[cfg(feature = "program")]
pub mod naming;
pub mod oci;
pub mod place;
#[cfg(feature = "program")]
pub mod plan;
pub mod progress;
#[cfg(feature = "program")]
pub mod registry;
#[cfg(feature = "program")]
pub mod selection;
#[cfg(feature = "program")]
pub mod serve;
pub mod state;
#[cfg(feature = "program")]
pub mod sync;
pub mod text;
pub mod transfer;
pub mod trust;
pub mod verify;

pub use error::{Error, Kind, Result};
