//! Private state: whose it may be, and which plan is whose.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use rstest::rstest;
use support::{Rule, noise, push_image};

use super::scene::{Case, End, Form, Place, Plant, Scene, is_root};
use crate::resume::trace::{strace, words};

#[test]
fn state_that_others_can_change_is_refused_and_a_plan_that_is_none_is_not_used() {
    let cases: &[(&str, Plant, End)] = &[
        ("the directory: others may write", |p| with_plan(p, |p| mode(&state(p), 0o777)), OTHERS),
        ("the directory: a group may write", |p| with_plan(p, |p| mode(&state(p), 0o770)), OTHERS),
        ("the directory: others may read", |p| with_plan(p, |p| mode(&state(p), 0o755)), CONTINUED),
        ("plans: others may write", |p| with_plan(p, |p| mode(&state(p).join("plans"), 0o703)), OTHERS),
        (
            "plans: link",
            |p| {
                with_plan(p, |p| {
                    fs::rename(state(p).join("plans"), p.path("elsewhere/plans")).unwrap();
                    symlink(p.path("elsewhere/plans"), state(p).join("plans")).unwrap();
                });
            },
            End::SealedSaying("warning: no plan is kept"),
        ),
        ("plan: others may write", |p| with_plan(p, |p| mode(&p.plan(), 0o606)), OTHERS),
        ("plan: a group may write", |p| with_plan(p, |p| mode(&p.plan(), 0o620)), OTHERS),
        (
            "plan: link",
            |p| {
                with_plan(p, |p| {
                    let plan = p.plan();
                    fs::rename(&plan, p.path("elsewhere/plan")).unwrap();
                    symlink(p.path("elsewhere/plan"), plan).unwrap();
                });
            },
            End::Refused("others can write"),
        ),
        ("plan: torn", |p| with_plan(p, |p| cut(&p.plan(), 3000)), WITHOUT),
        ("plan: empty", |p| with_plan(p, |p| cut(&p.plan(), 0)), WITHOUT),
        (
            "plan: of another version",
            |p| with_plan(p, |p| edit(&p.plan(), "sealift plan 1", "sealift plan 2")),
            WITHOUT,
        ),
        (
            "plan: an unknown field",
            |p| with_plan(p, |p| edit(&p.plan(), "{\"binding\"", "{\"x\":1,\"binding\"")),
            WITHOUT,
        ),
        ("plan: another image", |p| with_plan(p, |p| edit(&p.plan(), "team/app", "team/evi")), WITHOUT),
        ("plan: for another key", |p| with_plan(p, |p| edit(&p.plan(), "SHA256:", "SHA256:0")), WITHOUT),
        (
            "plan: for another selection",
            |p| {
                with_plan(p, |p| edit(&p.plan(), "\"selection\":\"sha256:", "\"selection\":\"sha256:0"));
            },
            WITHOUT,
        ),
        ("plan: for another output", |p| with_plan(p, |p| edit(&p.plan(), "usb/b", "usb/c")), WITHOUT),
        (
            "plan: another signature",
            |p| with_plan(p, |p| edit(&p.plan(), "SSH SIGNATURE-----\nU1", "SSH SIGNATURE-----\nV1")),
            CONTINUED,
        ),
        ("state: a file", |p| fs::write(state(p), b"x").unwrap(), End::SealedSaying("warning: no plan is kept")),
        ("state: nothing", |p| fs::remove_dir_all(p.path("state")).unwrap(), End::Sealed),
    ];
    let cases = [Form::Tar, Form::Directory]
        .into_iter()
        .flat_map(|form| cases.iter().map(move |(name, plant, end)| Case { name, form, plant: *plant, end: *end }));
    Scene::new().check(&cases.collect::<Vec<_>>());
}

#[test]
fn state_of_another_user_is_refused() {
    if !is_root() {
        return;
    }
    let cases: &[(&str, Plant)] = &[
        ("the directory", |p| with_plan(p, |p| chown(state(p), Some(12_345), None).unwrap())),
        ("plans", |p| with_plan(p, |p| chown(state(p).join("plans"), Some(12_345), None).unwrap())),
        ("plan", |p| with_plan(p, |p| chown(p.plan(), Some(12_345), None).unwrap())),
    ];
    let end = End::Refused("is not this user's (uid 12345, not 0)");
    let cases = cases.iter().map(|(name, plant)| Case { name, form: Form::Tar, plant: *plant, end });
    Scene::new().check(&cases.collect::<Vec<_>>());
}

/// A plan is for one output: that of another one is not taken, wherever it lies.
#[test]
fn a_plan_that_is_copied_to_another_output_is_not_used() {
    let scene = Scene::new();
    let (one, other) = (scene.place(Form::Tar), scene.place(Form::Tar));
    one.interrupt();
    other.interrupt();
    fs::copy(one.plan(), other.plan()).unwrap();
    other.check(WITHOUT).unwrap();
}

#[test]
fn state_is_of_this_user_alone_and_empty_when_the_bundle_is_finished() {
    let scene = Scene::new();
    let place = scene.place(Form::Tar);
    place.interrupt();
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
    assert_eq!([mode(&state(&place)), mode(&state(&place).join("plans")), mode(&place.plan())], [0o700, 0o700, 0o600]);
    place.check(CONTINUED).unwrap();
    assert_eq!(fs::read_dir(state(&place).join("plans")).unwrap().count(), 0);
}

/// The same command with the same state continues; with another state, or --refresh, the tags are resolved again.
#[rstest]
fn a_moved_tag_is_seen_by_a_run_without_the_plan(
    #[values(Form::Tar, Form::Directory, Form::Sync)] form: Form,
    #[values("the same state", "another state", "refresh", "a run that checks certificates", "other mirrors")]
    how: &str,
) {
    let scene = Scene::new();
    let place = scene.place(form);
    push_image(scene.registry.host(), "team/app", "1", &[&noise(1, 300_000), &noise(9, 6 << 20)]);
    scene.proxy.inject(Rule::on("GET", "/blobs/").after(2).status(404).times(1));
    let conf = place.path("registries.conf").display().to_string();
    fs::write(&conf, "[[registry]]\nlocation = \"other.example\"\nblocked = true\n").unwrap();
    let first = match (how, form) {
        ("other mirrors", _) => place.export_with(&["--registries-conf", &conf]),
        ("a run that checks certificates", Form::Sync) => place.export_with(&["--src-tls-verify=false"]),
        ("a run that checks certificates", _) => place.export_with(&["--tls-verify=false"]),
        _ => place.export(),
    };
    first.code(1);
    scene.proxy.heal();
    // The tag means again what it meant when the reference was made.
    push_image(scene.registry.host(), "team/app", "1", &[&noise(1, 300_000), &noise(2, 5 << 20)]);
    scene.proxy.reset_count();
    match how {
        "the same state" => {
            place.export().success().stderr_contains("continuing what an interrupted run planned");
            assert_eq!(scene.proxy.count("GET", "/manifests/"), 0);
            assert_eq!(scene.proxy.count("GET", &scene.blobs[2]), 0);
        }
        // What anybody in between, or another mirror, may have planned is not signed.
        "a run that checks certificates" | "other mirrors" => {
            place.check(WITHOUT).unwrap();
            assert_eq!(scene.proxy.count("GET", &scene.blobs[1]), 0, "what is there is used again");
        }
        "another state" => {
            fs::rename(place.path("state"), place.path("elsewhere/state")).unwrap();
            place.check(WITHOUT).unwrap();
            assert_eq!(scene.proxy.count("GET", &scene.blobs[1]), 0, "what is there is used again");
        }
        _ => {
            let mut line = place.line();
            line.push("--refresh".into());
            let state = place.path("state").display().to_string();
            let run = |_: &Place<'_>| scene.desk.sealift_in(&[("XDG_STATE_HOME", &state)], &line);
            place.check_run(End::SealedSaying("planning it again"), run).unwrap();
            assert_eq!(scene.proxy.count("GET", &scene.blobs[1]), 0, "what is there is used again");
        }
    }
}

#[test]
fn a_refresh_has_a_time_of_its_own() {
    let scene = Scene::new();
    for (more, moved) in [(None, false), (Some("--refresh"), true)] {
        let place = scene.place(Form::Directory);
        let run = || {
            let line: Vec<String> = place.line().into_iter().chain(more.map(str::to_owned)).collect();
            let state = format!("XDG_STATE_HOME={}", place.path("state").display());
            // Without a time that is asked for it is now.
            let wrapper = ["env", "-u", "SOURCE_DATE_EPOCH", &state];
            scene.desk.wrapped(&wrapper, &words(&line))
        };
        scene.proxy.inject(Rule::on("GET", &scene.blobs[2]).status(404).times(1));
        run().code(1);
        scene.proxy.heal();
        let ended = jiff::Timestamp::now();
        while jiff::Timestamp::now().as_second() == ended.as_second() {
            std::thread::yield_now();
        }
        run().success();
        let descriptor: serde_json::Value =
            serde_json::from_slice(&fs::read(place.usb("b/bundle.json")).unwrap()).unwrap();
        let created: jiff::Timestamp = descriptor["created"].as_str().unwrap().parse().unwrap();
        assert_eq!(created > ended, moved, "{created}, and the first run ended at {ended}");
    }
}

/// An export of a tree reads the tree, and uses again what an earlier run left.
#[rstest]
fn a_tree_that_changed_after_an_interrupted_run_is_sealed_as_it_is(
    #[values("b", "b.tar")] output: &str,
    #[values("sync", "export")] command: &str,
) {
    let scene = Scene::new();
    let desk = &scene.desk;
    let tree = |image: &str| {
        let image = scene.image(image);
        desk.sealift(&["sync", "-s", "docker", "-d", "dir", "--names", "path", &image, "tree"]).success();
    };
    tree("app");
    let line: Vec<&str> = match command {
        "sync" => vec!["sync", "-s", "dir", "-d", "bundle", "tree", output, "--key", "key", "--jobs", "1"],
        _ => vec!["export", "--from-dir", "tree", "--output", output, "--key", "key", "--jobs", "1"],
    };
    // The largest layer cannot be read once something was written.
    let layer = scene.path("tree/team/app:1").join(&scene.blobs[2]);
    let Some(wrapper) = strace(&[&layer], &["pread64:error=EIO"]) else { return };
    desk.wrapped(&words(&wrapper), &line).code(1);
    assert!(scene.path(&format!(".{output}.partial")).exists());
    tree("evil");
    desk.sealift(&line).success();
    let listed = desk.sealift(&["inspect", output, "--trust", "allowed_signers"]).success().stdout();
    assert!(listed.contains("team/app:1") && listed.contains("team/evil:1"), "{listed}");
}

#[test]
fn every_export_prints_what_it_is_about_to_sign() {
    let scene = Scene::new();
    for number in 0..12 {
        push_image(scene.registry.host(), "team/many", &number.to_string(), &[&noise(number, 10)]);
    }
    let many = format!("{}/team/many", scene.proxy.host());
    for (output, command) in [("m", "export"), ("m.tar", "export"), ("m.tar.zst", "export"), ("s.tar", "sync")] {
        let line: Vec<&str> = match command {
            "export" => vec!["export", &many, "--output", output, "--key", "key"],
            _ => vec!["sync", "-s", "docker", "-d", "bundle", "--names", "path", &many, output, "--key", "key"],
        };
        let run = scene.desk.sealift(&line);
        run.success().stderr_contains("about to sign 12 names with key id ").stderr_contains("\n  and 2 more\n");
        let said = run.stderr();
        let told: Vec<&str> = said.lines().filter(|line| line.starts_with("  team/many:")).collect();
        assert_eq!(told.len(), 10, "{said}");
        let listed = scene.desk.sealift(&["inspect", output, "--trust", "allowed_signers", "--json"]).stdout();
        assert!(told.iter().all(|line| listed.contains(line.split_whitespace().last().unwrap())), "{said}{listed}");
    }
}

const OTHERS: End = End::Refused("others can write to the state");
const CONTINUED: End = End::SealedSaying("continuing what an interrupted run planned");
const WITHOUT: End = End::SealedSaying("without a plan");

fn state(place: &Place<'_>) -> std::path::PathBuf {
    place.path("state/sealift")
}

fn with_plan(place: &Place<'_>, change: fn(&Place<'_>)) {
    place.interrupt();
    change(place);
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn cut(path: &Path, length: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(length).unwrap();
}

/// Replaces the first such bytes; with more of them, the last bytes of the same word go.
fn edit(path: &Path, from: &str, to: &str) {
    let bytes = fs::read(path).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).expect("it is there");
    let mut after = bytes[at + from.len()..].to_vec();
    if to.len() == from.len() + 1 {
        let end = after.iter().position(|byte| *byte == b'"').unwrap();
        after.remove(end - 1);
    }
    fs::write(path, [&bytes[..at], to.as_bytes(), &after].concat()).unwrap();
}
