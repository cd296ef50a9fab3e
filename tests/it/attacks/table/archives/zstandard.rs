//! Compressed archives: what Zstandard allows and a bundle does not.

use std::io::Write as _;

use super::{ArchiveAttack, DOCKER, GOES_ON, NO_BUNDLE, NO_HEADER, flip, layer, layer_header, tar};
use crate::attacks::tarball::{BLOCK, Member, Tarball, octal};

pub(super) fn attacks() -> Vec<ArchiveAttack> {
    vec![
        zst("archive-zst-bomb-after-the-end", GOES_ON, "1 GiB of zeros in 33 KiB, after the end.", |t| {
            [pack(&t.bytes()), bomb(1 << 30)].concat()
        }),
        zst("archive-zst-bomb-in-the-layer", NO_HEADER, "1 GiB of zeros where the layer was.", |mut t| {
            let at = t.at(&layer());
            t.member(&layer()).set(124, &octal(1 << 30));
            let header = t.members[at].header;
            [pack(&t.parts(0..at)), pack(&header), bomb(1 << 30), pack(&[0; 2 * BLOCK])].concat()
        }),
        zst("archive-zst-bomb-in-the-seal", ("8", "more than 16777216"), "SHA256SUMS is 1 GiB of zeros.", |mut t| {
            t.member("SHA256SUMS").set(124, &octal(1 << 30));
            [pack(&t.members[0].header), bomb(1 << 30)].concat()
        }),
        zst("archive-zst-window-128-mib", UNPACKS, "A window of 128 MiB.", |t| {
            // The descriptor of the frame, and its window: 2^(10 + 17).
            raw_frame(&[0, 17 << 3], &t.bytes())
        }),
        zst(
            "archive-zst-window-by-size",
            UNPACKS,
            "A single segment of 2 GiB, which all would be kept in memory.",
            |t| raw_frame(&[0b1010_0000, 0, 0, 0, 0x80], &t.bytes()),
        ),
        zst("archive-zst-dictionary", UNPACKS, "A frame that needs a dictionary.", |t| {
            raw_frame(&[1, 7 << 3, 42], &t.bytes())
        }),
        zst("archive-zst-empty-frame-last", UNPACKS, "A frame that unpacks to nothing, at the end.", |t| {
            [pack(&t.bytes()), pack(b"")].concat()
        }),
        zst("archive-zst-empty-frame-first", UNPACKS, "A frame that unpacks to nothing, at the beginning.", |t| {
            [pack(b""), pack(&t.bytes())].concat()
        }),
        zst("archive-zst-skippable-frame-last", UNPACKS, "A frame that is not unpacked, at the end.", |t| {
            [pack(&t.bytes()), skippable()].concat()
        }),
        zst("archive-zst-skippable-frame-between", UNPACKS, "A frame that is not unpacked, before the layer.", |t| {
            let at = t.at(&layer());
            [pack(&t.parts(0..at)), skippable(), pack(&t.bytes()[t.parts(0..at).len()..])].concat()
        }),
        zst("archive-zst-skippable-frame-first", NO_BUNDLE, "A frame that is not unpacked, at the beginning.", |t| {
            [skippable(), pack(&t.bytes())].concat()
        }),
        zst("archive-zst-trailing-data", UNPACKS, "A script after the last frame.", |t| {
            [pack(&t.bytes()), b"#!/bin/sh\n".to_vec()].concat()
        }),
        zst("archive-zst-second-archive", GOES_ON, "The archive twice.", |t| {
            [pack(&t.bytes()), pack(&t.bytes())].concat()
        }),
        zst("archive-zst-in-zst", ("12.1", "does not begin with SHA256SUMS"), "Compressed twice.", |t| {
            pack(&pack(&t.bytes()))
        }),
        zst("archive-zst-cut", ("12.4", "ends early"), "The last frame is cut off.", |t| {
            let bytes = pack(&t.bytes());
            bytes[..bytes.len() - 8].to_vec()
        }),
        zst("archive-zst-cut-between-frames", ("12.4", "ends early"), "The last frame is missing.", |t| {
            pack(&t.parts(0..t.at(&layer())))
        }),
        zst("archive-zst-wrong-sum", UNPACKS, "The checksum of a frame is wrong.", |t| {
            let mut bytes = pack(&t.bytes());
            *bytes.last_mut().unwrap() ^= 1;
            bytes
        }),
        zst("archive-zst-reserved-block", UNPACKS, "A block of the type that is reserved.", |t| {
            let mut bytes = raw_frame(&[0, 7 << 3], &t.bytes());
            bytes[6] |= 6;
            bytes
        }),
        zst("archive-zst-layer-is-link", NO_HEADER, "The layer's header is that of a link.", |t| {
            pack(&layer_header(t, 156, b"2"))
        }),
        zst("archive-zst-docker-manifest-last", ("12.4", "not zero"), DOCKER, |mut t| {
            t.insert(None, Member::file("manifest.json", b"[]"));
            pack(&t.bytes())
        }),
        zst("archive-zst-layer-flipped", ("6.5", "is damaged"), "A byte of the layer.", |t| pack(&flip(t, &layer()))),
    ]
}

/// One frame, with a checksum.
fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A frame of zeros in blocks that repeat one byte (RFC 8878, 3.1.1.2), without a size.
fn bomb(size: u32) -> Vec<u8> {
    let mut frame = [&MAGIC[..], &[0, 7 << 3]].concat();
    let blocks = size / MOST;
    for block in 1..=blocks {
        let header = MOST << 3 | 1 << 1 | u32::from(block == blocks);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// A frame of one raw block; `header` is what follows the magic.
fn raw_frame(header: &[u8], bytes: &[u8]) -> Vec<u8> {
    let block = (bytes.len() as u32) << 3 | 1;
    [&MAGIC, header, &block.to_le_bytes()[..3], bytes].concat()
}

fn skippable() -> Vec<u8> {
    [&[0x5a, 0x2a, 0x4d, 0x18, 7, 0, 0, 0], &b"payload"[..]].concat()
}

fn zst(
    name: &'static str,
    rule: (&'static str, &'static str),
    why: &'static str,
    make: fn(Tarball) -> Vec<u8>,
) -> ArchiveAttack {
    ArchiveAttack { packed: true, in_head: false, ..tar(name, rule, why, make) }
}

const UNPACKS: (&str, &str) = ("12.9", "is damaged after byte");
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The largest block.
const MOST: u32 = 128 << 10;
