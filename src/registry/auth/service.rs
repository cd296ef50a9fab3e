//! A token service: asked by GET with a password or as nobody (distribution's token specification), or by POST with
//! an identity token (its OAuth2 variant).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use super::scopes::Scopes;
use super::{basic, bearer, refused, wants_a_login};
use crate::content::Allowance;
use crate::credentials::{Credential, Secret};
use crate::error::Error;
use crate::oci::Host;
use crate::registry::http::error::{self, FirstContact, RefusedRequest, RequestRoute};
use crate::registry::http::header;
use crate::registry::http::limits::{ConcurrencyLimiter, Direction, Priority};
use crate::registry::http::redirect::Zone;
use crate::registry::http::response;
use crate::registry::http::retry::AttemptError;
use crate::registry::http::server::RemoteServer;
use crate::registry::http::settings::{Settings, Tls};
use crate::registry::http::transport::Transport;

/// Where tokens for a registry are to be had.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct TokenService {
    realm: Url,
    service: Option<String>,
}

/// A token, ready to be sent.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) header: HeaderValue,
    good_until: Instant,
}

/// Why there is no token.
pub(super) enum NoToken {
    /// The service refuses the login, whatever the token is for.
    Login(Error),
    /// This request failed.
    Request(AttemptError),
}

/// Everything else that one request for a token needs.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) registry: &'a Host,
    pub(super) http: &'a Transport,
    pub(super) settings: &'a Settings,
    /// Of the token service: it may have limits of its own.
    pub(super) gate: &'a Arc<ConcurrencyLimiter>,
    pub(super) credential: Option<&'a Credential>,
    pub(super) scopes: &'a Scopes,
}

impl Asking<'_> {
    /// The HTTP client for this place; it may need the certificates of its host.
    fn client(&self, url: &Url) -> Result<reqwest::Client, AttemptError> {
        let client = self.http.client(self.registry, Zone::Private, url);
        client.map_err(|refused| {
            AttemptError::permanent(refused.context(format!("cannot get a token for {}", self.registry)))
        })
    }
}

impl TokenService {
    /// The service that `registry` names in its challenge. What it may be is limited, for it is sent passwords: HTTPS
    /// unless nothing is verified, plain HTTP only on this machine for a registry on this machine.
    ///
    /// # Errors
    /// `Registry` when the realm is not acceptable.
    pub(super) fn new(registry: &Host, tls: Tls, realm: &str, service: Option<String>) -> Result<TokenService, Error> {
        let fault = |what: &str| {
            Error::registry(format!("{registry} sends logins to a token service that {what}: {}", error::clip(&shown(realm))))
                .hint("the registry's configuration (its token realm) must be mended, or something in between alters its answers")
        };
        let mut url = Url::parse(realm).map_err(|_| fault("is not a URL"))?;
        if !url.username().is_empty() || url.password().is_some() || !url.has_host() {
            return Err(fault("is not a plain URL"));
        }
        let here = || host_of(&url).is_some_and(|host| host.is_loopback()) && registry.is_loopback();
        match url.scheme() {
            "https" => {}
            "http" if tls == Tls::Unverified || here() => {}
            "http" => return Err(plain_http(registry, &url)),
            _ => return Err(fault("is not a web address")),
        }
        url.set_fragment(None);
        Ok(TokenService { realm: url, service })
    }

    /// Whether both are at the same scheme, host and port.
    pub(super) fn is_at_the_host_of(&self, other: &TokenService) -> bool {
        self.realm.origin() == other.realm.origin()
    }

    /// Whether it is at this registry's own host and port.
    pub(super) fn is_at(&self, registry: &Host) -> bool {
        let own = Url::parse(&format!("{}://{}/", self.realm.scheme(), registry.contacted()));
        own.is_ok_and(|own| own.origin() == self.realm.origin())
    }

    /// Asks for one token.
    pub(super) async fn token(&self, asking: &Asking<'_>) -> Result<Token, NoToken> {
        let asked_at = Instant::now();
        let mut response = match asking.credential {
            Some(Credential::IdentityToken { token, .. }) => {
                let answer = self.send(asking, self.exchange(asking, token)?).await?;
                // Not every service knows the OAuth2 variant; those take the same token as a password.
                match answer.status() {
                    StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => self.get(asking).await?,
                    _ => answer,
                }
            }
            _ => self.get(asking).await?,
        };
        if response.status() == StatusCode::OK {
            let body = self.body(asking, &mut response, MAX_ANSWER).await?;
            return Ok(self.read(asking, &body, asked_at)?);
        }
        Err(self.refusal(asking, response).await)
    }

    /// Asks for a token without a scope, as `docker login` does, to learn whether the service accepts the login. The
    /// answer to other requests does not always tell: Harbor gives a token without rights to a wrong password
    /// (goharbor/harbor#15605), and others answer 403 both to that and to a login without rights in one repository.
    ///
    /// Returns whether it does; an answer that decides nothing counts as no.
    ///
    /// # Errors
    /// `Login` if the service refuses the login.
    pub(super) async fn check_login(&self, asking: &Asking<'_>) -> Result<bool, NoToken> {
        let asking = Asking { scopes: &Scopes::default(), ..*asking };
        let mut response = self.get(&asking).await?;
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => match self.refusal(&asking, response).await {
                NoToken::Login(error) => Err(NoToken::Login(error)),
                NoToken::Request(failure) => Err(NoToken::Login(failure.into_error())),
            },
            status => {
                // Read to its end, the answer leaves its connection to the next request.
                let _ = self.body(&asking, &mut response, MAX_ANSWER).await;
                Ok(status == StatusCode::OK)
            }
        }
    }

    /// What an answer that is not 200 means.
    async fn refusal(&self, asking: &Asking<'_>, mut response: reqwest::Response) -> NoToken {
        let status = response.status();
        let pause = response::pause(response.headers());
        let body = self.body(asking, &mut response, MAX_ERROR).await.unwrap_or_default();
        let peer = &self.peer(asking);
        let why = RefusedRequest { what: "get a token", writes: false, peer, status, body: &body, pause }.failure();
        let because = |error: Error, why: AttemptError| error.caused_by(why.into_error().flattened());
        match (status, asking.credential) {
            // RFC 6749, section 5.2: a refresh token that is not valid is a bad request.
            (StatusCode::BAD_REQUEST, Some(credential @ Credential::IdentityToken { .. }))
                if error_code(&body).as_deref() != Some("invalid_scope") =>
            {
                NoToken::Login(because(refused(asking.registry, credential), why))
            }
            (StatusCode::UNAUTHORIZED, Some(credential)) => {
                NoToken::Login(because(refused(asking.registry, credential), why))
            }
            // The login may have a right to other repositories.
            (StatusCode::FORBIDDEN, Some(credential)) => {
                NoToken::Request(AttemptError::permanent(because(refused(asking.registry, credential), why)))
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, None) => {
                NoToken::Request(AttemptError::permanent(because(wants_a_login(asking.registry), why)))
            }
            _ => NoToken::Request(why),
        }
    }

    /// GET with the password, or the identity token in its place, or as nobody.
    async fn get(&self, asking: &Asking<'_>) -> Result<reqwest::Response, AttemptError> {
        let mut url = self.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = &self.service {
                query.append_pair("service", service);
            }
            for scope in asking.scopes.texts() {
                query.append_pair("scope", &scope);
            }
            if let Some(Credential::Login { user, .. }) = asking.credential {
                query.append_pair("account", user);
            }
        }
        let header = match asking.credential {
            Some(Credential::Login { user, password }) => Some(basic(user, password)),
            Some(Credential::IdentityToken { user, token, .. }) => Some(basic(user, token)),
            _ => None,
        };
        for _ in 0..=MAX_REDIRECTS {
            tracing::debug!(url = header::public(&url), scopes = ?asking.scopes, "token request");
            let mut request = asking.client(&url)?.get(url.clone());
            if let Some(header) = &header {
                request = request.header(AUTHORIZATION, header.clone());
            }
            let response = self.send(asking, request).await?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let next = response.headers().get(reqwest::header::LOCATION).and_then(|text| text.to_str().ok());
            // A password goes to the place that the registry has named and no further.
            url = next
                .and_then(|next| header::location(&url, next))
                .filter(|next| next.origin() == url.origin())
                .ok_or_else(|| {
                    AttemptError::permanent(error::protocol(self.peer(asking), "it redirects to another host"))
                })?;
        }
        Err(AttemptError::permanent(error::protocol(self.peer(asking), "it redirects in a circle")))
    }

    /// POST with the identity token.
    fn exchange(&self, asking: &Asking<'_>, token: &Secret) -> Result<RequestBuilder, AttemptError> {
        tracing::debug!(url = header::public(&self.realm), scopes = ?asking.scopes, "token request by identity token");
        let scopes: Vec<String> = asking.scopes.texts().collect();
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT_ID);
        form.append_pair("service", self.service.as_deref().unwrap_or_default());
        if !scopes.is_empty() {
            form.append_pair("scope", &scopes.join(" "));
        }
        form.append_pair("refresh_token", token.expose());
        let request = asking.client(&self.realm)?.post(self.realm.clone());
        Ok(request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.finish()))
    }

    async fn send(&self, asking: &Asking<'_>, request: RequestBuilder) -> Result<reqwest::Response, AttemptError> {
        let peer = self.peer(asking);
        let route = RequestRoute { peer: &peer, proxy: asking.http.proxy(&self.realm), first: FirstContact::No };
        let limit = asking.settings.connect_timeout + asking.settings.read_timeout;
        let failed = |failure: AttemptError| failure.context(format!("cannot get a token for {}", asking.registry));
        Allowance::take().map_err(AttemptError::permanent)?;
        let permit = asking.gate.enter(Direction::Read, Priority::Waits).await;
        let sent = tokio::time::timeout(limit, request.send())
            .await
            .map_err(|_| failed(error::timeout(&peer, limit.as_secs())))?;
        let response = match sent {
            Ok(response) => response,
            Err(error) => return Err(failed(asking.http.failure(asking.registry, route, &self.realm, error).await)),
        };
        match response.status() {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                permit.refused(response::pause(response.headers()));
            }
            _ => permit.answered(),
        }
        response::check_head(&peer, response.headers()).map_err(failed)?;
        Ok(response)
    }

    async fn body(
        &self,
        asking: &Asking<'_>,
        response: &mut reqwest::Response,
        limit: usize,
    ) -> Result<Vec<u8>, AttemptError> {
        let peer = self.peer(asking);
        let limit_of_time = asking.settings.read_timeout;
        let (mut body, until) = (Vec::new(), Instant::now().checked_add(asking.settings.stall_timeout));
        loop {
            if until.is_some_and(|until| Instant::now() > until) {
                return Err(error::too_slow(&peer, asking.settings.stall_timeout));
            }
            let chunk = tokio::time::timeout(limit_of_time, response.chunk())
                .await
                .map_err(|_| error::timeout(&peer, limit_of_time.as_secs()))?
                .map_err(|error| error::transport(RequestRoute::later(&peer), error, None))?;
            let Some(chunk) = chunk else { return Ok(body) };
            if body.len() + chunk.len() > limit {
                let what = format!("it answers with more than {limit} bytes");
                return Err(AttemptError::permanent(error::protocol(&peer, what)));
            }
            body.extend_from_slice(&chunk);
        }
    }

    fn read(&self, asking: &Asking<'_>, body: &[u8], asked_at: Instant) -> Result<Token, AttemptError> {
        let fault = |what: &str| AttemptError::permanent(error::protocol(self.peer(asking), format!("it {what}")));
        // Not a typed reader, whose complaint could repeat the token.
        let answer: Value = serde_json::from_slice(body).map_err(|_| fault("does not answer in JSON"))?;
        let field = |name: &str| answer.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let token = field("token").or_else(|| field("access_token")).ok_or_else(|| fault("gives no token"))?;
        if token.len() > MAX_TOKEN {
            return Err(fault(&format!("gives a token of more than {MAX_TOKEN} bytes")));
        }
        let header = bearer(token).ok_or_else(|| fault("gives a token that cannot be sent"))?;
        let seconds = match answer.get("expires_in") {
            Some(Value::Number(number)) => number.as_f64().unwrap_or_default(),
            Some(Value::String(text)) => text.parse().unwrap_or_default(),
            _ => 0.0,
        };
        Ok(Token { header, good_until: asked_at + good_for(seconds) })
    }

    /// Who answers there.
    fn peer(&self, asking: &Asking<'_>) -> RemoteServer {
        RemoteServer::tokens(&self.realm, asking.registry)
    }
}

impl From<AttemptError> for NoToken {
    fn from(failure: AttemptError) -> Self {
        NoToken::Request(failure)
    }
}

impl Token {
    /// Whether it can still be used.
    pub(super) fn is_good(&self) -> bool {
        Instant::now() < self.good_until
    }
}

impl fmt::Debug for TokenService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {:?}", header::public(&self.realm), self.service.as_deref().unwrap_or_default())
    }
}

/// For messages: the realm without what may be secret, and the service's name.
impl fmt::Display for TokenService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&error::clip(&header::public(&self.realm)))?;
        match self.service.as_deref() {
            Some(service) if !service.is_empty() => write!(f, " (service {:?})", error::clip(service)),
            _ => Ok(()),
        }
    }
}

/// How long a token is used that is valid for `seconds`: a quarter less (at most 30 s), for the way to the server and
/// clocks that differ; 60 s where the service does not say (distribution's token specification).
fn good_for(seconds: f64) -> Duration {
    let seconds = if seconds.is_finite() && seconds > 0.0 { seconds.min(MAX_LIFE) } else { DEFAULT_LIFE };
    Duration::from_secs_f64(seconds - (seconds / 4.0).min(30.0))
}

/// A token service that a password would reach in the clear.
fn plain_http(registry: &Host, realm: &Url) -> Error {
    let realm = error::clip(&header::public(realm));
    Error::registry(format!(
        "{registry} names a token service over plain HTTP, {realm}, and no login is sent there: others could read it on \
         the way"
    ))
    .hint(format!("have whoever runs {registry} give its token service (realm) an https:// address"))
    .hint("--tls-verify=false allows plain HTTP, where the network itself is trusted")
}

/// The `error` of an answer (RFC 6749, section 5.2).
fn error_code(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    Some(answer.get("error")?.as_str()?.to_owned())
}

fn host_of(url: &Url) -> Option<Host> {
    let host = url.host_str()?;
    let text = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    text.parse().ok()
}

/// A realm for a message: without query, user and password.
fn shown(realm: &str) -> String {
    Url::parse(realm).map_or_else(|_| "(unreadable)".to_owned(), |url| header::public(&url))
}

const CLIENT_ID: &str = "sealift";
/// The most that is read of an answer, 64 KiB.
const MAX_ANSWER: usize = 64 << 10;
/// The longest token, 16 KiB: twice what nginx takes in one line of a request's head (large_client_header_buffers), and
/// Apache in a field (LimitRequestFieldSize).
const MAX_TOKEN: usize = 16 << 10;
const MAX_ERROR: usize = 64 << 10;
const MAX_REDIRECTS: usize = 3;
const DEFAULT_LIFE: f64 = 60.0;
/// A day, in seconds.
const MAX_LIFE: f64 = 86_400.0;

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("reg.io", Tls::Verified, "https://auth.io/token?x=1", true)]
    #[case("reg.io", Tls::Verified, "http://auth.io/token", false)]
    #[case("reg.io", Tls::Unverified, "http://auth.io/token", true)]
    #[case("reg.io", Tls::Verified, "http://127.0.0.1/token", false)]
    #[case("127.0.0.1:5000", Tls::Verified, "http://127.0.0.1:5001/token", true)]
    #[case("127.0.0.1:5000", Tls::Verified, "http://auth.io/token", false)]
    #[case("reg.io", Tls::Unverified, "ftp://auth.io/token", false)]
    #[case("reg.io", Tls::Unverified, "/token", false)]
    #[case("reg.io", Tls::Unverified, "https://planted:planted@auth.io/token", false)]
    fn a_login_is_not_sent_just_anywhere(
        #[case] registry: &str,
        #[case] tls: Tls,
        #[case] realm: &str,
        #[case] good: bool,
    ) {
        let service = TokenService::new(&registry.parse().unwrap(), tls, realm, None);
        assert_eq!(service.is_ok(), good);
        assert!(!format!("{:?}", service.err()).contains("planted"));
    }

    #[test]
    fn a_token_is_given_up_before_it_expires() {
        assert_eq!(good_for(1.0), Duration::from_millis(750));
        assert_eq!(good_for(0.0), Duration::from_secs(45));
        assert_eq!(good_for(f64::NAN), Duration::from_secs(45));
        assert_eq!(good_for(300.0), Duration::from_secs(270));
        assert_eq!(good_for(1e300), Duration::from_secs(86_370));
    }
}
