//! `.BUNDLE.journal`: what an unfinished bundle will be, and what of an archive is there.
//!
//! ```text
//! sealift journal 1                              what it is
//! request <hex>                                  what was asked for
//! moving <hex> <from> <to> <bytes> <moved>       what is on its way to another place in the archive; its place in the
//!                                                journal is fixed, and it is written over
//! left-out <length>                              so many bytes of JSON follow: images that are not in the plan, and why
//! head <length>                                  so many bytes follow: the beginning of the archive, seal and head, as
//! ...                                            it will be
//! done <hex>                                     a blob whose bytes are in the archive, a line each
//! part <hex> <bytes>                             a blob of which so many bytes are there
//! at <hex> <offset> <bytes>                      so many bytes of a blob lie elsewhere, and are to be moved
//! ```
//!
//! The head pins the plan: the same command goes on with it although tags may have moved, with the same signatures
//! and time, so that the result is the same to the byte. A journal begins whole or not at all (it is renamed into its
//! place); lines are added to its end, of which the last one for a blob counts. Nothing here is believed
//! ([`recall`](super::recall)).

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags};

use super::super::files::{Folder, remove};
use super::super::sealing::Sealed;
use super::chain::{head_length, seal_length, write_head, write_seal};
use super::moves::{Extent, Step};
use crate::error::{Error, Failure, Kind, Result};
use crate::oci::Digest;
use crate::place::Contents;

/// The journal of the archive that is being made, open for more lines.
#[derive(Debug)]
pub(in super::super) struct Journal {
    /// Every write goes to the end.
    lines: File,
    /// The same file, for the line that is written over.
    slot: File,
    shown: String,
}

/// With what a journal begins.
pub(in super::super) struct Beginning<'a> {
    pub(in super::super) request: Digest,
    pub(in super::super) left_out: &'a [Failure],
    pub(in super::super) sealed: &'a Sealed,
    pub(in super::super) contents: &'a Contents,
    pub(in super::super) held: &'a [Line],
}

/// Where bytes of a blob are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Line {
    /// All of them are at their place.
    Done(Digest),
    /// So many of them are at their place.
    Part(Digest, u64),
    /// So many of them are somewhere else.
    At(Digest, Extent),
}

impl Journal {
    /// Begins a new one in place of any other.
    pub(in super::super) fn begin(folder: &Folder, name: &str, beginning: &Beginning<'_>) -> Result<Journal> {
        let Beginning { request, left_out, sealed, contents, held } = beginning;
        let new = new_name(name);
        let file = open(folder, &new, OFlags::CREATE | OFlags::TRUNC).map_err(|e| folder.failed("create", &new, e))?;
        let failed = |e| Error::io(format!("cannot write {}", folder.shown(&new)), e);
        let length = seal_length(sealed) + head_length(sealed, contents);
        let left_out = to_json(left_out);
        let mut writer = BufWriter::new(&file);
        let nothing = Step { digest: Digest::of(b""), from: 0, to: 0, length: 0 };
        write!(writer, "{TITLE}\nrequest {}\n{}", request.hex(), moving(&nothing, 0)).map_err(failed)?;
        write!(writer, "left-out {}\n{left_out}\nhead {length}\n", left_out.len()).map_err(failed)?;
        let mut sink = |bytes: &[u8]| writer.write_all(bytes).map_err(failed);
        write_seal(sealed, &mut sink)?;
        write_head(sealed, contents, &mut sink)?;
        held.iter().try_for_each(|line| writeln!(writer, "{line}")).map_err(failed)?;
        writer.flush().map_err(failed)?;
        drop(writer);
        rustix::fs::fdatasync(&file).map_err(|e| failed(e.into()))?;
        rustix::fs::renameat(folder.fd(), &new, folder.fd(), name).map_err(|e| failed(e.into()))?;
        Journal::new(file, folder, name)
    }

    /// Takes lines to the end of `lines`, which is the file `name`.
    pub(super) fn new(lines: File, folder: &Folder, name: &str) -> Result<Journal> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let slot = rustix::fs::openat(folder.fd(), name, flags, Mode::empty());
        let slot = slot.map_err(|e| folder.failed("write", name, e))?.into();
        Ok(Journal { lines, slot, shown: folder.shown(name) })
    }

    /// Adds a line.
    pub(super) fn note(&self, line: Line) -> Result<()> {
        // One write, appended: lines of several tasks do not mix.
        (&self.lines).write_all(format!("{line}\n").as_bytes()).map_err(|e| self.failed(e))
    }

    /// Notes that so many bytes of what is on its way are at their new place.
    pub(super) fn moving(&self, step: &Step, moved: u64) -> Result<()> {
        // All of it lies within one page, so that a kill cannot tear it.
        self.slot.write_all_at(moving(step, moved).as_bytes(), SLOT).map_err(|e| self.failed(e))
    }

    /// Removes the one that is there, and what a kill left of a new one.
    pub(in super::super) fn remove(folder: &Folder, name: &str) -> Result<()> {
        remove(folder, new_name(name))?;
        remove(folder, name)
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::io(format!("cannot write {}", self.shown), error)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Done(digest) => write!(f, "done {}", digest.hex()),
            Line::Part(digest, bytes) => write!(f, "part {} {bytes}", digest.hex()),
            Line::At(digest, Extent { offset, length }) => write!(f, "at {} {offset} {length}", digest.hex()),
        }
    }
}

impl Line {
    /// Reads one, without its line feed.
    pub(super) fn parse(text: &str) -> Option<Line> {
        let mut fields = text.split(' ');
        let (word, digest) = (fields.next()?, Digest::from_hex(fields.next()?)?);
        let mut number = || fields.next()?.parse::<u64>().ok();
        let line = match word {
            "done" => Line::Done(digest),
            "part" => Line::Part(digest, number()?),
            "at" => Line::At(digest, Extent { offset: number()?, length: number()? }),
            _ => return None,
        };
        fields.next().is_none().then_some(line)
    }
}

/// The line that is written over; always of the same length.
fn moving(step: &Step, moved: u64) -> String {
    let Step { digest, from, to, length } = step;
    format!("moving {} {from:020} {to:020} {length:020} {moved:020}\n", digest.hex())
}

/// Reads that line: a step and how much of it is done.
pub(super) fn parse_moving(text: &str) -> Option<(Step, u64)> {
    let mut fields = text.strip_prefix("moving ")?.split(' ');
    let digest = Digest::from_hex(fields.next()?)?;
    let mut number = || fields.next()?.parse::<u64>().ok();
    let step = Step { digest, from: number()?, to: number()?, length: number()? };
    let moved = number()?;
    (fields.next().is_none() && moved <= step.length).then_some((step, moved))
}

/// Opens a journal to read it and to add lines.
pub(super) fn open(folder: &Folder, name: &str, more: OFlags) -> rustix::io::Result<File> {
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | more;
    rustix::fs::openat(folder.fd(), name, flags, Mode::from_raw_mode(0o644)).map(File::from)
}

/// Where a journal is written until it is whole.
fn new_name(name: &str) -> String {
    format!("{name}.new")
}

/// An image that is not in the plan.
#[derive(serde::Serialize, serde::Deserialize)]
struct Missing {
    image: String,
    kind: Kind,
    message: String,
    hints: Vec<String>,
}

fn to_json(failures: &[Failure]) -> String {
    let missing: Vec<Missing> = failures
        .iter()
        .map(|Failure { image, error }| Missing {
            image: image.clone(),
            kind: error.kind(),
            message: error.chain(),
            hints: error.hints().to_vec(),
        })
        .collect();
    serde_json::to_string(&missing).expect("texts can be written as JSON")
}

/// Reads what [`Beginning::left_out`] became.
pub(super) fn from_json(text: &[u8]) -> Option<Vec<Failure>> {
    let missing: Vec<Missing> = serde_json::from_slice(text).ok()?;
    let failure = |Missing { image, kind, message, hints }: Missing| {
        let error = hints.into_iter().fold(Error::new(kind, message), Error::hint);
        Failure { image, error }
    };
    Some(missing.into_iter().map(failure).collect())
}

pub(super) const TITLE: &str = "sealift journal 1";
/// Where the line that is written over begins: after the title and the request.
const SLOT: u64 = (TITLE.len() + 1 + "request ".len() + 64 + 1) as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        let digest = Digest::of(b"x");
        for line in [Line::Done(digest), Line::Part(digest, 7), Line::At(digest, Extent { offset: 1, length: 2 })] {
            assert_eq!(Line::parse(&line.to_string()), Some(line));
        }
        for torn in ["", "done", "done 12", "part 12", &format!("part {}", digest.hex()), "at x 1 2"] {
            assert_eq!(Line::parse(torn), None, "{torn}");
        }
        let step = Step { digest, from: u64::MAX, to: 3, length: 9 };
        assert_eq!(parse_moving(moving(&step, 5).trim_end()), Some((step, 5)));
        assert_eq!(moving(&step, 0).len(), moving(&Step { from: 0, ..step }, 9).len());
    }

    #[test]
    fn what_is_written_over_lies_in_the_first_page() {
        let step = Step { digest: Digest::of(b"x"), from: 0, to: 0, length: 0 };
        assert!(SLOT + moving(&step, 0).len() as u64 <= 4096);
    }

    #[test]
    fn what_was_left_out_is_remembered_with_its_reason() {
        let failure = |kind| Failure { image: "a/b:1".into(), error: Error::new(kind, "why").hint("what to do") };
        let read = from_json(to_json(&[failure(Kind::NotFound), failure(Kind::Refused)]).as_bytes()).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!((read[1].error.kind(), read[0].image.as_str()), (Kind::Refused, "a/b:1"));
        assert_eq!((read[0].error.chain(), read[0].error.hints()), ("why".to_owned(), &["what to do".to_owned()][..]));
    }
}
