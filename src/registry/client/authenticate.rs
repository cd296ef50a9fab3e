//! How a request gets in: with what the registry wants to see, and once more if that has expired meanwhile.
//!
//! Nothing secret leaves for any place but the registry's own scheme, host and port.

use reqwest::header::WWW_AUTHENTICATE;
use reqwest::{Method, StatusCode};
use url::Url;

use super::Client;
use super::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::oci::{Host, Repository};
use crate::registry::auth::{AuthOutcome, Authorization, Challenge, parse_challenges};
use crate::registry::http::call::{Access, Call, CallTarget, Payload};
use crate::registry::http::error;
use crate::registry::http::redirect;
use crate::registry::http::response::Response;
use crate::registry::http::retry::AttemptError;

impl Endpoint {
    /// One request to `url`, admitted if that is the registry itself. A token that it no longer takes is renewed and the
    /// request sent again, once; a body that cannot be sent again fails in passing, with the new token ready.
    pub(crate) async fn admitted(&self, call: &Call, url: Url, payload: Payload) -> Result<Response, AttemptError> {
        let base = self.base().await?;
        if url.origin() != base.origin() {
            return self.exchange(call, url, payload).await;
        }
        if let Some(repository) = call.upload_to().filter(|repository| !redirect::is_upload_path(repository, &url)) {
            let response = self.exchange(call, url.clone(), payload).await?;
            return Ok(match response.status() {
                StatusCode::UNAUTHORIZED => response.refused(self.no_login_there(repository, &url)),
                _ => response,
            });
        }
        let failed = |failure: AttemptError| failure.context(format!("cannot {}", call.what));
        // Before any body is sent: a 401 must not cost a layer.
        if !self.auth().is_informed() {
            self.greet().await?;
        }
        let mut pass = self.auth().pass(&call.access).await.map_err(failed)?;
        if self.auth().is_to_be_checked(&pass) && url.path() != ROOT {
            let root = base.join(ROOT).expect("a constant path");
            let check = Call::new(Method::GET, CallTarget::Url(root.clone()), Access::None, &call.what);
            let response = self.exchange(&pass.shown_by(&check), root, Payload::Nothing).await?;
            match response.status() {
                StatusCode::UNAUTHORIZED => return Ok(self.refused(response, pass).await),
                status if status.is_success() => {
                    pass.answered(status);
                    response.nothing().await?;
                }
                // It decides nothing.
                _ => {}
            }
        }
        let (again, size) = (payload.copy(), payload.size());
        let response = self.exchange(&pass.shown_by(call), url.clone(), payload).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            pass.answered(response.status());
            return Ok(response);
        }
        match self.auth().handle_unauthorized(&call.access, pass, &challenges(&response)).await.map_err(failed)? {
            AuthOutcome::Refused(pass) => Ok(self.refused(response, pass).await),
            AuthOutcome::Again(mut fresh) => {
                let Some(payload) = again else {
                    let host = self.host();
                    let sent = format!("{host} {NEW_TOKEN}: the token expired while {} were sent", size_in_words(size));
                    return Err(failed(
                        AttemptError::temporary(Error::registry(sent)).with_status(StatusCode::UNAUTHORIZED),
                    ));
                };
                let response = self.exchange(&fresh.shown_by(call), url, payload).await?;
                if response.status() != StatusCode::UNAUTHORIZED {
                    fresh.answered(response.status());
                    return Ok(response);
                }
                Ok(self.refused(response, fresh).await)
            }
        }
    }

    /// A registry that sends an upload to a part of itself that has nothing to do with it.
    fn no_login_there(&self, repository: &Repository, url: &Url) -> Error {
        let path = error::clip(url.path());
        let host = self.host();
        error::protocol(host, format!("it sends an upload to {path}, where no login is shown"))
            .hint(format!("a login is shown below /v2/{repository}/blobs/uploads/, and outside /v2/"))
    }

    /// A final 401, with what it means.
    async fn refused(&self, mut response: Response, shown: Authorization) -> Response {
        let words = response.message().await;
        let why = self.auth().refusal(shown, &challenges(&response), &words);
        response.refused(why)
    }

    /// Checks that a registry answers. One that wants a login is one: logins are those of the repositories, and the first
    /// request in each of them shows whether they are right. `access` is used where no answer comes without a login.
    pub(crate) async fn check_registry(&self, access: Access) -> Result<()> {
        let host = self.host();
        let call = Call::get(String::new(), access, format!("use {host} as a registry"));
        let attempt = async || {
            let greeting = self.greet().await?;
            match greeting.status() {
                StatusCode::OK => return greeting.nothing().await,
                StatusCode::UNAUTHORIZED => return Ok(()),
                _ => {}
            }
            let response = self.send(&call, Payload::Nothing).await?;
            match response.status() {
                StatusCode::OK => response.nothing().await,
                StatusCode::UNAUTHORIZED => Ok(()),
                StatusCode::NOT_FOUND => Err(AttemptError::permanent(
                    Error::registry(format!("{host} answers, but not as a registry does: there is no /v2/"))
                        .hint("check host and port"),
                )),
                _ => Err(response.refusal().await),
            }
        };
        self.budget().run(attempt).await
    }

    /// Takes in what a first answer to `GET /v2/` says about logging in.
    pub(crate) fn inform(&self, response: &Response) -> Result<(), AttemptError> {
        let asks = response.status() == StatusCode::UNAUTHORIZED;
        let challenges = challenges(response);
        self.auth().note_root(asks);
        self.auth().learn(asks.then_some(&challenges))
    }

    /// The answer to `GET /v2/` without a login. It says how the registry wants to be logged in to.
    pub(crate) async fn greet(&self) -> Result<Response, AttemptError> {
        let url = self.base().await?.join(ROOT).expect("a constant path");
        let what = format!("reach {}", self.host());
        let call = Call::new(Method::GET, CallTarget::Url(url.clone()), Access::None, what);
        let response = self.exchange(&call, url, Payload::Nothing).await?;
        let busy = response.status() == StatusCode::TOO_MANY_REQUESTS || response.status().is_server_error();
        if busy {
            return Err(response.refusal().await);
        }
        self.inform(&response)?;
        Ok(response)
    }
}

impl Client {
    /// Tries the login for `host`. Says whether the registry asked for one at all: if it does not, nothing was tried.
    ///
    /// # Errors
    /// `Registry` when the login is refused, or when there is no registry at `host`.
    pub async fn check_login(&self, host: &Host) -> Result<bool> {
        let endpoint = self.endpoint(host);
        let call = Call::get(String::new(), Access::None, format!("log in to {host}"));
        // A portal's page says nothing about the login.
        let attempt =
            async || endpoint.send(&call, Payload::Nothing).await?.expect(&[StatusCode::OK]).await?.nothing().await;
        endpoint.budget().run(attempt).await?;
        Ok(endpoint.auth().asks())
    }
}

fn challenges(response: &Response) -> Vec<Challenge> {
    response.headers(WWW_AUTHENTICATE).take(MAX_HEADERS).flat_map(parse_challenges).collect()
}

/// `3 MiB`, or bytes below 1 MiB.
fn size_in_words(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{bytes} bytes"),
        mebibytes => format!("{mebibytes} MiB"),
    }
}

/// What is said of a registry that refused a body for its token.
pub(crate) const NEW_TOKEN: &str = "wants a new token";
const MAX_HEADERS: usize = 16;
/// What says how to log in (distribution-spec, "Determining Support").
const ROOT: &str = "/v2/";
