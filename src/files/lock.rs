//! One writer at a time on a file or directory.
//!
//! The lock is on the open file itself (flock(2)) and ends with the process. Where the file system has no locks (some
//! NFS and FUSE mounts), a lock file beside it takes their place:
//!
//! ```text
//! sealift lock 1
//! <host> <boot id> <process> <start>      host: SHA-256 of the host name and the process namespace, in hex;
//!                                         start: of the process, in clock ticks since boot
//! ```
//!
//! It is made only if nothing has the name, and removed at the end. One that a killed process left is taken over, if
//! that process ran on this host and is gone.

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::{Read, Write};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Directory;
use super::writing::remove;
use crate::error::{Error, Kind, Result};
use crate::oci::Digest;

/// A lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    /// The locked file.
    _file: File,
    /// What takes its place where the file system has no locks.
    _lock_file: Option<LockFile>,
}

/// What a lock is for, in the words of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LockedBy<'a> {
    /// Who holds it: `export`.
    pub(crate) job: &'a str,
    /// What is written, as people know it.
    pub(crate) shown: &'a str,
    /// The option or argument with which another place is chosen.
    pub(crate) instead: &'a str,
}

impl Lock {
    /// Locks `file`; `name` in `folder` is the lock file where the file system has no locks.
    ///
    /// # Errors
    /// `Io` if another process holds the lock, or nobody can say whether one does.
    pub(crate) fn take(file: File, folder: &Directory, name: &str, by: LockedBy<'_>) -> Result<Lock> {
        match file.try_lock() {
            // A process that could not lock may be at work all the same.
            Ok(()) => match folder.look(OsStr::new(name))? {
                None => Ok(Lock { _file: file, _lock_file: None }),
                Some(_) => Ok(Lock { _file: file, _lock_file: Some(LockFile::take(folder, name, by)?) }),
            },
            Err(TryLockError::WouldBlock) => Err(by.busy(holder(&file))),
            Err(TryLockError::Error(_)) => {
                Ok(Lock { _file: file, _lock_file: Some(LockFile::take(folder, name, by)?) })
            }
        }
    }
}

impl LockedBy<'_> {
    fn busy(&self, process: Option<u32>) -> Error {
        let LockedBy { job, shown, instead } = self;
        let (who, or_end_it) = match process {
            Some(process) => (format!(" (process {process})"), format!("; if it hangs, end it: kill {process}")),
            None => Default::default(),
        };
        Error::new(Kind::Io, format!("another {job}{who} writes {shown} at this moment"))
            .hint(format!("wait until it ends, or choose another {instead}{or_end_it}"))
    }

    fn unknown(&self, lock_file: &str) -> Error {
        let LockedBy { job, shown, .. } = self;
        Error::new(Kind::Io, format!("{lock_file} says that another {job} writes {shown}, perhaps on another host"))
            .hint(format!("if none does, remove it: rm {lock_file}"))
    }
}

/// A lock file of this process.
#[derive(Debug)]
struct LockFile {
    folder: Directory,
    name: String,
    file: File,
}

impl LockFile {
    fn take(folder: &Directory, name: &str, by: LockedBy<'_>) -> Result<LockFile> {
        if let Some(file) = create(folder, name)? {
            return LockFile::write(folder, name, file);
        }
        match read(folder, name)? {
            Some(Holder::Running(process)) => return Err(by.busy(Some(process))),
            Some(Holder::Gone) => {}
            Some(Holder::Unknown) | None => return Err(by.unknown(&folder.shown(name))),
        }
        // Whoever makes this file takes over; the other one does not get it.
        let new = format!("{name}.new");
        if let Some(Holder::Gone) = read(folder, &new)? {
            remove(folder, &new)?;
        }
        let Some(file) = create(folder, &new)? else { return Err(by.unknown(&folder.shown(&new))) };
        let mut lock = LockFile::write(folder, &new, file)?;
        if !matches!(read(folder, name)?, Some(Holder::Gone)) {
            return Err(by.unknown(&folder.shown(name)));
        }
        rustix::fs::renameat(folder.fd(), &new, folder.fd(), name).map_err(|e| folder.failed("rename", &new, e))?;
        lock.name = name.to_owned();
        match folder.names(name, &lock.file)? {
            true => Ok(lock),
            false => Err(by.unknown(&folder.shown(name))),
        }
    }

    fn write(folder: &Directory, name: &str, mut file: File) -> Result<LockFile> {
        let failed = |e| Error::io(format!("cannot write {}", folder.shown(name)), e);
        let written = file.write_all(Identity::own().to_string().as_bytes()).and_then(|()| file.sync_all());
        let lock = LockFile { folder: folder.below("")?, name: name.to_owned(), file };
        written.map(|()| lock).map_err(failed)
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        if self.folder.names(&self.name, &self.file).unwrap_or(false) {
            let _ = remove(&self.folder, &self.name);
        }
    }
}

/// The process that made a lock file.
enum Holder {
    Running(u32),
    /// It ran on this host, and does not any more.
    Gone,
    /// It ran on another host, or the file says nothing.
    Unknown,
}

/// A new file; nothing if something has the name.
fn create(folder: &Directory, name: &str) -> Result<Option<File>> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(folder.fd(), name, flags, Mode::from_raw_mode(0o600)) {
        Ok(file) => Ok(Some(File::from(file))),
        Err(Errno::EXIST) => Ok(None),
        Err(e) => Err(folder.failed("create", name, e)),
    }
}

/// Who made the lock file; nothing if there is none.
fn read(folder: &Directory, name: &str) -> Result<Option<Holder>> {
    if folder.look(OsStr::new(name))?.is_none() {
        return Ok(None);
    }
    let mut text = String::new();
    let (file, _) = folder.file(name)?;
    // What is no text says nothing.
    let _ = file.take(MAX_LENGTH).read_to_string(&mut text);
    Ok(Some(Identity::parse(&text).map_or(Holder::Unknown, |holder| holder.judge(&Identity::own()))))
}

/// A process, told apart from every other one that there was or will be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    /// In hex.
    host: String,
    /// Empty where the kernel does not say it.
    boot: String,
    process: u32,
    /// In clock ticks since boot; 0 where the kernel does not say it.
    start: u64,
}

impl Identity {
    fn own() -> Identity {
        let name = rustix::system::uname();
        // Processes of another namespace have other numbers.
        let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let host = [name.nodename().to_bytes(), b"\0", namespace.as_os_str().as_encoded_bytes()].concat();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let process = std::process::id();
        Identity { host: Digest::of(&host).hex(), boot, process, start: start_of(process).unwrap_or_default() }
    }

    fn parse(text: &str) -> Option<Identity> {
        let line = text.strip_prefix(TITLE)?.strip_prefix('\n')?.strip_suffix('\n')?;
        let fields: Vec<&str> = line.split(' ').collect();
        let [host, boot, process, start] = fields[..] else { return None };
        let identity = Identity {
            host: host.into(),
            boot: boot.into(),
            process: process.parse().ok()?,
            start: start.parse().ok()?,
        };
        (identity.to_string() == text && Digest::from_hex(host).is_some()).then_some(identity)
    }

    fn judge(&self, own: &Identity) -> Holder {
        if self.host != own.host || own.boot.is_empty() || self.boot.is_empty() {
            return Holder::Unknown;
        }
        let runs = self.boot == own.boot && start_of(self.process) == Some(self.start);
        if runs { Holder::Running(self.process) } else { Holder::Gone }
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Identity { host, boot, process, start } = self;
        write!(f, "{TITLE}\n{host} {boot} {process} {start}\n")
    }
}

/// When a process started, in clock ticks since boot (proc_pid_stat(5), field 22); nothing if it is gone.
fn start_of(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is a name in brackets, in which anything may stand.
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace();
    let ended = matches!(fields.next(), Some("Z" | "X"));
    fields.nth(18).filter(|_| !ended)?.parse().ok()
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

const TITLE: &str = "sealift lock 1";
/// Of a lock file, in bytes.
const MAX_LENGTH: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const BY: LockedBy<'_> = LockedBy { job: "export", shown: "b", instead: "--output" };

    fn folder() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Directory::open(dir.path()).unwrap();
        (dir, folder)
    }

    fn lock(dir: &tempfile::TempDir, folder: &Directory) -> Result<Lock> {
        Lock::take(File::open(dir.path().join("b")).unwrap(), folder, ".b.lock", BY)
    }

    #[test]
    fn a_second_process_is_refused_and_told_which_the_first_is() {
        let (dir, folder) = folder();
        let first = File::create(dir.path().join("b")).unwrap();
        let first = Lock::take(first, &folder, ".b.lock", BY).unwrap();
        let error = lock(&dir, &folder).unwrap_err();
        assert!(error.chain().contains("another export"), "{error:?}");
        if holder(&first._file).is_some() {
            assert!(error.chain().contains(&format!("process {}", std::process::id())), "{error:?}");
        }
        drop(first);
        assert!(lock(&dir, &folder).unwrap()._lock_file.is_none());
    }

    #[test]
    fn a_lock_file_is_made_once_and_removed() {
        let (dir, folder) = folder();
        let first = LockFile::take(&folder, ".b.lock", BY).unwrap();
        let error = LockFile::take(&folder, ".b.lock", BY).unwrap_err();
        assert!(error.chain().contains(&format!("process {}", std::process::id())), "{error:?}");
        // Also for a process that can lock.
        File::create(dir.path().join("b")).unwrap();
        lock(&dir, &folder).unwrap_err();
        drop(first);
        assert!(!dir.path().join(".b.lock").exists());
    }

    #[test]
    fn the_lock_file_of_a_process_that_is_gone_is_taken_over_and_no_other() {
        let (dir, folder) = folder();
        let path = dir.path().join(".b.lock");
        let own = Identity::own();
        assert_eq!(Identity::parse(&own.to_string()), Some(own.clone()));
        let gone = [
            Identity { start: own.start + 1, ..own.clone() },
            Identity { boot: "another".into(), ..own.clone() },
            Identity { process: u32::MAX, ..own.clone() },
        ];
        for gone in gone {
            std::fs::write(&path, gone.to_string()).unwrap();
            std::fs::write(dir.path().join(".b.lock.new"), gone.to_string()).unwrap();
            drop(LockFile::take(&folder, ".b.lock", BY).unwrap());
            assert!(!path.exists() && !dir.path().join(".b.lock.new").exists());
        }
        let elsewhere = Identity { host: Digest::of(b"another").hex(), ..own.clone() };
        for unknown in [elsewhere.to_string(), String::new(), "junk\n".into(), format!("{own}\n")] {
            std::fs::write(&path, &unknown).unwrap();
            let error = LockFile::take(&folder, ".b.lock", BY).unwrap_err();
            assert!(error.chain().contains(".b.lock says"), "{error:?}");
            assert!(error.hints()[0].contains("rm "), "{error:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), unknown);
        }
    }
}
