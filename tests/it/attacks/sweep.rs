//! Every byte of every file of a small bundle changed, every file cut off at every length.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use sealift::Kind;

use super::draft::Draft;
use super::good::{minimal, rich};
use super::recording::{open, transfer, trust};
use super::refused::sealift;

/// What is done to a file.
#[derive(Debug, Clone, Copy)]
enum Change {
    Flip { at: usize, mask: u8 },
    Cut { to: usize },
    Append(u8),
    Insert { at: usize },
}

impl Change {
    fn apply(self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        match self {
            Change::Flip { at, mask } => bytes[at] ^= mask,
            Change::Cut { to } => bytes.truncate(to),
            Change::Append(byte) => bytes.push(byte),
            Change::Insert { at } => bytes.insert(at, b' '),
        }
        bytes
    }
}

/// Every bit pattern and place for a small bundle; flips of two bits and cuts for a larger one.
fn changes(draft: &Draft, thorough: bool) -> Vec<(&str, Change)> {
    let mut all = Vec::new();
    let masks: &[u8] = if thorough { &[0x01, 0x20, 0x80, 0xff] } else { &[0x01, 0x80] };
    for (path, bytes) in &draft.files {
        let at = 0..bytes.len();
        all.extend(at.clone().flat_map(|at| masks.iter().map(move |&mask| (path.as_str(), Change::Flip { at, mask }))));
        all.extend(at.clone().map(|to| (path.as_str(), Change::Cut { to })));
        all.extend(at.filter(|_| thorough).map(|at| (path.as_str(), Change::Insert { at })));
        all.extend([0, b'\n', b' '].map(|byte| (path.as_str(), Change::Append(byte))));
    }
    all
}

#[test]
fn every_flipped_byte_and_every_cut_is_refused_and_nothing_lands() {
    for (draft, thorough) in [(minimal(), true), (rich(), false)] {
        let size: usize = draft.files.values().map(Vec::len).sum();
        assert!(size < 16 << 10, "{size}");
        let all = changes(&draft, thorough);
        let (next, in_layers) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let wrong: Vec<String> = std::thread::scope(|scope| {
            let worker = || {
                let desk = tempfile::tempdir().unwrap();
                let bundle = desk.path().join("bundle");
                draft.store(&bundle);
                let trust = trust();
                let mut wrong = Vec::new();
                while let Some((path, change)) = all.get(next.fetch_add(1, Relaxed)) {
                    let (file, bytes) = (bundle.join(path), &draft.files[*path]);
                    fs::write(&file, change.apply(bytes)).unwrap();
                    let refusal = match open(&bundle, &trust) {
                        Err(error) => Some(error),
                        Ok(verified) => {
                            in_layers.fetch_add(1, Relaxed);
                            let (recording, done) = transfer(&verified);
                            done.err().filter(|_| recording.is_untouched())
                        }
                    };
                    if !refusal.as_ref().is_some_and(|error| matches!(error.kind(), Kind::Damaged | Kind::Untrusted)) {
                        wrong.push(format!("{path} {change:?}: {refusal:?}"));
                    }
                    fs::write(&file, bytes).unwrap();
                }
                // It was good all the time.
                let (recording, done) = transfer(&open(&bundle, &trust).unwrap());
                assert!(done.is_ok() && !recording.is_untouched());
                wrong
            };
            let workers = [(); WORKERS].map(|()| scope.spawn(worker));
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        println!("{size} bytes: {} changes, {} found as layers stream", all.len(), in_layers.load(Relaxed));
        assert!(wrong.is_empty(), "{} of {}: {:#?}", wrong.len(), all.len(), &wrong[..wrong.len().min(20)]);
        assert!(in_layers.load(Relaxed) > 0);
    }
}

#[test]
fn a_hundred_of_them_are_refused_by_the_program() {
    let draft = minimal();
    let desk = tempfile::tempdir().unwrap();
    let bundle = desk.path().join("bundle");
    draft.store(&bundle);
    let all = changes(&draft, true);
    for (path, change) in all.iter().step_by(all.len() / SAMPLES) {
        damage(&bundle, &draft, path, *change);
    }
    assert!(sealift(&["verify"], &bundle, &[]).status.success());
}

fn damage(bundle: &Path, draft: &Draft, path: &str, change: Change) {
    let bytes = &draft.files[path];
    fs::write(bundle.join(path), change.apply(bytes)).unwrap();
    let run = sealift(&["verify"], bundle, &[]);
    assert_eq!(run.status.code(), Some(3), "{path} {change:?}: {run:?}");
    fs::write(bundle.join(path), bytes).unwrap();
}

const WORKERS: usize = 4;
const SAMPLES: usize = 100;
