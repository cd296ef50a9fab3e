//! A desk: a directory of its own with a key, and the program to run in it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Where a test works: `key`, `key.pub` and `allowed_signers` are there; bundles go to `bundle`.
pub(crate) struct Desk {
    directory: TempDir,
}

/// What a run of the program did. Every check shows all of it when it fails.
pub(crate) struct Run {
    command: String,
    output: Output,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let desk = Desk { directory: tempfile::tempdir().expect("a temporary directory") };
        let line = desk.sealift(&["keygen", "key", "--principal", "exporter@example.com"]).success().stdout();
        fs::write(desk.path().join("allowed_signers"), line).expect("allowed_signers can be written");
        desk
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Runs the program here, with no home directory, no logins, and a fixed time stamp for what it makes.
    pub(crate) fn sealift<S: AsRef<str>>(&self, arguments: &[S]) -> Run {
        self.sealift_with(arguments, &[], "")
    }

    /// The same with some variables of the environment and with `input` on stdin.
    pub(crate) fn sealift_with<S: AsRef<str>>(&self, arguments: &[S], variables: &[(&str, &str)], input: &str) -> Run {
        let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealift"));
        for variable in ["REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"] {
            command.env_remove(variable);
        }
        let mut child = command
            .args(&arguments)
            .current_dir(self.path())
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .env("HOME", "/nonexistent")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        // It may end without reading.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("the program ends");
        Run { command: format!("sealift {}", arguments.join(" ")), output }
    }

    /// `sealift export IMAGES --output bundle --key key`, with short pauses between retries.
    pub(crate) fn export<S: AsRef<str>>(&self, images: &[S]) -> Run {
        let mut arguments = vec!["export", "--output", "bundle", "--key", "key", "--retry-delay", "0.05"];
        arguments.extend(images.iter().map(AsRef::as_ref));
        self.sealift(&arguments)
    }

    /// `sealift import BUNDLE TARGET --trust allowed_signers OPTIONS`, with short pauses between retries.
    pub(crate) fn import(&self, bundle: &str, target: &str, options: &[&str]) -> Run {
        let fixed = ["import", bundle, target, "--trust", "allowed_signers", "--retry-delay", "0.05"];
        self.sealift(&[&fixed, options].concat())
    }

    /// Runs a line of shell in a directory of this desk.
    pub(crate) fn shell(&self, directory: &str, line: &str) {
        let status = Command::new("sh").args(["-euc", line]).current_dir(self.path().join(directory)).status();
        assert!(status.expect("a shell").success(), "{line}");
    }

    /// Changes one byte in the middle of the largest blob.
    #[allow(dead_code, reason = "not every test file damages bundles")]
    pub(crate) fn flip_largest_blob(&self, bundle: &str) {
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
    pub(crate) fn success(&self) -> &Self {
        self.code(0)
    }

    #[track_caller]
    pub(crate) fn code(&self, expected: i32) -> &Self {
        assert_eq!(self.output.status.code(), Some(expected), "{}", self.all());
        self
    }

    #[track_caller]
    pub(crate) fn stderr_contains(&self, part: &str) -> &Self {
        assert!(self.stderr().contains(part), "{part:?} is not in what was said\n{}", self.all());
        self
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
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
