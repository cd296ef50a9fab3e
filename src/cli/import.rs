//! `sealift import`

use std::path::PathBuf;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::credentials::Credentials;
use super::output::{human_size, note, print_data};
use super::progress::count;
use super::trust::TrustArguments;
use super::{Global, all_done, inspect};
use crate::error::Result;
use crate::import::{self, Layers, Manner, Target};
use crate::registry::ExistingTags;
use crate::transfer::Options;

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
    /// Go past images that fail; they are named at the end, exit code 4 (3 if the bundle is damaged)
    #[arg(long)]
    keep_going: bool,
    /// Push nothing if a tag is there already with other content; tags with the same content are left alone in any case
    #[arg(long)]
    no_clobber: bool,
    /// Check the bundle's head, show where everything would land, and send nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    credentials: Credentials,
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
    let client = command.access.client(&progress, command.credentials.lookup([&target.host])?)?;
    let options = Options { keep_going: command.keep_going, ..command.access.options(&progress, cancel) };
    let manner = Manner {
        layers: if command.verify_first { Layers::First } else { Layers::AsTheyAreSent },
        tags: if command.no_clobber { ExistingTags::Keep } else { ExistingTags::Move },
    };
    let outcome = import::import(&client, &verified, &target, manner, &options).await?;
    let (summary, landed) = (outcome.summary, places.len() - outcome.failures.len());
    if !global.quiet {
        note(&format!(
            "imported {} into {}: {} sent ({}), {} there already, {}, in {:.1} s",
            count(landed, "image"),
            command.target,
            count(summary.moved as usize, "blob"),
            human_size(summary.moved_bytes),
            summary.already,
            count(summary.linked as usize, "mount"),
            started.elapsed().as_secs_f64()
        ));
    }
    all_done(outcome.failures, places.len())
}
