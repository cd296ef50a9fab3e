//! Which repositories of a registry are new, so that nothing need be asked about what is in them.
//!
//! On the way into a new repository every question about a blob would be asked in vain. One question tells: a repository
//! without tags answers 404. That is a saving and no proof (an interrupted run leaves blobs without tags): what is then
//! done unasked, a mount or a push, is right whether the content is there or not. Lists of referrers, which others may
//! begin meanwhile, are looked at all the same.

use std::collections::HashSet;
use std::sync::OnceLock;

use futures_util::{StreamExt, stream};
use reqwest::StatusCode;

use crate::content::{Blob, Contents, RepositoryId, SMALL_BLOB};
use crate::error::Result;
use crate::oci::Repository;
use crate::registry::client::endpoint::Endpoint;
use crate::registry::http::call::{Access, Call, Payload};

/// The new repositories; none before it was asked. (Ids of scopes change when images are left out.)
#[derive(Default)]
pub(crate) struct NewRepositories(OnceLock<HashSet<Repository>>);

impl NewRepositories {
    /// Asks about every scope of `contents` where the answer saves more than one question. `repository` says where a
    /// scope lands.
    pub(crate) async fn ask(
        &self,
        endpoint: &Endpoint,
        contents: &Contents,
        repository: impl Fn(RepositoryId) -> Result<Repository>,
    ) -> Result<()> {
        let asked: Vec<Repository> = worth_asking(contents).into_iter().map(repository).collect::<Result<_>>()?;
        let answers = stream::iter(asked)
            .map(async |repository| is_new(endpoint, &repository).await.then_some(repository))
            .buffer_unordered(endpoint.settings().jobs.max(1));
        let new = answers.filter_map(async |repository| repository).collect().await;
        // Prepared twice, it keeps what was said first.
        let _ = self.0.set(new);
        Ok(())
    }

    /// Whether the repository is new.
    pub(crate) fn has(&self, repository: &Repository) -> bool {
        self.0.get().is_some_and(|new| new.contains(repository))
    }

    /// Whether nothing need be asked about the blob in the scope, which lands in that repository.
    pub(crate) fn skip_exists_check(&self, blob: &Blob, scope: RepositoryId, repository: &Repository) -> bool {
        self.has(repository) && answers(blob, scope)
    }
}

/// Whether that its repository is new makes a question about the blob needless. An interrupted run has left blobs in their
/// first scopes: a small one is asked about when it is sent. About a large one a question of its own is safest: some
/// registries mount only what a manifest refers to, and it would be sent again.
fn answers(blob: &Blob, scope: RepositoryId) -> bool {
    blob.wanted.first() != Some(&scope) || is_small(blob)
}

/// Whether sending the blob once too often matters little.
pub(crate) fn is_small(blob: &Blob) -> bool {
    blob.size <= SMALL_BLOB
}

/// The scopes in which an answer saves more than one question, about blobs and about tags. Where no tag is to land, one
/// that is missing says nothing.
fn worth_asking(contents: &Contents) -> Vec<RepositoryId> {
    let (mut blobs, mut tags) = (vec![0_u32; contents.scopes.len()], vec![0_u32; contents.scopes.len()]);
    for blob in &contents.blobs {
        let needless = blob.wanted.iter().filter(|scope| answers(blob, **scope));
        needless.for_each(|scope| blobs[scope.0 as usize] += 1);
    }
    for landing in contents.landings.iter().filter(|landing| landing.tag.is_some()) {
        tags[landing.scope.0 as usize] += 1;
    }
    let saved = blobs.into_iter().zip(tags);
    let worth = (0..).zip(saved).filter(|(_, (blobs, tags))| *tags > 0 && blobs + tags > 1);
    worth.map(|(scope, _)| RepositoryId(scope)).collect()
}

/// Whether the registry knows no tags of the repository. Where it does not say, the repository is not new.
async fn is_new(endpoint: &Endpoint, repository: &Repository) -> bool {
    let what = format!("ask whether {}/{repository} is new", endpoint.host());
    // One token for questions and pushes.
    let call = Call::get(format!("{repository}/tags/list?n=1"), Access::Push(repository.clone()), what);
    let mut budget = endpoint.budget();
    let asked = budget.run(async || {
        // The answer saves questions, no more: waited for is only who asks for it.
        let Ok(response) = endpoint.send(&call, Payload::Nothing).await else { return Ok(false) };
        let new = match response.status() {
            StatusCode::NOT_FOUND => true,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => return Err(response.refusal().await),
            _ => false,
        };
        // Read to its end, the answer leaves its connection to the next question.
        let _ = response.body(MAX_ANSWER).await;
        Ok(new)
    });
    asked.await.unwrap_or(false)
}

/// Registries without pages send all tags at once: what is longer (64 KiB) is not waited for.
const MAX_ANSWER: u64 = 64 << 10;
