//! The embedded registry against real clients: skopeo, and HTTP by hand where a client would be too well behaved.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail a test as tests do")]

mod harness;
mod pushing;
mod reading;
