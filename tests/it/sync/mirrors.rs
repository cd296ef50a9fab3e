//! `registries.conf`: where images are read that have another name (containers-registries.conf(5)).

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::{Authority, Desk, HTPASSWD_PASSWORD, HTPASSWD_USER, RealRegistry, Validity, desk, references, tags};

use super::{assert_same_trees, sync};

const DIR: [&str; 4] = ["-s", "docker", "-d", "dir"];

/// A table, with its mirrors.
fn table(prefix: &str, location: &str, more: &str, mirrors: &[(&str, &str)]) -> String {
    let mirrors =
        mirrors.iter().map(|(location, more)| format!("[[registry.mirror]]\nlocation = {location:?}\n{more}\n"));
    let mirrors: String = mirrors.collect();
    format!("[[registry]]\nprefix = {prefix:?}\nlocation = {location:?}\n{more}\n{mirrors}")
}

fn write(desk: &Desk, text: &str) -> [&'static str; 2] {
    fs::write(desk.path().join("r.conf"), text).unwrap();
    ["--registries-conf", "r.conf"]
}

/// A host at which nothing listens.
fn dead() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn reads(registry: &RealRegistry, part: &str) -> usize {
    registry.access_log().iter().filter(|access| access.status == 200 && access.path.contains(part)).count()
}

/// `skopeo --registries-conf r.conf sync ...` in the directory of the desk.
fn skopeo(desk: &Desk, arguments: &[&str]) {
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "--registries-conf", "r.conf", "sync"])
        .args(arguments)
        .current_dir(desk.path())
        .output()
        .expect("skopeo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_image_is_read_at_its_location_and_keeps_its_name() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let conf = write(&desk, &table("example.com/foo", &format!("{}/team", source.host()), "insecure = true", &[]));
    let image = "example.com/foo/app:1";
    sync(&desk, &[&conf[..], &DIR, &["--scoped", "--all", image, "ours"]].concat())
        .success()
        .stderr_contains(&format!("example.com/foo/app is read from {}/team/app", source.host()));
    skopeo(&desk, &["-s", "docker", "-d", "dir", "--scoped", "--all", image, "theirs"]);
    assert_same_trees(&desk.path().join("theirs"), &desk.path().join("ours"));
    assert!(desk.path().join("ours/example.com/foo/app:1/manifest.json").exists());
    sync(&desk, &[&conf[..], &["-s", "docker", "-d", "docker", "--scoped", image, destination.host()]].concat())
        .success();
    assert_eq!(tags(destination.host(), "example.com/foo/app"), ["1"]);
    let export = ["export", image, "--output", "bundle", "--key", "key", "--scoped"];
    desk.sealift(&[&export[..], &conf].concat()).success();
    let inspected = desk.sealift(&["inspect", "bundle", "--json"]).success().stdout();
    assert!(inspected.contains(image) && !inspected.contains(source.host()), "{inspected}");
}

#[test]
fn mirrors_are_asked_in_their_order_and_the_registry_last() {
    let (primary, empty, full, desk) =
        (RealRegistry::with_corpus(), RealRegistry::start(), RealRegistry::with_corpus(), desk!());
    let dead = dead();
    let mirrors = |hosts: &[&str]| {
        let mirrors: Vec<(&str, &str)> = hosts.iter().map(|host| (*host, "insecure = true")).collect();
        table(primary.host(), primary.host(), "insecure = true", &mirrors)
    };
    let repository = format!("{}/team/app", primary.host());
    let conf = write(&desk, &mirrors(&[&dead, empty.host(), full.host()]));
    let run = sync(&desk, &[&conf[..], &DIR, &[&repository, "ours"]].concat());
    run.success();
    for said in [
        format!("{dead}/team/app does not serve {repository}, and the next location is asked: "),
        format!("{}/team/app does not serve {repository}, and the next location is asked: ", empty.host()),
        format!("{repository} is read from {}/team/app, a mirror in \"{}\" of r.conf", full.host(), primary.host()),
    ] {
        assert_eq!(run.stderr().matches(&said).count(), 1, "{said:?} is not there once: {}", run.stderr());
    }
    // Tags are listed where the name says, and nothing else is read there.
    assert_eq!((reads(&primary, "/tags/list"), reads(&primary, "/manifests/"), reads(&primary, "/blobs/")), (1, 0, 0));
    assert_eq!((reads(&full, "/tags/list"), reads(&empty, "/manifests/")), (0, 0));
    assert!(reads(&full, "/manifests/") > 0 && reads(&full, "/blobs/") > 0);
    skopeo(&desk, &["-s", "docker", "-d", "dir", &repository, "theirs"]);
    assert_same_trees(&desk.path().join("theirs"), &desk.path().join("ours"));
    // Where no mirror has it, the registry itself is asked.
    let conf = write(&desk, &mirrors(&[&dead, empty.host()]));
    sync(&desk, &[&conf[..], &DIR, &[&repository, "from-primary"]].concat()).success();
    assert!(reads(&primary, "/blobs/") > 0);
    assert_same_trees(&desk.path().join("theirs"), &desk.path().join("from-primary"));
    // And if that does not have it either, all of them are named.
    let missing = format!("{}/team/missing:1", primary.host());
    let run = sync(&desk, &[&conf[..], &DIR, &[&missing, "none"]].concat());
    run.code(1)
        .stderr_contains(&format!("{dead}/team/missing"))
        .stderr_contains(&format!("{}/team/missing", empty.host()));
}

#[test]
fn a_mirror_that_cannot_be_reached_is_tried_once() {
    let (primary, desk) = (RealRegistry::with_corpus(), desk!());
    // Cuts every connection, as a proxy without a server behind it does.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mirror, count) = (listener.local_addr().unwrap().to_string(), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            drop(connection);
        }
    });
    let conf = write(&desk, &table(primary.host(), primary.host(), "", &[(&mirror, "")]));
    let repository = format!("{}/team/app", primary.host());
    let run = sync(&desk, &[&conf[..], &DIR, &["--jobs", "1", "--progress", "json", &repository, "tree"]].concat());
    assert!(!run.success().stderr().contains("\"retrying\""), "{}", run.stderr());
    // By HTTP and by HTTPS.
    let connections = count.load(Ordering::SeqCst);
    assert_eq!(connections, 2);
    assert!(reads(&primary, "/manifests/") > 1);
}

#[test]
fn a_mirror_that_lacks_a_blob_is_helped_out() {
    let (primary, mirror, desk) = (RealRegistry::with_corpus(), RealRegistry::with_corpus(), desk!());
    let conf = write(&desk, &table(primary.host(), primary.host(), "", &[(mirror.host(), "")]));
    let app = format!("{}/team/app:1", primary.host());
    let manifest = support::raw_manifest(mirror.host(), "team/app", "1").unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest.bytes).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:");
    fs::remove_dir_all(mirror.storage().join(format!("docker/registry/v2/blobs/sha256/{}/{layer}", &layer[..2])))
        .unwrap();
    sync(&desk, &[&conf[..], &DIR, &[&app, "tree"]].concat()).success();
    assert_eq!((reads(&primary, "/manifests/"), reads(&primary, "/blobs/")), (0, 1));
}

#[test]
fn some_mirrors_are_for_digests_or_tags_only() {
    let digest = references().iter().find(|r| r.name() == "team/app:1").expect("in the corpus").digest.clone();
    for (registry, mirror, by_tag, by_digest) in [
        ("", "", true, true),
        ("", "pull-from-mirror = 'all'", true, true),
        ("", "pull-from-mirror = 'digest-only'", false, true),
        ("", "pull-from-mirror = 'tag-only'", true, false),
        ("mirror-by-digest-only = true", "", false, true),
    ] {
        for (selector, expected) in [(":1".to_owned(), by_tag), (format!("@{digest}"), by_digest)] {
            let (primary, other, desk) = (RealRegistry::with_corpus(), RealRegistry::with_corpus(), desk!());
            let conf = write(&desk, &table(primary.host(), primary.host(), registry, &[(other.host(), mirror)]));
            let image = format!("{}/team/app{selector}", primary.host());
            // An image that is pinned by its tag is still one that was asked for by tag.
            sync(&desk, &[&conf[..], &DIR, &["--all", &image, "tree"]].concat()).success();
            let case = format!("{registry} {mirror} {selector}");
            assert_eq!(other.access_log().iter().any(|a| a.path != "/v2/"), expected, "{case}");
            assert_eq!(reads(&primary, "/blobs/") == 0, expected, "{case}");
        }
    }
}

#[test]
fn what_is_blocked_is_neither_read_nor_written() {
    let (source, mirror, desk) = (RealRegistry::with_corpus(), RealRegistry::with_corpus(), desk!());
    let app = format!("{}/team/app", source.host());
    let blocked = format!("{}/team", source.host());
    let conf = write(&desk, &table(&blocked, &blocked, "blocked = true", &[]));
    for image in [app.clone(), format!("{app}:1")] {
        for command in [&["sync", "-s", "docker", "-d", "dir", &image, "tree"][..], &["export", &image, "--dry-run"]] {
            desk.sealift(&[command, &conf].concat())
                .code(3)
                .stderr_contains(&format!("{blocked:?} of r.conf blocks {app}"));
        }
    }
    let other = format!("{}/team/app:1", mirror.host());
    sync(&desk, &[&conf[..], &["-s", "docker", "-d", "docker", &other, &blocked]].concat())
        .code(3)
        .stderr_contains("r.conf blocks");
    assert!(source.access_log().is_empty());
    // Others are not concerned.
    let busybox = format!("{}/library/busybox:1.35", source.host());
    sync(&desk, &[&conf[..], &DIR, &[&busybox, "tree"]].concat()).success();
    // A blocked registry is read through its mirrors, as OpenShift's NeverContactSource wants it.
    let conf = write(&desk, &table(&blocked, &blocked, "blocked = true", &[(&format!("{}/team", mirror.host()), "")]));
    let before = source.access_log().len();
    sync(&desk, &[&conf[..], &DIR, &[&format!("{app}:1"), "tree"]].concat()).success();
    assert_eq!(source.access_log().len(), before);
}

#[test]
fn a_login_is_for_the_registry_that_is_contacted() {
    let (primary, mirror, desk) = (RealRegistry::with_corpus(), RealRegistry::with_htpasswd(true), desk!());
    let conf = write(&desk, &table("example.com", primary.host(), "", &[(mirror.host(), "")]));
    let run = |more: &[&str], tree: &str| {
        let fixed = [&conf[..], &DIR, &["example.com/team/app:1", tree]].concat();
        sync(&desk, &[more, &fixed].concat()).success().stderr()
    };
    let wrong = "does not serve example.com/team/app";
    let pair = format!("{HTPASSWD_USER}:{HTPASSWD_PASSWORD}");
    // The option is for example.com: the mirror does not see it.
    assert!(run(&["--src-creds", &pair], "one").contains(wrong));
    desk.sealift_with(
        &["login", "--authfile", "auth.json", "--username", HTPASSWD_USER, "--password-stdin", mirror.host()],
        &[],
        HTPASSWD_PASSWORD,
    )
    .success();
    assert!(!run(&["--authfile", "auth.json"], "two").contains(wrong));
    assert_same_trees(&desk.path().join("one"), &desk.path().join("two"));
    // A login that is kept for the name is not one for the location.
    let auth = fs::read_to_string(desk.path().join("auth.json")).unwrap().replace(mirror.host(), "example.com");
    fs::write(desk.path().join("auth.json"), auth).unwrap();
    assert!(run(&["--authfile", "auth.json"], "three").contains(wrong));
}

#[test]
fn an_insecure_location_needs_no_certificate() {
    let pair = Authority::new().issue("IP:127.0.0.1", Validity::Now);
    let (source, destination, desk) =
        (RealRegistry::with_corpus_and_tls(&pair, None), RealRegistry::start_tls(&pair, None), desk!());
    let app = format!("{}/team/app", source.host());
    let insecure = |registry: &RealRegistry| table(registry.host(), registry.host(), "insecure = true", &[]);
    let to = |conf: &[&str], more: &[&str]| {
        sync(
            &desk,
            &[conf, more, &["--retry-times", "0", "-s", "docker", "-d", "docker", &app, destination.host()]].concat(),
        )
    };
    let conf = write(&desk, &insecure(&source));
    to(&conf, &[]).code(1).stderr_contains(destination.host());
    let conf = write(&desk, &(insecure(&source) + &insecure(&destination)));
    // What was said on the command line counts more.
    to(&conf, &["--src-tls-verify=true"]).code(1).stderr_contains(source.host());
    to(&conf, &["--dest-tls-verify=true"]).code(1).stderr_contains(destination.host());
    to(&conf, &[]).success();
    let export = ["export", &app, "--output", "bundle", "--key", "key", "--retry-times", "0"];
    desk.sealift(&[&export[..], &conf, &["--tls-verify=true"]].concat()).code(1);
    desk.sealift(&[&export[..], &conf].concat()).success();
}

#[test]
fn the_files_are_found_and_merged() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let good = |prefix: &str| table(prefix, source.host(), "", &[]);
    let put = |path: &str, text: &str| {
        let path = desk.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("home/.config/containers/registries.conf", &table("a.com", "wrong.invalid", "", &[]));
    put("home/.config/containers/registries.conf.d/10-a.conf", &good("a.com"));
    put("home/.config/containers/registries.conf.d/20-b.conf", &table("b.com", "b.com", "blocked = true", &[]));
    put("home/.config/containers/registries.conf.d/30-b.disabled", &good("b.com"));
    put("xdg/containers/registries.conf", &good("c.com"));
    put("only.conf", &good("b.com"));
    let home = desk.path().join("home").to_str().unwrap().to_owned();
    let run = |image: &str, variables: &[(&str, &str)], more: &[&str]| {
        let tree = format!("tree-{}", fs::read_dir(desk.path()).unwrap().count());
        let variables = [&[("HOME", home.as_str())], variables].concat();
        let arguments = [&["sync", "--retry-times", "0"], &DIR[..], &[image, &tree], more].concat();
        desk.sealift_in(&variables, &arguments).exit_code()
    };
    assert_eq!(run("a.com/team/app:1", &[], &[]), 0, "a drop-in file replaces the table of its prefix");
    assert_eq!(run("b.com/team/app:1", &[], &[]), 3, "only what ends with .conf counts");
    assert_eq!(run("c.com/team/app:1", &[("XDG_CONFIG_HOME", "xdg")], &[]), 0);
    assert_eq!(run("b.com/team/app:1", &[("CONTAINERS_REGISTRIES_CONF", "only.conf")], &[]), 0, "and nothing else");
    let option = ["--registries-conf", "only.conf"];
    assert_eq!(run("b.com/team/app:1", &[], &option), 3, "drop-in files are read after the file of the option");
    let last = [("CONTAINERS_REGISTRIES_CONF_OVERRIDE", "only.conf")];
    assert_eq!(run("b.com/team/app:1", &last, &[]), 0, "it is read last");
    assert_eq!(run("a.com/team/app:1", &[("CONTAINERS_REGISTRIES_CONF", "none.conf")], &[]), 2);
    put("only.conf", "[[registry]]\nblocked = 'yes'\n");
    assert_eq!(run("a.com/team/app:1", &[], &option), 2);
    put("only.conf", "[registries.block]\nregistries = ['a.com']\n");
    assert_eq!(run("a.com/team/app:1", &[], &option), 2, "version 1 is no longer read");
}

#[test]
fn signatures_beside_a_registry_are_said_to_stay_behind() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let host = source.host();
    let store = desk.path().join("store");
    let digest = references().iter().find(|r| r.name() == "team/app:1").expect("in the corpus").digest.clone();
    let text = format!(
        "docker:\n  {host}: {{sigstore: 'file://{}'}}\n  {host}/library: {{use-sigstore-attachments: true}}\n",
        store.display()
    );
    fs::create_dir(desk.path().join("r.d")).unwrap();
    fs::write(desk.path().join("r.d/all.yaml"), &text).unwrap();
    fs::write(desk.path().join("r.d/not-read.yml"), "docker: [").unwrap();
    let exported = |image: &str| {
        let image = format!("{host}/{image}");
        desk.sealift(&["export", "--dry-run", "--registries.d", "r.d", &image]).success().stderr()
    };
    let synced = |image: &str| {
        let image = format!("{host}/{image}");
        sync(&desk, &[&DIR[..], &["--registries.d", "r.d", "--dry-run", &image, "tree"]].concat()).success().stderr()
    };
    assert!(!synced("team/app:1").contains("stay behind"), "the store has none");
    let at = store.join(format!("team/app@{}", digest.replacen(':', "=", 1)));
    put_signature(&at);
    for said in [synced("team/app:1"), exported("team/app:1")] {
        assert!(said.contains(&format!("signatures of {host}/team/app:1 stay behind: what file://")), "{said}");
    }
    // Of an index those of its manifests count, too.
    let list = support::raw_manifest(host, "docker/list", "1.2.13").unwrap();
    let list: serde_json::Value = serde_json::from_slice(&list.bytes).unwrap();
    let child = list["manifests"][0]["digest"].as_str().expect("an index");
    assert!(!exported("docker/list:1.2.13").contains("stay behind"));
    put_signature(&store.join(format!("docker/list@{}", child.replacen(':', "=", 1))));
    assert!(exported("docker/list:1.2.13").contains("signatures of"));
    for said in [synced("library/busybox:1.35"), exported("library/busybox:1.35")] {
        assert!(
            said.contains("library/busybox:1.35 stay behind: sigstore attachments, which are the tag sha256-"),
            "{said}"
        );
    }
    fs::write(desk.path().join("r.d/more.yaml"), &text).unwrap();
    let image = format!("{host}/team/app:1");
    desk.sealift(&["sync", "-s", "docker", "-d", "dir", "--registries.d", "r.d", &image, "tree"])
        .code(2)
        .stderr_contains("another file has");
}

fn put_signature(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("signature-1"), b"a signature").unwrap();
}
