//! What a registry has already: mounted instead of sent.

use bytes::Bytes;
use reqwest::{Method, StatusCode};

use super::call::{Access, Call, Payload, Target};
use super::response::Response;
use super::upload::Upload;
use crate::error::Result;
use crate::oci::Repository;
use crate::place::Linked;

impl Upload {
    /// Asks for a mount from another repository of the registry.
    pub(super) async fn mount(&self, from: &Repository) -> Result<Linked> {
        let access = Access::Mount { to: self.repository.clone(), from: from.clone() };
        let host = self.endpoint.host();
        let what = format!("mount blob {} from {host}/{from} in {host}/{}", self.digest, self.repository);
        let call = Call::new(Method::POST, self.mount_target(from), access, what);
        let Some(response) = self.asked(&call, |status| status.is_server_error()).await? else {
            return Ok(Linked::Refused);
        };
        match response.status() {
            StatusCode::CREATED => {
                self.check_said(&response)?;
                Ok(Linked::Done)
            }
            StatusCode::ACCEPTED => {
                // It opened a session instead, which is not used here.
                if let Ok(session) = self.opened(&response) {
                    self.cancel(session.id, &session.url).await;
                }
                Ok(Linked::Refused)
            }
            // A mount saves time only: whoever will not do it gets the bytes, and says then what is wrong.
            _ => Ok(Linked::Refused),
        }
    }

    /// Whether the repository has the blob: asked by a mount from itself, which opens the session for sending it if not.
    /// One request does what a question and the opening do in two. Whoever does not understand it is sent the blob.
    pub(super) async fn is_there(&mut self) -> Result<bool> {
        let call = self.call(Method::POST, self.mount_target(&self.repository));
        // Some answer 500 to what they do not expect; that ends nothing here.
        let Some(response) = self.asked(&call, |status| status == StatusCode::SERVICE_UNAVAILABLE).await? else {
            return Ok(false);
        };
        match response.status() {
            StatusCode::CREATED => {
                self.check_said(&response)?;
                return Ok(true);
            }
            StatusCode::ACCEPTED => self.waiting = self.opened(&response).ok(),
            _ => {}
        }
        Ok(false)
    }

    /// The answer to a mount, asked again while it may pass; `passes` tells of which statuses that is to be hoped, besides
    /// those that say so. Nothing where the request cannot be made, or fails in such a way each time.
    async fn asked(&self, call: &Call, passes: impl Fn(StatusCode) -> bool) -> Result<Option<Response>> {
        let mut budget = self.endpoint.budget();
        loop {
            let response = match self.endpoint.send(call, Payload::Bytes(Bytes::new())).await {
                Ok(response) => response,
                // Perhaps no token is to be had for both repositories.
                Err(failure) if !failure.may_pass() => return Ok(None),
                Err(failure) => {
                    budget.spend(failure).await?;
                    continue;
                }
            };
            let status = response.status();
            let said_so = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
            if !said_so && !passes(status) {
                return Ok(Some(response));
            }
            match budget.spend(response.refusal().await).await {
                Err(_) if !said_so => return Ok(None),
                spent => spent?,
            }
        }
    }

    fn mount_target(&self, from: &Repository) -> Target {
        Target::Path(format!("{}/blobs/uploads/?mount={}&from={from}", self.repository, self.digest))
    }
}
