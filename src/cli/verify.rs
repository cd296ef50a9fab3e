//! `sealift verify`

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::Global;
use super::access::DEFAULT_JOBS;
use super::output::{human_size, print_data};
use super::progress::count;
use super::trust::TrustArguments;
use crate::error::Result;
use crate::{transfer, verify};

/// Check that a bundle is whole, and whom it is from
///
/// Checks the signature, the closed list of files, every manifest and config, and every layer. Nothing is written.
/// Without sealift the same is checked by scripts/verify-bundle, with ssh-keygen and sha256sum.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  sealift verify usb/app --trust allowed_signers")]
pub(super) struct Verify {
    /// The bundle: a directory, a tar, a tar.zst, or - for stdin
    bundle: PathBuf,
    #[command(flatten)]
    trust: TrustArguments,
}

pub(super) async fn run(command: &Verify, global: &Global, cancel: CancellationToken) -> Result<()> {
    let trust = command.trust.required()?;
    let verified = super::open_bundle(&command.bundle, &trust)?;
    let options = transfer::Options { jobs: DEFAULT_JOBS, progress: global.progress(), cancel, keep_going: false };
    verify::layers(&verified, &options).await?;
    let contents = &verified.head.contents;
    print_data(&format!(
        "verified: {}, {}, {}\nbundle:   {}\n{}",
        count(contents.images.len(), "image"),
        count(contents.blobs.len(), "blob"),
        human_size(contents.blob_bytes()),
        verified.head.identity(),
        super::inspect::signer_lines(&verified.head.seal),
    ))
}
