//! Where an earlier run says that bytes of blobs are in an unfinished archive: read from its journal, or from the
//! archive's own head if that is written already.
//!
//! Others may have written both. So this is a map and no plan: nothing else in it is used, every range is within the
//! file, no two overlap, and whoever uses a range hashes it. What cannot be read as a map is no map.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, Cursor};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::FileType;

use super::journal::{MAX_LENGTH, TITLE, line, moving_line};
use super::relocate::{Extent, Relocation};
use crate::bundle::format::checksums::Checksums;
use crate::bundle::format::head_reader::HeadReader;
use crate::bundle::format::members::MemberReader;
use crate::bundle::format::offsets::MemberOffsets;
use crate::bundle::format::seal::Seal;
use crate::content::{Contents, NamedImage, SourceRepository};
use crate::error::{Error, Kind, Result};
use crate::files::Directory;
use crate::files::reading::ReadFrom;
use crate::oci::Digest;

/// Where bytes of blobs are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ExtentMap {
    /// The first bytes of blobs: none of some. No two extents overlap.
    pub(crate) held: HashMap<Digest, Extent>,
    /// Bytes of one of them that were on their way to another offset, and how many had arrived.
    pub(crate) moving: Option<(Relocation, u64)>,
}

/// Reads the journal `name`, or else the head of the archive `file`, which messages call `shown`.
///
/// # Errors
/// `Io` if the medium cannot be read.
pub(crate) fn read(folder: &Directory, name: &str, file: &Arc<File>, shown: &str) -> Result<ExtentMap> {
    let length = file.metadata().map_err(|e| Error::io(format!("cannot look at {shown}"), e))?.len();
    if length == 0 {
        return Ok(ExtentMap::default());
    }
    let regular = |mode| FileType::from_raw_mode(mode) == FileType::RegularFile;
    let journal = folder.look(OsStr::new(name))?.filter(|stat| regular(stat.st_mode));
    match journal {
        Some(stat) if stat.st_size as u64 <= MAX_LENGTH => match folder.read(name, MAX_LENGTH) {
            Ok(bytes) => Ok(parse(&bytes, length)),
            // It changes while it is read.
            Err(e) if e.kind() == Kind::Damaged => Ok(ExtentMap::default()),
            Err(e) => Err(e),
        },
        Some(_) => Ok(ExtentMap::default()),
        // A run that was stopped between its seal and its name has no journal any more.
        None => {
            let input = BufReader::new(ReadFrom { file: file.clone(), offset: 0 });
            match of_head(MemberReader::new(Box::new(input), shown.to_owned(), 0)) {
                Ok(planned) => Ok(ExtentMap { held: planned, moving: None }.within(length)),
                Err(e) if e.kind() == Kind::Io => Err(e),
                Err(_) => Ok(ExtentMap::default()),
            }
        }
    }
}

/// The map that the bytes of a journal are, for an archive that has `length` bytes now.
pub(crate) fn parse(bytes: &Bytes, length: u64) -> ExtentMap {
    let map = if bytes.starts_with(TITLE.as_bytes()) { parse_lines(bytes) } else { parse_version_1(bytes) };
    map.unwrap_or_default().within(length)
}

impl ExtentMap {
    /// What of it can be true of a file of `length` bytes.
    fn within(self, length: u64) -> ExtentMap {
        let ExtentMap { mut held, moving } = self;
        // A move is finished as a whole or not at all: half of it may lie over the other half.
        let moving = moving.filter(|(step, moved)| {
            // Once a line says that the blob has arrived, the move is over.
            let begun = step.from != step.to && held.get(&step.digest).is_some_and(|now| now.offset == step.from);
            let possible = held.get(&step.digest).is_some_and(|now| now.length == step.length)
                && *moved <= step.length
                && step.from.max(step.to).checked_add(step.length).is_some_and(|end| end <= length);
            if begun && !possible && step.from.abs_diff(step.to) < step.length {
                held.remove(&step.digest);
            }
            begun && possible
        });
        // A medium that was pulled out may have less of the file than of the journal.
        held.values_mut().for_each(|extent| extent.length = extent.length.min(length.saturating_sub(extent.offset)));
        match apart(&held) {
            true => ExtentMap { moving: moving.filter(|(step, _)| held.contains_key(&step.digest)), held },
            false => ExtentMap::default(),
        }
    }
}

/// Whether no two extents overlap.
pub(crate) fn apart(held: &HashMap<Digest, Extent>) -> bool {
    let mut extents: Vec<Extent> = held.values().filter(|extent| extent.length > 0).copied().collect();
    extents.sort_by_key(|extent| (extent.offset, extent.length));
    extents.windows(2).all(|pair| pair[0].end() <= pair[1].offset)
}

/// Lines in the one form in which they are written, up to the first that is not: the last one may be torn.
fn parse_lines(bytes: &[u8]) -> Option<ExtentMap> {
    let mut lines = Lines(bytes);
    (lines.next()? == TITLE).then_some(())?;
    let moving = parse_moving(lines.next()?)?;
    let mut held = HashMap::new();
    while let Some((digest, extent)) = lines.next().and_then(parse_line) {
        held.insert(digest, extent);
    }
    Some(ExtentMap { held, moving: Some(moving) })
}

/// The journal of sealift 0.1, which had a plan, too; of it only offsets are used:
///
/// ```text
/// sealift journal 1
/// request <hex>
/// moving <hex> <from> <to> <bytes> <moved>
/// left-out <length>                              so many bytes follow, and a line end
/// head <length>                                  so many bytes follow: the beginning of the archive as it would be
/// done <hex>                                     all of a blob is where the head has it
/// part <hex> <bytes>                             so many bytes of it are
/// at <hex> <offset> <bytes>                      so many bytes of it are elsewhere
/// ```
fn parse_version_1(bytes: &Bytes) -> Option<ExtentMap> {
    let mut lines = Lines(bytes);
    (lines.next()? == TITLE_1).then_some(())?;
    lines.next()?.strip_prefix("request ").and_then(Digest::from_hex)?;
    let moving = parse_moving(lines.next()?)?;
    let left_out = number(lines.next()?.strip_prefix("left-out ")?)?;
    lines.skip(left_out)?;
    lines.next()?.is_empty().then_some(())?;
    let length = number(lines.next()?.strip_prefix("head ")?)?;
    let head = bytes.slice_ref(lines.skip(length)?);
    let planned = of_head(MemberReader::new(Box::new(Cursor::new(head)), "the journal".into(), 0)).ok()?;
    let mut held = HashMap::new();
    while let Some((digest, extent)) = lines.next().and_then(|text| parse_line_1(text, &planned)) {
        let _ = match planned.get(&digest) {
            Some(place) if extent.length <= place.length => held.insert(digest, extent),
            _ => held.remove(&digest),
        };
    }
    Some(ExtentMap { held, moving: Some(moving) })
}

fn parse_line_1(text: &str, planned: &HashMap<Digest, Extent>) -> Option<(Digest, Extent)> {
    if text.starts_with("at ") {
        return parse_line(text);
    }
    let mut fields = text.split(' ');
    let (word, digest) = (fields.next()?, Digest::from_hex(fields.next()?)?);
    let place = planned.get(&digest).copied().unwrap_or(Extent { offset: 0, length: 0 });
    let extent = match word {
        "done" => place,
        "part" => Extent { length: number(fields.next()?)?, ..place },
        _ => return None,
    };
    fields.next().is_none().then_some((digest, extent))
}

fn parse_line(text: &str) -> Option<(Digest, Extent)> {
    let mut fields = text.strip_prefix("at ")?.split(' ');
    let digest = Digest::from_hex(fields.next()?)?;
    let extent = Extent { offset: number(fields.next()?)?, length: number(fields.next()?)? };
    (line(digest, extent).strip_suffix('\n') == Some(text)).then_some((digest, extent))
}

fn parse_moving(text: &str) -> Option<(Relocation, u64)> {
    let mut fields = text.strip_prefix("moving ")?.split(' ');
    let digest = Digest::from_hex(fields.next()?)?;
    let mut number = || fields.next()?.parse::<u64>().ok();
    let step = Relocation { digest, from: number()?, to: number()?, length: number()? };
    let moved = number()?;
    (moving_line(Some((&step, moved))).strip_suffix('\n') == Some(text)).then_some((step, moved))
}

fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Text in lines, and blocks between them.
struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    /// The next line, without its line feed; nothing if it was cut off, is too long, or is no text.
    fn next(&mut self) -> Option<&'a str> {
        let end = self.0.iter().take(MAX_LINE).position(|byte| *byte == b'\n')?;
        let text = std::str::from_utf8(&self.0[..end]).ok()?;
        self.0 = &self.0[end + 1..];
        Some(text)
    }

    /// The next `length` bytes.
    fn skip(&mut self, length: u64) -> Option<&'a [u8]> {
        let (block, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(block)
    }
}

/// Where the blobs of a bundle with this head are. Who signed it does not matter: what is there is hashed.
fn of_head(mut members: MemberReader) -> Result<HashMap<Digest, Extent>> {
    let sums = members.sums()?;
    members.signatures()?;
    let mut head = Offsets { members, planned: HashMap::new() };
    (&mut head as &mut dyn HeadReader).read_head(Seal::unchecked(sums).0)?;
    Ok(head.planned)
}

/// A head of which only the sizes are used.
struct Offsets {
    members: MemberReader,
    planned: HashMap<Digest, Extent>,
}

impl HeadReader for Offsets {
    fn shown(&self, path: &str) -> String {
        self.members.shown(path)
    }

    fn sums(&mut self) -> Result<Bytes> {
        self.members.sums()
    }

    fn signatures(&mut self) -> Result<Vec<(String, Bytes)>> {
        self.members.signatures()
    }

    fn top(&mut self, name: &'static str, limit: u64) -> Result<Bytes> {
        self.members.file(name, limit)
    }

    fn document(&mut self, digest: Digest, size: u64) -> Result<Bytes> {
        self.members.document(digest, size)
    }

    fn check_closed(&mut self, _: &Checksums, _: &BTreeMap<Digest, u64>, contents: &Contents) -> Result<()> {
        let chain = MemberOffsets::new(self.members.position(), contents);
        let extent = |id| Extent { offset: chain.blob(id), length: contents.blob(id).size };
        self.planned = contents.blob_ids().map(|id| (contents.blob(id).digest, extent(id))).collect();
        Ok(())
    }

    fn config(&mut self, _: Digest, _: u64) -> Result<bool> {
        Ok(true)
    }

    fn origin(&self, _: &NamedImage) -> Option<SourceRepository> {
        None
    }
}

const TITLE_1: &str = "sealift journal 1";
/// The longest line, in bytes.
const MAX_LINE: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(number: u8) -> Digest {
        Digest::of(&[number])
    }

    /// Lines of a journal, some of them in no form in which they are written.
    fn lines() -> impl Strategy<Value = String> {
        let number = prop_oneof![0..5_000u64, Just(u64::MAX), Just(u64::MAX - 1), any::<u64>()];
        let at = (0..4u8, number.clone(), number.clone())
            .prop_map(|(name, offset, length)| line(digest(name), Extent { offset, length }));
        let moving = (0..4u8, number.clone(), number.clone(), number.clone(), number).prop_map(
            |(name, from, to, length, moved)| {
                moving_line(Some((&Relocation { digest: digest(name), from, to, length }, moved)))
            },
        );
        let rest = prop::collection::vec(prop_oneof![4 => at, 1 => "[a-z0-9 +\n]{0,80}"], 0..8);
        (moving, rest).prop_map(|(moving, rest)| format!("{TITLE}\n{moving}{}", rest.concat()))
    }

    fn check(map: &ExtentMap, length: u64) {
        assert!(apart(&map.held), "{map:?}");
        for extent in map.held.values().filter(|extent| extent.length > 0) {
            assert!(extent.offset.checked_add(extent.length).is_some_and(|end| end <= length), "{map:?}");
        }
        if let Some((step, moved)) = &map.moving {
            assert_eq!(map.held[&step.digest], Extent { offset: step.from, length: step.length });
            assert!(*moved <= step.length && step.from.max(step.to) + step.length <= length, "{map:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_journal_says_its_extents_are_in_the_file_and_apart(text in lines(), length in 1..10_000u64) {
            check(&parse(&Bytes::from(text), length), length);
        }

        #[test]
        fn what_is_no_journal_is_no_map(bytes in prop::collection::vec(any::<u8>(), 0..2_000), length in 1..10_000u64) {
            check(&parse(&Bytes::from(bytes.clone()), length), length);
            let titled = [format!("{TITLE_1}\n").as_bytes(), &bytes].concat();
            prop_assert_eq!(parse(&Bytes::from(titled), length), ExtentMap::default());
        }
    }

    #[test]
    fn lines_count_up_to_the_first_in_another_form() {
        let good = line(digest(1), Extent { offset: 512, length: 7 });
        let hex = digest(2).hex();
        for torn in ["at".into(), format!("at {hex} 0600 7\n"), format!("at {hex} +600 7\n"), format!("at {hex} 600\n")]
        {
            let text = format!("{TITLE}\n{}{good}{torn}{}", moving_line(None), line(digest(3), Extent::NOTHING));
            assert_eq!(parse(&Bytes::from(text), 5_000).held.keys().collect::<Vec<_>>(), [&digest(1)], "{torn}");
        }
    }

    #[test]
    fn a_move_that_cannot_be_finished_leaves_what_it_has_not_touched() {
        let map = |from, to, length, moved, file| {
            let step = Relocation { digest: digest(1), from, to, length };
            let held = HashMap::from([(digest(1), Extent { offset: from, length })]);
            ExtentMap { held, moving: Some((step, moved)) }.within(file)
        };
        // The file is too short for the place where it goes, and nothing lies over itself.
        let apart = map(512, 4_000, 1_000, 500, 3_000);
        assert_eq!((apart.held.len(), apart.moving), (1, None));
        // It overlaps: some of it is in neither place whole.
        assert_eq!(map(512, 600, 1_000, 500, 1_550), ExtentMap::default());
        assert!(map(512, 600, 1_000, 500, 1_600).moving.is_some());
    }
}
