//! `--trust`, the same everywhere.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::output::note;
use crate::error::{Error, Result};
use crate::files::{Exposure, Permissions, exposure};
use crate::trust::Trust;

#[derive(Debug, clap::Args)]
pub(super) struct TrustArguments {
    /// Whom to trust: an OpenSSH allowed_signers file, or a single .pub file
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// Also trust lines of FILE that name no namespaces=
    #[arg(long, requires = "trust")]
    trust_any_namespace: bool,
    /// Accept FILE although anybody on this machine can write or replace it
    #[arg(long, requires = "trust")]
    trust_writable: bool,
}

impl TrustArguments {
    /// What was given.
    pub(super) fn load(&self) -> Result<Option<Trust>> {
        match &self.trust {
            None => Ok(None),
            // A pinned key says nothing of namespaces: whoever pins it by hand means it for bundles.
            Some(path) => {
                let file = Trust::open(path)?;
                self.check(&file, path)?;
                Trust::read(&file, path, self.trust_any_namespace).map(Some)
            }
        }
    }

    /// Refuses a list of keys to which anybody can add a key. On FAT and the like all files look so: a warning.
    fn check(&self, file: &File, path: &Path) -> Result<()> {
        let Some(Exposure { how, remedy, permissions }) = exposure(file, path).filter(|_| !self.trust_writable) else {
            return Ok(());
        };
        let path = path.display();
        match permissions {
            Permissions::NotKept => {
                note(&format!(
                    "warning: {path} {how}: its file system keeps no modes or is read-only; whoever could write it decides who is trusted"
                ));
                Ok(())
            }
            Permissions::Kept => Err(Error::usage(format!("{path} {how}, and so says nothing about whom to trust"))
                .hint(format!("compare it with what you got from the exporter, then take that right away: {remedy}"))
                .hint("or accept the file as it is: --trust-writable")),
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
