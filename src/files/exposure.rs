//! Whether anybody can change a file that a person named: by writing it, or by putting another in its place.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, RawMode, StatVfsMountFlags};

use super::own::{Permissions, probe_permissions};
use super::{Directory, show};

/// How a regular file can be changed by anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exposure {
    /// What anybody can do, as a clause without a subject: `can be written by anybody (mode 0666)`.
    pub(crate) how: String,
    /// What takes that right away, as a command.
    pub(crate) remedy: String,
    /// [`Permissions::NotKept`] where all files look so, or nobody can write now.
    pub(crate) permissions: Permissions,
}

/// Whether anybody can change the open `file`, which has this path. Pipes and devices are not looked at: what comes out of
/// them is not kept.
pub(crate) fn exposure(file: &File, path: &Path) -> Option<Exposure> {
    let stat = rustix::fs::fstat(file).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let written = std::path::absolute(path).ok()?;
    let path = path.canonicalize().ok()?;
    // Whoever can rename a directory on the way, or a link, puts another file in its place.
    let on_the_way = || path.ancestors().skip(1).chain(written.ancestors().skip(1)).find_map(open_directory);
    let (what, mode) = match stat.st_mode & ANYBODY_WRITES {
        0 => on_the_way()?,
        _ => (path.clone(), stat.st_mode),
    };
    let folder = Directory::open(if what == path { path.parent()? } else { &what }).ok();
    let mode = mode & 0o7777;
    let shown = show(what.as_os_str());
    let how = match what == path {
        true => format!("can be written by anybody (mode {mode:04o})"),
        false => {
            format!("can be replaced by anybody, as the directory {shown} can be written by anybody (mode {mode:04o})")
        }
    };
    let permissions = folder.map_or(Permissions::Kept, |folder| permissions_in(&folder));
    Some(Exposure { how, remedy: format!("chmod o-w {shown}"), permissions })
}

/// `path` and its mode if anybody can change what is in it. Others' files in a directory with the sticky bit stay.
fn open_directory(path: &Path) -> Option<(PathBuf, RawMode)> {
    let mode = rustix::fs::stat(path).ok()?.st_mode;
    (mode & ANYBODY_WRITES != 0 && mode & STICKY == 0).then(|| (path.to_owned(), mode))
}

/// What the file system of a directory keeps, by a new file; by its type where none can be made. Of one that is mounted
/// read-only nobody here changes anything, whatever the modes are.
fn permissions_in(folder: &Directory) -> Permissions {
    let is_read_only =
        rustix::fs::fstatvfs(folder.fd()).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY));
    if is_read_only {
        return Permissions::NotKept;
    }
    probe_permissions(folder, &format!(".sealift-probe-{}", std::process::id())).unwrap_or_else(|_| {
        let keeps_none = rustix::fs::fstatfs(folder.fd()).is_ok_and(|stat| NO_MODES.contains(&(stat.f_type as u64)));
        if keeps_none { Permissions::NotKept } else { Permissions::Kept }
    })
}

const ANYBODY_WRITES: RawMode = 0o002;
const STICKY: RawMode = 0o1000;
/// FAT and exFAT (statfs(2)).
const NO_MODES: [u64; 2] = [0x4d44, 0x2011_bab0];

#[cfg(test)]
mod tests {
    use std::fs::Permissions as Mode;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_anybody_can_change_is_told_from_others() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, link) = (dir.path().join("folder"), dir.path().join("link"));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("file");
        std::fs::write(&path, b"x").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let found = |file: u32, directory: u32| {
            std::fs::set_permissions(&path, Mode::from_mode(file)).unwrap();
            std::fs::set_permissions(&folder, Mode::from_mode(directory)).unwrap();
            let found = [&path, &link].map(|path| exposure(&File::open(path).unwrap(), path));
            assert_eq!(found[0], found[1]);
            assert!(found[0].as_ref().is_none_or(|found| found.permissions == Permissions::Kept));
            found[0].clone().map(|found| found.how)
        };
        assert_eq!(found(0o644, 0o755), None);
        assert_eq!(found(0o664, 0o775), None);
        assert_eq!(found(0o644, 0o1777), None);
        assert_eq!(found(0o646, 0o1777).unwrap(), "can be written by anybody (mode 0646)");
        assert!(found(0o644, 0o777).unwrap().starts_with("can be replaced by anybody, as the directory "));
        // The directory above, and that of a link to the file.
        std::fs::set_permissions(&folder, Mode::from_mode(0o755)).unwrap();
        std::fs::set_permissions(dir.path(), Mode::from_mode(0o777)).unwrap();
        for path in [&path, &link] {
            let found = exposure(&File::open(path).unwrap(), path).unwrap().how;
            assert!(found.starts_with("can be replaced by anybody"), "{found}");
        }
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::set_permissions(elsewhere.path(), Mode::from_mode(0o777)).unwrap();
        std::fs::set_permissions(dir.path(), Mode::from_mode(0o700)).unwrap();
        let outer = elsewhere.path().join("link");
        std::os::unix::fs::symlink(&path, &outer).unwrap();
        assert!(exposure(&File::open(&outer).unwrap(), &outer).is_some());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        assert_eq!(exposure(&File::open("/dev/null").unwrap(), Path::new("/dev/null")), None);
    }
}
