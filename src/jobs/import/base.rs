//! What a bundle leaves to an earlier one must be in the registry before anything is sent: bundle-spec, section 4.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::ImportTarget;
use crate::content::{Catalog, Contents, Reason};
use crate::error::{Error, Result};
use crate::oci::{Digest, Document, Repository, View};

/// Asks for everything that `contents` leaves to its base, in every repository that needs it, `jobs` at once.
///
/// # Errors
/// `Registry` when something is missing, with the bundles in which it is.
pub(crate) async fn check(
    catalog: &dyn Catalog,
    contents: &Contents,
    base: &[Digest],
    target: &ImportTarget,
    jobs: usize,
) -> Result<()> {
    let needed = needed(contents)?;
    let count = needed.len();
    let mut missing: BTreeMap<Repository, Vec<Digest>> = BTreeMap::new();
    let mut asking = stream::iter(needed)
        .map(async |(repository, digest)| {
            let place = match &target.prefix {
                Some(prefix) => {
                    repository.below(prefix).map_err(|e| Error::usage("a name is too long").caused_by(e))?
                }
                None => repository,
            };
            let there = catalog.has_blob(&target.host, &place, digest).await?;
            Ok::<_, Error>((!there).then_some((place, digest)))
        })
        .buffer_unordered(jobs);
    while let Some(answer) = asking.try_next().await? {
        if let Some((place, digest)) = answer {
            missing.entry(place).or_default().push(digest);
        }
    }
    let Some((place, digests)) = missing.first_key_value() else { return Ok(()) };
    let all: usize = missing.values().map(Vec::len).sum();
    let base: Vec<String> = base.iter().map(Digest::to_string).collect();
    Err(Error::registry(format!(
        "{all} of {count} things that the bundle leaves to an earlier one are not in the registry, such as {} in {}/{place}",
        digests[0], target.host
    ))
    .hint(format!("import what it builds on first, to the same place: the bundle {}", base.join(", or ")))
    .hint("or ask its sender for a bundle with everything in it"))
}

/// Each blob of the base beside a repository in which a manifest needs it.
fn needed(contents: &Contents) -> Result<BTreeSet<(Repository, Digest)>> {
    let of_base = |absent: &&crate::content::Absent| absent.reason == Reason::Base;
    let base: HashSet<Digest> = contents.absent.iter().filter(of_base).map(|absent| absent.digest).collect();
    let mut needed = BTreeSet::new();
    if base.is_empty() {
        return Ok(needed);
    }
    for landing in &contents.landings {
        let (bytes, media_type) = contents.documents.get(landing.document)?;
        let document = Document::parse_known(bytes.clone(), media_type, landing.document)?;
        let repository = &contents.scopes[landing.scope.0 as usize];
        let mut need = |digest: Digest| {
            if base.contains(&digest) {
                needed.insert((repository.clone(), digest));
            }
        };
        match document.view() {
            View::Index { children } => children.iter().for_each(|child| need(child.digest)),
            View::Manifest { config, layers } => {
                std::iter::once(config).chain(layers).for_each(|blob| need(blob.digest));
            }
        }
    }
    Ok(needed)
}
