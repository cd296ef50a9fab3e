//! `.BUNDLE.journal`: what an unfinished bundle will be, and what of an archive is there.
//!
//! ```text
//! sealift journal 0                    what it is
//! request <hex>                        what was asked for
//! head <length>                        so many bytes follow: the beginning of the archive, seal and head, as it will be
//! ...
//! done <hex>                           a blob whose bytes are in the archive, a line each
//! ```
//!
//! The head pins the plan: the same command goes on with it although tags may have moved, with the same signatures
//! and time, so that the result is the same to the byte. Nothing here is believed: the head must hold together, be
//! signed by the keys at hand, and what is done is hashed again. A last line that was cut off does not count.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};

use super::super::carrier::Carrier;
use super::super::checksums::Checksums;
use super::super::files::{Folder, blocking, remove};
use super::super::seal::{Seal, signature_name};
use super::super::sealing::{HeadFiles, Sealed};
use super::At;
use super::chain::{head_length, seal_length, write_head, write_seal};
use super::members::Members;
use crate::error::{Error, Result};
use crate::oci::{Digest, Reference};
use crate::place::{Contents, Named, Origin};
use crate::trust::SigningKey;

/// The journal of the archive that is being made, open for more lines.
#[derive(Debug)]
pub(in super::super) struct Journal {
    file: File,
    shown: String,
}

/// What an earlier run left.
#[derive(Debug)]
pub(in super::super) struct Recalled {
    /// What was asked for; nothing if the journal is gone already.
    pub(in super::super) request: Option<Digest>,
    pub(in super::super) created: Timestamp,
    /// To go on with, once.
    pub(in super::super) contents: Option<Contents>,
    pub(in super::super) sums: Bytes,
    /// File name and text.
    pub(in super::super) signatures: Vec<(String, String)>,
    /// Said to be there.
    pub(in super::super) done: Vec<Digest>,
    /// To go on with.
    pub(in super::super) journal: Option<Journal>,
}

impl Journal {
    /// Begins a new one in place of any other.
    pub(in super::super) fn begin(
        folder: &Folder,
        name: &str,
        request: Digest,
        sealed: &Sealed,
        contents: &Contents,
    ) -> Result<Journal> {
        let file = open(folder, name, OFlags::CREATE | OFlags::TRUNC).map_err(|e| folder.failed("create", name, e))?;
        let shown = folder.shown(name);
        let failed = |e| Error::io(format!("cannot write {shown}"), e);
        let length = seal_length(sealed) + head_length(sealed, contents);
        let mut writer = BufWriter::new(&file);
        write!(writer, "{TITLE}\nrequest {}\nhead {length}\n", request.hex()).map_err(failed)?;
        let mut sink = |bytes: &[u8]| writer.write_all(bytes).map_err(failed);
        write_seal(sealed, &mut sink)?;
        write_head(sealed, contents, &mut sink)?;
        writer.flush().map_err(failed)?;
        drop(writer);
        rustix::fs::fdatasync(&file).map_err(|e| failed(e.into()))?;
        Ok(Journal { file, shown })
    }

    /// Notes that all bytes of a blob are in the archive.
    pub(in super::super) fn done(&self, digest: Digest) -> Result<()> {
        // One write, appended: lines of several tasks do not mix.
        (&self.file)
            .write_all(format!("done {}\n", digest.hex()).as_bytes())
            .map_err(|e| Error::io(format!("cannot write {}", self.shown), e))
    }

    /// Reads the one that is there. One that is of no use is as good as none.
    pub(in super::super) fn recall(folder: &Folder, name: &str) -> Result<Option<Recalled>> {
        let Ok(file) = open(folder, name, OFlags::empty()) else { return Ok(None) };
        let shown = folder.shown(name);
        match read(file, &shown) {
            Err(e) if e.kind() == crate::error::Kind::Io => Err(e),
            read => Ok(read.ok().flatten()),
        }
    }

    /// Reads an archive that has its seal and not yet its name as if it were a journal.
    pub(in super::super) fn recall_sealed(file: &Arc<File>, shown: &str) -> Option<Recalled> {
        let input = BufReader::new(At { file: file.clone(), offset: 0 });
        let mut recalled = read_head(Members::new(Box::new(input), shown.to_owned(), 0)).ok()?;
        let contents = recalled.contents.as_ref()?;
        recalled.done = contents.blobs.iter().map(|blob| blob.digest).collect();
        Some(recalled)
    }

    pub(in super::super) fn remove(folder: &Folder, name: &str) -> Result<()> {
        remove(folder, name)
    }
}

impl Recalled {
    /// Whether it is signed by these keys and no others: else it would not be what is asked for.
    pub(in super::super) fn is_signed_by(&self, keys: &[SigningKey]) -> bool {
        let own: HashSet<String> =
            keys.iter().map(|key| signature_name(&key.public_key().key_id().to_string())).collect();
        let found: HashSet<String> = self.signatures.iter().map(|(name, _)| name.clone()).collect();
        own == found
    }
}

/// The signed head of a bundle with `contents`, and its time. When it is what `recalled` planned, then with the
/// signatures from there, and `recalled` comes back to be gone on with.
pub(in super::super) async fn seal(
    contents: &Contents,
    created: Timestamp,
    keys: &Arc<Vec<SigningKey>>,
    request: Option<Digest>,
    recalled: Option<Recalled>,
) -> Result<(Timestamp, Sealed, Option<Recalled>)> {
    let created = match &recalled {
        Some(recalled) if request.is_some() && recalled.request == request => recalled.created,
        _ => created,
    };
    let head = HeadFiles::new(contents, created)?;
    if let Some(mut recalled) = recalled
        && recalled.sums == head.sums()
    {
        let signatures = std::mem::take(&mut recalled.signatures);
        return Ok((created, head.signed(signatures), Some(recalled)));
    }
    let keys = keys.clone();
    // May wait for a passphrase or a touch.
    Ok((created, blocking(move || head.seal(&keys)).await?, None))
}

fn open(folder: &Folder, name: &str, more: OFlags) -> rustix::io::Result<File> {
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | more;
    rustix::fs::openat(folder.fd(), name, flags, Mode::from_raw_mode(0o644)).map(File::from)
}

fn read(file: File, shown: &str) -> Result<Option<Recalled>> {
    let failed = |e| Error::io(format!("cannot read {shown}"), e);
    let mut input = BufReader::new(file.try_clone().map_err(failed)?);
    let mut line = || -> Result<Option<String>> {
        let mut text = String::new();
        let read = input.by_ref().take(MAX_LINE).read_line(&mut text);
        match read {
            Ok(_) => Ok(text.strip_suffix('\n').map(str::to_owned)),
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => Ok(None),
            Err(e) => Err(failed(e)),
        }
    };
    if line()?.as_deref() != Some(TITLE) {
        return Ok(None);
    }
    let request = line()?.and_then(|text| Digest::from_hex(text.strip_prefix("request ")?));
    let length = line()?.and_then(|text| text.strip_prefix("head ")?.parse::<u64>().ok());
    let (Some(request), Some(length)) = (request, length) else { return Ok(None) };
    let begin = input.stream_position().map_err(failed)?;
    let own = Arc::new(file.try_clone().map_err(failed)?);
    let head = BufReader::new(At { file: own, offset: begin }).take(length);
    let mut recalled = read_head(Members::new(Box::new(head), shown.to_owned(), 0))?;
    recalled.request = Some(request);
    let mut end = begin + length;
    input.seek(SeekFrom::Start(end)).map_err(failed)?;
    let mut text = String::new();
    while input.by_ref().take(MAX_LINE).read_line(&mut text).is_ok_and(|count| count > 0) {
        let done = text.strip_suffix('\n').and_then(|text| Digest::from_hex(text.strip_prefix("done ")?));
        let Some(digest) = done else { break };
        recalled.done.push(digest);
        end += text.len() as u64;
        text.clear();
    }
    // The rest of a torn line must not become the beginning of the next.
    file.set_len(end).map_err(failed)?;
    recalled.journal = Some(Journal { file, shown: shown.to_owned() });
    Ok(Some(recalled))
}

fn read_head(mut members: Members) -> Result<Recalled> {
    let sums = members.sums()?;
    let signatures = members.signatures()?;
    let text = |(name, bytes): &(String, Bytes)| (name.clone(), String::from_utf8_lossy(bytes).into_owned());
    let texts = signatures.iter().map(text).collect();
    let mut memory = Memory { members, sums: sums.clone(), signatures };
    let seal = Seal::look(&mut memory)?;
    let head = (&mut memory as &mut dyn Carrier).read_head(seal.0)?;
    let contents = Arc::into_inner(head.contents);
    let created = head.created;
    Ok(Recalled { request: None, created, contents, sums, signatures: texts, done: Vec::new(), journal: None })
}

/// A head without what follows it.
struct Memory {
    members: Members,
    sums: Bytes,
    signatures: Vec<(String, Bytes)>,
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

    fn check_closed(&mut self, _: &Checksums, _: &std::collections::BTreeMap<Digest, u64>, _: &Contents) -> Result<()> {
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

const TITLE: &str = "sealift journal 0";
/// The longest line, in bytes.
const MAX_LINE: u64 = 128;
