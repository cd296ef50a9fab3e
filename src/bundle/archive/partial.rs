//! `.BUNDLE.tar.partial`: the locked file in which an archive is made, and its journal beside it.

use std::fs::File;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, FallocateFlags, FileType};
use rustix::io::Errno;

use crate::bundle::format::members::{BLOCK, END, shown_member};
use crate::bundle::format::offsets::{ZEROS, write_seal};
use crate::bundle::format::top_level::Sealed;
use crate::bundle::resume::extent_map::{self, ExtentMap};
use crate::bundle::resume::free_space::{FileSystem, SpaceNeeded};
use crate::bundle::resume::journal::{self, Journal};
use crate::bundle::resume::output::{OutputForm, OutputPath};
use crate::bundle::resume::relocate::{self, Extent, Relocation, order};
use crate::error::{Error, Kind, Result};
use crate::files::{
    BUFFER, FLUSH, Filling, Lock, OwnFile, Permissions, Publish, Reading, WORTH_FLUSHING, own_file, publish, remove,
};
use crate::oci::Digest;

/// Where an archive is made.
#[derive(Debug)]
pub(super) struct PartialArchive {
    output: OutputPath,
    file: Arc<File>,
    permissions: Permissions,
    medium: FileSystem,
    /// Whether the file was there before.
    existed: bool,
    /// Where an earlier run says that bytes of blobs are.
    map: ExtentMap,
    /// Whether something was fetched that is worth keeping.
    worth: AtomicBool,
    _lock: Lock,
}

impl PartialArchive {
    /// Opens what is there, or makes it, and locks it.
    pub(super) fn open(output: &Path) -> Result<PartialArchive> {
        let output = OutputPath::new(output, OutputForm::File)?;
        let (parent, name) = (output.parent(), output.partial());
        let (own, lock) = own_file(parent, &name, &output.probe(), |file| output.lock(file))?;
        let OwnFile { file, existed, permissions } = own;
        let file = Arc::new(file);
        let map = extent_map::read(parent, &output.journal(), &file, &parent.shown(&name))?;
        let worth = AtomicBool::new(map.held.values().any(|extent| extent.length > 0));
        let medium = FileSystem::of(parent, parent.shown(""));
        Ok(PartialArchive { output, file, permissions, medium, existed, map, worth, _lock: lock })
    }

    /// What an earlier run left: whether its file was there, and whether the file system keeps its owner and mode.
    pub(super) fn earlier(&self) -> (bool, Permissions) {
        (self.existed, self.permissions)
    }

    /// Where an earlier run says that bytes of blobs are; nothing the second time.
    pub(super) fn take_map(&mut self) -> ExtentMap {
        std::mem::take(&mut self.map)
    }

    /// Where it is, and will be.
    pub(super) fn output(&self) -> &OutputPath {
        &self.output
    }

    /// Whether holes are filled with zeros before what is behind them can be written.
    pub(super) fn fills_holes(&self) -> bool {
        self.medium.zero_fills_gaps()
    }

    /// Notes that what is there is worth keeping.
    pub(super) fn is_worth_keeping(&self) {
        self.worth.store(true, Ordering::Relaxed);
    }

    /// Its path, for messages.
    pub(super) fn shown(&self) -> String {
        self.output.parent().shown(self.output.partial())
    }

    pub(super) fn failed(&self, error: std::io::Error) -> Error {
        Error::io(format!("cannot write {}", self.shown()), error)
    }

    pub(super) fn length(&self) -> Result<u64> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(|e| self.failed(e))
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|e| Error::io(format!("cannot write {} at byte {offset}", self.shown()), e))
    }

    /// Forgets what is there.
    pub(super) fn clear(&self) -> Result<()> {
        self.file.set_len(0).map_err(|e| self.failed(e))
    }

    /// Makes sure that what is there is no bundle: a seal would vouch for what is not durable yet, or is moved.
    pub(super) fn break_seal(&self) -> Result<()> {
        // Under its final name it is finished, whoever gave it that.
        if !self.output.parent().names(&self.output.partial(), &self.file)? {
            return Err(self.output.exists());
        }
        match self.length()? {
            0 => Ok(()),
            _ => self.write(0, &ZEROS[..BLOCK as usize]),
        }
    }

    /// Refuses a length (in bytes) for which the medium has no room. What is there already counts.
    pub(super) fn check(&self, length: u64) -> Result<()> {
        let allocated = self.file.metadata().map_err(|e| self.failed(e))?.blocks() * 512;
        let needs = SpaceNeeded {
            bytes: self.medium.room(length).saturating_sub(allocated),
            files: 1,
            largest: (length, "the bundle".into()),
            names: 0,
            instead: ", or export to a directory (a name without .tar)",
        };
        self.medium.check(&needs)
    }

    /// Gives the file its length, and room for it where the medium can promise that.
    pub(super) fn allocate(&self, length: u64) -> Result<()> {
        if self.fills_holes() {
            let now = self.length()?;
            return if now > length { self.file.set_len(length).map_err(|e| self.failed(e)) } else { Ok(()) };
        }
        match rustix::fs::fallocate(&*self.file, FallocateFlags::empty(), 0, length) {
            Err(e @ (Errno::NOSPC | Errno::FBIG | Errno::DQUOT)) => Err(self.failed(e.into())),
            _ => self.file.set_len(length).map_err(|e| self.failed(e)),
        }
    }

    /// So many bytes from `offset` on.
    pub(super) fn reading(&self, path: &str, offset: u64, length: u64) -> Result<Reading> {
        let shown = shown_member(&self.shown(), path).into();
        let file = self.file.try_clone().map_err(|e| self.failed(e))?;
        Ok(Reading { file, shown, offset, end: offset + length })
    }

    /// Goes on with what was on its way when it was killed.
    pub(super) fn finish_move(
        &self,
        journal: &Journal,
        step: &Relocation,
        moved: u64,
        go_on: &dyn Fn() -> bool,
    ) -> Result<()> {
        relocate::relocate(&self.file, &self.shown(), step, moved, go_on, &mut |moved| journal.moving(step, moved))
    }

    /// Brings everything in `wanted` from where it is to where it is to be.
    pub(super) fn rearrange(&self, journal: &Journal, wanted: &[Relocation], go_on: &dyn Fn() -> bool) -> Result<()> {
        for step in order(wanted) {
            journal.moving(&step, 0)?;
            self.finish_move(journal, &step, 0, go_on)?;
            journal.note(step.digest, Extent { offset: step.to, length: step.length })?;
        }
        Ok(())
    }

    /// Makes everything durable, seals it, and gives it its name.
    pub(super) fn finish(self: &Arc<Self>, sealed: &Sealed, end: u64) -> Result<()> {
        let sync = || rustix::fs::fdatasync(&*self.file).map_err(|e| self.failed(e.into()));
        self.write(end, &ZEROS)?;
        if self.length()? != end + END {
            return Err(Error::new(Kind::Io, format!("{} has another length", self.shown()))
                .hint("something else works on that file: let it end, then run the same command again"));
        }
        sync()?;
        let sealed = self.seal(sealed).and_then(|()| sync());
        if sealed.is_err() {
            // What is not durable is not to look finished. The journal is still there.
            let _ = self.break_seal();
            return sealed;
        }
        // From here on it is a whole bundle, and stays one: if it gets no name, the next run reads where its blobs are
        // from its own head.
        let publish = |when| {
            publish(&*self.file, FileType::RegularFile, self.permissions, when).map_err(|e| self.failed(e.into()))
        };
        publish(Publish::BeforeRename)?;
        journal::remove(self.output.parent(), &self.output.journal())?;
        self.output.give_name(&self.file)?;
        // Without it the bundle is as good, and its owner's alone to write.
        let _ = publish(Publish::AfterRename);
        Ok(())
    }

    fn seal(self: &Arc<Self>, sealed: &Sealed) -> Result<()> {
        let mut region = Region::new(self, 0);
        write_seal(sealed, &mut |bytes| region.write(bytes))?;
        region.finish()
    }
}

impl Drop for PartialArchive {
    /// A run that fetched nothing leaves nothing.
    fn drop(&mut self) {
        let (parent, name) = (self.output.parent(), self.output.partial());
        if !*self.worth.get_mut() && parent.names(&name, &self.file).unwrap_or(false) {
            let _ = remove(parent, &name);
            let _ = journal::remove(parent, &self.output.journal());
        }
    }
}

/// A part of the file that is written from its beginning to its end, in large pieces.
pub(super) struct Region {
    site: Arc<PartialArchive>,
    /// Where the buffer belongs.
    offset: u64,
    buffer: Vec<u8>,
    flushed: u64,
}

impl Region {
    pub(super) fn new(site: &Arc<PartialArchive>, offset: u64) -> Region {
        Region { site: site.clone(), offset, buffer: Vec::new(), flushed: offset }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() >= BUFFER {
            self.drain()?;
        }
        if bytes.len() >= BUFFER {
            return self.write_out(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.drain()?;
        if self.offset - self.flushed >= WORTH_FLUSHING {
            self.flush();
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.write_out(&buffer)?;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    fn write_out(&mut self, bytes: &[u8]) -> Result<()> {
        self.site.write(self.offset, bytes)?;
        self.offset += bytes.len() as u64;
        if self.offset - self.flushed >= FLUSH {
            self.flush();
        }
        Ok(())
    }

    /// Starts writing to the medium without waiting for it: else all of it is written in one long sync.
    fn flush(&mut self) {
        let length = NonZeroU64::new(self.offset - self.flushed);
        let _ = rustix::fs::fadvise(&*self.site.file, self.flushed, length, Advice::DontNeed);
        self.flushed = self.offset;
    }
}

impl Filling for Region {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Region::write(self, bytes)
    }

    fn start_over(&mut self) -> Result<()> {
        Err(Error::new(Kind::Io, "what leads up to the blobs is written once"))
    }
}

/// The content of a blob, of which the journal is told from time to time how much is there.
pub(super) struct JournaledBlob {
    region: Region,
    journal: Arc<Journal>,
    digest: Digest,
    /// Of its first byte.
    begin: u64,
    /// What the journal says is there, in bytes.
    noted: u64,
}

impl JournaledBlob {
    /// `there` bytes are in place already.
    pub(super) fn new(
        site: &Arc<PartialArchive>,
        journal: &Arc<Journal>,
        digest: Digest,
        begin: u64,
        there: u64,
    ) -> JournaledBlob {
        let journal = journal.clone();
        JournaledBlob { region: Region::new(site, begin + there), journal, digest, begin, noted: there }
    }

    /// Writes what is still in memory, and the padding.
    pub(super) fn finish(mut self, padding: &[u8]) -> Result<()> {
        self.region.write(padding)?;
        self.region.finish()
    }

    /// Notes what is there, for the next run.
    pub(super) fn keep(mut self) -> Result<()> {
        self.region.drain()?;
        self.note()
    }

    /// Notes that nothing is.
    pub(super) fn give_up(self) -> Result<()> {
        if self.noted > 0 { self.journal.note(self.digest, Extent::NOTHING) } else { Ok(()) }
    }

    fn note(&mut self) -> Result<()> {
        self.noted = self.region.offset - self.begin;
        self.region.site.is_worth_keeping();
        self.journal.note(self.digest, Extent { offset: self.begin, length: self.noted })
    }
}

impl Filling for JournaledBlob {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.region.write(bytes)?;
        if self.region.offset - self.begin - self.noted >= NOTED { self.note() } else { Ok(()) }
    }

    fn start_over(&mut self) -> Result<()> {
        if self.noted > 0 {
            self.journal.note(self.digest, Extent::NOTHING)?;
        }
        self.noted = 0;
        self.region = Region::new(&self.region.site, self.begin);
        Ok(())
    }
}

/// After so many bytes (16 MiB) of a blob the journal is told: no more than that is fetched again after a kill.
const NOTED: u64 = 16 << 20;
