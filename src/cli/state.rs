//! Where the private state of the user is, the same for every command that needs it.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::progress::{Event, Progress};
use crate::state::State;

#[derive(Debug, clap::Args)]
pub(super) struct StateArgument {
    /// Keep the plan of an unfinished bundle in DIR, so that the same command can continue it; nobody else may be able to
    /// write there [default: $XDG_STATE_HOME/sealift, else ~/.local/state/sealift]
    #[arg(long = "state", value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl StateArgument {
    /// Opens the state. Nothing if it cannot be kept, which is told and stops nothing.
    ///
    /// # Errors
    /// `Usage` if others can write to it or it is not this user's.
    pub(super) fn open(&self, progress: &dyn Progress) -> Result<Option<Arc<State>>> {
        let Some(directory) = self.directory.clone().or_else(default_directory) else {
            let missing = Error::new(Kind::Io, "there is no home directory for it");
            warn(&missing, progress);
            return Ok(None);
        };
        match State::open(&directory) {
            Ok(state) => Ok(Some(Arc::new(state))),
            Err(error) if error.kind() == Kind::Usage => Err(error),
            Err(error) => {
                warn(&error, progress);
                Ok(None)
            }
        }
    }
}

fn warn(error: &Error, progress: &dyn Progress) {
    let text = format!("no plan is kept, so an interrupted run resolves the tags again: {} (--state)", error.chain());
    progress.event(Event::Warning(&text));
}

/// XDG Base Directory Specification: a path that is not absolute does not count.
fn default_directory() -> Option<PathBuf> {
    let given = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    // A home directory that is not there is not made.
    let home = || std::env::home_dir().filter(|home| home.is_dir()).map(|home| home.join(".local/state"));
    given.or_else(home).map(|path| path.join("sealift"))
}
