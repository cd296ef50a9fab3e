//! What can go wrong, as kinds and context.
//!
//! An [`Error`] is a kind (which decides the exit code), a sentence that says what and where, an optional
//! cause, and hints that say what to do next. It knows nothing of a terminal; `cli` decides how it is drawn.
//!
//! Messages are lower-case fragments without a full stop, so that they can stand after `error: `. They often repeat
//! what a stranger wrote: a file name, a key of his JSON, a server's answer. Whatever is in it, a message is one line of
//! bounded length without control characters ([`text::one_line`]) and without known secrets ([`secrets::redact`]): nobody
//! can make an error print lines that look like ours, or a password. What is a list is given as one ([`Error::list`]).

use std::fmt;

use crate::text::{self, secrets};

/// What every fallible function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The documented exit codes of the program.
pub mod exit {
    /// Everything that was asked for is done.
    pub const DONE: u8 = 0;
    /// Something could not be read, reached or written.
    pub const FAILED: u8 = 1;
    /// The command line is wrong, or no trust was given where it is needed.
    pub const USAGE: u8 = 2;
    /// The bundle is damaged, not trusted, or refused by policy.
    pub const REFUSED: u8 = 3;
    /// Partly done: `--keep-going` went past failures.
    pub const PARTIAL: u8 = 4;
    /// Stopped by the user (128 + SIGINT, as shells report it).
    pub const INTERRUPTED: u8 = 130;
    /// Stopped by SIGTERM.
    pub const TERMINATED: u8 = 143;
}

/// What sort of failure it is. The sort decides the exit code and whether a retry can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A local file, directory or medium could not be read or written.
    Io,
    /// A registry could not be reached, refused, or did not keep to its protocol.
    Registry,
    /// Something that was asked for does not exist.
    NotFound,
    /// The command line or an input written by the user is wrong.
    Usage,
    /// The bundle's bytes are not what was sealed, or its form is not that of a bundle.
    Damaged,
    /// The bundle is not signed by anyone the importer trusts.
    Untrusted,
    /// The content is of a sort that is refused on purpose.
    Refused,
    /// Some of what was asked for was done, the rest is named.
    Partial,
    /// The user stopped the run.
    Interrupted,
}

impl Kind {
    /// The process exit code for this sort of failure.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Io | Kind::Registry | Kind::NotFound => exit::FAILED,
            Kind::Usage => exit::USAGE,
            Kind::Damaged | Kind::Untrusted | Kind::Refused => exit::REFUSED,
            Kind::Partial => exit::PARTIAL,
            Kind::Interrupted => exit::INTERRUPTED,
        }
    }
}

/// A failure with its context. Cheap to pass around (one pointer).
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    message: String,
    /// Lines below the message.
    list: Vec<String>,
    hints: Vec<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure of `kind` described by `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = plain(message.into());
        Error(Box::new(Inner { kind, message, list: Vec::new(), hints: Vec::new(), source: None }))
    }

    /// A local input or output failure: `what` says what was being done and to which path.
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        let error = Error::new(Kind::Io, what);
        let hint = match source.kind() {
            std::io::ErrorKind::StorageFull => Some("free some space on that medium, then run the same command again"),
            std::io::ErrorKind::PermissionDenied => {
                Some("check the permissions of that path and of the folders above it")
            }
            std::io::ErrorKind::ReadOnlyFilesystem => {
                Some("the medium is mounted read-only: remount it writable or choose another path")
            }
            std::io::ErrorKind::NotFound => Some("check the path, and whether the medium is mounted"),
            std::io::ErrorKind::QuotaExceeded => {
                Some("your quota there is used up: free some space, then run the same command again")
            }
            std::io::ErrorKind::FileTooLarge => Some(
                "the file system or a limit (ulimit -f) does not take a file of that size: choose another medium, or a directory instead of one file",
            ),
            std::io::ErrorKind::StaleNetworkFileHandle => Some(MEDIUM_GONE),
            _ if GONE.contains(&source.raw_os_error().unwrap_or_default()) => Some(MEDIUM_GONE),
            _ => None,
        };
        let error = error.caused_by(source);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// A failure to make or fill a temporary file of `what`, which lies where TMPDIR says.
    pub fn temporary_file(what: &str, source: std::io::Error) -> Self {
        // Whoever made the file looked where TMPDIR points.
        let directory = tempfile::env::temp_dir();
        let shown = directory.display();
        let hint = match directory.is_dir() {
            true => format!("temporary files go to {shown}; for another directory, with more space, set TMPDIR"),
            false => {
                format!("there is no directory {shown}, where TMPDIR points: make it, or set TMPDIR to another one")
            }
        };
        Error::new(Kind::Io, format!("cannot write the temporary file of {what} in {shown}"))
            .caused_by(source)
            .hint(hint)
    }

    /// A registry that could not be reached or did not keep to its protocol.
    pub fn registry(message: impl Into<String>) -> Self {
        Error::new(Kind::Registry, message)
    }

    /// Something that was asked for does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Error::new(Kind::NotFound, message)
    }

    /// A wrong command line, or a wrong file written by the user.
    pub fn usage(message: impl Into<String>) -> Self {
        Error::new(Kind::Usage, message)
    }

    /// Bytes that are not what was sealed.
    pub fn damaged(message: impl Into<String>) -> Self {
        Error::new(Kind::Damaged, message)
    }

    /// A signature by nobody who is trusted.
    pub fn untrusted(message: impl Into<String>) -> Self {
        Error::new(Kind::Untrusted, message)
    }

    /// Content that is refused on purpose.
    pub fn refused(message: impl Into<String>) -> Self {
        Error::new(Kind::Refused, message)
    }

    /// The user stopped the run.
    pub fn interrupted() -> Self {
        Error::new(Kind::Interrupted, "stopped before the end")
            .hint("run the same command again to go on where it stopped")
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(plain(hint.into()));
        self
    }

    /// Adds what it is about, one by one, as lines below the message and its causes.
    #[must_use]
    pub fn list(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        let list = &mut self.0.list;
        list.extend(lines.into_iter().map(plain));
        if list.len() > LONGEST_LIST {
            let more = list.split_off(LONGEST_LIST - 1).len();
            list.push(format!("and {more} more"));
        }
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Puts `context` in front; kind and hints stay, the old message becomes the cause.
    #[must_use]
    pub fn context(self, context: impl Into<String>) -> Self {
        let Inner { kind, message, list, hints, source } = *self.0;
        let cause = Error(Box::new(Inner { kind, message, list: Vec::new(), hints: Vec::new(), source }));
        let message = plain(context.into());
        Error(Box::new(Inner { kind, message, list, hints, source: Some(Box::new(cause)) }))
    }

    /// The sort of failure.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What to do next, in the order in which it was added.
    pub fn hints(&self) -> &[String] {
        &self.0.hints
    }

    /// The message and every cause below it, joined by `: `; then its list, two spaces before each line.
    pub fn chain(&self) -> String {
        let mut text = self.line();
        for line in &self.0.list {
            text.push_str("\n  ");
            text.push_str(line);
        }
        text
    }

    /// The message and every cause below it, joined by `: `.
    fn line(&self) -> String {
        let mut text = self.0.message.clone();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            let cause_text = plain(cause.to_string());
            // Libraries often repeat their cause in their own message.
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            next = cause.source();
        }
        text
    }

    /// A copy that says the same, with the causes folded into the message: for a stream that must both return its
    /// failure and keep it.
    pub fn flattened(&self) -> Error {
        let (list, hints) = (self.0.list.clone(), self.0.hints.clone());
        Error(Box::new(Inner { kind: self.kind(), message: self.line(), list, hints, source: None }))
    }

    /// Of several failures of one run, the one that decides the exit code:
    /// what is refused (3) wins over what is partly done (4), and that over what failed (1).
    pub fn worst(self, other: Error) -> Error {
        fn rank(kind: Kind) -> u8 {
            match kind.exit_code() {
                // That an image is of the wrong sort must not hide that another one is damaged.
                exit::REFUSED if kind == Kind::Refused => 4,
                exit::REFUSED => 5,
                exit::PARTIAL => 3,
                exit::USAGE => 2,
                exit::FAILED => 1,
                _ => 0,
            }
        }
        if rank(other.kind()) > rank(self.kind()) { other } else { self }
    }
}

/// Something that was asked for and not done.
#[derive(Debug)]
pub struct Failure {
    /// The reference or name.
    pub image: String,
    /// Why.
    pub error: Error,
}

impl Failure {
    /// One error for all of `failures` (at least one) among so many images that were `asked` for. The worst decides
    /// the kind; its hints come first.
    pub fn report(mut failures: Vec<Failure>, asked: usize) -> Error {
        failures.sort_by(|a, b| a.image.cmp(&b.image));
        failures.dedup_by(|a, b| a.image == b.image);
        let count = failures.len();
        let asked = asked.max(count);
        let mut list = Failure::list(&failures[..count.min(SHOWN)]);
        let others: Vec<String> = failures.iter().flat_map(|failure| failure.error.hints()).cloned().collect();
        let worst = failures.into_iter().map(|failure| failure.error).reduce(Error::worst).expect("at least one");
        let message = match count {
            1 => list.remove(0),
            _ => format!("{count} of {asked} images failed:"),
        };
        if count > SHOWN {
            list.push(format!("and {} more", count - SHOWN));
        }
        let mut hints: Vec<String> = Vec::new();
        for hint in worst.hints().iter().cloned().chain(others) {
            if hints.len() < HINTS_SHOWN && !hints.contains(&hint) {
                hints.push(hint);
            }
        }
        hints.into_iter().fold(Error::new(worst.kind(), message).list(list), Error::hint)
    }

    /// As [`Failure::report`], for a run that did the rest: exit code 4, also when one image is of a sort that is not
    /// carried; 3 if something was damaged.
    pub fn report_partial(failures: Vec<Failure>, asked: usize) -> Error {
        let all = Failure::report(failures, asked);
        let mut partial = Error::new(Kind::Partial, format!("the rest is done, but {}", all.0.message));
        partial.0.list = all.0.list.clone();
        partial.0.hints = all.0.hints.clone();
        if matches!(all.kind(), Kind::Damaged | Kind::Untrusted) {
            partial.0.kind = all.kind();
        }
        partial
    }

    /// A copy that says the same.
    pub fn flattened(&self) -> Failure {
        Failure { image: self.image.clone(), error: self.error.flattened() }
    }

    /// What happened to each, with its name, and the error's own list below. A reason that several share is told once,
    /// with their names below it.
    fn list(failures: &[Failure]) -> Vec<String> {
        let mut reasons: Vec<(String, &[String], Vec<&str>)> = Vec::new();
        for Failure { image, error } in failures {
            let (reason, below) = (error.line(), &error.0.list[..]);
            match reasons.iter_mut().find(|(known, listed, _)| (known, *listed) == (&reason, below)) {
                Some((.., images)) => images.push(image),
                None => reasons.push((reason, below, vec![image])),
            }
        }
        let mut list = Vec::new();
        for (reason, below, images) in reasons {
            let named = images.len() > 1 || reason.contains(images[0]);
            list.push(if named { reason } else { format!("{}: {reason}", images[0]) });
            list.extend(below.iter().map(|line| format!("  {line}")));
            if images.len() > 1 {
                list.extend(images.iter().map(|image| format!("  {image}")));
            }
        }
        list
    }
}

fn plain(text: String) -> String {
    let text = match secrets::redact(&text) {
        std::borrow::Cow::Borrowed(_) => text,
        std::borrow::Cow::Owned(redacted) => redacted,
    };
    match text::one_line(&text, LONGEST) {
        std::borrow::Cow::Borrowed(same) if same.len() == text.len() => text,
        changed => changed.into_owned(),
    }
}

/// Of a message, a cause or a hint, in bytes; ours are far shorter.
const LONGEST: usize = 4000;
/// In lines.
const LONGEST_LIST: usize = 200;

/// What to do when a medium does not answer any more.
const MEDIUM_GONE: &str = "see that the medium is there and sound, then run the same command again";
/// EIO, ENXIO, ENODEV: the same numbers on every Unix.
const GONE: [i32; 3] = [5, 6, 19];
/// How many failures are told one by one.
const SHOWN: usize = 50;
/// How many different hints are given for them.
const HINTS_SHOWN: usize = 5;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("chain", &self.chain())
            .field("hints", &self.0.hints)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_keeps_kind_and_hints_and_shows_the_cause() {
        let error = Error::damaged("digest differs").hint("copy it again").context("cannot import usb/b");
        assert_eq!(error.kind(), Kind::Damaged);
        assert_eq!(error.hints(), ["copy it again"]);
        assert_eq!(error.chain(), "cannot import usb/b: digest differs");
    }

    #[test]
    fn whatever_strangers_write_a_message_is_one_line() {
        let evil = "x\nhint: all is well\u{1b}[2J\u{202e}";
        let cause = std::io::Error::other(evil);
        let error = Error::damaged(evil).caused_by(cause).context(evil).hint(evil).flattened().hint(evil);
        let hidden = |text: &str| text.contains(text::is_hidden);
        assert!(!hidden(&error.chain()) && !hidden(&error.to_string()), "{error:?}");
        assert!(error.hints().iter().all(|hint| !hidden(hint)), "{error:?}");
        let failures = [("a", evil), (evil, "b")]
            .map(|(image, why)| Failure { image: image.to_owned(), error: Error::damaged(why) });
        let said = Failure::report_partial(failures.into(), 3).chain();
        assert_eq!(said.lines().count(), 3, "{said}");
        assert!(!said.contains("\nhint: all is well"), "{said}");
        assert!(Error::damaged("x".repeat(1 << 20)).chain().len() < 5000);
    }

    #[test]
    fn lists_stand_below_causes_and_stay_with_the_error() {
        let error = Error::usage("two things").list(["a".into(), "b".into()]).caused_by(std::io::Error::other("c"));
        assert_eq!(error.chain(), "two things: c\n  a\n  b");
        assert_eq!(error.flattened().context("d").chain(), "d: two things: c\n  a\n  b");
    }

    #[test]
    fn a_refusal_wins_over_partial_and_partial_over_failure() {
        let refused = || Error::damaged("x");
        let partial = || Error::new(Kind::Partial, "x");
        let failed = || Error::registry("x");
        assert_eq!(partial().worst(refused()).kind(), Kind::Damaged);
        assert_eq!(refused().worst(partial()).kind(), Kind::Damaged);
        assert_eq!(failed().worst(partial()).kind(), Kind::Partial);
        assert_eq!(failed().worst(failed()).kind(), Kind::Registry);
        assert_eq!(Error::refused("x").worst(refused()).kind(), Kind::Damaged);
    }

    #[test]
    fn a_reason_that_several_images_share_is_told_once() {
        let failure = |image: &str, why: &str| Failure { image: image.into(), error: Error::registry(why) };
        let failures = ["b:1", "a:1", "b:2"].map(|image| failure(image, if image == "a:1" { "cut" } else { "no b" }));
        let said = Failure::report(failures.into(), 5).chain();
        assert_eq!(said, "3 of 5 images failed:\n  a:1: cut\n  no b\n    b:1\n    b:2");
    }

    #[test]
    fn what_is_left_out_is_named_with_every_different_hint() {
        let failure = |image: &str, error: Error| Failure { image: image.into(), error };
        let failures = || {
            vec![
                failure("a", Error::not_found("gone").hint("look again")),
                failure("b", Error::refused("schema 1").hint("push it anew")),
                failure("c", Error::not_found("gone too").hint("look again")),
            ]
        };
        let partial = Failure::report_partial(failures(), 10);
        assert_eq!(
            (partial.kind(), partial.hints()),
            (Kind::Partial, &["push it anew", "look again"].map(String::from)[..])
        );
        assert!(partial.chain().ends_with("3 of 10 images failed:\n  a: gone\n  b: schema 1\n  c: gone too"));
        let damaged = failures().into_iter().chain([failure("d", Error::damaged("bits"))]).collect();
        assert_eq!(Failure::report_partial(damaged, 10).kind(), Kind::Damaged);
    }
}
