//! What `skopeo sync` does, between any two of registry, tree of directories and bundle.
//!
//! From a registry: what is asked for becomes single images, a tag costs one HEAD, and what its destination has under its
//! name already is left alone before a manifest is read (`up_to_date`). From a tree of directories everything is read,
//! because it is here. What is left is moved as by every other job.
//!
//! Names are skopeo's unless another way is asked for ([`Names`](crate::select::naming::Names)). Two different images that would
//! land on one name are refused before a layer is read, and before a manifest is where HEAD tells their digests.

mod format;
pub(crate) mod local_manifests;
pub(crate) mod tree_layout;
pub(crate) mod up_to_date;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

pub use format::Format;
use local_manifests::LocalManifests;
pub use tree_layout::{KeptSignatures, TreeLayout, signatures};

use crate::content::{Catalog, Contents, NamedImage, SourceRepository};
use crate::dir::{DirDestination, Tree};
use crate::error::{Failure, Kind, Result};
use crate::plan::{self, Plan, SignaturePolicy};
use crate::progress::{Event, Progress};
use crate::registry::RegistryDestination;
use crate::select::naming;
use crate::select::{self, Expanded, Filter, Selection};
use crate::transfer::{self, Input, Outcome, Summary, TransferOptions};

/// How to sync.
#[derive(Debug, Clone, Default)]
pub struct SyncOptions {
    /// How to plan.
    pub plan: plan::PlanOptions,
    /// Refuses everything that is not of this format.
    pub format: Option<Format>,
}

/// Where to, as far as planning looks there.
pub enum SyncTarget {
    /// A registry.
    Registry(Arc<RegistryDestination>),
    /// A tree of directories: what its manifests are is known here, whether all is there it sees for itself.
    Directory(PathBuf),
    /// A bundle, which is new.
    Bundle,
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct SyncPlan {
    /// What to move.
    pub contents: Arc<Contents>,
    /// What is at its destination already.
    pub there: Vec<NamedImage>,
    /// With `keep_going`: what cannot be carried, with the reason.
    pub failures: Vec<Failure>,
    /// What a person should know, and that stops nothing.
    pub warnings: Vec<String>,
    /// [`NamedImage::source`] of everything that was asked for and can be carried, in the order in which it was asked for.
    pub order: Vec<String>,
}

impl SyncPlan {
    /// All of `contents` is to be moved.
    pub fn of(contents: Arc<Contents>) -> SyncPlan {
        let order = contents.images.iter().map(|image| image.source.clone()).collect();
        SyncPlan { contents, order, ..SyncPlan::default() }
    }

    /// How much was asked for.
    pub fn asked(&self) -> usize {
        self.contents.images.len() + self.there.len() + self.failures.len()
    }

    /// With `keep_going` this may be less than what was asked for, but not nothing.
    fn unless_nothing_is_left(self) -> Result<SyncPlan> {
        let nothing = self.contents.images.is_empty() && self.there.is_empty();
        if nothing && !self.failures.is_empty() {
            let asked = self.asked();
            return Err(Failure::report(self.failures, asked));
        }
        Ok(self)
    }
}

/// Plans what `selection` asks for.
///
/// # Errors
/// `Usage` when two different images would land on one name, before a layer is read. What cannot be listed or read, all of it in
/// one error; with `keep_going` only when nothing is left.
pub async fn from_registries(
    catalog: &dyn Catalog,
    selection: &Selection,
    wishes: &SyncOptions,
    onto: &SyncTarget,
) -> Result<SyncPlan> {
    let Expanded { images, mut failures, empty } = select::expand(catalog, selection, &Filter::default()).await?;
    // As in skopeo, a rule may match nothing today; where every rule matches nothing, the file is wrong.
    let mut warnings = Vec::new();
    match images.is_empty() && failures.is_empty() {
        true => failures = empty,
        false => warnings.extend(empty.iter().map(|nothing| format!("{}: it is passed over", nothing.error.chain()))),
    }
    let asked = images.len() + failures.len();
    let check = |failures: &mut Vec<Failure>| match failures.is_empty() || wishes.plan.keep_going {
        true => Ok(()),
        false => Err(Failure::report(std::mem::take(failures), asked)),
    };
    let images = wishes.plan.rules.admit(images, &mut failures);
    check(&mut failures)?;
    plan::check_names(images.iter().map(|reference| (reference, None)), &wishes.plan.names)?;
    let order = images.iter().map(ToString::to_string).collect();
    let up_to_date::UpToDate { mut images, mut there, failures: unknown, warnings: looked } =
        up_to_date::check(catalog, images, wishes, onto).await?;
    let named = selection.named();
    images.iter_mut().for_each(|image| image.listed = !named.contains(&image.reference));
    failures.extend(unknown);
    warnings.extend(looked);
    check(&mut failures)?;
    let shelf;
    let catalog = match onto {
        SyncTarget::Directory(path) => {
            shelf = LocalManifests::new(catalog, path, &images, &wishes.plan.names);
            &shelf as &dyn Catalog
        }
        SyncTarget::Registry(_) | SyncTarget::Bundle => catalog,
    };
    let Plan { contents, failures: unread, warnings: planned } = plan::plan(catalog, &images, &wishes.plan).await?;
    failures.extend(unread);
    warnings.extend(planned);
    warnings.extend(plan::left_behind(&contents, &images, &wishes.plan.rules));
    format::check(&contents, wishes.format)?;
    check_there(&contents, &there, wishes)?;
    // An image that was asked for in two ways is there once.
    let mut names = HashSet::new();
    there.retain(|image| names.insert(image.name.clone()));
    SyncPlan { contents: Arc::new(contents), there, failures, warnings, order }.unless_nothing_is_left()
}

/// Refuses to move a name to another image than one that was asked for and is there already under that name.
fn check_there(contents: &Contents, there: &[NamedImage], wishes: &SyncOptions) -> Result<()> {
    let named = there.iter().chain(&contents.images).filter_map(|image| {
        let origin = SourceRepository::of(&image.source.parse().ok()?);
        Some((image.name.clone(), image.document, origin, image.source.as_str()))
    });
    naming::check_collisions(named, wishes.plan.names.policy)
}

/// Plans everything in `tree`.
///
/// # Errors
/// As [`read_tree`]; `Registry` when the destination cannot be asked.
pub async fn from_tree(
    tree: &Tree,
    wishes: &SyncOptions,
    signatures: SignaturePolicy,
    onto: &SyncTarget,
    progress: &dyn Progress,
) -> Result<SyncPlan> {
    let Plan { contents, mut failures, warnings } = read_tree(tree, &wishes.plan, signatures, progress)?;
    format::check(&contents, wishes.format)?;
    let order = tree.images().iter().map(|image| image.shown.clone()).collect();
    let up_to_date::Remaining { contents, there, failures: unknown } =
        up_to_date::without_there(contents, wishes, onto).await?;
    failures.extend(unknown);
    SyncPlan { contents: Arc::new(contents), there, failures, warnings, order }.unless_nothing_is_left()
}

/// What is in `tree`, with everything there that it needs. That nothing vouches for a tree is said once.
///
/// # Errors
/// `Usage` when two directories would land on one name. What cannot be carried, all of it in one error; with `keep_going`
/// it is a failure of the plan. `Refused` when there are `signatures` and nobody said that they may stay behind.
pub fn read_tree(
    tree: &Tree,
    wishes: &plan::PlanOptions,
    signatures: SignaturePolicy,
    progress: &dyn Progress,
) -> Result<Plan> {
    progress.event(Event::Warning(NOBODY_VOUCHES));
    for note in tree.notes() {
        progress.event(Event::Warning(note));
    }
    let mut failures = tree.failures();
    if !failures.is_empty() && !wishes.keep_going {
        let asked = tree.images().len() + failures.len();
        return Err(Failure::report(failures, asked));
    }
    let plan = plan::from_tree(tree, wishes, signatures)?;
    tree.check(&plan.contents)?;
    failures.extend(plan.failures);
    Ok(Plan { failures, ..plan })
}

/// Plans everything in a bundle, as it was sealed.
///
/// # Errors
/// `Usage` when something is of another format than the one that is asked for.
pub fn from_bundle(contents: Arc<Contents>, wishes: &SyncOptions) -> Result<SyncPlan> {
    format::check(&contents, wishes.format)?;
    Ok(SyncPlan::of(contents))
}

/// Image directories below `path`, which is made if it is missing.
///
/// # Errors
/// `Usage` when two images would go to one directory.
pub fn directory(
    path: PathBuf,
    contents: &Contents,
    layout: &TreeLayout,
    signatures: KeptSignatures,
    progress: Arc<dyn Progress>,
) -> Result<DirDestination> {
    DirDestination::new(path, layout.placements(contents, signatures), progress)
}

/// Moves what is planned. Where nothing is to be moved, nothing is touched.
///
/// # Errors
/// See [`transfer::run`]; the same call again goes on.
pub async fn run(
    contents: Arc<Contents>,
    supply: Input,
    destination: Arc<dyn crate::content::Destination>,
    options: &TransferOptions,
) -> Result<Outcome> {
    if contents.images.is_empty() {
        return Ok(Outcome { summary: Summary::default(), failures: Vec::new() });
    }
    transfer::run(contents, supply, destination, options).await.map_err(|e| match e.kind() {
        Kind::Registry | Kind::NotFound => e.hint("what is there is kept: run the same command again to go on"),
        _ => e,
    })
}

const NOBODY_VOUCHES: &str = "nothing vouches for the manifest.json files of a directory tree: what they refer to is \
checked against them, and they are taken as they are";
