//! The files of an image directory, by their names.

use std::ffi::OsStr;

use crate::error::{Error, Result};
use crate::oci::Digest;

/// What a file of an image directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ImageFile {
    /// `version`
    Version,
    /// `manifest.json`
    Manifest,
    /// `<hex>.manifest.json`: a manifest below `manifest.json`.
    Instance(Digest),
    /// `<hex>`: a config or a layer.
    Blob(Digest),
    /// `signature-N`, of `manifest.json`; `<hex>.signature-N`, of a manifest below it. Counted from 1.
    Signature(Option<Digest>, u32),
    /// One of those that belong to a digest which is not SHA-256 (`sha512-<hex>`, version 1.2 of the transport).
    Unsupported,
    /// `.<hex>.part`, `.manifest.json.part` and the like: a file in the making, left by a run of sealift that was killed.
    Part,
}

impl ImageFile {
    /// Nothing for a name that no image directory has.
    pub(super) fn of(name: &OsStr) -> Option<ImageFile> {
        let name = name.to_str()?;
        match name {
            VERSION => return Some(ImageFile::Version),
            MANIFEST => return Some(ImageFile::Manifest),
            _ => {}
        }
        if let Some(inner) = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".part")) {
            return ImageFile::of(OsStr::new(inner)).filter(|inner| *inner != ImageFile::Part).map(|_| ImageFile::Part);
        }
        if let Some(number) = name.strip_prefix(SIGNATURE) {
            return count(number).map(|number| ImageFile::Signature(None, number));
        }
        let (stem, rest) = match name.split_once('.') {
            Some((stem, rest)) => (stem, Some(rest)),
            None => (name, None),
        };
        let Some(digest) = Digest::from_hex(stem) else {
            return is_other_digest(stem).then_some(ImageFile::Unsupported);
        };
        match rest {
            None => Some(ImageFile::Blob(digest)),
            Some(MANIFEST) => Some(ImageFile::Instance(digest)),
            Some(rest) => {
                let number = count(rest.strip_prefix(SIGNATURE)?)?;
                Some(ImageFile::Signature(Some(digest), number))
            }
        }
    }

    /// Whether it says that an image is or was to be here. A `manifest.json` alone may be anybody's.
    pub(super) fn is_telling(self) -> bool {
        matches!(self, ImageFile::Instance(_) | ImageFile::Blob(_) | ImageFile::Unsupported)
    }
}

/// The name of a manifest's file.
pub(super) fn instance(digest: Digest) -> String {
    format!("{}.{MANIFEST}", digest.hex())
}

/// The name of a signature's file, counted from 1.
pub(super) fn signature(of: Option<Digest>, number: usize) -> String {
    match of {
        None => format!("{SIGNATURE}{number}"),
        Some(digest) => format!("{}.{SIGNATURE}{number}", digest.hex()),
    }
}

/// The name of a file while it is made.
pub(super) fn part(name: &str) -> String {
    format!(".{name}.part")
}

/// Checks the text of a `version`: 1.0, 1.1, or 1.2, which is written for digests that are not SHA-256.
pub(super) fn check_version(text: &[u8]) -> Result<()> {
    let known = [&b"Directory Transport Version: 1.0\n"[..], VERSION_TEXT, b"Directory Transport Version: 1.2\n"];
    if known.contains(&text) {
        return Ok(());
    }
    let shown = String::from_utf8_lossy(&text[..text.len().min(80)]).trim_end().to_owned();
    Err(Error::refused(format!("its version is {shown:?}, and only Directory Transport Version 1.0 to 1.2 are known"))
        .hint("copy the image once more with skopeo or sealift"))
}

fn count(digits: &str) -> Option<u32> {
    let canonical = !digits.starts_with('0') && digits.bytes().all(|c| c.is_ascii_digit());
    digits.parse().ok().filter(|number| canonical && *number > 0)
}

fn is_other_digest(stem: &str) -> bool {
    ["sha384-", "sha512-"].iter().any(|algorithm| {
        stem.strip_prefix(algorithm).is_some_and(|hex| {
            [96, 128].contains(&hex.len()) && hex.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
        })
    })
}

/// The version's file.
pub(super) const VERSION: &str = "version";
/// What is written into it.
pub(super) const VERSION_TEXT: &[u8] = b"Directory Transport Version: 1.1\n";
/// The largest `version` that is read, in bytes.
pub(super) const MAX_VERSION: u64 = 1 << 10;
/// The image's manifest or index.
pub(super) const MANIFEST: &str = "manifest.json";
const SIGNATURE: &str = "signature-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_transport_is_known_and_no_other() {
        let digest = Digest::of(b"x");
        let hex = digest.hex();
        for (name, entry) in [
            ("version".to_owned(), Some(ImageFile::Version)),
            ("manifest.json".to_owned(), Some(ImageFile::Manifest)),
            (hex.clone(), Some(ImageFile::Blob(digest))),
            (instance(digest), Some(ImageFile::Instance(digest))),
            (signature(None, 1), Some(ImageFile::Signature(None, 1))),
            (signature(Some(digest), 12), Some(ImageFile::Signature(Some(digest), 12))),
            (part(&hex), Some(ImageFile::Part)),
            (part("manifest.json"), Some(ImageFile::Part)),
            (part(&signature(None, 1)), Some(ImageFile::Part)),
            (part(&part(&hex)), None),
            (".notes.part".to_owned(), None),
            (format!("sha512-{hex}{hex}"), Some(ImageFile::Unsupported)),
            (format!("sha512-{hex}{hex}.manifest.json"), Some(ImageFile::Unsupported)),
            (format!("sha512-{hex}"), None),
            ("signature-0".to_owned(), None),
            ("signature-01".to_owned(), None),
            ("signature-+1".to_owned(), None),
            (hex.to_uppercase(), None),
            (format!("{hex}.json"), None),
            (hex[1..].to_owned(), None),
            ("notes.txt".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(ImageFile::of(OsStr::new(&name)), entry, "{name}");
        }
    }

    #[test]
    fn versions_that_are_not_known_are_refused() {
        for (text, known) in [
            ("Directory Transport Version: 1.0\n", true),
            ("Directory Transport Version: 1.1\n", true),
            ("Directory Transport Version: 1.2\n", true),
            ("Directory Transport Version: 1.3\n", false),
            ("Directory Transport Version: 2.0\n", false),
            ("Directory Transport Version: 1.1", false),
            ("", false),
        ] {
            assert_eq!(check_version(text.as_bytes()).is_ok(), known, "{text:?}");
        }
    }
}
