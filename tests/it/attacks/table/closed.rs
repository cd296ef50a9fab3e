//! Changes to sealed files, and what lies beside them.

use super::{Attack, in_layers, stranger};
use crate::attacks::draft::{Draft, path_of};
use crate::attacks::good::{LAYER, ONE, OTHER, SHARED, minimal, rich};
use crate::attacks::keys::Key;

pub(super) fn attacks() -> Vec<Attack> {
    [changed(), missing(), added(), linked()].into_iter().flatten().collect()
}

fn changed() -> Vec<Attack> {
    vec![
        in_layers(stranger("layer-flipped", ("6.5", "is damaged"), "One bit of a layer differs.", minimal, |b| {
            b.flip(&path_of(LAYER));
        })),
        in_layers(stranger(
            "layers-exchanged",
            ("6.5", "is damaged"),
            "Two layers of one size have changed places.",
            rich,
            |b| {
                let (one, two) = (path_of(SHARED), path_of(OTHER));
                let bytes = b.remove(&one);
                let other = std::mem::replace(b.file(&two), bytes);
                b.put(&one, other);
            },
        )),
        stranger("layer-cut", ("6.4", "has 13 bytes"), "A layer lacks its last byte.", minimal, |b| {
            b.file(&path_of(LAYER)).pop();
        }),
        stranger("layer-empty", ("6.4", "has 0 bytes"), "A layer has lost all its bytes.", minimal, |b| {
            b.file(&path_of(LAYER)).clear();
        }),
        stranger("layer-longer", ("6.4", "has 15 bytes"), "A layer has one byte more.", minimal, |b| {
            b.file(&path_of(LAYER)).push(0);
        }),
        stranger(
            "layer-huge",
            ("6.4", "has 1099511627776 bytes"),
            "A layer of 14 bytes is a sparse file of 1 TiB: reading it before looking at its size takes an hour.",
            minimal,
            |b| b.run(&format!("truncate -s 1T {}", path_of(LAYER))),
        ),
        stranger(
            "config-flipped",
            ("6.3", "another digest"),
            "One bit of a config differs: it decides what is run.",
            minimal,
            |b| b.flip(&path_of(ONE)),
        ),
        stranger("config-longer", ("6.4", "has 13 bytes"), "A config has one byte more.", minimal, |b| {
            b.file(&path_of(ONE)).push(0);
        }),
        stranger("manifest-flipped", ("6.3", "have the digest"), "One bit of a manifest differs.", minimal, |b| {
            b.flip(&b.manifest_of(ONE));
        }),
        stranger("manifest-cut", ("6.3", "its descriptor says"), "A manifest lacks its last byte.", minimal, |b| {
            b.file(&b.manifest_of(ONE)).pop();
        }),
        stranger(
            "manifest-of-another-image",
            ("6.3", "is damaged"),
            "The manifest of one image lies under the digest of another of the same size.",
            rich,
            |b| {
                let mut other = b.text(&b.manifest_of(ONE));
                other = other.replacen("\"size\":16}]", "\"size\":61}]", 1);
                *b.file(&b.manifest_of(ONE)) = other.into_bytes();
            },
        ),
        stranger(
            "bundle-json-changed",
            ("6.2", "bundle.json is not what was sealed"),
            "The time in bundle.json is another.",
            minimal,
            |b| b.replace("bundle.json", "12:00", "13:00"),
        ),
        stranger(
            "index-json-changed",
            ("6.2", "index.json is not what was sealed"),
            "An image is to land under another name.",
            minimal,
            |b| b.replace("index.json", "ns/app:1", "ns/app:2"),
        ),
        stranger(
            "oci-layout-changed",
            ("6.2", "oci-layout is not what was sealed"),
            "oci-layout says another version.",
            minimal,
            |b| b.replace("oci-layout", "1.0.0", "1.0.1"),
        ),
        stranger("oci-layout-huge", ("8", "more than 30"), "oci-layout has 1 MiB of spaces.", minimal, |b| {
            b.put("oci-layout", vec![b' '; 1 << 20]);
        }),
        stranger(
            "index-json-1-gib",
            ("8", "more than 16777216"),
            "index.json is a sparse file of 1 GiB.",
            minimal,
            |b| {
                b.run("truncate -s 1G index.json");
            },
        ),
        stranger(
            "bundle-json-1-gib",
            ("8", "more than 16777216"),
            "bundle.json is a sparse file of 1 GiB.",
            minimal,
            |b| {
                b.run("truncate -s 1G bundle.json");
            },
        ),
    ]
}

fn missing() -> Vec<Attack> {
    vec![
        stranger("layer-missing", ("6.4", "1 of 3 files are missing"), "A layer is not there.", minimal, |b| {
            b.remove(&path_of(LAYER));
        }),
        stranger("config-missing", ("6.4", "missing"), "A config is not there.", minimal, |b| {
            b.remove(&path_of(ONE));
        }),
        stranger("manifest-missing", ("6.3", "is missing"), "A manifest is not there.", minimal, |b| {
            b.remove(&b.manifest_of(ONE));
        }),
        stranger("bundle-json-missing", ("6.2", "bundle.json is missing"), "bundle.json is not there.", minimal, |b| {
            b.remove("bundle.json");
        }),
        stranger("index-json-missing", ("6.2", "index.json is missing"), "index.json is not there.", minimal, |b| {
            b.remove("index.json");
        }),
        stranger("oci-layout-missing", ("6.2", "oci-layout is missing"), "oci-layout is not there.", minimal, |b| {
            b.remove("oci-layout");
        }),
        stranger("blobs-missing", ("6.3", "blobs is missing"), "The directory blobs is not there.", minimal, |b| {
            b.files.retain(|path, _| !path.starts_with("blobs/"));
        }),
    ]
}

fn added() -> Vec<Attack> {
    vec![
        stranger(
            "docker-archive-manifest",
            ("1.2", "does not list"),
            "A docker-archive manifest.json lies beside: podman load would load what it names.",
            minimal,
            |b| {
                b.put(
                    "manifest.json",
                    format!("[{{\"Config\":\"{}\",\"RepoTags\":[\"evil:1\"],\"Layers\":[]}}]", path_of(ONE)),
                );
            },
        ),
        stranger("file-not-listed", ("1.2", "does not list"), "A file lies at the top.", minimal, |b| {
            b.put("install.sh", "echo gotcha\n");
        }),
        stranger("blob-not-listed", ("6.4", "does not list"), "A blob that nobody listed.", minimal, |b| {
            b.blob("stowaway");
        }),
        stranger(
            "blob-upper-case",
            ("6.4", "does not list"),
            "A blob's name in upper case: the same file on FAT, another elsewhere.",
            minimal,
            |b| {
                let path = path_of(LAYER);
                let upper = path.rsplit('/').next().unwrap().to_uppercase();
                b.put(&format!("blobs/sha256/{upper}"), LAYER);
            },
        ),
        stranger(
            "blob-of-another-algorithm",
            ("1.4", "does not list"),
            "There is a directory blobs/sha512.",
            minimal,
            |b| {
                b.put(&format!("blobs/sha512/{}", "0".repeat(128)), "x");
            },
        ),
        stranger("folder-not-listed", ("1.2", "(a directory)"), "An empty directory at the top.", minimal, |b| {
            b.run("mkdir empty");
        }),
        stranger("folder-among-blobs", ("1.2", "(a directory)"), "An empty directory among the blobs.", minimal, |b| {
            b.run("mkdir blobs/sha256/empty");
        }),
        stranger("pipe-not-listed", ("1.2", "(a named pipe)"), "A named pipe beside the blobs.", minimal, |b| {
            b.run("mkfifo blobs/pipe");
        }),
        stranger("link-not-listed", ("1.2", "(a symbolic link)"), "A link at the top that leads out.", minimal, |b| {
            b.link("etc", "/etc");
        }),
        stranger(
            "file-name-acts-on-terminals",
            ("7.6", "evil\\u{1b}[2J"),
            "A file's name clears the screen of whoever reads the message.",
            minimal,
            |b| b.put("evil\u{1b}[2J", "x"),
        ),
        stranger(
            "very-many-files",
            ("8", "more than"),
            "A thousand files among the blobs: a reader need not look at all of them.",
            minimal,
            |b| b.run("i=0; while [ $i -lt 1000 ]; do : > blobs/sha256/$i; i=$((i + 1)); done"),
        ),
        stranger("dropping-finder", ("7.7", "rm -r -- '"), "macOS left .DS_Store.", minimal, |b| {
            b.put(".DS_Store", "x")
        }),
        stranger("dropping-apple-double", ("7.7", "rm -r -- '"), "macOS left ._ beside a blob.", minimal, |b| {
            b.put(&path_of(LAYER).replace("sha256/", "sha256/._"), "x");
        }),
        stranger(
            "dropping-windows",
            ("7.7", "System Volume Information'"),
            "Windows left System Volume Information.",
            minimal,
            |b| b.put("System Volume Information/WPSettings.dat", "x"),
        ),
        stranger(
            "dropping-beside-signature",
            ("7.7", "rm -r -- '"),
            "macOS left ._ beside a signature.",
            minimal,
            |b| {
                b.put(&Key::named("trusted").path().replace("signatures/", "signatures/._"), "x");
            },
        ),
    ]
}

fn linked() -> Vec<Attack> {
    vec![
        stranger(
            "layer-is-link",
            ("7.5", "symbolic link"),
            "A layer is a link to a file of the reader's.",
            minimal,
            |b| {
                b.remove(&path_of(LAYER));
                b.link(&path_of(LAYER), "/etc/passwd");
            },
        ),
        stranger(
            "layer-is-link-to-its-own-bytes",
            ("7.5", "symbolic link"),
            "A layer is a link to a file that holds the right bytes now.",
            minimal,
            |b| {
                let bytes = b.remove(&path_of(LAYER));
                b.put("../elsewhere", bytes);
                b.link(&path_of(LAYER), "../../../elsewhere");
            },
        ),
        stranger(
            "layer-is-pipe",
            ("7.5", "named pipe"),
            "A layer is a named pipe: to open it is to wait.",
            minimal,
            |b| {
                b.remove(&path_of(LAYER));
                b.run(&format!("mkfifo {}", path_of(LAYER)));
            },
        ),
        stranger(
            "layer-is-folder",
            ("7.5", "a directory, not a regular file"),
            "A layer is a directory.",
            minimal,
            |b| {
                b.remove(&path_of(LAYER));
                b.run(&format!("mkdir {}", path_of(LAYER)));
            },
        ),
        stranger(
            "manifest-is-link",
            ("7.5", "symbolic link"),
            "A manifest is a link out of the bundle.",
            minimal,
            |b| {
                let path = b.manifest_of(ONE);
                let bytes = b.remove(&path);
                b.put("../elsewhere", bytes);
                b.link(&path, "../../../elsewhere");
            },
        ),
        stranger("index-json-is-pipe", ("7.5", "named pipe"), "index.json is a named pipe.", minimal, |b| {
            b.remove("index.json");
            b.run("mkfifo index.json");
        }),
        stranger(
            "bundle-json-is-link",
            ("7.5", "symbolic link"),
            "bundle.json is a link out of the bundle.",
            minimal,
            |b| {
                let bytes = b.remove("bundle.json");
                b.put("../elsewhere", bytes);
                b.link("bundle.json", "../elsewhere");
            },
        ),
        stranger(
            "blobs-is-link",
            ("7.5", "symbolic link"),
            "blobs is a link to a directory elsewhere.",
            minimal,
            |b| {
                move_blobs(b, "blobs");
                b.link("blobs", "../elsewhere");
            },
        ),
        stranger(
            "sha256-is-link",
            ("7.5", "symbolic link"),
            "blobs/sha256 is a link to a directory elsewhere.",
            minimal,
            |b| {
                move_blobs(b, "blobs/sha256");
                b.link("blobs/sha256", "../../elsewhere");
            },
        ),
        stranger("blobs-is-file", ("7.5", "not a directory"), "blobs is a file.", minimal, |b| {
            b.files.retain(|path, _| !path.starts_with("blobs/"));
            b.put("blobs", "x");
        }),
        stranger(
            "blob-with-an-ending",
            ("6.4", "does not list"),
            "A blob's name goes on after its digits.",
            minimal,
            |b| {
                b.put(&format!("{}.tar", path_of(LAYER)), LAYER);
            },
        ),
    ]
}

fn move_blobs(b: &mut Draft, from: &str) {
    let moved = |path: &str| match path.strip_prefix(from).filter(|rest| rest.starts_with('/')) {
        Some(rest) => format!("../elsewhere{rest}"),
        None => path.to_owned(),
    };
    b.files = b.files.iter().map(|(path, bytes)| (moved(path), bytes.clone())).collect();
}
