//! A desk: a directory of its own with a key, and the program to run in it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use support::references;
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

    /// Runs the program here, with no home directory and a fixed time stamp for what it makes.
    pub(crate) fn sealift<S: AsRef<str>>(&self, arguments: &[S]) -> Run {
        self.sealift_with(&[], arguments)
    }

    /// The same with more of an environment; no proxy is inherited.
    pub(crate) fn sealift_with<S: AsRef<str>>(&self, environment: &[(&str, &str)], arguments: &[S]) -> Run {
        let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealift"));
        for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        let output = command
            .args(&arguments)
            .current_dir(self.path())
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .env("HOME", "/nonexistent")
            .envs(environment.iter().copied())
            .output()
            .expect("the program starts");
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
}

/// A small image of the corpus, as it is named at a registry.
pub(crate) fn busybox(host: &str) -> String {
    references().iter().find(|r| r.repository == "library/busybox").expect("busybox in the corpus").at(host)
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
