//! Archives, changed by someone who has no key: the seal stays as it was.

mod zstandard;

use super::Class;
use crate::attacks::draft::{hex_of, path_of};
use crate::attacks::good::{LAYER, ONE, minimal};
use crate::attacks::keys::{BUNDLE, Key};
use crate::attacks::tarball::{BLOCK, Member, Tarball, octal, put_sum};

/// An attack on `bundle.tar` or `bundle.tar.zst`.
pub(crate) struct ArchiveAttack {
    pub(crate) name: &'static str,
    pub(crate) class: Class,
    /// Compressed: it can only be read as a stream.
    pub(crate) packed: bool,
    /// Whether a reader of a file that can be read in any order notices before it writes to a registry.
    pub(crate) in_head: bool,
    pub(crate) rule: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) why: &'static str,
    make: fn(Tarball) -> Vec<u8>,
}

impl ArchiveAttack {
    pub(crate) fn make(&self) -> Vec<u8> {
        (self.make)(Tarball::of(&minimal()))
    }

    pub(crate) fn file(&self) -> &'static str {
        if self.packed { "bundle.tar.zst" } else { "bundle.tar" }
    }
}

pub(crate) fn archive_attacks() -> Vec<ArchiveAttack> {
    [members(), types(), headers(), sizes(), order(), ends(), contents(), zstandard::attacks()]
        .into_iter()
        .flatten()
        .collect()
}

/// Members that are none of a bundle.
fn members() -> Vec<ArchiveAttack> {
    vec![
        tar("archive-traversal", NO_HEADER, "A member leads up.", |mut t| {
            t.insert(Some(&layer()), Member::file("../../etc/passwd", b"root::0:0:::"));
            t.bytes()
        }),
        tar("archive-traversal-last", GOES_ON, "A member leads up, after everything else.", |mut t| {
            t.insert(None, Member::file("../../etc/passwd", b"root::0:0:::"));
            t.bytes()
        }),
        tar("archive-absolute", NO_HEADER, "A member with an absolute path.", |mut t| {
            t.insert(Some(&layer()), Member::file("/etc/passwd", b"root::0:0:::"));
            t.bytes()
        }),
        tar("archive-not-listed", GOES_ON, "A blob that nothing lists.", |mut t| {
            t.insert(None, Member::file(&path_of(b"stowaway"), b"stowaway"));
            t.bytes()
        }),
        tar("archive-docker-manifest-first", ("12.1", "does not begin with SHA256SUMS"), DOCKER, |mut t| {
            t.insert(Some("SHA256SUMS"), Member::file("manifest.json", b"[]"));
            t.bytes()
        }),
        tar("archive-docker-manifest", NO_HEADER, DOCKER, |mut t| {
            t.insert(Some("index.json"), Member::file("manifest.json", b"[]"));
            t.bytes()
        }),
        tar("archive-docker-manifest-last", GOES_ON, DOCKER, |mut t| {
            t.insert(None, Member::file("manifest.json", b"[]"));
            t.bytes()
        }),
        tar("archive-duplicate", GOES_ON, "A layer again: the last one wins when it is unpacked.", |mut t| {
            t.insert(None, Member::file(&layer(), b"another layer."));
            t.bytes()
        }),
        tar("archive-duplicate-seal", GOES_ON, "The seal again.", |mut t| {
            t.insert(None, Member::file("SHA256SUMS", b""));
            t.bytes()
        }),
        tar("archive-duplicate-index", NO_HEADER, "index.json twice.", |mut t| {
            let again = t.member("index.json").clone();
            t.insert(Some("index.json"), again);
            t.bytes()
        }),
        tar("archive-duplicate-signature", ("12.1", "not in order"), "A signature twice.", |mut t| {
            let again = t.member("signatures/").clone();
            t.insert(Some("signatures/"), again);
            t.bytes()
        }),
    ]
}

/// Members of types that a bundle does not have.
fn types() -> Vec<ArchiveAttack> {
    vec![
        tar("archive-link", NO_HEADER, "A symbolic link to /etc/passwd.", |t| extra(t, b'2', b"")),
        tar("archive-hard-link", NO_HEADER, "A hard link to /etc/passwd.", |t| extra(t, b'1', b"")),
        tar("archive-character-device", NO_HEADER, "A character device.", |t| extra(t, b'3', b"")),
        tar("archive-block-device", NO_HEADER, "A block device.", |t| extra(t, b'4', b"")),
        tar("archive-directory", NO_HEADER, "A directory.", |t| extra(t, b'5', b"")),
        tar("archive-fifo", NO_HEADER, "A named pipe.", |t| extra(t, b'6', b"")),
        tar("archive-pax-header", NO_HEADER, "A pax header: the layer's path is another.", |t| {
            extra(t, b'x', b"16 path=../evil\n")
        }),
        tar("archive-pax-global-header", NO_HEADER, "A pax header for all that follows.", |t| {
            extra(t, b'g', b"16 path=../evil\n")
        }),
        tar("archive-gnu-long-name", NO_HEADER, "GNU's long name: the layer's path is another.", |t| {
            extra(t, b'L', b"../evil\0")
        }),
        tar("archive-gnu-long-link", NO_HEADER, "GNU's long link.", |t| extra(t, b'K', b"/etc/passwd\0")),
        tar("archive-gnu-volume", NO_HEADER, "GNU's name of a volume.", |t| extra(t, b'V', b"")),
        tar("archive-gnu-continued", NO_HEADER, "GNU's continued file.", |t| extra(t, b'M', b"")),
        tar("archive-solaris-header", NO_HEADER, "Solaris' extended header.", |t| extra(t, b'X', b"16 path=../evil\n")),
        tar("archive-pax-header-first", NO_BUNDLE, "A pax header before the seal.", |mut t| {
            t.insert(Some("SHA256SUMS"), Member::of_type("pax", b'g', b"16 path=../evil\n"));
            t.bytes()
        }),
        tar("archive-layer-is-link", NO_HEADER, "The layer's header is that of a link.", |t| {
            layer_header(t, 156, b"2")
        }),
        tar("archive-layer-is-sparse", NO_HEADER, "The layer is sparse, as GNU tar has it.", |t| {
            layer_header(t, 156, b"S")
        }),
        tar("archive-layer-is-contiguous", NO_HEADER, "A contiguous file: most programs unpack it the same.", |t| {
            layer_header(t, 156, b"7")
        }),
        tar("archive-layer-of-old-type", NO_HEADER, "The type of before ustar: programs unpack it the same.", |t| {
            layer_header(t, 156, b"\0")
        }),
    ]
}

/// Headers that most programs take.
fn headers() -> Vec<ArchiveAttack> {
    vec![
        tar("archive-mode-4777", NO_HEADER, "A layer with mode 4777.", |t| layer_header(t, 100, b"0004777")),
        tar("archive-mode-of-the-seal", NO_HEADER, "SHA256SUMS with mode 4777.", |mut t| {
            t.member("SHA256SUMS").set(100, b"0004777");
            t.bytes()
        }),
        tar("archive-mode-of-a-signature", NO_HEADER, "A signature with mode 4777.", |mut t| {
            t.member("signatures/").set(100, b"0004777");
            t.bytes()
        }),
        tar("archive-user", NO_HEADER, "index.json belongs to user 1000.", |mut t| {
            t.member("index.json").set(108, b"0001750");
            t.bytes()
        }),
        tar("archive-group", NO_HEADER, "A layer belongs to group 0 by another spelling.", |t| {
            layer_header(t, 116, b"     0 ")
        }),
        tar("archive-user-name", NO_HEADER, "A layer belongs to a user by name.", |t| layer_header(t, 265, b"root")),
        tar("archive-group-name", NO_HEADER, "A layer belongs to a group by name.", |t| layer_header(t, 297, b"root")),
        tar("archive-time", NO_HEADER, "bundle.json is of another time.", |mut t| {
            t.member("bundle.json").set(136, b"00000000001");
            t.bytes()
        }),
        tar("archive-magic-gnu", NO_HEADER, "GNU's magic.", |t| layer_header(t, 257, b"ustar  \0")),
        tar("archive-magic-none", NO_HEADER, "No magic: tar of before ustar.", |t| layer_header(t, 257, &[0; 8])),
        tar("archive-device-number", NO_HEADER, "A layer with a device number.", |t| layer_header(t, 329, b"0000001")),
        tar("archive-device-empty", NO_HEADER, "No device number, as the draft of the format had it.", |t| {
            layer_header(t, 329, &[0; 16])
        }),
        tar("archive-prefix", NO_HEADER, "The path goes on in the prefix.", |t| layer_header(t, 345, b"../evil")),
        tar("archive-link-name", NO_HEADER, "A file that names what it links to.", |t| {
            layer_header(t, 157, b"../evil")
        }),
        tar("archive-after-the-path", NO_HEADER, "Bytes after the zero that ends the path.", |t| {
            layer_header(t, 90, b"evil")
        }),
        tar("archive-in-the-tail", NO_HEADER, "Bytes in the unused end of the header.", |t| {
            layer_header(t, 500, b"evil")
        }),
        tar("archive-wrong-sum", NO_HEADER, "The sum of a header is wrong.", |mut t| {
            t.member(&layer()).header[148] ^= 1;
            t.bytes()
        }),
        tar("archive-sum-of-seven-digits", NO_HEADER, "The sum in another spelling.", |mut t| {
            let header = &mut t.member(&layer()).header;
            put_sum(header);
            let sum = [b"0", &header[148..154], b"\0"].concat();
            header[148..156].copy_from_slice(&sum);
            t.bytes()
        }),
        tar("archive-padding", ("12.2", "between files and not zero"), "Bytes after a layer's end.", |mut t| {
            let end = t.at(&layer());
            let mut bytes = t.parts(0..end + 1);
            *bytes.last_mut().unwrap() = 1;
            bytes.extend(t.members.drain(end + 1..).flat_map(|member| member.bytes()));
            bytes.resize(bytes.len() + 2 * BLOCK, 0);
            bytes
        }),
        tar("archive-padding-of-the-seal", ("12.2", "between files and not zero"), "Bytes after SHA256SUMS.", |t| {
            let mut bytes = t.bytes();
            let end = t.members[0].bytes().len();
            bytes[end - 1] = 1;
            bytes
        }),
    ]
}

fn sizes() -> Vec<ArchiveAttack> {
    vec![
        tar("archive-size-beyond", NO_HEADER, "A layer with a byte more than the plan.", |mut t| {
            t.member(&layer()).content.push(b'!');
            let size = octal(t.member(&layer()).content.len() as u64);
            layer_header(t, 124, &size)
        }),
        tar("archive-size-below", NO_HEADER, "A layer with a byte less than the plan.", |mut t| {
            t.member(&layer()).content.pop();
            let size = octal(t.member(&layer()).content.len() as u64);
            layer_header(t, 124, &size)
        }),
        tar("archive-size-huge", NO_HEADER, "A layer of 8 GiB less one, in its header.", |t| {
            layer_header(t, 124, b"77777777777")
        }),
        tar("archive-size-in-base-256", NO_HEADER, "A layer's size in GNU's other spelling.", |t| {
            layer_header(t, 124, &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, LAYER.len() as u8])
        }),
        tar("archive-size-negative", NO_HEADER, "A negative size.", |t| layer_header(t, 124, &[0xff; 12])),
        tar("archive-size-with-spaces", NO_HEADER, "A size with spaces for zeros.", |t| {
            layer_header(t, 124, format!("{:11o}", LAYER.len()).as_bytes())
        }),
        tar("archive-size-of-the-seal", ("8", "more than 16777216"), "SHA256SUMS of 1 GiB, in its header.", |mut t| {
            t.member("SHA256SUMS").set(124, &octal(1 << 30));
            t.bytes()
        }),
        tar("archive-size-of-the-seal-huge", NO_HEADER, "SHA256SUMS of 2^63 bytes, in its header.", |mut t| {
            t.member("SHA256SUMS").set(124, &[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]);
            t.bytes()
        }),
        tar("archive-size-of-a-signature", ("8", "more than 4096"), "A signature of 5 KiB.", |mut t| {
            t.member("signatures/").set(124, &octal(5 << 10));
            t.bytes()
        }),
        tar("archive-size-of-the-index", ("8", "more than 16777216"), "index.json of 17 MiB.", |mut t| {
            t.member("index.json").set(124, &octal(17 << 20));
            t.bytes()
        }),
        tar("archive-size-of-the-layout", ("8", "more than 30"), "oci-layout of 1 GiB.", |mut t| {
            t.member("oci-layout").set(124, &octal(1 << 30));
            t.bytes()
        }),
    ]
}

fn order() -> Vec<ArchiveAttack> {
    vec![
        tar("archive-wrong-order", NO_HEADER, "The layer before the config.", |mut t| {
            let moved = t.remove(&layer());
            t.insert(Some(&config()), moved);
            t.bytes()
        }),
        tar("archive-index-before-layout", NO_HEADER, "index.json before oci-layout.", |mut t| {
            let moved = t.remove("index.json");
            t.insert(Some("oci-layout"), moved);
            t.bytes()
        }),
        tar("archive-signature-before-sums", NO_BUNDLE, "A signature before SHA256SUMS.", |mut t| {
            let moved = t.remove("signatures/");
            t.insert(Some("SHA256SUMS"), moved);
            t.bytes()
        }),
        tar("archive-signatures-out-of-order", ("12.1", "not in order"), "Two signatures, not sorted.", |_| {
            let mut b = minimal();
            b.sign("stranger", &BUNDLE);
            let mut t = Tarball::of(&b);
            t.members.swap(1, 2);
            t.bytes()
        }),
        tar("archive-signature-of-another-name", NO_HEADER, "A signature by another name.", |mut t| {
            let content = t.remove("signatures/").content;
            t.insert(Some("bundle.json"), Member::file("signatures/trusted.sig", &content));
            t.bytes()
        })
        .untrusted("is not signed", "3.2"),
        tar("archive-signature-missing", NO_HEADER, "No signature.", |mut t| {
            t.remove("signatures/");
            t.bytes()
        })
        .untrusted("is not signed", "3.5"),
        tar("archive-by-a-stranger", NO_HEADER, "Sealed by a key that nobody knows.", |mut t| {
            let sums = t.member("SHA256SUMS").content.clone();
            t.remove("signatures/");
            let key = Key::named("stranger");
            t.insert(Some("bundle.json"), Member::file(&key.path(), key.sign(&BUNDLE, &sums).as_bytes()));
            t.bytes()
        })
        .untrusted("nobody who is trusted", "3.5"),
        tar("archive-layer-missing", NO_HEADER, "The layer is missing.", |mut t| {
            t.remove(&layer());
            t.bytes()
        })
        .says(("12.7", "bytes")),
        tar("archive-manifest-missing", NO_HEADER, "The manifest is missing.", |mut t| {
            t.remove(&manifest());
            t.bytes()
        }),
    ]
}

fn ends() -> Vec<ArchiveAttack> {
    vec![
        tar("archive-empty", ("12.4", "ends early"), "No byte at all.", |_| Vec::new()),
        tar("archive-of-zeros", ("12.10", "begins with zeros"), "An archive whose seal was not written yet.", |t| {
            let mut bytes = t.bytes();
            bytes[..BLOCK].fill(0);
            bytes
        }),
        tar("archive-cut-in-the-seal", ("12.4", "ends early"), "Cut off in SHA256SUMS.", |t| t.bytes()[..700].to_vec()),
        tar("archive-cut-in-the-head", ("12.4", "ends early"), "Cut off in index.json.", |t| {
            let before = t.parts(0..t.at("index.json")).len();
            t.bytes()[..before + BLOCK + 100].to_vec()
        }),
        tar("archive-cut-before-the-layer", CUT, "Cut off between two members.", |t| t.parts(0..t.at(&layer()))),
        tar("archive-cut-in-the-layer", CUT, "Cut off in the layer.", |t| {
            let before = t.parts(0..t.at(&layer())).len();
            t.bytes()[..before + BLOCK + 3].to_vec()
        }),
        tar("archive-no-end", CUT, "The end is missing.", |t| t.parts(0..t.members.len())),
        tar("archive-half-an-end", CUT, "Half of the end is missing.", |t| {
            let bytes = t.bytes();
            bytes[..bytes.len() - BLOCK].to_vec()
        }),
        tar("archive-end-not-zero", ("12.4", "not zero"), "A byte in the end.", |t| {
            let mut bytes = t.bytes();
            *bytes.last_mut().unwrap() = 1;
            bytes
        }),
        tar("archive-record-padding", GOES_ON, "Zeros up to a record of 10 KiB, as GNU tar adds them.", |t| {
            let mut bytes = t.bytes();
            bytes.resize(bytes.len().next_multiple_of(20 * BLOCK), 0);
            bytes
        }),
        tar("archive-trailing-byte", GOES_ON, "A byte after the end.", |t| [t.bytes(), vec![0]].concat()),
        tar("archive-trailing-data", GOES_ON, "A script after the end.", |t| {
            [t.bytes(), b"#!/bin/sh\n".to_vec()].concat()
        }),
        tar("archive-second-archive", GOES_ON, "Another archive after the end.", |t| {
            let other = Tarball { members: vec![Member::file("../../etc/passwd", b"root::0:0:::")] };
            [t.bytes(), other.bytes()].concat()
        }),
        tar("archive-end-in-the-middle", NO_HEADER, "The end in the middle: other files for tar -i.", |t| {
            let at = t.at(&layer());
            [t.parts(0..at), vec![0; 2 * BLOCK], t.parts(at..t.members.len()), vec![0; 2 * BLOCK]].concat()
        }),
        tar("archive-something-before", NO_BUNDLE, "A script before the archive.", |t| {
            let mut bytes = b"#!/bin/sh\nexit\n".to_vec();
            bytes.resize(BLOCK, b'#');
            [bytes, t.bytes()].concat()
        }),
        tar("archive-gzip", NO_BUNDLE, "Compressed by something else.", |t| {
            [b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec(), t.bytes()].concat()
        }),
    ]
}

/// Files with other bytes in headers that are right.
fn contents() -> Vec<ArchiveAttack> {
    vec![
        tar("archive-sums-flipped", ("3.4", "was changed"), "A byte of SHA256SUMS.", |t| flip(t, "SHA256SUMS")),
        tar("archive-bundle-json-flipped", ("6.2", "not what was sealed"), "A byte of bundle.json.", |t| {
            flip(t, "bundle.json")
        }),
        tar("archive-index-json-flipped", ("6.2", "not what was sealed"), "A byte of index.json.", |t| {
            flip(t, "index.json")
        }),
        tar("archive-manifest-flipped", ("6.3", "have the digest"), "A byte of the manifest.", |t| {
            flip(t, &manifest())
        }),
        tar("archive-config-flipped", ("6.3", "another digest"), "A byte of the config.", |t| flip(t, &config())),
        ArchiveAttack {
            in_head: false,
            ..tar("archive-layer-flipped", ("6.5", "is damaged"), "A byte of the layer.", |t| flip(t, &layer()))
        },
    ]
}

/// Before the layer: as the end of the head, which every reader has read when a registry is written to.
fn extra(mut t: Tarball, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut member = Member::of_type("blobs/sha256/extra", kind, content);
    member.set(157, b"/etc/passwd");
    t.insert(Some(&layer()), member);
    t.bytes()
}

fn layer_header(mut t: Tarball, at: usize, bytes: &[u8]) -> Vec<u8> {
    t.member(&layer()).set(at, bytes);
    t.bytes()
}

fn flip(mut t: Tarball, path: &str) -> Vec<u8> {
    let content = &mut t.member(path).content;
    let middle = content.len() / 2;
    content[middle] ^= 1;
    t.bytes()
}

fn layer() -> String {
    path_of(LAYER)
}

fn config() -> String {
    path_of(ONE)
}

fn manifest() -> String {
    let b = minimal();
    format!("blobs/sha256/{}", hex_of(&b.files[&b.manifest_of(ONE)]))
}

fn tar(
    name: &'static str,
    (rule, reason): (&'static str, &'static str),
    why: &'static str,
    make: fn(Tarball) -> Vec<u8>,
) -> ArchiveAttack {
    ArchiveAttack { name, class: Class::Damaged, packed: false, in_head: true, rule, reason, why, make }
}

impl ArchiveAttack {
    fn untrusted(self, reason: &'static str, rule: &'static str) -> ArchiveAttack {
        ArchiveAttack { class: Class::Untrusted, reason, rule, ..self }
    }

    fn says(self, (rule, reason): (&'static str, &'static str)) -> ArchiveAttack {
        ArchiveAttack { rule, reason, ..self }
    }
}

const NO_HEADER: (&str, &str) = ("12.5", "is not the header of");
const NO_BUNDLE: (&str, &str) = ("12.1", "does not begin with SHA256SUMS");
const GOES_ON: (&str, &str) = ("12.4", "goes on after the end");
const CUT: (&str, &str) = ("12.7", "bytes");
const DOCKER: &str = "A manifest.json, from which podman and docker would load.";
