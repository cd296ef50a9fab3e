//! What the options mean.

use std::fs;

use rstest::rstest;
use support::{HTPASSWD_PASSWORD, HTPASSWD_USER, RealRegistry, desk, raw_manifest, references, sha256, tags};

use super::sync;

#[test]
fn the_file_of_digests_has_skopeos_lines() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let references = references();
    let digest = |name: &str| references.iter().find(|r| r.name() == name).expect("in the corpus").digest.clone();
    let app = format!("{}/team/app:1", source.host());
    let run = |dest: &str, target: &str| {
        sync(&desk, &["-s", "docker", "-d", dest, "--append-suffix=-m", "--digestfile", "digests", &app, target])
            .success();
        fs::read_to_string(desk.path().join("digests")).unwrap()
    };
    let expected = digest("team/app:1");
    let host = destination.host();
    assert_eq!(run("dir", "./usb/"), format!("{expected} dir:usb/app:1-m\n"));
    assert_eq!(run("docker", &format!("{host}/x/")), format!("{expected} docker://{host}/x/app:1-m\n"));
    // What is there already is in its place, too.
    assert_eq!(run("docker", &format!("{host}/x/")), format!("{expected} docker://{host}/x/app:1-m\n"));
    assert_eq!(tags(host, "x/app"), ["1-m"]);
    let pinned = format!(
        "{}/team/pinned@{}",
        source.host(),
        digest(&references.iter().find(|r| r.repository == "team/pinned").unwrap().name())
    );
    sync(&desk, &["-s", "docker", "-d", "docker", "--append-suffix", "-m", &pinned, host])
        .code(2)
        .stderr_contains("no tag");
}

#[test]
fn a_dry_run_writes_nothing_and_says_what_is_there() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let app = format!("{}/team/app", source.host());
    let dry = ["--dry-run", "--digestfile", "digests", "-s", "docker", "-d"];
    let run = sync(&desk, &[&dry, &["dir", &app, "usb/new"][..]].concat());
    let said = run.success().stderr();
    assert_eq!(run.stdout(), "", "skopeo prints on stderr");
    assert!(said.contains(&format!("docker://{app}:1 -> dir:usb/new/app:1  sha256:")), "{said}");
    sync(&desk, &["-s", "docker", "-d", "docker", &format!("{app}:1"), destination.host()]).success();
    let writes = destination.writes().len();
    let said = sync(&desk, &[&dry, &["docker", &app, destination.host()][..]].concat()).success().stderr();
    assert_eq!(said.lines().filter(|line| line.ends_with("(there already)")).count(), 1, "{said}");
    let json =
        sync(&desk, &[&["--json"], &dry[..], &["docker", &app, destination.host()][..]].concat()).success().stdout();
    let plan: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(plan["images"].as_array().unwrap().iter().filter(|image| image["there"] == true).count(), 1, "{json}");
    assert_eq!(destination.writes().len(), writes);
    assert!(!desk.path().join("usb").exists() && !desk.path().join("digests").exists());
}

#[test]
fn from_a_tree_the_namespace_stays_unless_skopeos_way_is_asked_for() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let jq = format!("{}/team/tools/jq:1", source.host());
    sync(&desk, &["-s", "docker", "-d", "dir", "--scoped", &jq, "usb"]).success();
    let to = |target: &str, tree: &str, more: &[&str]| {
        let target = format!("{}/{target}", destination.host());
        let run = sync(&desk, &[&["-s", "dir", "-d", "docker"], more, &[tree, &target]].concat());
        assert_eq!(run.success().stderr().matches("nothing vouches for").count(), 1);
    };
    let host = source.host();
    to("plain", "./usb/", &[]);
    to("scoped", "usb", &["--scoped"]);
    to("below", &format!("usb/{host}"), &["--scoped"]);
    to("base", "usb", &["--names", "base"]);
    to("one", &format!("usb/{host}/team/tools/jq:1"), &[]);
    let port = host.replace(':', "_");
    for repository in [
        format!("plain/{port}/team/tools/jq"),
        format!("scoped/{port}/team/tools/jq"),
        "below/team/tools/jq".into(),
        "base/jq".into(),
        "one/jq".into(),
    ] {
        assert_eq!(tags(destination.host(), &repository), ["1"], "{repository}");
    }
}

#[test]
fn a_platform_of_choice_takes_the_place_of_an_index() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let list = format!("{}/docker/list:1.2.13", source.host());
    let index: serde_json::Value =
        serde_json::from_slice(&raw_manifest(source.host(), "docker/list", "1.2.13").unwrap().bytes).unwrap();
    let arm = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .find(|child| child["platform"]["architecture"] == "arm64")
        .unwrap();
    let chosen =
        ["-s", "docker", "-d", "docker", "--override-arch=arm64", "--override-variant=v8", "--override-os=linux"];
    sync(&desk, &[&chosen[..], &[&list, destination.host()]].concat()).success();
    let landed = raw_manifest(destination.host(), "list", "1.2.13").unwrap();
    assert_eq!(arm["digest"], sha256(&landed.bytes));
}

#[test]
fn referrers_stay_behind_unless_they_are_asked_for() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let jq = format!("{}/team/tools/jq:1", source.host());
    let digest = references().iter().find(|r| r.name() == "team/tools/jq:1").expect("in the corpus").digest.clone();
    let sbom = digest.replace(':', "-");
    let run = |more: &[&str], target: &str| {
        let target = format!("{}/{target}", destination.host());
        sync(&desk, &[&["-s", "docker", "-d", "docker"], more, &[&jq, &target]].concat()).success();
    };
    run(&[], "without");
    assert_eq!(tags(destination.host(), "without/jq"), ["1"]);
    run(&["--referrers"], "with");
    let mut with = tags(destination.host(), "with/jq");
    with.sort();
    assert_eq!(with, ["1", &sbom]);
    // That the image is there says nothing of what refers to it.
    run(&["--referrers"], "without");
    assert_eq!(tags(destination.host(), "without/jq").len(), 2);
}

#[test]
fn a_format_converts_nothing() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let at = |name: &str| format!("{}/{name}", source.host());
    let run = |format: &str, name: &str| {
        sync(&desk, &["-s", "docker", "-d", "docker", "--all", "--format", format, &at(name), destination.host()])
    };
    run("oci", "docker/list:1.2.13").code(2).stderr_contains("docker/list:1.2.13 is application/vnd.docker");
    run("v2s2", "library/busybox:1.35").code(2).stderr_contains("library/busybox:1.35 is application/vnd.oci");
    run("v2s1", "docker/single").code(2).stderr_contains("asks for a conversion");
    assert!(destination.writes().is_empty());
    run("oci", "library/busybox").success();
    run("v2s2", "docker/list").success();
}

#[test]
fn each_side_has_its_own_login() {
    let (source, destination, desk) = (RealRegistry::with_htpasswd(true), RealRegistry::with_htpasswd(false), desk!());
    let app = format!("{}/team/app:1", source.host());
    let pair = format!("{HTPASSWD_USER}:{HTPASSWD_PASSWORD}");
    let common = ["--retry-times", "0", "-s", "docker", "-d", "docker", &app, destination.host()];
    let run = |more: &[&str], stdin: &str| desk.sealift_with(&[&["sync"], more, &common].concat(), &[], stdin);
    run(&["--src-no-creds", "--dest-creds", &pair], "").code(1).stderr_contains(source.host());
    run(&["--src-creds", &pair, "--dest-no-creds"], "").code(1).stderr_contains(destination.host());
    run(&["--src-username", HTPASSWD_USER, "--dest-no-creds"], "")
        .code(2)
        .stderr_contains("--src-username needs a password");
    let options = ["--src-creds", &pair, "--dest-username", HTPASSWD_USER, "--dest-password-stdin"];
    let run = run(&options, &format!("{HTPASSWD_PASSWORD}\n"));
    run.success();
    assert!(!run.stderr().contains(HTPASSWD_PASSWORD));
    assert_eq!(tags(destination.unlocked().host(), "app"), ["1"]);
}

#[rstest]
#[case(&["--sign-by", "ABC"], "--sign-by is an option of skopeo", "--dest bundle")]
#[case(&["--sign-by-sigstore", "f"], "--sign-by-sigstore ", "--dest bundle")]
#[case(&["--sign-by-sigstore-private-key", "f"], "--sign-by-sigstore-private-key ", "--dest bundle")]
#[case(&["--sign-by-sq-fingerprint", "f"], "--sign-by-sq-fingerprint ", "--dest bundle")]
#[case(&["--sign-passphrase-file", "f"], "--sign-passphrase-file ", "--dest bundle")]
#[case(&["--format", "v2s1"], "conversion", "leave --format out")]
#[case(&["--key", "key"], "--key goes with --dest bundle", "nothing else")]
#[case(&["--trust", "key.pub"], "--trust goes with --src bundle", "nothing vouches")]
fn what_is_left_out_says_so_and_names_the_alternative(#[case] more: &[&str], #[case] said: &str, #[case] hint: &str) {
    let desk = desk!();
    let run = sync(&desk, &[more, &["-s", "docker", "-d", "docker", "localhost:1/a", "localhost:1"]].concat());
    run.code(2).stderr_contains(said).stderr_contains("hint: ").stderr_contains(hint);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let desk = desk!();
    for (arguments, said) in [
        ("sync -s bundle -d bundle a b --key key --trust key.pub", "a bundle is not made of a bundle"),
        ("sync -s docker -d bundle localhost:1/a b", "--dest bundle needs --key"),
        ("sync -s docker -d bundle --key key --json localhost:1/a -", "both want to go to stdout"),
        ("sync -s bundle -d dir a b", "no trust given"),
        ("sync -s bundle -d dir --trust key.pub --scoped a b", "as it was sealed"),
        ("sync -s dir -d docker --referrers a localhost:1", "--referrers goes with"),
        (
            "--require-signed sync -s docker -d docker localhost:1/a localhost:1",
            "--require-signed is an option of skopeo",
        ),
        ("--policy p.json inspect a", "--policy goes with sealift sync"),
        ("--override-os linux inspect a", "--override-os goes with sealift sync"),
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        desk.sealift(&arguments).code(2).stderr_contains(said);
    }
    desk.sealift(&["sync", "-s", "yml", "-d", "dir", "a", "b"]).code(2);
}

#[test]
fn time_runs_out() {
    let desk = desk!();
    // Nobody answers here: a listener that is never asked to accept.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let image = format!("{}/a:1", silent.local_addr().unwrap());
    let arguments =
        ["--command-timeout", "200ms", "--insecure-policy", "sync", "-s", "docker", "-d", "dir", &image, "usb"];
    desk.sealift(&arguments).code(1).stderr_contains("--command-timeout").stderr_contains("run the same command again");
}
