//! What lies in an unfinished directory that others prepared.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use super::scene::{Case, End, Form, Place, Plant, Scene, is_root};

#[test]
fn blobs_are_used_by_their_hash_and_nothing_else_is_used() {
    let cases: &[(&str, Plant, End)] = &[
        (
            "a blob with other bytes",
            |p| spoil(p, 1, |path| fs::write(path, support::noise(4, 300_000)).unwrap()),
            CONTINUED,
        ),
        (
            "a blob of another image",
            |p| {
                p.interrupt();
                fs::write(p.blob(&support::sha256(b"evil")["sha256:".len()..]), b"evil").unwrap();
            },
            CONTINUED,
        ),
        (
            "a blob that is a hard link",
            |p| {
                spoil(p, 1, |path| {
                    fs::hard_link(path, path.ancestors().nth(5).unwrap().join("elsewhere/linked")).unwrap()
                });
            },
            CONTINUED,
        ),
        ("a blob that others may write", |p| spoil(p, 1, |path| open(path, 0o666)), CONTINUED),
        (
            "a part that is a hard link",
            |p| {
                p.interrupt();
                fs::write(p.elsewhere(), support::noise(4, 4 << 20)).unwrap();
                fs::hard_link(p.elsewhere(), part(p)).unwrap();
            },
            CONTINUED,
        ),
        (
            "a part that others may write",
            |p| {
                p.interrupt();
                fs::write(part(p), support::noise(4, 4 << 20)).unwrap();
                open(&part(p), 0o666);
            },
            CONTINUED,
        ),
        (
            "a part that is a link",
            |p| {
                p.interrupt();
                symlink(p.elsewhere(), part(p)).unwrap();
            },
            End::Refused("not of sealift's making"),
        ),
        (
            "a blob that is a link",
            |p| {
                spoil(p, 1, |path| {
                    fs::remove_file(path).unwrap();
                    symlink("/etc/passwd", path).unwrap();
                });
            },
            End::Refused("not of sealift's making"),
        ),
        (
            "a seal of another bundle",
            |p| {
                p.interrupt();
                for name in ["SHA256SUMS", "index.json", "bundle.json", "oci-layout"] {
                    fs::write(p.partial().join(name), b"evil").unwrap();
                }
                fs::create_dir(p.partial().join("signatures")).unwrap();
                fs::write(p.partial().join("signatures/0.sig"), b"evil").unwrap();
            },
            CONTINUED,
        ),
        (
            "links in place of the seal",
            |p| {
                p.interrupt();
                symlink(p.elsewhere(), p.partial().join("SHA256SUMS")).unwrap();
            },
            End::Refused("not of sealift's making"),
        ),
        (
            "a file that does not belong there",
            |p| {
                p.interrupt();
                fs::write(p.partial().join("notes.txt"), b"mine").unwrap();
            },
            End::Refused("not of sealift's making"),
        ),
        (
            "blobs: link",
            |p| {
                fs::create_dir(p.partial()).unwrap();
                symlink(p.path("elsewhere"), p.partial().join("blobs")).unwrap();
            },
            End::Refused("is a symbolic link"),
        ),
        (
            "blobs: others may write",
            |p| {
                p.interrupt();
                open(&p.partial().join("blobs/sha256"), 0o777);
            },
            End::Refused("may be written by others"),
        ),
        (
            "signatures: link",
            |p| {
                p.interrupt();
                symlink(p.path("elsewhere"), p.partial().join("signatures")).unwrap();
            },
            End::Refused("not of sealift's making"),
        ),
        (
            "a directory of 0.1",
            |p| {
                p.interrupt();
                for path in [p.partial(), p.partial().join("blobs"), p.partial().join("blobs/sha256")] {
                    open(&path, 0o755);
                }
            },
            CONTINUED,
        ),
    ];
    let cases = cases.iter().map(|(name, plant, end)| Case { name, form: Form::Directory, plant: *plant, end: *end });
    Scene::new().check(&cases.collect::<Vec<_>>());
}

#[test]
fn a_blob_of_another_user_is_fetched_again() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    let place = scene.place(Form::Directory);
    spoil(&place, 1, |path| chown(path, Some(12_345), None).unwrap());
    scene.proxy.reset_count();
    place.check(CONTINUED).unwrap();
    assert_eq!(scene.proxy.count("GET", &scene.blobs[1]), 1);
    assert_eq!(scene.proxy.count("GET", &scene.blobs[0]), 0, "the others are used again");
}

const CONTINUED: End = End::SealedSaying("continuing what an interrupted run planned");

/// Changes a blob that an interrupted run left.
fn spoil(place: &Place<'_>, blob: usize, change: impl FnOnce(&Path)) {
    place.interrupt();
    change(&place.blob(&place.scene.blobs[blob]));
}

/// The last layer while it is written.
fn part(place: &Place<'_>) -> std::path::PathBuf {
    place.blob(&format!(".{}.part", place.scene.blobs[2]))
}

fn open(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
