//! What happens during a run, shown on stderr: a status on a terminal, lines in a log, objects for a program.

mod bars;
mod json;
mod plain;
mod tally;

use std::io::IsTerminal;
use std::sync::Arc;

pub(super) use bars::Bars;
pub(super) use json::Json;
pub(super) use plain::Plain;

use super::output::human_size;
use super::stderr::{Status, StderrMode};
use crate::progress::{Event, TransferKind};

/// `--progress`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ProgressKind {
    /// Bars on a terminal, else a line now and then
    Auto,
    /// A line now and then
    Plain,
    /// One JSON object a line for every event; sealift help programs lists them
    Json,
    /// Nothing
    None,
}

impl ProgressKind {
    /// How stderr is written to. `noisy` is a run that writes diagnostics there too.
    pub(super) fn voice(self, noisy: bool) -> StderrMode {
        let terminal =
            || std::io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        match self {
            ProgressKind::Json => StderrMode::Json,
            ProgressKind::Auto if !noisy && terminal() => StderrMode::Status(Status::new()),
            _ => StderrMode::Lines,
        }
    }

    /// Who takes the events.
    pub(super) fn progress(self, verbose: bool, noisy: bool) -> Arc<dyn crate::progress::Progress> {
        match self.voice(noisy) {
            StderrMode::Json => Arc::new(Json::new()),
            StderrMode::Status(_) => Bars::start(verbose),
            StderrMode::Lines => Arc::new(Plain::new(verbose)),
        }
    }
}

/// What is said of an event in a line of its own, if anything.
fn line(event: &Event<'_>, verbose: bool) -> Option<String> {
    Some(match event {
        Event::Planned { images, blobs, bytes } => {
            format!("{}, {}, {}", count(*images, "image"), count(*blobs, "blob"), human_size(*bytes))
        }
        Event::BlobDone { digest, size, how } if verbose => {
            let how = if *how == TransferKind::AlreadyThere { "was there" } else { "done" };
            format!("blob {} {} {how}", digest.short(), human_size(*size))
        }
        Event::Landed { name, digest } if verbose => format!("{name} {digest}"),
        Event::ReadBack { blobs, bytes } => {
            format!("reading back {}, {}", count(*blobs as usize, "blob"), human_size(*bytes))
        }
        Event::Retrying { what, after } => format!("{what}; trying again in {:.1} s", after.as_secs_f64()),
        Event::Warning(text) => format!("warning: {text}"),
        _ => return None,
    })
}

/// `1 image`, `2 images`.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
