//! The upload of one blob into one repository: its sessions, and the requests that open, complete and cancel one. `send`
//! and `piecewise` use them to upload by one PUT or by PATCH.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use url::Url;

use super::upload_sessions::UploadSessions;
use crate::content::BlobStatus;
use crate::error::{Error, Result};
use crate::oci::{Digest, Repository};
use crate::registry::client::authenticate::NEW_TOKEN;
use crate::registry::client::endpoint::Endpoint;
use crate::registry::http::call::{Access, Call, CallTarget, Payload};
use crate::registry::http::error;
use crate::registry::http::header;
use crate::registry::http::limits::Priority;
use crate::registry::http::response::Response;
use crate::registry::http::retry::{AttemptError, Budget};
use crate::registry::pull::documents::said_digest;

/// One blob on its way into one repository.
pub(crate) struct Upload {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) repository: Repository,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) sessions: Arc<UploadSessions>,
    /// A session that was opened before it was known to be needed.
    pub(crate) waiting: Option<Opened>,
    /// Sessions to which all bytes were sent, without a response: the registry may still commit them.
    pub(crate) unsettled: Vec<u64>,
}

/// A session that the registry has opened.
pub(crate) struct Opened {
    /// What stands for it in [`Upload::sessions`].
    pub(crate) id: u64,
    pub(crate) url: Url,
    /// The smallest piece that it takes, but for the last one (`OCI-Chunk-Min-Length`).
    pub(crate) least: u64,
}

/// Why an upload failed, by what is tried next.
#[derive(Debug)]
pub(crate) enum Setback {
    /// Any other reason.
    Failed(AttemptError),
    /// The registry, or what is in front of it, does not take a blob by one PUT.
    NotAsOne(AttemptError),
    /// The registry returned 401 after all bytes were sent: the token expired meanwhile.
    LateToken(AttemptError),
    /// The registry refused to complete the pieces: it has other bytes than were sent.
    DigestRefused(AttemptError),
    /// The registry does not have the session any more, or not all of its bytes.
    SessionLost(AttemptError),
}

impl Setback {
    /// A failure after which nothing else is tried.
    pub(crate) fn fatal(error: Error) -> Self {
        Setback::Failed(AttemptError::permanent(error))
    }

    /// The failure alone.
    pub(crate) fn into_failure(self) -> AttemptError {
        match self {
            Setback::Failed(failure)
            | Setback::NotAsOne(failure)
            | Setback::LateToken(failure)
            | Setback::DigestRefused(failure)
            | Setback::SessionLost(failure) => failure,
        }
    }
}

impl Upload {
    pub(crate) fn new(
        endpoint: Arc<Endpoint>,
        repository: Repository,
        digest: Digest,
        size: u64,
        sessions: Arc<UploadSessions>,
    ) -> Self {
        Upload { endpoint, repository, digest, size, sessions, waiting: None, unsettled: Vec::new() }
    }

    /// The same blob for a request that goes on if this one is dropped.
    pub(crate) fn detached(&self) -> Upload {
        let Upload { endpoint, repository, digest, size, sessions, .. } = self;
        Upload::new(endpoint.clone(), repository.clone(), *digest, *size, sessions.clone())
    }

    /// Opens a session, unless one is waiting.
    pub(crate) async fn start(&mut self, budget: &mut Budget) -> Result<Opened> {
        if let Some(session) = self.waiting.take() {
            return Ok(session);
        }
        loop {
            let upload = self.detached();
            match self.sessions.to_the_end(async move { upload.open().await }).await {
                Ok(session) => return Ok(session),
                Err(failure) => budget.spend(failure).await?,
            }
        }
    }

    async fn open(&self) -> Result<Opened, AttemptError> {
        let target = CallTarget::Path(format!("{}/blobs/uploads/", self.repository));
        // Of the repository and no blob: a refusal is the same for all blobs, and is told once.
        let what = format!("upload to {}/{}", self.endpoint.host(), self.repository);
        let call = Call::new(Method::POST, target, Access::Push(self.repository.clone()), what);
        let response = self.endpoint.send(&call, Payload::Bytes(Bytes::new())).await?;
        let response = response.expect(&[StatusCode::ACCEPTED]).await?;
        self.opened(&response).map_err(AttemptError::permanent)
    }

    /// The session that an answer tells of.
    pub(crate) fn opened(&self, response: &Response) -> Result<Opened> {
        let least = response.header(CHUNK_MIN_LENGTH).and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let url = response.location()?;
        Ok(Opened { id: self.sessions.opened(self.cancel_call(&url)), url, least })
    }

    /// Cancels a session. If that fails, the registry deletes it in its own time.
    pub(crate) async fn cancel(&self, id: u64, session: &Url) {
        self.endpoint.cancel_session(&self.cancel_call(session)).await;
        self.sessions.ended(id);
    }

    /// The request that cancels a session.
    pub(crate) fn cancel_call(&self, session: &Url) -> Call {
        self.call(Method::DELETE, CallTarget::Url(session.clone()))
    }

    /// The PUT that completes a session.
    pub(crate) fn complete_call(&self, session: &Url) -> Call {
        self.call(Method::PUT, CallTarget::Url(header::with_digest(session.clone(), self.digest)))
            .header(CONTENT_TYPE, OCTETS)
            .response_timeout(self.endpoint.settings().commit_timeout)
    }

    /// Whether the answer to that PUT says that the blob is there.
    pub(crate) async fn completed(&self, response: Response) -> Result<(), AttemptError> {
        if response.status() == StatusCode::NOT_FOUND {
            // The session is gone; a new one may live longer.
            return Err(response.refusal().await.into_temporary());
        }
        let response = response.expect(&[StatusCode::CREATED]).await?;
        self.check_said(&response).map_err(AttemptError::permanent)
    }

    /// Returns whether the registry has the blob although the upload failed: the response may be lost, or may come from a
    /// proxy that timed out. One request; an error counts as no.
    pub(crate) async fn has_arrived(&mut self) -> bool {
        let Upload { endpoint, repository, digest, size, .. } = self;
        // Not in line: the body of this upload may hold a read permit of the same host.
        let status = endpoint.blob_status_once(repository, *digest, *size, Priority::GoesOn).await;
        let has_arrived = matches!(status, Ok(BlobStatus::Present));
        tracing::debug!(has_arrived, "asked for a blob after its upload failed");
        if has_arrived {
            self.unsettled.drain(..).for_each(|id| self.sessions.ended(id));
        }
        has_arrived
    }

    pub(crate) fn call(&self, method: Method, target: CallTarget) -> Call {
        let what = format!("upload blob {} to {}/{}", self.digest, self.endpoint.host(), self.repository);
        Call::new(method, target, Access::Push(self.repository.clone()), what)
    }

    pub(crate) fn check_said(&self, response: &Response) -> Result<()> {
        let host = self.endpoint.host();
        match said_digest(response, host)? {
            Some(said) if said != self.digest => {
                Err(error::protocol(host, format!("it took blob {} for {said}", self.digest)))
            }
            _ => Ok(()),
        }
    }

    /// Uploads that are redirected again and again.
    pub(crate) fn in_a_circle(&self) -> AttemptError {
        AttemptError::permanent(error::protocol(self.endpoint.host(), "its uploads are redirected in a circle"))
    }

    /// Nothing is sent twice without need: an unexpected state is named.
    pub(crate) fn lost(&self, what: &str) -> Error {
        Error::registry(format!(
            "the upload of blob {} to {}/{} cannot go on: {what}",
            self.digest,
            self.endpoint.host(),
            self.repository
        ))
        .hint("run the same command again: what has landed is not sent again")
    }
}

/// The request with a body that is to be sent again, with the same method, where the answer points.
pub(crate) fn moved(call: &Call, response: &Response) -> Option<Result<Call, AttemptError>> {
    let is_moved = matches!(response.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    let again =
        || Ok(call.redirected(response.location().map_err(AttemptError::permanent)?).sent_through(response.zone()));
    is_moved.then(again)
}

/// Whether a token expired while a body was sent that cannot be sent again.
pub(crate) fn is_late_token(failure: &AttemptError) -> bool {
    failure.is_temporary() && failure.says(NEW_TOKEN)
}

/// distribution-spec, "Pushing a blob in chunks".
const CHUNK_MIN_LENGTH: &str = "oci-chunk-min-length";
/// The media type of bytes without one.
pub(crate) const OCTETS: &str = "application/octet-stream";
/// So often a request with a body is sent to another place.
pub(crate) const MAX_REDIRECTS: usize = 5;
