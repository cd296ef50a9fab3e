//! Files and directories that this process alone writes: made anew, or taken over only if nobody else can change them.
//!
//! Media are shared and prepared by others. A name that is about to be written may be a link to another file, a device,
//! or a file that another user keeps open. So a name is opened relative to its directory, without following links, and
//! what was opened must be a regular file (or a directory) with one name, of this user, that no one else may write.
//! Owner and mode say nothing where the file system does not keep them: see [`Permissions`].

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, Stat};
use rustix::io::Errno;

use super::writing::{is_same, remove};
use super::{Directory, kind_name};
use crate::error::{Error, Kind, Result};

/// Whether a file system keeps the owner and the mode of each file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permissions {
    /// A new file has this user's id and the mode that was asked for.
    Kept,
    /// FAT, exFAT, some FUSE and network file systems: all files look alike.
    NotKept,
}

/// A file that this process may write.
#[derive(Debug)]
pub(crate) struct OwnFile {
    /// Open for reading and writing.
    pub(crate) file: File,
    /// Whether it was there before.
    pub(crate) existed: bool,
    pub(crate) permissions: Permissions,
}

/// A directory in which this process may write.
#[derive(Debug)]
pub(crate) struct OwnDirectory {
    pub(crate) folder: Directory,
    /// Whether it was there before.
    pub(crate) existed: bool,
    pub(crate) permissions: Permissions,
}

/// Opens the file `name`, or makes it, with mode 0600. `probe` is a name in the same directory under which a file can be
/// made and removed. `lock` locks the opened file; nothing is changed before it returns.
///
/// # Errors
/// Those of `lock`; `Io` naming the file if it is no regular file, has other names, belongs to another user, or others
/// may write it.
pub(crate) fn own_file<L>(
    folder: &Directory,
    name: &str,
    probe: &str,
    lock: impl FnOnce(&File) -> Result<L>,
) -> Result<(OwnFile, L)> {
    let (file, existed) = open_or_create(folder, name)?;
    let lock = lock(&file)?;
    let permissions = match existed {
        true => take_over(folder, name, &file, FileType::RegularFile, probe)?,
        false => permissions_of(&file, PRIVATE_FILE),
    };
    Ok((OwnFile { file, existed, permissions }, lock))
}

/// The open file, and whether it was there before. Another process may make or remove it at any time.
fn open_or_create(folder: &Directory, name: &str) -> Result<(File, bool)> {
    let mut result = Err(Errno::NOENT);
    for _ in 0..TRIES {
        let existed = match folder.look(OsStr::new(name))? {
            Some(stat) => check_kind(folder, name, &stat, FileType::RegularFile).map(|()| true)?,
            None => false,
        };
        let how = if existed { OFlags::NONBLOCK } else { OFlags::CREATE | OFlags::EXCL };
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | how;
        result = rustix::fs::openat(folder.fd(), name, flags, Mode::from_raw_mode(PRIVATE_FILE));
        match result {
            Ok(file) => return Ok((File::from(file), existed)),
            Err(Errno::NOENT | Errno::EXIST) => {}
            Err(_) => break,
        }
    }
    Err(folder.failed("open", name, result.map(drop).err().unwrap_or(Errno::AGAIN)))
}

/// Opens the directory `name`, or makes it, with mode 0700; the rest as [`own_file`].
pub(crate) fn own_folder<L>(
    parent: &Directory,
    name: &str,
    probe: &str,
    lock: impl FnOnce(&File) -> Result<L>,
) -> Result<(OwnDirectory, L)> {
    let existed = match rustix::fs::mkdirat(parent.fd(), name, Mode::from_raw_mode(PRIVATE_FOLDER)) {
        Ok(()) => false,
        Err(Errno::EXIST) => true,
        Err(e) => return Err(parent.failed("make the directory", name, e)),
    };
    if let (true, Some(stat)) = (existed, parent.look(OsStr::new(name))?) {
        check_kind(parent, name, &stat, FileType::Directory)?;
    }
    let folder = parent.folder(name)?;
    let file = folder.duplicate()?;
    let lock = lock(&file)?;
    let permissions = match existed {
        true => take_over(parent, name, &file, FileType::Directory, probe)?,
        false => permissions_of(&file, PRIVATE_FOLDER),
    };
    Ok((OwnDirectory { folder, existed, permissions }, lock))
}

/// A new file with mode 0600 for reading and writing, in place of what has the name. What it was is not opened.
pub(crate) fn create_anew(folder: &Directory, name: &str) -> Result<File> {
    remove(folder, name)?;
    create_private(folder, name)
}

/// Whether a file that is there can be used: a regular file with one name and, where these are kept, of this user and
/// writable by no one else.
pub(crate) fn is_own(stat: &Stat, permissions: Permissions) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && stat.st_nlink <= 1
        && (permissions == Permissions::NotKept
            || stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode & OTHERS_WRITE == 0)
}

/// Gives a finished file the mode 0666, a directory 0777, less the process's umask, and as long as `before` it has its
/// name also less the right of others to write: a run that is killed then can still take it over.
pub(crate) fn publish(
    file: impl AsFd,
    kind: FileType,
    permissions: Permissions,
    when: Publish,
) -> rustix::io::Result<()> {
    if permissions == Permissions::NotKept {
        return Ok(());
    }
    let open: RawMode = if kind == FileType::Directory { 0o777 } else { 0o666 };
    let full = open & !umask();
    let mode = match when {
        Publish::BeforeRename => full & !OTHERS_WRITE,
        Publish::AfterRename if full & OTHERS_WRITE == 0 => return Ok(()),
        Publish::AfterRename => full,
    };
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode))
}

/// When a finished file gets its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publish {
    /// It still has the name of an unfinished one.
    BeforeRename,
    /// It has its final name.
    AfterRename,
}

/// The bits that the process's umask takes from the mode of what it makes.
pub(crate) fn umask() -> RawMode {
    // Linux 4.7 and later say it without changing it.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let said = status.lines().find_map(|line| RawMode::from_str_radix(line.strip_prefix("Umask:")?.trim(), 8).ok());
    said.unwrap_or_else(|| {
        let mask = rustix::process::umask(Mode::from_raw_mode(0o077));
        rustix::process::umask(mask);
        mask.as_raw_mode()
    })
}

fn create_private(folder: &Directory, name: &str) -> Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder.fd(), name, flags, Mode::from_raw_mode(PRIVATE_FILE))
        .map(File::from)
        .map_err(|e| folder.failed("create", name, e))
}

/// Makes an opened file or directory that was there private, after a look at who else can change it.
fn take_over(folder: &Directory, name: &str, file: &File, kind: FileType, probe: &str) -> Result<Permissions> {
    let failed = |e| folder.failed("look at", name, e);
    let before = rustix::fs::fstat(file).map_err(failed)?;
    check_kind(folder, name, &before, kind)?;
    if kind == FileType::RegularFile && before.st_nlink > 1 {
        let shown = folder.shown(name);
        return Err(unusable(format!(
            "{shown} has {} names (hard links), and writing it changes all",
            before.st_nlink
        )));
    }
    let private = if kind == FileType::Directory { PRIVATE_FOLDER } else { PRIVATE_FILE };
    // Where it fails, the look that follows says so.
    let _ = rustix::fs::fchmod(file, Mode::from_raw_mode(private));
    let others_write = before.st_mode & OTHERS_WRITE != 0;
    if permissions_of(file, private) == Permissions::Kept && !others_write {
        return Ok(Permissions::Kept);
    }
    if probe_permissions(folder, probe)? == Permissions::NotKept {
        return Ok(Permissions::NotKept);
    }
    let shown = folder.shown(name);
    Err(match before.st_uid == rustix::process::geteuid().as_raw() {
        false => unusable(format!("{shown} belongs to another user (uid {})", before.st_uid)),
        true => unusable(format!("{shown} may be written by others (mode {:04o})", before.st_mode & 0o7777)),
    })
}

/// What a file system keeps is seen on a new file.
pub(super) fn probe_permissions(folder: &Directory, probe: &str) -> Result<Permissions> {
    let file = create_anew(folder, probe)?;
    let permissions = permissions_of(&file, PRIVATE_FILE);
    remove(folder, probe)?;
    Ok(permissions)
}

/// What the file system keeps, by a file or directory that should have the mode `private`.
fn permissions_of(file: &File, private: RawMode) -> Permissions {
    let kept = rustix::fs::fstat(file)
        .is_ok_and(|stat| stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode & 0o777 == private);
    if kept { Permissions::Kept } else { Permissions::NotKept }
}

fn check_kind(folder: &Directory, name: &str, stat: &Stat, wanted: FileType) -> Result<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        kind if kind == wanted => Ok(()),
        kind => Err(unusable(format!("{} is {}, not {}", folder.shown(name), kind_name(kind), kind_name(wanted)))),
    }
}

fn unusable(message: String) -> Error {
    Error::new(Kind::Io, message).hint("find out who put it there, then move it away or choose another place")
}

impl Directory {
    /// The open directory as a file: to lock it, or to change its mode.
    pub(crate) fn duplicate(&self) -> Result<File> {
        let own = rustix::io::fcntl_dupfd_cloexec(self.fd(), 0);
        own.map(File::from).map_err(|e| self.failed("open", ".", e))
    }

    /// Owner, mode and kind of the open directory.
    pub(crate) fn stat(&self) -> Result<Stat> {
        rustix::fs::fstat(self.fd()).map_err(|e| self.failed("look at", ".", e))
    }

    /// Whether `name` is the open file or directory `file`.
    pub(crate) fn names(&self, name: &str, file: &File) -> Result<bool> {
        Ok(self.look(OsStr::new(name))?.is_some_and(|stat| is_same(file, &stat)))
    }

    /// Removes `name` if it is a regular file, and leaves everything else alone.
    pub(crate) fn remove_file(&self, name: &str) -> Result<()> {
        let stat = self.look(OsStr::new(name))?;
        if !stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile) {
            return Ok(());
        }
        match rustix::fs::unlinkat(self.fd(), name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(self.failed("remove", name, e)),
        }
    }
}

/// How often a file is looked for that comes and goes.
const TRIES: u32 = 10;
const PRIVATE_FILE: RawMode = 0o600;
const PRIVATE_FOLDER: RawMode = 0o700;
/// Group and others may write.
const OTHERS_WRITE: RawMode = 0o022;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    struct Scene {
        dir: tempfile::TempDir,
        folder: Directory,
    }

    impl Scene {
        fn new() -> Scene {
            let dir = tempfile::tempdir().unwrap();
            let folder = Directory::open(dir.path()).unwrap();
            Scene { dir, folder }
        }

        fn mode(&self, name: &str) -> RawMode {
            self.dir.path().join(name).symlink_metadata().unwrap().mode() & 0o7777
        }

        fn set_mode(&self, name: &str, mode: u32) {
            std::fs::set_permissions(self.dir.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }

        fn refused(&self, reason: &str) {
            let error = own_file(&self.folder, "x", "probe", |_| Ok(())).unwrap_err();
            assert!(error.chain().contains(reason) && error.chain().contains("/x "), "{error:?}");
            assert!(!self.dir.path().join("probe").exists());
        }
    }

    #[test]
    fn a_file_of_this_user_is_made_private_and_taken_over() {
        let scene = Scene::new();
        let made = own_file(&scene.folder, "x", "probe", |_| Ok(())).unwrap().0;
        assert!(!made.existed && made.permissions == Permissions::Kept);
        assert_eq!(scene.mode("x"), 0o600);
        scene.set_mode("x", 0o644);
        let again = own_file(&scene.folder, "x", "probe", |_| Ok(())).unwrap().0;
        assert!(again.existed && again.permissions == Permissions::Kept);
        assert_eq!(scene.mode("x"), 0o600);
        let folder = own_folder(&scene.folder, "d", "probe", |_| Ok(())).unwrap().0;
        assert!(!folder.existed && scene.mode("d") == 0o700);
        assert!(own_folder(&scene.folder, "d", "probe", |_| Ok(())).unwrap().0.existed);
    }

    #[test]
    fn what_others_can_change_is_refused_by_name() {
        let scene = Scene::new();
        let path = scene.dir.path().join("x");
        std::fs::write(&path, b"mine").unwrap();
        scene.set_mode("x", 0o620);
        scene.refused("may be written by others (mode 0620)");
        scene.set_mode("x", 0o600);
        std::fs::hard_link(&path, scene.dir.path().join("y")).unwrap();
        scene.refused("has 2 names");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("y", &path).unwrap();
        scene.refused("is a symbolic link");
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(scene.folder.fd(), "x", FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        scene.refused("is a named pipe");
        assert_eq!(std::fs::read(scene.dir.path().join("y")).unwrap(), b"mine");
    }

    #[test]
    fn a_new_file_takes_the_place_of_a_link_and_leaves_its_target_alone() {
        let scene = Scene::new();
        std::fs::write(scene.dir.path().join("target"), b"mine").unwrap();
        std::os::unix::fs::symlink("target", scene.dir.path().join("x")).unwrap();
        create_anew(&scene.folder, "x").unwrap();
        assert_eq!(
            (scene.mode("x"), std::fs::read(scene.dir.path().join("target")).unwrap()),
            (0o600, b"mine".to_vec())
        );
    }

    #[test]
    fn a_finished_file_has_the_mode_of_the_umask() {
        let scene = Scene::new();
        let own = own_file(&scene.folder, "x", "probe", |_| Ok(())).unwrap().0;
        for when in [Publish::BeforeRename, Publish::AfterRename] {
            publish(&own.file, FileType::RegularFile, own.permissions, when).unwrap();
        }
        assert_eq!(scene.mode("x"), 0o666 & !umask());
    }
}
