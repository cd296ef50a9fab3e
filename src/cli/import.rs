//! `sealift import`

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::credentials::Credentials;
use super::listing::{self, Answer, ConfigPlatforms, Entry, Row, Totals};
use super::output::{note, print_data, print_json};
use super::registry_args::AccessArgs;
use super::summary;
use super::time_limit::{self, TimeLimit};
use super::trust::TrustArguments;
use super::{Global, all_done, inspect, stderr};
use crate::cli::summary::RunSummary;
use crate::content::Contents;
use crate::credentials::Lookup;
use crate::error::{Error, Result};
use crate::jobs::import::{self, ImportOptions, ImportTarget, LayerCheck, Proof};
use crate::jobs::verify::VerifiedBundle;
use crate::oci::Name;
use crate::progress::Event;
use crate::registry::ExistingTags;
use crate::transfer::TransferOptions;

/// Verify a bundle and push it into a registry, names and digests unchanged
///
/// No writing request is sent before the signature and everything but the layers is verified; each layer is
/// verified in the read that sends it; manifests follow when all layers are there, tags come last. The manifest of
/// each tag that was pushed is fetched again and compared by digest; layers only with --read-back. Run again, it sends
/// only what is missing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sealift import usb/app registry.local:5000 --trust allowed_signers
  sealift import usb/app registry.local:5000/mirror --trust exporter.pub --dry-run
  sealift import usb/app registry.local:5000 --trust allowed_signers --only 'team/*:1.*'")]
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
    /// At the end fetch every blob and manifest again, from each repository, and compare it; exit code 1 if one is missing
    /// or different
    #[arg(long)]
    read_back: bool,
    /// Push only names that match GLOB (* and ?, such as 'team/*:1.*'), with their referrers; may be given again
    #[arg(long, value_name = "GLOB")]
    only: Vec<String>,
    /// Go past images that fail; they are named at the end, exit code 4 (3 if the bundle is damaged)
    #[arg(long)]
    keep_going: bool,
    /// Push nothing if a tag is there already with other content; tags with the same content are left alone in any case
    #[arg(long)]
    no_clobber: bool,
    /// Check the bundle's head, show where everything would land, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    time_limit: TimeLimit,
    #[command(flatten)]
    credentials: Credentials,
    #[command(flatten)]
    access: AccessArgs,
}

/// All that is known before a registry is asked. Worked out while Ctrl-C still ends the program at once, for it may
/// wait for a pipe or a password.
pub(super) struct ImportRequest {
    started: Instant,
    target: ImportTarget,
    verified: VerifiedBundle,
    logins: Arc<dyn Lookup>,
}

impl Import {
    pub(super) fn request(&self) -> Result<ImportRequest> {
        let started = Instant::now();
        let target = self.target.parse::<ImportTarget>();
        let piped = self.bundle == Path::new("-");
        if piped && self.credentials.reads_stdin() {
            return Err(Error::usage("a bundle from - and --password-stdin both want to read stdin"));
        }
        if !piped && !self.bundle.exists() && Path::new(&self.target).exists() {
            let (bundle, target) = (self.bundle.display(), &self.target);
            return Err(Error::usage(format!("there is no bundle {bundle}, and {target} is no registry but is here"))
                .hint(format!("the bundle comes first: sealift import {target} {bundle} --trust FILE")));
        }
        let target = target?;
        let trust = self.trust.required()?;
        let verified = super::open_bundle(&self.bundle, &trust)?;
        let logins = self.credentials.lookup([&target.host])?;
        Ok(ImportRequest { started, target, verified, logins })
    }
}

pub(super) async fn run(
    command: &Import,
    request: ImportRequest,
    global: &Global,
    cancel: CancellationToken,
) -> Result<()> {
    let limit = command.time_limit.limit();
    time_limit::within(limit, cancel, |cancel| import(command, request, global, cancel)).await
}

async fn import(command: &Import, request: ImportRequest, global: &Global, cancel: CancellationToken) -> Result<()> {
    let ImportRequest { started, target, verified, logins } = request;
    let contents = match &command.only[..] {
        [] => verified.head.contents.clone(),
        patterns => Arc::new(import::only(&verified.head.contents, patterns)?),
    };
    if !global.quiet {
        for line in inspect::signer_lines(&verified.head.seal).lines() {
            note(line);
        }
    }
    let places = import::destination_names(&contents, &target)?;
    let progress = global.progress();
    if command.dry_run {
        for warning in import::warnings(&contents) {
            progress.event(Event::Warning(warning));
        }
        return show_places(command, &verified, &contents, &places);
    }
    let client = command.access.client(&progress, logins)?;
    let options = TransferOptions { keep_going: command.keep_going, ..command.access.options(&progress, cancel) };
    let manner = ImportOptions {
        layers: if command.verify_first { LayerCheck::First } else { LayerCheck::AsTheyAreSent },
        tags: if command.no_clobber { ExistingTags::Keep } else { ExistingTags::Move },
        proof: if command.read_back { Proof::Everything } else { Proof::Tags },
    };
    let platforms = inspect::platforms(&verified);
    let outcome = import::import(&client, &verified, contents.clone(), &target, manner, &options).await?;
    let landed = summary::landed(&contents, &outcome.failures)?;
    let done =
        RunSummary { summary: outcome.summary, totals: Totals::of(&landed)?, seconds: started.elapsed().as_secs_f64() };
    let missing = outcome.failures.len();
    if !global.quiet {
        stderr::summary(done.json("sent", missing), &done.lines(&format!("imported into {}", command.target), "sent"));
    }
    if command.json {
        let mut value = result(command, &verified, &landed, &platforms, &places)?;
        done.add_to(&mut value, "sent");
        value["readBack"] = json!(command.read_back);
        value.keep_landed(&outcome.failures);
        print_json(&value)?;
    }
    all_done(outcome.failures, places.len())
}

fn show_places(
    command: &Import,
    verified: &VerifiedBundle,
    contents: &Contents,
    places: &[(&Name, String)],
) -> Result<()> {
    if command.json {
        return print_json(&result(command, verified, contents, &inspect::platforms(verified), places)?);
    }
    let lines = places.iter().zip(&contents.images);
    print_data(&lines.map(|((_, place), image)| format!("{place}  {}\n", image.document)).collect::<String>())
}

/// What is in the bundle, and where each name lands.
fn result(
    command: &Import,
    verified: &VerifiedBundle,
    contents: &Contents,
    platforms: &ConfigPlatforms,
    places: &[(&Name, String)],
) -> Result<Answer<Row>> {
    let mut value = listing::json(contents, platforms)?;
    inspect::vouch(&mut value, &verified.head, true);
    value["registry"] = json!(command.target);
    let places: HashMap<String, &String> = places.iter().map(|(name, place)| (name.to_string(), place)).collect();
    for image in value.images() {
        if let Some(place) = places.get(&image.name()) {
            image.lands_at(place.to_string());
        }
    }
    Ok(value)
}
