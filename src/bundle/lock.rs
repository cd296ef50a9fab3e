//! One worker at a time on what is being made.

use std::fs::{File, TryLockError};

use crate::error::{Error, Kind, Result};

/// Locks the open directory or file in which `shown` is made, until it is closed; the process ending is enough.
pub(super) fn lock(file: &File, shown: &str) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let (who, or_end_it) = match holder(file) {
                Some(process) => (format!(" (process {process})"), format!("; if it hangs, end it: kill {process}")),
                None => Default::default(),
            };
            Err(Error::new(Kind::Io, format!("another export{who} writes {shown} at this moment"))
                .hint(format!("wait until it ends, or choose another --output{or_end_it}")))
        }
        // Not every network file system can lock. A second worker in a directory is noticed when it is sealed.
        Err(TryLockError::Error(_)) => Ok(()),
    }
}

/// The process that holds the lock, where the kernel tells (proc_locks(5)): never on another machine.
fn holder(file: &File) -> Option<u32> {
    let stat = rustix::fs::fstat(file).ok()?;
    let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    let inode = format!("{major:02x}:{minor:02x}:{}", stat.st_ino);
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        // 1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            [_, "FLOCK", _, _, process, place, ..] if place == inode => process.parse().ok().filter(|id| *id > 0),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_worker_is_refused_and_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        let first = File::create(&path).unwrap();
        lock(&first, "b").unwrap();
        let error = lock(&File::open(&path).unwrap(), "b").unwrap_err();
        assert!(error.chain().contains("another export"), "{error:?}");
        if std::path::Path::new("/proc/locks").exists() && holder(&first).is_some() {
            assert!(error.chain().contains(&format!("process {}", std::process::id())), "{error:?}");
        }
        drop(first);
        lock(&File::open(&path).unwrap(), "b").unwrap();
    }
}
