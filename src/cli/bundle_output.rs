//! A bundle that is about to be made: what form the output has, who signs it, as of when.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::output::note;
use super::progress::count;
use super::state::StateArgument;
use crate::bundle::{Compression, Keep, ResumeReport};
use crate::clock;
use crate::content::Contents;
use crate::error::{Error, Result};
use crate::jobs::export::{BundleOutput, BundleWriter};
use crate::oci::Digest;
use crate::progress::Progress;
use crate::trust::{KeyId, SigningKey};

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Compress {
    /// Not at all
    None,
    /// Zstandard
    Zstd,
}

/// What is asked of a bundle.
pub(super) struct BundleRequest<'a> {
    pub(super) output: &'a Path,
    pub(super) key: SigningKey,
    pub(super) compress: Compress,
    /// Whether an answer goes to stdout.
    pub(super) json: bool,
    /// Where its plan is kept.
    pub(super) state: &'a StateArgument,
    /// All that decides what is carried: a run that asks for something else does not continue its plan. Nothing where
    /// the plan is made anew by each run.
    pub(super) selection: Option<Value>,
}

/// The bundle.
///
/// # Errors
/// `Usage` for an output that cannot be one, or a state that others can write to.
pub(super) fn bundle(wanted: BundleRequest<'_>, progress: &Arc<dyn Progress>) -> Result<BundleWriter> {
    let BundleRequest { output, key, compress, json, state, selection } = wanted;
    if json && output == Path::new("-") {
        return Err(Error::usage("the bundle and --json both want to go to stdout")
            .hint("where the bundle goes to - leave --json out; --progress json tells of the end on stderr"));
    }
    let created = created()?;
    let output = match (output.to_str(), compress) {
        (Some("-"), Compress::None) => to_stdout(Compression::None)?,
        (Some("-"), Compress::Zstd) => to_stdout(Compression::Zstd)?,
        (_, Compress::Zstd) => {
            return Err(Error::usage("--compress goes with --output -").hint("name the file with .tar.zst"));
        }
        (Some(name), _) if name.ends_with(".tar.zst") => BundleOutput::Packed(output.to_owned()),
        (Some(name), _) if name.ends_with(".tar") => BundleOutput::Archive(output.to_owned()),
        (Some(name), _) if is_like_an_archive(name) => {
            return Err(Error::usage(format!("{name} has the ending of an archive that is not made"))
                .hint(format!("write {}", instead_of(name)))
                .hint("one file is named .tar or .tar.zst, in small letters; any other name is a directory's"));
        }
        _ => BundleOutput::Directory(output.to_owned()),
    };
    let keep = match (&output, selection) {
        (BundleOutput::Directory(_) | BundleOutput::Archive(_), Some(selection)) => {
            let selection = digest_of(&selection);
            state.open(&**progress)?.map(|state| Keep { state, selection, progress: progress.clone() })
        }
        _ => None,
    };
    BundleWriter::new(output, key, created, keep)
}

/// Of a selection, as JSON without white space and with sorted keys, and of the time that is asked for.
fn digest_of(selection: &Value) -> Digest {
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
    Digest::of(json!({"selection": selection, "sourceDateEpoch": epoch}).to_string().as_bytes())
}

/// What is to be done with what an earlier run left, in words for the person who began this one.
pub(super) fn tell_of_earlier(earlier: &ResumeReport, refresh: bool, quiet: bool) {
    if quiet || !earlier.unfinished {
        return;
    }
    match &earlier.plan {
        Some(plan) if !refresh => note(&format!(
            "continuing what an interrupted run planned {} (--refresh resolves the tags again)",
            age(plan.planned)
        )),
        Some(plan) => note(&format!(
            "an interrupted run planned this {}: planning it again, and using its data again by hash",
            age(plan.planned)
        )),
        None => {
            note("an unfinished bundle is there without a plan: planning it again, and using its data again by hash")
        }
    }
    if !earlier.private {
        note("its file system keeps no owners: all that is in the unfinished bundle is hashed again, whoever wrote it");
    }
}

/// The names and digests that a key is about to sign: the first ten, then how many more there are.
pub(super) fn tell_what_is_signed(contents: &Contents, key: KeyId, quiet: bool) {
    if quiet {
        return;
    }
    let images = &contents.images;
    note(&format!("about to sign {} with key id {key}:", count(images.len(), "name")));
    for image in images.iter().take(SIGNED_SHOWN) {
        note(&format!("  {} {}", image.name, image.document));
    }
    if images.len() > SIGNED_SHOWN {
        note(&format!("  and {} more", images.len() - SIGNED_SHOWN));
    }
}

/// `3 minutes ago`
fn age(then: Timestamp) -> String {
    age_at(then, clock::now().unwrap_or(then))
}

fn age_at(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - then.as_second();
    let (number, unit) = match seconds {
        ..0 => return format!("at {}, which is later than now by this machine's clock", then.strftime("%F %H:%MZ")),
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{} ago", count(usize::try_from(number).unwrap_or(usize::MAX), unit))
}

fn is_like_an_archive(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ENDINGS.iter().any(|end| name.ends_with(end))
}

/// The name with an ending that is made.
fn instead_of(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let ending = ENDINGS.iter().find(|end| lower.ends_with(*end)).map_or(0, |end| end.len());
    let stem = &name[..name.len() - ending];
    format!("{stem}.tar.zst for a compressed bundle, or {stem}.tar")
}

/// Of archives; a longer ending stands before one that it ends with.
const ENDINGS: [&str; 12] = [
    ".tar", ".tar.zst", ".tzst", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz", ".tbz2", ".tar.lz4", ".zip",
];

fn to_stdout(compression: Compression) -> Result<BundleOutput> {
    let stdout = std::io::stdout();
    if stdout.is_terminal() {
        return Err(Error::usage("a bundle is not for a terminal").hint("pipe it into another program or a file"));
    }
    // Not line by line, as a terminal would have it.
    let file = stdout.as_fd().try_clone_to_owned().map_err(|e| Error::io("cannot write to stdout", e))?;
    Ok(BundleOutput::Stream(Box::new(std::fs::File::from(file)), "standard output".into(), compression))
}

/// Now, or what SOURCE_DATE_EPOCH says (reproducible-builds.org), so that the same export can be made twice.
fn created() -> Result<Timestamp> {
    let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") else { return clock::now() };
    let seconds = text.parse::<i64>().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    seconds.ok_or_else(|| Error::usage(format!("SOURCE_DATE_EPOCH is {text:?}, not a number of seconds since 1970")))
}

/// How many names are told one by one before they are signed.
const SIGNED_SHOWN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_whole_units() {
        let then: Timestamp = "2026-11-27T10:00:00Z".parse().unwrap();
        for (seconds, text) in [
            (1, "1 second ago"),
            (119, "119 seconds ago"),
            (125, "2 minutes ago"),
            (7_300, "2 hours ago"),
            (400_000, "4 days ago"),
        ] {
            assert_eq!(age_at(then, Timestamp::from_second(then.as_second() + seconds).unwrap()), text);
        }
        assert!(age_at(then, "2026-11-27T09:00:00Z".parse().unwrap()).starts_with("at 2026-11-27 10:00Z"));
    }

    #[test]
    fn a_selection_has_one_digest_however_it_was_put_together() {
        let one: Value = serde_json::from_str(r#"{"a": 1, "b": [2]}"#).unwrap();
        let other: Value = serde_json::from_str(r#"{"b":[2],"a":1}"#).unwrap();
        assert_eq!(digest_of(&one), digest_of(&other));
        assert_ne!(digest_of(&one), digest_of(&json!({"a": 1, "b": [3]})));
    }
}
