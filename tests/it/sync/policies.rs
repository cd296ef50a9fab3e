//! `policy.json`: what skopeo would reject is not carried (containers-policy.json(5)).

use std::fs;
use std::process::Command;

use rstest::rstest;
use support::{Desk, RealRegistry, Run, desk, tags};

use super::sync;

const ACCEPT: &str = r#"[{"type": "insecureAcceptAnything"}]"#;
const REJECT: &str = r#"[{"type": "reject"}]"#;
const SIGNED: &str = r#"[{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/nonexistent/key.gpg"}]"#;

/// A policy whose rules are those of one transport.
fn policy(default: &str, transport: &str, rules: &[(&str, &str)]) -> String {
    let rules: Vec<String> = rules.iter().map(|(scope, rule)| format!("{scope:?}: {rule}")).collect();
    format!(r#"{{"default": {default}, "transports": {{"{transport}": {{{}}}}}}}"#, rules.join(", "))
}

/// Makes the desk a home directory with this policy in it; returns its path.
fn home(desk: &Desk, policy: &str) -> String {
    let home = desk.path().join("home");
    fs::create_dir_all(home.join(".config/containers")).unwrap();
    fs::write(home.join(".config/containers/policy.json"), policy).unwrap();
    home.to_str().unwrap().to_owned()
}

#[track_caller]
fn assert_refused(run: &Run, said: &[&str]) {
    run.code(3).stderr_contains("hint: ");
    for said in said {
        run.stderr_contains(said);
    }
}

#[test]
fn what_the_users_policy_rejects_is_not_read() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let app = format!("{}/team/app", source.host());
    let home = home(&desk, &policy(ACCEPT, "docker", &[(app.as_str(), REJECT)]));
    let home = [("HOME", home.as_str())];
    let export = ["export", &app, "--output", "bundle", "--key", "key"];
    let commands: [&[&str]; 5] = [
        &["sync", "-s", "docker", "-d", "docker", &app, destination.host()],
        &["sync", "-s", "docker", "-d", "dir", "--all", &app, "tree"],
        &["sync", "-s", "docker", "-d", "bundle", "--key", "key", &app, "synced"],
        &["sync", "-s", "docker", "-d", "dir", "--dry-run", &app, "tree"],
        &export,
    ];
    for command in commands {
        assert_refused(&desk.sealift_in(&home, command), &["policy.json rejects", &format!("{app:?} is reject")]);
    }
    let read = source.access_log().into_iter().filter(|access| !access.path.contains("/tags/list"));
    assert_eq!(read.filter(|access| access.path != "/v2/").count(), 0, "only tags were listed");
    assert!(destination.access_log().is_empty());
    assert!(!["tree", "bundle", "synced"].iter().any(|name| desk.path().join(name).join("blobs").exists()));
    // Without the check, and by a policy that is named.
    fs::write(desk.path().join("p.json"), policy(REJECT, "docker", &[(source.host(), ACCEPT)])).unwrap();
    desk.sealift_in(&home, &["--insecure-policy", "sync", "-s", "docker", "-d", "dir", &app, "one"]).success();
    desk.sealift_in(&home, &["sync", "--policy", "p.json", "-s", "docker", "-d", "dir", &app, "two"]).success();
    desk.sealift_in(&home, &["--policy", "p.json", "sync", "-s", "docker", "-d", "dir", &app, "three"]).success();
    desk.sealift_in(&home, &[&export[..], &["--policy", "p.json"]].concat()).success();
}

#[test]
fn with_keep_going_only_what_needs_a_signature_is_left_out() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let at = |name: &str| format!("{}/{name}", source.host());
    let rules = policy(ACCEPT, "docker", &[(&at("team/app:1"), SIGNED)]);
    fs::write(desk.path().join("p.json"), rules).unwrap();
    fs::write(desk.path().join("list"), format!("{}\n{}\n", at("team/app:1"), at("library/busybox:1.35"))).unwrap();
    let yaml = format!(
        "{}:\n  tls-verify: false\n  images:\n    team/app: ['1']\n    library/busybox: ['1.35']\n",
        source.host()
    );
    fs::write(desk.path().join("sync.yaml"), yaml).unwrap();
    let rule = ["p.json demands a signature of", "team/app:1\" is signedBy", "--insecure-policy"];
    let run = |more: &[&str]| {
        let fixed = ["--policy", "p.json", "-s", "yaml", "-d", "docker", "sync.yaml", destination.host()];
        sync(&desk, &[&fixed, more].concat())
    };
    assert_refused(&run(&[]), &rule);
    assert!(destination.writes().is_empty());
    assert_refused(&run(&["--keep-going"]), &rule);
    assert_eq!(support::catalog(destination.host()), ["busybox"]);
    let export =
        ["export", "--from", "list", "--output", "bundle", "--key", "key", "--policy", "p.json", "--keep-going"];
    assert_refused(&desk.sealift(&export), &rule);
    let inspected = desk.sealift(&["inspect", "bundle"]).success().stdout();
    assert!(inspected.contains("library/busybox:1.35") && !inspected.contains("team/app"), "{inspected}");
}

#[test]
fn images_of_a_tree_are_judged_by_their_directories() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    for image in ["team/app:1", "library/busybox:1.35"] {
        let image = format!("{}/{image}", source.host());
        sync(&desk, &["-s", "docker", "-d", "dir", "--names", "path", &image, "tree"]).success();
    }
    let team = desk.path().canonicalize().unwrap().join("tree/team");
    fs::write(desk.path().join("p.json"), policy(ACCEPT, "dir", &[(team.to_str().unwrap(), REJECT)])).unwrap();
    // The way to it does not matter.
    std::os::unix::fs::symlink("tree", desk.path().join("link")).unwrap();
    let run = |more: &[&str]| {
        let fixed = ["--policy", "p.json", "-s", "dir", "-d", "docker", "link/", destination.host()];
        sync(&desk, &[&fixed, more].concat())
    };
    let rule = ["p.json rejects", "tree/team\" is reject"];
    assert_refused(&run(&[]), &rule);
    assert!(destination.writes().is_empty());
    assert_refused(&run(&["--keep-going"]), &rule);
    assert_eq!(support::catalog(destination.host()), ["library/busybox"]);
    let export = ["export", "--from-dir", "tree", "--output", "bundle", "--key", "key", "--policy", "p.json"];
    assert_refused(&desk.sealift(&export), &rule);
    run(&["--insecure-policy"]).success();
    assert_eq!(tags(destination.host(), "team/app"), ["1"]);
}

#[test]
fn a_policy_that_is_wrong_or_not_there_stops_everything() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let app = format!("{}/team/app:1", source.host());
    let run = |variables: &[(&str, &str)], more: &[&str]| {
        desk.sealift_in(variables, &[&["sync", "-s", "docker", "-d", "dir", &app, "tree"], more].concat())
    };
    run(&[], &["--policy", "none.json"]).code(2).stderr_contains("there is no file none.json");
    for text in ["{}", "{\"default\": []}", "{\"default\": [{\"type\": \"reject\", \"x\": 1}]}"] {
        let home = home(&desk, text);
        run(&[("HOME", home.as_str())], &[]).code(2).stderr_contains("policy.json is not a policy");
    }
    run(&[("CONTAINERS_POLICY_JSON", "home/.config/containers/policy.json")], &[]).code(2);
    assert!(source.access_log().is_empty());
}

#[test]
fn the_systems_policy_is_heeded() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    fs::create_dir(desk.path().join("etc")).unwrap();
    fs::write(desk.path().join("etc/policy.json"), policy(REJECT, "docker", &[])).unwrap();
    let line = format!(
        "mkdir -p /etc/containers && mount --bind etc /etc/containers && \
         exec \"$SEALIFT\" sync -s docker -d dir {}/team/app:1 tree",
        source.host()
    );
    let Some(run) = desk.in_own_mounts(&line) else { return };
    assert_refused(&run, &["/etc/containers/policy.json rejects", "default is reject"]);
    // Nobody has to have one.
    fs::remove_file(desk.path().join("etc/policy.json")).unwrap();
    desk.in_own_mounts(&line).expect("it worked before").success();
}

#[test]
fn an_interrupted_export_goes_on_only_with_what_the_policy_allows() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let app = format!("{}/team/app", source.host());
    // A layer that is gone stops the export when its plan is kept already.
    let manifest = support::raw_manifest(source.host(), "team/app", "1").unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest.bytes).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let layer = source.storage().join(format!("docker/registry/v2/blobs/sha256/{}/{layer}/data", &layer[..2]));
    fs::rename(&layer, layer.with_extension("away")).unwrap();
    desk.export(&[app.as_str(), "--retry-times", "0"]).code(1);
    fs::rename(layer.with_extension("away"), &layer).unwrap();
    fs::write(desk.path().join("p.json"), policy(REJECT, "docker", &[])).unwrap();
    assert_refused(&desk.export(&[app.as_str(), "--policy", "p.json"]), &["p.json rejects"]);
    assert!(!desk.path().join("bundle/SHA256SUMS").exists());
    desk.export(&[app.as_str()]).success();
}

/// The same policy and image by Debian's skopeo: both carry it, or neither does.
#[rstest]
#[case::nothing_said(ACCEPT, &[], true)]
#[case::rejected(REJECT, &[], false)]
#[case::default_of_the_transport(REJECT, &[("", ACCEPT)], true)]
#[case::host(REJECT, &[("HOST", ACCEPT)], true)]
#[case::host_rejected(ACCEPT, &[("HOST", REJECT)], false)]
#[case::host_without_port(REJECT, &[("127.0.0.1", ACCEPT)], false)]
#[case::namespace(REJECT, &[("HOST/team", ACCEPT)], true)]
#[case::half_a_name(REJECT, &[("HOST/team/ap", ACCEPT)], false)]
#[case::repository(REJECT, &[("HOST/team/app", ACCEPT)], true)]
#[case::tag(REJECT, &[("HOST/team/app:1", ACCEPT)], true)]
#[case::other_tag(REJECT, &[("HOST/team/app:2", ACCEPT)], false)]
#[case::most_specific(ACCEPT, &[("HOST", ACCEPT), ("HOST/team", REJECT), ("HOST/team/app", ACCEPT)], true)]
#[case::most_specific_rejects(ACCEPT, &[("HOST/team/app:1", REJECT), ("HOST/team/app", ACCEPT)], false)]
#[case::wildcard(REJECT, &[("*.0.0.1", ACCEPT)], true)]
#[case::longer_wildcard(ACCEPT, &[("*.1", ACCEPT), ("*.0.1", REJECT)], false)]
#[case::not_strict(ACCEPT, &[("HOST", "[]")], false)]
#[case::unknown_type(ACCEPT, &[("HOST", r#"[{"type": "Reject"}]"#)], false)]
#[case::one_of_two(ACCEPT, &[("HOST", r#"[{"type": "insecureAcceptAnything"}, {"type": "reject"}]"#)], false)]
fn skopeo_carries_the_same_images(#[case] default: &str, #[case] rules: &[(&str, &str)], #[case] carried: bool) {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let rules: Vec<(String, &str)> =
        rules.iter().map(|(scope, rule)| (scope.replace("HOST", source.host()), *rule)).collect();
    let rules: Vec<(&str, &str)> = rules.iter().map(|(scope, rule)| (scope.as_str(), *rule)).collect();
    fs::write(desk.path().join("p.json"), policy(default, "docker", &rules)).unwrap();
    let app = format!("{}/team/app:1", source.host());
    let arguments = ["--policy", "p.json", "sync", "--src-tls-verify=false", "-s", "docker", "-d", "dir", &app];
    let theirs = Command::new("skopeo").args(arguments).arg("theirs").current_dir(desk.path()).output().unwrap();
    assert_eq!(theirs.status.success(), carried, "skopeo: {}", String::from_utf8_lossy(&theirs.stderr));
    let ours = desk.sealift(&[&arguments[..], &["ours"]].concat());
    assert_eq!(ours.exit_code() == 0, carried, "{}", ours.stderr());
    assert_eq!(desk.path().join("ours/app:1/manifest.json").exists(), carried);
}
