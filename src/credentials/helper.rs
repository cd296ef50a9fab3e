//! Credential helpers: programs named `docker-credential-NAME` that keep logins in a keychain or make them on demand.
//!
//! The protocol is that of docker's credential helpers: the command (`get`, `store`, `erase`) is the only argument,
//! the server's name or a JSON object comes on stdin, JSON or a complaint goes to stdout. Secrets pass by pipe only.

use std::io::{ErrorKind, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use zeroize::Zeroizing;

use super::{Credential, Secret};
use crate::error::{Error, Result};

/// One helper, asked for one server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Helper {
    name: String,
    server: String,
}

/// What a helper answers when it is asked for a login.
#[derive(Debug, Clone)]
pub enum HelperReply {
    /// This login.
    Login(Credential),
    /// That it keeps none for its server.
    Nothing,
    /// Nothing: there is no such program.
    NotInstalled,
}

impl Helper {
    /// The helper `docker-credential-NAME` for `server`; `origin` is the file that names it.
    ///
    /// # Errors
    /// `Usage` when the name could lead to any other program.
    pub(super) fn new(name: &str, server: &str, origin: &str) -> Result<Helper> {
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if name.is_empty() || name.len() > MAX_NAME || !plain {
            return Err(Error::usage(format!("{origin} names a credential helper whose name cannot be one")));
        }
        Ok(Helper { name: name.to_owned(), server: server.to_owned() })
    }

    /// The program.
    pub fn program(&self) -> String {
        format!("docker-credential-{}", self.name)
    }

    /// What the helper keeps for its server.
    ///
    /// # Errors
    /// `Io` when it cannot be run, fails, or does not keep to the protocol.
    pub fn get(&self) -> Result<HelperReply> {
        let (ended_well, output) = match self.run("get", self.server.as_bytes()) {
            Err(error) if is_not_installed(&error) => return Ok(HelperReply::NotInstalled),
            ended => ended?,
        };
        if !ended_well {
            // The one complaint that is an answer (docker-credential-helpers, `credentials.errCredentialsNotFound`).
            if output.windows(NOT_FOUND.len()).any(|window| window == NOT_FOUND) {
                return Ok(HelperReply::Nothing);
            }
            return Err(self.fault("failed"));
        }
        let value: Value = serde_json::from_slice(&output).map_err(|_| self.fault("did not answer in JSON"))?;
        let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let (user, secret) = (field("Username"), Secret::new(field("Secret")));
        match user {
            _ if secret.is_empty() => Ok(HelperReply::Nothing),
            TOKEN_USER => {
                Ok(HelperReply::Login(Credential::IdentityToken { user: String::new(), password: None, token: secret }))
            }
            user => Credential::login(user, secret).map(HelperReply::Login),
        }
    }

    /// Has the helper keep a login.
    ///
    /// # Errors
    /// `Io`, as for [`Helper::get`].
    pub fn store(&self, user: &str, password: &Secret) -> Result<()> {
        let login = serde_json::json!({"ServerURL": self.server, "Username": user, "Secret": password.expose()});
        let login = Zeroizing::new(login.to_string());
        self.run_well("store", login.as_bytes())
    }

    /// Has the helper forget.
    ///
    /// # Errors
    /// `Io`, as for [`Helper::get`].
    pub fn erase(&self) -> Result<()> {
        self.run_well("erase", self.server.as_bytes())
    }

    fn run_well(&self, command: &str, input: &[u8]) -> Result<()> {
        match self.run(command, input)? {
            (true, _) => Ok(()),
            (false, _) => Err(self.fault("failed")),
        }
    }

    /// Whether it ended well, and what it wrote. What it complains of is not repeated: it may hold secrets.
    fn run(&self, command: &str, input: &[u8]) -> Result<(bool, Zeroizing<Vec<u8>>)> {
        let program = self.program();
        let mut child = Command::new(&program)
            .arg(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| {
                Error::io(format!("cannot run the credential helper {program}"), e).hint(format!(
                    "install {program}, or give the login by --authfile or --username; --no-creds does without"
                ))
            })?;
        let ended = self.converse(&mut child, input);
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        ended
    }

    fn converse(&self, child: &mut Child, input: &[u8]) -> Result<(bool, Zeroizing<Vec<u8>>)> {
        let deadline = Instant::now() + PATIENCE;
        let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let input = Zeroizing::new(input.to_vec());
        let (sender, receiver) = mpsc::channel();
        // Threads of their own, so that neither a full pipe nor a grandchild that keeps one open can hold the run.
        thread::spawn(move || {
            // A helper that reads nothing says so by its answer.
            if let Some(stdin) = stdin.as_mut() {
                let _ = stdin.write_all(&input);
            }
        });
        thread::spawn(move || {
            let mut output = Zeroizing::new(Vec::with_capacity(MAX_OUTPUT as usize + 1));
            let read = stdout.map(|stdout| stdout.take(MAX_OUTPUT + 1).read_to_end(&mut output));
            let _ = sender.send(matches!(read, Some(Ok(_))).then_some(output));
        });
        let left = || deadline.saturating_duration_since(Instant::now());
        let output = receiver.recv_timeout(left()).map_err(|_| self.fault("did not answer in time"))?;
        let output = output.ok_or_else(|| self.fault("could not be read from"))?;
        if output.len() as u64 > MAX_OUTPUT {
            return Err(self.fault("answers with more than a login"));
        }
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok((status.success(), output)),
                Ok(None) if left().is_zero() => return Err(self.fault("did not end in time")),
                Ok(None) => thread::sleep(Duration::from_millis(5)),
                Err(e) => return Err(self.fault("was lost").caused_by(e)),
            }
        }
    }

    fn fault(&self, what: &str) -> Error {
        let (program, server) = (self.program(), &self.server);
        Error::new(crate::error::Kind::Io, format!("the credential helper {program} {what} when asked for {server}"))
            .hint(format!("try it by hand: echo {server} | {program} get"))
    }
}

fn is_not_installed(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() == ErrorKind::NotFound)
}

/// The user name that says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";
const NOT_FOUND: &[u8] = b"credentials not found in native keychain";
const MAX_NAME: usize = 100;
/// The most that a helper may answer, 64 KiB.
const MAX_OUTPUT: u64 = 64 << 10;
/// Some ask a person, or a cloud.
const PATIENCE: Duration = Duration::from_secs(60);
