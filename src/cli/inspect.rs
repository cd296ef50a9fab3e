//! `sealift inspect`

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::listing;
use super::output::{escape_controls, print_data, print_json};
use super::trust::TrustArguments;
use crate::bundle::{Bundle, BundleStream, Head, Seal, Unverified};
use crate::error::Result;
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
        Some(trust) => show(&super::open_bundle(&command.bundle, &trust)?.head, true, command.json),
        None => show(&*head_unverified(&command.bundle)?, false, command.json),
    }
}

fn head_unverified(path: &Path) -> Result<Unverified<Head>> {
    let mut stream = match super::stdin_for(path)? {
        Some(input) => BundleStream::new(input, super::STDIN)?,
        None if BundleStream::is_needed(path) => BundleStream::open(path)?,
        None => {
            let bundle = Bundle::open(path)?;
            return bundle.read_head_unverified(bundle.seal_unverified()?);
        }
    };
    let seal = stream.seal_unverified()?;
    stream.read_head_unverified(seal)
}

fn show(head: &Head, verified: bool, as_json: bool) -> Result<()> {
    if as_json {
        let mut value = listing::json(&head.contents)?;
        vouch(&mut value, head, verified);
        return print_json(&value);
    }
    let mut text = String::new();
    if !verified {
        text += "UNVERIFIED: no --trust given, so nobody vouches for what follows\n";
    }
    text += &format!("bundle:    {}\ncreated:   {} by {}\n", head.identity(), head.created, head.tool);
    text += &signer_lines(&head.seal);
    text += "\n";
    text += &listing::table(&head.contents)?;
    print_data(&escape_controls(&text))
}

/// Says in a JSON object which bundle it is about, and who vouches for it.
pub(super) fn vouch(value: &mut Value, head: &Head, verified: bool) {
    value["verified"] = json!(verified);
    value["identity"] = json!(head.identity().to_string());
    value["created"] = json!(head.created.to_string());
    value["tool"] = json!(head.tool);
    let trusted = head.seal.signers.iter().map(
        |signer| json!({"keyId": signer.key.key_id().to_string(), "principals": signer.principals, "trusted": true}),
    );
    let others = head.seal.bystanders.iter().map(
        |other| json!({"keyId": other.key.key_id().to_string(), "principals": [], "trusted": false, "reason": other.why}),
    );
    value["signers"] = trusted.chain(others).collect();
}

/// `signed by: WHO (key id ...)`, a line each; those that do not count say why.
pub(super) fn signer_lines(seal: &Seal) -> String {
    let signers = seal
        .signers
        .iter()
        .map(|signer| (one_line(&signer.principals.join(", "), LONGEST).into_owned(), signer.key.key_id()))
        .map(|(who, id)| format!("signed by: {who} (key id {id})\n"));
    let others = seal
        .bystanders
        .iter()
        .map(|other| format!("signed by: key id {}, which does not count: it {}\n", other.key.key_id(), other.why));
    signers.chain(others).collect()
}

/// Of the names of a signer, in bytes.
const LONGEST: usize = 1000;
