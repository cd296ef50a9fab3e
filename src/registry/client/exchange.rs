//! One request and its answer on the wire: redirects, permits, time limits, rates.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Method, StatusCode};
use url::Url;

use super::endpoint::Endpoint;
use crate::content::{Allowance, Chunks};
use crate::error::Error;
use crate::registry::http::call::{Call, CallTarget, Payload};
use crate::registry::http::error::{self, FirstContact, RequestRoute};
use crate::registry::http::header;
use crate::registry::http::limits::{Direction, Permit};
use crate::registry::http::rate::Rate;
use crate::registry::http::redirect::Zone;
use crate::registry::http::response::{self, Response};
use crate::registry::http::retry::AttemptError;
use crate::registry::http::server::{RemoteServer, ServerRole};
use crate::registry::http::settings::Tls;
use crate::registry::http::stall::{self, Limits};

impl Endpoint {
    /// Sends one request, once, and follows redirects of what has no body. Any status is an answer.
    ///
    /// Tokens (for `call.access`) and the host's permits are to be taken here, and nowhere else.
    pub(crate) async fn send(&self, call: &Call, payload: Payload) -> Result<Response, AttemptError> {
        let base = self.base().await?;
        let mut url = match &call.target {
            CallTarget::Path(path) => base
                .join(&format!("/v2/{path}"))
                .map_err(|e| AttemptError::permanent(Error::registry(format!("cannot {}", call.what)).caused_by(e)))?,
            CallTarget::Url(url) => url.clone(),
        };
        let follow = matches!(payload, Payload::Nothing) && matches!(call.method, Method::GET | Method::HEAD);
        let mut payload = Some(payload);
        let mut call = Cow::Borrowed(call);
        for _ in 0..=MAX_REDIRECTS {
            self.check_way(&call, base, &url)?;
            tracing::debug!(method = %call.method, url = header::public(&url), scopes = ?call.access.scopes(), "request");
            let payload = payload.take().unwrap_or(Payload::Nothing);
            let response = self.admitted(&call, url.clone(), payload).await?;
            tracing::debug!(status = %response.status(), url = header::public(&url), "answer");
            if !(follow && response.is_redirect()) {
                return Ok(response);
            }
            let next = response.location().map_err(AttemptError::permanent)?;
            // Not even from one storage to the next.
            self.check_way(&call, &url, &next)?;
            if response.zone() == Zone::Public {
                call = Cow::Owned(call.into_owned().sent_through(Zone::Public));
            }
            url = next;
        }
        Err(AttemptError::permanent(error::protocol(self.host(), format!("more than {MAX_REDIRECTS} redirects"))))
    }

    /// Where HTTPS is spoken, nothing goes on by plain HTTP, be it a redirect, an upload's place or a page: whoever
    /// listens there could read and change it.
    fn check_way(&self, call: &Call, from: &Url, to: &Url) -> Result<(), AttemptError> {
        if self.settings().tls == Tls::Unverified || from.scheme() != "https" || to.scheme() != "http" {
            return Ok(());
        }
        let peer = RemoteServer::at(to, self.host(), from);
        let (host, authority) = (self.host(), peer.authority());
        let refused = format!("cannot {}: {host} sends us from HTTPS to plain HTTP, at {authority}", call.what);
        Err(AttemptError::permanent(
            Error::registry(refused)
                .hint(format!(
                    "{host} does not know that it is reached by HTTPS: set X-Forwarded-Proto at the proxy in front of it, \
                     or relativeurls or the external URL in its own configuration"
                ))
                .hint("--tls-verify=false does without, where the network itself is trusted"),
        ))
    }

    /// One request and its answer, with nothing added.
    pub(crate) async fn exchange(&self, call: &Call, url: Url, payload: Payload) -> Result<Response, AttemptError> {
        let settings = self.settings();
        let lane = if matches!(call.method, Method::GET | Method::HEAD) { Direction::Read } else { Direction::Write };
        Allowance::take().map_err(AttemptError::permanent)?;
        let permit = self.gate().enter(lane, call.turn).await;
        let client = self.http().client(self.host(), call.through, &url);
        let client =
            client.map_err(|refused| AttemptError::permanent(refused.context(format!("cannot {}", call.what))))?;
        let peer = self.peer(&url);
        let first = if *peer.role() == ServerRole::Registry { self.first() } else { FirstContact::No };
        let route = RequestRoute { peer: &peer, proxy: self.http().proxy(&url), first };
        let (to, request) = (url.clone(), client.request(call.method.clone(), url).headers(call.headers.clone()));
        let (chunks, size) = match payload {
            Payload::Nothing => {
                let limit = settings.connect_timeout + call.patience.unwrap_or(settings.read_timeout);
                let sent = tokio::time::timeout(limit, request.send()).await;
                return self.answer(call, permit, route, &to, sent.map_err(|_| limit)).await;
            }
            Payload::Bytes(bytes) => {
                let size = bytes.len() as u64;
                (sliced(bytes), size)
            }
            Payload::Stream { chunks, size } => (chunks, size),
        };
        let start = settings.connect_timeout + settings.read_timeout;
        let answer = call.patience.unwrap_or(settings.read_timeout);
        // With a length of its own the stream is not sent chunked, which many registries and proxies refuse, and a
        // short stream fails here too.
        let request = request.header(CONTENT_LENGTH, size);
        let sent = if size == 0 {
            tokio::time::timeout(start + answer, request.send()).await.map_err(|_| start + answer)
        } else {
            let chunks = match settings.rate.clone() {
                Some(rate) => limited(chunks, rate),
                None => chunks,
            };
            let (timed, watch) = stall::watch(chunks, size, start, Limits { chunk: settings.read_timeout, answer });
            tokio::select! {
                sent = request.body(reqwest::Body::wrap_stream(timed)).send() => Ok(sent),
                limit = watch.stalled() => Err(limit),
            }
        };
        self.answer(call, permit, route, &to, sent).await
    }

    async fn answer(
        &self,
        call: &Call,
        permit: Permit,
        route: RequestRoute<'_>,
        to: &Url,
        sent: Result<reqwest::Result<reqwest::Response>, Duration>,
    ) -> Result<Response, AttemptError> {
        let failed = |failure: AttemptError| failure.context(format!("cannot {}", call.what));
        let sent = sent.map_err(|limit| failed(error::timeout(route.peer, limit.as_secs())))?;
        let inner = match sent {
            Ok(inner) => inner,
            Err(error) => return Err(failed(self.http().failure(self.host(), route, to, error).await)),
        };
        self.note_answer();
        response::check_head(route.peer, inner.headers()).map_err(failed)?;
        if *route.peer.role() == ServerRole::Registry && route.proxy.is_none() {
            self.http().note_address(self.host(), inner.remote_addr());
        }
        match inner.status() {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                permit.refused(response::pause(inner.headers()));
            }
            _ => permit.answered(),
        }
        // A body that still comes is a request under way; a refusal is not, whatever its reader does next.
        let permit = (call.method == Method::GET && inner.status().is_success()).then_some(permit);
        Ok(Response::new(inner, route.peer.clone(), call, self.settings(), permit))
    }
}

const MAX_REDIRECTS: usize = 10;
/// Bytes in memory are sent in pieces of 256 KiB, so that it is seen whether they move.
const SLICE: usize = 256 << 10;

fn limited(chunks: Chunks, rate: Arc<Rate>) -> Chunks {
    chunks
        .then(move |chunk| {
            let rate = rate.clone();
            async move {
                if let Ok(chunk) = &chunk {
                    rate.take(chunk.len()).await;
                }
                chunk
            }
        })
        .boxed()
}

/// `bytes` in slices.
pub(crate) fn sliced(bytes: Bytes) -> Chunks {
    let slices = (0..bytes.len()).step_by(SLICE).map(move |at| Ok(bytes.slice(at..bytes.len().min(at + SLICE))));
    stream::iter(slices).boxed()
}
