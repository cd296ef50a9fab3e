//! Room for what uploads keep until a registry has accepted it, shared by all uploads of a run.

use std::sync::Arc;
use tokio::sync::Semaphore;

/// Room for pieces, shared by all uploads of a run.
#[derive(Debug)]
pub(crate) struct Buffers {
    pub(crate) memory: Arc<Semaphore>,
    pub(crate) spooled: Arc<Semaphore>,
}

impl Default for Buffers {
    fn default() -> Self {
        Buffers { memory: Arc::new(Semaphore::new(MEMORY / UNIT)), spooled: Arc::new(Semaphore::new(SPOOLED / UNIT)) }
    }
}

/// Bytes of pieces in memory, over all uploads: 24 MiB.
const MEMORY: usize = 24 << 20;
/// Bytes of pieces in temporary files, over all uploads: 128 MiB.
const SPOOLED: usize = 128 << 20;
/// What is counted, 64 KiB.
pub(crate) const UNIT: usize = 64 << 10;
