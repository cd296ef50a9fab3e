//! Passwords: from a pipe, or typed without being shown.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::credentials::Secret;
use crate::error::{Error, Result};

/// The first line of stdin, without its end.
///
/// # Errors
/// `Usage` when it is empty: what was to write it has failed.
pub(super) fn from_stdin() -> Result<Secret> {
    match line("the password")? {
        password if password.is_empty() => Err(Error::usage("the password on stdin is empty")),
        password => Ok(password),
    }
}

/// Asks on the terminal, and shows nothing of the answer.
pub(super) fn ask(question: &str) -> Result<Secret> {
    let quiet = match io::stdin().is_terminal() {
        true => Some(Quiet::begin()?),
        false => return Err(Error::usage("there is no terminal to ask for the password").hint("use --password-stdin")),
    };
    prompt(question);
    let answer = line("the password");
    drop(quiet);
    answer
}

/// Asks on the terminal.
pub(super) fn ask_openly(question: &str) -> Result<String> {
    if !io::stdin().is_terminal() {
        return Err(Error::usage("there is no terminal to ask for the user name").hint("use --username"));
    }
    prompt(question);
    Ok(line("the user name")?.expose().trim().to_owned())
}

fn prompt(question: &str) {
    let mut stderr = io::stderr();
    let _ = write!(stderr, "{question}: ").and_then(|()| stderr.flush());
}

fn line(what: &str) -> Result<Secret> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE as usize));
    io::stdin()
        .lock()
        .take(MAX_LINE)
        .read_until(b'\n', &mut line)
        .map_err(|e| Error::io(format!("cannot read {what} from stdin"), e))?;
    if line.len() as u64 == MAX_LINE {
        return Err(Error::usage(format!("{what} on stdin is too long")));
    }
    let text = std::str::from_utf8(&line).map_err(|_| Error::usage(format!("{what} on stdin is not UTF-8 text")))?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

/// The terminal does not show what is typed while this exists.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> Result<Self> {
        let fault = |e: rustix::io::Errno| Error::io("cannot keep the terminal from showing the password", e.into());
        let before = tcgetattr(io::stdin()).map_err(fault)?;
        let mut now = before.clone();
        now.local_modes.remove(LocalModes::ECHO);
        now.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(io::stdin(), OptionalActions::Flush, &now).map_err(fault)?;
        Ok(Quiet(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// The longest password, 16 KiB.
const MAX_LINE: u64 = 16 << 10;
