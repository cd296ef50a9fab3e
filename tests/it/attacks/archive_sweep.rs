//! Every byte of a small archive changed, and the archive cut off at every length: as a file, through a pipe, compressed.

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use sealift::jobs::verify::{self, VerifiedBundle};
use sealift::transfer::TransferOptions;
use sealift::trust::Trust;
use sealift::{Kind, Result};

use super::good::{minimal, rich};
use super::recording::{now, open, options, transfer, transfer_with, trust};
use super::refused::sealift;
use super::tarball::{BLOCK, Tarball};

/// How a reader gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    File,
    Pipe,
}

#[test]
fn every_flipped_byte_and_every_cut_of_a_tar_is_refused_and_nothing_lands() {
    let tar = Tarball::of(&minimal()).bytes();
    assert!(tar.len() < 16 << 10, "{}", tar.len());
    for way in [Way::File, Way::Pipe] {
        let changes = tar.len() * 2;
        let in_layers = sweep(changes, |number, at| {
            let found = read(way, at, &changed(&tar, number));
            if let Outcome::Taken = found { Err(format!("{way:?} {number}: taken")) } else { Ok(found) }
        });
        println!("{} bytes, {way:?}: {changes} changes, {in_layers} found after the head", tar.len());
        assert!(in_layers > 0);
    }
    let desk = tempfile::tempdir().unwrap();
    for way in [Way::File, Way::Pipe] {
        assert_eq!(read(way, desk.path(), &tar), Outcome::Taken, "it was good all the time");
    }
}

/// Also when it should go past what fails: some images are whole, and the archive is not.
#[test]
fn a_cut_pipe_lands_nothing_when_it_keeps_going() {
    let tar = Tarball::of(&rich()).bytes();
    let keep_going = TransferOptions { keep_going: true, ..options() };
    for length in (tar.len() - 4096..tar.len()).step_by(128) {
        let input = Box::new(Cursor::new(tar[..length].to_vec()));
        let Ok(verified) = verify::open_stream(input, "a pipe", &TRUST, now()) else { continue };
        let (recording, done) = transfer_with(&verified, &keep_going);
        assert_eq!(done.expect_err("cut").kind(), Kind::Damaged, "{length}");
        assert!(recording.is_untouched(), "{length}");
    }
}

/// What is compressed may be compressed otherwise: what is taken has unpacked to the very archive.
#[test]
fn a_changed_zst_is_refused_or_unpacks_to_the_same_tar_and_no_cut_is_taken() {
    let tarball = Tarball::of(&minimal());
    let tar = tarball.bytes();
    let layer = tarball.members.len() - 1;
    // As sealift writes it: the layer in a frame of its own. And as zstd does, with a checksum.
    let (head, rest) = tar.split_at(tarball.parts(0..layer).len());
    let frames = [zstd::encode_all(head, 3).unwrap(), zstd::encode_all(rest, -7).unwrap()].concat();
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 19).unwrap();
    encoder.include_checksum(true).unwrap();
    std::io::Write::write_all(&mut encoder, &tar).unwrap();
    for packed in [frames, encoder.finish().unwrap()] {
        let changes = packed.len() * 2;
        let taken = AtomicUsize::new(0);
        sweep(changes, |number, at| {
            let bytes = changed(&packed, number);
            let found = read(Way::Pipe, at, &bytes);
            if found == Outcome::Taken {
                taken.fetch_add(1, Relaxed);
                let cut = number >= packed.len();
                if cut || zstd::decode_all(Cursor::new(&bytes)).ok().as_deref() != Some(&tar[..]) {
                    return Err(format!("{number}: taken"));
                }
            }
            Ok(found)
        });
        println!("{} bytes: {changes} changes, {} unpack to the same", packed.len(), taken.into_inner());
        let desk = tempfile::tempdir().unwrap();
        assert_eq!(read(Way::Pipe, desk.path(), &packed), Outcome::Taken, "it was good all the time");
    }
}

#[test]
fn some_of_them_are_refused_by_the_program() {
    let tar = Tarball::of(&minimal()).bytes();
    let desk = tempfile::tempdir().unwrap();
    for (name, bytes) in [("b.tar", tar.clone()), ("b.tar.zst", zstd::encode_all(&tar[..], 3).unwrap())] {
        let path = desk.path().join(name);
        for number in (0..bytes.len()).step_by(bytes.len() / SAMPLES).chain([bytes.len() - 1]) {
            // The second byte of a frame's header says how long it is, and may say so in two ways.
            if name == "b.tar" {
                fs::write(&path, changed(&bytes, number)).unwrap();
                let run = sealift(&["verify"], &path, &[]);
                assert_eq!(run.status.code(), Some(3), "{name} {number}: {run:?}");
            }
            fs::write(&path, changed(&bytes, bytes.len() + number)).unwrap();
            let run = sealift(&["verify"], &path, &[]);
            assert_eq!(run.status.code(), Some(3), "{name} cut to {number}: {run:?}");
        }
        fs::write(&path, &bytes).unwrap();
        assert!(sealift(&["verify"], &path, &[]).status.success());
    }
}

/// The change of this number: first a flip of every byte, then a cut to every length.
fn changed(good: &[u8], number: usize) -> Vec<u8> {
    match number.checked_sub(good.len()) {
        Some(length) => good[..length].to_vec(),
        None => {
            let mut bytes = good.to_vec();
            // Another bit in every block and byte, so that all kinds of changes are there.
            bytes[number] ^= 1 << ((number + number / BLOCK) % 8);
            bytes
        }
    }
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    RefusedByHead,
    RefusedLater,
    Taken,
}

/// Reads an archive and moves everything into a destination that remembers.
fn read(way: Way, desk: &Path, bytes: &[u8]) -> Outcome {
    let damaged = |kind| assert!(matches!(kind, Kind::Damaged | Kind::Untrusted), "{kind:?}");
    let verified: Result<VerifiedBundle> = match way {
        Way::File => {
            let path = desk.join("b.tar");
            fs::write(&path, bytes).unwrap();
            open(&path, &TRUST)
        }
        Way::Pipe => verify::open_stream(Box::new(Cursor::new(bytes.to_vec())), "a pipe", &TRUST, now()),
    };
    let verified = match verified {
        Ok(verified) => verified,
        Err(error) => {
            damaged(error.kind());
            return Outcome::RefusedByHead;
        }
    };
    let (recording, done) = transfer(&verified);
    match done {
        Ok(()) => {
            assert!(!recording.is_untouched());
            Outcome::Taken
        }
        Err(error) => {
            damaged(error.kind());
            assert!(recording.is_untouched(), "something landed: {error:?}");
            Outcome::RefusedLater
        }
    }
}

/// Runs all changes on several threads; returns how many were refused after the head.
fn sweep(changes: usize, case: impl Fn(usize, &Path) -> std::result::Result<Outcome, String> + Sync) -> usize {
    let (next, later) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let worker = || {
            let desk = tempfile::tempdir().unwrap();
            let mut wrong = Vec::new();
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= changes {
                    return wrong;
                }
                match case(number, desk.path()) {
                    Ok(Outcome::RefusedLater) => drop(later.fetch_add(1, Relaxed)),
                    Ok(_) => {}
                    Err(fault) => wrong.push(fault),
                }
            }
        };
        let workers = [(); WORKERS].map(|()| scope.spawn(worker));
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{} of {changes}: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
    later.into_inner()
}

static TRUST: LazyLock<Trust> = LazyLock::new(trust);
const WORKERS: usize = 4;
const SAMPLES: usize = 12;
