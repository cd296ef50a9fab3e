//! Uploads a blob by one PUT, which is repeated in a new session if it fails, or in pieces if the registry refuses one PUT.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::StatusCode;
use url::Url;

use super::upload::{MAX_REDIRECTS, Setback, Upload, is_late_token, moved};
use crate::content::{Body, Chunks};
use crate::error::{Error, Result};
use crate::registry::client::pieces::{Piece, Pieces};
use crate::registry::client::upload_rules::PIECE;
use crate::registry::http::call::Payload;
use crate::registry::http::response::Response;
use crate::registry::http::retry::{AttemptError, Budget};

/// Content that can be sent more than once.
enum Content<'b> {
    Body(&'b mut Body),
    Bytes(Bytes),
}

impl Content<'_> {
    async fn open(&mut self) -> Result<Chunks> {
        match self {
            Content::Body(body) => body.open().await,
            Content::Bytes(bytes) => {
                let bytes = bytes.clone();
                Ok(stream::once(async { Ok(bytes) }).boxed())
            }
        }
    }

    async fn payload(&mut self, size: u64) -> Result<Payload> {
        match self {
            Content::Body(body) => Ok(Payload::Stream { chunks: body.open().await?, size }),
            Content::Bytes(bytes) => Ok(Payload::Bytes(bytes.clone())),
        }
    }

    /// Whether the last request took all bytes.
    fn is_sent(&self) -> bool {
        match self {
            Content::Body(body) => body.is_read_to_the_end(),
            Content::Bytes(_) => true,
        }
    }

    /// Whether the last request took bytes.
    fn has_moved(&self) -> bool {
        match self {
            Content::Body(body) => body.has_moved(),
            Content::Bytes(_) => true,
        }
    }

    /// The error of the source, if that is why the upload failed. Another try does not help.
    fn own_failure(&self) -> Option<Error> {
        match self {
            Content::Body(body) => body.source_error(),
            Content::Bytes(_) => None,
        }
    }
}

/// How the blob is sent now, and what was tried before.
struct Course {
    in_pieces: bool,
    /// The response that refused one PUT with the whole blob.
    refused_whole: Option<AttemptError>,
    /// The response that refused the digest of the pieces.
    refused_digest: Option<AttemptError>,
    /// Whether the registry returned 500 for every PUT with the whole blob.
    only_500: bool,
    /// The error to return if the pieces fail, which are tried once after all other tries failed.
    last_resort: Option<Error>,
}

impl Upload {
    /// Sends a blob.
    pub(crate) async fn send(&mut self, body: &mut Body) -> Result<()> {
        let sent = match body.replayable() {
            true => self.send_replayable(Content::Body(body)).await,
            false => self.send_once(body).await,
        };
        // The body failed before its session was used.
        if let Some(session) = self.waiting.take() {
            self.cancel(session.id, &session.url).await;
        }
        sent
    }

    /// Sends a body that can be opened once. A small one is kept in memory, so that it can be sent more than once.
    async fn send_once(&mut self, body: &mut Body) -> Result<()> {
        // A repository that takes no uploads says so here. The body is unread, and can still go into another one.
        self.waiting = Some(self.start(&mut self.endpoint.budget()).await?);
        let chunks = body.open().await?;
        let sent = match self.size <= PIECE as u64 {
            true => {
                // It holds its part of the buffers until the blob is sent.
                let mut pieces = Pieces::new(chunks, self.size, PIECE, self.endpoint.buffers());
                match pieces.next().await {
                    Ok(Piece::Memory(bytes)) => return self.send_replayable(Content::Bytes(bytes)).await,
                    Ok(Piece::Spooled { .. }) => unreachable!("a piece of this size is in memory"),
                    Err(error) => Err(error),
                }
            }
            false => {
                let mut budget = self.endpoint.budget();
                let sent = self.in_pieces(chunks, &mut budget).await;
                sent.map_err(|setback| setback.into_failure().into_error())
            }
        };
        sent.map_err(|error| body.source_error().unwrap_or(error))
    }

    async fn send_replayable(&mut self, mut content: Content<'_>) -> Result<()> {
        let rules = self.endpoint.clone();
        let rules = rules.uploads();
        let mut budget = self.endpoint.budget();
        // For lost sessions: the pieces that each of them accepts refill the other budget.
        let mut restarts = self.endpoint.budget();
        let mut course = Course {
            in_pieces: rules.wants_pieces(self.size),
            refused_whole: None,
            refused_digest: None,
            only_500: true,
            last_resort: None,
        };
        loop {
            let sent = match course.in_pieces {
                true => {
                    let chunks = content.open().await?;
                    self.in_pieces(chunks, &mut budget).await
                }
                false => self.as_one(&mut content, &mut budget).await,
            };
            let Err(setback) = sent else {
                match course.in_pieces {
                    true if course.refused_whole.is_some() || course.last_resort.is_some() => rules.send_pieces_from(0),
                    false if course.refused_digest.is_some() => rules.send_whole(),
                    _ => {}
                }
                return Ok(());
            };
            if let Some(error) = content.own_failure().or(course.last_resort.take()) {
                return Err(error);
            }
            let tried_both = course.refused_whole.is_some() || course.refused_digest.is_some();
            match setback {
                Setback::NotAsOne(failure) | Setback::DigestRefused(failure) if tried_both => {
                    return Err(course.refused_digest.unwrap_or(failure).into_error());
                }
                Setback::NotAsOne(failure) => {
                    (course.in_pieces, course.refused_whole) = (true, Some(failure));
                }
                // The registry may have counted the pieces in another way, and still take one PUT.
                Setback::DigestRefused(failure) => {
                    (course.in_pieces, course.refused_digest) = (false, Some(failure));
                }
                // A proxy that buffers the whole request forwards it with a token that has expired meanwhile, in each try.
                // Each piece has a token of its own.
                Setback::LateToken(failure) => {
                    budget.tell(&failure);
                    course.in_pieces = true;
                    if self.size > PIECE as u64 {
                        rules.send_pieces_from(self.size);
                    }
                }
                Setback::SessionLost(failure) => restarts.spend(failure.into_temporary()).await?,
                Setback::Failed(failure) => {
                    let may_be_there = failure.is_temporary()
                        && failure.status() != Some(StatusCode::TOO_MANY_REQUESTS)
                        && (content.is_sent() || failure.status() == Some(StatusCode::NOT_FOUND));
                    course.only_500 &= !course.in_pieces && is_passing_500(&failure);
                    if content.has_moved() {
                        budget.moved();
                    }
                    let spent = budget.spend(failure).await;
                    if may_be_there && self.has_arrived().await {
                        return Ok(());
                    }
                    match spent {
                        // Old versions of Pulp return 500 for a PUT with a whole blob (pulp/pulp_container#1219).
                        Err(error) if course.only_500 && !tried_both => {
                            budget = self.endpoint.budget();
                            (course.in_pieces, course.last_resort) = (true, Some(error));
                        }
                        spent => spent?,
                    }
                }
            }
        }
    }

    /// Sends a blob by one PUT in a session of its own.
    async fn as_one(&mut self, content: &mut Content<'_>, budget: &mut Budget) -> Result<(), Setback> {
        let session = self.start(budget).await.map_err(Setback::fatal)?;
        let sent = self.put_whole(&session.url, content).await;
        match &sent {
            Ok(()) => self.sessions.ended(session.id),
            // The registry may be committing it, which a DELETE would undo. The end of the run cancels it.
            Err(Setback::Failed(failure)) if content.is_sent() && is_unanswered(failure) => {
                self.unsettled.push(session.id);
            }
            Err(_) => self.cancel(session.id, &session.url).await,
        }
        sent
    }

    async fn put_whole(&mut self, session: &Url, content: &mut Content<'_>) -> Result<(), Setback> {
        let mut call = self.complete_call(session);
        for _ in 0..MAX_REDIRECTS {
            // A body that cannot be opened is at fault itself, and has mended what it could.
            let payload = content.payload(self.size).await.map_err(Setback::fatal)?;
            let sent = self.endpoint.send(&call, payload).await.map_err(|failure| match is_late_token(&failure) {
                true if content.is_sent() => Setback::LateToken(failure),
                _ => Setback::Failed(failure),
            });
            let response = sent?;
            match moved(&call, &response) {
                Some(again) => call = again.map_err(Setback::Failed)?,
                None => return self.whole_answered(response).await,
            }
        }
        Err(Setback::Failed(self.in_a_circle()))
    }

    /// The answer to a PUT with the whole blob.
    async fn whole_answered(&mut self, response: Response) -> Result<(), Setback> {
        if !may_mean_pieces(response.status()) {
            return self.completed(response).await.map_err(Setback::Failed);
        }
        let failure = response.refusal().await;
        let about_content = ["DIGEST_INVALID", "SIZE_INVALID"].iter().any(|code| failure.says(code));
        tracing::debug!(about_content, "the blob was not taken as one request");
        // Nexus refuses a blob that another client has completed meanwhile (sonatype/nexus-public#967).
        if failure.says("BLOB_UPLOAD_INVALID") && self.has_arrived().await {
            return Ok(());
        }
        if about_content || failure.known().is_some() {
            return Err(Setback::Failed(failure));
        }
        Err(Setback::NotAsOne(failure))
    }
}

/// Whether a registry that answers so to a PUT with a body may take the same by PATCH: it does not know of such a PUT, or
/// a proxy in front of it finds it too large.
fn may_mean_pieces(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 405 | 411 | 413 | 415 | 416 | 501)
}

/// Whether the registry itself has not responded: the connection failed, or a proxy responded.
fn is_unanswered(failure: &AttemptError) -> bool {
    failure.is_temporary()
        && failure.status().is_none_or(|status| matches!(status.as_u16(), 408 | 502 | 504 | 520..=524))
}

fn is_passing_500(failure: &AttemptError) -> bool {
    failure.is_temporary() && failure.status() == Some(StatusCode::INTERNAL_SERVER_ERROR)
}
