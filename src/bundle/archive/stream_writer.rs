//! An archive written from its beginning to its end: into a pipe, or compressed. Its seal comes first, so what was
//! cut off has a seal and never verifies for lack of the rest.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use jiff::Timestamp;
use rustix::fs::FileType;
use tokio::sync::{mpsc, oneshot};

use super::zstd::{Frames, is_packed};
use crate::bundle::format::blobs::blob_path;
use crate::bundle::format::members::{header, padding};
use crate::bundle::format::offsets::{ZEROS, write_member, write_seal, write_top};
use crate::bundle::format::top_level::{self, HeadFiles, Sealed};
use crate::bundle::resume::output::{OutputForm, OutputPath};
use crate::content::{
    BlobId, BlobStatus, Body, Chunks, Contents, Destination, ManifestId, MountOutcome, Order, PutBlob, PutManifest,
    RepositoryId,
};
use crate::error::{Error, Kind, Result};
use crate::files::{Lock, OwnFile, Permissions, Publish, blocking, own_file, publish, remove};
use crate::oci::Digest;
use crate::trust::SigningKey;

/// Whether a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A tar.
    None,
    /// Zstandard, with a window of at most 8 MiB. What is compressed already is not compressed again.
    Zstd,
}

/// Writes one archive into something that takes bytes in their order.
pub struct StreamWriter {
    output: Mutex<Option<Box<dyn Write + Send>>>,
    /// What gets its name at the end.
    file: Option<Arc<PartialFile>>,
    shown: String,
    compression: Compression,
    keys: Arc<Vec<SigningKey>>,
    created: Timestamp,
    ready: OnceLock<Ready>,
}

struct Ready {
    sealed: Sealed,
    line: tokio::sync::Mutex<Line>,
}

impl StreamWriter {
    /// A bundle that goes into `output`, which messages call `shown`; the rest as for
    /// [`ArchiveWriter::new`](super::writer::ArchiveWriter::new).
    ///
    /// # Errors
    /// `Usage` if there is no key, one twice, or more than a bundle can hold signatures.
    pub fn new(
        output: Box<dyn Write + Send>,
        shown: &str,
        compression: Compression,
        keys: Vec<SigningKey>,
        created: Timestamp,
    ) -> Result<StreamWriter> {
        top_level::check_keys(&keys)?;
        Ok(StreamWriter {
            output: Mutex::new(Some(output)),
            file: None,
            shown: shown.to_owned(),
            compression,
            keys: Arc::new(keys),
            created,
            ready: OnceLock::new(),
        })
    }

    /// A bundle that will be the file `output`, compressed. What a run leaves that did not end is of no use to the
    /// next one.
    ///
    /// # Errors
    /// As [`StreamWriter::new`]; `Io` if the output exists, cannot be written, or another run writes it.
    pub fn packed(output: PathBuf, keys: Vec<SigningKey>, created: Timestamp) -> Result<StreamWriter> {
        let file = PartialFile::create(&output)?;
        let shown = file.output.shown();
        let own = file.file.try_clone().map_err(|e| Error::io(format!("cannot write {shown}"), e))?;
        let mut writer = StreamWriter::new(Box::new(own), &shown, Compression::Zstd, keys, created)?;
        writer.file = Some(Arc::new(file));
        Ok(writer)
    }

    /// The identity of the bundle: known from [`Destination::prepare`] on.
    pub fn identity(&self) -> Option<Digest> {
        self.ready.get().map(|ready| ready.sealed.identity())
    }

    fn ready(&self) -> Result<&Ready> {
        self.ready.get().ok_or_else(|| Error::new(Kind::Io, "the bundle was not prepared for writing"))
    }
}

#[async_trait]
impl Destination for StreamWriter {
    fn order(&self) -> Order {
        Order::AsPlanned
    }

    async fn prepare(&self, contents: &Contents) -> Result<HashSet<BlobId>> {
        let head = HeadFiles::new(contents, self.created)?;
        let keys = self.keys.clone();
        // May wait for a passphrase or a touch.
        let sealed = blocking(move || head.seal(&keys)).await?;
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner).take();
        let output = output.ok_or_else(|| Error::new(Kind::Io, "the bundle was prepared twice"))?;
        let mut line = Line::begin(output, self.compression, &self.shown);
        write_head_pieces(&sealed, contents, &mut line).await?;
        if self.ready.set(Ready { sealed, line: tokio::sync::Mutex::new(line) }).is_err() {
            return Err(Error::new(Kind::Io, "the bundle was prepared twice"));
        }
        Ok(HashSet::new())
    }

    async fn blob_status(&self, _: &Contents, _: BlobId, _: RepositoryId) -> Result<BlobStatus> {
        Ok(BlobStatus::Absent)
    }

    async fn put_blob(&self, contents: &Contents, id: BlobId, _: RepositoryId, body: &mut Body) -> Result<PutBlob> {
        let blob = contents.blob(id);
        let mut line = self.ready()?.line.lock().await;
        // Opened first: what cannot be had at all leaves the stream where it was.
        let mut chunks = body.open().await?;
        line.send(Piece::Head(Bytes::copy_from_slice(&header(&blob_path(blob.digest), blob.size)))).await?;
        line.send(Piece::Content).await?;
        while let Some(chunk) = chunks.next().await {
            line.send(Piece::Bytes(chunk?)).await?;
        }
        line.send(Piece::Head(Bytes::from_static(&ZEROS).slice(..padding(blob.size) as usize))).await?;
        Ok(PutBlob::Uploaded)
    }

    async fn mount_blob(&self, _: &Contents, _: BlobId, _: RepositoryId, _: RepositoryId) -> Result<MountOutcome> {
        Ok(MountOutcome::Done)
    }

    async fn read_back(&self, _: &Contents, _: BlobId, _: RepositoryId) -> Result<Chunks> {
        Err(Error::new(Kind::Io, "what went into a pipe cannot be read again"))
    }

    async fn put_manifest(&self, _: &Contents, _: ManifestId) -> Result<PutManifest> {
        // Documents went ahead of the blobs.
        self.ready().map(|_| PutManifest::Done)
    }

    /// The seal has gone out.
    fn can_skip_images(&self) -> bool {
        false
    }

    async fn commit(&self, contents: &Contents) -> Result<()> {
        let ready = self.ready()?;
        if HeadFiles::new(contents, self.created)?.identity() != ready.sealed.identity() {
            return Err(Error::new(Kind::Io, "cannot seal: these are not the contents that were planned"));
        }
        let mut line = ready.line.lock().await;
        line.send(Piece::Head(Bytes::from_static(&ZEROS))).await?;
        line.finish().await?;
        match self.file.clone() {
            Some(file) => blocking(move || file.finish()).await,
            None => Ok(()),
        }
    }
}

/// `.NAME.partial`, which goes away unless all of it is there.
struct PartialFile {
    output: OutputPath,
    file: File,
    permissions: Permissions,
    /// Whether all of it is there and durable.
    whole: AtomicBool,
    _lock: Lock,
}

impl PartialFile {
    fn create(output: &Path) -> Result<PartialFile> {
        let output = OutputPath::new(output, OutputForm::File)?;
        let (parent, name) = (output.parent(), output.partial());
        let (own, lock) = own_file(parent, &name, &output.probe(), |file| output.lock(file))?;
        let OwnFile { file, permissions, .. } = own;
        file.set_len(0).map_err(|e| Error::io(format!("cannot write {}", parent.shown(&name)), e))?;
        Ok(PartialFile { output, file, permissions, whole: AtomicBool::new(false), _lock: lock })
    }

    fn finish(&self) -> Result<()> {
        let failed = |e: rustix::io::Errno| {
            Error::io(format!("cannot write {}", self.output.parent().shown(self.output.partial())), e.into())
        };
        rustix::fs::fdatasync(&self.file).map_err(failed)?;
        // From here on it is a whole bundle, and stays one, also if it gets no name.
        self.whole.store(true, Ordering::Relaxed);
        let publish = |when| publish(&self.file, FileType::RegularFile, self.permissions, when);
        publish(Publish::BeforeRename).map_err(failed)?;
        self.output.give_name(&self.file)?;
        // Without it the bundle is as good, and its owner's alone to write.
        let _ = publish(Publish::AfterRename);
        Ok(())
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        let (parent, name) = (self.output.parent(), self.output.partial());
        if !*self.whole.get_mut() && parent.names(&name, &self.file).unwrap_or(false) {
            let _ = remove(parent, &name);
        }
    }
}

/// Seal and head, a document at a time: together they may be larger than memory should be.
async fn write_head_pieces(sealed: &Sealed, contents: &Contents, line: &mut Line) -> Result<()> {
    let mut buffer = Vec::new();
    let mut sink = |bytes: &[u8]| {
        buffer.extend_from_slice(bytes);
        Ok(())
    };
    write_seal(sealed, &mut sink)?;
    write_top(sealed, &mut sink)?;
    for digest in &contents.document_order {
        let mut sink = |bytes: &[u8]| {
            buffer.extend_from_slice(bytes);
            Ok(())
        };
        write_member(&blob_path(*digest), &contents.documents.get(*digest)?.0, &mut sink)?;
        if buffer.len() >= BUFFER {
            line.send(Piece::Head(std::mem::take(&mut buffer).into())).await?;
        }
    }
    line.send(Piece::Head(buffer.into())).await
}

/// What goes to the writing thread.
enum Piece {
    /// Headers, padding, documents.
    Head(Bytes),
    /// A blob's content follows.
    Content,
    Bytes(Bytes),
}

/// The way to the thread that writes: a pipe may keep it waiting.
struct Line {
    pieces: Option<mpsc::Sender<Piece>>,
    done: Option<oneshot::Receiver<io::Result<()>>>,
    shown: String,
}

impl Line {
    fn begin(output: Box<dyn Write + Send>, compression: Compression, shown: &str) -> Line {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let (tell, done) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let _ = tell.send(match compression {
                Compression::None => write_plain(receiver, output),
                Compression::Zstd => write_packed(receiver, output),
            });
        });
        Line { pieces: Some(sender), done: Some(done), shown: shown.to_owned() }
    }

    async fn send(&mut self, piece: Piece) -> Result<()> {
        let sent = match &self.pieces {
            Some(pieces) => pieces.send(piece).await.is_ok(),
            None => false,
        };
        if sent { Ok(()) } else { self.finish().await.and(Err(Error::interrupted())) }
    }

    /// Waits until everything is written.
    async fn finish(&mut self) -> Result<()> {
        self.pieces = None;
        let Some(done) = self.done.take() else { return Err(Error::interrupted()) };
        let written = done.await.map_err(|_| Error::interrupted())?;
        written.map_err(|e| {
            Error::io(format!("cannot write the bundle to {}", self.shown), e)
                .hint("whoever reads it has stopped, or the medium is full: see what it says, then run the same command again")
        })
    }
}

fn write_plain(mut pieces: mpsc::Receiver<Piece>, mut output: Box<dyn Write + Send>) -> io::Result<()> {
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Head(bytes) | Piece::Bytes(bytes) => output.write_all(&bytes)?,
            Piece::Content => {}
        }
    }
    output.flush()
}

fn write_packed(mut pieces: mpsc::Receiver<Piece>, output: Box<dyn Write + Send>) -> io::Result<()> {
    let mut frames = Frames::new(io::BufWriter::with_capacity(BUFFER, output));
    let mut undecided: Option<Vec<u8>> = None;
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Content => undecided = Some(Vec::new()),
            Piece::Bytes(bytes) => match undecided.as_mut() {
                None => frames.write(&bytes)?,
                Some(beginning) => {
                    beginning.extend_from_slice(&bytes);
                    if beginning.len() >= TELLING {
                        decide(&mut frames, &mut undecided)?;
                    }
                }
            },
            Piece::Head(bytes) => {
                decide(&mut frames, &mut undecided)?;
                frames.pack()?;
                frames.write(&bytes)?;
            }
        }
    }
    frames.finish()?.flush()
}

/// Chooses the frame for a blob by how it begins.
fn decide(frames: &mut Frames<impl Write>, undecided: &mut Option<Vec<u8>>) -> io::Result<()> {
    let Some(beginning) = undecided.take() else { return Ok(()) };
    match is_packed(&beginning) {
        true => frames.plain()?,
        false => frames.pack()?,
    }
    frames.write(&beginning)
}

/// How many bytes tell what content is.
const TELLING: usize = 6;
const BUFFER: usize = 256 << 10;
/// How many pieces wait for the thread that writes.
const AHEAD: usize = 8;
