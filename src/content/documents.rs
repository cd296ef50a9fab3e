//! The exact bytes of manifests and indexes, in memory up to a bound and in a private temporary file beyond it.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::oci::{Digest, Document, MediaType};

/// Documents by digest. Memory stays below 8 MiB however many there are.
#[derive(Debug, Default)]
pub struct Documents {
    slots: HashMap<Digest, (MediaType, Slot)>,
    in_memory: u64,
    spool: Option<(File, u64)>,
}

#[derive(Debug)]
enum Slot {
    Memory(Bytes),
    Spool { offset: u64, size: u64 },
}

/// Bytes of documents that are kept in memory, 8 MiB.
const MEMORY: u64 = 8 << 20;

impl Documents {
    /// Keeps a document; one that is there already is not kept twice.
    pub fn insert(&mut self, document: &Document) -> Result<()> {
        if self.slots.contains_key(&document.digest()) {
            return Ok(());
        }
        let size = document.size();
        let slot = if self.in_memory + size <= MEMORY {
            self.in_memory += size;
            // A copy of its own: a slice of a larger buffer would keep all of that alive.
            Slot::Memory(Bytes::copy_from_slice(document.bytes()))
        } else {
            self.append(document.bytes())?
        };
        self.slots.insert(document.digest(), (document.media_type().clone(), slot));
        Ok(())
    }

    /// The exact bytes and the media type.
    pub fn get(&self, digest: Digest) -> Result<(Bytes, &MediaType)> {
        let (media_type, slot) =
            self.slots.get(&digest).ok_or_else(|| Error::not_found(format!("document {digest} is not in the plan")))?;
        let bytes = match slot {
            Slot::Memory(bytes) => bytes.clone(),
            Slot::Spool { offset, size } => {
                let (file, _) = self.spool.as_ref().expect("a spooled slot is made after its file");
                let mut buffer = vec![0; *size as usize];
                file.read_exact_at(&mut buffer, *offset)
                    .map_err(|e| Error::io("cannot read the temporary file of manifests", e))?;
                Bytes::from(buffer)
            }
        };
        Ok((bytes, media_type))
    }

    /// The size of a document in bytes, if it is there.
    pub fn size(&self, digest: Digest) -> Option<u64> {
        self.slots.get(&digest).map(|(_, slot)| match slot {
            Slot::Memory(bytes) => bytes.len() as u64,
            Slot::Spool { size, .. } => *size,
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn append(&mut self, bytes: &[u8]) -> Result<Slot> {
        let spool_error = |e| Error::temporary_file("manifests", e);
        if self.spool.is_none() {
            // Unlinked at once: nobody else can open it and nothing is left behind.
            self.spool = Some((tempfile::tempfile().map_err(spool_error)?, 0));
        }
        let (file, end) = self.spool.as_mut().expect("made above");
        file.write_all(bytes).map_err(spool_error)?;
        let slot = Slot::Spool { offset: *end, size: bytes.len() as u64 };
        *end += bytes.len() as u64;
        Ok(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_beyond_the_bound_come_back_from_the_spool_unchanged() {
        let mut documents = Documents::default();
        let made: Vec<Document> = (0..12)
            .map(|n| {
                let text = format!(r#"{{"schemaVersion":2,"manifests":[],"n":{n},"pad":"{}"}}"#, "x".repeat(1 << 20));
                Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_INDEX)).unwrap()
            })
            .collect();
        made.iter().for_each(|document| documents.insert(document).unwrap());
        assert!(documents.in_memory <= MEMORY && documents.spool.is_some());
        for document in &made {
            assert_eq!(documents.get(document.digest()).unwrap().0, document.bytes());
        }
    }
}
