//! One registry host: the one place through which requests leave and answers come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, LINK, LOCATION, RETRY_AFTER,
};
use reqwest::{Method, StatusCode};
use tokio::sync::OnceCell;
use url::Url;

use super::auth::Auth;
use super::fault::{self, First, Route};
use super::limits::{Gate, Lane, Permit, Rate, Turn};
use super::retry::{self, Again, Budget, Failure};
use super::stall::{self, Limits};
use super::transport::Transport;
use super::{Settings, Tls, header};
use crate::error::Error;
use crate::oci::{Host, MediaType, Repository};
use crate::place::Chunks;

/// One registry host.
pub(super) struct Endpoint {
    host: Host,
    http: Arc<Transport>,
    settings: Arc<Settings>,
    /// Scheme and authority, once it is known which scheme is spoken.
    base: OnceCell<Url>,
    answered: AtomicBool,
    auth: Auth,
    gate: Arc<Gate>,
    /// It takes blobs by PATCH only, as was found out.
    pieces: AtomicBool,
}

/// A request, except for its payload. It can be sent many times.
#[derive(Debug, Clone)]
pub(super) struct Call {
    method: Method,
    target: Target,
    access: Access,
    what: String,
    headers: HeaderMap,
    /// How long the answer may take once everything is sent; nothing means the read timeout.
    patience: Option<Duration>,
    turn: Turn,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// Below `/v2/` of this host.
    Path(String),
    /// Where the registry said: perhaps another host.
    Url(Url),
}

/// What a request needs to be allowed to do, for the tokens that are asked for.
#[derive(Debug, Clone)]
pub(super) enum Access {
    /// Nothing: the registry itself.
    None,
    /// Read in a repository.
    Pull(Repository),
    /// Read and write in a repository.
    Push(Repository),
    /// Write in one repository what is read in another.
    Mount {
        /// Written to.
        to: Repository,
        /// Read from.
        from: Repository,
    },
}

/// The body of a request.
pub(super) enum Payload {
    /// No body and no length: GET, HEAD, DELETE.
    Nothing,
    /// Bytes in memory; empty ones are sent as `Content-Length: 0`, which some registries demand.
    Bytes(Bytes),
    /// A stream of exactly `size` bytes. A redirect of it is handed back, not followed.
    Stream {
        /// The bytes.
        chunks: Chunks,
        /// How many.
        size: u64,
    },
}

/// An answer, its body still to be read.
pub(super) struct Response {
    inner: reqwest::Response,
    host: Host,
    what: String,
    read_timeout: Duration,
    /// What a 401 means.
    refused: Option<Error>,
    rate: Option<Arc<Rate>>,
    _permit: Option<Permit>,
}

impl Endpoint {
    pub(super) fn new(host: Host, http: Arc<Transport>, settings: Arc<Settings>) -> Self {
        let gate = Arc::new(Gate::new(settings.jobs, settings.retry.delay));
        let auth = Auth::new(host.clone(), http.clone(), settings.clone());
        Endpoint {
            host,
            http,
            settings,
            base: OnceCell::new(),
            answered: AtomicBool::new(false),
            auth,
            gate,
            pieces: AtomicBool::new(false),
        }
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn auth(&self) -> &Auth {
        &self.auth
    }

    /// Whether blobs are to be sent by PATCH.
    pub(super) fn wants_pieces(&self) -> bool {
        self.pieces.load(Ordering::Relaxed)
    }

    /// From now on blobs are sent by PATCH.
    pub(super) fn send_pieces_from_now_on(&self) {
        self.pieces.store(true, Ordering::Relaxed);
    }

    pub(super) fn budget(&self) -> Budget {
        Budget::new(&self.settings)
    }

    /// Sends one request, once, and follows redirects of what has no body. Any status is an answer.
    ///
    /// Tokens (for `call.access`) and the host's permits are to be taken here, and nowhere else.
    pub(super) async fn send(&self, call: &Call, payload: Payload) -> Result<Response, Failure> {
        let mut url = match &call.target {
            Target::Path(path) => self
                .base()
                .await?
                .join(&format!("/v2/{path}"))
                .map_err(|e| Failure::lasting(Error::registry(format!("cannot {}", call.what)).caused_by(e)))?,
            Target::Url(url) => url.clone(),
        };
        let follow = matches!(payload, Payload::Nothing) && matches!(call.method, Method::GET | Method::HEAD);
        let mut payload = Some(payload);
        for _ in 0..=MAX_REDIRECTS {
            tracing::debug!(method = %call.method, url = header::public(&url), scopes = ?call.access.scopes(), "request");
            let payload = payload.take().unwrap_or(Payload::Nothing);
            let response = self.admitted(call, url.clone(), payload).await?;
            tracing::debug!(status = %response.status(), url = header::public(&url), "answer");
            if !(follow && response.is_redirect()) {
                return Ok(response);
            }
            let next = response.location().map_err(Failure::lasting)?;
            if url.scheme() == "https" && next.scheme() == "http" && self.settings.tls == Tls::Verified {
                return Err(Failure::lasting(fault::protocol(&self.host, "it redirects from HTTPS to plain HTTP")));
            }
            url = next;
        }
        Err(Failure::lasting(fault::protocol(&self.host, format!("more than {MAX_REDIRECTS} redirects"))))
    }

    /// One request and its answer, with nothing added.
    pub(super) async fn exchange(&self, call: &Call, url: Url, payload: Payload) -> Result<Response, Failure> {
        let settings = &self.settings;
        let lane = if matches!(call.method, Method::GET | Method::HEAD) { Lane::Read } else { Lane::Write };
        let permit = self.gate.enter(lane, call.turn).await;
        let client = self.http.client(&self.host, &url).map_err(Failure::lasting)?;
        let route = Route { host: &self.host, proxy: self.http.proxy(&url), first: self.first() };
        let request = client.request(call.method.clone(), url).headers(call.headers.clone());
        let (chunks, size) = match payload {
            Payload::Nothing => {
                let limit = settings.connect_timeout + call.patience.unwrap_or(settings.read_timeout);
                let sent = tokio::time::timeout(limit, request.send()).await;
                return self.answer(call, permit, route, sent.map_err(|_| limit));
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
            let (timed, watch) = stall::watch(chunks, start, Limits { chunk: settings.read_timeout, answer });
            tokio::select! {
                sent = request.body(reqwest::Body::wrap_stream(timed)).send() => Ok(sent),
                () = watch.stalled() => Err(settings.read_timeout),
            }
        };
        self.answer(call, permit, route, sent)
    }

    fn answer(
        &self,
        call: &Call,
        permit: Permit,
        route: Route<'_>,
        sent: Result<reqwest::Result<reqwest::Response>, Duration>,
    ) -> Result<Response, Failure> {
        let failed = |failure: Failure| failure.context(format!("cannot {}", call.what));
        let inner = sent
            .map_err(|limit| failed(fault::timeout(&self.host, limit.as_secs())))?
            .map_err(|error| failed(fault::transport(route, error)))?;
        self.answered.store(true, Ordering::Relaxed);
        match inner.status() {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => permit.refused(pause(&inner)),
            _ => permit.answered(),
        }
        // A body that still comes is a request under way; a refusal is not, whatever its reader does next.
        let permit = (call.method == Method::GET && inner.status().is_success()).then_some(permit);
        Ok(Response {
            inner,
            host: self.host.clone(),
            what: call.what.clone(),
            read_timeout: self.settings.read_timeout,
            refused: None,
            rate: self.settings.rate.clone(),
            _permit: permit,
        })
    }

    fn first(&self) -> First {
        match self.answered.load(Ordering::Relaxed) {
            true => First::No,
            false => First::Contact,
        }
    }

    /// Scheme and authority. Where two schemes are allowed, the first that answers as a registry does is kept.
    pub(super) async fn base(&self) -> Result<&Url, Failure> {
        self.base
            .get_or_try_init(async || {
                let candidates = self.schemes();
                let [first, second] = candidates else { return self.url(candidates[0]) };
                let refused = match self.probe(first).await {
                    Ok(url) => return Ok(url),
                    Err(failure) => failure,
                };
                match self.probe(second).await {
                    Ok(url) => Ok(url),
                    // Where the port itself is closed both say the same; else the one that got further says more.
                    // That plain HTTP was cut is no proof of TLS.
                    Err(failure) if *second == "https" && !(refused.may_pass() && failure.says(fault::NOT_TLS)) => {
                        Err(failure)
                    }
                    Err(_) => Err(refused),
                }
            })
            .await
    }

    fn schemes(&self) -> &'static [&'static str] {
        match (self.settings.tls, self.host.is_loopback()) {
            // Plain servers are the rule there, and the probe carries nothing that is secret.
            (_, true) if !self.host.as_str().ends_with(":443") => &["http", "https"],
            (Tls::Verified, false) => &["https"],
            _ => &["https", "http"],
        }
    }

    async fn probe(&self, scheme: &str) -> Result<Url, Failure> {
        let base = self.url(scheme)?;
        let url = base.join("/v2/").expect("a constant path");
        let call = Call::new(Method::GET, Target::Url(url.clone()), Access::None, format!("reach {}", self.host));
        let response = self.exchange(&call, url, Payload::Nothing).await?;
        match response.status() {
            // What TLS servers answer to plain requests.
            StatusCode::BAD_REQUEST => Err(response.refusal().await),
            _ => {
                self.inform(&response)?;
                Ok(base)
            }
        }
    }

    fn url(&self, scheme: &str) -> Result<Url, Failure> {
        let authority = self.host.contacted();
        Url::parse(&format!("{scheme}://{authority}/"))
            .map_err(|e| Failure::lasting(Error::registry(format!("{} cannot be contacted", self.host)).caused_by(e)))
    }
}

impl Call {
    /// A request; `what` says what it is for, so that it can stand after `cannot `.
    pub(super) fn new(method: Method, target: Target, access: Access, what: impl Into<String>) -> Self {
        Call { method, target, access, what: what.into(), headers: HeaderMap::new(), patience: None, turn: Turn::Waits }
    }

    /// GET below `/v2/`.
    pub(super) fn get(path: String, access: Access, what: impl Into<String>) -> Self {
        Call::new(Method::GET, Target::Path(path), access, what)
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        // Everything that is put here is made of digests, numbers and media types.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Asks for manifests and indexes; schema 1 too, so that it is refused by name and not as missing.
    pub(super) fn accept_documents(self) -> Self {
        let types: Vec<&str> = MediaType::DOCUMENTS.into_iter().chain(MediaType::DOCKER_SCHEMA1).collect();
        self.header(ACCEPT, &types.join(", "))
    }

    /// How long the answer may take once everything is sent.
    pub(super) fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    pub(super) fn what(&self) -> &str {
        &self.what
    }

    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    /// The same request with what the registry wants to see.
    pub(super) fn showing(&self, authorization: Option<HeaderValue>) -> Self {
        let mut call = self.clone();
        if let Some(authorization) = authorization {
            call.headers.insert(AUTHORIZATION, authorization);
        }
        call
    }

    /// It goes on with a body of which a part has been handed on.
    pub(super) fn goes_on(mut self) -> Self {
        self.turn = Turn::GoesOn;
        self
    }

    /// The same request to where a redirect points.
    pub(super) fn redirected(&self, url: Url) -> Self {
        Call { target: Target::Url(url), ..self.clone() }
    }
}

impl Access {
    /// Whose credentials are shown: those of the repository that is written to, or read.
    pub(super) fn repository(&self) -> Option<&Repository> {
        match self {
            Access::None => None,
            Access::Pull(repository) | Access::Push(repository) | Access::Mount { to: repository, .. } => {
                Some(repository)
            }
        }
    }

    /// The scopes of a token for it (distribution's token specification).
    pub(super) fn scopes(&self) -> Vec<String> {
        let scope = |repository: &Repository, actions: &str| format!("repository:{repository}:{actions}");
        match self {
            Access::None => vec![],
            Access::Pull(repository) => vec![scope(repository, "pull")],
            Access::Push(repository) => vec![scope(repository, "pull,push")],
            Access::Mount { to, from } => vec![scope(to, "pull,push"), scope(from, "pull")],
        }
    }
}

impl Payload {
    /// The same once more; nothing for a stream, which can be sent once.
    pub(super) fn copy(&self) -> Option<Payload> {
        match self {
            Payload::Nothing => Some(Payload::Nothing),
            Payload::Bytes(bytes) => Some(Payload::Bytes(bytes.clone())),
            Payload::Stream { .. } => None,
        }
    }
}

impl Response {
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

    /// Who answered in the end.
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
                &self.host,
                format!("{} without a usable Location, when asked to {}", self.status(), self.what),
            )
        })
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
        let (status, host, what) = (self.status(), self.host.clone(), self.what.clone());
        let pause = pause(&self.inner);
        let body = self.body(MAX_ERROR).await.unwrap_or_default();
        fault::status(&what, &host, status, &body, retry::after_status(status, pause))
    }

    /// The next piece of the body.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let failed = |failure: Failure| failure.context(format!("cannot {}", self.what));
        let chunk = tokio::time::timeout(self.read_timeout, self.inner.chunk())
            .await
            .map_err(|_| failed(fault::timeout(&self.host, self.read_timeout.as_secs())))?
            .map_err(|error| failed(fault::transport(Route::later(&self.host), error)))?;
        if let (Some(chunk), Some(rate)) = (&chunk, &self.rate) {
            rate.take(chunk.len()).await;
        }
        Ok(chunk)
    }

    /// The whole body, of at most `limit` bytes.
    pub(super) async fn body(mut self, limit: u64) -> Result<Bytes, Failure> {
        let too_long = |response: &Response| {
            let what = format!("more than {limit} bytes, when asked to {}", response.what);
            Failure::new(fault::protocol(&response.host, what), Again::Never)
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

const MAX_REDIRECTS: usize = 10;
/// The most that is read of an error's body, 64 KiB.
const MAX_ERROR: u64 = 64 << 10;
/// Bytes in memory are sent in pieces of 256 KiB, so that it is seen whether they move.
const SLICE: usize = 256 << 10;

/// The pause that an answer asks for.
fn pause(response: &reqwest::Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    header::retry_after(text, jiff::Timestamp::now())
}

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

fn sliced(bytes: Bytes) -> Chunks {
    let slices = (0..bytes.len()).step_by(SLICE).map(move |at| Ok(bytes.slice(at..bytes.len().min(at + SLICE))));
    stream::iter(slices).boxed()
}
