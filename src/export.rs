//! Registry to bundle: what is asked for is expanded, planned, moved, and sealed.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use crate::bundle::DirectoryWriter;
use crate::error::{Failure, Kind, Result};
use crate::oci::Digest;
use crate::place::{Catalog, Contents};
use crate::plan::{Plan, Wishes};
use crate::registry::Client;
use crate::selection::{Expanded, Filter, Wanted};
use crate::transfer::{self, Options, Outcome, Supply};
use crate::trust::SigningKey;
use crate::{plan, selection};

/// Everything that `wanted` asks for, read from the registries but not moved: repositories become those of their tags
/// that `filter` keeps, indexes come with all their children.
///
/// # Errors
/// See [`selection::expand`] and [`plan::plan`]. With `keep_going` a repository that cannot be listed is a failure
/// of the plan, else one error names all of them.
pub async fn plan(catalog: &dyn Catalog, wanted: &[Wanted], filter: &Filter, wishes: &Wishes) -> Result<Plan> {
    let Expanded { images, failures } = selection::expand(catalog, wanted, filter).await?;
    if !failures.is_empty() && (!wishes.keep_going || images.is_empty()) {
        return Err(Failure::report(failures, wanted.len()));
    }
    let mut plan = plan::plan(catalog, &images, wishes).await?;
    plan.failures.extend(failures);
    Ok(plan)
}

/// Moves `contents` into a new bundle directory at `output` and seals it with `key` as of `created`.
/// Interrupted, the same call goes on. Returns what was done and the bundle's identity, the SHA-256 of its
/// SHA256SUMS.
///
/// # Errors
/// `Io` when `output` exists or cannot be written, `Registry` when a blob cannot be had as planned; nothing is
/// sealed then.
pub async fn export(
    client: &Client,
    contents: Arc<Contents>,
    output: PathBuf,
    key: SigningKey,
    created: Timestamp,
    options: &Options,
) -> Result<(Outcome, Digest)> {
    let writer = Arc::new(DirectoryWriter::new(output, vec![key], created)?);
    let supply = Supply::Source(Arc::new(client.clone()));
    let outcome = transfer::run(contents, supply, writer.clone(), options).await.map_err(|e| match e.kind() {
        Kind::Registry | Kind::NotFound => e.hint("what has been fetched is kept: run the same command again to go on"),
        _ => e,
    })?;
    let identity = writer.identity().expect("a run that ends well has committed");
    Ok((outcome, identity))
}
