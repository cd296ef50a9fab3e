//! What the clients of one run share: which logins a registry refused, which warnings were given, and the room for the
//! pieces of uploads.
//!
//! Registries lock accounts after a few wrong passwords. A login that a registry refuses is therefore sent once in a
//! run, and concurrent first uses of a login wait for the answer to one of them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use super::buffers::Buffers;
use crate::credentials::Credential;
use crate::error::Error;
use crate::oci::Host;
use crate::progress::{Event, Progress};

/// Shared by all clients of one run.
#[derive(Debug, Default)]
pub struct RunState {
    logins: Mutex<HashMap<(Host, Credential), Login>>,
    warnings: Mutex<HashSet<String>>,
    buffers: Arc<Buffers>,
}

/// Whoever tries the login holds the lock.
type Login = Arc<tokio::sync::Mutex<Standing>>;

/// What a registry, or its token service, said of a login.
#[derive(Debug, Default)]
enum Standing {
    /// No answer yet.
    #[default]
    Untried,
    /// It was accepted once.
    Accepted,
    /// It was refused.
    Refused(Error),
}

/// The permission to send a login. While the login is untried, only one permission exists at a time.
#[derive(Debug)]
pub(crate) struct Trial(Option<OwnedMutexGuard<Standing>>);

impl RunState {
    /// Room for the pieces of uploads.
    pub(crate) fn buffers(&self) -> Arc<Buffers> {
        self.buffers.clone()
    }

    /// Waits until `credential` may be sent to `host`.
    ///
    /// # Errors
    /// The earlier refusal, if `host` refused it in this run.
    pub(crate) async fn trial(&self, host: &Host, credential: &Credential) -> Result<Trial, Error> {
        let standing = {
            let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
            logins.entry((host.clone(), credential.clone())).or_default().clone()
        };
        let standing = standing.lock_owned().await;
        match &*standing {
            Standing::Untried => Ok(Trial(Some(standing))),
            Standing::Accepted => Ok(Trial(None)),
            Standing::Refused(error) => Err(error.flattened()),
        }
    }

    /// Passes a warning on to `progress`, unless this run gave it before.
    pub(crate) fn warn_once(&self, progress: &dyn Progress, warning: &str) {
        let new = self.warnings.lock().unwrap_or_else(PoisonError::into_inner).insert(warning.to_owned());
        if new {
            progress.event(Event::Warning(warning));
        }
    }
}

impl Trial {
    /// Whether no registry has accepted the login so far.
    pub(crate) fn is_first(&self) -> bool {
        self.0.is_some()
    }

    /// Records that the login was accepted; others need not wait any longer.
    pub(crate) fn accepted(&mut self) {
        if let Some(mut standing) = self.0.take() {
            *standing = Standing::Accepted;
        }
    }

    /// Records that the login was refused. A login that was accepted before keeps its standing: the refusal is then
    /// about one repository.
    pub(crate) fn refused(&mut self, error: &Error) {
        if let Some(mut standing) = self.0.take() {
            *standing = Standing::Refused(error.flattened());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Secret;

    fn login(password: &str) -> Credential {
        Credential::login("alice", Secret::new(password)).expect("a login")
    }

    #[tokio::test]
    async fn a_refused_login_is_not_tried_again_at_that_host() {
        let (run, host) = (RunState::default(), "a.io".parse().expect("a host"));
        run.trial(&host, &login("pa55-wrong")).await.expect("untried").refused(&Error::registry("no"));
        assert_eq!(run.trial(&host, &login("pa55-wrong")).await.expect_err("refused").to_string(), "no");
        assert!(run.trial(&host, &login("pa55-other")).await.is_ok());
        assert!(run.trial(&"b.io".parse().expect("a host"), &login("pa55-wrong")).await.is_ok());
    }

    #[tokio::test]
    async fn uses_of_an_untried_login_wait_for_the_one_that_tries_it() {
        let (run, host) = (RunState::default(), "a.io".parse().expect("a host"));
        let first = run.trial(&host, &login("pa55-x")).await.expect("untried");
        let login = login("pa55-x");
        let second = run.trial(&host, &login);
        tokio::pin!(second);
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        // The first try came to no answer.
        drop(first);
        second.await.expect("still untried").accepted();
        let (third, fourth) = (run.trial(&host, &login).await, run.trial(&host, &login).await);
        third.expect("accepted").refused(&Error::registry("no right to one repository"));
        assert!(fourth.is_ok() && run.trial(&host, &login).await.is_ok());
    }
}
