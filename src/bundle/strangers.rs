//! What lies in a bundle and does not belong there: leavings of desktops and file systems, which are named with the
//! command that removes them, and everything else, which is named only.

use std::ffi::OsStr;

use rustix::fs::FileType;

use super::files::{Entry, Folder, kind_name, show};
use crate::error::Error;

/// Collects what does not belong.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    droppings: Vec<String>,
    others: Vec<String>,
}

impl Strangers {
    /// Takes note of an entry of `folder` that is not listed.
    pub(super) fn add(&mut self, folder: &Folder, entry: &Entry) {
        let path = folder.path().join(&entry.name);
        if is_dropping(&entry.name) {
            self.droppings.push(quoted(path.as_os_str()));
        } else {
            self.others.push(format!("{} ({})", show(path.as_os_str()), kind_name(entry.kind)));
        }
    }

    /// The refusal, if there is anything to refuse.
    pub(super) fn refusal(self) -> Option<Error> {
        if let Some(first) = self.others.first() {
            let more = match self.others.len() + self.droppings.len() - 1 {
                0 => String::new(),
                count => format!(", and {count} more"),
            };
            return Some(
                Error::damaged(format!("the bundle holds what SHA256SUMS does not list: {first}{more}")).hint(
                    "nothing may lie in a bundle but what is sealed: find out who put it there, then ask for the bundle again",
                ),
            );
        }
        let first = self.droppings.first()?;
        let message = match self.droppings.len() {
            1 => format!("a desktop or file system left {first} in the bundle"),
            count => format!("desktops or file systems left {count} things in the bundle, the first is {first}"),
        };
        let shown = self.droppings.len().min(SHOWN);
        Some(Error::damaged(message).hint(format!(
            "if you know where it comes from, remove it: rm -r -- {}",
            self.droppings[..shown].join(" ")
        )))
    }
}

/// Whether systems leave things of this name behind by themselves.
pub(super) fn is_dropping(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"._") || DROPPINGS.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether an entry is a regular file.
pub(super) fn is_file(entry: &Entry) -> bool {
    entry.kind == FileType::RegularFile
}

/// A path as a POSIX shell reads it back. Control characters cannot be written in quotes there: they are shown
/// escaped, and the command then removes nothing.
fn quoted(path: &OsStr) -> String {
    format!("'{}'", show(path).replace('\'', r"'\''"))
}

/// How many droppings one command names.
const SHOWN: usize = 20;

const DROPPINGS: [&str; 16] = [
    ".DS_Store",
    ".Spotlight-V100",
    ".TemporaryItems",
    ".Trashes",
    ".fseventsd",
    ".DocumentRevisions-V100",
    ".apdisk",
    ".directory",
    "$RECYCLE.BIN",
    "RECYCLER",
    "System Volume Information",
    "Thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "IndexerVolumeGuid",
    "lost+found",
];
