//! By what a file is known again, and a changed one is noticed, without reading it.

use rustix::fs::Stat;

/// Which file it is, and how long it is and when it was last written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    /// In bytes.
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

#[expect(clippy::useless_conversion, reason = "the fields' widths differ between platforms")]
impl From<&Stat> for Stamp {
    fn from(stat: &Stat) -> Self {
        Stamp {
            device: stat.st_dev.into(),
            inode: stat.st_ino.into(),
            size: stat.st_size as u64,
            modified: (stat.st_mtime.into(), stat.st_mtime_nsec as i64),
        }
    }
}
