//! A bundle that is a directory.

pub(crate) mod partial;
pub(crate) mod writer;
