//! What lies in a bundle and does not belong there: leavings of desktops and file systems, which are named with the
//! command that removes them, and everything else, which is named only.

use std::ffi::OsStr;

use rustix::fs::FileType;

use crate::error::Error;
use crate::files::{Directory, DirectoryEntry, kind_name, show};

/// Collects what does not belong.
#[derive(Debug, Default)]
pub(crate) struct Unlisted {
    /// Where the last dropping is, if it is one that macOS leaves beside every file: there can be very many of them.
    folder: Option<String>,
    droppings: Vec<String>,
    others: Vec<String>,
}

impl Unlisted {
    /// Takes note of an entry of `folder` that is not listed.
    pub(crate) fn add(&mut self, folder: &Directory, entry: &DirectoryEntry) {
        let path = folder.path().join(&entry.name);
        if is_dropping(&entry.name) {
            let double = entry.name.as_encoded_bytes().starts_with(b"._");
            self.folder = double.then(|| quoted(folder.path().as_os_str()));
            self.droppings.push(quoted(path.as_os_str()));
        } else {
            self.others.push(format!("{} ({})", show(path.as_os_str()), kind_name(entry.kind)));
        }
    }

    /// The refusal, if there is anything to refuse.
    pub(crate) fn refusal(self) -> Option<Error> {
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
        let command = match &self.folder {
            Some(folder) if self.droppings.len() > SHOWN => format!("find {folder} -name '._*' -delete"),
            _ => format!("rm -r -- {}", self.droppings[..self.droppings.len().min(SHOWN)].join(" ")),
        };
        Some(Error::damaged(message).hint(format!("if you know where it comes from, remove it: {command}")))
    }
}

/// Whether systems leave things of this name behind by themselves.
pub(crate) fn is_dropping(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"._") || DROPPINGS.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether an entry is a regular file.
pub(crate) fn is_file(entry: &DirectoryEntry) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_desktop_leaves_beside_every_file_is_removed_by_one_command() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Directory::open(dir.path()).unwrap();
        let said = |count: usize| {
            let mut strangers = Unlisted::default();
            for n in 0..count {
                let entry = DirectoryEntry { name: format!("._{n}").into(), kind: FileType::RegularFile, size: 1 };
                strangers.add(&folder, &entry);
            }
            strangers.refusal().unwrap().hints()[0].clone()
        };
        assert!(said(SHOWN).contains("rm -r -- '") && said(SHOWN).contains("._19'"), "{}", said(SHOWN));
        let many = said(5000);
        assert!(many.ends_with(&format!("find '{}' -name '._*' -delete", dir.path().display())), "{many}");
    }
}
