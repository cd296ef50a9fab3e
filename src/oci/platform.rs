//! Platforms, as an index gives them (image-spec, image-index.md).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Operating system, architecture and variant; shown as `os/architecture[/variant]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct Platform {
    /// `linux`, `windows`, ... ; buildkit writes `unknown` for attestations.
    pub os: String,
    /// `amd64`, `arm64`, ...
    pub architecture: String,
    /// `v7`, `v8`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Whether both are the same; no variant and an empty one are.
    pub fn is(&self, other: &Platform) -> bool {
        let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
        self.os == other.os && self.architecture == other.architecture && variant(self) == variant(other)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}
