//! Members of an archive, one after the other. Headers are not interpreted: each is computed and compared.

use std::io::{ErrorKind, Read};

use bytes::Bytes;

use super::blobs::blob_path;
use super::limits;
use super::seal::{check_count, is_signature_name};
use super::{SIGNATURES, SUMS};
use crate::error::{Error, Result};
use crate::oci::Digest;

/// A header, or 512 bytes that should be one.
pub(crate) type Block = [u8; BLOCK as usize];

/// The unit of ustar, in bytes.
pub(crate) const BLOCK: u64 = 512;
/// Two blocks of zeros end the archive.
pub(crate) const END: u64 = 2 * BLOCK;

/// The one header that a member of this path and size (bytes) has: ustar (POSIX.1-1988), mode 0644, everything else
/// zero or empty, to the byte as GNU tar (`--format=ustar`) and Go write it. A size of 8 GiB or more does not fit its
/// octal digits and is written in base 256, as GNU tar reads it.
pub(crate) fn header(path: &str, size: u64) -> Block {
    let mut header = tar::Header::new_ustar();
    header.set_path(path).expect("paths of a bundle are relative and have at most 77 characters");
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_device_major(0).and_then(|()| header.set_device_minor(0)).expect("a ustar header has these fields");
    header.set_cksum();
    let mut block = *header.as_bytes();
    // Seven digits and a zero, where everybody else has six digits, a zero and a space: the sum never has more.
    block.copy_within(SUM.start + 1..SUM.end, SUM.start);
    block[SUM.end - 1] = b' ';
    block
}

/// How many zeros follow `size` bytes.
pub(crate) fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK) - size
}

/// What a member takes up, in bytes: header, content, padding.
pub(crate) fn extent(size: u64) -> u64 {
    BLOCK + size.next_multiple_of(BLOCK)
}

/// Reads members as they come.
pub(crate) struct MemberReader {
    input: Box<dyn Read + Send>,
    /// The archive, for messages.
    shown: String,
    /// Of the next byte that comes from `input`.
    offset: u64,
    /// A header that was read and belongs to the member that comes next.
    waiting: Option<Block>,
}

impl MemberReader {
    /// `input` stands at `offset` of the archive that messages call `shown`.
    pub(crate) fn new(input: Box<dyn Read + Send>, shown: String, offset: u64) -> MemberReader {
        MemberReader { input, shown, offset, waiting: None }
    }

    /// A member's path for a message.
    pub(crate) fn shown(&self, path: &str) -> String {
        shown_member(&self.shown, path)
    }

    /// Where the next member begins.
    pub(crate) fn position(&self) -> u64 {
        self.offset - if self.waiting.is_some() { BLOCK } else { 0 }
    }

    /// `SHA256SUMS`: the first member.
    pub(crate) fn sums(&mut self) -> Result<Bytes> {
        let block = self.block()?;
        if block == [0; BLOCK as usize] {
            return Err(Error::damaged(format!("{} is not a whole bundle: it begins with zeros", self.shown))
                .hint("the seal is written last: let the export end, or copy the bundle again from its medium"));
        }
        if !block.starts_with(SUMS.as_bytes()) {
            return Err(Error::damaged(format!("{} is not a bundle: it does not begin with {SUMS}", self.shown))
                .hint(OTHER_HANDS));
        }
        self.waiting = Some(block);
        self.file(SUMS, limits::SUMS_BYTES)
    }

    /// Every file of `signatures/`: the members that follow it.
    pub(crate) fn signatures(&mut self) -> Result<Vec<(String, Bytes)>> {
        let mut found: Vec<(String, Bytes)> = Vec::new();
        loop {
            let block = self.block()?;
            self.waiting = Some(block);
            let Some(name) = signature_of(&block) else { return Ok(found) };
            check_count(found.len())?;
            if found.last().is_some_and(|(last, _)| *last >= name) {
                return Err(Error::damaged(format!("{}: signatures are not in order", self.shown)).hint(OTHER_HANDS));
            }
            let bytes = self.file(&format!("{SIGNATURES}/{name}"), limits::SIGNATURE_BYTES)?;
            found.push((name, bytes));
        }
    }

    /// A member whose size only its header tells.
    pub(crate) fn file(&mut self, path: &str, limit: u64) -> Result<Bytes> {
        let offset = self.position();
        let block = self.block()?;
        let size = tar::Header::from_byte_slice(&block).entry_size().unwrap_or(u64::MAX);
        check_header(&self.shown, path, size, offset, &block)?;
        if size > limit {
            return Err(Error::damaged(format!("{} has {size} bytes, more than {limit}", self.shown(path))));
        }
        self.content(size)
    }

    /// A manifest or index; `size` is within its limit.
    pub(crate) fn document(&mut self, digest: Digest, size: u64) -> Result<Bytes> {
        self.enter(digest, size)?;
        self.content(size)
    }

    /// Goes past the header of a blob.
    pub(crate) fn enter(&mut self, digest: Digest, size: u64) -> Result<()> {
        let offset = self.position();
        let block = self.block()?;
        check_header(&self.shown, &blob_path(digest), size, offset, &block)
    }

    /// All of a member's content, and its padding.
    pub(crate) fn content(&mut self, size: u64) -> Result<Bytes> {
        let mut bytes = vec![0; size as usize];
        self.read_exact(&mut bytes)?;
        self.pad(size)?;
        Ok(bytes.into())
    }

    /// Goes past the padding after `size` bytes of content.
    pub(crate) fn pad(&mut self, size: u64) -> Result<()> {
        let (offset, mut block) = (self.offset, [0; BLOCK as usize]);
        let zeros = &mut block[..padding(size) as usize];
        self.read_exact(zeros)?;
        check_zeros(&self.shown, offset, zeros)
    }

    /// Nothing but the end may follow.
    pub(crate) fn end(&mut self) -> Result<()> {
        let (offset, mut zeros) = (self.offset, [0; END as usize]);
        self.read_exact(&mut zeros)?;
        check_zeros(&self.shown, offset, &zeros)?;
        let mut one = [0];
        loop {
            return match self.input.read(&mut one) {
                Ok(0) => Ok(()),
                Ok(_) => Err(trailing(&self.shown, self.offset)),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => Err(self.failed(e)),
            };
        }
    }

    /// The next bytes of a member's content, all that fit into `buffer`.
    pub(crate) fn read_exact(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.input.read_exact(buffer).map_err(|e| self.failed(e))?;
        self.offset += buffer.len() as u64;
        Ok(())
    }

    fn block(&mut self) -> Result<Block> {
        match self.waiting.take() {
            Some(block) => Ok(block),
            None => {
                let mut block = [0; BLOCK as usize];
                self.read_exact(&mut block)?;
                Ok(block)
            }
        }
    }

    fn failed(&self, error: std::io::Error) -> Error {
        let (shown, offset) = (&self.shown, self.offset);
        match error.kind() {
            ErrorKind::UnexpectedEof => Error::damaged(format!("{shown} ends early, after byte {offset}"))
                .hint("it was cut off: copy it again from its medium, or send it again"),
            // What the system reports has a number; the rest is said by a decoder.
            _ if error.raw_os_error().is_none() && error.kind() != ErrorKind::BrokenPipe => {
                Error::damaged(format!("{shown} is damaged after byte {offset} of what it unpacks to"))
                    .caused_by(error)
                    .hint("copy the bundle again from its medium; if that does not help, ask its sender for it again")
            }
            _ => Error::io(format!("cannot read {shown} after byte {offset}"), error)
                .hint("the medium may be failing: copy the bundle to another one, or ask for it again"),
        }
    }
}

/// Compares a header with the one that the head asks for.
pub(crate) fn check_header(shown: &str, path: &str, size: u64, offset: u64, found: &[u8]) -> Result<()> {
    // A size that no path of a bundle can have would not be computed into a header of the same form.
    if size <= limits::BLOB_BYTES && header(path, size) == found {
        return Ok(());
    }
    Err(Error::damaged(format!("{shown}: at byte {offset} is not the header of {path} that a bundle has there"))
        .hint(OTHER_HANDS))
}

pub(crate) fn check_zeros(shown: &str, offset: u64, bytes: &[u8]) -> Result<()> {
    match bytes.iter().position(|byte| *byte != 0) {
        None => Ok(()),
        Some(first) => {
            Err(Error::damaged(format!("{shown}: byte {} is between files and not zero", offset + first as u64))
                .hint(OTHER_HANDS))
        }
    }
}

/// The error for what goes on where the archive ends.
pub(crate) fn trailing(shown: &str, offset: u64) -> Error {
    Error::damaged(format!("{shown} goes on after the end of the bundle, at byte {offset}"))
        .hint("find out who put something there, then ask for the bundle again")
}

/// A member's path for a message; the archive itself for an empty path.
pub(crate) fn shown_member(archive: &str, path: &str) -> String {
    if path.is_empty() { archive.to_owned() } else { format!("{archive}: {path}") }
}

/// The file name of the signature whose header this may be. It is compared in full when it is read.
fn signature_of(block: &Block) -> Option<String> {
    let path = block[..100].split(|byte| *byte == 0).next()?;
    let name = std::str::from_utf8(path).ok()?.strip_prefix(SIGNATURES)?.strip_prefix('/')?;
    is_signature_name(name).then(|| name.to_owned())
}

/// Where a header has the sum of its bytes.
const SUM: std::ops::Range<usize> = 148..156;

const OTHER_HANDS: &str = "a copy that was damaged is to be copied again; of a tar that another program made, unpack the files (tar -xf) into a new directory and give that";
