//! `SHA256SUMS`: the list of everything, and the document that is signed.
//!
//! The grammar is the text form of sha256sum(1), without its freedoms: `<64 lower-case hex>  <path>\n`, sorted
//! bytewise by path, each path once, and only the paths that a bundle can have.

use super::{ALGORITHM, BLOBS, DESCRIPTOR, INDEX, LAYOUT, SUMS, limits};
use crate::error::{Error, Result};
use crate::oci::Digest;

/// What `SHA256SUMS` says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Checksums {
    pub(crate) descriptor: Digest,
    pub(crate) index: Digest,
    pub(crate) layout: Digest,
    /// Sorted, each once.
    pub(crate) blobs: Vec<Digest>,
}

impl Checksums {
    /// Reads the bytes of `SHA256SUMS`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Checksums> {
        if bytes.contains(&b'\r') {
            return Err(Error::damaged(format!("{SUMS} has lines that end with CR LF"))
                .hint("copy the bundle again without text conversion"));
        }
        let fault = |number: usize, what: &str| Error::damaged(format!("{SUMS}, line {number}: {what}"));
        let Some(body) = bytes.strip_suffix(b"\n") else {
            return Err(Error::damaged(format!("{SUMS} does not end with a line end: it is empty or was cut off"))
                .hint("copy the bundle again from its medium"));
        };
        let mut checksums = Draft::default();
        let mut previous: &[u8] = b"";
        for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
            let number = index + 1;
            if number > limits::SUMS_LINES {
                return Err(Error::damaged(format!("{SUMS} has more than {} lines", limits::SUMS_LINES)));
            }
            let (sum, path) = split(line)
                .ok_or_else(|| fault(number, "it is not 64 lower-case hex digits, two spaces and a path"))?;
            if path <= previous {
                let what = if path == previous { "the path is there twice" } else { "the paths are not sorted" };
                return Err(fault(number, what));
            }
            previous = path;
            checksums.take(sum, path).map_err(|what| fault(number, &what))?;
        }
        checksums.finish()
    }

    /// Whether a blob is listed.
    pub(crate) fn has(&self, digest: Digest) -> bool {
        self.blobs.binary_search(&digest).is_ok()
    }

    /// The bytes of `SHA256SUMS`. `blobs` must be sorted.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut text = String::with_capacity((self.blobs.len() + 3) * 145);
        for blob in &self.blobs {
            let hex = blob.hex();
            push_line(&mut text, &hex, &format!("{BLOBS}/{ALGORITHM}/{hex}"));
        }
        push_line(&mut text, &self.descriptor.hex(), DESCRIPTOR);
        push_line(&mut text, &self.index.hex(), INDEX);
        push_line(&mut text, &self.layout.hex(), LAYOUT);
        text.into_bytes()
    }
}

#[derive(Default)]
struct Draft {
    descriptor: Option<Digest>,
    index: Option<Digest>,
    layout: Option<Digest>,
    blobs: Vec<Digest>,
}

impl Draft {
    fn take(&mut self, sum: Digest, path: &[u8]) -> Result<(), String> {
        let known = [(DESCRIPTOR, &mut self.descriptor), (INDEX, &mut self.index), (LAYOUT, &mut self.layout)];
        for (name, slot) in known {
            if path == name.as_bytes() {
                *slot = Some(sum);
                return Ok(());
            }
        }
        let shown = path.escape_ascii();
        let hex = path
            .strip_prefix(BLOBS.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"/"))
            .and_then(|rest| rest.strip_prefix(ALGORITHM.as_bytes()))
            .and_then(|rest| rest.strip_prefix(b"/"))
            .ok_or_else(|| format!("{shown} is no path of a bundle"))?;
        match std::str::from_utf8(hex).ok().and_then(Digest::from_hex) {
            Some(digest) if digest == sum => self.blobs.push(sum),
            Some(_) => return Err(format!("{shown} is not named after its checksum")),
            None => return Err(format!("{shown} is no path of a bundle")),
        }
        Ok(())
    }

    fn finish(self) -> Result<Checksums> {
        let there = |digest: Option<Digest>, name: &str| {
            digest.ok_or_else(|| Error::damaged(format!("{SUMS} does not list {name}")))
        };
        Ok(Checksums {
            descriptor: there(self.descriptor, DESCRIPTOR)?,
            index: there(self.index, INDEX)?,
            layout: there(self.layout, LAYOUT)?,
            blobs: self.blobs,
        })
    }
}

fn split(line: &[u8]) -> Option<(Digest, &[u8])> {
    let (sum, rest) = line.split_at_checked(64)?;
    let sum = Digest::from_hex(std::str::from_utf8(sum).ok()?)?;
    let path = rest.strip_prefix(b"  ")?;
    (!path.is_empty()).then_some((sum, path))
}

fn push_line(text: &mut String, hex: &str, path: &str) {
    text.push_str(hex);
    text.push_str("  ");
    text.push_str(path);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Checksums {
        let mut blobs = vec![Digest::of(b"a"), Digest::of(b"b")];
        blobs.sort();
        Checksums { descriptor: Digest::of(b"d"), index: Digest::of(b"i"), layout: Digest::of(b"l"), blobs }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(Checksums::parse(&good().to_bytes()).unwrap(), good());
    }

    #[test]
    fn one_form_only() {
        let text = String::from_utf8(good().to_bytes()).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        let hex = &first[..64];
        let cases = [
            ("", "cut off"),
            ("\n", "64 lower-case"),
            (text.trim_end(), "cut off"),
            (&text.replace('\n', "\r\n"), "CR LF"),
            (&format!("{rest}{first}\n"), "not sorted"),
            (&format!("{first}\n{text}"), "twice"),
            (&text.replace("  bundle", " *bundle"), "64 lower-case"),
            (&text.replace("  bundle", " bundle"), "64 lower-case"),
            (&text.replace("  bundle.json", "  ./bundle.json"), "not sorted"),
            (&text.replacen(hex, &hex.to_uppercase(), 1), "64 lower-case"),
            (&format!("\\{text}"), "64 lower-case"),
            (&text.replacen("blobs/sha256/", "blobs/sha256/../", 1), "no path"),
            (&text.replacen("blobs/sha256/", "blobs/sha512/", 2), "no path"),
            (&text.replacen(hex, &"0".repeat(64), 1), "named after"),
            (&format!("{text}{hex}  zzz\n"), "no path"),
            (&text.replace("index.json", "indeed"), "no path"),
            (
                &text.lines().filter(|l| !l.ends_with("index.json")).map(|l| format!("{l}\n")).collect::<String>(),
                "list",
            ),
            (&format!("{text}\n"), "64 lower-case"),
        ];
        for (text, reason) in cases {
            let error = Checksums::parse(text.as_bytes()).expect_err(text);
            assert!(error.chain().contains(reason), "{text:?}: {error:?}");
        }
    }

    #[test]
    fn lines_are_counted() {
        let mut many = good();
        many.blobs = (0..limits::SUMS_LINES as u32).map(|n| Digest::of(&n.to_le_bytes())).collect();
        many.blobs.sort();
        let error = Checksums::parse(&many.to_bytes()).expect_err("too many");
        assert!(error.chain().contains("more than"), "{error:?}");
    }
}
