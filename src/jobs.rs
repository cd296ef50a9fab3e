//! One file a job: what the program does for a person, from start to end.

#[cfg(feature = "program")]
pub mod export;
#[cfg(feature = "program")]
pub mod import;
#[cfg(feature = "program")]
pub mod sync;
pub mod verify;
