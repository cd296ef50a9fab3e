//! Upload sessions: a blob by one streamed PUT, begun again from its start when it fails; in pieces where a registry does
//! not take that.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use url::Url;

use super::admission::NEW_TOKEN;
use super::call::{Access, Call, Payload, Target};
use super::catalog::said_digest;
use super::endpoint::Endpoint;
use super::fault;
use super::response::Response;
use super::retry::{Budget, Failure};
use super::sessions::Sessions;
use crate::error::{Error, Result};
use crate::oci::{Digest, Repository};
use crate::place::Body;
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
}

/// A session that the registry has opened.
pub(super) struct Opened {
    /// What stands for it in [`Upload::sessions`].
    pub(super) id: u64,
    pub(super) url: Url,
    /// The smallest piece that it takes, but for the last one (`OCI-Chunk-Min-Length`).
    pub(super) least: u64,
}

/// What came of a blob sent by one PUT.
enum Sent {
    /// It is there.
    Whole,
    /// The registry, or what is in front of it, does not take blobs like this.
    NotAsOne,
}

impl Upload {
    /// Sends a blob.
    pub(super) async fn send(&mut self, body: &mut Body) -> Result<()> {
        let sent = match body.replayable() {
            true => self.stream(body).await,
            false => self.pieces(body).await,
        };
        // The body failed before its session was used.
        if let Some(session) = self.waiting.take() {
            self.cancel(session.id, &session.url).await;
        }
        sent
    }

    /// Sends a body that can be opened again.
    async fn stream(&mut self, body: &mut Body) -> Result<()> {
        let mut budget = self.endpoint.budget();
        let mut expired = 0;
        loop {
            if self.endpoint.wants_pieces() {
                return self.pieces(body).await;
            }
            let session = self.start(&mut budget).await?;
            let sent = self.stream_into(&session.url, body).await;
            if let Ok(Sent::Whole) = sent {
                self.sessions.ended(session.id);
                return Ok(());
            }
            self.cancel(session.id, &session.url).await;
            if let Some(error) = body.blame() {
                return Err(error);
            }
            // A proxy that keeps a request until it is whole hands on a token that has expired meanwhile, each time anew.
            // Each piece has its own.
            expired += usize::from(sent.as_ref().is_err_and(|failure| failure.says(NEW_TOKEN)));
            match sent {
                Err(failure) if expired < TWICE => budget.spend(failure).await?,
                _ => {
                    let chunks = body.open().await?;
                    let sent = self.in_pieces(chunks, budget).await;
                    return sent.map_err(|error| body.blame().unwrap_or(error));
                }
            }
        }
    }

    async fn stream_into(&self, session: &Url, body: &mut Body) -> Result<Sent, Failure> {
        let mut call = self.complete_call(session);
        for _ in 0..MAX_REDIRECTS {
            // A body that cannot be opened is at fault itself, and has mended what it could.
            let chunks = body.open().await.map_err(Failure::lasting)?;
            let response = self.endpoint.send(&call, Payload::Stream { chunks, size: self.size }).await?;
            match moved(&response) {
                Some(url) => call = call.redirected(url?),
                None => return self.sent(response).await,
            }
        }
        Err(Failure::lasting(fault::protocol(self.endpoint.host(), "its uploads are redirected in a circle")))
    }

    /// Sends a blob that is in memory.
    pub(super) async fn whole(&mut self, bytes: Bytes) -> Result<()> {
        let mut budget = self.endpoint.budget();
        loop {
            let session = self.start(&mut budget).await?;
            let sent = async { self.sent(self.send_bytes(self.complete_call(&session.url), &bytes).await?).await };
            let sent = sent.await;
            if let Ok(Sent::Whole) = sent {
                self.sessions.ended(session.id);
                return Ok(());
            }
            self.cancel(session.id, &session.url).await;
            match sent {
                Ok(_) => return self.in_pieces(stream::once(async { Ok(bytes) }).boxed(), budget).await,
                Err(failure) => budget.spend(failure).await?,
            }
        }
    }

    /// What came of a PUT with the whole blob.
    async fn sent(&self, response: Response) -> Result<Sent, Failure> {
        if !may_mean_pieces(response.status()) {
            return self.completed(response).await.map(|()| Sent::Whole);
        }
        let failure = response.refusal().await;
        let about_content = ["DIGEST_INVALID", "SIZE_INVALID"].iter().any(|code| failure.says(code));
        tracing::debug!(about_content, "the blob was not taken as one request");
        if about_content { Err(failure) } else { Ok(Sent::NotAsOne) }
    }

    /// Sends bytes, again wherever a redirect points.
    pub(super) async fn send_bytes(&self, mut call: Call, bytes: &Bytes) -> Result<Response, Failure> {
        for _ in 0..MAX_REDIRECTS {
            let response = self.endpoint.send(&call, Payload::Bytes(bytes.clone())).await?;
            match moved(&response) {
                Some(url) => call = call.redirected(url?),
                None => return Ok(response),
            }
        }
        Err(Failure::lasting(fault::protocol(self.endpoint.host(), "its uploads are redirected in a circle")))
    }

    /// Opens a session, unless one is waiting.
    pub(super) async fn start(&mut self, budget: &mut Budget) -> Result<Opened> {
        if let Some(session) = self.waiting.take() {
            return Ok(session);
        }
        let target = Target::Path(format!("{}/blobs/uploads/", self.repository));
        // Of the repository and no blob: a refusal is the same for all blobs, and is told once.
        let what = format!("upload to {}/{}", self.endpoint.host(), self.repository);
        let call = Call::new(Method::POST, target, Access::Push(self.repository.clone()), what);
        budget
            .run(async || {
                let response = self.endpoint.send(&call, Payload::Bytes(Bytes::new())).await?;
                let response = response.expect(&[StatusCode::ACCEPTED]).await?;
                self.opened(&response).map_err(Failure::lasting)
            })
            .await
    }

    /// The session that an answer tells of.
    pub(super) fn opened(&self, response: &Response) -> Result<Opened> {
        let least = response.header(CHUNK_MIN_LENGTH).and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let url = response.location()?;
        Ok(Opened { id: self.sessions.opened(self.take_back(&url)), url, least })
    }

    /// Takes back a session. If that fails, the registry clears it away in its own time.
    pub(super) async fn cancel(&self, id: u64, session: &Url) {
        let call = self.take_back(session);
        let _ = tokio::time::timeout(CANCEL, self.endpoint.send(&call, Payload::Nothing)).await;
        self.sessions.ended(id);
    }

    /// The request that takes back a session.
    pub(super) fn take_back(&self, session: &Url) -> Call {
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
            return Err(Failure::passing(response.refusal().await.into_error()));
        }
        let response = response.expect(&[StatusCode::CREATED]).await?;
        self.check_said(&response).map_err(Failure::lasting)
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
}

/// Where a request with a body is to be sent again with the same method.
fn moved(response: &Response) -> Option<Result<Url, Failure>> {
    matches!(response.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT)
        .then(|| response.location().map_err(Failure::lasting))
}

/// Whether a registry that answers so to a PUT with a body may take the same by PATCH: it does not know of such a PUT, or
/// a proxy in front of it finds it too large.
fn may_mean_pieces(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 405 | 411 | 413 | 415 | 416 | 501)
}

/// distribution-spec, "Pushing a blob in chunks".
const CHUNK_MIN_LENGTH: &str = "oci-chunk-min-length";
/// The media type of bytes without one.
pub(super) const OCTETS: &str = "application/octet-stream";
const MAX_REDIRECTS: usize = 5;
/// So often a token may expire while one blob is sent as a whole.
const TWICE: usize = 2;
/// Nobody waits long for a session to be taken back.
const CANCEL: Duration = Duration::from_secs(5);

/// Nothing is sent twice without need: an unexpected state is named.
pub(super) fn lost(upload: &Upload, what: &str) -> Error {
    Error::registry(format!(
        "the upload of blob {} to {}/{} cannot go on: {what}",
        upload.digest,
        upload.endpoint.host(),
        upload.repository
    ))
    .hint("run the same command again: what has landed is not sent again")
}
