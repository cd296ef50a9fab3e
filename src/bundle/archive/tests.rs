//! Archives in process: writer, reader and stream together, and everything that must be refused.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio_util::sync::CancellationToken;

use super::stream::BundleStream;
use super::stream_writer::{Compression, StreamWriter};
use super::writer::ArchiveWriter;
use crate::bundle::fixture::{Key, Memory, good, keep, now, read};
use crate::bundle::format::head::Head;
use crate::bundle::reader::Bundle;
use crate::content::{Builder, Contents, Destination, NamedImage, SequentialSource, Source};
use crate::error::{Kind, Result};
use crate::oci::Digest;
use crate::progress::Silent;
use crate::transfer::{Input, Summary, TransferOptions, run};

fn writer(path: &Path, key: &Key) -> ArchiveWriter {
    ArchiveWriter::new(path.to_owned(), vec![key.load()], now()).unwrap()
}

/// One that keeps its plan in `state`.
fn planner(path: &Path, key: &Key, state: &Path, selection: &[u8]) -> ArchiveWriter {
    let writer = writer(path, key).keep_plan(keep(state, selection));
    writer.open().unwrap();
    writer
}

async fn go(memory: Memory, contents: Contents, destination: Arc<dyn Destination>) -> Result<Summary> {
    go_by(3, memory, contents, destination).await
}

async fn go_by(jobs: usize, memory: Memory, contents: Contents, destination: Arc<dyn Destination>) -> Result<Summary> {
    let options = TransferOptions {
        jobs: std::num::NonZeroUsize::new(jobs).unwrap(),
        progress: Arc::new(Silent),
        cancel: CancellationToken::new(),
        keep_going: false,
    };
    run(Arc::new(contents), Input::Source(Arc::new(memory)), destination, &options).await.map(|done| done.summary)
}

async fn write_good(path: &Path, key: &Key) {
    let (memory, contents) = good();
    go(memory, contents, Arc::new(writer(path, key))).await.unwrap();
}

/// One image with two small layers: an archive of some 7 KiB.
fn tiny() -> (Memory, Contents) {
    let mut memory = Memory::default();
    let app = memory.manifest(b"{}", &[b"one", &[7; 512]], &[]);
    let mut builder = Builder::default();
    builder.document(&app).unwrap();
    let named = NamedImage { name: "a/b:1".parse().unwrap(), source: "h.io/a/b:1".into(), document: app.digest() };
    builder.image(named, None);
    (memory, builder.finish().unwrap())
}

/// The bytes of the tiny archive.
async fn tiny_tar(key: &Key) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("b.tar");
    let (memory, contents) = tiny();
    go(memory, contents, Arc::new(writer(&path, key))).await.unwrap();
    std::fs::read(path).unwrap()
}

/// Bytes that another thread writes.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn streamed(compression: Compression, key: &Key, (memory, contents): (Memory, Contents)) -> Vec<u8> {
    let shared = Shared::default();
    let writer = StreamWriter::new(Box::new(shared.clone()), "a pipe", compression, vec![key.load()], now()).unwrap();
    go(memory, contents, Arc::new(writer)).await.unwrap();
    std::mem::take(&mut *shared.0.lock().unwrap())
}

/// All that a file is checked for, the layers too.
async fn read_all(path: &Path, key: &Key) -> Result<Head> {
    let bundle = Bundle::open(path)?;
    let head = bundle.read_head(bundle.verify_seal(&key.trust, now())?)?;
    for id in head.contents.blob_ids() {
        let bytes: Vec<Bytes> = bundle.open(&head.contents, id, 0).await?.try_collect().await?;
        if Digest::of(&bytes.concat()) != head.contents.blob(id).digest {
            return Err(bundle.mismatch(&head.contents, id, "its digest"));
        }
    }
    Ok(head)
}

/// All that a stream is checked for, the layers too.
async fn pass_all(bytes: Vec<u8>, key: &Key) -> Result<Head> {
    let mut stream = BundleStream::new(Box::new(Cursor::new(bytes)), "a pipe")?;
    let seal = stream.verify_seal(&key.trust, now())?;
    let head = stream.read_head(seal)?;
    let mut pass = stream.into_pass(head.contents.clone());
    while let Some((id, chunks)) = pass.next(&head.contents).await? {
        let bytes: Vec<Bytes> = chunks.try_collect().await?;
        let blob = head.contents.blob(id);
        if Digest::of(&bytes.concat()) != blob.digest {
            return Err(pass.mismatch()(blob, "its digest"));
        }
    }
    Ok(head)
}

fn names(root: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_archive_is_read_back_and_is_the_same_however_it_was_written() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
    let path = dir.path().join("b.tar");
    write_good(&path, &key).await;
    assert_eq!(names(dir.path()), ["b.tar"], "nothing is left beside it");
    let head = read_all(&path, &key).await.unwrap();
    let contents = good().1;
    assert_eq!((&head.contents.images, &head.contents.landings), (&contents.images, &contents.landings));
    assert_eq!(head.created, now());

    let bytes = std::fs::read(&path).unwrap();
    let again = dir.path().join("again.tar");
    write_good(&again, &key).await;
    assert_eq!(std::fs::read(&again).unwrap(), bytes);
    assert_eq!(streamed(Compression::None, &key, good()).await, bytes);
    let packed = streamed(Compression::Zstd, &key, good()).await;
    assert_eq!(zstd::decode_all(Cursor::new(&packed)).unwrap(), bytes);

    let identity = head.identity();
    assert_eq!(pass_all(bytes, &key).await.unwrap().identity(), identity);
    assert_eq!(pass_all(packed, &key).await.unwrap().identity(), identity);
}

#[tokio::test]
async fn tar_unpacks_it_into_the_directory_that_it_stands_for() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
    let path = dir.path().join("b.tar");
    write_good(&path, &key).await;
    let folder = dir.path().join("unpacked");
    std::fs::create_dir(&folder).unwrap();
    let status = std::process::Command::new("tar").arg("-C").arg(&folder).arg("-xf").arg(&path).status().unwrap();
    assert!(status.success());
    let identity = read(&folder, &key.trust).unwrap().identity();
    assert_eq!(identity, read(&path, &key.trust).unwrap().identity());
}

#[tokio::test]
async fn zstd_may_not_ask_for_much_memory_and_nothing_may_follow_it() {
    let key = Key::new();
    let good = tiny_tar(&key).await;
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&good).unwrap();
    let wide = encoder.finish().unwrap();
    assert_eq!(pass_all(wide, &key).await.expect_err("a window of 128 MiB").kind(), Kind::Damaged);
    let packed = zstd::encode_all(Cursor::new(&good), 1).unwrap();
    pass_all(packed.clone(), &key).await.unwrap();
    let junk = [&packed[..], b"junk"].concat();
    assert_eq!(pass_all(junk, &key).await.expect_err("junk").kind(), Kind::Damaged);
    let twice = [&packed[..], &packed[..]].concat();
    assert_eq!(pass_all(twice, &key).await.expect_err("a second archive").kind(), Kind::Damaged);
}

/// Any number of frames, and nothing in or between them that does not unpack to the archive.
#[tokio::test]
async fn zstd_frames_may_be_many_and_none_may_be_without_content() {
    let key = Key::new();
    let good = tiny_tar(&key).await;
    let frames: Vec<Vec<u8>> = good.chunks(700).map(|part| zstd::encode_all(part, 3).unwrap()).collect();
    pass_all(frames.concat(), &key).await.unwrap();
    let empty = zstd::encode_all(&b""[..], 3).unwrap();
    let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 7, 0, 0, 0], &b"payload"[..]].concat();
    for stowaway in [&empty, &skippable] {
        for at in [1, frames.len() / 2, frames.len()] {
            let bytes = [&frames[..at].concat()[..], stowaway, &frames[at..].concat()].concat();
            assert_eq!(pass_all(bytes, &key).await.expect_err("a stowaway").kind(), Kind::Damaged, "{at}");
        }
        let first = [stowaway, &frames.concat()[..]].concat();
        assert_eq!(pass_all(first, &key).await.expect_err("a stowaway").kind(), Kind::Damaged);
    }
    let mut encoder = zstd::stream::write::Encoder::with_dictionary(Vec::new(), 3, &good).unwrap();
    encoder.write_all(&good).unwrap();
    assert_eq!(pass_all(encoder.finish().unwrap(), &key).await.expect_err("a dictionary").kind(), Kind::Damaged);
}

#[tokio::test]
async fn what_is_compressed_already_costs_next_to_nothing_and_the_rest_gets_smaller() {
    let key = Key::new();
    let noise: Vec<u8> =
        (0..300_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).rotate_left(n).to_le_bytes()).collect();
    let packed = zstd::encode_all(Cursor::new(&noise), 1).unwrap();
    let image = |layer: &[u8]| {
        let mut memory = Memory::default();
        let app = memory.manifest(b"{}", &[layer], &[]);
        let mut builder = Builder::default();
        builder.document(&app).unwrap();
        let named = NamedImage { name: "a/b:1".parse().unwrap(), source: "h.io/a/b:1".into(), document: app.digest() };
        builder.image(named, None);
        (memory, builder.finish().unwrap())
    };
    let plain = streamed(Compression::Zstd, &key, image(&packed)).await;
    assert!(plain.len() < packed.len() + packed.len() / 1000 + 8192, "{} of {}", plain.len(), packed.len());
    let text = b"the same words again and again ".repeat(50_000);
    let small = streamed(Compression::Zstd, &key, image(&text)).await;
    assert!(small.len() < text.len() / 20, "{} of {}", small.len(), text.len());
    for bytes in [plain, small] {
        pass_all(bytes, &key).await.unwrap();
    }
}

#[tokio::test]
async fn an_interrupted_run_is_continued_as_it_was_planned_and_its_data_is_hashed_again() {
    let (dir, state, key) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Key::new());
    let path = dir.path().join("b.tar");
    let reference: PathBuf = dir.path().join("reference.tar");
    write_good(&reference, &key).await;

    let (mut memory, contents) = good();
    memory.cut = Some(contents.blobs.last().unwrap().digest);
    let first = planner(&path, &key, state.path(), b"request");
    let error = go(memory, contents, Arc::new(first)).await.unwrap_err();
    assert!(error.chain().ends_with("cut"), "{error:?}");
    assert_eq!(names(dir.path()), [".b.tar.journal", ".b.tar.partial", "reference.tar"]);
    let partial = dir.path().join(".b.tar.partial");
    assert_eq!(read(&partial, &key.trust).unwrap_err().kind(), Kind::Damaged);
    assert!(std::fs::read(&partial).unwrap()[..512].iter().all(|byte| *byte == 0));

    // One blob that the journal lists is not what it was, and the last line is torn.
    let whole = std::fs::read(&reference).unwrap();
    let mut bytes = std::fs::read(&partial).unwrap();
    let config = whole.windows(12).position(|window| window == b"{\"config\":1}").unwrap();
    bytes[config] ^= 1;
    std::fs::write(&partial, &bytes).unwrap();
    let journal = dir.path().join(".b.tar.journal");
    let mut lines = std::fs::read(&journal).unwrap();
    lines.extend_from_slice(b"at 0123");
    std::fs::write(&journal, &lines).unwrap();

    // Later, and the tags have moved: the plan and its time are those of the first run.
    let later = "2027-01-01T00:00:00Z".parse().unwrap();
    let again = ArchiveWriter::new(path.clone(), vec![key.load()], later).unwrap();
    let again = again.keep_plan(keep(state.path(), b"request"));
    let plan = again.open().unwrap().plan.expect("the plan was kept");
    let (contents, left_out) = again.resume(plan);
    assert!(left_out.is_empty());
    let again = Arc::new(again);
    let (memory, _) = good();
    let blobs = contents.blobs.len() as u64;
    let summary = go(memory, contents, again).await.unwrap();
    assert!(summary.moved >= 2 && summary.already >= 1 && summary.moved + summary.already == blobs, "{summary:?}");
    assert_eq!(std::fs::read(&path).unwrap(), whole);
    assert_eq!(names(dir.path()), ["b.tar", "reference.tar"]);
    assert!(names(&state.path().join("plans")).is_empty(), "a finished bundle has no plan");
}

/// A plan is for one selection, one key and one unfinished file; data is used again whoever left it.
#[tokio::test]
async fn another_selection_another_key_and_another_state_have_no_plan() {
    let (dir, state, key) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Key::new());
    let path = dir.path().join("b.tar");
    let interrupt = async || {
        let (mut memory, contents) = good();
        memory.cut = Some(contents.blobs.last().unwrap().digest);
        go(memory, contents, Arc::new(planner(&path, &key, state.path(), b"request"))).await.unwrap_err();
    };
    interrupt().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = Key::new();
    for (key, state, selection) in [
        (&key, state.path(), b"other".as_slice()),
        (&stranger, state.path(), b"request"),
        (&key, elsewhere.path(), b"request"),
    ] {
        let other = writer(&path, key).keep_plan(keep(state, selection));
        let earlier = other.open().unwrap();
        assert!(earlier.plan.is_none() && earlier.unfinished);
    }
    let (memory, contents) = good();
    let summary = go(memory, contents, Arc::new(writer(&path, &stranger))).await.unwrap();
    assert!(summary.already >= 1, "{summary:?}");
    std::fs::remove_file(&path).unwrap();
    // The file of the plan went away with the bundle.
    assert!(writer(&path, &key).keep_plan(keep(state.path(), b"request")).open().unwrap().plan.is_none());

    interrupt().await;
    let (memory, contents) = tiny();
    go(memory, contents, Arc::new(writer(&path, &key))).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), tiny_tar(&key).await);
}

#[tokio::test]
async fn a_run_that_fetched_nothing_leaves_no_plan() {
    let (dir, state, key) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Key::new());
    let (mut memory, contents) = tiny();
    memory.cut = Some(contents.blobs[0].digest);
    let first = planner(&dir.path().join("b.tar"), &key, state.path(), b"request");
    // Another blob could be whole before the first one fails.
    go_by(1, memory, contents, Arc::new(first)).await.unwrap_err();
    let left = (names(dir.path()), names(&state.path().join("plans")));
    assert!(left.0.is_empty() && left.1.is_empty(), "{left:?}");
}

/// A medium that was pulled out has less of the file than the journal says, and the plan has changed.
#[tokio::test]
async fn a_file_shorter_than_its_journal_says_is_used_as_far_as_it_goes() {
    let key = Key::new();
    for length in [0, 1, 600, 5_000, 60_000, 1_200_000] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.tar");
        let (mut memory, contents) = good();
        memory.cut = Some(contents.blobs.last().unwrap().digest);
        go(memory, contents, Arc::new(writer(&path, &key))).await.unwrap_err();
        let partial = std::fs::File::options().write(true).open(dir.path().join(".b.tar.partial")).unwrap();
        assert!(partial.metadata().unwrap().len() > length);
        partial.set_len(length).unwrap();
        let (memory, contents) = good();
        // Without the first image everything has another place.
        let fewer = contents.only(|image| image.name.to_string() != "ns/app:1").unwrap();
        go(memory, fewer, Arc::new(writer(&path, &key))).await.unwrap_or_else(|e| panic!("{length}: {e:?}"));
        read_all(&path, &key).await.unwrap();
        assert_eq!(names(dir.path()), ["b.tar"]);
    }
}

#[tokio::test]
async fn a_run_that_was_killed_after_sealing_is_finished() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
    let path = dir.path().join("b.tar");
    write_good(&path, &key).await;
    let whole = std::fs::read(&path).unwrap();
    std::fs::rename(&path, dir.path().join(".b.tar.partial")).unwrap();
    let (memory, contents) = good();
    let summary = go(memory, contents, Arc::new(writer(&path, &key))).await.unwrap();
    assert_eq!(summary.moved, 0);
    assert_eq!(std::fs::read(&path).unwrap(), whole);
}

#[tokio::test]
async fn a_second_run_at_once_and_what_is_there_are_left_alone() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
    let path = dir.path().join("b.tar");
    let first = writer(&path, &key);
    first.open().unwrap();
    let error = writer(&path, &key).open().unwrap_err();
    assert!(error.chain().contains("another export"), "{error:?}");
    drop(first);
    assert!(names(dir.path()).is_empty(), "a run that fetched nothing leaves nothing");
    std::fs::write(&path, b"mine").unwrap();
    let error = writer(&path, &key).open().unwrap_err();
    assert!(error.chain().contains("exists already"), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    let packed = StreamWriter::packed(path.clone(), vec![key.load()], now());
    assert!(packed.is_err_and(|error| error.chain().contains("exists already")));
}

#[tokio::test]
async fn a_reader_of_the_pipe_that_goes_away_is_an_error() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let key = Key::new();
    for compression in [Compression::None, Compression::Zstd] {
        let writer = StreamWriter::new(Box::new(Gone), "a pipe", compression, vec![key.load()], now()).unwrap();
        let (memory, contents) = good();
        let error = go(memory, contents, Arc::new(writer)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Io, "{error:?}");
    }
}

#[test]
fn sizes_beyond_8_gib_have_one_form_too() {
    use crate::bundle::format::members::header;
    for size in [(8 << 30) - 1, 8 << 30, 8 << 40] {
        let block = header("blobs/sha256/x", size);
        assert_eq!(tar::Header::from_byte_slice(&block).entry_size().unwrap(), size);
        assert_eq!(&block[257..265], b"ustar\x0000");
    }
}
