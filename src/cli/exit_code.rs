//! The exit code of a failure, which depends on the signal that stopped the run.

use std::sync::OnceLock;

use crate::error::Kind;

/// The exit code for a failure of this kind: 143 for what SIGTERM interrupted.
pub(super) fn exit_code(kind: Kind) -> u8 {
    match (kind, RECEIVED.get()) {
        (Kind::Interrupted, Some(code)) => *code,
        _ => kind.exit_code(),
    }
}

/// The exit code for the first signal.
pub(super) static RECEIVED: OnceLock<u8> = OnceLock::new();
