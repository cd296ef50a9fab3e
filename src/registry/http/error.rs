//! Failures as a person reads them: what, where, what to do next. Everything that a server said is bounded and
//! escaped; URLs lose their query, which may hold a signature or a token.

mod certificate;
mod known;
pub(crate) mod messages;
mod transport;
mod unreadable;

use std::time::Duration;

use reqwest::StatusCode;

use messages::said;
pub(crate) use messages::{clip, quoted};
pub(crate) use transport::{FirstContact, NOT_TLS, RequestRoute, Tunnel, cause, is_refused_tunnel, transport};
pub(crate) use unreadable::{Unreadable, web_page};

use super::retry::{self, AttemptError, Known};
use super::server::{RemoteServer, ServerRole};
use crate::error::{Error, Kind};

/// An answer that says no.
pub(crate) struct RefusedRequest<'a> {
    /// What was asked, to stand after `cannot `: `read the tags of h.io/app`.
    pub(crate) what: &'a str,
    /// Whether something was to be written.
    pub(crate) writes: bool,
    /// Who says it.
    pub(crate) peer: &'a RemoteServer,
    /// How.
    pub(crate) status: StatusCode,
    /// In which words.
    pub(crate) body: &'a [u8],
    /// The pause that it asks for.
    pub(crate) pause: Option<Duration>,
}

/// A server that is silent for too long.
pub(crate) fn timeout(peer: &RemoteServer, seconds: u64) -> AttemptError {
    AttemptError::temporary(Error::registry(format!("{peer} did not answer or take anything for {seconds} s")))
}

/// An answer that should be short and is not whole after `limit`.
pub(crate) fn too_slow(peer: &RemoteServer, limit: Duration) -> AttemptError {
    let error = Error::registry(format!("{peer} sent an answer that was not whole after {} s", limit.as_secs_f64()));
    AttemptError::permanent(error.hint("on a line that is so slow, allow more time: --stall-timeout 1h"))
}

/// A server that does not keep to the specification, or to its own word.
pub(crate) fn protocol(peer: impl std::fmt::Display, what: impl std::fmt::Display) -> Error {
    Error::registry(format!("{peer} does not keep to the registry protocol: {what}"))
        .hint("a proxy in between may alter answers; the registry's log may say more")
}

impl RefusedRequest<'_> {
    /// What it means, and whether it may pass.
    pub(crate) fn failure(&self) -> AttemptError {
        let RefusedRequest { what, peer, status, .. } = self;
        let said = said(self.body);
        let words = if said.is_empty() { String::new() } else { format!(": {}", quoted(self.body)) };
        let kind = if *status == StatusCode::NOT_FOUND { Kind::NotFound } else { Kind::Registry };
        let error = Error::new(kind, format!("cannot {what}: {peer} answered {status}{words}"));
        let known = known::known(*status, &without_names(&messages::message(self.body), what)).filter(|_| self.writes);
        let advice = match known {
            Some(known) => Some(self.advice_on(known)),
            None => self.advice(&said),
        };
        let error = match advice {
            Some(advice) => error.hint(advice),
            None => error,
        };
        let error = match self.pause.filter(|pause| *pause > retry::MAX_ASKED) {
            Some(pause) => error.hint(format!(
                "it wants a pause of {}: run the same command again then, what is done is not done again",
                in_words(pause)
            )),
            None => error,
        };
        let failure = AttemptError::new(error, retry::after_status(*status, self.pause)).with_status(*status);
        match known {
            Some(known) => failure.recognised(known),
            None => failure,
        }
    }

    fn advice_on(&self, known: Known) -> String {
        let authority = self.peer.authority();
        match known {
            Known::Quota => format!(
                "the quota of the project or account at {authority} is used up: raise it or delete images there, then run \
                 the same command again"
            ),
            Known::Full => format!(
                "the storage of {authority} is full: free some space there (delete images, then run its garbage \
                 collection), then run the same command again"
            ),
            Known::Immutable => format!(
                "{authority} does not let anything there be replaced: delete it there, or import below another prefix"
            ),
        }
    }

    fn advice(&self, said: &str) -> Option<String> {
        let says = |parts: &[&str]| parts.iter().any(|part| said.contains(part));
        let authority = self.peer.authority();
        Some(match (self.status, self.peer.role()) {
            (StatusCode::PROXY_AUTHENTICATION_REQUIRED, _) => {
                "give the proxy's login in its URL (HTTPS_PROXY, HTTP_PROXY): http://USER:PASSWORD@PROXY:PORT".into()
            }
            // Go's servers and nginx say it in these words.
            (StatusCode::BAD_REQUEST, _) if says(&["to an HTTPS server", "to HTTPS port"]) => {
                format!("{authority} speaks HTTPS: a redirect or a Location that leads there says http")
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, ServerRole::SentBy(registry)) => format!(
                "the link that {registry} gives does not let us in there: it may expire too soon, or the clocks of the \
                 two differ; whoever runs {registry} has to look at its storage"
            ),
            (StatusCode::NOT_FOUND, ServerRole::SentBy(registry)) => {
                format!(
                    "{registry} has lost this content: push the image there again, or take it from another registry"
                )
            }
            (StatusCode::NOT_FOUND, ServerRole::TokensFor(registry)) => {
                format!("the token service that {registry} names in its challenge (its realm) is not there")
            }
            // ECR answers 403 and 400 once its tokens, which are passwords here, are older than twelve hours.
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST, _)
                if says(&["has expired", "eauthenticate", "token is expired"]) =>
            {
                format!("the login has expired: log in again: sealift login {authority}")
            }
            (StatusCode::UNAUTHORIZED, _) => format!("{authority} wants a login, or the one given is not valid there"),
            (StatusCode::FORBIDDEN, _) if self.writes => {
                "the login has no right to write there, or the project has to be made first".into()
            }
            (StatusCode::FORBIDDEN, _) => "the login has no right to this repository".into(),
            (StatusCode::NOT_FOUND, _) if self.writes => {
                "some registries want the repository or project to be made before anything is pushed there (ECR, \
                 Harbor, GitLab): make it, or import below another prefix"
                    .into()
            }
            (StatusCode::NOT_FOUND, _) => {
                "check the spelling; some registries also answer this without a login that may see it".into()
            }
            (StatusCode::METHOD_NOT_ALLOWED, _) => "the registry is read-only, or does not offer this".into(),
            (StatusCode::PAYLOAD_TOO_LARGE, _) => {
                "raise the limit for request bodies at the registry or at the proxy in front of it".into()
            }
            (StatusCode::TOO_MANY_REQUESTS, _) => "the registry limits requests: log in, or lower --jobs".into(),
            (status, _) if status.is_server_error() => format!("look into the log of {authority}"),
            _ => return None,
        })
    }
}

/// What a server said, without the host, repository and tag that `what` names: they may be called `quota-exporter`.
fn without_names(said: &str, what: &str) -> String {
    let mut said = said.to_owned();
    for path in what.split_whitespace().filter(|word| word.contains('/')) {
        for name in path.split(['/', ':', '@']).filter(|name| name.len() >= SHORTEST_NAME) {
            said = said.replace(name, "");
        }
    }
    said
}

/// Shorter names do not hold one of the words that are looked for.
const SHORTEST_NAME: usize = 4;

/// `2 h 05 min`
fn in_words(pause: Duration) -> String {
    match pause.as_secs().div_ceil(60) {
        minutes @ ..60 => format!("{minutes} min"),
        minutes => format!("{} h {:02} min", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_repository_is_no_reason() {
        let what = "push 127.0.0.1:5000/platform/quota-exporter:1.4";
        let said = "repository with name 'platform/quota-exporter' does not exist";
        assert_eq!(known::known(StatusCode::NOT_FOUND, &without_names(said, what)), None);
        let full = "quota-exporter: quota exceeded";
        assert_eq!(known::known(StatusCode::FORBIDDEN, &without_names(full, what)), Some(Known::Quota));
    }
}
