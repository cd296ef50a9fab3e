//! A registry as the destination of one run: what it is told, and what the run knows about it.

use super::list_state::Lists;
use super::mounted::Mounted;
use super::new_repositories::NewRepositories;
use super::pushed::PushedContent;
use super::referrers_tag::UnlistedReferrers;
use super::upload_sessions::UploadSessions;
use crate::content::{Contents, RepositoryId};
use crate::error::{Error, Result};
use crate::oci::{Host, Repository};
use crate::registry::client::Client;
use crate::registry::client::endpoint::Endpoint;
use std::sync::Arc;

/// A registry, or a part of one below a prefix, that is written to.
pub struct RegistryDestination {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) prefix: Option<Repository>,
    pub(crate) client: Client,
    pub(crate) subjects: UnlistedReferrers,
    pub(crate) sessions: Arc<UploadSessions>,
    pub(crate) existing: ExistingTags,
    /// Whether an image that fails ends nothing.
    pub(crate) keep_going: bool,
    /// Whether manifests with a subject are listed under its fallback tag where the registry has no referrers API.
    pub(crate) lists_referrers: bool,
    pub(crate) lists: Lists,
    pub(crate) fresh: NewRepositories,
    pub(crate) news: PushedContent,
    pub(crate) mounted: Mounted,
}

/// What is done about a tag that is there with other content. One with the same content is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExistingTags {
    /// It is moved, if the registry lets it.
    #[default]
    Move,
    /// It stays, and nothing is pushed (`--no-clobber`).
    Keep,
}

impl RegistryDestination {
    /// Everything lands in `host`, its scopes below `prefix`.
    pub fn new(client: &Client, host: &Host, prefix: Option<Repository>) -> Self {
        RegistryDestination {
            endpoint: client.endpoint(host),
            prefix,
            client: client.clone(),
            subjects: UnlistedReferrers::default(),
            sessions: Arc::default(),
            existing: ExistingTags::default(),
            keep_going: false,
            lists_referrers: true,
            lists: Lists::default(),
            fresh: NewRepositories::default(),
            news: PushedContent::default(),
            mounted: Mounted::default(),
        }
    }

    /// What is done about tags that are there with other content.
    #[must_use]
    pub fn existing_tags(self, existing: ExistingTags) -> Self {
        RegistryDestination { existing, ..self }
    }

    /// A tag that cannot be looked at before the first push is looked at again when it is pushed, and fails alone then.
    #[must_use]
    pub fn keep_going(self, keep_going: bool) -> Self {
        RegistryDestination { keep_going, ..self }
    }

    /// Whether the fallback tag of a subject (`sha256-<hex>`) is written for a manifest that refers to it, where the
    /// registry has no referrers API. Default: true.
    #[must_use]
    pub fn list_referrers(self, lists_referrers: bool) -> Self {
        RegistryDestination { lists_referrers, ..self }
    }

    /// The repository in which a scope lands.
    pub fn repository(&self, contents: &Contents, scope: RepositoryId) -> Result<Repository> {
        self.below_prefix(contents.scope(scope))
    }

    pub(crate) fn below_prefix(&self, scope: &Repository) -> Result<Repository> {
        match &self.prefix {
            None => Ok(scope.clone()),
            Some(prefix) => scope.below(prefix).map_err(|e| {
                Error::usage(format!("{scope} cannot land below {prefix}")).caused_by(e).hint("use a shorter prefix")
            }),
        }
    }
}
