//! `sealift inspect`

use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::json;

use super::listing;
use super::output::{escape_controls, print_data};
use super::trust::TrustArguments;
use crate::bundle::{Bundle, Signer};
use crate::error::Result;

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
    /// The bundle
    bundle: PathBuf,
    #[command(flatten)]
    trust: TrustArguments,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Inspect) -> Result<()> {
    let bundle = Bundle::open(&command.bundle)?;
    let trust = command.trust.load()?;
    let seal = match &trust {
        Some(trust) => bundle.verify_seal(trust, Timestamp::now())?,
        None => bundle.seal_unverified()?,
    };
    let head = bundle.read_head(seal)?;
    if command.json {
        let mut value = listing::json(&head.contents)?;
        value["verified"] = json!(trust.is_some());
        value["identity"] = json!(head.identity);
        value["created"] = json!(head.created.to_string());
        value["tool"] = json!(head.tool);
        let signers: Vec<_> = head
            .signers
            .iter()
            .map(|signer| json!({"keyId": signer.key_id.to_string(), "principals": signer.principals, "trusted": signer.trusted}))
            .collect();
        value["signers"] = json!(signers);
        return print_data(&format!("{value:#}\n"));
    }
    let mut text = String::new();
    if trust.is_none() {
        text += "UNVERIFIED: no --trust given, so nobody vouches for what follows\n";
    }
    text += &format!("bundle:   {}\ncreated:  {} by {}\n", head.identity, head.created, head.tool);
    text += &signer_lines(&head.signers);
    text += "\n";
    text += &listing::table(&head.contents)?;
    print_data(&escape_controls(&text))
}

/// `signed by: WHO (key id ...)`, a line each.
pub(super) fn signer_lines(signers: &[Signer]) -> String {
    signers
        .iter()
        .map(|signer| {
            let who = if signer.principals.is_empty() { "an unknown key".to_owned() } else { signer.principals.clone() };
            let note = if signer.trusted { "" } else { ", not trusted" };
            format!("signed by: {who} (key id {}{note})\n", signer.key_id)
        })
        .collect()
}
