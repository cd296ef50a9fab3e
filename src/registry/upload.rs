//! The upload of one blob into one repository: its sessions, and the requests that open, complete and cancel one. `send`
//! and `piecewise` use them to upload by one PUT or by PATCH.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use url::Url;

use super::admission::NEW_TOKEN;
use super::call::{Access, Call, Payload, Target};
use super::documents::said_digest;
use super::endpoint::Endpoint;
use super::fault;
use super::limits::Turn;
use super::response::Response;
use super::retry::{Budget, Failure};
use super::sessions::Sessions;
use crate::error::{Error, Result};
use crate::oci::{Digest, Repository};
use crate::place::Presence;
use crate::registry::header;

/// One blob on its way into one repository.
pub(super) struct Upload {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) repository: Repository,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) sessions: Arc<Sessions>,
    /// A session that was opened before it was known to be needed.
    pub(super) waiting: Option<Opened>,
    /// Sessions to which all bytes were sent, without a response: the registry may still commit them.
    pub(super) unsettled: Vec<u64>,
}

/// A session that the registry has opened.
pub(super) struct Opened {
    /// What stands for it in [`Upload::sessions`].
    pub(super) id: u64,
    pub(super) url: Url,
    /// The smallest piece that it takes, but for the last one (`OCI-Chunk-Min-Length`).
    pub(super) least: u64,
}

/// Why an upload failed, by what is tried next.
#[derive(Debug)]
pub(super) enum Setback {
    /// Any other reason.
    Failed(Failure),
    /// The registry, or what is in front of it, does not take a blob by one PUT.
    NotAsOne(Failure),
    /// The registry returned 401 after all bytes were sent: the token expired meanwhile.
    LateToken(Failure),
    /// The registry refused to complete the pieces: it has other bytes than were sent.
    DigestRefused(Failure),
    /// The registry does not have the session any more, or not all of its bytes.
    SessionLost(Failure),
}

impl Setback {
    /// A failure after which nothing else is tried.
    pub(super) fn fatal(error: Error) -> Self {
        Setback::Failed(Failure::lasting(error))
    }

    /// The failure alone.
    pub(super) fn into_failure(self) -> Failure {
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
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        repository: Repository,
        digest: Digest,
        size: u64,
        sessions: Arc<Sessions>,
    ) -> Self {
        Upload { endpoint, repository, digest, size, sessions, waiting: None, unsettled: Vec::new() }
    }

    /// The same blob for a request that goes on if this one is dropped.
    pub(super) fn detached(&self) -> Upload {
        let Upload { endpoint, repository, digest, size, sessions, .. } = self;
        Upload::new(endpoint.clone(), repository.clone(), *digest, *size, sessions.clone())
    }

    /// Opens a session, unless one is waiting.
    pub(super) async fn start(&mut self, budget: &mut Budget) -> Result<Opened> {
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

    async fn open(&self) -> Result<Opened, Failure> {
        let target = Target::Path(format!("{}/blobs/uploads/", self.repository));
        // Of the repository and no blob: a refusal is the same for all blobs, and is told once.
        let what = format!("upload to {}/{}", self.endpoint.host(), self.repository);
        let call = Call::new(Method::POST, target, Access::Push(self.repository.clone()), what);
        let response = self.endpoint.send(&call, Payload::Bytes(Bytes::new())).await?;
        let response = response.expect(&[StatusCode::ACCEPTED]).await?;
        self.opened(&response).map_err(Failure::lasting)
    }

    /// The session that an answer tells of.
    pub(super) fn opened(&self, response: &Response) -> Result<Opened> {
        let least = response.header(CHUNK_MIN_LENGTH).and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let url = response.location()?;
        Ok(Opened { id: self.sessions.opened(self.cancel_call(&url)), url, least })
    }

    /// Cancels a session. If that fails, the registry deletes it in its own time.
    pub(super) async fn cancel(&self, id: u64, session: &Url) {
        self.endpoint.cancel_session(&self.cancel_call(session)).await;
        self.sessions.ended(id);
    }

    /// The request that cancels a session.
    pub(super) fn cancel_call(&self, session: &Url) -> Call {
        self.call(Method::DELETE, Target::Url(session.clone()))
    }

    /// The PUT that completes a session.
    pub(super) fn complete_call(&self, session: &Url) -> Call {
        self.call(Method::PUT, Target::Url(header::with_digest(session.clone(), self.digest)))
            .header(CONTENT_TYPE, OCTETS)
            .patience(self.endpoint.settings().commit_timeout)
    }

    /// Whether the answer to that PUT says that the blob is there.
    pub(super) async fn completed(&self, response: Response) -> Result<(), Failure> {
        if response.status() == StatusCode::NOT_FOUND {
            // The session is gone; a new one may live longer.
            return Err(response.refusal().await.that_may_pass());
        }
        let response = response.expect(&[StatusCode::CREATED]).await?;
        self.check_said(&response).map_err(Failure::lasting)
    }

    /// Returns whether the registry has the blob although the upload failed: the response may be lost, or may come from a
    /// proxy that timed out. One request; an error counts as no.
    pub(super) async fn has_arrived(&mut self) -> bool {
        let Upload { endpoint, repository, digest, size, .. } = self;
        // Not in line: the body of this upload may hold a read permit of the same host.
        let status = endpoint.blob_status_once(repository, *digest, *size, Turn::GoesOn).await;
        let has_arrived = matches!(status, Ok(Presence::Here));
        tracing::debug!(has_arrived, "asked for a blob after its upload failed");
        if has_arrived {
            self.unsettled.drain(..).for_each(|id| self.sessions.ended(id));
        }
        has_arrived
    }

    pub(super) fn call(&self, method: Method, target: Target) -> Call {
        let what = format!("upload blob {} to {}/{}", self.digest, self.endpoint.host(), self.repository);
        Call::new(method, target, Access::Push(self.repository.clone()), what)
    }

    pub(super) fn check_said(&self, response: &Response) -> Result<()> {
        let host = self.endpoint.host();
        match said_digest(response, host)? {
            Some(said) if said != self.digest => {
                Err(fault::protocol(host, format!("it took blob {} for {said}", self.digest)))
            }
            _ => Ok(()),
        }
    }

    /// Uploads that are redirected again and again.
    pub(super) fn in_a_circle(&self) -> Failure {
        Failure::lasting(fault::protocol(self.endpoint.host(), "its uploads are redirected in a circle"))
    }

    /// Nothing is sent twice without need: an unexpected state is named.
    pub(super) fn lost(&self, what: &str) -> Error {
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
pub(super) fn moved(call: &Call, response: &Response) -> Option<Result<Call, Failure>> {
    let is_moved = matches!(response.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    let again = || Ok(call.redirected(response.location().map_err(Failure::lasting)?).sent_through(response.zone()));
    is_moved.then(again)
}

/// Whether a token expired while a body was sent that cannot be sent again.
pub(super) fn is_late_token(failure: &Failure) -> bool {
    failure.may_pass() && failure.says(NEW_TOKEN)
}

/// distribution-spec, "Pushing a blob in chunks".
const CHUNK_MIN_LENGTH: &str = "oci-chunk-min-length";
/// The media type of bytes without one.
pub(super) const OCTETS: &str = "application/octet-stream";
/// So often a request with a body is sent to another place.
pub(super) const MAX_REDIRECTS: usize = 5;
