//! Media without locks (the kernel is made to answer so), and lock files that others left.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use rstest::rstest;
use support::Rule;

use super::scene::{End, Form, Place, Scene};
use crate::resume::trace::{strace, words};

fn lock_file(place: &Place<'_>) -> PathBuf {
    place.usb(&format!(".{}.lock", place.form.output()))
}

#[rstest]
fn without_locks_a_lock_file_keeps_a_second_run_out_and_is_removed(
    #[values(Form::Directory, Form::Tar, Form::Zst, Form::Sync)] form: Form,
    #[values("ENOLCK", "EOPNOTSUPP")] errno: &str,
) {
    let scene = Scene::new();
    let place = scene.place(form);
    let Some(wrapper) = strace(&[], &[&format!("flock:error={errno}")]) else { return };
    // The first run waits for a layer until the second one has ended.
    scene.proxy.reset_count();
    scene.proxy.inject(Rule::on("GET", &scene.blobs[2]).throttle(1 << 20));
    let state = format!("XDG_STATE_HOME={}", place.path("state").display());
    let first_wrapper = [&["env", state.as_str()], words(&wrapper).as_slice()].concat();
    let line = place.line();
    let first = scene.desk.start_wrapped(&first_wrapper, &words(&line));
    while !scene.proxy.requests().iter().any(|r| r.path.contains(&scene.blobs[2])) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(lock_file(&place).exists());
    let second = place.export_wrapped(&words(&wrapper));
    second.code(1).stderr_contains("another export (process ").stderr_contains("wait until it ends");
    scene.proxy.heal();
    first.wait().success();
    assert!(!lock_file(&place).exists());
    place.check_run(End::Refused("exists already"), |place| place.export_wrapped(&words(&wrapper))).unwrap_err();
    fs::rename(place.usb(form.output()), place.path("elsewhere/first")).unwrap();
    place.check_run(End::Sealed, |place| place.export_wrapped(&words(&wrapper))).unwrap();
}

/// Two exports begin at once, again and again: one of them makes the bundle, which stays as it is.
#[rstest]
fn of_two_at_once_one_seals_and_the_other_changes_nothing(#[values(Form::Directory, Form::Tar, Form::Zst)] form: Form) {
    let scene = Scene::new();
    let Some(wrapper) = strace(&[], &["flock:error=ENOLCK"]) else { return };
    for _ in 0..5 {
        let place = scene.place(form);
        let state = format!("XDG_STATE_HOME={}", place.path("state").display());
        let wrapper = [&["env", state.as_str()], words(&wrapper).as_slice()].concat();
        let line = place.line();
        let both = [(); 2].map(|()| scene.desk.start_wrapped(&wrapper, &words(&line)));
        let ended = both.map(support::Running::wait);
        let codes: Vec<i32> = ended.iter().map(support::Run::exit_code).collect();
        assert!(codes.contains(&0), "{}", ended[0].stderr() + &ended[1].stderr());
        // Whoever was second was refused, or began after the end.
        for run in ended.iter().filter(|run| run.exit_code() != 0) {
            assert!(
                run.stderr().contains("another export") || run.stderr().contains("exists already"),
                "{}",
                run.stderr()
            );
        }
        let bundle = format!("{}", place.usb(form.output()).display());
        scene.desk.sealift(&["verify", &bundle, "--trust", "allowed_signers"]).success();
    }
}

/// What is in a lock file, and how a run ends that finds it where there are no locks.
#[test]
fn a_lock_file_of_a_process_that_is_gone_is_taken_over_and_no_other() {
    let scene = Scene::new();
    let Some(wrapper) = strace(&[], &["flock:error=ENOLCK"]) else { return };
    // One of this host, left by a kill.
    let killed = scene.place(Form::Tar);
    let kill = strace(&[], &["flock:error=ENOLCK", "fallocate:signal=SIGKILL"]).unwrap();
    assert!(killed.export_wrapped(&words(&kill)).was_killed());
    let left = fs::read_to_string(lock_file(&killed)).unwrap();
    killed.check_run(End::SealedSaying("continuing"), |place| place.export_wrapped(&words(&wrapper))).unwrap();
    assert!(!lock_file(&killed).exists());

    let (title, rest) = left.split_once('\n').unwrap();
    let mut fields: Vec<&str> = rest.trim_end().split(' ').collect();
    let host = support::sha256(b"another host")["sha256:".len()..].to_owned();
    fields[0] = &host;
    let elsewhere = format!("{title}\n{}\n", fields.join(" "));
    for form in [Form::Tar, Form::Directory, Form::Zst, Form::Sync] {
        for (text, taken) in [(left.as_str(), true), (&elsewhere, false), ("", false), ("junk\n", false)] {
            for wrapped in [true, false] {
                let place = scene.place(form);
                fs::write(lock_file(&place), text).unwrap();
                let run = |place: &Place<'_>| match wrapped {
                    true => place.export_wrapped(&words(&wrapper)),
                    false => place.export(),
                };
                let end = if taken { End::Sealed } else { End::Refused("if none does, remove it: rm ") };
                place.check_run(end, run).unwrap_or_else(|why| panic!("{form:?} {text:?} {wrapped}: {why}"));
                assert_eq!(lock_file(&place).exists(), !taken);
            }
        }
        let place = scene.place(form);
        symlink(place.elsewhere(), lock_file(&place)).unwrap();
        place.check_run(End::Refused("link"), |place| place.export_wrapped(&words(&wrapper))).unwrap();
    }
}

/// One process at a time takes pushes into a directory; the next one can when it has ended, however it ended.
#[rstest]
#[case::locks("")]
#[case::no_locks("ENOLCK")]
fn a_directory_is_written_by_one_server_at_a_time(#[case] errno: &str) {
    let desk = support::desk!();
    let wrapper: Vec<String> = match errno {
        "" => vec!["env".into()],
        errno => match strace(&[], &[&format!("flock:error={errno}")]) {
            Some(wrapper) => wrapper,
            None => return,
        },
    };
    let line = ["serve", "--writable", "registry", "--listen", "127.0.0.1:0"];
    let first = desk.start_wrapped(&words(&wrapper), &line);
    while !desk.path().join("registry/oci-layout").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let second = desk.wrapped(&words(&wrapper), &line);
    second.code(1).stderr_contains("another sealift serve (process ").stderr_contains("choose another directory");
    let lock = desk.path().join("registry/.sealift.lock");
    assert_eq!(lock.exists(), !errno.is_empty());
    // The server itself: of a traced one the tracer was started.
    let said = second.stderr();
    let process = said.split("(process ").nth(1).and_then(|rest| rest.split(')').next()?.parse().ok());
    let process = process.and_then(rustix::process::Pid::from_raw).expect("a process id");
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    first.wait();
    // It gets as far as to listen, which it cannot.
    let third = desk.wrapped(&words(&wrapper), &["serve", "--writable", "registry", "--listen", "127.0.0.1:none"]);
    third.code(1).stderr_contains("cannot listen");
    assert!(!lock.exists());
}

/// A tree of image directories, too.
#[test]
fn a_tree_is_written_by_one_sync_at_a_time_without_locks() {
    let scene = Scene::new();
    let Some(wrapper) = strace(&[], &["flock:error=ENOLCK"]) else { return };
    scene.proxy.reset_count();
    scene.proxy.inject(Rule::on("GET", &scene.blobs[2]).throttle(1 << 20));
    let image = scene.image("app");
    let line = ["sync", "-s", "docker", "-d", "dir", &image, "tree"];
    let first = scene.desk.start_wrapped(&words(&wrapper), &line);
    while !scene.proxy.requests().iter().any(|r| r.path.contains(&scene.blobs[2])) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    scene.desk.wrapped(&words(&wrapper), &line).code(1).stderr_contains("another sync (process ");
    scene.proxy.heal();
    first.wait().success();
    assert!(!scene.path("tree/.sealift.lock").exists());
}
