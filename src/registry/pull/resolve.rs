//! What a tag or digest stands for at a registry now: by HEAD, and by GET where HEAD does not tell.

use reqwest::{Method, StatusCode};

use super::documents::{document_digest, document_path, said_digest};
use crate::error::Error;
use crate::oci::{Digest, Repository, Selector};
use crate::registry::client::endpoint::Endpoint;
use crate::registry::http::call::{Access, Call, CallTarget, Payload};
use crate::registry::http::retry::AttemptError;

/// What a registry says of a tag or digest.
#[derive(Debug)]
pub(crate) enum Resolved {
    /// It stands for this manifest or index.
    At(Digest),
    /// It is not there.
    Absent,
    /// HEAD and GET are answered with 401 or 403. Artifactory's virtual repositories answer so for what is not there
    /// (google/go-containerregistry pull request 1691), so that only a push tells; the error is that of the GET.
    Denied(Error),
}

impl Resolved {
    /// The digest; nothing if it is not there, or if the registry does not tell.
    pub(crate) fn digest(&self) -> Option<Digest> {
        match self {
            Resolved::At(digest) => Some(*digest),
            Resolved::Absent | Resolved::Denied(_) => None,
        }
    }
}

/// Asks for `selector` with the right to push: one token does for everything that is done in a destination.
pub(crate) async fn resolve(
    endpoint: &Endpoint,
    repository: &Repository,
    selector: &Selector,
) -> Result<Resolved, AttemptError> {
    let host = endpoint.host();
    let target = CallTarget::Path(document_path(repository, selector));
    let what = format!("look at {host}/{repository}{selector}");
    let call = Call::new(Method::HEAD, target, Access::Push(repository.clone()), what).accept_documents();
    let response = endpoint.send(&call, Payload::Nothing).await?;
    let said = match response.status() {
        StatusCode::NOT_FOUND => return Ok(Resolved::Absent),
        StatusCode::OK => said_digest(&response, host).map_err(AttemptError::permanent)?,
        _ if response.head_unsupported() => None,
        _ => return Err(response.refusal().await),
    };
    match said {
        Some(said) => Ok(Resolved::At(said)),
        None => resolve_by_get(endpoint, repository, selector).await,
    }
}

/// The same by GET alone.
pub(crate) async fn resolve_by_get(
    endpoint: &Endpoint,
    repository: &Repository,
    selector: &Selector,
) -> Result<Resolved, AttemptError> {
    match document_digest(endpoint, repository, selector).await {
        Ok(digest) => Ok(Resolved::At(digest)),
        Err(failure) if failure.is_not_found() => Ok(Resolved::Absent),
        Err(failure) if failure.is_denied() => Ok(Resolved::Denied(failure.into_error())),
        Err(failure) => Err(failure),
    }
}
