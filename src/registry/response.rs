//! An answer: its head, and its body as it comes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, LINK, LOCATION, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use url::Url;

use super::call::Call;
use super::fault::{self, Refusal, Route};
use super::limits::{Permit, Rate};
use super::peer::{Peer, Role};
use super::retry::{Again, Failure};
use super::{Settings, header};
use crate::error::Error;

/// An answer, its body still to be read.
pub(super) struct Response {
    inner: reqwest::Response,
    peer: Peer,
    what: String,
    writes: bool,
    read_timeout: Duration,
    /// What a 401 means.
    refused: Option<Error>,
    rate: Option<Arc<Rate>>,
    _permit: Option<Permit>,
}

impl Response {
    /// What `peer` answered to `call`; the permit is held as long as the answer is.
    pub(super) fn new(
        inner: reqwest::Response,
        peer: Peer,
        call: &Call,
        settings: &Settings,
        permit: Option<Permit>,
    ) -> Self {
        Response {
            inner,
            peer,
            what: call.what.clone(),
            writes: !matches!(call.method, Method::GET | Method::HEAD),
            read_timeout: settings.read_timeout,
            refused: None,
            rate: settings.rate.clone(),
            _permit: permit,
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.inner.status()
    }

    pub(super) fn header(&self, name: impl reqwest::header::AsHeaderName) -> Option<&str> {
        self.inner.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// Every header of that name.
    pub(super) fn headers(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        self.inner.headers().get_all(name).into_iter().filter_map(|value| value.to_str().ok())
    }

    /// Every `Link` header.
    pub(super) fn links(&self) -> impl Iterator<Item = &str> {
        self.headers(LINK)
    }

    /// Itself, a 401, with what that means.
    pub(super) fn refused(self, why: Error) -> Self {
        Response { refused: Some(why), ..self }
    }

    /// From where the answer came in the end.
    pub(super) fn url(&self) -> &Url {
        self.inner.url()
    }

    /// The size that the server announces, also for a HEAD.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH)?.parse().ok()
    }

    /// Whether it points elsewhere, to be asked in the same way there.
    pub(super) fn is_redirect(&self) -> bool {
        matches!(self.status().as_u16(), 301 | 302 | 303 | 307 | 308)
    }

    /// Where its `Location` leads.
    pub(super) fn location(&self) -> Result<Url, Error> {
        self.header(LOCATION).and_then(|text| header::location(self.inner.url(), text)).ok_or_else(|| {
            fault::protocol(
                &self.peer,
                format!("{} without a usable Location, when asked to {}", self.status(), self.what),
            )
        })
    }

    /// Whether this answer to a HEAD says nothing, so that a GET is needed: there is no HEAD, or the registry sent us to
    /// storage by a link that is signed for GET only.
    pub(super) fn knows_no_head(&self) -> bool {
        match self.status() {
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => true,
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                *self.peer.role() != Role::Registry
            }
            _ => false,
        }
    }

    /// How the body is packed beside what it is (`gzip`): such bytes are not those that a digest is for.
    pub(super) fn packing(&self) -> Option<&str> {
        self.header(CONTENT_ENCODING)
            .map(str::trim)
            .filter(|how| !how.is_empty() && !how.eq_ignore_ascii_case("identity"))
    }

    /// Itself if its status is one of `expected`, else what went wrong.
    pub(super) async fn expect(self, expected: &[StatusCode]) -> Result<Response, Failure> {
        if expected.contains(&self.status()) {
            return Ok(self);
        }
        Err(self.refusal().await)
    }

    /// What a status that was not hoped for means, with the server's own words.
    pub(super) async fn refusal(mut self) -> Failure {
        if let Some(why) = self.refused.take() {
            return Failure::lasting(why.context(format!("cannot {}", self.what)));
        }
        let (status, peer, what, writes) = (self.status(), self.peer.clone(), self.what.clone(), self.writes);
        let pause = pause(self.inner.headers());
        let body = self.body(MAX_ERROR).await.unwrap_or_default();
        Refusal { what: &what, writes, peer: &peer, status, body: &body, pause }.failure()
    }

    /// The server's own words in the body of a refusal. A body that breaks off or is too long says what came of it.
    pub(super) async fn words(&mut self) -> String {
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = self.chunk().await {
            body.extend_from_slice(&chunk[..chunk.len().min(MAX_ERROR as usize - body.len())]);
            if body.len() as u64 == MAX_ERROR {
                break;
            }
        }
        fault::said(&body)
    }

    /// The next piece of the body.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let failed = |failure: Failure| failure.context(format!("cannot {}", self.what));
        let chunk = tokio::time::timeout(self.read_timeout, self.inner.chunk())
            .await
            .map_err(|_| failed(fault::timeout(&self.peer, self.read_timeout.as_secs())))?
            .map_err(|error| failed(fault::transport(Route::later(&self.peer), error, None)))?;
        if let (Some(chunk), Some(rate)) = (&chunk, &self.rate) {
            rate.take(chunk.len()).await;
        }
        Ok(chunk)
    }

    /// The whole body, of at most `limit` bytes.
    pub(super) async fn body(mut self, limit: u64) -> Result<Bytes, Failure> {
        let too_long = |response: &Response| {
            let what = format!("more than {limit} bytes, when asked to {}", response.what);
            Failure::new(fault::protocol(&response.peer, what), Again::Never)
        };
        if self.content_length().is_some_and(|length| length > limit) {
            return Err(too_long(&self));
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(too_long(&self));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.into())
    }
}

/// The pause that an answer asks for.
pub(super) fn pause(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    header::retry_after(text(RETRY_AFTER)?, text(DATE))
}

/// The most that is read of an error's body, 64 KiB.
const MAX_ERROR: u64 = 64 << 10;
