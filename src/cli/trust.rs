//! `--trust`, the same everywhere.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::trust::Trust;

#[derive(Debug, clap::Args)]
pub(super) struct TrustArguments {
    /// Whom to trust: an OpenSSH allowed_signers file, or a single .pub file
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// Also trust lines of FILE that name no namespaces=
    #[arg(long, requires = "trust")]
    trust_any_namespace: bool,
}

impl TrustArguments {
    /// What was given.
    pub(super) fn load(&self) -> Result<Option<Trust>> {
        match &self.trust {
            None => Ok(None),
            // A pinned key says nothing of namespaces: whoever pins it by hand means it for bundles.
            Some(path) => Trust::load(path, self.trust_any_namespace).map(Some),
        }
    }

    /// Whether anything was given.
    pub(super) fn given(&self) -> bool {
        self.trust.is_some()
    }

    /// What was given, or exit code 2: no default accepts an unknown key.
    pub(super) fn required(&self) -> Result<Trust> {
        self.load()?.ok_or_else(|| {
            Error::usage("no trust given: whose signature is to be accepted?")
                .hint("give --trust FILE: the allowed_signers file (or .pub file) that you got from the exporter by a way you trust")
        })
    }
}
