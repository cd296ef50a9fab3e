//! The end of an export: at whichever system call it is killed or refused, what was fetched is there for the next run, and
//! what has its name is whole.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rstest::rstest;
use support::{Desk, FaultProxy, RealRegistry, Rule, noise, push_image};

use super::trace::{strace, words};
use super::{Form, export, export_line, fetched, left, names, same, verify};

/// What comes at the end: durability, modes, names.
const LAST: [&str; 7] = ["fdatasync", "syncfs", "fsync", "fchmod", "unlinkat", "renameat", "renameat2"];
/// What else an export asks of the kernel about files.
const OTHERS: [&str; 11] = [
    "openat",
    "newfstatat",
    "fstat",
    "statx",
    "pwrite64",
    "write",
    "ftruncate",
    "fallocate",
    "mkdirat",
    "flock",
    "pread64",
];

struct Scene {
    desk: Desk,
    _registry: RealRegistry,
    proxy: FaultProxy,
    image: String,
    output: &'static str,
    reference: String,
}

/// What a run finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Nothing,
    /// A whole bundle that has not got its name.
    Whole,
}

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    Error,
}

impl Fault {
    fn inject(self, call: &str, number: usize) -> String {
        match self {
            Fault::Kill => format!("{call}:signal=SIGKILL:when={number}"),
            Fault::Error => format!("{call}:error=EIO:when={number}"),
        }
    }
}

impl Scene {
    fn new(output: &'static str) -> Scene {
        let (desk, registry) = (support::desk!(), RealRegistry::start());
        let proxy = FaultProxy::start(registry.host());
        push_image(registry.host(), "team/app", "1", &[&noise(1, 70_000), &noise(2, 300_000)]);
        let image = format!("{}/team/app:1", proxy.host());
        let reference = format!("reference-{output}");
        let scene = Scene { desk, _registry: registry, proxy, image, output, reference };
        export(&scene.desk, &[&scene.image], &scene.reference, &[]).success();
        scene
    }

    fn line(&self) -> Vec<&str> {
        export_line(&[&self.image], self.output, &["--jobs", "1"])
    }

    fn here(&self) -> PathBuf {
        self.desk.path().canonicalize().unwrap()
    }

    fn partial(&self) -> String {
        format!(".{}.partial", self.output)
    }

    /// Leaves a whole bundle without its name, and its plan.
    fn stop_before_the_name(&self) -> bool {
        let Some(wrapper) = strace(&[], &["renameat2:error=EIO"]) else { return false };
        self.desk.wrapped(&words(&wrapper), &self.line()).code(1).stderr_contains("cannot rename the finished bundle");
        true
    }

    /// Every such call of a run on a file of the export, one run for each; returns how many there were.
    fn sweep(&self, start: Start, fault: Fault, calls: &[&str], step: usize) -> usize {
        let saved = self.here().join("saved");
        if start == Start::Whole {
            self.desk.shell(".", &format!("rm -rf {0} .{0}.* saved saved-state", self.output));
            assert!(self.stop_before_the_name());
            copy(&self.here().join(self.partial()), &saved);
            self.desk.shell(".", &format!("mkdir -p {}", self.desk.state().display()));
            copy(&self.desk.state(), &self.here().join("saved-state"));
        }
        let mut hit = 0;
        for call in calls {
            for number in (1..1000).step_by(step) {
                self.begin(start, &saved);
                match self.round(start, fault, call, number) {
                    true => hit += 1,
                    false => break,
                }
            }
        }
        println!("{}, {start:?}, {fault:?}: {hit} calls", self.output);
        hit
    }

    fn begin(&self, start: Start, saved: &Path) {
        self.desk.shell(".", &format!("rm -rf {} .{}.*", self.output, self.output));
        if start == Start::Whole {
            copy(saved, &self.here().join(self.partial()));
            fs::remove_dir_all(self.desk.state()).unwrap();
            copy(&self.here().join("saved-state"), &self.desk.state());
        }
        self.proxy.wait_until_quiet();
        self.proxy.reset_count();
    }

    /// One fault, and the run after it. Returns whether the fault happened.
    fn round(&self, start: Start, fault: Fault, call: &str, number: usize) -> bool {
        let (here, log) = (self.here(), self.here().join("log"));
        let beside = |end: &str| here.join(format!(".{}{end}", self.output));
        let mut files = vec![here.clone(), here.join(self.output), beside(".partial"), beside(".journal")];
        files.extend([beside(".journal.new"), beside(".partial/blobs"), beside(".partial/blobs/sha256")]);
        files.push(self.desk.state().join("plans"));
        let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        let mut wrapper = strace(&files, &[&fault.inject(call, number)]).expect("it can be traced: it was");
        let at = wrapper.iter().position(|word| word == "/dev/null").unwrap();
        wrapper[at] = log.display().to_string();
        let run = self.desk.wrapped(&words(&wrapper), &self.line());
        let what = format!("{start:?}, {fault:?} at {call} {number}: {}", run.stderr());
        let traced = fs::read_to_string(&log).unwrap();
        fs::remove_file(&log).unwrap();
        if !traced.contains("INJECTED") && !run.was_killed() {
            run.success();
            return false;
        }
        self.proxy.wait_until_quiet();
        self.proxy.reset_count();
        let finished = self.desk.path().join(self.output).exists();
        if finished {
            // Its name may not be durable, or it may have been finished before the kill.
            assert_eq!(verify(&self.desk, self.output), 0, "{what}");
        } else {
            let partial = self.desk.path().join(self.partial()).exists();
            let whole = partial && verify(&self.desk, &self.partial()) == 0;
            assert!(!whole || same(&self.desk, &self.partial(), &self.reference), "{what}");
            let failed = if run.was_killed() { fault == Fault::Kill } else { run.exit_code() != 0 };
            assert!(failed, "{what}");
            let noted = match self.output {
                "b" => Form::Directory.noted(&self.desk),
                "b.tar" => Form::Tar.noted(&self.desk),
                _ => BTreeSet::new(),
            };
            let again = self.desk.sealift(&self.line());
            assert_eq!(again.exit_code(), 0, "{what}\nthen {}", again.stderr());
            let again = fetched(&self.proxy);
            let resumes = !self.output.ends_with(".zst");
            assert!(
                !resumes || !whole && start == Start::Nothing || again.is_empty(),
                "{what}\nfetched again: {again:?}"
            );
            assert!(again.iter().all(|hex| !noted.contains(hex)), "{what}\nfetched {again:?}, there were {noted:?}");
        }
        assert!(same(&self.desk, self.output, &self.reference), "{what}\nit differs");
        let mut beside = left(&self.desk);
        // A directory that could not be removed stays, and is in nobody's way.
        beside.retain(|name| !name.starts_with("saved") && (fault == Fault::Kill || !name.ends_with(".try")));
        assert_eq!(beside, [self.output, self.reference.as_str()], "{what}");
        assert!(names(&self.desk, "").iter().all(|name| !name.ends_with(".lock")), "{what}");
        true
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-aT").args([from, to]).status().unwrap().success());
}

#[rstest]
fn killed_or_refused_at_the_end_nothing_is_lost(
    #[values("b", "b.tar", "b.tar.zst")] output: &'static str,
    #[values(Fault::Kill, Fault::Error)] fault: Fault,
) {
    let scene = Scene::new(output);
    if strace(&[], &["fsync:error=EIO"]).is_none() {
        return;
    }
    let hit = scene.sweep(Start::Nothing, fault, &LAST, 1);
    assert!(hit >= 4, "only {hit} calls were hit");
}

#[rstest]
fn killed_or_refused_while_a_whole_bundle_is_taken_up_again_nothing_is_lost(
    #[values("b", "b.tar")] output: &'static str,
    #[values(Fault::Kill, Fault::Error)] fault: Fault,
) {
    let scene = Scene::new(output);
    if strace(&[], &["fsync:error=EIO"]).is_none() {
        return;
    }
    let hit = scene.sweep(Start::Whole, fault, &LAST, 1);
    assert!(hit >= 4, "only {hit} calls were hit");
    // The seal is broken and the journal is written by the one, blobs are opened to be hashed by the other.
    let calls: &[&str] = if output == "b.tar" { &["pwrite64", "write", "ftruncate"] } else { &["openat"] };
    assert!(scene.sweep(Start::Whole, fault, calls, 1) >= 4);
}

#[rstest]
#[ignore = "takes minutes: scripts/sweep"]
fn sweep_ends(
    #[values("b", "b.tar", "b.tar.zst")] output: &'static str,
    #[values(Fault::Kill, Fault::Error)] fault: Fault,
) {
    let scene = Scene::new(output);
    for start in [Start::Nothing, Start::Whole] {
        if start == Start::Nothing || output != "b.tar.zst" {
            scene.sweep(start, fault, &OTHERS, 1);
        }
    }
}

/// Something gets the name while the export runs.
#[rstest]
fn a_bundle_whose_name_is_taken_at_the_last_moment_is_kept(#[values("b", "b.tar", "b.tar.zst")] output: &'static str) {
    let scene = Scene::new(output);
    scene.proxy.reset_count();
    scene.proxy.inject(Rule::on("GET", "/blobs/").after(2).throttle(200_000));
    let line = scene.line();
    let running = scene.desk.start(&line);
    let deadline = Instant::now() + Duration::from_secs(60);
    while fetched(&scene.proxy).len() < 3 {
        assert!(Instant::now() < deadline, "the last layer is not asked for");
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::write(scene.desk.path().join(output), b"mine").unwrap();
    scene.proxy.heal();
    let partial = scene.partial();
    let said = running.wait();
    said.code(1).stderr_contains("exists already").stderr_contains(&format!("is whole in ./{partial}"));
    assert_eq!(fs::read(scene.desk.path().join(output)).unwrap(), b"mine");
    assert_eq!(verify(&scene.desk, &partial), 0);
    assert!(same(&scene.desk, &partial, &scene.reference));
    fs::remove_file(scene.desk.path().join(output)).unwrap();
    scene.proxy.wait_until_quiet();
    scene.proxy.reset_count();
    scene.desk.sealift(&line).success();
    if output != "b.tar.zst" {
        assert_eq!(fetched(&scene.proxy), [""; 0], "it was there");
    }
    assert!(same(&scene.desk, output, &scene.reference));
    assert_eq!(left(&scene.desk), [output, scene.reference.as_str()]);
}
