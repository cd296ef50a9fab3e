//! The plan of a bundle that is being made, kept in private state until the bundle has its name.
//!
//! A plan decides what is signed: which images, with which digests, as of when. An interrupted run leaves its plan in
//! this user's [`state`](crate::state), and on the medium only data, which is used again by its hash. The plan is kept
//! as the seal and head that the bundle will have (section 12 of bundle-spec), so the next run makes the same bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;

use super::output::OutputPath;
use crate::bundle::format::checksums::Checksums;
use crate::bundle::format::head_reader::HeadReader;
use crate::bundle::format::members::MemberReader;
use crate::bundle::format::offsets::{write_head, write_seal};
use crate::bundle::format::seal::{Seal, signature_name};
use crate::bundle::format::top_level::{HeadFiles, Sealed};
use crate::clock;
use crate::content::{Contents, NamedImage, SourceRepository};
use crate::error::{Error, Failure, Kind, Result};
use crate::files::{Permissions, blocking};
use crate::oci::{Digest, Reference};
use crate::progress::{Event, Progress};
use crate::state::{Binding, Header, PlanFile, State};
use crate::trust::{Namespace, Signature, SigningKey};

/// What an earlier run left of a bundle.
#[derive(Debug, Default)]
pub struct ResumeReport {
    /// Whether an unfinished bundle is there. What is in it is used again by its hash.
    pub unfinished: bool,
    /// Whether the file system keeps owners and modes, so that nobody else can have changed it.
    pub private: bool,
    /// Its plan, if private state has one for the same output, selection and key.
    pub plan: Option<SavedPlan>,
}

impl ResumeReport {
    pub(crate) fn new(unfinished: bool, permissions: Permissions, plan: Option<SavedPlan>) -> ResumeReport {
        ResumeReport { unfinished, private: permissions == Permissions::Kept, plan }
    }
}

/// A plan that can be continued.
#[derive(Debug)]
pub struct SavedPlan {
    /// What is to be moved.
    pub contents: Contents,
    /// What was asked for and is not in it, and why.
    pub left_out: Vec<Failure>,
    /// When the tags were resolved.
    pub planned: Timestamp,
    created: Timestamp,
    signed: Signed,
}

/// Where a plan is kept.
pub struct Keep {
    /// The user's private state.
    pub state: Arc<State>,
    /// The digest of all that decides what is carried: a plan for another selection is not continued.
    pub selection: Digest,
    /// Who is told when a plan cannot be kept, which stops nothing.
    pub progress: Arc<dyn Progress>,
}

/// The plan of one run, and the file in which it is kept.
pub(crate) struct PlanKeeper {
    keys: Arc<Vec<SigningKey>>,
    keep: Option<Keep>,
    current: Mutex<Current>,
}

struct Current {
    created: Timestamp,
    /// When the tags were resolved: of a plan that is continued, or of one that is kept.
    planned: Option<Timestamp>,
    left_out: Vec<Failure>,
    /// The signatures of a plan that is continued.
    signed: Option<Signed>,
    /// Known when the output is open, until the bundle has its name.
    file: Option<Arc<PlanFile>>,
    /// The unfinished bundle.
    partial: PathBuf,
    /// Device and inode of the directory in which it is.
    parent: Option<(u64, u64)>,
}

/// Signatures and what they are over.
#[derive(Debug)]
struct Signed {
    sums: Bytes,
    /// File name and text.
    signatures: Vec<(String, String)>,
}

impl PlanKeeper {
    pub(crate) fn new(keys: Vec<SigningKey>, created: Timestamp) -> PlanKeeper {
        let current = Current {
            created,
            planned: None,
            left_out: Vec::new(),
            signed: None,
            file: None,
            partial: PathBuf::new(),
            parent: None,
        };
        PlanKeeper { keys: Arc::new(keys), keep: None, current: Mutex::new(current) }
    }

    /// Keeps the plan there.
    pub(crate) fn keep(&mut self, keep: Keep) {
        self.keep = Some(keep);
    }

    /// Looks for the plan of an earlier run that left an unfinished bundle for `output`. Without one a plan is stale.
    ///
    /// # Errors
    /// `Usage` if others can change the file. One that cannot be read for another reason is no plan.
    pub(crate) fn open(&self, output: &OutputPath, unfinished: bool) -> Result<Option<SavedPlan>> {
        let Some(keep) = &self.keep else { return Ok(None) };
        let fingerprints = self.keys.iter().map(|key| key.public_key().fingerprint()).collect();
        let file = PlanFile::new(keep.state.clone(), Binding::new(output.path(), keep.selection, fingerprints)?);
        let plan = match unfinished {
            true => read(&file),
            false => file.remove().map(|()| None),
        };
        let plan = match plan {
            Err(error) if error.kind() == Kind::Usage => return Err(error),
            Err(error) => {
                self.warn(&error);
                None
            }
            Ok(plan) => plan,
        };
        if let Err(error) = file.check_writable() {
            let error = error.context("this export cannot be continued as planned if it is interrupted");
            self.warn(&error);
        }
        let mut current = self.current();
        current.file = Some(Arc::new(file));
        current.partial = output.parent().path().join(output.partial());
        current.parent = parent_of(&current.partial);
        Ok(plan)
    }

    /// Continues a plan: with its time, and its signatures if they hold.
    pub(crate) fn resume(&self, plan: SavedPlan) -> (Contents, Vec<Failure>) {
        let SavedPlan { contents, left_out, planned, created, signed } = plan;
        let mut current = self.current();
        (current.created, current.planned, current.signed) = (created, Some(planned), Some(signed));
        (contents, left_out)
    }

    /// Images that were asked for and are not in the plan, to be kept with it.
    pub(crate) fn leave_out<'a>(&self, failures: impl IntoIterator<Item = &'a Failure>) {
        self.current().left_out.extend(failures.into_iter().map(Failure::flattened));
    }

    /// The time that the bundle bears.
    pub(crate) fn created(&self) -> Timestamp {
        self.current().created
    }

    /// The signed head of a bundle with `contents`: with the signatures of the plan that is continued, if it is the same
    /// to the byte and they hold, else signed now.
    ///
    /// # Errors
    /// Those of signing; `Io` if a signature cannot be checked.
    pub(crate) async fn seal(&self, contents: &Contents) -> Result<Sealed> {
        let head = HeadFiles::new(contents, self.created())?;
        let signed = self.current().signed.take().filter(|signed| signed.sums == head.sums());
        let keys = self.keys.clone();
        // May wait for ssh-keygen, a passphrase or a touch.
        blocking(move || match signed {
            Some(signed) if signed.is_by(&keys)? => Ok(head.signed(signed.signatures)),
            _ => head.seal(&keys),
        })
        .await
    }

    /// Keeps the plan. That it cannot be kept stops nothing.
    pub(crate) fn save(&self, sealed: &Sealed, contents: &Contents) {
        let (header, file) = {
            let mut current = self.current();
            let Some(file) = current.file.clone() else { return };
            let created = current.created;
            let planned = *current.planned.get_or_insert_with(|| clock::now().unwrap_or(created));
            let left_out = current.left_out.iter().map(Failure::flattened).collect();
            (Header { planned, created: current.created, left_out }, file)
        };
        let saved = file.save(&header, |writer| {
            let mut sink = |bytes: &[u8]| -> Result<()> {
                writer.write_all(bytes).map_err(|e| Error::io(format!("cannot write {}", file.shown()), e))
            };
            write_seal(sealed, &mut sink)?;
            write_head(sealed, contents, &mut sink)
        });
        if let Err(error) = saved {
            self.warn(&error.context("the plan is not kept"));
        }
    }

    /// The bundle has its name: there is nothing to continue.
    pub(crate) fn forget(&self) {
        if let Some(file) = self.current().file.take()
            && let Err(error) = file.remove()
        {
            self.warn(&error);
        }
    }

    fn warn(&self, error: &Error) {
        if let Some(keep) = &self.keep {
            keep.progress.event(Event::Warning(&error.chain()));
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PlanKeeper {
    /// A run that fetched nothing leaves no unfinished bundle, and no plan for it.
    fn drop(&mut self) {
        let current = self.current.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &current.file
            && current.planned.is_some()
            // A medium that was pulled out leaves another directory there, or none: the plan waits for it.
            && current.parent.is_some()
            && parent_of(&current.partial) == current.parent
            && current.partial.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
        {
            let _ = file.remove();
        }
    }
}

/// Device and inode of the directory of a file.
fn parent_of(file: &Path) -> Option<(u64, u64)> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    parent.metadata().ok().map(|parent| (parent.dev(), parent.ino()))
}

impl std::fmt::Debug for PlanKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlanKeeper").field("created", &self.created()).finish_non_exhaustive()
    }
}

impl Signed {
    /// Whether these are the signatures of exactly these keys, made for a bundle.
    ///
    /// # Errors
    /// `Io` or `NotFound` if that cannot be checked.
    fn is_by(&self, keys: &[SigningKey]) -> Result<bool> {
        if self.signatures.len() != keys.len() {
            return Ok(false);
        }
        for key in keys {
            let name = signature_name(&key.public_key().key_id().to_string());
            let text = self.signatures.iter().find(|(known, _)| *known == name).map(|(_, text)| text.as_bytes());
            let Some(signature) = text.and_then(|text| Signature::parse(text).ok()) else { return Ok(false) };
            if signature.public_key() != key.public_key() {
                return Ok(false);
            }
            match signature.verify(Namespace::Bundle, &self.sums) {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), Kind::Io | Kind::NotFound) => {
                    return Err(error.context("cannot check the signature in the saved plan"));
                }
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// The plan that is kept, if there is one.
fn read(file: &PlanFile) -> Result<Option<SavedPlan>> {
    let Some((header, input)) = file.load()? else { return Ok(None) };
    read_head(header, input, &file.shown()).map(Some).map_err(|e| match e.kind() {
        Kind::Io => e,
        _ => file.damaged(&e.chain()),
    })
}

fn read_head(header: Header, input: BufReader<File>, shown: &str) -> Result<SavedPlan> {
    let mut members = MemberReader::new(Box::new(input), shown.to_owned(), 0);
    let sums = members.sums()?;
    let signatures = members.signatures()?;
    let text = |(name, bytes): (String, Bytes)| (name, String::from_utf8_lossy(&bytes).into_owned());
    let signed = Signed { sums: sums.clone(), signatures: signatures.into_iter().map(text).collect() };
    let mut head = Planned(members);
    // Nobody else can write here: who signed is looked at when it is signed again.
    let read = (&mut head as &mut dyn HeadReader).read_head(Seal::unchecked(sums).0)?;
    let contents = Arc::into_inner(read.contents).ok_or_else(|| Error::damaged("the plan is in use"))?;
    let Header { planned, created, left_out } = header;
    Ok(SavedPlan { contents, left_out, planned, created, signed })
}

/// A head without the blobs that follow it, whose images are still to be fetched.
struct Planned(MemberReader);

impl HeadReader for Planned {
    fn shown(&self, path: &str) -> String {
        self.0.shown(path)
    }

    fn sums(&mut self) -> Result<Bytes> {
        self.0.sums()
    }

    fn signatures(&mut self) -> Result<Vec<(String, Bytes)>> {
        self.0.signatures()
    }

    fn top(&mut self, name: &'static str, limit: u64) -> Result<Bytes> {
        self.0.file(name, limit)
    }

    fn document(&mut self, digest: Digest, size: u64) -> Result<Bytes> {
        self.0.document(digest, size)
    }

    fn check_closed(&mut self, _: &Checksums, _: &BTreeMap<Digest, u64>, _: &Contents) -> Result<()> {
        Ok(())
    }

    fn config(&mut self, _: Digest, _: u64) -> Result<bool> {
        Ok(true)
    }

    fn origin(&self, image: &NamedImage) -> Option<SourceRepository> {
        let reference: Reference = image.source.parse().ok()?;
        Some(SourceRepository { host: reference.host, repository: reference.repository })
    }
}
