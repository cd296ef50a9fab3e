//! `.BUNDLE.journal`: where bytes of blobs are in an unfinished archive.
//!
//! ```text
//! sealift journal 2                              what it is
//! moving <hex> <from> <to> <bytes> <moved>       bytes of a blob that are on their way to another offset; this line has
//!                                                a fixed place and length, and is written over
//! at <hex> <offset> <bytes>                      so many bytes of a blob, from its first on, are at this offset; the last
//!                                                line for a blob counts
//! ```
//!
//! It is a map and nothing else: what the bundle will be is not in it. Whoever reads it hashes every range that it names
//! ([`extent_map`](super::extent_map)). It has at most 16 MiB: before it grows larger it is written anew with one line
//! for each blob.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use super::relocate::{Extent, Relocation};
use crate::error::{Error, Result};
use crate::files::{Directory, create_anew};
use crate::oci::Digest;

/// The journal of the archive that is being made.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: Directory,
    name: String,
    lines: Mutex<Lines>,
}

/// What is in it.
#[derive(Debug)]
struct Lines {
    file: File,
    /// Where the next line goes.
    end: u64,
    held: HashMap<Digest, Extent>,
    moving: Option<(Relocation, u64)>,
}

impl Journal {
    /// Begins one in place of any other. It has its name when it is durable.
    pub(crate) fn begin(
        folder: &Directory,
        name: &str,
        held: HashMap<Digest, Extent>,
        moving: Option<(Relocation, u64)>,
    ) -> Result<Journal> {
        let (file, end) = write(folder, name, &held, moving.as_ref())?;
        let lines = Mutex::new(Lines { file, end, held, moving });
        Ok(Journal { folder: folder.below("")?, name: name.to_owned(), lines })
    }

    /// Notes where the first bytes of a blob are.
    pub(crate) fn note(&self, digest: Digest, extent: Extent) -> Result<()> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.held.insert(digest, extent);
        let line = line(digest, extent);
        if lines.end + line.len() as u64 > MAX_LENGTH {
            (lines.file, lines.end) = write(&self.folder, &self.name, &lines.held, lines.moving.as_ref())?;
            return Ok(());
        }
        // The file stands at its end: what is written over is written elsewhere without moving it.
        if let Err(error) = lines.file.write_all(line.as_bytes()) {
            // The beginning of a line would hide those that follow.
            let end = lines.end;
            let _ = lines.file.set_len(end).and_then(|()| lines.file.seek(SeekFrom::Start(end)));
            return Err(self.failed(error));
        }
        lines.end += line.len() as u64;
        Ok(())
    }

    /// Notes that so many bytes of what is on its way are at their new place.
    pub(crate) fn moving(&self, step: &Relocation, moved: u64) -> Result<()> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.moving = Some((*step, moved));
        // All of it lies within one page, so that a kill cannot tear it.
        lines.file.write_all_at(moving_line(Some((step, moved))).as_bytes(), SLOT).map_err(|e| self.failed(e))
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::io(format!("cannot write {}", self.folder.shown(&self.name)), error)
    }
}

/// Removes the journal that is there, and what a kill left of a new one.
pub(crate) fn remove(folder: &Directory, name: &str) -> Result<()> {
    folder.remove_file(&new_name(name))?;
    folder.remove_file(name)
}

/// Where a journal is written until it is whole.
pub(crate) fn new_name(name: &str) -> String {
    format!("{name}.new")
}

/// Writes a whole journal; returns the open file and its length in bytes.
fn write(
    folder: &Directory,
    name: &str,
    held: &HashMap<Digest, Extent>,
    moving: Option<&(Relocation, u64)>,
) -> Result<(File, u64)> {
    let new = new_name(name);
    let file = create_anew(folder, &new)?;
    let failed = |e| Error::io(format!("cannot write {}", folder.shown(&new)), e);
    let mut writer = BufWriter::new(&file);
    let slot = moving_line(moving.map(|(step, moved)| (step, *moved)));
    let mut end = (TITLE.len() + 1 + slot.len()) as u64;
    write!(writer, "{TITLE}\n{slot}").map_err(failed)?;
    for (digest, extent) in held {
        let line = line(*digest, *extent);
        writer.write_all(line.as_bytes()).map_err(failed)?;
        end += line.len() as u64;
    }
    writer.flush().map_err(failed)?;
    drop(writer);
    rustix::fs::fdatasync(&file).map_err(|e| failed(e.into()))?;
    rustix::fs::renameat(folder.fd(), &new, folder.fd(), name).map_err(|e| folder.failed("rename", &new, e))?;
    Ok((file, end))
}

/// The one form that a line has.
pub(crate) fn line(digest: Digest, extent: Extent) -> String {
    format!("at {} {} {}\n", digest.hex(), extent.offset, extent.length)
}

/// The line that is written over; always of the same length.
pub(crate) fn moving_line(moving: Option<(&Relocation, u64)>) -> String {
    let nothing = Relocation { digest: Digest::of(b""), from: 0, to: 0, length: 0 };
    let (Relocation { digest, from, to, length }, moved) = moving.unwrap_or((&nothing, 0));
    format!("moving {} {from:020} {to:020} {length:020} {moved:020}\n", digest.hex())
}

pub(crate) const TITLE: &str = "sealift journal 2";
/// Where the line that is written over begins: after the title.
const SLOT: u64 = TITLE.len() as u64 + 1;
/// Of a journal, in bytes: 16 MiB, enough for the 100,000 blobs that a bundle can have.
pub(crate) const MAX_LENGTH: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::resume::extent_map::{ExtentMap, parse};

    fn extent(offset: u64, length: u64) -> Extent {
        Extent { offset, length }
    }

    fn read(dir: &tempfile::TempDir) -> ExtentMap {
        parse(&std::fs::read(dir.path().join("j")).unwrap().into(), 1 << 40)
    }

    #[test]
    fn what_is_written_over_lies_in_the_first_page() {
        let step = Relocation { digest: Digest::of(b"x"), from: u64::MAX, to: 0, length: 0 };
        assert!(SLOT + moving_line(Some((&step, 0))).len() as u64 <= 4096);
        assert_eq!(moving_line(None).len(), moving_line(Some((&step, 9))).len());
    }

    #[test]
    fn a_journal_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Directory::open(dir.path()).unwrap();
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| Digest::of(bytes));
        let journal = Journal::begin(&folder, "j", HashMap::from([(a, extent(512, 7))]), None).unwrap();
        journal.note(b, extent(1024, 5)).unwrap();
        journal.note(b, extent(1024, 9)).unwrap();
        journal.note(c, extent(4096, 9)).unwrap();
        journal.note(c, extent(4096, 0)).unwrap();
        let held = [(a, extent(512, 7)), (b, extent(1024, 9)), (c, extent(4096, 0))];
        assert_eq!(read(&dir).held, HashMap::from(held));
        let step = Relocation { digest: b, from: 1024, to: 8192, length: 9 };
        journal.moving(&step, 4).unwrap();
        assert_eq!(read(&dir).moving, Some((step, 4)));
        journal.note(b, extent(8192, 9)).unwrap();
        assert_eq!(read(&dir).moving, None);
        assert!(!dir.path().join("j.new").exists());
    }

    #[test]
    fn it_is_written_anew_before_it_is_too_large() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Directory::open(dir.path()).unwrap();
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let journal = Journal::begin(&folder, "j", HashMap::from([(a, extent(512, 7))]), None).unwrap();
        journal.lines.lock().unwrap().end = MAX_LENGTH - 10;
        journal.note(b, extent(1024, 9)).unwrap();
        journal.note(b, extent(1024, 10)).unwrap();
        assert_eq!(read(&dir).held, HashMap::from([(a, extent(512, 7)), (b, extent(1024, 10))]));
        assert!(dir.path().join("j").metadata().unwrap().len() < 1000);
    }
}
