//! The configuration that podman, buildah and skopeo share: `policy.json`, `registries.conf` and `registries.d`.
//!
//! Reads bytes and answers questions about images; the manual pages containers-policy.json(5),
//! containers-registries.conf(5) and containers-registries.d(5) say what each file means. It must not know where the
//! files are (that is the command line's business) nor how registries are spoken to.

mod json;
mod lookaside;
mod policy;
mod registries;
mod requirement;
mod rules;
mod scopes;

pub use lookaside::{Behind, SignatureStores};
pub use policy::Policy;
pub use registries::{PullSource, Registries, Usage};
pub use rules::Rules;

/// The largest of these files that is read, 1 MiB.
pub const MAX_FILE: u64 = 1 << 20;
