//! Registry to bundle: what is asked for is expanded, planned, moved, and sealed.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use jiff::Timestamp;

use crate::bundle::{ArchiveWriter, Compression, DirectoryWriter, Keep, ResumeReport, SavedPlan, StreamWriter};
use crate::content::{Blob, BlobId, Catalog, Contents, Destination, Source};
use crate::error::{Failure, Kind, Result};
use crate::oci::Digest;
use crate::plan::{Plan, PlanOptions};
use crate::select::{Expanded, Filter, Selection};
use crate::transfer::{self, Input, Outcome, TransferOptions};
use crate::trust::SigningKey;
use crate::{plan, select};

/// Everything that `selection` asks for, read from the registries but not moved: repositories become those of their tags
/// that `filter` keeps, indexes come with all their children.
///
/// # Errors
/// See [`select::expand`] and [`plan::plan`]. With `keep_going` what cannot be read is a failure of the plan,
/// unless nothing is left; else one error names all of it.
pub async fn plan(catalog: &dyn Catalog, selection: &Selection, filter: &Filter, wishes: &PlanOptions) -> Result<Plan> {
    let Expanded { images, mut failures, empty } = select::expand(catalog, selection, filter).await?;
    // What is sealed holds all that was asked for.
    failures.extend(empty);
    let asked = images.len() + failures.len();
    let images = wishes.rules.admit(images, &mut failures);
    if !failures.is_empty() && !wishes.keep_going {
        return Err(Failure::report(failures, asked));
    }
    let images = plan::RequestedImage::of_selection(selection, images);
    let mut plan = plan::plan(catalog, &images, wishes).await?;
    plan.failures.extend(failures);
    plan.warnings.extend(plan::left_behind(&plan.contents, &images, &wishes.rules));
    match plan.contents.images.is_empty() && !plan.failures.is_empty() {
        true => Err(Failure::report(plan.failures, asked)),
        false => Ok(plan),
    }
}

/// The bytes of a planned config, which say what the image is for; nothing is kept of them.
///
/// # Errors
/// `Registry` when it cannot be had, or is not what the manifest says.
pub async fn config(source: &dyn Source, contents: &Contents, config: BlobId) -> Result<Bytes> {
    let Blob { digest, size, .. } = *contents.blob(config);
    let mut chunks = source.open(contents, config, 0).await?;
    let mut bytes = BytesMut::new();
    while let Some(chunk) = chunks.try_next().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > size {
            break;
        }
    }
    match Digest::of(&bytes) {
        found if found == digest => Ok(bytes.freeze()),
        found => Err(source.mismatch(contents, config, &format!("its bytes have the digest {found}"))),
    }
}

/// Where a bundle goes, and in which form.
pub enum BundleOutput {
    /// A directory.
    Directory(PathBuf),
    /// One file, `BUNDLE.tar`.
    Archive(PathBuf),
    /// One compressed file, `BUNDLE.tar.zst`.
    Packed(PathBuf),
    /// Something that takes bytes in their order; messages call it by the name.
    Stream(Box<dyn Write + Send>, String, Compression),
}

/// A bundle in the making, before it is planned.
pub enum BundleWriter {
    /// A directory.
    Directory(Arc<DirectoryWriter>),
    /// One file.
    Archive(Arc<ArchiveWriter>),
    /// What is written once.
    Stream(Arc<StreamWriter>),
}

impl BundleWriter {
    /// A bundle that will be sealed with `key` as of `created`. With `keep` its plan is kept in private state until it is
    /// finished; of what is written once there is nothing to continue.
    ///
    /// # Errors
    /// `Usage` for an output that cannot be one.
    pub fn new(output: BundleOutput, key: SigningKey, created: Timestamp, keep: Option<Keep>) -> Result<BundleWriter> {
        let keys = vec![key];
        Ok(match (output, keep) {
            (BundleOutput::Directory(path), keep) => {
                let writer = DirectoryWriter::new(path, keys, created)?;
                BundleWriter::Directory(Arc::new(match keep {
                    Some(keep) => writer.keep_plan(keep),
                    None => writer,
                }))
            }
            (BundleOutput::Archive(path), keep) => {
                let writer = ArchiveWriter::new(path, keys, created)?;
                BundleWriter::Archive(Arc::new(match keep {
                    Some(keep) => writer.keep_plan(keep),
                    None => writer,
                }))
            }
            (BundleOutput::Packed(path), _) => {
                BundleWriter::Stream(Arc::new(StreamWriter::packed(path, keys, created)?))
            }
            (BundleOutput::Stream(output, shown, compression), _) => {
                BundleWriter::Stream(Arc::new(StreamWriter::new(output, &shown, compression, keys, created)?))
            }
        })
    }

    /// Opens and locks the output, and says what an earlier run left there and in private state.
    ///
    /// # Errors
    /// `Io` if the output exists, cannot be written, or others can change it; `Usage` if others can change the state.
    pub fn open(&self) -> Result<ResumeReport> {
        match self {
            BundleWriter::Archive(writer) => writer.open(),
            BundleWriter::Directory(writer) => writer.open(),
            BundleWriter::Stream(_) => Ok(ResumeReport::default()),
        }
    }

    /// Continues the plan of an earlier run: the tags that it saw may have moved since.
    pub fn resume(&self, plan: SavedPlan) -> Plan {
        let (contents, failures) = match self {
            BundleWriter::Archive(writer) => writer.resume(plan),
            BundleWriter::Directory(writer) => writer.resume(plan),
            BundleWriter::Stream(_) => (plan.contents, plan.left_out),
        };
        Plan { contents, failures, warnings: Vec::new() }
    }

    /// Images that are not in the plan although they were asked for, and why: if this run is interrupted, the one that
    /// continues the plan tells of them, too.
    pub fn set_skipped(&self, left_out: &[Failure]) {
        match self {
            BundleWriter::Archive(writer) => writer.without(left_out),
            BundleWriter::Directory(writer) => writer.without(left_out),
            BundleWriter::Stream(_) => {}
        }
    }

    /// The identity of the bundle, once it is planned.
    pub fn identity(&self) -> Option<Digest> {
        match self {
            BundleWriter::Directory(writer) => writer.identity(),
            BundleWriter::Archive(writer) => writer.identity(),
            BundleWriter::Stream(writer) => writer.identity(),
        }
    }

    fn destination(&self) -> Arc<dyn Destination> {
        match self {
            BundleWriter::Directory(writer) => writer.clone(),
            BundleWriter::Archive(writer) => writer.clone(),
            BundleWriter::Stream(writer) => writer.clone(),
        }
    }
}

/// Moves `contents` from `supply` into a new bundle and seals it. Interrupted, the same call goes on, but for a stream.
/// Returns what was done and the bundle's identity, the SHA-256 of its SHA256SUMS.
///
/// # Errors
/// `Io` when the output exists or cannot be written, `Registry` when a blob cannot be had as planned; nothing is
/// sealed then.
pub async fn export(
    supply: Input,
    contents: Arc<Contents>,
    making: &BundleWriter,
    options: &TransferOptions,
) -> Result<(Outcome, Digest)> {
    let outcome =
        transfer::run(contents, supply, making.destination(), options).await.map_err(|e| match (e.kind(), making) {
            (Kind::Registry | Kind::NotFound, BundleWriter::Directory(_) | BundleWriter::Archive(_)) => {
                e.hint("what has been fetched is kept: run the same command again to go on")
            }
            (Kind::Registry | Kind::NotFound, BundleWriter::Stream(_)) if options.keep_going => {
                e.hint("the seal of a pipe or .tar.zst comes first, so nothing can be left out of it any more: leave that image out, or export into a directory or a .tar")
            }
            _ => e,
        })?;
    let identity = making.identity().expect("a run that ends well has committed");
    Ok((outcome, identity))
}
