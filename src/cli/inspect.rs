//! `sealift inspect`

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::{Value, json};

use super::escape::escape_controls;
use super::listing::{self, ConfigPlatforms};
use super::output::{print_data, print_json};
use super::trust::TrustArguments;
use crate::bundle::{Bundle, BundleStream, Head, Seal, Signer, Unverified};
use crate::content::{BlobId, Contents};
use crate::error::Result;
use crate::jobs::verify::VerifiedBundle;
use crate::text::one_line;

/// Show what is in a bundle
///
/// With --trust the signature is verified first. Without it the listing begins with UNVERIFIED: anybody may have
/// written it. Layers are not read; `sealift verify` does that.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sealift inspect usb/app --trust allowed_signers
  sealift inspect usb/app --json | jq '.images[].name'")]
pub(super) struct Inspect {
    /// The bundle: a directory, a tar, a tar.zst, or - for stdin
    bundle: PathBuf,
    #[command(flatten)]
    trust: TrustArguments,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Inspect) -> Result<()> {
    match command.trust.load()? {
        Some(trust) => {
            let verified = super::open_bundle(&command.bundle, &trust)?;
            show(&verified.head, &platforms(&verified), true, command.json)
        }
        None => {
            let (head, platforms) = head_unverified(&command.bundle)?;
            show(&head, &platforms, false, command.json)
        }
    }
}

fn head_unverified(path: &Path) -> Result<(Unverified<Head>, ConfigPlatforms)> {
    let mut stream = match super::stdin_for(path)? {
        Some(input) => BundleStream::new(input, super::STDIN)?,
        None if BundleStream::is_needed(path) => BundleStream::open(path)?,
        None => {
            let bundle = Bundle::open(path)?;
            let head = bundle.read_head_unverified(bundle.read_unverified()?)?;
            let platforms = read_platforms(&head.contents, |config| bundle.config(&head.contents, config));
            return Ok((head, platforms));
        }
    };
    let seal = stream.read_unverified()?;
    let head = stream.read_head_unverified(seal)?;
    let platforms = read_platforms(&head.contents, |config| stream.config(config));
    Ok((head, platforms))
}

/// What single images of a bundle that this process has written are for; nothing if it cannot be read again.
pub(super) fn platforms_in(path: &Path) -> ConfigPlatforms {
    head_unverified(path).map(|(_, platforms)| platforms).unwrap_or_default()
}

/// What single images are for. Of a stream, to be asked before its layers are read.
pub(super) fn platforms(verified: &VerifiedBundle) -> ConfigPlatforms {
    read_platforms(&verified.head.contents, |config| verified.config(config))
}

fn read_platforms(contents: &Contents, read: impl Fn(BlobId) -> Result<Bytes>) -> ConfigPlatforms {
    let mut platforms = ConfigPlatforms::default();
    for config in listing::configs(contents) {
        if let Ok(bytes) = read(config) {
            platforms.add(contents.blob(config).digest, &bytes);
        }
    }
    platforms
}

fn show(head: &Head, platforms: &ConfigPlatforms, verified: bool, as_json: bool) -> Result<()> {
    if as_json {
        let mut value = listing::json(&head.contents, platforms)?;
        vouch(&mut value, head, verified);
        return print_json(&value);
    }
    let mut text = String::new();
    if !verified {
        text += "UNVERIFIED: no --trust given, so nobody vouches for what follows\n";
    }
    text += &format!("bundle:    {}\ncreated:   {} by {}\n", head.identity(), head.created, head.tool);
    if let Some(series) = &head.series {
        text += &format!("series:    {}, number {}\n", series.name, series.sequence);
    }
    for base in &head.base {
        text += &format!("builds on: {base}\n");
    }
    text += &signer_lines(&head.seal);
    text += "\n";
    text += &listing::table(&head.contents, platforms)?;
    print_data(&escape_controls(&text))
}

/// Says in a JSON object which bundle it is about, and who vouches for it.
pub(super) fn vouch(value: &mut Value, head: &Head, verified: bool) {
    value["verified"] = json!(verified);
    value["identity"] = json!(head.identity().to_string());
    value["created"] = json!(head.created.to_string());
    value["tool"] = json!(head.tool);
    value["series"] = head.series.as_ref().map_or(Value::Null, |series| json!(series.name));
    value["sequence"] = head.series.as_ref().map_or(Value::Null, |series| json!(series.sequence));
    value["base"] = head.base.iter().map(|base| json!(base.to_string())).collect();
    let vouches = |signer: &Signer| json!({"keyId": signer.key.key_id().to_string(), "principals": signer.principals, "trusted": true});
    value["reviewers"] = head.seal.reviewers.iter().map(vouches).collect();
    let trusted = head.seal.signers.iter().map(vouches);
    let others = head.seal.bystanders.iter().map(
        |other| json!({"keyId": other.key.key_id().to_string(), "principals": [], "trusted": false, "reason": other.why}),
    );
    value["signers"] = trusted.chain(others).collect();
}

/// `signed by: WHO (key id ...)`, a line each, then who reviewed it; those that do not count say why.
pub(super) fn signer_lines(seal: &Seal) -> String {
    let line = |what: &str, signer: &Signer| {
        let who = signer.principals.join(", ");
        format!("{what} by: {} (key id {})\n", one_line(&who, LONGEST), signer.key.key_id())
    };
    let signers = seal.signers.iter().map(|signer| line("signed", signer));
    let reviewers = seal.reviewers.iter().map(|signer| line("reviewed", signer));
    let others = seal
        .bystanders
        .iter()
        .map(|other| format!("signed by: key id {}, which does not count: it {}\n", other.key.key_id(), other.why));
    signers.chain(reviewers).chain(others).collect()
}

/// Of the names of a signer, in bytes.
const LONGEST: usize = 1000;
