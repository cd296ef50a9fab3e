//! What a file system can hold, as far as it says: asked before the first blob is fetched, so that nobody waits an hour
//! for a stick that is too small.

use rustix::process::Resource;

use crate::error::{Error, Kind, Result};
use crate::files::Directory;

/// The file system on which a bundle is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileSystem {
    /// The folder that people know.
    shown: String,
    sort: Sort,
    /// In bytes, if it can say.
    free: Option<u64>,
    /// How many files there can still be, if there is a bound.
    free_files: Option<u64>,
    /// What a file's room is counted in, in bytes.
    unit: u64,
    /// What this process may write into one file, in bytes.
    allowed: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// FAT12 to FAT32.
    Fat,
    ExFat,
    Other,
}

/// What is about to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SpaceNeeded {
    /// Bytes that are not there yet.
    pub(crate) bytes: u64,
    /// Files that are not there yet.
    pub(crate) files: u64,
    /// The size of the largest file, in bytes, and what it is.
    pub(crate) largest: (u64, String),
    /// Names of 64 characters in one folder.
    pub(crate) names: u64,
    /// How to do with smaller files or fewer of them.
    pub(crate) instead: &'static str,
}

impl FileSystem {
    /// The one of `folder`; messages call it `shown`.
    pub(crate) fn of(folder: &Directory, shown: String) -> FileSystem {
        let sort = match magic(folder) {
            Some(MSDOS) => Sort::Fat,
            Some(EXFAT) => Sort::ExFat,
            _ => Sort::Other,
        };
        let said = rustix::fs::fstatvfs(folder.fd()).ok();
        // A medium that cannot say how much is free is filled until it is full.
        let free =
            said.as_ref().filter(|said| said.f_blocks > 0).map(|said| said.f_bavail.saturating_mul(said.f_frsize));
        let free_files = said.as_ref().filter(|said| said.f_files > 0).map(|said| said.f_favail);
        let unit = said.as_ref().map_or(1, |said| said.f_frsize.max(1));
        let allowed = rustix::process::getrlimit(Resource::Fsize).current;
        FileSystem { shown, sort, free, free_files, unit, allowed }
    }

    /// FAT and exFAT fill holes with zeros: a file is written there from its beginning to its end.
    pub(crate) fn zero_fills_gaps(&self) -> bool {
        self.sort != Sort::Other
    }

    /// What a file of `size` bytes takes up.
    pub(crate) fn room(&self, size: u64) -> u64 {
        size.next_multiple_of(self.unit)
    }

    /// Refuses to begin what the medium cannot hold.
    pub(crate) fn check(&self, needs: &SpaceNeeded) -> Result<()> {
        let shown = &self.shown;
        let (largest, what) = &needs.largest;
        if self.sort == Sort::Fat && *largest > FAT_LARGEST {
            return Err(refused(format!(
                "{what} would have {largest} bytes, and a file in {shown} has at most {FAT_LARGEST} (FAT)"
            ))
            .hint(format!("format the medium with exFAT{}", needs.instead)));
        }
        if let Some(allowed) = self.allowed.filter(|allowed| largest > allowed) {
            return Err(refused(format!(
                "{what} would have {largest} bytes, and this process may write at most {allowed} into a file"
            ))
            .hint("raise the limit in this shell: ulimit -f unlimited"));
        }
        if self.sort == Sort::Fat && needs.names > FAT_NAMES {
            return Err(refused(format!(
                "the bundle would have {} files in one folder, and on FAT {shown} takes about {FAT_NAMES} of such names",
                needs.names
            ))
            .hint(format!("format the medium with exFAT{}", needs.instead)));
        }
        if let Some(free) = self.free.filter(|free| needs.bytes > *free) {
            return Err(refused(format!(
                "the bundle needs {} more bytes in {shown}, where {free} are free: {} too few",
                needs.bytes,
                needs.bytes - free
            ))
            .hint("free some space there, choose another place with --output, or export fewer images"));
        }
        match self.free_files.filter(|free| needs.files > *free) {
            Some(free) => Err(refused(format!(
                "the bundle needs {} more files in {shown}, which has room for {free}",
                needs.files
            ))
            .hint(format!("remove some files there, or choose another place with --output{}", needs.instead))),
            None => Ok(()),
        }
    }
}

fn refused(message: String) -> Error {
    Error::new(Kind::Io, message)
}

#[cfg(target_os = "linux")]
fn magic(folder: &Directory) -> Option<u64> {
    rustix::fs::fstatfs(folder.fd()).ok().map(|stat| stat.f_type as u64)
}

#[cfg(not(target_os = "linux"))]
fn magic(_: &Directory) -> Option<u64> {
    None
}

/// statfs(2): `f_type` of FAT and exFAT.
const MSDOS: u64 = 0x4d44;
const EXFAT: u64 = 0x2011_bab0;
/// The largest file of FAT32, in bytes: 4 GiB - 1.
const FAT_LARGEST: u64 = u32::MAX as u64;
/// A folder has 65,536 entries of 32 bytes; a name of 64 characters takes five for its 13 characters each and one of
/// the old sort.
const FAT_NAMES: u64 = 65_536 / 6 - 22;

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn stick() -> FileSystem {
        FileSystem {
            shown: "/media/stick".into(),
            sort: Sort::Fat,
            free: Some(8 << 30),
            free_files: None,
            unit: 32 << 10,
            allowed: None,
        }
    }

    fn needs() -> SpaceNeeded {
        SpaceNeeded { bytes: 1 << 20, files: 10, largest: (1 << 20, "layer x".into()), names: 9, instead: ", or else" }
    }

    #[test]
    fn what_fits_is_let_through() {
        stick().check(&needs()).unwrap();
        let bounds = SpaceNeeded { bytes: 8 << 30, largest: (FAT_LARGEST, String::new()), names: FAT_NAMES, ..needs() };
        stick().check(&bounds).unwrap();
        assert_eq!((stick().room(0), stick().room(1), stick().room(32 << 10)), (0, 32 << 10, 32 << 10));
    }

    #[rstest]
    #[case::space(stick(), SpaceNeeded { bytes: (8 << 30) + 1, ..needs() }, "1 too few", "--output")]
    #[case::file(stick(), SpaceNeeded { largest: (1 << 32, "layer x".into()), ..needs() }, "4294967295 (FAT)", "exFAT, or else")]
    #[case::names(stick(), SpaceNeeded { names: 10_901, ..needs() }, "10901 files", "exFAT, or else")]
    #[case::files(FileSystem { free_files: Some(9), ..stick() }, needs(), "room for 9", "remove some files")]
    #[case::ulimit(FileSystem { allowed: Some(1), ..stick() }, needs(), "at most 1 into", "ulimit")]
    fn what_does_not_fit_is_refused_with_numbers_and_advice(
        #[case] medium: FileSystem,
        #[case] needs: SpaceNeeded,
        #[case] number: &str,
        #[case] advice: &str,
    ) {
        let error = medium.check(&needs).unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
        assert!(error.chain().contains(number), "{error:?}");
        assert!(error.hints()[0].contains(advice), "{error:?}");
    }

    #[test]
    fn other_file_systems_have_neither_bound() {
        let disk = FileSystem { sort: Sort::Other, ..stick() };
        disk.check(&SpaceNeeded { largest: (1 << 32, String::new()), names: 1 << 20, ..needs() }).unwrap();
        assert!(!disk.zero_fills_gaps() && stick().zero_fills_gaps());
        assert!(FileSystem { sort: Sort::ExFat, ..stick() }.check(&SpaceNeeded { names: 1 << 20, ..needs() }).is_ok());
    }
}
