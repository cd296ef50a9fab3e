//! What a registry has already: mounted instead of sent.

use bytes::Bytes;
use reqwest::{Method, StatusCode};

use super::upload::{Opened, Upload};
use crate::content::MountOutcome;
use crate::error::{Error, Result};
use crate::oci::Repository;
use crate::registry::client::upload_rules::MountFrom;
use crate::registry::http::call::{Access, Call, CallTarget, Payload};
use crate::registry::http::retry::AttemptError;

/// The answer to a mount.
enum Mount {
    /// The registry says that the blob is there.
    Done,
    /// It opened a session instead.
    Opened(Opened),
    /// It does not mount this.
    Refused,
    /// It failed.
    Broken,
    /// It mounted something else.
    Wrong(Error),
}

impl Upload {
    /// Asks for a mount from another repository of the registry.
    pub(crate) async fn mount(&self, from: &Repository) -> Result<MountOutcome> {
        let access = Access::Mount { to: self.repository.clone(), from: from.clone() };
        let host = self.endpoint.host();
        let what = format!("mount blob {} from {host}/{from} in {host}/{}", self.digest, self.repository);
        let call = Call::new(Method::POST, self.mount_target(from), access, what);
        match self.ask_to_mount(call, MountFrom::Another).await? {
            Mount::Done => Ok(MountOutcome::Done),
            Mount::Opened(session) => {
                // Not used here.
                self.cancel(session.id, &session.url).await;
                Ok(MountOutcome::Refused)
            }
            Mount::Wrong(error) => Err(error),
            // A mount saves time only: whoever will not do it gets the bytes, and says then what is wrong.
            Mount::Refused | Mount::Broken => Ok(MountOutcome::Refused),
        }
    }

    /// Whether the repository has the blob: asked by a mount from itself, which opens the session for sending it if not.
    /// One request does what a question and the opening do in two. Whoever does not understand it is sent the blob.
    pub(crate) async fn is_there(&mut self) -> Result<bool> {
        let call = self.call(Method::POST, self.mount_target(&self.repository));
        match self.ask_to_mount(call, MountFrom::Itself).await? {
            Mount::Done => return Ok(true),
            Mount::Opened(session) => self.waiting = Some(session),
            Mount::Wrong(error) => return Err(error),
            Mount::Refused | Mount::Broken => {}
        }
        Ok(false)
    }

    /// Asks for a mount; again if the registry is busy (408, 429, 503) or the connection fails. After any other 5xx this run
    /// mounts nothing more at this registry: a mount is optional.
    async fn ask_to_mount(&self, call: Call, from: MountFrom) -> Result<Mount> {
        let rules = self.endpoint.uploads();
        let mut budget = self.endpoint.budget();
        while rules.mounts(from) {
            let (upload, call) = (self.detached(), call.clone());
            let failure = match self.sessions.to_the_end(async move { upload.ask_once(&call).await }).await {
                Ok(Mount::Broken) => break,
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            // The upload of the blob would get the same response.
            let wants_less =
                matches!(failure.status(), Some(StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT));
            if !failure.is_temporary() && !wants_less {
                // Perhaps no token is to be had for both repositories.
                return Ok(Mount::Refused);
            }
            match budget.spend(failure).await {
                Err(error) if wants_less => return Err(error),
                Err(_) => break,
                Ok(()) => {}
            }
        }
        rules.stop_mounts(from);
        Ok(Mount::Refused)
    }

    async fn ask_once(&self, call: &Call) -> Result<Mount, AttemptError> {
        let response = self.endpoint.send(call, Payload::Bytes(Bytes::new())).await?;
        match response.status() {
            StatusCode::CREATED => Ok(self.check_said(&response).map_or_else(Mount::Wrong, |()| Mount::Done)),
            StatusCode::ACCEPTED => Ok(self.opened(&response).map_or(Mount::Refused, Mount::Opened)),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::SERVICE_UNAVAILABLE => {
                Err(response.refusal().await)
            }
            status if status.is_server_error() => Ok(Mount::Broken),
            _ => Ok(Mount::Refused),
        }
    }

    fn mount_target(&self, from: &Repository) -> CallTarget {
        CallTarget::Path(format!("{}/blobs/uploads/?mount={}&from={from}", self.repository, self.digest))
    }
}
