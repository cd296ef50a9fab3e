//! A bundle that is about to be made: what form the output has, who signs it, as of when.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::Path;

use clap::ValueEnum;
use jiff::Timestamp;

use crate::bundle::Compression;
use crate::clock;
use crate::error::{Error, Result};
use crate::export::{Making, Output};
use crate::oci::Digest;
use crate::trust::SigningKey;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Compress {
    /// Not at all
    None,
    /// Zstandard
    Zstd,
}

/// The bundle. `json` says that an answer goes to stdout. `carried` says all that decides what is carried: another request
/// must not go on with this one's plan.
pub(super) fn bundle(output: &Path, key: SigningKey, compress: Compress, json: bool, carried: &str) -> Result<Making> {
    if json && output == Path::new("-") {
        return Err(Error::usage("the bundle and --json both want to go to stdout")
            .hint("where the bundle goes to - leave --json out; --progress json tells of the end on stderr"));
    }
    let id = key.public_key().key_id();
    let created = created()?;
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
    let request = format!("{id} {epoch:?} {carried}");
    let output = match (output.to_str(), compress) {
        (Some("-"), Compress::None) => to_stdout(Compression::None)?,
        (Some("-"), Compress::Zstd) => to_stdout(Compression::Zstd)?,
        (_, Compress::Zstd) => {
            return Err(Error::usage("--compress goes with --output -").hint("name the file with .tar.zst"));
        }
        (Some(name), _) if name.ends_with(".tar.zst") => Output::Packed(output.to_owned()),
        (Some(name), _) if name.ends_with(".tar") => Output::Archive(output.to_owned()),
        (Some(name), _) if is_like_an_archive(name) => {
            return Err(Error::usage(format!("{name} has the ending of an archive that is not made"))
                .hint(format!("write {}", instead_of(name)))
                .hint("one file is named .tar or .tar.zst, in small letters; any other name is a directory's"));
        }
        _ => Output::Directory(output.to_owned()),
    };
    Making::new(output, key, created, Digest::of(request.as_bytes()))
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

fn to_stdout(compression: Compression) -> Result<Output> {
    let stdout = std::io::stdout();
    if stdout.is_terminal() {
        return Err(Error::usage("a bundle is not for a terminal").hint("pipe it into another program or a file"));
    }
    // Not line by line, as a terminal would have it.
    let file = stdout.as_fd().try_clone_to_owned().map_err(|e| Error::io("cannot write to stdout", e))?;
    Ok(Output::Stream(Box::new(std::fs::File::from(file)), "standard output".into(), compression))
}

/// Now, or what SOURCE_DATE_EPOCH says (reproducible-builds.org), so that the same export can be made twice.
fn created() -> Result<Timestamp> {
    let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") else { return clock::now() };
    let seconds = text.parse::<i64>().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    seconds.ok_or_else(|| Error::usage(format!("SOURCE_DATE_EPOCH is {text:?}, not a number of seconds since 1970")))
}
