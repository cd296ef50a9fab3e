//! A blob sent in pieces by PATCH: each is kept until the registry has accepted it.

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Method, StatusCode};
use url::Url;

use super::upload::{MAX_REDIRECTS, OCTETS, Setback, Upload, is_late_token, moved};
use crate::content::Chunks;
use crate::registry::client::pieces::{Piece, Pieces};
use crate::registry::client::upload_rules::MAX_PIECE;
use crate::registry::http::call::{Call, CallTarget, Payload};
use crate::registry::http::header;
use crate::registry::http::response::Response;
use crate::registry::http::retry::{AttemptError, Budget};

impl Upload {
    /// Sends a blob by PATCH.
    pub(crate) async fn in_pieces(&mut self, chunks: Chunks, budget: &mut Budget) -> Result<(), Setback> {
        let opened = self.start(budget).await.map_err(Setback::fatal)?;
        let mut session = Session { id: opened.id, url: opened.url, accepted: 0 };
        let sent = match usize::try_from(opened.least) {
            Ok(least) if least <= MAX_PIECE => {
                let step = self.endpoint.uploads().piece().max(least);
                let mut pieces = Pieces::new(chunks, self.size, step, self.endpoint.buffers()).at_least(least);
                self.send_pieces(&mut session, &mut pieces, budget).await
            }
            _ => Err(Setback::fatal(self.lost(&format!("the registry takes no piece below {} bytes", opened.least)))),
        };
        match &sent {
            Ok(()) => self.sessions.ended(session.id),
            Err(_) => self.cancel(session.id, &session.url).await,
        }
        sent
    }

    async fn send_pieces(
        &mut self,
        session: &mut Session,
        pieces: &mut Pieces,
        budget: &mut Budget,
    ) -> Result<(), Setback> {
        loop {
            let piece = pieces.next().await.map_err(Setback::fatal)?;
            if piece.is_empty() {
                return self.complete(session, budget).await;
            }
            let before = session.accepted;
            self.send_piece(session, pieces, piece, budget).await?;
            pieces.accepted();
            budget.gain(session.accepted - before);
        }
    }

    /// Sends one piece until all of it is accepted, and no byte twice that the registry says it has. What is to be sent in
    /// another size goes back to `pieces`.
    async fn send_piece(
        &self,
        session: &mut Session,
        pieces: &mut Pieces,
        mut piece: Piece,
        budget: &mut Budget,
    ) -> Result<(), Setback> {
        while !piece.is_empty() {
            let start = session.accepted;
            let end = start + piece.len() as u64;
            let (upload, before, sent) = (self.detached(), session.clone(), piece.clone());
            match self.sessions.to_the_end(async move { upload.patch(before, sent).await }).await {
                Ok(after) => *session = after,
                Err(failure) => {
                    let smaller =
                        self.after_failed_piece(session, failure, budget, || pieces.shrink(piece.len())).await?;
                    if smaller {
                        pieces.put_back(piece);
                        return Ok(());
                    }
                }
            }
            if session.accepted < start || session.accepted > end {
                return Err(Setback::SessionLost(AttemptError::permanent(self.lost(&format!(
                    "the registry has {} bytes, and {start} to {end} were to be sent",
                    session.accepted
                )))));
            }
            piece = piece.after((session.accepted - start) as usize);
            if !piece.is_empty() && pieces.is_too_small(piece.len()) {
                pieces.put_back(piece);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Decides what follows a failed piece: `true` for smaller pieces, `false` to go on where the registry says that the
    /// session stands. `shrink` makes pieces smaller and returns their size, or nothing at the smallest size.
    async fn after_failed_piece(
        &self,
        session: &mut Session,
        failure: AttemptError,
        budget: &mut Budget,
        mut shrink: impl FnMut() -> Option<usize>,
    ) -> Result<bool, Setback> {
        let status = failure.status().filter(|_| failure.known().is_none());
        if is_late_token(&failure) && shrink().is_some() {
            budget.tell(&failure);
            return Ok(true);
        }
        if status == Some(StatusCode::PAYLOAD_TOO_LARGE) {
            return self.smaller_pieces(failure, shrink());
        }
        // 416 is about the size of the piece, or about the offset of the session: GET tells them apart.
        if status == Some(StatusCode::RANGE_NOT_SATISFIABLE) {
            let state = budget.run(async || self.state(session.clone()).await).await;
            return match state {
                Ok(state) if state.accepted != session.accepted => {
                    budget.spend(failure.into_temporary()).await.map_err(Setback::fatal)?;
                    *session = state;
                    Ok(false)
                }
                _ => self.smaller_pieces(failure, shrink()),
            };
        }
        budget.spend(failure).await.map_err(Setback::fatal)?;
        let state = budget.run(async || self.state(session.clone()).await).await;
        *session = state.map_err(|error| Setback::SessionLost(AttemptError::permanent(error)))?;
        Ok(false)
    }

    /// Limits the pieces of this registry to the size `shrunk`; fails with `failure` if there is none.
    fn smaller_pieces(&self, failure: AttemptError, shrunk: Option<usize>) -> Result<bool, Setback> {
        let step = shrunk.ok_or(Setback::Failed(failure))?;
        self.endpoint.uploads().limit_piece(step);
        Ok(true)
    }

    /// Completes the session.
    async fn complete(&mut self, session: &Session, budget: &mut Budget) -> Result<(), Setback> {
        let mut is_first = true;
        loop {
            let Err(failure) = self.complete_once(session).await else { return Ok(()) };
            let status = failure.status().filter(|_| failure.known().is_none()).map(|status| status.as_u16());
            if matches!(status, Some(400 | 416 | 422)) {
                return match !is_first && self.has_arrived().await {
                    true => Ok(()),
                    false => Err(Setback::DigestRefused(failure)),
                };
            }
            let may_pass = failure.is_temporary();
            let spent = budget.spend(failure).await;
            // The failed request may have completed it.
            if may_pass && self.has_arrived().await {
                return Ok(());
            }
            spent.map_err(Setback::fatal)?;
            if status == Some(404) {
                let lost = self.lost("the registry has forgotten the session");
                return Err(Setback::SessionLost(AttemptError::permanent(lost)));
            }
            is_first = false;
        }
    }

    async fn complete_once(&self, session: &Session) -> Result<(), AttemptError> {
        let call = self.complete_call(&session.url);
        let response = self.send_redirected(call, || Payload::Bytes(Bytes::new())).await?;
        self.completed(response).await
    }

    /// Sends a request, again wherever a redirect points.
    async fn send_redirected(&self, mut call: Call, payload: impl Fn() -> Payload) -> Result<Response, AttemptError> {
        for _ in 0..MAX_REDIRECTS {
            let response = self.endpoint.send(&call, payload()).await?;
            match moved(&call, &response) {
                Some(again) => call = again?,
                None => return Ok(response),
            }
        }
        Err(self.in_a_circle())
    }

    /// One PATCH; returns where the session stands after it.
    async fn patch(&self, session: Session, piece: Piece) -> Result<Session, AttemptError> {
        let start = session.accepted;
        let (size, end) = (piece.len() as u64, start + piece.len() as u64);
        let call = self
            .call(Method::PATCH, CallTarget::Url(session.url.clone()))
            .header(CONTENT_TYPE, OCTETS)
            .header(CONTENT_RANGE, &format!("{start}-{}", end - 1))
            .response_timeout(self.endpoint.settings().commit_timeout);
        // A stream: bytes would be sent again at once after a late 401, in the same size.
        let payload = || Payload::Stream { chunks: piece.chunks(), size };
        let response = self.send_redirected(call, payload).await?;
        // Pulp returns 204 (pulp/pulp_container#2199), ECR 201.
        let taken = [StatusCode::ACCEPTED, StatusCode::NO_CONTENT, StatusCode::CREATED, StatusCode::OK];
        let response = response.expect(&taken).await?;
        let url = match response.header(LOCATION) {
            Some(_) => response.location().map_err(AttemptError::permanent)?,
            None => session.url,
        };
        self.sessions.moved(session.id, self.cancel_call(&url));
        let session = Session { id: session.id, url, accepted: end };
        if !is_in_part(response.header(RANGE), start, end) {
            return Ok(session);
        }
        match self.state(session.clone()).await {
            Ok(state) if start < state.accepted && state.accepted <= end => Ok(state),
            _ => Ok(session),
        }
    }

    /// Asks where the session stands.
    async fn state(&self, session: Session) -> Result<Session, AttemptError> {
        let call = self.call(Method::GET, CallTarget::Url(session.url.clone()));
        let response = self.endpoint.send(&call, Payload::Nothing).await?;
        let response = match response.status() {
            StatusCode::NO_CONTENT | StatusCode::ACCEPTED | StatusCode::OK => response,
            _ => {
                let failure = response.refusal().await;
                return Err(match failure.is_temporary() {
                    true => failure,
                    false => AttemptError::permanent(
                        self.lost("the registry cannot say how much it has").caused_by(failure.into_error()),
                    ),
                });
            }
        };
        let accepted = match response.header(RANGE).and_then(header::held) {
            // Of an empty session distribution says `0-0`, too; only a last piece can be of one byte.
            Some(1) | None if session.accepted == 0 => 0,
            Some(accepted) => accepted,
            None => return Err(AttemptError::permanent(self.lost("the registry does not say how much it has"))),
        };
        let url = response.location().unwrap_or(session.url);
        self.sessions.moved(session.id, self.cancel_call(&url));
        Ok(Session { url, accepted, ..session })
    }
}

/// Whether the `Range` after the piece from `start` to `end` ends inside that piece. Registries that have all bytes also
/// return the range of the piece alone (zot, opencontainers/distribution-spec#581) or an older one (ECR,
/// aws/containers-roadmap#2831); the digest is checked at the end.
fn is_in_part(range: Option<&str>, start: u64, end: u64) -> bool {
    let Some(held) = range.and_then(header::held) else { return false };
    start < held && held < end
}

/// Where an upload stands.
#[derive(Debug, Clone)]
struct Session {
    /// What stands for it in [`Upload::sessions`].
    id: u64,
    url: Url,
    /// Bytes that the registry has.
    accepted: u64,
}
