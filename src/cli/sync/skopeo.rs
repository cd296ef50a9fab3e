//! Options of skopeo that stand before its command, and those that are left out here: each says why and what to do.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::flags::{FALSE, TRUE};
use crate::cli::registry_args::parse_duration;
use crate::error::{Error, Result};
use crate::registry::Settings;

/// What skopeo takes before and after its command. It is not shown in the help of other commands.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Before {
    #[arg(long, global = true, hide = true, value_name = "OS")]
    pub(super) override_os: Option<String>,
    #[arg(long, global = true, hide = true, value_name = "ARCH")]
    pub(super) override_arch: Option<String>,
    #[arg(long, global = true, hide = true, value_name = "VARIANT")]
    pub(super) override_variant: Option<String>,
    #[arg(long, global = true, hide = true, value_name = "DURATION", value_parser = parse_duration)]
    pub(super) command_timeout: Option<Duration>,
    #[command(flatten)]
    pub(super) files: HiddenFiles,
    /// Nothing to do: no temporary files are large.
    #[arg(long, global = true, hide = true, value_name = "DIR")]
    tmpdir: Option<PathBuf>,
    /// As `-vv`.
    #[arg(long, global = true, hide = true)]
    pub(crate) debug: bool,
    #[arg(long, global = true, hide = true)]
    require_signed: bool,
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    tls_details: Option<PathBuf>,
    #[arg(long, global = true, hide = true, value_name = "TEXT")]
    pub(super) user_agent_prefix: Option<String>,
    /// For both sides; before the command only, as in skopeo.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = TRUE.into_iter().chain(FALSE).collect::<Vec<_>>())]
    pub(super) tls_verify: Option<String>,
}

/// Files that may be named before `sync`, too.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct HiddenFiles {
    #[arg(long, hide = true, value_name = "FILE")]
    pub(super) policy: Option<PathBuf>,
    #[arg(long, hide = true)]
    pub(super) insecure_policy: bool,
    #[arg(long, hide = true, value_name = "FILE")]
    pub(super) registries_conf: Option<PathBuf>,
    #[arg(long = "registries.d", hide = true, value_name = "DIR")]
    pub(super) registries_d: Option<PathBuf>,
}

impl Before {
    /// Refuses what is meant for `sync` before another command, which may have a time limit of its own.
    pub(crate) fn only_for_sync(&self, has_time_limit: bool) -> Result<()> {
        let given = [
            (self.override_os.is_some(), "--override-os"),
            (self.override_arch.is_some(), "--override-arch"),
            (self.override_variant.is_some(), "--override-variant"),
            (self.command_timeout.is_some() && !has_time_limit, "--command-timeout"),
            (self.files.insecure_policy, "--insecure-policy"),
            (self.tmpdir.is_some(), "--tmpdir"),
            (self.files.policy.is_some(), "--policy"),
            (self.require_signed, "--require-signed"),
            (self.files.registries_d.is_some(), "--registries.d"),
            (self.files.registries_conf.is_some(), "--registries-conf"),
            (self.tls_details.is_some(), "--tls-details"),
            (self.user_agent_prefix.is_some(), "--user-agent-prefix"),
            (self.tls_verify.is_some(), "--tls-verify before the command"),
        ];
        match given.iter().find(|(given, _)| *given) {
            Some((_, name)) => Err(Error::usage(format!("{name} goes with sealift sync only"))),
            None => Ok(()),
        }
    }

    /// `settings` with the text of `--user-agent-prefix` in front of the `User-Agent`.
    ///
    /// # Errors
    /// `Usage` for a text that no header can hold.
    pub(super) fn identified(&self, settings: Settings) -> Result<Settings> {
        match &self.user_agent_prefix {
            None => Ok(settings),
            Some(prefix) if prefix.is_empty() => Ok(settings),
            Some(prefix) if prefix.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => {
                Ok(Settings { user_agent: format!("{prefix} {}", settings.user_agent), ..settings })
            }
            Some(_) => Err(Error::usage("the text of --user-agent-prefix is not printable ASCII")),
        }
    }

    /// Refuses what is not here.
    pub(super) fn check(&self) -> Result<()> {
        let trust = "sealift verifies no signatures of skopeo's policy; verify the images with skopeo first, or carry a \
                     bundle: sealift export --key, then sealift sync --src bundle --trust";
        let own = "registries are reached as the options of each side say: --src-tls-verify, --src-cert-dir, \
                   --dest-tls-verify, --dest-cert-dir";
        refuse(&[(self.require_signed, "--require-signed", trust), (self.tls_details.is_some(), "--tls-details", own)])
    }
}

/// Signing while copying.
#[derive(Debug, clap::Args)]
pub(super) struct Signing {
    #[arg(long, hide = true, value_name = "FINGERPRINT")]
    sign_by: Option<String>,
    #[arg(long, hide = true, value_name = "FILE")]
    sign_by_sigstore: Option<String>,
    #[arg(long, hide = true, value_name = "FILE")]
    sign_by_sigstore_private_key: Option<String>,
    #[arg(long, hide = true, value_name = "FINGERPRINT")]
    sign_by_sq_fingerprint: Option<String>,
    #[arg(long, hide = true, value_name = "FILE")]
    sign_passphrase_file: Option<String>,
}

impl Signing {
    pub(super) fn check(&self) -> Result<()> {
        let instead = "sign the image where it lands (cosign sign, or skopeo standalone-sign), or seal everything at once: \
                       --dest bundle --key KEY";
        refuse(&[
            (self.sign_by.is_some(), "--sign-by", instead),
            (self.sign_by_sigstore.is_some(), "--sign-by-sigstore", instead),
            (self.sign_by_sigstore_private_key.is_some(), "--sign-by-sigstore-private-key", instead),
            (self.sign_by_sq_fingerprint.is_some(), "--sign-by-sq-fingerprint", instead),
            (self.sign_passphrase_file.is_some(), "--sign-passphrase-file", instead),
        ])
    }
}

fn refuse(options: &[(bool, &str, &str)]) -> Result<()> {
    match options.iter().find(|(given, ..)| *given) {
        Some((_, name, instead)) => {
            Err(Error::usage(format!("{name} is an option of skopeo that sealift does not have")).hint(*instead))
        }
        None => Ok(()),
    }
}
