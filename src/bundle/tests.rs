//! Writer and reader together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::TryStreamExt;

use super::directory::writer::DirectoryWriter;
use super::fixture::{Key, Memory, descriptor, good, now, read, write, write_good};
use super::format::limits;
use super::reader::Bundle;
use crate::content::{BlobId, Builder, Contents, Destination, NamedImage, Source};
use crate::error::Kind;
use crate::oci::{Digest, Document, MediaType};

/// Every file below `root` with its bytes.
fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = walkdir::WalkDir::new(root).into_iter().map(|entry| entry.unwrap());
    files
        .filter(|entry| !entry.file_type().is_dir())
        .map(|entry| (entry.path().strip_prefix(root).unwrap().to_owned(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

fn names(root: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn writer(path: &Path, key: &Key) -> DirectoryWriter {
    DirectoryWriter::new(path.to_owned(), vec![key.load()], now()).unwrap()
}

async fn bytes(source: &dyn Source, contents: &Contents, id: BlobId, offset: u64) -> Vec<u8> {
    let chunks: Vec<Bytes> = source.open(contents, id, offset).await.unwrap().try_collect().await.unwrap();
    chunks.concat()
}

#[tokio::test]
async fn what_is_written_is_read_back_to_the_byte() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
    let path = dir.path().join("b");
    write_good(&path, &key).await;
    let head = read(&path, &key.trust).unwrap();
    let (memory, contents) = good();
    assert_eq!(head.contents.images, contents.images);
    assert_eq!(head.contents.landings, contents.landings);
    assert_eq!(head.contents.document_order, contents.document_order);
    assert_eq!(head.contents.absent.len(), 2);
    assert_eq!(head.seal.signers[0].principals, ["exporter@example.com"]);
    assert_eq!(head.created, now());
    assert_eq!(head.identity(), Digest::of(&std::fs::read(path.join("SHA256SUMS")).unwrap()));
    let bundle = Bundle::open(&path).unwrap();
    for id in contents.blob_ids() {
        let wanted = bytes(&memory, &contents, id, 0).await;
        assert_eq!(bytes(&bundle, &head.contents, id, 0).await, wanted);
        let middle = wanted.len() / 2;
        assert_eq!(bytes(&bundle, &head.contents, id, middle as u64).await, wanted[middle..]);
    }
    assert_eq!(names(dir.path()), ["b"], "nothing is left beside the bundle");
}

#[tokio::test]
async fn the_same_contents_key_and_time_give_the_same_bytes() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
    for name in ["a", "b"] {
        write_good(&dir.path().join(name), &key).await;
    }
    assert_eq!(tree(&dir.path().join("a")), tree(&dir.path().join("b")));
}

#[tokio::test]
async fn openssh_and_coreutils_vouch_for_it() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
    let path = dir.path().join("b");
    write_good(&path, &key).await;
    let public = key.load().public_key().clone();
    let signers = dir.path().join("allowed_signers");
    std::fs::write(&signers, public.allowed_signers_line("exporter").unwrap()).unwrap();
    let mut check = Command::new("sha256sum");
    check.args(["--strict", "--quiet", "-c", "SHA256SUMS"]).current_dir(&path);
    assert!(check.status().unwrap().success());
    let verified = Command::new("ssh-keygen")
        .args(["-Y", "verify", "-n", "sealift-bundle", "-I", "exporter", "-f"])
        .arg(&signers)
        .arg("-s")
        .arg(path.join(format!("signatures/{}.sig", public.key_id())))
        .stdin(std::fs::File::open(path.join("SHA256SUMS")).unwrap())
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

#[tokio::test]
async fn a_killed_run_is_taken_up_and_what_it_left_is_not_believed() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
    let path = dir.path().join("b");
    let (mut memory, contents) = good();
    let last = contents.blobs.last().unwrap().digest;
    memory.cut = Some(last);
    let contents = Arc::new(contents);
    let killed = writer(&path, &key);
    let error = write(&killed, Arc::new(memory), contents.clone()).await.unwrap_err();
    assert_eq!(error.chain(), "cut");
    drop(killed);
    assert!(!path.exists());

    let left = names(&dir.path().join(".b.partial/blobs/sha256"));
    assert_eq!(left.len(), contents.blobs.len() - 1, "what was finished stays, what was not is gone: {left:?}");

    // As a power cut may leave it: one file's bytes are not its name's, and a part and a seal lie about.
    let partial = dir.path().join(".b.partial");
    let blobs = partial.join("blobs/sha256");
    let (spoiled, gone) = (&contents.blobs[0], &contents.blobs[1]);
    std::fs::write(blobs.join(spoiled.digest.hex()), vec![0; spoiled.size as usize]).unwrap();
    std::fs::write(blobs.join(gone.digest.hex()), b"short").unwrap();
    std::fs::write(blobs.join(Digest::of(b"not of this plan").hex()), b"not of this plan").unwrap();
    std::fs::write(blobs.join(format!(".{}.part", last.hex())), b"half").unwrap();
    std::fs::write(partial.join("SHA256SUMS"), b"x").unwrap();
    std::fs::create_dir(partial.join("signatures")).unwrap();
    std::fs::write(partial.join("signatures/00.sig"), b"x").unwrap();

    let memory = Arc::new(good().0);
    let there = write(&writer(&path, &key), memory.clone(), contents.clone()).await.unwrap();
    assert_eq!(there, contents.blobs.len() - 3, "all but the spoiled, the short and the last");
    assert_eq!(memory.opened.load(Ordering::Relaxed), 3);
    read(&path, &key.trust).unwrap();
    let other = dir.path().join("other");
    write_good(&other, &key).await;
    assert_eq!(tree(&path), tree(&other));
}

#[tokio::test]
async fn a_second_export_at_once_and_a_finished_bundle_are_left_alone() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
    let path = dir.path().join("b");
    let contents = good().1;
    let first = writer(&path, &key);
    first.prepare(&contents).await.unwrap();
    let error = writer(&path, &key).prepare(&contents).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Io);
    assert!(error.chain().contains("another export"), "{error:?}");
    drop(first);
    write_good(&path, &key).await;
    let before = tree(&path);
    let error = writer(&path, &key).prepare(&contents).await.unwrap_err();
    assert!(error.chain().contains("exists already"), "{error:?}");
    assert_eq!(tree(&path), before);
}

#[tokio::test]
async fn what_appears_at_the_output_meanwhile_is_not_replaced() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
    let path = dir.path().join("b");
    let contents = good().1;
    let late = writer(&path, &key);
    let contents = Arc::new(contents);
    late.prepare(&contents).await.unwrap();
    std::fs::create_dir(&path).unwrap();
    let error = async {
        for id in contents.blob_ids() {
            let mut body = crate::content::Body::reopenable(
                Arc::new(good().0),
                contents.clone(),
                id,
                Arc::new(crate::progress::Silent),
                Default::default(),
            );
            late.put_blob(&contents, id, crate::content::RepositoryId(0), &mut body).await?;
        }
        for id in contents.manifest_ids() {
            late.put_manifest(&contents, id).await?;
        }
        late.commit(&contents).await
    }
    .await
    .unwrap_err();
    assert!(error.chain().contains("exists already"), "{error:?}");
    assert!(names(&path).is_empty());
}

#[tokio::test]
async fn foreign_things_in_the_unfinished_bundle_are_not_touched() {
    for foreign in ["notes.txt", "blobs/sha256/notes.txt", "signatures/notes.txt", "more/x"] {
        let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
        let file = dir.path().join(".b.partial").join(foreign);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, b"mine").unwrap();
        let error = writer(&dir.path().join("b"), &key).prepare(&good().1).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Io, "{error:?}");
        assert_eq!(std::fs::read(&file).unwrap(), b"mine", "{foreign}");
    }
}

#[tokio::test]
async fn a_link_in_place_of_the_unfinished_bundle_is_not_followed() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), dir.path().join(".b.partial")).unwrap();
    let error = writer(&dir.path().join("b"), &key).prepare(&good().1).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Io, "{error:?}");
    assert!(names(elsewhere.path()).is_empty());
}

#[tokio::test]
async fn nothing_is_sealed_while_something_is_missing() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
    let path = dir.path().join("b");
    let contents = good().1;
    let writer = writer(&path, &key);
    writer.prepare(&contents).await.unwrap();
    let error = writer.commit(&contents).await.unwrap_err();
    assert!(error.chain().contains("was not written"), "{error:?}");
    assert_eq!(names(&dir.path().join(".b.partial")), ["blobs"]);
    assert!(!path.exists());
    drop(writer);
    assert!(names(dir.path()).is_empty(), "a run that wrote nothing leaves nothing");
}

#[tokio::test]
async fn images_can_be_dropped_after_the_plan_was_sealed() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
    let path = dir.path().join("b");
    let (mut memory, contents) = good();
    let app = memory.manifest(b"{\"config\":1}", &[], &[]);
    let mut fewer = Builder::default();
    fewer.document(&app).unwrap();
    let named = NamedImage { name: "ns/app:1".parse().unwrap(), source: "h.io/x:1".into(), document: app.digest() };
    fewer.image(named, None);
    let (fewer, memory) = (fewer.finish().unwrap(), Arc::new(memory));
    let writer = writer(&path, &key);
    writer.prepare(&contents).await.unwrap();
    let planned = writer.identity().unwrap();
    let contents = Arc::new(contents);
    for id in contents.blob_ids() {
        let body = crate::content::Body::reopenable(
            memory.clone(),
            contents.clone(),
            id,
            Arc::new(crate::progress::Silent),
            Default::default(),
        );
        writer.put_blob(&contents, id, crate::content::RepositoryId(0), &mut { body }).await.unwrap();
    }
    writer.replan(&fewer, &[]).await.unwrap();
    assert_ne!(writer.identity().unwrap(), planned);
    for id in fewer.manifest_ids() {
        writer.put_manifest(&fewer, id).await.unwrap();
    }
    writer.commit(&fewer).await.unwrap();
    let head = read(&path, &key.trust).unwrap();
    assert_eq!(head.contents.images.len(), 1);
    assert_eq!(head.identity(), writer.identity().unwrap());
}

#[tokio::test]
async fn what_import_would_refuse_is_not_exported() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
    let mut memory = Memory::default();
    let app = memory.manifest(b"{}", &[], &[]);
    let mut builder = Builder::default();
    builder.document(&app).unwrap();
    let source = "h.io/x\u{1b}[2J".to_owned();
    builder.image(NamedImage { name: "ns/app:1".parse().unwrap(), source, document: app.digest() }, None);
    let error = writer(&dir.path().join("b"), &key).prepare(&builder.finish().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.chain().contains("source"), "{error:?}");
}

#[tokio::test]
async fn what_has_no_room_is_refused_before_the_first_byte_and_leaves_nothing() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
    let text = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
        descriptor("c", Digest::of(b"c"), 1),
        descriptor("l", Digest::of(b"l"), limits::BLOB_BYTES)
    );
    let huge = Document::parse(text.into(), &MediaType::new(MediaType::OCI_MANIFEST)).unwrap();
    let mut builder = Builder::default();
    builder.document(&huge).unwrap();
    let named = NamedImage { name: "ns/app:1".parse().unwrap(), source: "h.io/x:1".into(), document: huge.digest() };
    builder.image(named, None);
    let error = writer(&dir.path().join("b"), &key).prepare(&builder.finish().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Io);
    assert!(error.chain().contains("more bytes in"), "{error:?}");
    assert!(names(dir.path()).is_empty());
}

#[tokio::test]
async fn a_bundle_may_have_several_signatures_and_each_key_once() {
    let (dir, one, two) = (tempfile::tempdir().unwrap(), Key::new(), Key::new());
    let path = dir.path().join("b");
    let (memory, contents) = good();
    let both = DirectoryWriter::new(path.clone(), vec![one.load(), two.load()], now()).unwrap();
    write(&both, Arc::new(memory), Arc::new(contents)).await.unwrap();
    for key in [&one, &two] {
        let head = read(&path, &key.trust).unwrap();
        assert_eq!((head.seal.signers.len(), head.seal.bystanders.len()), (1, 1));
    }
    let twice = DirectoryWriter::new(path.clone(), vec![one.load(), one.load()], now()).unwrap_err();
    assert_eq!(twice.kind(), Kind::Usage);
    assert_eq!(DirectoryWriter::new(path, vec![], now()).unwrap_err().kind(), Kind::Usage);
}

#[tokio::test]
async fn without_trust_it_can_be_looked_at() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::new());
    let path = dir.path().join("b");
    write_good(&path, &key).await;
    let bundle = Bundle::open(&path).unwrap();
    let head = bundle.read_head_unverified(bundle.read_unverified().unwrap()).unwrap();
    assert_eq!(head.contents.images.len(), 3);
    assert!(head.seal.signers.is_empty());
    assert_eq!(head.seal.bystanders.len(), 1);
}

#[tokio::test]
async fn what_is_no_bundle_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("b.tar");
    std::fs::write(&file, b"ssh-ed25519 AAAA").unwrap();
    assert_eq!(Bundle::open(&file).unwrap_err().kind(), Kind::Usage);
    // What could be the beginning of one was cut off.
    for beginning in ["", "SHA2", "SHA256SUMS\0\0"] {
        std::fs::write(&file, beginning).unwrap();
        let error = Bundle::open(&file).unwrap().read_unverified().unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{error:?}");
    }
    let above = Bundle::open(dir.path()).unwrap().read_unverified().unwrap_err();
    assert!(above.hints()[0].starts_with("the seal is written last"), "{above:?}");
    std::fs::create_dir(dir.path().join("release")).unwrap();
    std::fs::write(dir.path().join("release/SHA256SUMS"), "").unwrap();
    let above = Bundle::open(dir.path()).unwrap().read_unverified().unwrap_err();
    assert!(above.hints()[0].ends_with("release\" looks like one"), "{above:?}");
    assert_eq!(Bundle::open(Path::new("/dev/null")).unwrap_err().kind(), Kind::Usage);
    assert_eq!(Bundle::open(&dir.path().join("none")).unwrap_err().kind(), Kind::NotFound);
}
