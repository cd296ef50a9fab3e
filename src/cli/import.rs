//! `sealift import`

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::credentials::Credentials;
use super::done::Done;
use super::listing::{self, Totals};
use super::output::{note, print_data, print_json};
use super::trust::TrustArguments;
use super::{Global, all_done, inspect, stderr};
use crate::error::Result;
use crate::import::{self, Layers, Manner, Target};
use crate::oci::Name;
use crate::place::Contents;
use crate::registry::ExistingTags;
use crate::transfer::Options;
use crate::verify::Verified;

/// Verify a bundle and push it into a registry, names and digests unchanged
///
/// No writing request is sent before the signature and everything but the layers is verified; each layer is
/// verified in the read that sends it; manifests follow when all layers are there, tags come last and are read
/// back. Run again, it sends only what is missing.
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
    credentials: Credentials,
    #[command(flatten)]
    access: Access,
}

pub(super) async fn run(command: &Import, global: &Global, cancel: CancellationToken) -> Result<()> {
    let started = Instant::now();
    let target: Target = command.target.parse()?;
    let trust = command.trust.required()?;
    let verified = super::open_bundle(&command.bundle, &trust)?;
    let contents = match &command.only[..] {
        [] => verified.head.contents.clone(),
        patterns => {
            // A stream brings everything in its own order.
            verified.bundle()?;
            Arc::new(import::only(&verified.head.contents, patterns)?)
        }
    };
    if !global.quiet {
        for line in inspect::signer_lines(&verified.head.seal).lines() {
            note(line);
        }
    }
    let places = import::landing_places(&contents, &target)?;
    if command.dry_run {
        return show_places(command, &verified, &contents, &places);
    }
    let progress = global.progress();
    let client = command.access.client(&progress, command.credentials.lookup([&target.host])?)?;
    let options = Options { keep_going: command.keep_going, ..command.access.options(&progress, cancel) };
    let manner = Manner {
        layers: if command.verify_first { Layers::First } else { Layers::AsTheyAreSent },
        tags: if command.no_clobber { ExistingTags::Keep } else { ExistingTags::Move },
    };
    let outcome = import::import(&client, &verified, contents.clone(), &target, manner, &options).await?;
    let done =
        Done { summary: outcome.summary, totals: Totals::of(&contents)?, seconds: started.elapsed().as_secs_f64() };
    let missing = outcome.failures.len();
    if !global.quiet {
        stderr::summary(done.json("sent", missing), &done.lines(&format!("imported into {}", command.target), "sent"));
    }
    if command.json {
        let mut value = result(command, &verified, &contents, &places)?;
        done.add_to(&mut value, "sent");
        listing::keep_landed(&mut value, &outcome.failures);
        print_json(&value)?;
    }
    all_done(outcome.failures, places.len())
}

fn show_places(command: &Import, verified: &Verified, contents: &Contents, places: &[(&Name, String)]) -> Result<()> {
    if command.json {
        return print_json(&result(command, verified, contents, places)?);
    }
    let lines = places.iter().zip(&contents.images);
    print_data(&lines.map(|((_, place), image)| format!("{place}  {}\n", image.document)).collect::<String>())
}

/// What is in the bundle, and where each name lands.
fn result(command: &Import, verified: &Verified, contents: &Contents, places: &[(&Name, String)]) -> Result<Value> {
    let mut value = listing::json(contents)?;
    inspect::vouch(&mut value, &verified.head, true);
    value["registry"] = json!(command.target);
    let places: HashMap<String, &String> = places.iter().map(|(name, place)| (name.to_string(), place)).collect();
    for image in value["images"].as_array_mut().into_iter().flatten() {
        let place = image["name"].as_str().and_then(|name| places.get(name));
        image["place"] = json!(place);
    }
    Ok(value)
}
