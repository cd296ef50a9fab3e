//! `sealift import`

use std::path::PathBuf;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::output::{human_size, note, print_data};
use super::progress::count;
use super::trust::TrustArguments;
use super::{Global, inspect};
use crate::error::Result;
use crate::import::{self, Target};

/// Verify a bundle and push it into a registry, names and digests unchanged
///
/// No writing request is sent before the signature and everything but the layers is verified; each layer is
/// verified in the read that sends it; manifests follow when all layers are there, tags come last and are read
/// back. Run again, it sends only what is missing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sealift import usb/app registry.local:5000 --trust allowed_signers
  sealift import usb/app registry.local:5000/mirror --trust exporter.pub --dry-run")]
pub(super) struct Import {
    /// The bundle: a directory, a tar, a tar.zst, or - for stdin
    bundle: PathBuf,
    /// Where to: HOST[:PORT], and perhaps a path to put in front of every name
    #[arg(value_name = "REGISTRY[/PREFIX]")]
    target: String,
    #[command(flatten)]
    trust: TrustArguments,
    /// Read and check every layer before the first one is sent
    #[arg(long)]
    verify_first: bool,
    /// Check the bundle's head, show where everything would land, and send nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    access: Access,
}

pub(super) async fn run(command: &Import, global: &Global, cancel: CancellationToken) -> Result<()> {
    let started = Instant::now();
    let target: Target = command.target.parse()?;
    let trust = command.trust.required()?;
    let verified = super::open_bundle(&command.bundle, &trust)?;
    let contents = &verified.head.contents;
    if !global.quiet {
        for line in inspect::signer_lines(&verified.head.seal).lines() {
            note(line);
        }
    }
    let places = import::landing_places(contents, &target)?;
    if command.dry_run {
        let lines: String = places
            .iter()
            .zip(&contents.images)
            .map(|((_, place), image)| format!("{place}  {}\n", image.document))
            .collect();
        return print_data(&lines);
    }
    let progress = global.progress();
    let client = command.access.client(&progress)?;
    let options = command.access.options(&progress, cancel);
    let summary = import::import(&client, &verified, &target, command.verify_first, &options).await?;
    if !global.quiet {
        note(&format!(
            "imported {} into {}: {} sent ({}), {} there already, {}, in {:.1} s",
            count(places.len(), "image"),
            command.target,
            count(summary.moved as usize, "blob"),
            human_size(summary.moved_bytes),
            summary.already,
            count(summary.linked as usize, "mount"),
            started.elapsed().as_secs_f64()
        ));
    }
    Ok(())
}
