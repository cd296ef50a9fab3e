//! Killed at any instant: after the same command again everything is as if nothing had happened, nothing that was there
//! was fetched or sent again, and nothing unfinished ever verified. `scripts/sweep` does the same, longer.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use rstest::rstest;
use support::{Desk, FaultProxy, RealRegistry, Recorded, Reference, Running, raw_manifest, references, sha256};

use super::trace::{strace, words};
use super::{Form, export, export_line, fetched, hex_in, left, same, verify};

#[rstest]
#[case::tar(Form::Tar)]
#[case::directory(Form::Directory)]
fn an_export_is_killed_at_random_instants(#[case] form: Form) {
    Exports::new(form).at_random_instants(20);
}

#[rstest]
#[case::tar(Form::Tar)]
#[case::directory(Form::Directory)]
fn an_export_is_killed_as_it_takes_note(#[case] form: Form) {
    Exports::new(form).as_it_takes_note(5);
}

#[test]
fn an_import_is_killed_at_random_instants() {
    Imports::new(8).sweep(20);
}

#[rstest]
#[case::tar(Form::Tar)]
#[case::directory(Form::Directory)]
#[ignore = "takes minutes: scripts/sweep"]
fn sweep_exports(#[case] form: Form) {
    let exports = Exports::new(form);
    exports.at_random_instants(200);
    exports.as_it_takes_note(1);
}

#[test]
#[ignore = "takes minutes: scripts/sweep"]
fn sweep_imports() {
    Imports::new(usize::MAX).sweep(200);
}

struct Exports {
    form: Form,
    desk: Desk,
    _registry: RealRegistry,
    proxy: FaultProxy,
    asked: Vec<String>,
    reference: String,
    /// How many requests a run makes that nobody kills.
    requests: usize,
    /// How many blobs it fetches.
    blobs: usize,
}

impl Exports {
    fn new(form: Form) -> Exports {
        let (desk, registry) = (support::desk!(), RealRegistry::with_corpus());
        let proxy = FaultProxy::start(registry.host());
        let asked: Vec<String> = references().iter().map(|reference| reference.at(proxy.host())).collect();
        let reference = format!("reference-{}", form.output());
        let mut exports = Exports { form, desk, _registry: registry, proxy, asked, reference, requests: 0, blobs: 0 };
        export(&exports.desk, &exports.asked(), &exports.reference, &[]).success();
        exports.requests = exports.proxy.requests().len();
        exports.blobs = fetched(&exports.proxy).len();
        exports
    }

    fn asked(&self) -> Vec<&str> {
        self.asked.iter().map(String::as_str).collect()
    }

    fn line(&self) -> Vec<String> {
        export_line(&self.asked(), self.form.output(), &[]).into_iter().map(str::to_owned).collect()
    }

    /// Some milliseconds after one of the requests that a run makes, whichever that is.
    fn at_random_instants(&self, rounds: u64) {
        let mut unfinished = 0;
        for seed in 0..rounds {
            let request = (random(seed) * (self.requests + 1) as f64) as usize;
            let pause = Duration::from_micros((random(seed + 1_000_000) * 20_000.0) as u64);
            let line = self.line();
            self.proxy.reset_count();
            let mut running = self.desk.start(&words(&line));
            wait_until(&mut running, || self.proxy.requests().len() >= request);
            std::thread::sleep(pause);
            running.kill();
            let what = format!("seed {seed}, killed {pause:?} after request {request} of {}", self.requests);
            unfinished += u64::from(self.go_on(&what));
        }
        assert!(unfinished * 2 >= rounds, "only {unfinished} of {rounds} runs were killed in the middle");
    }

    /// As soon as the journal of an archive has so many lines, or a directory so many blobs with their names, for every
    /// `step`-th number; and before every `step`-th of such writes (of one thread: that is how they are counted).
    fn as_it_takes_note(&self, step: usize) {
        for notes in (0..=self.blobs).step_by(step) {
            let line = self.line();
            let mut running = self.desk.start(&words(&line));
            let journal = self.desk.path().join(self.form.journal());
            wait_until(&mut running, || journal.exists() && self.form.noted(&self.desk).len() >= notes);
            running.kill();
            self.go_on(&format!("killed after note {notes}"));
        }
        let here = self.desk.path().canonicalize().unwrap();
        let journal = ["", ".new"].map(|end| here.join(format!("{}{end}", self.form.journal())));
        let (files, calls) = match self.form {
            Form::Tar => (vec![journal[0].as_path(), journal[1].as_path()], "write"),
            Form::Directory => (Vec::new(), "renameat,renameat2"),
        };
        for round in (1..1000).step_by(step) {
            let Some(wrapper) = strace(&files, &[&format!("{calls}:signal=SIGKILL:when={round}")]) else { return };
            let line = self.line();
            let killed = self.desk.wrapped(&words(&wrapper), &words(&line)).was_killed();
            self.go_on(&format!("killed before write {round} of a thread: {killed}"));
            if !killed {
                assert!(round > 3, "only {round} writes hit");
                return;
            }
        }
    }

    /// After a kill: nothing unfinished verifies, the same command ends as if nothing had happened. Returns whether
    /// something was unfinished.
    fn go_on(&self, what: &str) -> bool {
        let (output, partial) = (self.form.output(), self.form.partial());
        self.proxy.wait_until_quiet();
        let noted = self.form.noted(&self.desk);
        let finished = self.desk.path().join(output).exists();
        let unfinished = self.desk.path().join(&partial).exists();
        let mut log = format!("{:?}: {what}; {} blobs noted", self.form, noted.len());
        if unfinished {
            let code = verify(&self.desk, &partial);
            let _ = write!(log, "; verify of the unfinished: {code}");
            // Between the seal and the name it is whole.
            assert!(code != 0 || same(&self.desk, &partial, &self.reference), "{log}: it verifies");
        }
        if finished {
            log.push_str("; finished");
            assert_eq!(verify(&self.desk, output), 0, "{log}");
        } else {
            self.proxy.reset_count();
            export(&self.desk, &self.asked(), output, &[]).success();
            let fetched = fetched(&self.proxy);
            let once: BTreeSet<&String> = fetched.iter().collect();
            let _ = write!(log, "; again: {} fetched", fetched.len());
            assert_eq!(once.len(), fetched.len(), "{log}: something was fetched twice");
            assert!(once.iter().all(|hex| !noted.contains(*hex)), "{log}: what was there was fetched again");
        }
        assert!(same(&self.desk, output, &self.reference), "{log}: it differs");
        assert_eq!(left(&self.desk), [output, self.reference.as_str()], "{log}");
        self.desk.shell(".", &format!("rm -r {output}"));
        println!("{log}; equal");
        unfinished && !finished
    }
}

struct Imports {
    desk: Desk,
    destination: RealRegistry,
    proxy: FaultProxy,
    references: Vec<Reference>,
}

impl Imports {
    /// Of so many images at most.
    fn new(images: usize) -> Imports {
        let (desk, source, destination) = (support::desk!(), RealRegistry::with_corpus(), RealRegistry::start());
        let proxy = FaultProxy::start(destination.host());
        let references: Vec<Reference> = references().into_iter().take(images).collect();
        let asked: Vec<String> = references.iter().map(|reference| reference.at(source.host())).collect();
        export(&desk, &asked.iter().map(String::as_str).collect::<Vec<_>>(), "b.tar", &[]).success();
        Imports { desk, destination, proxy, references }
    }

    fn import(&self, prefix: &str) -> Vec<String> {
        let target = format!("{}/{prefix}", self.proxy.host());
        ["import", "b.tar", &target, "--trust", "allowed_signers", "--retry-delay", "0.02"].map(str::to_owned).into()
    }

    fn sweep(&self, rounds: u64) {
        self.desk.sealift(&self.import("whole")).success();
        let requests = self.proxy.requests().len();
        let writes = self.proxy.requests().iter().filter(|r| is_write(r)).count();
        let mut unfinished = 0;
        for seed in 0..rounds {
            let pause = Duration::from_micros((random(seed + 1_000_000) * 20_000.0) as u64);
            // Every second one right after a writing request: what the registry has is the journal of an import.
            let of_writes = seed % 2 == 1;
            let most = if of_writes { writes } else { requests };
            let request = (random(seed) * (most + 1) as f64) as usize;
            // A place of its own for each, in which nothing is yet.
            let prefix = format!("p{seed}");
            let line = self.import(&prefix);
            self.proxy.reset_count();
            let mut running = self.desk.start(&words(&line));
            wait_until(&mut running, || {
                self.proxy.requests().iter().filter(|r| !of_writes || is_write(r)).count() >= request
            });
            if !of_writes {
                std::thread::sleep(pause);
            }
            let killed = running.kill().was_killed();
            unfinished += u64::from(killed);
            let sort = if of_writes { "writing request" } else { "request" };
            self.go_on(&prefix, &format!("seed {seed}, killed after {sort} {request} of {most}: {killed}"));
        }
        assert!(unfinished * 2 >= rounds, "only {unfinished} of {rounds} runs were killed in the middle");
    }

    fn go_on(&self, prefix: &str, what: &str) {
        self.proxy.wait_until_quiet();
        let there = taken(&self.proxy.requests());
        self.proxy.reset_count();
        self.desk.sealift(&self.import(prefix)).success();
        let again = taken(&self.proxy.requests());
        let log = format!("import: {what}; {} blobs and manifests were there, {} sent", there.len(), again.len());
        let twice: Vec<_> = again.intersection(&there).collect();
        assert!(twice.is_empty(), "{log}: sent again: {twice:?}");
        for reference in &self.references {
            let repository = format!("{prefix}/{}", reference.repository);
            let found = raw_manifest(self.destination.host(), &repository, &reference.reference);
            let found = found.unwrap_or_else(|| panic!("{log}: {} is missing", reference.name()));
            assert_eq!(sha256(&found.bytes), reference.digest, "{log}");
        }
        println!("{log}; equal");
    }
}

/// Until it is so, or the run has ended.
fn wait_until(running: &mut Running, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() && !running.has_ended() {
        assert!(Instant::now() < deadline, "it does not come to that");
        std::thread::sleep(Duration::from_micros(300));
    }
}

fn is_write(request: &Recorded) -> bool {
    !["GET", "HEAD"].contains(&request.method.as_str())
}

/// The blobs, and the manifests by their places, that the registry has confirmed.
fn taken(requests: &[Recorded]) -> BTreeSet<String> {
    let puts = requests.iter().filter(|r| r.method == "PUT" && r.status == Some(201));
    puts.map(|r| if r.path.contains("/blobs/uploads/") { format!("blob {}", hex_in(r)) } else { r.path.clone() })
        .collect()
}

/// Between 0 and 1, the same for the same seed (splitmix64).
fn random(seed: u64) -> f64 {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((state ^ (state >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}
