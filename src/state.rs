//! Private state of this user: what an interrupted export had planned.
//!
//! ```text
//! STATE/                of this user, writable by no one else
//!   plans/              mode 0700; locked while a file in it is read or written
//!     <hex>.plan        the plan of one unfinished bundle ([`PlanFile`]); <hex> is the SHA-256 of its output's path
//! ```
//!
//! A key signs what a plan says, so a plan is read from here only, never from the medium on which a bundle is made. A
//! directory or file here that others can change, or that is not this user's, is refused.
//!
//! This module must not know what a plan holds, where the directory is by default, or the terminal.

mod plan;

use std::fs::{DirBuilder, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, RawMode, Stat};

pub use plan::{Binding, Header, PlanFile};

use crate::error::{Error, Kind, Result};
use crate::files::{Directory, show};

/// An open state directory.
#[derive(Debug)]
pub struct State {
    folder: Directory,
    plans: Directory,
}

impl State {
    /// Opens the directory `path`, made first if it is missing.
    ///
    /// # Errors
    /// `Usage` if others can write to it or it is not this user's: nothing in it is used. `Io` if it cannot be made or
    /// opened.
    pub fn open(path: &Path) -> Result<State> {
        let shown = show(path.as_os_str());
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|e| Error::io(format!("cannot make the state directory {shown}"), e))?;
        let folder = Directory::open(path)?;
        check_own(&folder.stat()?, &shown)?;
        match rustix::fs::mkdirat(folder.fd(), PLANS, Mode::from_raw_mode(PRIVATE)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(folder.failed("make the directory", PLANS, e)),
        }
        let plans = folder.folder(PLANS)?;
        let stat = plans.stat()?;
        check_own(&stat, &plans.called())?;
        if stat.st_mode & 0o777 != PRIVATE {
            // What it holds is not for others to read either.
            let _ = rustix::fs::fchmod(plans.fd(), Mode::from_raw_mode(PRIVATE));
        }
        Ok(State { folder, plans })
    }

    /// Its path, for messages.
    pub fn shown(&self) -> String {
        self.folder.called()
    }

    /// Does `work` while no other process reads or writes plans.
    fn locked<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        // Opened anew: a lock belongs to what was opened.
        let own = self.folder.folder(PLANS)?.duplicate()?;
        for _ in 0..TRIES {
            match own.try_lock() {
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                // Where there are no locks a file is replaced as a whole all the same.
                Ok(()) | Err(TryLockError::Error(_)) => return work(),
            }
        }
        Err(Error::new(Kind::Io, format!("another sealift keeps the state in {} locked", self.shown()))
            .hint("see whether it hangs, or choose another directory with --state"))
    }
}

/// Refuses what others can write or what is not this user's.
fn check_own(stat: &Stat, shown: &str) -> Result<()> {
    let own = rustix::process::geteuid().as_raw();
    if stat.st_uid != own {
        return Err(Error::usage(format!("the state in {shown} is not this user's (uid {}, not {own})", stat.st_uid))
            .hint("it decides what a key signs, so nothing in it is used: give a directory of your own with --state"));
    }
    if stat.st_mode & OTHERS_WRITE != 0 {
        let mode = stat.st_mode & 0o7777;
        return Err(Error::usage(format!("others can write to the state in {shown} (mode {mode:04o})")).hint(format!(
            "it decides what a key signs, so nothing in it is used: see who changed it, then: chmod go-w {shown}"
        )));
    }
    Ok(())
}

const PLANS: &str = "plans";
/// The mode of directories.
const PRIVATE: RawMode = 0o700;
const OTHERS_WRITE: RawMode = 0o022;
/// A lock is held for moments, so 5 seconds are enough.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn it_is_made_for_this_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        State::open(&path).unwrap();
        for made in ["a", "a/b", "a/b/plans"] {
            assert_eq!(dir.path().join(made).metadata().unwrap().mode() & 0o7777, 0o700, "{made}");
        }
        State::open(&path).unwrap();
    }

    #[test]
    fn what_others_can_write_is_refused_by_name() {
        for name in ["", "plans"] {
            for mode in [0o720, 0o702, 0o1777] {
                let dir = tempfile::tempdir().unwrap();
                State::open(dir.path()).unwrap();
                let path = dir.path().join(name);
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
                let error = State::open(dir.path()).unwrap_err();
                assert_eq!(error.kind(), Kind::Usage);
                assert!(error.chain().contains(&format!("(mode {mode:04o})")), "{error:?}");
            }
        }
    }

    #[test]
    fn links_are_not_followed_inside() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("plans")).unwrap();
        assert!(State::open(dir.path()).unwrap_err().chain().contains("symbolic link"));
    }
}
