//! SIGINT and SIGTERM. The first one stops the job between two chunks; the second one ends the process at once.
//!
//! They are awaited on a thread of its own: a medium that does not answer may hold the thread that runs the job, which
//! opens files and removes them.

use std::io;
use std::time::Duration;

use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::exit_code;
use super::stderr::note;
use crate::error::{Error, Result, exit};

/// What a job still does after a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TidyUp {
    /// It removes files. Where that does not end at once the medium does not answer.
    Medium,
    /// It also cancels open uploads, for up to 5 s, or sends the last answers of `serve`, for up to 10 s.
    Network,
}

impl TidyUp {
    /// The time that it may take.
    fn grace(self) -> Duration {
        match self {
            // With what else ends, the process ends within 2 s.
            TidyUp::Medium => Duration::from_millis(1500),
            TidyUp::Network => Duration::from_secs(12),
        }
    }
}

/// Cancels `job` on the first SIGINT or SIGTERM. Ends the process on the second one, and where the job has not ended
/// some time after the first one (see [`TidyUp`]): every command resumes after a kill.
///
/// # Errors
/// `Io` if the process cannot handle signals or start a thread.
pub(super) fn cancel_on_signal(job: CancellationToken, tidy_up: TidyUp) -> Result<()> {
    let failed = |e: io::Error| Error::io("cannot handle signals", e);
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let signals = {
        let _entered = runtime.enter();
        signal(SignalKind::interrupt()).and_then(|int| Ok(Signals { int, term: signal(SignalKind::terminate())? }))
    };
    let signals = signals.map_err(failed)?;
    let watch = move || runtime.block_on(signals.watch(job, tidy_up.grace()));
    std::thread::Builder::new().name("signals".into()).spawn(watch).map(drop).map_err(failed)
}

struct Signals {
    int: Signal,
    term: Signal,
}

impl Signals {
    async fn watch(mut self, job: CancellationToken, grace: Duration) {
        let code = self.next().await;
        let _ = exit_code::RECEIVED.set(code);
        job.cancel();
        note("stopping; press Ctrl-C again to stop at once");
        match tokio::time::timeout(grace, self.next()).await {
            Ok(code) => std::process::exit(i32::from(code)),
            Err(_) => {
                note("the medium or the server does not answer; the same command continues later");
                std::process::exit(i32::from(code));
            }
        }
    }

    /// Returns the exit code for the next signal.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.int.recv() => exit::INTERRUPTED,
            _ = self.term.recv() => exit::TERMINATED,
        }
    }
}
