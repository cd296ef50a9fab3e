//! A medium that does not answer: a write or a read that takes minutes holds one thread, and never Ctrl-C.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rstest::rstest;
use support::{Desk, RealRegistry, Run, noise, push_image};

use super::trace::{strace, words};
use super::{export_line, left, verify};

/// What is traced never answers within a test.
const FOREVER: &str = "delay_enter=600000000";
/// Less than the 12 s that the tidy-up of uploads may take, and more than a busy machine needs for 2 s.
const SOON: Duration = Duration::from_secs(8);

struct Scene {
    desk: Desk,
    _registry: RealRegistry,
    image: String,
    /// The large layer's.
    hex: String,
}

impl Scene {
    /// An image with layers of 1 and 12 MiB.
    fn new() -> Scene {
        Scene::with_layer(12 << 20)
    }

    fn with_layer(size: usize) -> Scene {
        let (desk, registry) = (support::desk!(), RealRegistry::start());
        let digests = push_image(registry.host(), "team/app", "1", &[&noise(1, 1 << 20), &noise(2, size)]);
        let image = format!("{}/team/app:1", registry.host());
        Scene { desk, _registry: registry, image, hex: digests[2]["sha256:".len()..].to_owned() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.desk.path().canonicalize().unwrap().join(name.replace("HEX", &self.hex))
    }

    /// Runs the command until it is blocked by `fault`, and presses Ctrl-C once. Returns how long the answer took.
    fn interrupt_blocked(&self, on: &str, fault: &str, line: &[&str]) -> Option<(Run, Duration)> {
        let on = (!on.is_empty()).then(|| self.path(on));
        let on: Vec<&Path> = on.iter().map(PathBuf::as_path).collect();
        let mut wrapper = strace(&on, &[fault])?;
        // The tracer is no parent of the program: it keeps what has ended until the delay is over.
        wrapper.insert(1, "-D".into());
        let said = tempfile::NamedTempFile::new().unwrap();
        let redirect = format!("exec \"$0\" \"$@\" 2>{}", said.path().display());
        let shell = ["bash", "-c", &redirect];
        let running = self.desk.start_wrapped(&[&shell, &*words(&wrapper)].concat(), line);
        let program = running.id();
        let mut stopped = (0, 0);
        wait_for(|| {
            stopped = match stopped_thread(program) {
                Some(thread) if thread == stopped.0 => (thread, stopped.1 + 1),
                other => (other.unwrap_or_default(), 0),
            };
            // Every call stops for a moment while it is traced.
            (stopped.1 >= 15 && has_begun(program)).then_some(())
        });
        let tracer = tracer_of(program)?;
        let pressed = Instant::now();
        signal(program, "-INT");
        // What it says last.
        wait_for(|| {
            let said = fs::read_to_string(said.path()).unwrap_or_default();
            (said.contains("stopped before the end") || said.contains("does not answer")).then_some(())
        });
        let took = pressed.elapsed();
        signal(tracer, "-KILL");
        Some((running.wait(), took))
    }
}

fn has_begun(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.trim() == "sealift")
}

fn tracer_of(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("TracerPid:")?.trim().parse().ok())
}

/// A thread that the tracer holds.
fn stopped_thread(process: u32) -> Option<u32> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let mut ids = threads.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    ids.find(|id| {
        let stat = fs::read_to_string(format!("/proc/{process}/task/{id}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('t'))
    })
}

fn signal(process: u32, signal: &str) {
    let sent = Command::new("kill").args([signal, &process.to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

#[track_caller]
fn wait_for<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(25), "it did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Which call on which file never returns.
#[rstest]
#[case::tar("b.tar", ".b.tar.partial", "pwrite64")]
#[case::tar_in_the_middle("b.tar", ".b.tar.partial", "pwrite64:when=4+")]
#[case::tar_journal("b.tar", ".b.tar.journal", "write")]
#[case::tar_not_durable("b.tar", ".b.tar.partial", "fdatasync")]
#[case::directory("b", ".b.partial/blobs/sha256/.HEX.part", "pwrite64")]
#[case::directory_in_the_middle("b", ".b.partial/blobs/sha256/.HEX.part", "pwrite64:when=4+")]
#[case::directory_not_durable("b", "", "syncfs")]
#[case::directory_no_name("b", ".b.partial/blobs/sha256", "renameat,renameat2")]
#[case::zst("b.tar.zst", ".b.tar.zst.partial", "write:when=3+")]
fn an_export_to_a_medium_that_does_not_answer_is_interrupted_and_goes_on(
    #[case] output: &str,
    #[case] on: &str,
    #[case] call: &str,
) {
    let scene = Scene::new();
    let line = export_line(&[&scene.image], output, &[]);
    let (call, when) = call.split_once(':').map_or((call, String::new()), |(call, when)| (call, format!(":{when}")));
    let Some((run, took)) = scene.interrupt_blocked(on, &format!("{call}:{FOREVER}{when}"), &line) else { return };
    run.code(130);
    assert!(took < SOON, "{took:?} after Ctrl-C");
    assert!(!scene.desk.path().join(output).exists());
    scene.desk.sealift(&line).success();
    assert_eq!(verify(&scene.desk, output), 0);
    assert_eq!(left(&scene.desk), [output]);
}

#[rstest]
#[case::blob("d/.sealift.partial/.HEX.part", "pwrite64")]
#[case::not_durable("", "syncfs")]
fn a_sync_to_a_medium_that_does_not_answer_is_interrupted_and_goes_on(#[case] on: &str, #[case] call: &str) {
    let scene = Scene::new();
    let line = ["sync", "--src", "docker", "--dest", "dir", &scene.image, "d"];
    let Some((run, took)) = scene.interrupt_blocked(on, &format!("{call}:{FOREVER}"), &line) else { return };
    run.code(130);
    assert!(took < SOON, "{took:?} after Ctrl-C");
    scene.desk.sealift(&line).success();
    assert!(scene.desk.path().join("d/app:1").join(&scene.hex).exists());
}

#[test]
fn an_export_into_a_pipe_that_nobody_reads_is_interrupted() {
    let scene = Scene::new();
    // Its output is not read before it has ended.
    let running = scene.desk.start(&export_line(&[&scene.image], "-", &[]));
    let process = running.id();
    wait_for(|| {
        let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?;
        let blocked = |id: std::ffi::OsString| {
            let path = format!("/proc/{process}/task/{}/wchan", id.to_string_lossy());
            fs::read_to_string(path).is_ok_and(|at| at.contains("pipe_write"))
        };
        threads.filter_map(|entry| Some(entry.ok()?.file_name())).any(blocked).then_some(())
    });
    let pressed = Instant::now();
    running.interrupt().code(130);
    assert!(pressed.elapsed() < SOON);
}

/// Whoever reads a damaged disc waits for minutes.
#[rstest]
#[case::tar("b.tar", "b.tar")]
#[case::directory("b", "b/blobs/sha256/HEX")]
fn reading_a_medium_that_does_not_answer_is_interrupted(#[case] output: &str, #[case] on: &str) {
    let scene = Scene::with_layer(32 << 20);
    scene.desk.sealift(&export_line(&[&scene.image], output, &[])).success();
    let destination = RealRegistry::start();
    // Calls are counted for each thread: the one that reads the head reads less often.
    let fault = format!("pread64:{FOREVER}:when=16+");
    let verify = ["verify", output, "--trust", "allowed_signers"];
    let import = ["import", output, destination.host(), "--trust", "allowed_signers"];
    for line in [&verify[..], &import] {
        let Some((run, took)) = scene.interrupt_blocked(on, &fault, line) else { return };
        run.code(130);
        assert!(took < SOON, "{took:?} after Ctrl-C");
        scene.desk.sealift(line).success();
    }
}
