//! A desk: a directory of its own with a key, and the program to run in it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// Where a test works: `key`, `key.pub` and `allowed_signers` are there; bundles go to `bundle`.
pub struct Desk {
    program: PathBuf,
    directory: TempDir,
    /// `XDG_STATE_HOME`.
    state: TempDir,
}

/// An image, and the registry that serves it.
pub struct Sample {
    pub reference: String,
    _registry: crate::RealRegistry,
}

/// The embedded registry as a process.
pub struct Serving {
    host: String,
    child: Child,
}

impl Serving {
    /// `127.0.0.1:PORT`
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A desk for the `sealift` that cargo built for the test in which this stands.
#[macro_export]
macro_rules! desk {
    () => {
        $crate::Desk::new(env!("CARGO_BIN_EXE_sealift"))
    };
}

/// What a run of the program took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub memory_kib: u64,
    /// Bytes by every read, of sockets too.
    pub read: u64,
    /// Bytes by every write, to sockets too.
    pub written: u64,
}

/// A run of the program that has not ended.
pub struct Running {
    command: String,
    child: Child,
}

impl Running {
    /// Waits for the end.
    pub fn wait(self) -> Run {
        Run { command: self.command, output: self.child.wait_with_output().expect("the program ends") }
    }

    /// Kills it (SIGKILL), and waits for the end.
    pub fn kill(mut self) -> Run {
        self.child.kill().expect("a child can be killed");
        self.wait()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_some()
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Presses Ctrl-C once, and waits for the end.
    pub fn interrupt(self) -> Run {
        self.signal(rustix::process::Signal::INT)
    }

    /// Sends SIGTERM once, and waits for the end.
    pub fn terminate(self) -> Run {
        self.signal(rustix::process::Signal::TERM)
    }

    fn signal(self, signal: rustix::process::Signal) -> Run {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("a child can be signalled");
        self.wait()
    }
}

/// What a run of the program did. Every check shows all of it when it fails.
pub struct Run {
    command: String,
    output: Output,
}

impl Desk {
    /// A desk for the program at this path: `desk!()` knows it.
    pub fn new(program: &str) -> Self {
        let [directory, state] = [(); 2].map(|()| tempfile::tempdir().expect("a temporary directory"));
        let desk = Desk { program: program.into(), directory, state };
        let line = desk.sealift(&["keygen", "key", "--principal", "exporter@example.com"]).success().stdout();
        fs::write(desk.path().join("allowed_signers"), line).expect("allowed_signers can be written");
        desk
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where the program keeps its private state, unless it is told otherwise.
    pub fn state(&self) -> PathBuf {
        self.state.path().join("sealift")
    }

    /// Runs the program here, with no home directory, no logins, no proxies, a state directory of its own, and a fixed
    /// time stamp for what it makes.
    pub fn sealift<S: AsRef<str>>(&self, arguments: &[S]) -> Run {
        self.sealift_with(arguments, &[], "")
    }

    /// The same with some variables of the environment.
    pub fn sealift_in<S: AsRef<str>>(&self, variables: &[(&str, &str)], arguments: &[S]) -> Run {
        self.sealift_with(arguments, variables, "")
    }

    /// The same with some variables of the environment and with `input` on stdin.
    pub fn sealift_with<S: AsRef<str>>(&self, arguments: &[S], variables: &[(&str, &str)], input: &str) -> Run {
        let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        let mut child = self.spawn(&arguments, variables);
        // It may end without reading.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("the program ends");
        Run { command: format!("sealift {}", arguments.join(" ")), output }
    }

    /// Begins a run, to be interrupted.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let child = self.spawn(arguments, &[]);
        Running { command: format!("sealift {}", arguments.join(" ")), child }
    }

    /// Runs `WRAPPER... sealift ARGUMENTS...`: under strace, for one.
    pub fn wrapped(&self, wrapper: &[&str], arguments: &[&str]) -> Run {
        self.start_wrapped(wrapper, arguments).wait()
    }

    /// Begins such a run.
    pub fn start_wrapped(&self, wrapper: &[&str], arguments: &[&str]) -> Running {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(&self.program);
        let child = self.spawn_by(command, arguments, &[]);
        Running { command: format!("{} sealift {}", wrapper.join(" "), arguments.join(" ")), child }
    }

    /// Runs a line of shell in which `$SEALIFT` is the program, alone in a mount namespace of its own; nothing where the
    /// kernel forbids that.
    pub fn in_own_mounts(&self, line: &str) -> Option<Run> {
        if !Command::new("unshare").args(["-Urm", "true"]).status().is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: the kernel does not let this user make a mount namespace (unshare -Urm)");
            return None;
        }
        let mut command = Command::new("unshare");
        command.args(["-Urm", "bash", "-euc", line]).env("SEALIFT", &self.program);
        Some(Running { command: line.to_owned(), child: self.spawn_by(command, &[], &[]) }.wait())
    }

    /// The same as root, outside of any user namespace, where devices can be mounted; nothing for other users, or where one
    /// of `programs` is missing.
    pub fn as_root_in_own_mounts(&self, line: &str, programs: &[&str]) -> Option<Run> {
        let has = |program: &&str| {
            let found =
                Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
            found.is_ok_and(|status| status.success())
        };
        let own = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
        if !rustix::process::geteuid().is_root() || !own.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: this user cannot mount");
            return None;
        }
        if let Some(missing) = programs.iter().find(|program| !has(program)) {
            eprintln!("SKIPPED: there is no {missing}");
            return None;
        }
        let mut command = Command::new("unshare");
        command.args(["-m", "bash", "-euc", line]).env("SEALIFT", &self.program);
        Some(Running { command: line.to_owned(), child: self.spawn_by(command, &[], &[]) }.wait())
    }

    fn spawn(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Child {
        self.spawn_by(Command::new(&self.program), arguments, variables)
    }

    fn spawn_by(&self, mut command: Command, arguments: &[&str], variables: &[(&str, &str)]) -> Child {
        for variable in ["REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"] {
            command.env_remove(variable);
        }
        for proxy in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"] {
            command.env_remove(proxy).env_remove(proxy.to_lowercase());
        }
        command
            .args(arguments)
            .current_dir(self.path())
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .env("HOME", "/nonexistent")
            .env("XDG_STATE_HOME", self.state.path())
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts")
    }

    /// The most memory that a run of the program took, in KiB (the kernel's high-water mark, read until it ends).
    pub fn peak_memory(&self, arguments: &[&str]) -> u64 {
        self.usage(arguments).memory_kib
    }

    /// What a run of the program took, read from the kernel until it ends: of the bytes, a last few may be missing.
    pub fn usage(&self, arguments: &[&str]) -> Usage {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .current_dir(self.path())
            .env("XDG_STATE_HOME", self.state.path())
            .spawn()
            .expect("the program starts");
        let [status_file, io_file] = ["status", "io"].map(|name| format!("/proc/{}/{name}", child.id()));
        let number = |text: &str, key: &str| -> u64 {
            let value = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            value.trim().trim_end_matches(" kB").parse().unwrap_or(0)
        };
        let mut usage = Usage::default();
        loop {
            let status = fs::read_to_string(&status_file).unwrap_or_default();
            let io = fs::read_to_string(&io_file).unwrap_or_default();
            usage.memory_kib = usage.memory_kib.max(number(&status, "VmHWM:"));
            usage.read = usage.read.max(number(&io, "rchar:"));
            usage.written = usage.written.max(number(&io, "wchar:"));
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                assert!(status.success(), "sealift {}", arguments.join(" "));
                assert!(usage.memory_kib > 0, "the program ended before it was looked at");
                return usage;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// `sealift export IMAGES --output bundle --key key`, with short pauses between retries.
    pub fn export<S: AsRef<str>>(&self, images: &[S]) -> Run {
        let mut arguments = vec!["export", "--output", "bundle", "--key", "key", "--retry-delay", "0.05"];
        arguments.extend(images.iter().map(AsRef::as_ref));
        self.sealift(&arguments)
    }

    /// `sealift import BUNDLE TARGET --trust allowed_signers OPTIONS`, with short pauses between retries.
    pub fn import(&self, bundle: &str, target: &str, options: &[&str]) -> Run {
        let fixed = ["import", bundle, target, "--trust", "allowed_signers", "--retry-delay", "0.05"];
        self.sealift(&[&fixed, options].concat())
    }

    /// Exports one image of the corpus into `bundle`; the registry that it came from stays up as long as the result.
    pub fn sealed_sample(&self, bundle: &str) -> Sample {
        let registry = crate::RealRegistry::with_corpus();
        let reference = crate::references().first().expect("the corpus holds images").at(registry.host());
        self.sealift(&["export", &reference, "--output", bundle, "--key", "key"]).success();
        Sample { reference, _registry: registry }
    }

    /// `sealift serve ARGUMENTS` on a free port; ended with the result.
    pub fn serve(&self, arguments: &[&str]) -> Serving {
        let mut child = Command::new(&self.program)
            .args([&["serve", "--quiet", "--listen", "127.0.0.1:0"], arguments].concat())
            .current_dir(self.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("a line");
        let host =
            line.trim().strip_prefix("listening on http://").unwrap_or_else(|| panic!("it said {line:?}")).to_owned();
        Serving { host, child }
    }

    /// Runs a line of shell in a directory of this desk.
    pub fn shell(&self, directory: &str, line: &str) {
        let status = Command::new("sh").args(["-euc", line]).current_dir(self.path().join(directory)).status();
        assert!(status.expect("a shell").success(), "{line}");
    }

    /// Changes one byte in the middle of the largest blob.
    pub fn flip_largest_blob(&self, bundle: &str) {
        let blobs = fs::read_dir(self.path().join(bundle).join("blobs/sha256")).expect("blobs");
        let largest =
            blobs.map(|file| file.expect("a blob").path()).max_by_key(|path| path.metadata().map_or(0, |m| m.len()));
        let largest = largest.expect("a bundle has blobs");
        let mut bytes = fs::read(&largest).expect("a blob can be read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&largest, bytes).expect("a blob can be written");
    }
}

impl Run {
    pub fn success(&self) -> &Self {
        self.code(0)
    }

    /// It must have ended with this code.
    #[track_caller]
    pub fn code(&self, expected: i32) -> &Self {
        assert_eq!(self.output.status.code(), Some(expected), "{}", self.all());
        self
    }

    /// What was said must contain this.
    #[track_caller]
    pub fn stderr_contains(&self, part: &str) -> &Self {
        assert!(self.stderr().contains(part), "{part:?} is not in what was said\n{}", self.all());
        self
    }

    /// Whether a signal ended it.
    pub fn was_killed(&self) -> bool {
        self.output.status.code().is_none()
    }

    /// The code with which it ended.
    pub fn exit_code(&self) -> i32 {
        self.output.status.code().expect("no signal ended it")
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    fn all(&self) -> String {
        format!(
            "$ {}\n{}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.output.status,
            self.stdout(),
            self.stderr()
        )
    }
}
