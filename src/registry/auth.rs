//! Logging in to one registry: which way it wants (its challenge), with what (the credentials that are found for it),
//! and the tokens that come of it.
//!
//! Tokens are kept by service and scopes, and asked for by one asker while the others wait. What is secret goes to the
//! registry's own endpoint, or to the token service that it named; who sends requests must see to the former
//! (`admission`). A login that is refused is an error, and never replaced by asking as nobody.

mod challenge;
mod scopes;
mod service;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

pub use challenge::{Challenge, parse_challenges};
use scopes::Scopes;
use service::{Asking, NoToken, Token, TokenService};

use super::Settings;
use super::http::call::{Access, Call};
use super::http::limits::{ConcurrencyLimiter, Priority};
use super::http::retry::AttemptError;
use super::http::run_state::Trial;
use super::http::transport::Transport;
use crate::credentials::{Credential, Secret};
use crate::error::Error;
use crate::oci::{Host, Repository};
use crate::text::secrets;

/// The logins for one registry.
pub(crate) struct Auth {
    host: Host,
    http: Arc<Transport>,
    settings: Arc<Settings>,
    way: Mutex<Option<AuthScheme>>,
    root_asks: AtomicBool,
    /// Whether a warning was given of another token service.
    is_change_told: AtomicBool,
    credentials: tokio::sync::Mutex<HashMap<Option<Repository>, Option<Credential>>>,
    tokens: Mutex<HashMap<(TokenService, Scopes), Slot>>,
    /// Of the token service.
    gate: Arc<ConcurrencyLimiter>,
    /// Where a registry asks for other scopes than a request's own.
    asked: Mutex<HashMap<Scopes, Scopes>>,
}

/// What is shown with one request.
#[derive(Debug)]
pub(super) struct Authorization {
    /// Nothing: as nobody, without a token.
    pub(super) header: Option<HeaderValue>,
    credential: Option<Credential>,
    /// Where the header is the credential itself: held until the registry has answered.
    trial: Option<Trial>,
}

/// What a 401 comes to.
pub(super) enum AuthOutcome {
    /// Another try with this is worth it.
    Again(Authorization),
    /// It is meant.
    Refused(Authorization),
}

/// The way in that the registry wants.
#[derive(Debug, Clone, PartialEq, Eq)]
enum AuthScheme {
    /// It has not asked for anything so far.
    Open,
    Basic,
    Bearer(TokenService),
    /// None that is known here.
    Unknown(String),
}

/// One token: whoever needs it holds the lock while it is asked for.
type Slot = Arc<tokio::sync::Mutex<Held>>;

#[derive(Default)]
enum Held {
    #[default]
    Nothing,
    Token(Token),
    /// It was refused, and asking once more would only lock the account.
    Refused(Error),
}

impl Auth {
    pub(super) fn new(host: Host, http: Arc<Transport>, settings: Arc<Settings>) -> Self {
        let gate = Arc::new(ConcurrencyLimiter::new(settings.jobs, settings.retry.delay));
        Auth {
            host,
            http,
            settings,
            gate,
            way: Mutex::default(),
            root_asks: AtomicBool::default(),
            is_change_told: AtomicBool::default(),
            credentials: tokio::sync::Mutex::default(),
            tokens: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    /// Whether the registry has been heard about how it wants to be logged in to.
    pub(super) fn is_informed(&self) -> bool {
        lock(&self.way).is_some()
    }

    /// Takes in whether `GET /v2/` wants a login.
    pub(super) fn note_root(&self, asks: bool) {
        self.root_asks.store(asks, Ordering::Relaxed);
    }

    /// Whether a login is to be shown to `GET /v2/` first, as `docker login` does. It was not accepted so far, and the
    /// answer about a repository does not tell enough: some registries answer 401 to a right login for what is not there
    /// (earthly/earthly#1017).
    pub(super) fn is_to_be_checked(&self, pass: &Authorization) -> bool {
        let is_login = matches!(pass.credential, Some(Credential::Login { .. }));
        is_login && self.root_asks.load(Ordering::Relaxed) && pass.trial.as_ref().is_some_and(Trial::is_first)
    }

    /// Whether the registry wants a login, in a way that is known here.
    pub(super) fn asks(&self) -> bool {
        matches!(*lock(&self.way), Some(AuthScheme::Basic | AuthScheme::Bearer(_)))
    }

    /// Takes in what an answer of the registry's own endpoint says: its challenges, if it was a 401.
    pub(super) fn learn(&self, challenges: Option<&[Challenge]>) -> Result<(), AttemptError> {
        let way = match challenges {
            None => AuthScheme::Open,
            Some(challenges) => self.choose(challenges).map_err(AttemptError::permanent)?,
        };
        let mut known = lock(&self.way);
        let change = self.realm_change(known.as_ref(), &way).map_err(AttemptError::permanent)?;
        if let Some(warning) = change.filter(|_| !self.is_change_told.swap(true, Ordering::Relaxed)) {
            self.settings.run.warn_once(&*self.settings.progress, &warning);
        }
        // `/v2/` may be open where the rest is not, and a 401 by something in between names no way.
        let better = match way {
            AuthScheme::Basic | AuthScheme::Bearer(_) => true,
            AuthScheme::Unknown(_) => matches!(*known, None | Some(AuthScheme::Open)),
            AuthScheme::Open => known.is_none(),
        };
        if better {
            tracing::debug!(host = self.host.as_str(), ?way, "way to log in");
            *known = Some(way);
        }
        Ok(())
    }

    /// What to say when logins go to another token service than before in this run, if anything.
    ///
    /// # Errors
    /// `Registry` for a token service at another host: whoever answers in the registry's place would be sent the login.
    fn realm_change(&self, before: Option<&AuthScheme>, now: &AuthScheme) -> Result<Option<String>, Error> {
        let AuthScheme::Bearer(service) = now else { return Ok(None) };
        let host = &self.host;
        let (was, is_same_host) = match before {
            Some(AuthScheme::Bearer(known)) if known == service => return Ok(None),
            Some(AuthScheme::Bearer(known)) => (format!("to {known}"), known.is_at_the_host_of(service)),
            // So far the registry itself was sent the password.
            Some(AuthScheme::Basic) => ("to itself".to_owned(), service.is_at(host)),
            None | Some(AuthScheme::Open | AuthScheme::Unknown(_)) => return Ok(None),
        };
        if !is_same_host {
            return Err(Error::registry(format!(
                "{host} sent logins {was}, and now sends them to another host, {service}: no login is sent there"
            ))
            .hint(format!("ask whoever runs {host} whether its token service (realm) was moved"))
            .hint("if it was, run the same command again: a run keeps to the token service that it found first"));
        }
        Ok(Some(format!("{host} sent logins {was}, and now sends them to {service}")))
    }

    /// What to show for `access`; a token is asked for if there is none that is good.
    pub(super) async fn pass(&self, access: &Access) -> Result<Authorization, AttemptError> {
        self.pass_unlike(access, None).await
    }

    /// What to do after a 401 to a request that showed `shown`.
    pub(super) async fn handle_unauthorized(
        &self,
        access: &Access,
        mut shown: Authorization,
        challenges: &[Challenge],
    ) -> Result<AuthOutcome, AttemptError> {
        self.learn(Some(challenges))?;
        let wanted = Scopes::of(access.scopes());
        let mut all = wanted.clone();
        for challenge in challenges {
            if let Challenge::Bearer { scopes, .. } = challenge {
                all.add(scopes);
            }
        }
        if all != wanted {
            bounded(&mut lock(&self.asked), MAX_KEPT).insert(wanted, all);
        }
        let by_token = matches!(*lock(&self.way), Some(AuthScheme::Bearer(_)));
        let given = matches!(shown.credential, Some(Credential::RegistryToken(_)));
        // A password and a token that the user gave stay the same; what a token service gives is renewed.
        if shown.trial.is_some() && (given || !by_token) {
            return Ok(AuthOutcome::Refused(shown));
        }
        shown.trial = None;
        let pass = self.pass_unlike(access, shown.header.as_ref()).await?;
        match pass.header.is_some() && pass.header != shown.header {
            true => Ok(AuthOutcome::Again(pass)),
            false => Ok(AuthOutcome::Refused(shown)),
        }
    }

    /// Why a 401 is final; `words` are the registry's own. A credential that the registry refuses is not shown again.
    pub(super) fn refusal(&self, shown: Authorization, challenges: &[Challenge], words: &str) -> Error {
        let says = |wanted: &str| {
            let errors = challenges.iter().filter_map(|challenge| match challenge {
                Challenge::Bearer { error, .. } => error.as_deref(),
                _ => None,
            });
            errors.into_iter().any(|error| error == wanted)
        };
        let error = match (&shown.credential, &*lock(&self.way)) {
            (_, Some(AuthScheme::Unknown(ways))) => Error::registry(format!("{} wants a login by {ways}", self.host))
                .hint("sealift logs in with user and password (Basic) or by a token service (Bearer)"),
            (None, _) => wants_a_login(&self.host),
            (Some(credential), _) if says("insufficient_scope") => {
                Error::registry(format!("{} may not do this at {}", credential.who(), self.host))
                    .hint("ask whoever runs the registry for the right to do it, or log in as somebody who has it")
            }
            (Some(credential), _) => refused(&self.host, credential),
        };
        let error = quoting(error, words);
        let refused = match shown.credential {
            // It may be good for another repository.
            Some(Credential::RegistryToken(_)) => says("invalid_token"),
            _ => !says("insufficient_scope"),
        };
        if let Some(mut trial) = shown.trial.filter(|_| refused) {
            trial.refused(&error);
        }
        error
    }

    /// As [`Auth::pass`], but never with a token that was just refused.
    async fn pass_unlike(&self, access: &Access, refused: Option<&HeaderValue>) -> Result<Authorization, AttemptError> {
        let credential = self.credential(access.repository()).await?;
        let way = lock(&self.way).clone();
        let mut trial = None;
        let header = match (way, &credential) {
            (_, Some(given @ Credential::RegistryToken(token))) => {
                let header = bearer(token.expose()).ok_or_else(|| {
                    AttemptError::permanent(Error::usage("the registry token has characters that no token has"))
                })?;
                trial = Some(self.trial(given).await?);
                Some(header)
            }
            (Some(AuthScheme::Basic), Some(login @ Credential::Login { user, password })) => {
                trial = Some(self.trial(login).await?);
                Some(basic(user, password))
            }
            (Some(AuthScheme::Basic), Some(Credential::IdentityToken { user, password: Some(password), .. })) => {
                let login = Credential::Login { user: user.clone(), password: password.clone() };
                trial = Some(self.trial(&login).await?);
                Some(basic(user, password))
            }
            (Some(AuthScheme::Basic), Some(Credential::IdentityToken { .. })) => {
                return Err(AttemptError::permanent(
                    Error::registry(format!(
                        "{} wants user and password, and there is only an identity token",
                        self.host
                    ))
                    .hint(format!("log in: sealift login {}", self.host)),
                ));
            }
            (Some(AuthScheme::Bearer(service)), credential) => {
                Some(self.token(service, access, credential.as_ref(), refused).await?)
            }
            _ => None,
        };
        Ok(Authorization { header, credential, trial })
    }

    /// Waits until the credential may be sent.
    async fn trial(&self, credential: &Credential) -> Result<Trial, AttemptError> {
        self.settings.run.trial(&self.host, credential).await.map_err(AttemptError::permanent)
    }

    async fn token(
        &self,
        service: TokenService,
        access: &Access,
        credential: Option<&Credential>,
        refused: Option<&HeaderValue>,
    ) -> Result<HeaderValue, AttemptError> {
        let wanted = Scopes::of(access.scopes());
        let scopes = lock(&self.asked).get(&wanted).cloned().unwrap_or(wanted);
        let slot =
            bounded(&mut lock(&self.tokens), MAX_KEPT).entry((service.clone(), scopes.clone())).or_default().clone();
        let mut held = slot.lock().await;
        match &*held {
            Held::Token(token) if token.is_good() && refused != Some(&token.header) => return Ok(token.header.clone()),
            Held::Refused(error) => return Err(AttemptError::permanent(error.flattened())),
            _ => {}
        }
        let asking = Asking {
            registry: &self.host,
            http: &self.http,
            settings: &self.settings,
            gate: &self.gate,
            credential,
            scopes: &scopes,
        };
        match self.ask(&service, &asking).await {
            Ok(token) => {
                let header = token.header.clone();
                *held = Held::Token(token);
                Ok(header)
            }
            Err(NoToken::Login(error)) => {
                *held = Held::Refused(error.flattened());
                Err(AttemptError::permanent(error))
            }
            Err(NoToken::Request(failure)) => {
                *held = match failure.is_temporary() {
                    true => Held::Nothing,
                    false => Held::Refused(failure.error().flattened()),
                };
                Err(failure)
            }
        }
    }

    /// Asks for a token. A login that was not accepted before is checked first, and others that need it wait.
    async fn ask(&self, service: &TokenService, asking: &Asking<'_>) -> Result<Token, NoToken> {
        let Some(credential) = asking.credential else { return service.token(asking).await };
        let mut trial = self.trial(credential).await?;
        let is_checked = matches!(credential, Credential::Login { .. }) && !asking.scopes.is_empty();
        let answer = async {
            if trial.is_first() && is_checked && service.check_login(asking).await? {
                trial.accepted();
            }
            service.token(asking).await
        };
        let answer = answer.await;
        match &answer {
            Ok(_) => trial.accepted(),
            Err(NoToken::Login(error)) => trial.refused(error),
            Err(NoToken::Request(_)) => {}
        }
        answer
    }

    async fn credential(&self, repository: Option<&Repository>) -> Result<Option<Credential>, AttemptError> {
        let key = repository.cloned();
        let mut known = self.credentials.lock().await;
        if let Some(found) = known.get(&key) {
            return Ok(found.clone());
        }
        let (lookup, host, wanted) = (self.settings.credentials.clone(), self.host.clone(), key.clone());
        // A helper may take its time.
        let found = tokio::task::spawn_blocking(move || lookup.find(&host, wanted.as_ref())).await;
        for warning in self.settings.credentials.take_warnings() {
            self.settings.run.warn_once(&*self.settings.progress, &warning);
        }
        let found = found
            .map_err(|_| AttemptError::permanent(Error::registry("the search for credentials was ended")))?
            .map_err(|error| AttemptError::permanent(error.context(format!("cannot log in to {}", self.host))))?;
        bounded(&mut known, MAX_KEPT).insert(key, found.clone());
        Ok(found)
    }

    /// The first way that is known, a token before a password.
    fn choose(&self, challenges: &[Challenge]) -> Result<AuthScheme, Error> {
        for challenge in challenges {
            if let Challenge::Bearer { realm, service, .. } = challenge {
                return TokenService::new(&self.host, self.settings.tls, realm, service.clone())
                    .map(AuthScheme::Bearer);
            }
        }
        if challenges.contains(&Challenge::Basic) {
            return Ok(AuthScheme::Basic);
        }
        let others = challenges.iter().filter_map(|challenge| match challenge {
            Challenge::Other(name) => Some(super::http::error::clip(name)),
            _ => None,
        });
        let others = others.collect::<Vec<_>>().join(", ");
        Ok(AuthScheme::Unknown(if others.is_empty() { "a way that it does not name".to_owned() } else { others }))
    }
}

impl Authorization {
    /// `call` as it is sent with this.
    pub(super) fn shown_by(&self, call: &Call) -> Call {
        let call = call.with_authorization(self.header.clone());
        match &self.trial {
            // Others wait for the answer, perhaps one that holds a place among the requests under way.
            Some(trial) if trial.is_first() => call.turn(Priority::GoesOn),
            _ => call,
        }
    }

    /// Takes in the registry's answer, which is not 401.
    pub(super) fn answered(&mut self, status: StatusCode) {
        let undecided =
            matches!(status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS) || status.is_server_error();
        if let Some(trial) = self.trial.as_mut().filter(|_| !undecided) {
            trial.accepted();
        }
    }
}

/// The error with the server's own words behind it.
fn quoting(error: Error, words: &str) -> Error {
    if words.is_empty() { error } else { error.caused_by(std::io::Error::other(words.to_owned())) }
}

/// A login that a registry or its token service does not take.
fn refused(host: &Host, credential: &Credential) -> Error {
    let hint = match credential {
        Credential::Login { .. } => format!("check user and password and log in again: sealift login {host}"),
        Credential::IdentityToken { .. } => format!("it may have expired: log in again: sealift login {host}"),
        Credential::RegistryToken(_) => "it may have expired, or be good for another repository: get a new one".into(),
    };
    Error::registry(format!("{} was refused by {host}", credential.who())).hint(hint)
}

/// A registry that does not answer nobody.
fn wants_a_login(host: &Host) -> Error {
    Error::registry(format!("{host} wants a login, and none is known for it"))
        .hint(format!(
            "log in: sealift login {host}; or give the login by --authfile, or --username with --password-stdin"
        ))
        .hint("some registries ask for a login, too, when the repository does not exist")
}

/// `Basic` with user and password.
fn basic(user: &str, password: &Secret) -> HeaderValue {
    // An identity token takes the place of a password at some services.
    secrets::remember_login(user, password.expose());
    let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&text).expect("base64 can stand in a header");
    value.set_sensitive(true);
    value
}

/// `Bearer` with a token, if that can stand in a header.
fn bearer(token: &str) -> Option<HeaderValue> {
    token.bytes().all(|c| c.is_ascii_graphic()).then_some(())?;
    secrets::remember_token(token);
    let text = Zeroizing::new(format!("Bearer {token}"));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The map itself, emptied when it has grown to `most`: what was in it is found again.
fn bounded<K, V>(map: &mut HashMap<K, V>, most: usize) -> &mut HashMap<K, V> {
    if map.len() >= most {
        map.clear();
    }
    map
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tokens and credentials of so many repositories are kept.
const MAX_KEPT: usize = 512;
