//! What the fuzz targets share: whole bundles made from a fuzzer's bytes, and the promises that hold for each.
//!
//! `scripts/fuzz` builds the targets and runs them. They stand on sealift without its program and its registries (no
//! default features), so that a build takes a minute. Doors to parsers that are private are in `bundle::fuzzing`.
//!
//! `corpus/TARGET` holds what libFuzzer kept of the seeds (`seeds/`: every bundle of `bundle-spec`) and of
//! long runs, one input a code path.

mod read;

pub use read::{read_archive, read_directory, read_stream};
pub use seeds::{Kind, Tree};

/// What a fixture's signature is over.
pub const SIGNED: &[u8] = include_bytes!("../../../bundle-spec/good/minimal/bundle/SHA256SUMS");
/// Of the key that the corpus of attacks trusts.
pub const SIGNATURE: &[u8] =
    include_bytes!("../../../bundle-spec/good/minimal/bundle/signatures/3ef70f31f9ded30233cdce70c52008fc.sig");

/// A directory for one run, in memory where the system has such a place.
pub fn desk() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    }
    .expect("a directory for one run")
}

/// Gives `result` back; an error among it must say something that a person can read.
pub fn told<T>(result: sealift::Result<T>) -> sealift::Result<T> {
    if let Err(error) = &result {
        check_message(&error.chain());
        error.hints().iter().for_each(|hint| check_message(hint));
    }
    result
}

/// A message is one line of bounded length, and nothing in it acts on a terminal.
pub fn check_message(text: &str) {
    assert!(!text.is_empty() && text.len() < 20_000, "{} bytes of message", text.len());
    let hidden = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    assert!(!text.contains(|c: char| c.is_control() || hidden(c)), "{text:?}");
}
