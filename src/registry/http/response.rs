//! An answer: its head, and its body as it comes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderName, LINK, LOCATION, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use reqwest::{Method, StatusCode};
use url::Url;

use super::call::Call;
use super::error::{self, RefusedRequest, RequestRoute, Unreadable};
use super::limits::Permit;
use super::rate::Rate;
use super::redirect::Zone;
use super::retry::{Again, AttemptError};
use super::server::{RemoteServer, ServerRole};
use super::settings::Settings;
use super::transport::zone_of;
use super::{header, link};
use crate::error::Error;
use crate::oci::MediaType;

/// An answer, its body still to be read.
pub(crate) struct Response {
    inner: reqwest::Response,
    peer: RemoteServer,
    what: String,
    writes: bool,
    read_timeout: Duration,
    stall_timeout: Duration,
    /// What a 401 means.
    refused: Option<Error>,
    rate: Option<Arc<Rate>>,
    _permit: Option<Permit>,
}

impl Response {
    /// What `peer` answered to `call`; the permit is held as long as the answer is.
    pub(crate) fn new(
        inner: reqwest::Response,
        peer: RemoteServer,
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
            stall_timeout: settings.stall_timeout,
            refused: None,
            rate: settings.rate.clone(),
            _permit: permit,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.inner.status()
    }

    pub(crate) fn header(&self, name: impl reqwest::header::AsHeaderName) -> Option<&str> {
        self.inner.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// Every header of that name.
    pub(crate) fn headers(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        self.inner.headers().get_all(name).into_iter().filter_map(|value| value.to_str().ok())
    }

    /// The target of the next page of a list; nothing on the last one.
    ///
    /// # Errors
    /// What is wrong, to stand after `its list `.
    pub(crate) fn next_link(&self) -> Result<Option<&str>, &'static str> {
        link::next_page(self.inner.headers().get_all(LINK).into_iter().map(|value| value.to_str().ok()))
    }

    /// Itself, a 401, with what that means.
    pub(crate) fn refused(self, why: Error) -> Self {
        Response { refused: Some(why), ..self }
    }

    /// From where the answer came in the end.
    pub(crate) fn url(&self) -> &Url {
        self.inner.url()
    }

    /// The zone of the server that answered, or of the proxy in between.
    pub(crate) fn zone(&self) -> Zone {
        zone_of(self.inner.remote_addr())
    }

    /// The size that the server announces, also for a HEAD.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH)?.parse().ok()
    }

    /// Whether it points elsewhere, to be asked in the same way there.
    pub(crate) fn is_redirect(&self) -> bool {
        matches!(self.status().as_u16(), 301 | 302 | 303 | 307 | 308)
    }

    /// Where its `Location` leads.
    pub(crate) fn location(&self) -> Result<Url, Error> {
        self.header(LOCATION).and_then(|text| header::location(self.inner.url(), text)).ok_or_else(|| {
            error::protocol(
                &self.peer,
                format!("{} without a usable Location, when asked to {}", self.status(), self.what),
            )
        })
    }

    /// Whether this answer to a HEAD says nothing, so that a GET or the push must tell: there is no HEAD, or the registry
    /// sent us to storage by a link that is signed for GET only. Artifactory's virtual repositories answer 401 or 403 for
    /// what is not there. A login that is refused shows at the next request.
    pub(crate) fn head_unsupported(&self) -> bool {
        match self.status() {
            StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN => true,
            StatusCode::BAD_REQUEST => *self.peer.role() != ServerRole::Registry,
            _ => false,
        }
    }

    /// Whether it is a page for people, by its headers. Some registries send `text/html` for everything, but a page has no
    /// digest.
    pub(crate) fn is_web_page(&self) -> bool {
        let is_html = |text: &str| MediaType::new(text).as_str().eq_ignore_ascii_case("text/html");
        self.header(CONTENT_TYPE).is_some_and(is_html) && self.header("docker-content-digest").is_none()
    }

    /// The error for a web page in the place of what was asked for.
    pub(crate) fn web_page(&self) -> Error {
        error::web_page(&self.what, &self.peer, b"")
    }

    /// Who answered.
    pub(crate) fn peer(&self) -> &RemoteServer {
        &self.peer
    }

    /// Whether the server says how it wants to be logged in to.
    pub(crate) fn challenges(&self) -> bool {
        self.inner.headers().contains_key(WWW_AUTHENTICATE)
    }

    /// How the body is packed beside what it is (`gzip`): such bytes are not those that a digest is for.
    pub(crate) fn packing(&self) -> Option<&str> {
        self.header(CONTENT_ENCODING)
            .map(str::trim)
            .filter(|how| !how.is_empty() && !how.eq_ignore_ascii_case("identity"))
    }

    /// Itself if its status is one of `expected`, else what went wrong.
    pub(crate) async fn expect(self, expected: &[StatusCode]) -> Result<Response, AttemptError> {
        if expected.contains(&self.status()) {
            return Ok(self);
        }
        Err(self.refusal().await)
    }

    /// What a status that was not hoped for means, with the server's own words.
    pub(crate) async fn refusal(mut self) -> AttemptError {
        if let Some(why) = self.refused.take() {
            return AttemptError::permanent(why.context(format!("cannot {}", self.what))).with_status(self.status());
        }
        let (status, peer, what, writes) = (self.status(), self.peer.clone(), self.what.clone(), self.writes);
        let pause = pause(self.inner.headers());
        let body = self.body(MAX_ERROR).await.unwrap_or_default();
        RefusedRequest { what: &what, writes, peer: &peer, status, body: &body, pause }.failure()
    }

    /// The server's own words in the body of a refusal, in quotes. A body that breaks off or is too long says what came of it.
    pub(crate) async fn message(&mut self) -> String {
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = self.chunk().await {
            body.extend_from_slice(&chunk[..chunk.len().min(MAX_ERROR as usize - body.len())]);
            if body.len() as u64 == MAX_ERROR {
                break;
            }
        }
        error::quoted(&body)
    }

    /// The next piece of the body.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, AttemptError> {
        let failed = |failure: AttemptError| failure.context(format!("cannot {}", self.what));
        let chunk = tokio::time::timeout(self.read_timeout, self.inner.chunk())
            .await
            .map_err(|_| failed(error::timeout(&self.peer, self.read_timeout.as_secs())))?
            .map_err(|error| failed(error::transport(RequestRoute::later(&self.peer), error, None)))?;
        if let (Some(chunk), Some(rate)) = (&chunk, &self.rate) {
            rate.take(chunk.len()).await;
        }
        Ok(chunk)
    }

    /// The whole body, of at most `limit` bytes.
    pub(crate) async fn body(self, limit: u64) -> Result<Bytes, AttemptError> {
        let (what, peer) = (self.what.clone(), self.peer.clone());
        self.body_within(limit).await?.ok_or_else(|| {
            let what = format!("more than {limit} bytes, when asked to {what}");
            AttemptError::new(error::protocol(&peer, what), Again::Never)
        })
    }

    /// The whole body; nothing if it has more than `limit` bytes.
    pub(crate) async fn body_within(mut self, limit: u64) -> Result<Option<Bytes>, AttemptError> {
        if self.content_length().is_some_and(|length| length > limit) {
            return Ok(None);
        }
        let (peer, what, time) = (self.peer.clone(), self.what.clone(), self.stall_timeout);
        let read = async {
            let mut body = Vec::new();
            while let Some(chunk) = self.chunk().await? {
                if (body.len() + chunk.len()) as u64 > limit {
                    return Ok(None);
                }
                body.extend_from_slice(&chunk);
            }
            Ok(Some(body.into()))
        };
        // A byte now and then would hold the run for days.
        let late = |_| error::too_slow(&peer, time).context(format!("cannot {what}"));
        tokio::time::timeout(time, read).await.map_err(late)?
    }

    /// Refuses a web page where the body does not matter, as in the answer to `GET /v2/`.
    pub(crate) async fn nothing(self) -> Result<(), AttemptError> {
        let (what, peer) = (self.what.clone(), self.peer.clone());
        // The first bytes tell; a longer body is read no further.
        let body = self.beginning(MAX_ERROR).await?;
        match Unreadable::of(&what, &peer, None, &body) {
            Some(unreadable @ Unreadable::WebPage(_)) => Err(AttemptError::permanent(unreadable.into_error())),
            _ => Ok(()),
        }
    }

    /// At most about `limit` bytes of the body.
    async fn beginning(mut self, limit: u64) -> Result<Bytes, AttemptError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() as u64 >= limit {
                break;
            }
        }
        Ok(body.into())
    }

    /// The whole body, of at most `limit` bytes, and why it cannot be JSON, if that shows.
    pub(crate) async fn readable(self, limit: u64) -> Result<(Bytes, Option<Unreadable>), AttemptError> {
        let (what, peer, packing) = (self.what.clone(), self.peer.clone(), self.packing().map(str::to_owned));
        let body = self.body(limit).await?;
        let unreadable = Unreadable::of(&what, &peer, packing.as_deref(), &body);
        Ok((body, unreadable))
    }
}

/// Refuses a head that no one can need: parts of it are kept, some for each repository.
pub(crate) fn check_head(peer: &RemoteServer, headers: &HeaderMap) -> Result<(), AttemptError> {
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    match size > MAX_HEAD {
        true => {
            let what = format!("the head of its answer has more than {MAX_HEAD} bytes");
            Err(AttemptError::permanent(error::protocol(peer, what)))
        }
        false => Ok(()),
    }
}

/// The pause that an answer asks for.
pub(crate) fn pause(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    header::retry_after(text(RETRY_AFTER)?, text(DATE))
}

/// The largest head of an answer, 64 KiB: nginx takes 8 KiB from what is behind it (proxy_buffer_size), Apache 8 KiB in a
/// field.
const MAX_HEAD: usize = 64 << 10;
/// The most that is read of an error's body, 64 KiB.
const MAX_ERROR: u64 = 64 << 10;
