//! The open upload sessions. A run cancels them at its end: a registry keeps the bytes of a session for days.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::registry::http::call::Call;

/// One destination's open sessions, each as the DELETE that cancels it.
#[derive(Debug, Default)]
pub(crate) struct UploadSessions {
    open: Mutex<Open>,
    idle: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    calls: BTreeMap<u64, Call>,
    /// Requests under way whose answers say where a session goes on.
    busy: usize,
}

impl UploadSessions {
    /// Notes a session; what is returned stands for it.
    pub(crate) fn opened(&self, cancel: Call) -> u64 {
        let mut open = self.open();
        open.next += 1;
        let id = open.next;
        open.calls.insert(id, cancel);
        id
    }

    /// It goes on at another place.
    pub(crate) fn moved(&self, id: u64, cancel: Call) {
        if let Some(call) = self.open().calls.get_mut(&id) {
            *call = cancel;
        }
    }

    /// It is at its end.
    pub(crate) fn ended(&self, id: u64) {
        self.open().calls.remove(&id);
    }

    /// All that are open, which are forgotten.
    pub(crate) fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.open().calls).into_values().collect()
    }

    /// Runs `work` to its end even if the caller is dropped. After a request that is cut the offset of its session is
    /// unknown, and docker-registry 2.8 cancels a session only at its exact offset.
    pub(crate) async fn to_the_end<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let busy = Busy::new(self.clone());
        let task = tokio::spawn(async move {
            let _busy = busy;
            work.await
        });
        match task.await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends, and this with it.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Returns when no such work is under way.
    pub(crate) async fn idle(&self) {
        loop {
            let changed = self.idle.notified();
            if self.open().busy == 0 {
                return;
            }
            changed.await;
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One piece of work under way.
struct Busy(Arc<UploadSessions>);

impl Busy {
    fn new(sessions: Arc<UploadSessions>) -> Self {
        sessions.open().busy += 1;
        Busy(sessions)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.open().busy -= 1;
        self.0.idle.notify_waiters();
    }
}
