//! The bundle format: golden bundles, archives, trust, and verification without sealift.

mod archive;
mod golden;
mod trust;
mod verify_bundle_script;
