//! Which failures may pass, and how long to wait before the next try: one budget for requests and for streams.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use reqwest::StatusCode;
use tokio::time::Instant;

use super::settings::Settings;
use crate::error::{Error, Kind, Result};
use crate::progress::{Event, Progress};

/// Why one try failed, and whether another can help.
#[derive(Debug)]
pub(crate) struct AttemptError {
    error: Error,
    again: Again,
    /// The status of the answer, if there was one.
    status: Option<StatusCode>,
    known: Option<Known>,
}

/// A refusal for which registries have no common status or code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// The project or account may not store more.
    Quota,
    /// The disk of the registry is full.
    Full,
    /// What is there must not be replaced.
    Immutable,
}

/// Whether another try can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// It would fail in the same way.
    Never,
    /// After a pause, perhaps of the length that the server asked for.
    After(Option<Duration>),
}

impl AttemptError {
    /// One that will not pass.
    pub(crate) fn permanent(error: Error) -> Self {
        AttemptError::new(error, Again::Never)
    }

    /// One that may pass.
    pub(crate) fn temporary(error: Error) -> Self {
        AttemptError::new(error, Again::After(None))
    }

    /// One that may pass, or not.
    pub(crate) fn new(error: Error, again: Again) -> Self {
        AttemptError { error, again, status: None, known: None }
    }

    /// The same, with the status that the server returned.
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        AttemptError { status: Some(status), ..self }
    }

    /// The same, recognised by its words; another try does not help.
    pub(crate) fn recognised(self, known: Known) -> Self {
        AttemptError { known: Some(known), again: Again::Never, ..self }
    }

    /// The same, but it may pass.
    pub(crate) fn into_temporary(self) -> Self {
        AttemptError { again: Again::After(None), ..self }
    }

    /// The status that the server returned, if it returned one.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        self.status
    }

    /// Whether the answer was 401 or 403. Some registries answer so for what is not there.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self.status, Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN))
    }

    /// What was recognised by its words.
    pub(crate) fn known(&self) -> Option<Known> {
        self.known
    }

    /// Whether another try can help.
    pub(crate) fn is_temporary(&self) -> bool {
        self.again != Again::Never
    }

    /// What went wrong.
    pub(crate) fn error(&self) -> &Error {
        &self.error
    }

    /// Whether what was asked for does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        self.error.kind() == Kind::NotFound
    }

    /// Whether this word is in what it says.
    pub(crate) fn says(&self, word: &str) -> bool {
        self.error.chain().contains(word)
    }

    /// What to show when there is no other try.
    pub(crate) fn into_error(self) -> Error {
        self.error
    }

    /// Adds what can be done.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        AttemptError { error: self.error.hint(hint), ..self }
    }

    /// Puts `context` in front of the error.
    pub(crate) fn context(self, context: impl Into<String>) -> Self {
        AttemptError { error: self.error.context(context), ..self }
    }
}

/// What a status says about another try; `pause` is what its `Retry-After` asks for. Nobody waits for hours before a
/// terminal: a longer pause than [`MAX_ASKED`] is for the person to make.
pub(crate) fn after_status(status: StatusCode, pause: Option<Duration>) -> Again {
    match status {
        _ if pause.is_some_and(|pause| pause > MAX_ASKED) => Again::Never,
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::INTERNAL_SERVER_ERROR
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Again::After(pause),
        // What Cloudflare answers, behind which registries stand, when it cannot reach them.
        status if (520..=524).contains(&status.as_u16()) => Again::After(pause),
        _ => Again::Never,
    }
}

/// The tries that are left for one piece of work.
pub(crate) struct Budget {
    builder: ExponentialBuilder,
    pauses: ExponentialBackoff,
    tries: u32,
    /// Bytes moved since the budget was last full.
    gained: u64,
    /// When the first failure since the last new byte was.
    stalled_since: Option<Instant>,
    stall_timeout: Duration,
    progress: Arc<dyn Progress>,
}

impl Budget {
    /// A full one.
    pub(crate) fn new(settings: &Settings) -> Self {
        let builder = ExponentialBuilder::new()
            .with_min_delay(settings.retry.delay)
            .with_max_delay(MAX_PAUSE.max(settings.retry.delay))
            .with_max_times(settings.retry.times as usize)
            .with_jitter();
        Budget {
            builder,
            pauses: builder.build(),
            tries: 1,
            gained: 0,
            stalled_since: None,
            stall_timeout: settings.stall_timeout,
            progress: settings.progress.clone(),
        }
    }

    /// Waits for the next try, or gives up with the error.
    pub(crate) async fn spend(&mut self, failure: AttemptError) -> Result<()> {
        let Again::After(asked) = failure.again else { return Err(failure.error) };
        let Some(pause) = self.pauses.next() else {
            return Err(match self.tries {
                1 => failure.error,
                tries => failure.error.hint(format!(
                    "it was tried {tries} times: run the same command again later, what is done is not done again"
                )),
            });
        };
        let pause = asked.map_or(pause, |asked| asked.max(pause.min(MIN_PAUSE)));
        let stalled = self.stalled_since.get_or_insert_with(Instant::now).elapsed();
        if stalled.saturating_add(pause) > self.stall_timeout {
            let limit = self.stall_timeout.as_secs_f64();
            return Err(failure.error.hint(format!(
                "no new byte would come for {limit} s (--stall-timeout): run the same command again later, what is done \
                 is not done again"
            )));
        }
        self.tries += 1;
        self.progress.event(Event::Retrying { what: &failure.error.chain(), after: pause });
        tracing::debug!(error = failure.error.chain(), ?pause, "retrying");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Tells of a failure after which the work goes on at once in another way.
    pub(crate) fn tell(&self, failure: &AttemptError) {
        self.progress.event(Event::Retrying { what: &failure.error.chain(), after: Duration::ZERO });
    }

    /// Bytes got through since the last failure.
    pub(crate) fn moved(&mut self) {
        self.stalled_since = None;
    }

    /// So many bytes got through. Enough of them fill the budget again: a large blob over a bad line may be cut any
    /// number of times, and a server that gives a little each time still cannot hold the run for ever.
    pub(crate) fn gain(&mut self, bytes: u64) {
        self.gained += bytes;
        if bytes > 0 {
            self.moved();
        }
        if self.gained >= ENOUGH {
            self.gained = 0;
            self.pauses = self.builder.build();
        }
    }

    /// Tries until it works or the budget is spent.
    pub(crate) async fn run<T, F>(&mut self, mut attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, AttemptError>>,
    {
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(failure) => self.spend(failure).await?,
            }
        }
    }
}

/// The longest pause that is made because a server asks for it, 5 minutes.
pub(crate) const MAX_ASKED: Duration = Duration::from_secs(300);
/// Pauses of our own end their growth here.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// `Retry-After: 0` is not an invitation to hammer.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// Progress that fills the budget again, 1 MiB.
const ENOUGH: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::http::settings::Retry;

    fn budget(times: u32) -> Budget {
        Budget::new(&Settings { retry: Retry { times, delay: Duration::from_millis(1) }, ..Settings::default() })
    }

    fn passing() -> AttemptError {
        AttemptError::temporary(Error::registry("x"))
    }

    #[tokio::test]
    async fn a_budget_ends_and_says_how_often_it_was_tried() {
        let mut budget = budget(2);
        assert!(budget.spend(passing()).await.is_ok());
        assert!(budget.spend(passing()).await.is_ok());
        let error = budget.spend(passing()).await.expect_err("it is spent");
        assert!(error.hints()[0].contains("3 times"), "{error:?}");
    }

    #[tokio::test]
    async fn what_cannot_pass_is_not_tried_again() {
        assert!(budget(9).spend(AttemptError::permanent(Error::registry("x"))).await.is_err());
    }

    #[tokio::test]
    async fn only_enough_progress_fills_the_budget_again() {
        let mut budget = budget(2);
        for _ in 0..20 {
            assert!(budget.spend(passing()).await.is_ok());
            budget.gain(ENOUGH / 2);
        }
        budget.gain(ENOUGH / 8);
        assert!(budget.spend(passing()).await.is_ok());
        budget.gain(ENOUGH / 8);
        assert!(budget.spend(passing()).await.is_ok());
        budget.gain(ENOUGH / 8);
        assert!(budget.spend(passing()).await.is_err());
    }

    #[test]
    fn only_what_a_server_may_get_over_is_tried_again() {
        for (status, again) in
            [(408, true), (429, true), (500, true), (501, false), (503, true), (522, true), (404, false)]
        {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(after_status(status, None) != Again::Never, again, "{status}");
        }
        let asked = |pause| after_status(StatusCode::TOO_MANY_REQUESTS, Some(pause));
        assert_eq!(asked(MAX_ASKED), Again::After(Some(MAX_ASKED)));
        assert_eq!(asked(MAX_ASKED + Duration::from_secs(1)), Again::Never);
    }
}
