//! What goes wrong with skopeo sync, and must not here.

use support::{RealRegistry, desk, raw_manifest, tags};

use super::trees::files;

const SYNC: [&str; 4] = ["sync", "--src", "docker", "--dest"];

#[test]
fn two_images_of_one_base_name_are_refused_before_a_manifest_is_read() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    support::push_image(source.host(), "mirror/us/busybox", "1.35", &[b"another image"]);
    let yaml = format!(
        "{}:\n  tls-verify: false\n  images:\n    library/busybox: ['1.35']\n    mirror/us/busybox: ['1.35']\n",
        source.host()
    );
    std::fs::write(desk.path().join("sync.yaml"), yaml).unwrap();
    for dest in ["dir", "docker"] {
        let to = RealRegistry::start();
        let place = if dest == "dir" { "tree" } else { to.host() };
        let run = desk.sealift(&["sync", "--all", "--src", "yaml", "--dest", dest, "sync.yaml", place]);
        run.code(2).stderr_contains("library/busybox:1.35").stderr_contains("mirror/us/busybox:1.35");
        run.stderr_contains("--scoped");
        assert!(to.writes().is_empty());
    }
    assert!(!desk.path().join("tree").exists());
    let read = source.access_log().into_iter().filter(|access| access.method == "GET" && access.path.contains("/ma"));
    assert_eq!(read.count(), 0, "no manifest was read");
    desk.sealift(&["sync", "--all", "--scoped", "--src", "yaml", "--dest", "dir", "sync.yaml", "tree"]).success();
}

#[test]
fn the_directory_that_is_named_as_the_source_is_in_no_name() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let image = format!("{}/team/app:1", source.host());
    desk.sealift(&["sync", "--scoped", "--src", "docker", "--dest", "dir", &image, "usb"]).success();
    let expected = format!("{}/team/app", source.host().replace(':', "_"));
    for name in ["usb", "usb/", "./usb", "./usb/", "usb/../usb"] {
        let to = RealRegistry::start();
        desk.sealift(&["sync", "--scoped", "--src", "dir", "--dest", "docker", name, to.host()]).success();
        assert_eq!(support::catalog(to.host()), [expected.as_str()], "{name}");
    }
    // An image's own directory gives its own name and nothing of what is above it.
    let to = RealRegistry::start();
    let own = format!("usb/{}/team/app:1", source.host());
    desk.sealift(&["sync", "--scoped", "--src", "dir", "--dest", "docker", &own, to.host()]).success();
    assert_eq!(support::catalog(to.host()), ["app"]);
}

#[test]
fn from_a_tree_the_namespace_stays_unless_it_is_to_go() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let image = format!("{}/team/app:1", source.host());
    desk.sealift(&[&SYNC[..], &["dir", "--names", "path", &image, "tree"]].concat()).success();
    assert!(desk.path().join("tree/team/app:1/manifest.json").exists());
    for (options, expected) in
        [(&[][..], "team/app"), (&["--scoped"][..], "team/app"), (&["--names", "base"][..], "app")]
    {
        let to = RealRegistry::start();
        let fixed = ["sync", "--src", "dir", "--dest", "docker", "tree", to.host()];
        desk.sealift(&[&fixed, options].concat()).success();
        assert_eq!(support::catalog(to.host()), [expected], "{options:?}");
        assert_eq!(tags(to.host(), expected), ["1"]);
    }
}

#[test]
fn a_tree_is_not_written_into_the_tree_that_is_read() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let image = format!("{}/team/app:1", source.host());
    desk.sealift(&["sync", "--src", "docker", "--dest", "dir", &image, "tree"]).success();
    let before = files(&desk.path().join("tree"));
    for inside in ["tree", "tree/sub", "./tree/app:1/../x"] {
        let run = desk.sealift(&["sync", "--src", "dir", "--dest", "dir", "tree", inside]);
        run.code(2).stderr_contains("is inside SOURCE");
    }
    assert_eq!(files(&desk.path().join("tree")), before);
    desk.sealift(&["sync", "--src", "dir", "--dest", "dir", "tree", ""]).code(2);
    desk.sealift(&["sync", "--src", "dir", "--dest", "dir", "tree", "tree2"]).success();
}

#[test]
fn a_dry_run_makes_nothing_anywhere() {
    let (source, to, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let image = format!("{}/team/app", source.host());
    let plan = desk.sealift(&[&SYNC[..], &["dir", "--dry-run", "--digestfile", "digests", &image, "tree"]].concat());
    assert!(plan.success().stderr().contains("app:1"));
    desk.sealift(&[&SYNC[..], &["docker", "--dry-run", &image, to.host()]].concat()).success();
    for name in ["tree", "digests"] {
        assert!(!desk.path().join(name).exists(), "{name}");
    }
    assert!(to.writes().is_empty());
    assert!(source.access_log().iter().all(|access| !access.path.contains("/blobs/")));
}

#[test]
fn a_repository_that_cannot_be_listed_is_not_passed_over() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let yaml = |section: &str| {
        let text = format!("{}:\n  tls-verify: false\n  images:\n    team/app: ['1']\n{section}", source.host());
        std::fs::write(desk.path().join("sync.yaml"), text).unwrap();
    };
    for section in
        ["    no/such: []\n", "  images-by-tag-regex:\n    no/such: .*\n", "  images-by-semver:\n    no/such: '>= 1'\n"]
    {
        yaml(section);
        let run = desk.sealift(&["sync", "--src", "yaml", "--dest", "dir", "sync.yaml", "tree"]);
        run.code(1).stderr_contains("no/such");
        assert!(!desk.path().join("tree").exists(), "{section}");
        let run = desk.sealift(&["sync", "--keep-going", "--src", "yaml", "--dest", "dir", "sync.yaml", "tree"]);
        run.code(4).stderr_contains("no/such");
        assert!(desk.path().join("tree/app:1/manifest.json").exists());
        std::fs::remove_dir_all(desk.path().join("tree")).unwrap();
    }
}

#[test]
fn what_was_changed_in_a_tree_does_not_go_unnoticed() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let pinned = support::references().into_iter().find(|reference| reference.repository == "team/pinned").unwrap();
    let images = [format!("{}/team/app:1", source.host()), pinned.at(source.host())];
    for image in &images {
        desk.sealift(&[&SYNC[..], &["dir", image, "tree"]].concat()).success();
    }
    let to = RealRegistry::start();
    let sync = ["sync", "--src", "dir", "--dest", "docker", "tree", to.host()];
    let said = desk.sealift(&sync).success().stderr();
    assert_eq!(said.matches("nothing vouches for").count(), 1, "{said}");

    // A directory that is named by a digest vouches for its manifest.
    let by_digest = desk.path().join(format!("tree/pinned@{}/manifest.json", pinned.digest));
    let right = std::fs::read(&by_digest).unwrap();
    let changed = String::from_utf8(right.clone()).unwrap() + "\n";
    std::fs::write(&by_digest, changed).unwrap();
    let to = RealRegistry::start();
    let sync = ["sync", "--src", "dir", "--dest", "docker", "tree", to.host()];
    desk.sealift(&sync).code(3).stderr_contains(&pinned.digest);
    assert!(to.writes().is_empty());
    std::fs::write(&by_digest, right).unwrap();

    // Every manifest vouches for what it refers to.
    let manifest = raw_manifest(source.host(), "team/app", "1").unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest.bytes).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap()["sha256:".len()..].to_owned();
    let layer = desk.path().join("tree/app:1").join(layer);
    let mut bytes = std::fs::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // By itself: the other image that has this layer keeps its own.
    std::fs::remove_file(&layer).unwrap();
    std::fs::write(&layer, &bytes).unwrap();
    let sync = ["sync", "--src", "dir", "--dest", "docker", "tree/app:1", to.host()];
    desk.sealift(&sync).code(3).stderr_contains("app:1");
    assert!(raw_manifest(to.host(), "app", "1").is_none());
    std::fs::remove_file(&layer).unwrap();
    desk.sealift(&sync).code(1).stderr_contains("app:1");
}

#[test]
fn a_tree_is_brought_up_to_date_in_place_and_what_is_there_is_not_fetched() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let image = format!("{}/team/app", source.host());
    let sync = [&SYNC[..], &["dir", "--all", image.as_str(), "tree"]].concat();
    desk.sealift(&sync).success();
    let before = files(&desk.path().join("tree"));
    let asked = source.access_log().len();
    desk.sealift(&sync).success();
    assert_eq!(files(&desk.path().join("tree")), before);
    let log = source.access_log();
    assert!(log[asked..].iter().all(|access| !access.path.contains("/blobs/")), "{:#?}", &log[asked..]);

    // A tag moves: only what is new is fetched, and what is old goes.
    let moved = raw_manifest(source.host(), "team/app", "2").unwrap();
    support::put_manifest(source.host(), "team/app", "1", &moved.media_type, &moved.bytes);
    desk.sealift(&sync).success();
    let after = files(&desk.path().join("tree"));
    assert_eq!(after["app:1/manifest.json"], after["app:2/manifest.json"]);
    let only = |name: &str| after.keys().filter(|path| path.starts_with(name)).count();
    assert_eq!(only("app:1/"), only("app:2/"));
    let log = source.access_log();
    assert!(log[asked..].iter().all(|access| !access.path.contains("/blobs/")), "all of it was in app:2");
}
