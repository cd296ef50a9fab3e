//! The upload sessions that are open. A run that ends before its time takes them back, for until a registry clears them
//! away by itself they hold the bytes that were sent. Not every registry can: distribution 2 finds that a session which
//! was cut in the middle of a request is not where it left it, and refuses.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::call::Call;

/// One destination's open sessions, each as the request that takes it back.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    calls: BTreeMap<u64, Call>,
}

impl Sessions {
    /// Notes a session; what is returned stands for it.
    pub(super) fn opened(&self, take_back: Call) -> u64 {
        let mut open = self.open();
        open.next += 1;
        let id = open.next;
        open.calls.insert(id, take_back);
        id
    }

    /// It goes on at another place.
    pub(super) fn moved(&self, id: u64, take_back: Call) {
        if let Some(call) = self.open().calls.get_mut(&id) {
            *call = take_back;
        }
    }

    /// It is at its end.
    pub(super) fn ended(&self, id: u64) {
        self.open().calls.remove(&id);
    }

    /// All that are open, which are forgotten.
    pub(super) fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.open().calls).into_values().collect()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
