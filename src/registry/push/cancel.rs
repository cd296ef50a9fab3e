//! Cancels upload sessions, so that the registry deletes what it has of them.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use reqwest::{Method, StatusCode};

use super::upload_sessions::UploadSessions;
use crate::registry::client::endpoint::Endpoint;
use crate::registry::http::call::{Call, Payload};

impl Endpoint {
    /// Cancels a session; `cancel` is the DELETE at the last `Location` of the session. If that fails, the registry deletes
    /// the session later by itself.
    ///
    /// distribution returns 404 (2.8) or 416 (3.0) if it has received bytes since that `Location`. From 3.0 on GET returns the
    /// current one (distribution/distribution#3755). 2.8 refuses GET as well, so it keeps what it received of a request that
    /// was cut.
    pub(crate) async fn cancel_session(&self, cancel: &Call) {
        let cancelling = async {
            let mut cancel = cancel.clone();
            for _ in 0..TRIES {
                match self.send(&cancel, Payload::Nothing).await {
                    Ok(response) if is_out_of_date(response.status()) => {}
                    _ => return,
                }
                let ask = Call { method: Method::GET, ..cancel.clone() };
                let Ok(response) = self.send(&ask, Payload::Nothing).await else { return };
                match response.location() {
                    Ok(url) if response.status().is_success() => cancel = cancel.redirected(url),
                    _ => return,
                }
            }
        };
        let _ = tokio::time::timeout(ONE, cancelling).await;
    }

    /// Cancels every open session, within a few seconds.
    pub(crate) async fn cancel_all(&self, sessions: &UploadSessions) {
        let cancelling = async {
            let _ = tokio::time::timeout(UNDER_WAY, sessions.idle()).await;
            let jobs = self.settings().jobs.max(1);
            let calls = stream::iter(sessions.take());
            calls.for_each_concurrent(jobs, async |call| self.cancel_session(&call).await).await;
        };
        let _ = tokio::time::timeout(ALL, cancelling).await;
    }
}

/// Whether a DELETE was refused in a way that may be about where the session stands.
fn is_out_of_date(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 404 | 409 | 416)
}

/// More bytes may come in between the answer to GET and the DELETE.
const TRIES: usize = 3;
/// For one session.
const ONE: Duration = Duration::from_secs(5);
/// For all of them: someone waits for the prompt.
const ALL: Duration = Duration::from_secs(3);
/// For requests that move a session.
const UNDER_WAY: Duration = Duration::from_secs(2);
