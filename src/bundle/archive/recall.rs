//! What an earlier run left, and what of it can be gone on with.
//!
//! Nothing in a journal is believed: its head must hold together, be signed by the keys at hand, and all that it says
//! is there is hashed again. A last line that was cut off does not count.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::OFlags;

use super::super::carrier::Carrier;
use super::super::checksums::Checksums;
use super::super::files::{Folder, blocking};
use super::super::seal::{Seal, signature_name};
use super::super::sealing::{HeadFiles, Sealed};
use super::At;
use super::chain::Chain;
use super::journal::{Journal, Line, TITLE, from_json, open, parse_moving};
use super::members::Members;
use super::moves::{Extent, Step};
use crate::error::{Error, Failure, Kind, Result};
use crate::oci::{Digest, Reference};
use crate::place::{Contents, Named, Origin};
use crate::trust::SigningKey;

/// A plan that is gone on with.
#[derive(Debug)]
pub struct Pinned {
    /// What is in it.
    pub contents: Contents,
    /// What was asked for and is not in it, and why.
    pub left_out: Vec<Failure>,
}

/// What an earlier run left.
#[derive(Debug)]
pub(in super::super) struct Recalled {
    /// What was asked for; nothing if the journal is gone already.
    request: Option<Digest>,
    created: Timestamp,
    /// To go on with, once.
    contents: Option<Contents>,
    left_out: Vec<Failure>,
    sums: Bytes,
    /// File name and text.
    signatures: Vec<(String, String)>,
    /// Where bytes of blobs are in the archive, from their first on.
    pub(super) held: HashMap<Digest, Extent>,
    /// What was on its way, and how much of it had arrived.
    pub(super) moving: Option<(Step, u64)>,
    /// To go on with.
    pub(super) journal: Option<Journal>,
}

impl Recalled {
    /// Reads the journal that is there. One that is of no use is as good as none.
    pub(in super::super) fn from_journal(folder: &Folder, name: &str) -> Result<Option<Recalled>> {
        let Ok(file) = open(folder, name, OFlags::empty()) else { return Ok(None) };
        match read(file, folder, name) {
            Err(e) if e.kind() == Kind::Io => Err(e),
            read => Ok(read.ok().flatten()),
        }
    }

    /// Reads an archive that has its seal and not yet its name as if it were a journal.
    pub(super) fn from_seal(file: &Arc<File>, shown: &str) -> Option<Recalled> {
        let input = BufReader::new(At { file: file.clone(), offset: 0 });
        let (mut recalled, chain) = read_head(Members::new(Box::new(input), shown.to_owned(), 0)).ok()?;
        let contents = recalled.contents.as_ref()?;
        let place = |id| (contents.blob(id).digest, Extent { offset: chain.blob(id), length: contents.blob(id).size });
        recalled.held = contents.blob_ids().map(place).collect();
        Some(recalled)
    }

    /// The plan, if it was made for this request. The second time there is none.
    pub(in super::super) fn pinned(&mut self, request: Option<Digest>) -> Option<Pinned> {
        self.is_for(request).then_some(())?;
        let contents = self.contents.take()?;
        Some(Pinned { contents, left_out: std::mem::take(&mut self.left_out) })
    }

    /// Whether it was planned for this request.
    pub(super) fn is_for(&self, request: Option<Digest>) -> bool {
        request.is_some() && self.request == request
    }

    /// Whether it is signed by these keys and no others: else its seal would not be what is asked for.
    pub(in super::super) fn is_signed_by(&self, keys: &[SigningKey]) -> bool {
        let own: HashSet<String> =
            keys.iter().map(|key| signature_name(&key.public_key().key_id().to_string())).collect();
        let found: HashSet<String> = self.signatures.iter().map(|(name, _)| name.clone()).collect();
        own == found
    }

    /// Forgets what was planned, and keeps only what is there.
    pub(super) fn forget_plan(&mut self) {
        self.request = None;
        self.contents = None;
        self.sums = Bytes::new();
    }
}

/// The signed head of a bundle with `contents`, and its time: that of `recalled` if it was made for the same request.
/// When it is what `recalled` planned, then it comes with the signatures from there, and the answer is yes.
pub(in super::super) async fn seal(
    contents: &Contents,
    created: Timestamp,
    keys: &Arc<Vec<SigningKey>>,
    request: Option<Digest>,
    recalled: Option<&mut Recalled>,
) -> Result<(Timestamp, Sealed, bool)> {
    let created = match &recalled {
        Some(recalled) if recalled.is_for(request) => recalled.created,
        _ => created,
    };
    let head = HeadFiles::new(contents, created)?;
    if let Some(recalled) = recalled
        && recalled.sums == head.sums()
    {
        let signatures = std::mem::take(&mut recalled.signatures);
        return Ok((created, head.signed(signatures), true));
    }
    let keys = keys.clone();
    // May wait for a passphrase or a touch.
    Ok((created, blocking(move || head.seal(&keys)).await?, false))
}

fn read(file: File, folder: &Folder, name: &str) -> Result<Option<Recalled>> {
    let shown = folder.shown(name);
    let failed = |e| Error::io(format!("cannot read {shown}"), e);
    let mut input = BufReader::new(file.try_clone().map_err(failed)?);
    let (Some(title), Some(request)) = (line(&mut input, &shown)?, line(&mut input, &shown)?) else { return Ok(None) };
    let request = request.strip_prefix("request ").and_then(Digest::from_hex);
    let (true, Some(request)) = (title == TITLE, request) else { return Ok(None) };
    let moving = line(&mut input, &shown)?.and_then(|text| parse_moving(&text));
    let Some(left_out) = block(&mut input, &shown, "left-out ")? else { return Ok(None) };
    let mut text = Vec::new();
    input.by_ref().take(left_out).read_to_end(&mut text).map_err(failed)?;
    let (Some(left_out), Some(_)) = (from_json(&text), line(&mut input, &shown)?) else { return Ok(None) };
    let Some(length) = block(&mut input, &shown, "head ")? else { return Ok(None) };
    let begin = input.stream_position().map_err(failed)?;
    let own = Arc::new(file.try_clone().map_err(failed)?);
    let head = BufReader::new(At { file: own, offset: begin }).take(length);
    let (mut recalled, chain) = read_head(Members::new(Box::new(head), shown.clone(), 0))?;
    let mut end = begin + length;
    input.seek(SeekFrom::Start(end)).map_err(failed)?;
    let mut lines = Vec::new();
    while let Some(text) = line(&mut input, &shown)? {
        let Some(line) = Line::parse(&text) else { break };
        lines.push(line);
        end += text.len() as u64 + 1;
    }
    // The rest of a torn line must not become the beginning of the next.
    file.set_len(end).map_err(failed)?;
    recalled.held = held(&recalled, &chain, &lines);
    recalled.moving = moving.filter(|(step, _)| {
        let now = recalled.held.get(&step.digest);
        step.from != step.to && now == Some(&Extent { offset: step.from, length: step.length })
    });
    recalled.request = Some(request);
    recalled.left_out = left_out;
    recalled.journal = Some(Journal::new(file, folder, name)?);
    Ok(Some(recalled))
}

/// The next line, without its line feed; nothing if it was cut off or is no text.
fn line(input: &mut impl BufRead, shown: &str) -> Result<Option<String>> {
    let mut text = String::new();
    match input.take(MAX_LINE).read_line(&mut text) {
        Ok(_) => Ok(text.strip_suffix('\n').map(str::to_owned)),
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => Ok(None),
        Err(e) => Err(Error::io(format!("cannot read {shown}"), e)),
    }
}

/// The length that a line with this word announces.
fn block(input: &mut impl BufRead, shown: &str, word: &str) -> Result<Option<u64>> {
    Ok(line(input, shown)?.and_then(|text| text.strip_prefix(word)?.parse().ok()))
}

/// Where bytes of the planned blobs are, by the last line for each. Nothing at all if they would lie in one another.
fn held(recalled: &Recalled, chain: &Chain, lines: &[Line]) -> HashMap<Digest, Extent> {
    let Some(contents) = &recalled.contents else { return HashMap::new() };
    let planned: HashMap<Digest, Extent> = contents
        .blob_ids()
        .map(|id| (contents.blob(id).digest, Extent { offset: chain.blob(id), length: contents.blob(id).size }))
        .collect();
    let mut held = HashMap::new();
    for line in lines {
        let (digest, extent) = match *line {
            Line::Done(digest) => (digest, planned.get(&digest).copied()),
            Line::Part(digest, length) => (digest, planned.get(&digest).map(|place| Extent { length, ..*place })),
            Line::At(digest, extent) => (digest, planned.contains_key(&digest).then_some(extent)),
        };
        if let Some(extent) = extent.filter(|extent| extent.length <= planned[&digest].length) {
            held.insert(digest, extent);
        }
    }
    let mut places: Vec<Extent> = held.values().copied().collect();
    places.sort_by_key(|place| (place.offset, place.length));
    let apart = places.windows(2).all(|pair| pair[0].end() <= pair[1].offset);
    if apart { held } else { HashMap::new() }
}

/// What a head says, and where its blobs are in the archive that it belongs to.
fn read_head(mut members: Members) -> Result<(Recalled, Chain)> {
    let sums = members.sums()?;
    let signatures = members.signatures()?;
    let text = |(name, bytes): &(String, Bytes)| (name.clone(), String::from_utf8_lossy(bytes).into_owned());
    let texts = signatures.iter().map(text).collect();
    let mut memory = Memory { members, sums: sums.clone(), signatures, chain: None };
    let seal = Seal::look(&mut memory)?;
    let head = (&mut memory as &mut dyn Carrier).read_head(seal.0)?;
    let chain = memory.chain.ok_or_else(|| Error::damaged("a head that ends before its blobs"))?;
    let recalled = Recalled {
        request: None,
        created: head.created,
        contents: Arc::into_inner(head.contents),
        left_out: Vec::new(),
        sums,
        signatures: texts,
        held: HashMap::new(),
        moving: None,
        journal: None,
    };
    Ok((recalled, chain))
}

/// A head without what follows it.
struct Memory {
    members: Members,
    sums: Bytes,
    signatures: Vec<(String, Bytes)>,
    /// Known when all of it was read.
    chain: Option<Chain>,
}

impl Carrier for Memory {
    fn shown(&self, path: &str) -> String {
        self.members.shown(path)
    }

    fn sums(&mut self) -> Result<Bytes> {
        Ok(self.sums.clone())
    }

    fn signatures(&mut self) -> Result<Vec<(String, Bytes)>> {
        Ok(std::mem::take(&mut self.signatures))
    }

    fn top(&mut self, name: &'static str, limit: u64) -> Result<Bytes> {
        self.members.file(name, limit)
    }

    fn document(&mut self, digest: Digest, size: u64) -> Result<Bytes> {
        self.members.document(digest, size)
    }

    fn check_closed(&mut self, _: &Checksums, _: &BTreeMap<Digest, u64>, contents: &Contents) -> Result<()> {
        self.chain = Some(Chain::new(self.members.position(), contents));
        Ok(())
    }

    fn config(&mut self, _: Digest, _: u64) -> Result<bool> {
        Ok(true)
    }

    fn origin(&self, image: &Named) -> Option<Origin> {
        let reference: Reference = image.source.parse().ok()?;
        Some(Origin { host: reference.host, repository: reference.repository })
    }
}

/// The longest line, in bytes.
const MAX_LINE: u64 = 256;
