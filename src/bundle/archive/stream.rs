//! An archive that goes by once: from a pipe, or through zstd. The same checks in the same order; what is wrong after
//! the head is found when it comes by.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};

use super::zstd;
use crate::bundle::format::blobs::blob_path;
use crate::bundle::format::checksums::Checksums;
use crate::bundle::format::head::Head;
use crate::bundle::format::head_reader::{HeadReader, damaged};
use crate::bundle::format::members::{MemberReader, shown_member};
use crate::bundle::format::seal::{Seal, Unverified};
use crate::content::{Blob, BlobId, Chunks, Contents, Mismatch, SequentialSource};
use crate::error::{Error, Result};
use crate::files::show;
use crate::oci::Digest;
use crate::trust::Trust;

/// A bundle that can be read once. The order of calls: the seal, the head, then as a [`SequentialSource`].
pub struct BundleStream {
    members: MemberReader,
    shown: String,
    /// Configs that were verified with the head, in their order.
    configs: Vec<Slot>,
    held: u64,
    spool: Option<File>,
}

impl std::fmt::Debug for BundleStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BundleStream").field("shown", &self.shown).finish_non_exhaustive()
    }
}

enum Slot {
    Memory(Bytes),
    Spool { offset: u64, size: u64 },
}

impl BundleStream {
    /// A bundle that comes from `input`, as a tar or compressed with zstd; messages call it `shown`.
    ///
    /// # Errors
    /// `Io` if nothing can be read.
    pub fn new(mut input: Box<dyn Read + Send>, shown: &str) -> Result<BundleStream> {
        let failed = |e| Error::io(format!("cannot read {shown}"), e);
        let mut beginning = Vec::with_capacity(zstd::MAGIC.len());
        input.by_ref().take(zstd::MAGIC.len() as u64).read_to_end(&mut beginning).map_err(failed)?;
        let packed = beginning == zstd::MAGIC;
        let input = Cursor::new(beginning).chain(input);
        let input: Box<dyn Read + Send> = match packed {
            true => Box::new(zstd::Unpacker::new(input).map_err(failed)?),
            false => Box::new(input),
        };
        let input = Box::new(BufReader::with_capacity(READ_AHEAD, input));
        let (configs, shown) = (Vec::new(), shown.to_owned());
        Ok(BundleStream { members: MemberReader::new(input, shown.clone(), 0), shown, configs, held: 0, spool: None })
    }

    /// A file that is read from its beginning to its end.
    ///
    /// # Errors
    /// `Io` if it cannot be opened.
    pub fn open(path: &Path) -> Result<BundleStream> {
        let shown = show(path.as_os_str());
        let file = File::open(path).map_err(|e| Error::io(format!("cannot open {shown}"), e))?;
        BundleStream::new(Box::new(file), &shown)
    }

    /// Whether the file at `path` can only be read as a stream: it is compressed.
    pub fn is_needed(path: &Path) -> bool {
        let mut magic = [0; zstd::MAGIC.len()];
        path.is_file()
            && File::open(path).is_ok_and(|file| file.read_exact_at(&mut magic, 0).is_ok())
            && magic == zstd::MAGIC
    }

    /// Checks who signed `SHA256SUMS`, as of `at`.
    ///
    /// # Errors
    /// As [`Bundle::verify_seal`](crate::bundle::reader::Bundle::verify_seal).
    pub fn verify_seal(&mut self, trust: &Trust, at: Timestamp) -> Result<Seal> {
        Seal::verify(self, trust, at)
    }

    /// The seal without any trust: to look at, not to act upon.
    pub fn read_unverified(&mut self) -> Result<Unverified<Seal>> {
        Seal::read_unverified(self)
    }

    /// Reads and verifies the head. That nothing else comes is known at the end only.
    ///
    /// # Errors
    /// As [`Bundle::read_head`](crate::bundle::reader::Bundle::read_head).
    pub fn read_head(&mut self, seal: Seal) -> Result<Head> {
        (self as &mut dyn HeadReader).read_head(seal)
    }

    /// As [`BundleStream::read_head`], for a seal that nobody vouches for.
    pub fn read_head_unverified(&mut self, seal: Unverified<Seal>) -> Result<Unverified<Head>> {
        self.read_head(seal.0).map(Unverified)
    }

    /// The bytes of a config of the head, once the head is read.
    ///
    /// # Errors
    /// `NotFound` for what is no such config.
    pub fn config(&self, blob: BlobId) -> Result<Bytes> {
        let slot = self.configs.get(blob.0 as usize);
        self.kept(slot.ok_or_else(|| Error::not_found("this is no config of the bundle's head"))?)
    }

    /// The blobs in archive order. `contents` are those of the head; the run may move a selection of them. Must be called
    /// in a tokio runtime.
    pub fn into_pass(self, contents: Arc<Contents>) -> impl SequentialSource + use<> {
        let (sender, items) = mpsc::channel(AHEAD);
        let shown = self.shown.clone();
        // A thread of its own: a pipe may keep it waiting for ever. It ends when nobody listens any more.
        tokio::task::spawn_blocking(move || {
            if let Err(Stop::Failed(error)) = self.send_all(&contents, &sender) {
                let _ = sender.blocking_send(Err(error));
            }
        });
        let items = Arc::new(Mutex::new(Incoming { items, current: None, end: End::NotYet }));
        StreamPass { items, ids: None, shown }
    }

    fn send_all(mut self, contents: &Contents, sender: &mpsc::Sender<Result<Item>>) -> Result<(), Stop> {
        let send = |item| sender.blocking_send(Ok(item)).map_err(|_| Stop::NobodyListens);
        let configs = std::mem::take(&mut self.configs);
        for id in contents.blob_ids() {
            let blob = contents.blob(id);
            if let Some(slot) = configs.get(id.0 as usize) {
                send(Item::Blob(blob.digest))?;
                send(Item::Chunk(self.kept(slot)?))?;
                continue;
            }
            self.members.enter(blob.digest, blob.size)?;
            send(Item::Blob(blob.digest))?;
            let mut left = blob.size;
            while left > 0 {
                let mut chunk = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
                self.members.read_exact(&mut chunk)?;
                left -= chunk.len() as u64;
                send(Item::Chunk(chunk.into()))?;
            }
            self.members.pad(blob.size)?;
        }
        self.members.end()?;
        send(Item::End)
    }

    fn keep(&mut self, bytes: Bytes) -> Result<()> {
        use std::io::{Seek, SeekFrom, Write};
        let size = bytes.len() as u64;
        if self.held + size <= MEMORY {
            self.held += size;
            self.configs.push(Slot::Memory(bytes));
            return Ok(());
        }
        let failed = |e| Error::temporary_file("configs", e);
        if self.spool.is_none() {
            self.spool = Some(tempfile::tempfile().map_err(failed)?);
        }
        let file = self.spool.as_mut().expect("made above");
        let offset = file.seek(SeekFrom::End(0)).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        self.configs.push(Slot::Spool { offset, size });
        Ok(())
    }

    fn kept(&self, slot: &Slot) -> Result<Bytes> {
        match (slot, &self.spool) {
            (Slot::Memory(bytes), _) => Ok(bytes.clone()),
            (Slot::Spool { offset, size }, Some(file)) => {
                let mut bytes = vec![0; *size as usize];
                file.read_exact_at(&mut bytes, *offset)
                    .map_err(|e| Error::io("cannot read the temporary file of configs", e))?;
                Ok(bytes.into())
            }
            (Slot::Spool { .. }, None) => unreachable!("a spooled slot is made after its file"),
        }
    }
}

impl HeadReader for BundleStream {
    fn shown(&self, path: &str) -> String {
        shown_member(&self.shown, path)
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

    /// Seen as it comes by.
    fn check_closed(&mut self, _: &Checksums, _: &BTreeMap<Digest, u64>, _: &Contents) -> Result<()> {
        Ok(())
    }

    fn config(&mut self, digest: Digest, size: u64) -> Result<bool> {
        let bytes = self.members.document(digest, size)?;
        let right = Digest::of(&bytes) == digest;
        self.keep(bytes)?;
        Ok(right)
    }
}

/// What the reading thread sends.
enum Item {
    Blob(Digest),
    Chunk(Bytes),
    /// Also the end of the archive is right.
    End,
}

enum Stop {
    Failed(Error),
    NobodyListens,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

struct StreamPass {
    items: Arc<Mutex<Incoming>>,
    /// The ids of the blobs that the run moves; made when the first blob is asked for.
    ids: Option<HashMap<Digest, BlobId>>,
    shown: String,
}

struct Incoming {
    items: mpsc::Receiver<Result<Item>>,
    /// The next blob, seen while the one before it was read.
    current: Option<Digest>,
    end: End,
}

enum End {
    NotYet,
    /// The archive ended as it should.
    Right,
    /// It is cut off, or not the archive that the head says. This is said again to whoever asks for the next blob, also
    /// when a blob's reader has heard it and goes on without that blob: of such an archive nothing may land.
    Wrong(Error),
}

impl Incoming {
    /// The next chunk of the blob that is being read; nothing at its end.
    async fn chunk(&mut self) -> Option<Result<Bytes>> {
        if self.current.is_some() || !matches!(self.end, End::NotYet) {
            return None;
        }
        match self.items.recv().await {
            Some(Ok(Item::Chunk(bytes))) => Some(Ok(bytes)),
            Some(Ok(Item::Blob(digest))) => {
                self.current = Some(digest);
                None
            }
            Some(Ok(Item::End)) => {
                self.end = End::Right;
                None
            }
            Some(Err(error)) => {
                self.end = End::Wrong(error.flattened());
                Some(Err(error))
            }
            // The thread has told already why it ended.
            None => Some(Err(Error::interrupted())),
        }
    }
}

#[async_trait]
impl SequentialSource for StreamPass {
    /// `contents` may be a selection of what the archive holds: blobs that it does not list are skipped.
    async fn next(&mut self, contents: &Contents) -> Result<Option<(BlobId, Chunks)>> {
        let ids =
            self.ids.get_or_insert_with(|| contents.blob_ids().map(|id| (contents.blob(id).digest, id)).collect());
        let mut incoming = self.items.clone().lock_owned().await;
        let id = loop {
            // What is left of the blob before is skipped.
            while let Some(chunk) = incoming.chunk().await {
                chunk?;
            }
            if let End::Wrong(error) = &incoming.end {
                return Err(error.flattened());
            }
            let Some(digest) = incoming.current.take() else { return Ok(None) };
            if let Some(id) = ids.get(&digest) {
                break *id;
            }
        };
        let chunks = stream::unfold(incoming, |mut incoming: OwnedMutexGuard<Incoming>| async move {
            incoming.chunk().await.map(|chunk| (chunk, incoming))
        });
        Ok(Some((id, chunks.boxed())))
    }

    fn mismatch(&self) -> Mismatch {
        let shown = self.shown.clone();
        Arc::new(move |blob: &Blob, what: &str| damaged(&shown_member(&shown, &blob_path(blob.digest)), what))
    }
}

/// How much is read at once.
const CHUNK: usize = 256 << 10;
const READ_AHEAD: usize = 64 << 10;
/// How many chunks wait for whoever takes them.
const AHEAD: usize = 8;
/// Configs that are kept in memory, in bytes: 8 MiB. The others go to a private temporary file.
const MEMORY: u64 = 8 << 20;
