//! `sealift verify`

use std::path::PathBuf;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::escape::escape_controls;
use super::listing::{self, Totals};
use super::output::{print_data, print_json};
use super::registry_args::DEFAULT_JOBS;
use super::trust::TrustArguments;
use super::{Global, inspect};
use crate::error::Result;
use crate::jobs::verify;
use crate::jobs::verify::VerifiedBundle;
use crate::transfer;

/// Check that a bundle is whole, and whom it is from
///
/// Checks the signature, the closed list of files, every manifest and config, and every layer. Nothing is written.
/// Without sealift the same is checked by scripts/verify-bundle, with ssh-keygen and sha256sum.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sealift verify usb/app --trust allowed_signers
  sealift verify usb/app --trust allowed_signers --json | jq -r .identity")]
pub(super) struct Verify {
    /// The bundle: a directory, a tar, a tar.zst, or - for stdin
    bundle: PathBuf,
    #[command(flatten)]
    trust: TrustArguments,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// The bundle, its head read while Ctrl-C still ends the program at once: a pipe may have nothing to say.
pub(super) fn open(command: &Verify) -> Result<VerifiedBundle> {
    super::open_bundle(&command.bundle, &command.trust.required()?)
}

pub(super) async fn run(
    command: &Verify,
    verified: VerifiedBundle,
    global: &Global,
    cancel: CancellationToken,
) -> Result<()> {
    let options =
        transfer::TransferOptions { jobs: DEFAULT_JOBS, progress: global.progress(), cancel, keep_going: false };
    let platforms = inspect::platforms(&verified);
    verify::layers(&verified, &options).await?;
    let contents = &verified.head.contents;
    if command.json {
        let mut value = listing::json(contents, &platforms)?;
        inspect::vouch(&mut value, &verified.head, true);
        value["layersVerified"] = json!(true);
        return print_json(&value);
    }
    let totals = Totals::of(contents)?;
    print_data(&escape_controls(&format!(
        "verified: {totals}\nbundle:   {}\n{}",
        verified.head.identity(),
        inspect::signer_lines(&verified.head.seal),
    )))
}
