//! A blob that can be read once only, sent in pieces: each is kept until the registry has accepted it.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, RANGE};
use reqwest::{Method, StatusCode};
use url::Url;

use super::call::{Payload, Target};
use super::header;
use super::retry::{Budget, Failure};
use super::upload::{OCTETS, Upload, lost};
use crate::error::{Error, Result};
use crate::place::{Body, Chunks};

impl Upload {
    /// Sends a body that cannot be opened again.
    pub(super) async fn pieces(&mut self, body: &mut Body) -> Result<()> {
        // A repository that takes no uploads says so here. The body is unread, and can still go into another one.
        self.waiting = Some(self.start(&mut self.endpoint.budget()).await?);
        let chunks = body.open().await?;
        let sent = match self.size <= PIECE as u64 && !self.endpoint.wants_pieces() {
            // All of it is kept, so it may as well be one request, tried as often as need be.
            true => match Pieces::new(chunks, self.size, PIECE).next().await {
                Ok(bytes) => return self.whole(bytes).await,
                Err(error) => Err(error),
            },
            false => self.in_pieces(chunks, self.endpoint.budget()).await,
        };
        sent.map_err(|error| body.blame().unwrap_or(error))
    }

    /// Sends by PATCH, and notes that it works.
    pub(super) async fn in_pieces(&mut self, chunks: Chunks, mut budget: Budget) -> Result<()> {
        let opened = self.start(&mut budget).await?;
        let mut session = Session { id: opened.id, url: opened.url, accepted: 0 };
        let sent = match usize::try_from(opened.least) {
            Ok(least) if least <= MAX_PIECE => {
                let mut pieces = Pieces::new(chunks, self.size, least.max(PIECE));
                self.send_pieces(&mut session, &mut pieces, &mut budget).await
            }
            _ => Err(lost(self, &format!("the registry takes no piece below {} bytes", opened.least))),
        };
        match &sent {
            Ok(()) => {
                self.sessions.ended(session.id);
                self.endpoint.send_pieces_from_now_on();
            }
            Err(_) => self.cancel(session.id, &session.url).await,
        }
        sent
    }

    async fn send_pieces(&self, session: &mut Session, pieces: &mut Pieces, budget: &mut Budget) -> Result<()> {
        loop {
            let piece = pieces.next().await?;
            if piece.is_empty() {
                break;
            }
            let size = piece.len() as u64;
            self.send_piece(session, piece, budget).await?;
            budget.gain(size);
        }
        let url = session.url.clone();
        budget
            .run(async || {
                let response = self.send_bytes(self.complete_call(&url), &Bytes::new()).await?;
                if response.status() == StatusCode::NOT_FOUND {
                    return Err(Failure::lasting(lost(self, "the registry has forgotten the session")));
                }
                self.completed(response).await
            })
            .await
    }

    /// Sends one piece until all of it is accepted, and no byte twice that the registry says it has.
    async fn send_piece(&self, session: &mut Session, mut piece: Bytes, budget: &mut Budget) -> Result<()> {
        while !piece.is_empty() {
            let start = session.accepted;
            let end = start + piece.len() as u64;
            if let Err(failure) = self.patch(session, &piece).await {
                budget.spend(failure).await?;
                let state = budget.run(async || self.state(session.clone()).await).await?;
                *session = state;
            }
            if session.accepted < start || session.accepted > end {
                return Err(lost(
                    self,
                    &format!("the registry has {} bytes, and {start} to {end} were to be sent", session.accepted),
                ));
            }
            piece = piece.slice((session.accepted - start) as usize..);
        }
        Ok(())
    }

    /// One PATCH; on success the session knows what was accepted.
    async fn patch(&self, session: &mut Session, piece: &Bytes) -> Result<(), Failure> {
        let start = session.accepted;
        let end = start + piece.len() as u64;
        let call = self
            .call(Method::PATCH, Target::Url(session.url.clone()))
            .header(CONTENT_TYPE, OCTETS)
            .header(CONTENT_RANGE, &format!("{start}-{}", end - 1));
        let response = self.send_bytes(call, piece).await?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            // It has another opinion about where the session stands: to be asked.
            return Err(Failure::passing(response.refusal().await.into_error()));
        }
        let response = response.expect(&[StatusCode::ACCEPTED]).await?;
        let accepted = match response.header(RANGE) {
            None => end,
            Some(text) => {
                header::held(text).ok_or_else(|| Failure::lasting(lost(self, "its Range header is not a range")))?
            }
        };
        if accepted == start {
            return Err(Failure::passing(lost(self, "the registry took nothing in")));
        }
        *session = Session { url: response.location().map_err(Failure::lasting)?, accepted, ..*session };
        self.sessions.moved(session.id, self.take_back(&session.url));
        Ok(())
    }

    /// Asks where the session stands.
    async fn state(&self, session: Session) -> Result<Session, Failure> {
        let call = self.call(Method::GET, Target::Url(session.url.clone()));
        let response = self.endpoint.send(&call, Payload::Nothing).await?;
        let response = match response.status() {
            StatusCode::NO_CONTENT | StatusCode::ACCEPTED | StatusCode::OK => response,
            _ => {
                let failure = response.refusal().await;
                return Err(match failure.may_pass() {
                    true => failure,
                    false => Failure::lasting(
                        lost(self, "the registry cannot say how much it has").caused_by(failure.into_error()),
                    ),
                });
            }
        };
        let accepted = match response.header(RANGE).and_then(header::held) {
            // Of an empty session distribution says `0-0`, too; only a last piece can be of one byte.
            Some(1) | None if session.accepted == 0 => 0,
            Some(accepted) => accepted,
            None => return Err(Failure::lasting(lost(self, "the registry does not say how much it has"))),
        };
        let url = response.location().unwrap_or(session.url);
        Ok(Session { url, accepted, ..session })
    }
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

/// Chunks, gathered into pieces.
struct Pieces {
    chunks: Chunks,
    rest: Bytes,
    /// Bytes that are still to come, by the descriptor.
    left: u64,
    /// The size of a piece.
    step: usize,
}

impl Pieces {
    fn new(chunks: Chunks, size: u64, step: usize) -> Self {
        Pieces { chunks, rest: Bytes::new(), left: size, step }
    }

    /// The next piece, of `step` bytes except for the last; empty at the end.
    async fn next(&mut self) -> Result<Bytes, Error> {
        let mut piece = BytesMut::new();
        loop {
            let take = self.rest.len().min(self.step - piece.len());
            if piece.is_empty() && take > 0 {
                piece.reserve(self.left.min(self.step as u64) as usize);
            }
            piece.extend_from_slice(&self.rest.split_to(take));
            self.left = self.left.saturating_sub(take as u64);
            if piece.len() == self.step {
                return Ok(piece.freeze());
            }
            match self.chunks.next().await {
                Some(chunk) => self.rest = chunk?,
                None => return Ok(piece.freeze()),
            }
        }
    }
}

/// The size of a piece, 8 MiB.
pub(super) const PIECE: usize = 8 << 20;
/// The largest piece that a registry can ask for, 64 MiB: it is held in memory.
const MAX_PIECE: usize = 64 << 20;
